"""How objects stand: whether an operation is yet to be done, was done, or cannot be done any more.

Nothing here writes. Each look is about all that an object is: bytes, metadata, tags, versions.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any

from tasks.errors import MergeError
from tasks.merging.rules.plans import Operation, OperationKind, PlannedGroup
from tasks.records import ObjectState
from tasks.sources.store import Store, same_description

#: Objects are rewritten through our memory up to this size, for there is no conditional rewrite.
REWRITTEN = 256 * 1024**2

#: So many versions of a key are looked through for what our own merges wrote and took back.
_VERSIONS = 200


class Stand(StrEnum):
    """How an operation stands."""

    READY = "ready"
    DONE = "done"
    MOVED = "moved"


class Looks:
    """How the objects of one group stand, beside what the plan says of them.

    Args:
        store: the bucket.
        group: of a plan.
        last: operation number to its last event and detail, from the journal.

    Attributes:
        store: the bucket.
        group: as planned.
        last: as given; what an undo finds out is added.
    """

    def __init__(
        self, store: Store, group: PlannedGroup, last: Mapping[int, tuple[str, dict[str, Any]]]
    ) -> None:
        self.store = store
        self.group = group
        self.last = dict(last)
        #: Of rewritten objects, the sha256 of their bytes, written down before.
        self._sums = {
            group.operations[number].key: detail["sha256"]
            for number, (_, detail) in last.items()
            if "sha256" in detail
        }

    def is_ours(self, key: str, marker: str) -> bool:
        """Whether undoing our own writing at a key left this delete marker; a merge asks not."""
        del key, marker
        return False

    def announce(self, plan_id: str) -> None:
        """Tell whoever takes the lease over from us that we are at this group.

        Raises:
            TransientSourceError: when that cannot be written: then nothing may be done to it.
        """
        self.store.announce(f"{plan_id}/{self.group.group_id}")

    # ---- looking -----------------------------------------------------------------------------

    def look_all(self) -> list[Stand]:
        """How every operation stands, in order."""
        found = self.store.states({operation.key for operation in self.group.operations})
        return [self.look(operation, found[operation.key]) for operation in self.group.operations]

    def look(self, operation: Operation, state: ObjectState) -> Stand:
        """How one operation stands, of the object as it is now."""
        if state == operation.before:
            return Stand.READY
        looks: dict[OperationKind, Callable[[Operation, ObjectState], bool]] = {
            OperationKind.TAG: self.is_tagged,
            OperationKind.REWRITE: self.is_rewritten,
            OperationKind.PUT: self.is_put,
            OperationKind.COPY: self.is_copied,
            OperationKind.DELETE: self.is_deleted,
        }
        return Stand.DONE if looks[operation.kind](operation, state) else Stand.MOVED

    def is_tagged(self, operation: Operation, state: ObjectState) -> bool:
        """Whether only the tags differ from before, and are those that were to be set."""
        as_before = replace(state, tags=operation.before.tags)
        return as_before == operation.before and state.tags == operation.tags

    def is_rewritten(self, operation: Operation, state: ObjectState) -> bool:
        """Whether metadata and tags are those that were to be written, over the same bytes."""
        before = operation.before
        wanted = replace(before, metadata=operation.metadata or {}, tags=operation.tags or {})
        return (
            state.size == before.size
            and same_description(state, wanted)
            and self.same_bytes(before, state)
        )

    def same_bytes(self, before: ObjectState, state: ObjectState) -> bool:
        """Whether an object still holds the bytes that it held, whatever its ETag is by now."""
        # The ETag is the MD5 only of what was put in one part and without KMS.
        if "-" not in before.etag and before.etag == state.etag:
            return True
        if before.key in self._sums:
            return bool(self.sum_of(state) == self._sums[before.key])
        old = before.version_id
        if old is None:
            return False
        one = self.store.read_version(before.key, old, REWRITTEN)
        return one == self.store.read(state.key, state.etag, REWRITTEN)

    def sum_of(self, state: ObjectState) -> str:
        """The sha256 of an object's bytes, as hexadecimal digits."""
        return hashlib.sha256(self.store.read(state.key, state.etag, REWRITTEN)).hexdigest()

    def is_put(self, operation: Operation, state: ObjectState) -> bool:
        """Whether an object is all that was to be written."""
        body = bytes_of(operation.body)
        if not state.exists or state.size != len(body):
            return False
        if not same_description(state, replace(operation.before, headers=put_headers(operation))):
            return False
        if state.etag.strip('"') == hashlib.md5(body, usedforsecurity=False).hexdigest():
            return True
        return self.store.read(state.key, state.etag, len(body)) == body

    def is_copied(self, operation: Operation, state: ObjectState) -> bool:
        """Whether the object left already, and its copy is there."""
        # Its source is gone: then the delete after it was done, which it was the condition of.
        return not state.exists and self.copy_of(operation) is not None

    def is_deleted(self, operation: Operation, state: ObjectState) -> bool:
        """Whether the object left, and what it was can be got back."""
        if state.exists:
            return False
        if self.store.versioned:
            return self.marker_of(operation) is not None
        return self.copy_of(operation) is not None

    def copy_of(self, operation: Operation) -> ObjectState | None:
        """The quarantined copy, if it is one of what the operation is about."""
        before = operation.before
        copy = self.store.state(operation.to) if operation.to else None
        if copy is None or not copy.exists or copy.tags != before.tags:
            return None
        return copy if _may_be_copy(copy, before) else None

    def quarantined(self, number: int) -> ObjectState | None:
        """The quarantined copy of an operation as it is now, whatever tags it got since.

        Raises:
            MergeError: when something else lies there: nobody has decided about that.
            SourceError: when the store refuses.
        """
        operation = self.group.operations[number]
        copy = self.store.state(operation.to or "")
        if not copy.exists:
            return None
        if not _may_be_copy(copy, operation.before):
            raise MergeError(f"{operation.to!r} is not what was moved there: it stays")
        return copy

    def marker_of(self, operation: Operation) -> str | None:
        """The delete marker that lies on the version the operation is about."""
        over = self.markers_over(operation)
        return over[-1] if over else None

    def markers_over(self, operation: Operation) -> list[str]:
        """The delete markers over the version the operation is about, the newest first.

        Between two of them lies what another merge wrote at this key, and what its undo removed
        again. None where anything else lies over the version: that is somebody else's.
        """
        key = operation.key
        over: list[str] = []
        found = self.store.newest(key, _VERSIONS)
        for marker, below in zip(found[::2], found[1::2], strict=False):
            if not marker.is_marker or below.is_marker:
                return []
            over.append(marker.version_id)
            if below.version_id == operation.before.version_id:
                return over
            if not self.is_ours(key, marker.version_id):
                return []
        return []


def _may_be_copy(copy: ObjectState, before: ObjectState) -> bool:
    """Whether an object may hold what another one held, by all that a look at both can tell."""
    if (copy.size, copy.metadata) != (before.size, before.metadata):
        return False
    # The ETag is the digest of the bytes only of what was put in one part and without KMS.
    encrypted = any("SSEKMSKeyId" in state.headers for state in (copy, before))
    return encrypted or "-" in before.etag + copy.etag or copy.etag == before.etag


def put_headers(operation: Operation) -> dict[str, str]:
    """Headers of what a PUT writes: those that the object had, or its content type alone."""
    other = {"ContentType": operation.content_type or "binary/octet-stream"}
    return operation.before.headers or other


def bytes_of(text: str | None) -> bytes:
    """What a plan keeps as base64; nothing of nothing."""
    return base64.b64decode(text or "")
