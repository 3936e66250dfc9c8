"""One operation, done: what a merge writes to a bucket of assets (`undo_operations` takes it back).

Each is idempotent: before it acts it looks whether it was done already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.errors import AssetChangedError, AssetGoneError
from tasks.merging.looks import REWRITTEN, Looks, Stand, bytes_of, put_headers
from tasks.merging.rules.lifecycle import why_expiring
from tasks.merging.rules.plans import Operation, OperationKind, PlannedGroup
from tasks.records import ObjectState
from tasks.sources.store import Store, same_description


class Operator(Looks):
    """Does the operations of one group."""

    def __init__(
        self, store: Store, group: PlannedGroup, last: Mapping[int, tuple[str, dict[str, Any]]]
    ) -> None:
        super().__init__(store, group, last)
        #: How the keeper was left by this run's own writing to it.
        self._keeper: ObjectState | None = None

    # ---- doing -------------------------------------------------------------------------------

    def intentions(self) -> list[tuple[int, Operation, dict[str, Any]]]:
        """Every operation, with what must be known of its object before it is done.

        Raises:
            SourceError: when an object that is to be rewritten cannot be read.
        """
        return [
            (
                number,
                operation,
                # A multipart object has another ETag once it was written in one part.
                {"sha256": self.sum_of(operation.before)}
                if operation.kind is OperationKind.REWRITE
                else {},
            )
            for number, operation in enumerate(self.group.operations)
        ]

    def perform(self, number: int, stand: Stand) -> dict[str, Any]:
        """Do one operation; returns what undoing it needs to know.

        Raises:
            SourceError: when the store refuses, or the object moved meanwhile.
        """
        operation = self.group.operations[number]
        if operation.kind is OperationKind.TAG:
            if stand is Stand.READY:
                self.store.set_tags(operation.before, operation.tags or {})
            return {}
        if operation.kind is OperationKind.REWRITE:
            return self._rewrite(operation, stand)
        if operation.kind is OperationKind.PUT:
            return self._put(operation, stand)
        if operation.kind is OperationKind.COPY:
            if stand is Stand.READY:
                self.store.copy(operation.before, operation.to or "")
            return {"to": operation.to}
        if stand is Stand.READY:
            self.check_keeper()
        return self._delete(operation, stand)

    def check_keeper(self) -> None:
        """Look at the keeper once more: what leaves may be the last of its picture.

        Raises:
            AssetChangedError: when the keeper is gone, is about to be removed by a lifecycle rule,
                or is neither what was planned nor what we made of it; nothing leaves for it then.
        """
        key = self.group.keeper
        planned = next((state for state in self.group.states if state.key == key), None)
        found = self.store.state(key)
        if why := why_expiring(planned, found):
            raise AssetChangedError(f"the keeper {key!r} does not stay: {why}. Its copies stay")
        if found.exists and found in (planned, self._keeper):
            return
        ours = [operation for operation in self.group.operations if operation.key == key]
        if found.exists and any(self.look(one, found) is Stand.DONE for one in ours):
            self._keeper = found
            return
        what = "was changed by somebody else" if found.exists else "is gone"
        raise AssetChangedError(f"the keeper {key!r} {what} meanwhile: its copies stay")

    def _rewrite(self, operation: Operation, stand: Stand) -> dict[str, Any]:
        if stand is Stand.DONE:
            return {"etag": self.store.state(operation.key).etag}
        before = operation.before
        if self.store.state(before.key) != before:  # tags and metadata have no condition
            raise AssetChangedError(f"{before.key!r} was changed by somebody else meanwhile")
        body = self.store.read(before.key, before.etag, REWRITTEN)
        after = self.store.put(
            before.key,
            body,
            expected=before.etag,
            metadata=operation.metadata or {},
            headers=before.headers,
            tags=operation.tags or {},
        )
        if before.key == self.group.keeper:
            # Written in one part it may have another ETag than the plan's: known as ours by it.
            found = self.store.state(before.key)
            self._keeper = found if found.etag == after.etag else self._keeper
        return {"etag": after.etag}

    def _put(self, operation: Operation, stand: Stand) -> dict[str, Any]:
        if stand is Stand.DONE:
            return {"etag": self.store.state(operation.key).etag}
        before = operation.before
        after = self.store.put(
            operation.key,
            bytes_of(operation.body),
            expected=before.etag,
            metadata=before.metadata,
            headers=put_headers(operation),
            tags=before.tags,
        )
        return {"etag": after.etag}

    def _delete(self, operation: Operation, stand: Stand) -> dict[str, Any]:
        if stand is Stand.DONE:
            return {"marker": self.marker_of(operation) if self.store.versioned else None}
        if operation.to and self.copy_of(operation) is None:
            raise AssetGoneError(
                f"the quarantined copy {operation.to!r} is not there: {operation.key!r} stays"
            )
        found = self.store.state(operation.key)
        if found.exists and not same_description(found, operation.before):
            # The condition of a delete knows no tags, nor metadata.
            raise AssetChangedError(f"{operation.key!r} was changed by somebody else meanwhile")
        return {"marker": self.store.delete(operation.before)}

    # ---- looking again -----------------------------------------------------------------------

    def take_back_hidden(self) -> Iterator[tuple[int, str]]:
        """Remove our markers that hide an upload which came in the same moment."""
        if not self.store.versioned:
            return
        for number, operation in enumerate(self.group.operations):
            event, detail = self.last.get(number, ("", {}))
            marker = detail.get("marker")
            if operation.kind is not OperationKind.DELETE or event != "done" or not marker:
                continue
            before = operation.before
            if self.store.hidden_upload(operation.key, marker, before.version_id, before.etag):
                self.store.remove_marker(operation.key, marker)
                yield (
                    number,
                    (
                        f"{operation.key!r} was uploaded anew in the moment it was to be "
                        "deleted: the new upload is back; scan again"
                    ),
                )
