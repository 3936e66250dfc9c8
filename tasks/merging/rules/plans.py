"""A merge as data: what would be done to which object, relying on what, and why.

Preview, dry run, report, approval, audit and undo all show this same object; what a person
approves is its hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tasks.merging.rules.plan_forms import present_form
from tasks.records import ObjectState, Tier, asset_id

#: The form in which plans are written. Raised when a field of a plan gets another name, type or
#: meaning; :mod:`tasks.merging.rules.plan_forms` then says how the form before is read.
PLAN_FORM = 1


class Action(StrEnum):
    """What a policy does with the duplicates of a group."""

    REPORT = "report"
    TAG = "tag"
    LINK = "link"
    METADATA = "metadata"
    QUARANTINE = "quarantine"
    REPLACE = "replace"
    DELETE = "delete"


class OperationKind(StrEnum):
    """The five things that are ever done to a bucket.

    ``tag`` sets an object's tags; ``rewrite`` its user metadata and tags, with the same bytes;
    ``put`` writes a small object (a sidecar, a link record); ``copy`` copies it into quarantine;
    ``delete`` removes it, or puts a delete marker on it where the bucket keeps versions.
    """

    TAG = "tag"
    REWRITE = "rewrite"
    PUT = "put"
    COPY = "copy"
    DELETE = "delete"


class FieldRule(BaseModel):
    """How the values of one field (or of all that a pattern matches) become the keeper's.

    ``fill``: the keeper's own value, else the only other one; conflicts are asked. ``union``: of
    lists. ``restrictive``: the one that comes first in ``order``. ``keeper``: the keeper's, always.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str = Field(description="tags.NAME, metadata.NAME or xmp.NAME; * matches")
    rule: Literal["fill", "union", "restrictive", "earliest", "latest", "keeper", "ask"]
    order: tuple[str, ...] = Field((), description="restrictive: the most restrictive first")
    separator: str = Field(",", min_length=1, max_length=3, description="union: between words")


@dataclass(frozen=True, slots=True)
class Member:
    """What is known of one asset of a duplicate group.

    Attributes:
        metadata: user metadata, names in lower case.
        xmp: fields of its sidecar, else those inside it.
        original: whether the pixels' evidence makes it the original of the group.
        copy: whether that evidence says that it was made of another member.
        held: why it may not be touched (``legal hold``, ``retained until ...``), or nothing.
        sidecar: key of its XMP sidecar, if it has one; of several, the one that counts first.
        sidecars: keys of all its XMP sidecars.
        sha256: of its bytes.
        holds: what the file holds that a merge does not take over, in words, or nothing.
        packet: all that the file itself says, as an XMP packet.
        more: what its further sidecars say, by their key: fields as in ``xmp``.
        lists: names of fields in ``xmp`` and ``more`` that are lists without an order.
        taken: when its camera took it, as :func:`~tasks.merging.rules.bursts.time_taken` says.
        archived: whether it is in an archive, and only restored for a while.
    """

    asset_id: str
    key: str
    content: str
    size: int
    width: int
    height: int
    format: str
    last_modified: datetime
    tier: Tier = Tier.EXACT
    score: float = 1.0
    quality: int | None = None
    flags: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    xmp: dict[str, str] = field(default_factory=dict)
    original: bool = False
    copy: bool = False
    held: str = ""
    sidecar: str | None = None
    sha256: str = ""
    holds: str = ""
    sidecars: tuple[str, ...] = ()
    packet: str = ""
    more: dict[str, dict[str, str]] = field(default_factory=dict)
    lists: frozenset[str] = frozenset()
    taken: str = ""
    archived: bool = False


