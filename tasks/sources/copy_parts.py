"""A server-side copy of what is too large for one request, with the same conditions.

Each part is copied only from the very object that was meant, and the whole takes no other object's
place: ``x-amz-copy-source-if-match`` on each part, ``If-None-Match`` on the completion. Source: the
S3 documentation of UploadPartCopy and CompleteMultipartUpload.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from botocore.exceptions import BotoCoreError, ClientError

from tasks.records import ObjectState

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MOST_PARTS = 10_000


def copy_in_parts(client: S3Client, bucket: str, before: ObjectState, to: str, size: int) -> str:
    """Copy an object part by part, with all that belongs to it; returns the copy's ETag.

    What was copied is removed again when anything fails: an upload that is not completed is no
    object.

    Args:
        client: reaches the bucket.
        bucket: of both.
        before: the object as it must still be.
        to: where the copy goes.
        size: bytes of a part, but for the last; more where that made too many parts.

    Raises:
        ClientError: as the store says; 412 where the object is another, or the place is taken.
    """
    size = max(size, -(-before.size // _MOST_PARTS))
    target: Any = {"Bucket": bucket, "Key": to}
    request = as_parameters(before.headers) | {"Metadata": dict(before.metadata)}
    if before.tags:
        request["Tagging"] = urlencode(before.tags, quote_via=quote)
    upload = client.create_multipart_upload(**target, **request)["UploadId"]
    try:
        parts: list[Any] = []
        for number, start in enumerate(range(0, before.size, size), 1):
            last = min(start + size, before.size) - 1
            made: Any = client.upload_part_copy(
                **target,
                UploadId=upload,
                PartNumber=number,
                CopySource={"Bucket": bucket, "Key": before.key},
                CopySourceIfMatch=before.etag,
                CopySourceRange=f"bytes={start}-{last}",
            )["CopyPartResult"]
            sums = {name: value for name, value in made.items() if name.startswith("Checksum")}
            parts.append({"PartNumber": number, "ETag": made["ETag"], **sums})
        done = client.complete_multipart_upload(
            **target, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
        )
    except BaseException:
        with contextlib.suppress(ClientError, BotoCoreError):
            client.abort_multipart_upload(**target, UploadId=upload)
        raise
    return done["ETag"]


def as_parameters(headers: Mapping[str, str]) -> dict[str, Any]:
    """Headers of a state as boto3 takes them."""
    return {
        name: value == "true" if name == "BucketKeyEnabled" else value
        for name, value in headers.items()
    }
