"""Which delete markers our own merges left over what they had written.

On a bucket with versions, undoing the writing of a new object leaves a delete marker: no data is
ever deleted by its version. Where an earlier merge removed the same key (a sidecar that moved with
its asset), that marker lies over the earlier one's. To tell it from a person's deletion, each undo
writes its marker down.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from tasks.catalog.catalog import Catalog, quote
from tasks.merging.bucket_journal import read_kept_events
from tasks.merging.journal import UNDONE
from tasks.sources.store import Store

#: Where the detail of an undone PUT has the marker.
LEFT_MARKER = "left_marker"


class OwnMarkers:
    """What this catalog knows of such markers, and what other catalogs wrote into the bucket.

    Args:
        catalog: whose journal is asked first.
        store: the bucket, whose journal is read once, if a marker is not known to the catalog.
    """

    def __init__(self, catalog: Catalog, store: Store) -> None:
        self._catalog = catalog
        self._store = store
        self._of_others: dict[str, set[str]] | None = None

    def has(self, key: str, marker: str) -> bool:
        """Whether undoing our own writing at a key left this delete marker.

        Raises:
            SourceError: when the bucket's journal cannot be read.
        """
        mine = self._catalog.read(
            "journal", ["key", "detail"], f"event = {quote(UNDONE)} AND key = {quote(key)}"
        )
        return marker in _markers(mine["detail"]) or marker in self._others().get(key, set())

    def _others(self) -> dict[str, set[str]]:
        if self._of_others is None:
            self._of_others = {}
            for row in read_kept_events(self._store, UNDONE):
                self._of_others.setdefault(row["key"], set()).update(_markers([row["detail"]]))
        return self._of_others


def _markers(details: Iterable[str]) -> set[str]:
    told = (json.loads(detail).get(LEFT_MARKER) for detail in details)
    return {marker for marker in told if isinstance(marker, str)}