@dataclass(frozen=True, slots=True)
class FieldMerge:
    """One field of a metadata merge, as it is shown.

    Attributes:
        field: ``tags.NAME``, ``metadata.NAME`` or ``xmp.NAME``.
        rule: the rule that decided.
        kept: the keeper's value after the merge; None: it gets none.
        had: the keeper's value before.
        others: the duplicates' values by key.
        conflict: whether a person has to decide; ``kept`` is then what the keeper had.
    """

    field: str
    rule: str
    kept: str | None
    had: str | None
    others: dict[str, str]
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing done to one object.

    Attributes:
        kind: what.
        key: to which object.
        before: the object as it must be for this to be done.
        tags: of ``tag`` and ``rewrite``: all tags afterwards.
        metadata: of ``rewrite``: all user metadata afterwards.
        body: of ``put``: the object afterwards, base64.
        had: of ``put``: the object before, base64; None when there was none.
        to: of ``copy``: where to; of ``delete``: the copy that must exist, if there is to be one.
        content_type: of ``put``.
        reason: why, for people.
    """

    kind: OperationKind
    key: str
    before: ObjectState
    reason: str
    tags: dict[str, str] | None = None
    metadata: dict[str, str] | None = None
    body: str | None = None
    had: str | None = None
    to: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """One duplicate group in a plan.

    Attributes:
        group_id: of the scan.
        fingerprint: names the exact members and their content; what a rejection is remembered by.
        tier: the lowest of its members'.
        rule: name of the policy's rule.
        action: what the rule does.
        keeper: key of the asset that stays.
        duplicates: keys of the others.
        reasons: why the keeper is the keeper.
        fields: the metadata merge.
        questions: what a person has to decide; a group with questions is never approved by a rule.
        refused: why nothing may be done to this group, or nothing.
        bytes: size of what is merged away.
        approvers: who may approve; empty: anybody.
        automatic: whether the policy lets the rule approve the group by itself.
        operations: what would be done, in order.
        states: every member, and every sidecar it has or could get, as it must be for the group to
            be merged.
    """

    group_id: str
    fingerprint: str
    tier: Tier
    score: float
    rule: str
    action: Action
    keeper: str
    duplicates: tuple[str, ...]
    reasons: tuple[str, ...]
    fields: tuple[FieldMerge, ...]
    questions: tuple[str, ...]
    refused: str
    bytes: int
    approvers: tuple[str, ...]
    automatic: bool
    operations: tuple[Operation, ...]
    states: tuple[ObjectState, ...]

    def assets(self, source: str) -> list[str]:
        """Ids of its assets in a source (the source's id), the keeper's first."""
        return [asset_id(source, key) for key in (self.keeper, *self.duplicates)]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything one approval is about.

    Attributes:
        form: the form in which the plan was written, see :data:`PLAN_FORM`.
        source: where the objects are.
        scan_id: the scan whose groups these are.
        scope: of that scan.
        policy: the policy's name and version hash.
        caps: the most one run may touch: objects, bytes, share of the collection.
        quarantine_days: how long the policy keeps what is moved into quarantine.
        assets: how many assets the collection had.
        groups: sorted by id.
        round: tells a plan from an earlier one of the same scan about which all was decided or
            undone: people think again.
        text: the plan as it was written, of one that was read back; empty of one just made. What
            was approved is the hash of this text, whatever form later releases write.
    """

    form: int
    source: str
    scan_id: str
    scope: str
    policy: str
    caps: dict[str, float]
    quarantine_days: int
    assets: int
    groups: tuple[PlannedGroup, ...]
    round: int = 0
    text: str = field(default="", init=False, repr=False, compare=False)

    @property
    def hash(self) -> str:
        """Sha256 of the plan's canonical JSON: what is approved."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()

    @property
    def id(self) -> str:
        """A short name: the hash's first twelve digits."""
        return self.hash[:12]

    def as_json(self) -> str:
        """As it was written; else canonical: sorted keys, no spaces."""
        if self.text:
            return self.text
        data = _ADAPTER.dump_python(self, mode="json", exclude={"text"})
        return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @staticmethod
    def from_json(text: str) -> Plan:
        """What :meth:`as_json` wrote, in this release or an older one.

        Raises:
            ValueError: for anything else, a plan of a newer release among it.
        """
        plan = _ADAPTER.validate_python(present_form(json.loads(text), PLAN_FORM))
        object.__setattr__(plan, "text", text)
        return plan

    def group(self, group_id: str) -> PlannedGroup | None:
        """A group by its id, or by the only id that begins so."""
        found = [group for group in self.groups if group.group_id.startswith(group_id)]
        return found[0] if group_id and len(found) == 1 else None


def places_of(groups: Iterable[PlannedGroup]) -> set[str]:
    """Prefixes below which the copies of these groups are put."""
    return {
        operation.to.removesuffix(operation.key)
        for group in groups
        for operation in group.operations
        if operation.kind is OperationKind.COPY and operation.to
    }


_ADAPTER: TypeAdapter[Plan] = TypeAdapter(Plan)


def as_data(value: Any) -> Any:
    """Any noun of this page as plain JSON data."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")
