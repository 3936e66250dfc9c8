"""What one run of a merge may touch, and how a plan above that is carried out in lots. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tasks.merging.rules.plans import OperationKind, Plan, PlannedGroup
from tasks.records import Tier


def over_caps(plan: Plan, groups: Sequence[PlannedGroup]) -> str:
    """Which cap some groups would pass together, in words; nothing where they keep to all.

    Args:
        plan: its caps: objects and bytes, and the share of all assets that may leave in one run.
        groups: of it.
    """
    leaving = [
        operation
        for group in groups
        for operation in group.operations
        if operation.kind is OperationKind.DELETE
    ]
    touched = len({operation.key for group in groups for operation in group.operations})
    size = sum(operation.before.size for operation in leaving)
    share = len(leaving) / max(plan.assets, 1)
    if touched > plan.caps["objects"]:
        return f"{touched} objects would be touched, the cap is {plan.caps['objects']:.0f}"
    if size > plan.caps["bytes"]:
        return f"{size:,} bytes would leave, the cap is {plan.caps['bytes']:,.0f}"
    if share > plan.caps["share"]:
        return f"{share:.1%} of the collection would leave, the cap is {plan.caps['share']:.1%}"
    return ""


def refuse_above_caps(plan: Plan) -> Plan:
    """The plan with every group refused that is above a cap by itself.

    No run would ever carry it out, and no approval of it is taken, so that nothing may be offered.
    """
    groups = tuple(
        replace(group, refused=f"above a cap by itself: {over}", operations=(), automatic=False)
        if group.operations and not group.refused and (over := over_caps(plan, [group]))
        else group
        for group in plan.groups
    )
    return replace(plan, groups=groups)


def next_lot(
    plan: Plan, groups: Sequence[PlannedGroup], begun: Sequence[PlannedGroup] = ()
) -> list[PlannedGroup]:
    """The groups that one run carries out: equal pictures first, the largest of them first.

    A group that does not fit any more waits for the next run; smaller ones may still fit.

    Args:
        plan: with the caps.
        groups: of it, that are to be carried out.
        begun: others, that an earlier run began: they come first, whatever they count.
    """
    certain = sorted(
        groups, key=lambda group: (group.tier is not Tier.EXACT, -group.bytes, group.group_id)
    )
    lot = list(begun)
    for group in certain:
        if not over_caps(plan, [*lot, group]):
            lot.append(group)
    return lot


def caps_note(plan: Plan) -> str:
    """What the caps mean for a plan that is all approved; nothing where it fits into one run."""
    acting = [group for group in plan.groups if group.operations and not group.refused]
    over = over_caps(plan, acting)
    if not over:
        return ""
    never = sum(1 for group in acting if over_caps(plan, [group]))
    text = (
        f"more than one run may do ({over}): it is carried out in lots, the largest certain groups "
        f"first, {len(next_lot(plan, acting))} of {len(acting)} in the first"
    )
    if never:
        text += (
            f"; {never} are above a cap by themselves and are never carried out: raise the cap in "
            "the policy and plan again"
        )
    return text
