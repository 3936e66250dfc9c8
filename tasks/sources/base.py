"""What a source of assets offers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from tasks.records import Listing, Probe

#: How many of an object's first bytes a probe brings: enough for the signature of every format.
HEAD_BYTES = 512


class Source(Protocol):
    """Where assets live.

    Attributes:
        id: names the place that keys are unique in, without the prefix (``s3://bucket``).
        prefix: the part of the keys that is looked at; keys are always whole.
        workers: how many requests may be under way at once.
    """

    id: str
    prefix: str
    workers: int

    def list_pages(self) -> Iterator[list[Listing]]:
        """All objects below the prefix, in pages, each key once.

        Raises:
            SourceError: when the place does not exist or may not be read.
        """

    def probe(self, key: str) -> Probe:
        """Head bytes and metadata of one object.

        Raises:
            AssetGoneError: when it is no longer there.
            SourceError: when it cannot be read.
        """

    def read(self, key: str, etag: str, limit: int) -> bytes:
        """The bytes of an object, as long as it is still the one with this ETag.

        Raises:
            AssetChangedError: when the object has another ETag now.
            AssetGoneError: when it is no longer there.
            SourceError: when it cannot be read, or holds more than ``limit`` bytes.
        """
