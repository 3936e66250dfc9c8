"""Decide: a person's word about a plan, whatever channel it came through.

There is one record for all channels: the command line, the signed page, the Prefect UI, a policy's
rule. The first decision about a group of a plan holds, so that two people do not undo each other's
by accident; until it is carried out it may be taken back, and then the group is decided anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from tasks.errors import MergeError
from tasks.merging.journal import (
    DECIDED,
    WITHDRAWN,
    group_state,
    last_events,
    read_decisions,
    read_events,
    read_named_plan,
    save_decision,
)
from tasks.merging.rules.caps import over_caps
from tasks.merging.rules.decisions import GroupDecision
from tasks.merging.rules.plans import Plan, PlannedGroup
from tasks.queries.verdicts import withdraw_verdicts
from tasks.session import locate, open_catalog
from tasks.settings import Settings

ApproveOrReject = Literal["approve", "reject"]
#: How a group with questions is decided in a shell; other channels put their own way in its place.
HOW_TO_ACCEPT = "Approve with --accept-questions to keep the keeper's values, or reject"
_NAME = 200


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of one group's decision.

    Attributes:
        decision: the one that holds: ``approve`` or ``reject``; empty where none could be made.
        new: whether it was made now.
        why: what is in the way.
    """

    group_id: str
    keeper: str
    decision: str
    by: str
    at: str
    new: bool
    why: str = ""


def decide(
    settings: Settings,
    plan_id: str,
    decision: ApproveOrReject,
    *,
    by: str,
    groups: Sequence[str] = (),
    comment: str = "",
    channel: str = "cli",
    accept_questions: bool = False,
    expected_hash: str | None = None,
) -> list[Decided]:
    """Approve or reject groups of a plan.

    Args:
        settings: where the catalog is.
        plan_id: the plan.
        decision: what is decided.
        by: who decides; required.
        groups: ids; none: all on which nothing was decided, but for those with questions, which
            have to be named or accepted.
        comment: why, for the audit.
        channel: ``cli``, ``page`` or ``prefect``.
        accept_questions: approve groups with open questions too; conflicts keep the keeper's value.
        expected_hash: the plan the decision was shown for, where it was shown elsewhere.

    Raises:
        MergeError: when the plan is another one, a group is not in it, or ``by`` may not decide.
    """
    name = _checked_name(by)
    catalog = open_catalog(settings)
    plan = read_named_plan(catalog, plan_id)
    if expected_hash is not None and plan.hash != expected_hash:
        raise MergeError("this is a decision about another plan; nothing was decided")
    with catalog.writing(settings.catalog.busy_seconds):
        held = {row["group_id"]: row for row in read_decisions(catalog, plan).iter_rows(named=True)}
        made = {}
        for group in _named(plan, groups):
            if group.group_id in held:
                continue
            why = _obstacle(plan, group, decision, name, accept=accept_questions)
            if not why:
                save_decision(
                    catalog,
                    plan,
                    group,
                    decision=decision,
                    by=name,
                    channel=channel,
                    comment=comment.strip()[:2000],
                )
            made[group.group_id] = why
        now_held = {
            row["group_id"]: row for row in read_decisions(catalog, plan).iter_rows(named=True)
        }
    return [_decided(group, now_held, made) for group in _named(plan, groups)]


