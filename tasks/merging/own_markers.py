"""Which delete markers our own merges left over what they had written.

On a bucket with versions, undoing the writing of a new object leaves a delete marker: no data is
ever deleted by its version. Where an earlier merge removed the same key (a sidecar that moved with
its asset), that marker lies over the earlier one's. To tell it from a person's deletion, each undo
writes its marker down.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

from tasks.catalog.catalog import Catalog, quote
from tasks.merging.bucket_journal import (
    NO_NOTE,
    find_kept_steps,
    read_kept_plan,
    read_kept_steps,
)
from tasks.merging.journal import UNDONE
from tasks.merging.rules.plans import OperationKind
from tasks.sources.store import Store

log = logging.getLogger(__name__)

#: Where the detail of an undone PUT has the marker.
LEFT_MARKER = "left_marker"


class OwnMarkers:
    """What this catalog knows of such markers, and what other catalogs wrote into the bucket.

    Args:
        catalog: whose journal is asked first.
        store: the bucket. Of its journal a plan is read when a marker is not known to the catalog,
            and its steps when it wrote at that key; each once.
    """

    def __init__(self, catalog: Catalog, store: Store) -> None:
        self._catalog = catalog
        self._store = store
        self._steps: dict[str, list[str]] | None = None
        self._written: dict[str, frozenset[str]] = {}
        self._markers: dict[str, dict[str, set[str]]] = {}

    def has(self, key: str, marker: str) -> bool:
        """Whether undoing our own writing at a key left this delete marker.

        Raises:
            TransientSourceError: when the store does not answer.
        """
        put = quote(OperationKind.PUT.value)
        mine = self._catalog.read(
            "journal",
            ["key", "detail"],
            f"event = {quote(UNDONE)} AND kind = {put} AND key = {quote(key)}",
        )
        if marker in _told(mine["detail"]):
            return True
        if self._steps is None:
            self._steps = find_kept_steps(self._store, UNDONE)
        return any(marker in self._of(plan_id, key) for plan_id in self._steps)

    def _of(self, plan_id: str, key: str) -> set[str]:
        """Markers that undoing one plan of the bucket's journal left at a key."""
        if key not in self._written.get(plan_id, {key}):
            return set()
        if plan_id not in self._markers:
            try:
                self._read(plan_id, key)
            except NO_NOTE as error:
                log.error("plan %s in the bucket's journal: %s", plan_id, error)
                self._written[plan_id] = frozenset()
        return self._markers.get(plan_id, {}).get(key, set())

    def _read(self, plan_id: str, key: str) -> None:
        plan = read_kept_plan(self._store, plan_id)
        self._written[plan_id] = frozenset(
            operation.key
            for group in plan.groups
            for operation in group.operations
            if operation.kind is OperationKind.PUT
        )
        if key not in self._written[plan_id]:
            return
        found = self._markers.setdefault(plan_id, {})
        for row in read_kept_steps(self._store, plan, (self._steps or {})[plan_id]):
            if row["event"] == UNDONE and row["kind"] == OperationKind.PUT.value:
                found.setdefault(row["key"], set()).update(_told([row["detail"]]))


def _told(details: Iterable[str]) -> set[str]:
    told = (json.loads(detail).get(LEFT_MARKER) for detail in details)
    return {marker for marker in told if isinstance(marker, str)}
