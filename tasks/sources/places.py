"""Every place of a bucket that was ever used as quarantine, kept in the bucket itself.

A policy may name any prefix and name another one later, and a bucket may have several catalogs.
What lies in quarantine is no asset for any of them: merged again, a copy would be the last of its
picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from tasks.errors import SourceError, TransientSourceError
from tasks.sources.answers import CHANGED, CONFLICT, GONE, code_of, explained

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Everything of ours in a bucket; no scan takes it for assets, whatever the list below says.
OUR_PREFIX = ".dam-dedup/"
PLACES_KEY = f"{OUR_PREFIX}quarantine-places.json"
_TRIES = 5


def note_places(client: S3Client, bucket: str, places: Iterable[str]) -> None:
    """Add prefixes to the bucket's list, before anything is moved to them.

    Raises:
        TransientSourceError: when others write it all the time.
        SourceError: when it cannot be written, or something else is in its place.
    """
    wanted = {place for place in places if not place.startswith(OUR_PREFIX)}
    with explained(f"note places in {PLACES_KEY!r}", bucket, "s3:GetObject and s3:PutObject"):
        for _ in range(_TRIES):
            etag, known = _read(client, bucket)
            if wanted <= known:
                return
            body = json.dumps(sorted(known | wanted), ensure_ascii=False).encode()
            try:
                if etag:
                    client.put_object(Bucket=bucket, Key=PLACES_KEY, Body=body, IfMatch=etag)
                else:
                    client.put_object(Bucket=bucket, Key=PLACES_KEY, Body=body, IfNoneMatch="*")
            except ClientError as error:
                if code_of(error) not in CHANGED | CONFLICT:
                    raise
            else:
                return
    raise TransientSourceError(f"cannot write {PLACES_KEY!r} in s3://{bucket}: try again")


def read_places(client: S3Client, bucket: str) -> tuple[str, ...]:
    """The prefixes that were ever used as quarantine, sorted.

    Raises:
        SourceError: when the list is there and cannot be read.
    """
    with explained(f"read {PLACES_KEY!r}", bucket, "s3:GetObject and s3:ListBucket"):
        return tuple(sorted(_read(client, bucket)[1]))


def _read(client: S3Client, bucket: str) -> tuple[str, set[str]]:
    try:
        found = client.get_object(Bucket=bucket, Key=PLACES_KEY)
    except ClientError as error:
        if code_of(error) in GONE:
            return "", set()
        raise
    try:
        listed = json.loads(found["Body"].read())
        if not isinstance(listed, list):
            raise TypeError("not a list")
        known = {place for place in listed if isinstance(place, str) and place}
    except (ValueError, TypeError, RecursionError) as error:
        # Taken for empty, every copy in quarantine would be an asset again, and merged as one.
        raise SourceError(
            f"s3://{bucket}/{PLACES_KEY} is no list of quarantines ({error}): remove it, and run "
            f"dam-dedup recover --source s3://{bucket}, which writes it anew from the journal"
        ) from error
    return found["ETag"], known
