"""One operation, undone: what was written is taken back, and what was moved is put back.

Each is idempotent: undoing what was never done, or is undone already, changes nothing. What
somebody else changed since is left as it is, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tasks.errors import (
    AssetChangedError,
    AssetGoneError,
    MergeError,
    SourceError,
    StoreRefusedError,
    TransientSourceError,
)
from tasks.merging.journal import UNDOING
from tasks.merging.looks import REWRITTEN, Looks, bytes_of
from tasks.merging.rules.plans import Operation, OperationKind, PlannedGroup
from tasks.records import ObjectState
from tasks.sources.store import Store, same_description


class Undoer(Looks):
    """Undoes the operations of one group.

    Args:
        store: the bucket.
        group: of a plan.
        last: operation number to its last event and detail, from the journal.
        is_ours: whether undoing our own writing at a key left a delete marker; none: what lies over
            a version is somebody else's.

    Attributes:
        left_markers: operation number to the delete marker that undoing its write left.
    """

    def __init__(
        self,
        store: Store,
        group: PlannedGroup,
        last: Mapping[int, tuple[str, dict[str, Any]]],
        is_ours: Callable[[str, str], bool] | None = None,
    ) -> None:
        super().__init__(store, group, last)
        self._is_ours = is_ours
        self.left_markers: dict[int, str] = {}

    def is_ours(self, key: str, marker: str) -> bool:
        """Whether undoing our own writing at a key left this delete marker."""
        return self._is_ours is not None and self._is_ours(key, marker)

    def before_undo(self, number: int) -> dict[str, Any]:
        """What an undo must know of an object before its first request, for one that is taken up.

        A merge that was killed may not have written down which delete marker is its own. The first
        undo finds that out: any marker that comes later is somebody else's, and stays.

        Raises:
            SourceError: when the versions cannot be listed.
        """
        operation = self.group.operations[number]
        known = self.last.get(number, ("", {}))[1]
        if operation.kind is not OperationKind.DELETE or "marker" in known:
            return {}
        if not self.store.versioned:
            return {}
        detail = {"marker": self.marker_of(operation) or ""}
        self.last[number] = (self.last.get(number, ("", {}))[0], known | detail)
        return detail

    def undo(self, number: int, *, keep_copies: bool = False) -> str:
        """Undo one operation; returns why it was left as it is, or nothing.

        Undoing what was never done, or is undone already, changes nothing.

        Args:
            number: of the operation.
            keep_copies: only look whether a quarantined copy may go, and leave it there.
        """
        operation = self.group.operations[number]
        state = self.store.state(operation.key)
        if operation.kind is not OperationKind.COPY and state == operation.before:
            if operation.kind is OperationKind.PUT:
                self._find_left_marker(number)
            return ""
        rewritten = operation.kind in {OperationKind.REWRITE, OperationKind.PUT}
        if rewritten and state.held:  # another version of it would not be held
            return f"{operation.key!r} is under {state.held} by now: it is left as it is"
        undoes: dict[OperationKind, Callable[[Operation, ObjectState], str]] = {
            OperationKind.TAG: self._untag,
            OperationKind.REWRITE: self._unrewrite,
            OperationKind.PUT: self._unput,
            OperationKind.COPY: self._uncopy,
            OperationKind.DELETE: self._undelete,
        }
        try:
            if keep_copies and operation.kind is OperationKind.COPY:
                return self._why_copy_stays(operation, state, self.copy_of(operation))
            return undoes[operation.kind](operation, state)
        except (AssetChangedError, AssetGoneError) as error:
            return str(error)

    def _untag(self, operation: Operation, state: ObjectState) -> str:
        if not self.is_tagged(operation, state):
            return f"{operation.key!r} changed since: its tags are left as they are"
        self.store.set_tags(state, operation.before.tags)
        return ""

    def _unrewrite(self, operation: Operation, state: ObjectState) -> str:
        before = operation.before
        if (
            same_description(state, before)
            and state.size == before.size
            and (self.same_bytes(before, state))
        ):
            return ""  # undone already: a rewrite makes a new version
        if not self.is_rewritten(operation, state):
            return f"{operation.key!r} changed since: its metadata is left as it is"
        self._put_back(before, self.store.read(state.key, state.etag, REWRITTEN), state.etag)
        return ""

    def _unput(self, operation: Operation, state: ObjectState) -> str:
        if operation.had is None:
            if not state.exists:
                return ""
            if not self.is_put(operation, state):
                return f"{operation.key!r} changed since: it is left as it is"
            marker = self.store.delete(state)
            if marker is not None:
                self.left_markers[self.group.operations.index(operation)] = marker
            return ""
        old = bytes_of(operation.had)
        if state.exists and self.store.read(state.key, state.etag, REWRITTEN) == old:
            return ""
        if not self.is_put(operation, state):
            return f"{operation.key!r} changed since: it is left as it is"
        self._put_back(operation.before, old, state.etag)
        return ""

    def _put_back(self, before: ObjectState, body: bytes, expected: str) -> None:
        """Write bytes with all that the object had; `expected` is the ETag there, or empty."""
        self.store.put(
            before.key,
            body,
            expected=expected,
            metadata=before.metadata,
            headers=before.headers,
            tags=before.tags,
        )

    def _find_left_marker(self, number: int) -> None:
        """Find the marker of an undo that was killed before it could write it down.

        It lies on what the merge wrote, and the undo had come to this operation: an undo goes from
        the last to the first, and writes down at once what became of each.

        Raises:
            TransientSourceError: when the store does not answer: the next undo asks again.
        """
        operation = self.group.operations[number]
        open_ones = {n for n, (event, _) in self.last.items() if event == UNDOING}
        at_it = bool(open_ones) and max(open_ones) == number
        if not at_it or operation.had is not None or not self.store.versioned:
            return
        found = self.store.newest(operation.key, 2)
        if len(found) < 2 or not found[0].is_marker or found[1].is_marker:
            return
        body = bytes_of(operation.body)
        try:
            wrote = self.store.read_version(operation.key, found[1].version_id, len(body))
        except (AssetChangedError, AssetGoneError, StoreRefusedError):
            return
        except TransientSourceError:
            raise
        except SourceError:  # larger: then it is not what the merge wrote
            return
        if wrote == body:
            self.left_markers[number] = found[0].version_id

    def _undelete(self, operation: Operation, state: ObjectState) -> str:
        before = operation.before
        if state.exists:
            copy = self.copy_of(operation)
            if same_description(state, before) and (
                state.etag == before.etag or (copy is not None and self._holds(state, copy))
            ):
                return ""
            return f"another object is at {operation.key!r} now: it is left, the old one is kept"
        if self.store.versioned:
            over = self.markers_over(operation)
            if not over or over[-1] != self._known_marker(operation):
                return f"{operation.key!r} was deleted or changed again since: it is left"
            if len(over) == 1:
                self.store.remove_marker(operation.key, over[0])
            else:
                self._write_again(operation)
            return ""
        copy = self.copy_of(operation)
        if copy is None:
            raise MergeError(
                f"{operation.key!r} cannot be brought back: its copy {operation.to!r} is not "
                "there, or is something else by now. Either somebody removed the copy, or "
                "somebody removed the object before the merge came to it"
            )
        self.store.copy(copy, operation.key)
        return ""

    def _write_again(self, operation: Operation) -> None:
        """Write anew what lies below another merge's writing, for no data is deleted by version.

        Removing the uppermost marker would show what that merge wrote, and not what was there.
        """
        copy = self.copy_of(operation)
        if copy is not None:
            self.store.copy(copy, operation.key)
            return
        before = operation.before
        body = self.store.read_version(before.key, before.version_id or "null", REWRITTEN)
        self._put_back(before, body, "")

    def _known_marker(self, operation: Operation) -> str:
        """The marker that is ours, as the journal says; empty where none is."""
        number = self.group.operations.index(operation)
        return str(self.last.get(number, ("", {}))[1].get("marker") or "")

    def _uncopy(self, operation: Operation, state: ObjectState) -> str:
        copy = self.copy_of(operation)
        why = self._why_copy_stays(operation, state, copy)
        if copy is not None and not why:
            self.store.delete(copy)
        return why

    def _why_copy_stays(
        self, operation: Operation, state: ObjectState, copy: ObjectState | None
    ) -> str:
        """Why a quarantined copy may not go: its original is not back. Nothing where it may."""
        if copy is None or (same_description(state, copy) and self._holds(state, copy)):
            return ""
        return f"the copy {operation.to!r} stays: its original is not at {operation.key!r}"

    def _holds(self, state: ObjectState, copy: ObjectState) -> bool:
        """Whether an object is what its copy is; a copy of a multipart object has another ETag."""
        if state.etag == copy.etag:
            return True
        if state.size != copy.size:
            return False
        limit = REWRITTEN
        return self.store.read(state.key, state.etag, limit) == self.store.read(
            copy.key, copy.etag, limit
        )