def withdraw(
    settings: Settings,
    plan_id: str,
    *,
    by: str,
    groups: Sequence[str] = (),
    comment: str = "",
    channel: str = "cli",
) -> list[Decided]:
    """Take decisions back, of groups that nothing was done to yet: they wait for one again.

    What the same person said of the pairs of a group together with the decision, or since, is taken
    back with it: whoever called the files no duplicates, and meant another group, would else find
    them kept apart by every later scan.

    Args:
        settings: where the catalog is.
        plan_id: the plan.
        by: who takes them back; required.
        groups: ids; none: all that are approved. A rejection has to be named.
        comment: why, for the audit.
        channel: ``cli``, ``page`` or ``prefect``.

    Returns:
        One for each group that was decided on; ``why`` says what is in the way, where it is too
        late.

    Raises:
        MergeError: when the plan is another one, a group is not in it, or ``by`` may not decide
            about one.
    """
    name = _checked_name(by)
    catalog = open_catalog(settings)
    plan = read_named_plan(catalog, plan_id)
    outcome = []
    taken: list[tuple[PlannedGroup, dict[str, Any]]] = []
    with catalog.writing(settings.catalog.busy_seconds):
        held = {row["group_id"]: row for row in read_decisions(catalog, plan).iter_rows(named=True)}
        events = read_events(catalog, plan)
        for group in _named(plan, groups):
            row = held.get(group.group_id)
            if row is None or (row["decision"] != "approve" and not groups):
                continue
            if why := _not_asked(group, name):
                outcome.append(_decided(group, held, {}, why))
                continue
            state = group_state(group, last_events(events, group.group_id))
            if state != "waiting":
                why = f"it is {state}: dam-dedup undo {plan.id}/{group.group_id[:8]} --by NAME"
                outcome.append(_decided(group, held, {}, why))
                continue
            save_decision(
                catalog,
                plan,
                group,
                decision=WITHDRAWN,
                by=name,
                channel=channel,
                comment=comment.strip()[:2000],
            )
            taken.append((group, row))
            outcome.append(Decided(group.group_id, group.keeper, "", name, "", True))
    said = events.filter(event=DECIDED).group_by("group_id").agg(pl.max("sequence"))
    since = dict(said.iter_rows())
    source, _ = locate(plan.source, settings)
    for group, row in taken:
        withdraw_verdicts(
            settings,
            group.assets(source),
            said_by=row["by"],
            by=name,
            channel=row["channel"],
            after=since.get(group.group_id, 0),
        )
    return outcome


def _checked_name(by: str) -> str:
    name = " ".join(by.split())
    if not name or len(name) > _NAME or not name.isprintable():
        raise MergeError("say who decides (--by NAME): it is written into the audit")
    return name


def _named(plan: Plan, names: Sequence[str]) -> list[PlannedGroup]:
    if not names:
        return [group for group in plan.groups if group.operations]
    found = []
    for name in names:
        group = plan.group(name)
        if group is None:
            raise MergeError(f"plan {plan.id} has no group {name!r}, or several that begin so")
        found.append(group)
    return found


def _obstacle(
    plan: Plan, group: PlannedGroup, decision: ApproveOrReject, by: str, *, accept: bool
) -> str:
    if why := _not_asked(group, by):
        return why
    if decision == "reject":
        return ""
    if group.refused:
        return group.refused
    if not group.operations:
        return f"there is nothing to do: the rule {group.rule} says {group.action.value}"
    if over := over_caps(plan, [group]):
        return f"{over}: raise the cap in the policy and plan again"
    if group.questions and not accept:
        asked = "; ".join(group.questions)
        return (
            f"a person has to decide: {asked}{'' if asked.endswith('?') else '.'} {HOW_TO_ACCEPT}"
        )
    return ""


def _not_asked(group: PlannedGroup, by: str) -> str:
    if group.approvers and by not in group.approvers:
        return f"{by} may not decide about it; {', '.join(group.approvers)} may"
    return ""


def _decided(
    group: PlannedGroup,
    held: dict[str, dict[str, object]],
    made: dict[str, str],
    why: str = "",
) -> Decided:
    row = held.get(group.group_id)
    if row is None:
        return Decided(
            group.group_id, group.keeper, "", "", "", False, made.get(group.group_id, "")
        )
    why = why or ("" if group.group_id in made else f"decided before, by {row['by']}")
    return Decided(
        group.group_id,
        group.keeper,
        str(row["decision"]),
        str(row["by"]),
        f"{row['at']:%Y-%m-%d %H:%M} UTC",
        group.group_id in made,
        why,
    )


def decide_each(
    settings: Settings, plan: Plan, words: Sequence[GroupDecision], *, by: str, channel: str = "cli"
) -> list[Decided]:
    """Record decisions made group by group, for exactly this plan; what is taken back comes first.

    A group for which another keeper or value was picked is left out: no plan showed that merge.

    Raises:
        MergeError: when a group is not in the plan, or ``by`` may not decide.
    """
    outcome = []
    back = [one.group for one in words if one.decision == "withdraw"]
    if back:
        outcome += withdraw(settings, plan.hash, by=by, groups=back, channel=channel)
    turns: tuple[tuple[ApproveOrReject, bool], ...]
    turns = ("reject", False), ("approve", False), ("approve", True)
    for decision, accept in turns:
        groups = [
            one.group
            for one in words
            if not one.plans_anew
            and one.decision == decision
            and (decision == "reject" or one.accept_questions is accept)
        ]
        if groups:  # to decide(), none would mean all
            outcome += decide(
                settings,
                plan.hash,
                decision,
                by=by,
                groups=groups,
                channel=channel,
                accept_questions=accept,
                expected_hash=plan.hash,
            )
    return outcome
