"""One operation, done and undone: the only page that writes to a bucket of assets.

Each is idempotent: before it acts it looks whether it was done already.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any

from tasks.errors import AssetChangedError, AssetGoneError, MergeError
from tasks.merging.rules.lifecycle import why_expiring
from tasks.merging.rules.plans import Operation, OperationKind, PlannedGroup
from tasks.records import ObjectState
from tasks.sources.store import Store, same_description

#: Objects are rewritten through our memory up to this size, for there is no conditional rewrite.
_REWRITTEN = 256 * 1024**2


class Stand(StrEnum):
    """How an operation stands."""

    READY = "ready"
    DONE = "done"
    MOVED = "moved"


class Operator:
    """Does and undoes the operations of one group.

    Args:
        store: the bucket.
        group: of a plan.
        last: operation number to its last event and detail, from the journal.
    """

    def __init__(
        self, store: Store, group: PlannedGroup, last: Mapping[int, tuple[str, dict[str, Any]]]
    ) -> None:
        self._store = store
        self._group = group
        self._last = dict(last)
        #: How the keeper was left by this run's own writing to it.
        self._keeper: ObjectState | None = None
        #: Of rewritten objects, the sha256 of their bytes, written down before.
        self._sums = {
            group.operations[number].key: detail["sha256"]
            for number, (_, detail) in last.items()
            if "sha256" in detail
        }

    def announce(self, plan_id: str) -> None:
        """Tell whoever takes the lease over from us that we are at this group.

        Raises:
            TransientSourceError: when that cannot be written: then nothing may be done to it.
        """
        self._store.announce(f"{plan_id}/{self._group.group_id}")

    # ---- looking -----------------------------------------------------------------------------

    def look_all(self) -> list[Stand]:
        """How every operation stands, in order."""
        found = self._store.states({operation.key for operation in self._group.operations})
        return [self._look(operation, found[operation.key]) for operation in self._group.operations]

    def _look(self, operation: Operation, state: ObjectState) -> Stand:
        if state == operation.before:
            return Stand.READY
        looks: dict[OperationKind, Callable[[Operation, ObjectState], bool]] = {
            OperationKind.TAG: self._tagged,
            OperationKind.REWRITE: self._rewritten,
            OperationKind.PUT: self._put_done,
            OperationKind.COPY: self._copied,
            OperationKind.DELETE: self._deleted,
        }
        return Stand.DONE if looks[operation.kind](operation, state) else Stand.MOVED

    def _tagged(self, operation: Operation, state: ObjectState) -> bool:
        as_before = replace(state, tags=operation.before.tags)
        return as_before == operation.before and state.tags == operation.tags

    def _rewritten(self, operation: Operation, state: ObjectState) -> bool:
        before = operation.before
        wanted = replace(before, metadata=operation.metadata or {}, tags=operation.tags or {})
        return (
            state.size == before.size
            and same_description(state, wanted)
            and self._same_bytes(before, state)
        )

    def _same_bytes(self, before: ObjectState, state: ObjectState) -> bool:
        # The ETag is the MD5 only of what was put in one part and without KMS.
        if "-" not in before.etag and before.etag == state.etag:
            return True
        if before.key in self._sums:
            return bool(self._sum(state) == self._sums[before.key])
        old = before.version_id
        if old is None:
            return False
        one = self._store.read_version(before.key, old, _REWRITTEN)
        return one == self._store.read(state.key, state.etag, _REWRITTEN)

    def _sum(self, state: ObjectState) -> str:
        return hashlib.sha256(self._store.read(state.key, state.etag, _REWRITTEN)).hexdigest()

    def _put_done(self, operation: Operation, state: ObjectState) -> bool:
        body = _bytes(operation.body)
        if not state.exists or state.size != len(body):
            return False
        if not same_description(state, replace(operation.before, headers=_put_headers(operation))):
            return False
        if state.etag.strip('"') == hashlib.md5(body, usedforsecurity=False).hexdigest():
            return True
        return self._store.read(state.key, state.etag, len(body)) == body

    def _copied(self, operation: Operation, state: ObjectState) -> bool:
        # Its source is gone: then the delete after it was done, which it was the condition of.
        return not state.exists and self._copy_of(operation) is not None

    def _deleted(self, operation: Operation, state: ObjectState) -> bool:
        if state.exists:
            return False
        if self._store.versioned:
            return self._marker(operation) is not None
        return self._copy_of(operation) is not None

    def _copy_of(self, operation: Operation) -> ObjectState | None:
        """The quarantined copy, if it is one of what the operation is about."""
        before = operation.before
        copy = self._store.state(operation.to) if operation.to else None
        if copy is None or not copy.exists or copy.tags != before.tags:
            return None
        return copy if _may_be_copy(copy, before) else None

    def quarantined(self, number: int) -> ObjectState | None:
        """The quarantined copy of an operation as it is now, whatever tags it got since.

        Raises:
            MergeError: when something else lies there: nobody has decided about that.
            SourceError: when the store refuses.
        """
        operation = self._group.operations[number]
        copy = self._store.state(operation.to or "")
        if not copy.exists:
            return None
        if not _may_be_copy(copy, operation.before):
            raise MergeError(f"{operation.to!r} is not what was moved there: it stays")
        return copy

    def _marker(self, operation: Operation) -> str | None:
        """The delete marker that lies on the version the operation is about."""
        newest = self._store.newest(operation.key, 2)
        if len(newest) < 2 or not newest[0].is_marker or newest[1].is_marker:
            return None
        same = newest[1].version_id == operation.before.version_id
        return newest[0].version_id if same else None

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
                {"sha256": self._sum(operation.before)}
                if operation.kind is OperationKind.REWRITE
                else {},
            )
            for number, operation in enumerate(self._group.operations)
        ]

    def perform(self, number: int, stand: Stand) -> dict[str, Any]:
        """Do one operation; returns what undoing it needs to know.

        Raises:
            SourceError: when the store refuses, or the object moved meanwhile.
        """
        operation = self._group.operations[number]
        if operation.kind is OperationKind.TAG:
            if stand is Stand.READY:
                self._store.set_tags(operation.before, operation.tags or {})
            return {}
        if operation.kind is OperationKind.REWRITE:
            return self._rewrite(operation, stand)
        if operation.kind is OperationKind.PUT:
            return self._put(operation, stand)
        if operation.kind is OperationKind.COPY:
            if stand is Stand.READY:
                self._store.copy(operation.before, operation.to or "")
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
        key = self._group.keeper
        planned = next((state for state in self._group.states if state.key == key), None)
        found = self._store.state(key)
        if why := why_expiring(planned, found):
            raise AssetChangedError(f"the keeper {key!r} does not stay: {why}. Its copies stay")
        if found.exists and found in (planned, self._keeper):
            return
        ours = [operation for operation in self._group.operations if operation.key == key]
        if found.exists and any(self._look(one, found) is Stand.DONE for one in ours):
            self._keeper = found
            return
        what = "was changed by somebody else" if found.exists else "is gone"
        raise AssetChangedError(f"the keeper {key!r} {what} meanwhile: its copies stay")

    def _rewrite(self, operation: Operation, stand: Stand) -> dict[str, Any]:
        if stand is Stand.DONE:
            return {"etag": self._store.state(operation.key).etag}
        before = operation.before
        if self._store.state(before.key) != before:  # tags and metadata have no condition
            raise AssetChangedError(f"{before.key!r} was changed by somebody else meanwhile")
        body = self._store.read(before.key, before.etag, _REWRITTEN)
        after = self._store.put(
            before.key,
            body,
            expected=before.etag,
            metadata=operation.metadata or {},
            headers=before.headers,
            tags=operation.tags or {},
        )
        if before.key == self._group.keeper:
            # Written in one part it may have another ETag than the plan's: known as ours by it.
            found = self._store.state(before.key)
            self._keeper = found if found.etag == after.etag else self._keeper
        return {"etag": after.etag}

    def _put(self, operation: Operation, stand: Stand) -> dict[str, Any]:
        if stand is Stand.DONE:
            return {"etag": self._store.state(operation.key).etag}
        before = operation.before
        after = self._store.put(
            operation.key,
            _bytes(operation.body),
            expected=before.etag,
            metadata=before.metadata,
            headers=_put_headers(operation),
            tags=before.tags,
        )
        return {"etag": after.etag}

    def _delete(self, operation: Operation, stand: Stand) -> dict[str, Any]:
        if stand is Stand.DONE:
            return {"marker": self._marker(operation) if self._store.versioned else None}
        if operation.to and self._copy_of(operation) is None:
            raise AssetGoneError(
                f"the quarantined copy {operation.to!r} is not there: {operation.key!r} stays"
            )
        found = self._store.state(operation.key)
        if found.exists and not same_description(found, operation.before):
            # The condition of a delete knows no tags, nor metadata.
            raise AssetChangedError(f"{operation.key!r} was changed by somebody else meanwhile")
        return {"marker": self._store.delete(operation.before)}

    # ---- looking again -----------------------------------------------------------------------

    def take_back_hidden(self) -> Iterator[tuple[int, str]]:
        """Remove our markers that hide an upload which came in the same moment."""
        if not self._store.versioned:
            return
        for number, operation in enumerate(self._group.operations):
            event, detail = self._last.get(number, ("", {}))
            marker = detail.get("marker")
            if operation.kind is not OperationKind.DELETE or event != "done" or not marker:
                continue
            before = operation.before
            if self._store.hidden_upload(operation.key, marker, before.version_id, before.etag):
                self._store.remove_marker(operation.key, marker)
                yield (
                    number,
                    (
                        f"{operation.key!r} was uploaded anew in the moment it was to be "
                        "deleted: the new upload is back; scan again"
                    ),
                )

    # ---- undoing -----------------------------------------------------------------------------

    def before_undo(self, number: int) -> dict[str, Any]:
        """What an undo must know of an object before its first request, for one that is taken up.

        A merge that was killed may not have written down which delete marker is its own. The first
        undo finds that out: any marker that comes later is somebody else's, and stays.

        Raises:
            SourceError: when the versions cannot be listed.
        """
        operation = self._group.operations[number]
        known = self._last.get(number, ("", {}))[1]
        if operation.kind is not OperationKind.DELETE or "marker" in known:
            return {}
        if not self._store.versioned:
            return {}
        detail = {"marker": self._marker(operation) or ""}
        self._last[number] = (self._last.get(number, ("", {}))[0], known | detail)
        return detail

    def undo(self, number: int, *, keep_copies: bool = False) -> str:
        """Undo one operation; returns why it was left as it is, or nothing.

        Undoing what was never done, or is undone already, changes nothing.

        Args:
            number: of the operation.
            keep_copies: only look whether a quarantined copy may go, and leave it there.
        """
        operation = self._group.operations[number]
        state = self._store.state(operation.key)
        if operation.kind is not OperationKind.COPY and state == operation.before:
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
                return self._why_copy_stays(operation, state, self._copy_of(operation))
            return undoes[operation.kind](operation, state)
        except (AssetChangedError, AssetGoneError) as error:
            return str(error)

    def _untag(self, operation: Operation, state: ObjectState) -> str:
        if not self._tagged(operation, state):
            return f"{operation.key!r} changed since: its tags are left as they are"
        self._store.set_tags(state, operation.before.tags)
        return ""

    def _unrewrite(self, operation: Operation, state: ObjectState) -> str:
        before = operation.before
        if (
            same_description(state, before)
            and state.size == before.size
            and (self._same_bytes(before, state))
        ):
            return ""  # undone already: a rewrite makes a new version
        if not self._rewritten(operation, state):
            return f"{operation.key!r} changed since: its metadata is left as it is"
        body = self._store.read(state.key, state.etag, _REWRITTEN)
        self._store.put(
            state.key,
            body,
            expected=state.etag,
            metadata=before.metadata,
            headers=before.headers,
            tags=before.tags,
        )
        return ""

    def _unput(self, operation: Operation, state: ObjectState) -> str:
        if operation.had is None:
            if not state.exists:
                return ""
            if not self._put_done(operation, state):
                return f"{operation.key!r} changed since: it is left as it is"
            self._store.delete(state)
            return ""
        old = _bytes(operation.had)
        if state.exists and self._store.read(state.key, state.etag, _REWRITTEN) == old:
            return ""
        if not self._put_done(operation, state):
            return f"{operation.key!r} changed since: it is left as it is"
        before = operation.before
        self._store.put(
            state.key,
            old,
            expected=state.etag,
            metadata=before.metadata,
            headers=before.headers,
            tags=before.tags,
        )
        return ""

    def _undelete(self, operation: Operation, state: ObjectState) -> str:
        before = operation.before
        if state.exists:
            copy = self._copy_of(operation)
            if same_description(state, before) and (
                state.etag == before.etag or (copy is not None and self._holds(state, copy))
            ):
                return ""
            return f"another object is at {operation.key!r} now: it is left, the old one is kept"
        if self._store.versioned:
            marker = self._marker(operation)
            if marker is None or marker != self._known_marker(operation):
                return f"{operation.key!r} was deleted or changed again since: it is left"
            self._store.remove_marker(operation.key, marker)
            return ""
        copy = self._copy_of(operation)
        if copy is None:
            raise MergeError(
                f"{operation.key!r} cannot be brought back: its copy {operation.to!r} is not "
                "there, or is something else by now"
            )
        self._store.copy(copy, operation.key)
        return ""

    def _known_marker(self, operation: Operation) -> str:
        """The marker that is ours, as the journal says; empty where none is."""
        number = self._group.operations.index(operation)
        return str(self._last.get(number, ("", {}))[1].get("marker") or "")

    def _uncopy(self, operation: Operation, state: ObjectState) -> str:
        copy = self._copy_of(operation)
        why = self._why_copy_stays(operation, state, copy)
        if copy is not None and not why:
            self._store.delete(copy)
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
        limit = _REWRITTEN
        return self._store.read(state.key, state.etag, limit) == self._store.read(
            copy.key, copy.etag, limit
        )


def _may_be_copy(copy: ObjectState, before: ObjectState) -> bool:
    """Whether an object may hold what another one held, by all that a look at both can tell."""
    if (copy.size, copy.metadata) != (before.size, before.metadata):
        return False
    # The ETag is the digest of the bytes only of what was put in one part and without KMS.
    encrypted = any("SSEKMSKeyId" in state.headers for state in (copy, before))
    return encrypted or "-" in before.etag + copy.etag or copy.etag == before.etag


def _put_headers(operation: Operation) -> dict[str, str]:
    other = {"ContentType": operation.content_type or "binary/octet-stream"}
    return operation.before.headers or other


def _bytes(text: str | None) -> bytes:
    return base64.b64decode(text or "")
