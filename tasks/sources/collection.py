"""A collection that lives in the catalog alone: ``gate://NAME``.

Its assets are what callers handed in, under the ids they gave. Nothing can be listed or read
again: the bytes were never kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tasks.errors import AssetGoneError, SettingsError
from tasks.records import Listing, Probe

SCHEME = "gate://"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def is_collection(uri: str) -> bool:
    """Whether a source is a collection that lives in the catalog alone."""
    return uri.startswith(SCHEME)


class CollectionSource:
    """A collection by its URI.

    Raises:
        SettingsError: when the name has other characters than a collection's may have.
    """

    def __init__(self, uri: str) -> None:
        name = uri.removeprefix(SCHEME)
        if not is_collection(uri) or not _NAME.fullmatch(name):
            raise SettingsError(
                f"source {uri!r:.200}: write gate://NAME, of 1 to 64 letters, digits, and . _ -"
            )
        self.id = uri
        self.prefix = ""
        self.workers = 1

    def list_pages(self) -> Iterator[list[Listing]]:
        """No pages: the assets are in the catalog alone, where sync counts them instead."""
        return iter(())

    def probe(self, key: str) -> Probe:
        """Refuse: the bytes were never kept."""
        raise AssetGoneError(f"{key!r} of {self.id} has no bytes to look at: send it again")

    def read(self, key: str, etag: str, limit: int) -> bytes:  # noqa: ARG002
        """Refuse: the bytes were never kept."""
        raise AssetGoneError(f"{key!r} of {self.id} has no bytes to read: send it again")
