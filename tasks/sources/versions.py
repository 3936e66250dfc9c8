"""The versions of an object, newest first, delete markers among them.

A store lists versions and delete markers in one order; boto3 sorts them into two lists. Their times
do not tell the common order: they may be in whole seconds, and a multipart upload's is when it
began. So the order is taken from the raw answer, before boto3 sorts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

from defusedxml import ElementTree

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_KINDS = ("Version", "DeleteMarker")
#: How many pages are read in search of a key. A listing by prefix also has keys that begin alike
#: (``a (1)`` beside ``a``), on some stores before the key itself.
_MOST_PAGES = 100


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object, or one delete marker.

    Attributes:
        version_id: ``null`` for what was written while the bucket was not versioned.
        etag: empty for a delete marker.
        last_modified: not to be used for their order, which is that of the listing.
    """

    version_id: str
    etag: str
    is_marker: bool
    is_latest: bool
    last_modified: datetime


def keep_order(client: S3Client) -> None:
    """Make a client keep the order of its listings of versions; more calls change nothing."""
    client.meta.events.register(
        "before-parse.s3.ListObjectVersions", _note_order, unique_id="dam-dedup-versions"
    )


def _note_order(response_dict: Any, customized_response_dict: Any, **_: Any) -> None:
    try:
        root = ElementTree.fromstring(response_dict["body"])
    except ParseError:
        return  # not XML: boto3 will raise the error
    tags = [child.tag.rsplit("}", 1)[-1] for child in root]
    customized_response_dict["Order"] = [tag for tag in tags if tag in _KINDS]


def versions_of(client: S3Client, bucket: str, key: str) -> Iterator[Version]:
    """The versions of one key, newest first; the client needs :func:`keep_order` before."""
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
    found = False
    for number, page in enumerate(pages):
        mine = [item for item in _in_order(page) if item["Key"] == key]
        mine.sort(key=lambda item: not item["IsLatest"])  # stable: the others stay as listed
        yield from (_version(item) for item in mine)
        found = found or bool(mine)
        if (found and not mine) or number == _MOST_PAGES:
            return


def _in_order(page: Any) -> list[Any]:
    """Versions and delete markers in the order in which the store lists them."""
    lists = {
        "Version": iter(page.get("Versions", [])),
        "DeleteMarker": iter(page.get("DeleteMarkers", [])),
    }
    return [next(lists[kind]) for kind in page["Order"]]


def _version(item: Any) -> Version:
    return Version(
        version_id=item["VersionId"],
        etag=item.get("ETag", ""),
        is_marker="ETag" not in item,
        is_latest=item["IsLatest"],
        last_modified=item["LastModified"],
    )
