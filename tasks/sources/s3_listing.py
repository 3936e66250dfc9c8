"""The listing of a bucket: page after page, and folder beside folder where there are many.

One page of 1,000 keys takes a tenth of a second, and each names the next, so a million keys would
take two minutes one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from tasks.records import Listing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Folders that are listed beside one another. Each costs one request more than its keys need, so of
#: a bucket with more of them the keys are listed in one row.
_FOLDERS = 256
#: Levels at which a folder may be the only one.
_LEVELS = 8
#: Requests under way at once.
_AT_ONCE = 16

_Page = tuple[list[Listing], str | None]


def list_objects(
    client: S3Client, bucket: str, prefix: str, workers: int
) -> Iterator[list[Listing]]:
    """All objects below a prefix, a page of at most 1,000 at a time, each key once, in any order.

    Args:
        client: of boto3; its errors are raised as they are.
        bucket: the bucket.
        prefix: the prefix.
        workers: requests that may be under way at once.
    """
    page, token = _fetch(client, bucket, prefix, None)
    folders: list[str] = []
    if token and workers > 1:
        loose, folders = _folders(client, bucket, prefix)
    if not folders:
        yield page
        while token:
            page, token = _fetch(client, bucket, prefix, token)
            yield page
        return
    if loose:
        yield loose
    with ThreadPoolExecutor(min(workers, _AT_ONCE), "list") as pool:

        def ask(folder: str, token: str | None) -> Future[_Page]:
            return pool.submit(_fetch, client, bucket, folder, token)

        waiting = {ask(folder, None): folder for folder in folders}
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    folder = waiting.pop(future)
                    page, token = future.result()
                    if token:  # only now: nobody is ahead of whoever reads by more than a page
                        waiting[ask(folder, token)] = folder
                    yield page
        finally:
            for future in waiting:
                future.cancel()


def _folders(client: S3Client, bucket: str, prefix: str) -> tuple[list[Listing], list[str]]:
    """The keys beside folders, and the folders; none where they are too few or too many."""
    loose: list[Listing] = []
    for _ in range(_LEVELS):
        found = _request(client, bucket, prefix, Delimiter="/")
        folders = [one["Prefix"] for one in found.get("CommonPrefixes", [])]
        loose += _listings(found)
        if found.get("IsTruncated") or len(folders) > _FOLDERS or not folders:
            return [], []
        if len(folders) > 1:
            return loose, folders
        prefix = folders[0]
    return [], []


def _fetch(client: S3Client, bucket: str, prefix: str, token: str | None) -> _Page:
    given = {"ContinuationToken": token} if token else {}
    found = _request(client, bucket, prefix, **given)
    return _listings(found), found.get("NextContinuationToken") if found.get(
        "IsTruncated"
    ) else None


def _request(client: S3Client, bucket: str, prefix: str, **given: Any) -> Any:
    return client.list_objects_v2(
        Bucket=bucket, Prefix=prefix, OptionalObjectAttributes=["RestoreStatus"], **given
    )


def _listings(found: Any) -> list[Listing]:
    return [
        Listing(
            key=item["Key"],
            etag=item["ETag"],
            size=item["Size"],
            last_modified=item["LastModified"],
            storage_class=item.get("StorageClass"),
            restored="RestoreExpiryDate" in item.get("RestoreStatus", {}),
        )
        for item in found.get("Contents", [])
    ]
