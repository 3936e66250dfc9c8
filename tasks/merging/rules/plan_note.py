"""What a merge plan says of a scan's groups, in the few facts that a report tells."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tasks.merging.rules.plans import OperationKind, Plan, PlannedGroup


@dataclass(frozen=True, slots=True)
class GroupNote:
    """What a merge plan says of one group.

    Attributes:
        action: the policy's word: ``quarantine``, ``delete``, ``tag`` ...; ``report``: nothing.
        acting: whether anything would be done.
        files: how many objects would leave their place.
        bytes: size of these.
        questions: what a person has to decide.
        refused: why nothing may be done, or nothing.
        approved: whether the policy approved it by itself.
        approvers: who may decide; empty: anybody.
        keeper: key of the file that stays; empty in notes of older releases.
    """

    action: str
    acting: bool
    files: int
    bytes: int
    questions: tuple[str, ...] = ()
    refused: str = ""
    approved: bool = False
    approvers: tuple[str, ...] = ()
    keeper: str = ""


@dataclass(frozen=True, slots=True)
class PlanNote:
    """A merge plan in the words of a report.

    Attributes:
        acting: groups that would be acted on.
        asking: of these, how many have open questions.
        refused: groups that may not be merged.
        approved: groups that the policy approved by itself.
        bytes: size of what would leave its place, sidecars included; the sum over the groups.
        form: link to the Prefect UI's form, filled in but for the decision.
        pages: reviewer to the link of the signed page.
        pages_until: when these links end.
        policy: name and version of the policy.
        groups: group id to what is planned for it.
        quarantine_days: how long the policy keeps what is moved into quarantine.
        above: the caps of the policy that the whole plan is above (``objects``, ``bytes``,
            ``share``) with their values: one merge may not carry it out as a whole.
    """

    id: str
    acting: int
    asking: int
    refused: int
    approved: int
    bytes: int
    form: str | None = None
    pages: dict[str, str] = field(default_factory=dict)
    pages_until: datetime | None = None
    policy: str = ""
    groups: dict[str, GroupNote] = field(default_factory=dict, repr=False)
    quarantine_days: int = 0
    above: dict[str, float] = field(default_factory=dict)


def note_plan(
    plan: Plan,
    approved: Collection[str] = (),
    pages: Mapping[str, str] | None = None,
    pages_until: datetime | None = None,
) -> PlanNote:
    """A plan as reports tell it.

    Args:
        plan: the plan.
        approved: ids of the groups that the policy approved by itself.
        pages: reviewer to the link of the signed page.
        pages_until: when these links end.
    """
    notes = {group.group_id: _note(group, approved) for group in plan.groups}
    acting = [note for note in notes.values() if note.acting]
    return PlanNote(
        id=plan.id,
        acting=len(acting),
        asking=sum(1 for note in acting if note.questions),
        refused=sum(1 for note in notes.values() if note.refused),
        approved=sum(1 for note in notes.values() if note.approved),
        bytes=sum(note.bytes for note in acting),
        pages=dict(pages or {}),
        pages_until=pages_until,
        policy=plan.policy,
        groups=notes,
        quarantine_days=plan.quarantine_days,
        above=above_caps(plan, [group for group in plan.groups if not group.refused]),
    )


def _note(group: PlannedGroup, approved: Collection[str]) -> GroupNote:
    leaving = [one for one in group.operations if one.kind is OperationKind.DELETE]
    return GroupNote(
        action=group.action.value,
        acting=bool(group.operations) and not group.refused,
        files=len(leaving),
        bytes=sum(one.before.size for one in leaving),
        questions=group.questions,
        refused=group.refused,
        approved=group.group_id in approved,
        approvers=group.approvers,
        keeper=group.keeper,
    )


def above_caps(plan: Plan, groups: Collection[PlannedGroup]) -> dict[str, float]:
    """The plan's caps that a merge of these groups at once would be stopped by, by their name.

    It is the sum that ``tasks.merging.merge`` makes before it begins.
    """
    leaving = [
        one for group in groups for one in group.operations if one.kind is OperationKind.DELETE
    ]
    asked = {
        "objects": len({one.key for group in groups for one in group.operations}),
        "bytes": sum(one.before.size for one in leaving),
        "share": len(leaving) / max(plan.assets, 1),
    }
    return {name: plan.caps[name] for name in asked if asked[name] > plan.caps[name]}
