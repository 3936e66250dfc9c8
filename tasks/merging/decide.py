"""Decide: a person's word about a plan, whatever door it came through.

One record whichever door: the command line, the signed page, the Prefect UI, a policy's rule. The
first decision about a group of a plan holds; to think again, plan again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.errors import MergeError
from tasks.merging.journal import read_decisions, read_plan, save_decision
from tasks.merging.rules.decisions import GroupDecision
from tasks.merging.rules.plans import Plan, PlannedGroup
from tasks.session import open_catalog
from tasks.settings import Settings

Decision = Literal["approve", "reject"]
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
    decision: Decision,
    *,
    by: str,
    groups: Sequence[str] = (),
    comment: str = "",
    door: str = "cli",
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
        door: ``cli``, ``page`` or ``prefect``.
        accept_questions: approve groups with open questions too; conflicts keep the keeper's value.
        expected_hash: the plan the decision was shown for, where it was shown elsewhere.

    Raises:
        MergeError: when the plan is another one, a group is not in it, or ``by`` may not decide.
    """
    name = " ".join(by.split())
    if not name or len(name) > _NAME or not name.isprintable():
        raise MergeError("say who decides (--by NAME): it is written into the audit")
    catalog = open_catalog(settings)
    plan = read_plan(catalog, plan_id)
    if expected_hash is not None and plan.hash != expected_hash:
        raise MergeError("this is a decision about another plan; nothing was decided")
    with catalog.writing(settings.catalog.busy_seconds):
        held = {row["group_id"]: row for row in read_decisions(catalog, plan).iter_rows(named=True)}
        made = {}
        for group in _named(plan, groups):
            if group.group_id in held:
                continue
            why = _obstacle(group, decision, name, accept=accept_questions)
            if not why:
                save_decision(
                    catalog,
                    plan,
                    group,
                    decision=decision,
                    by=name,
                    door=door,
                    comment=comment.strip()[:2000],
                )
            made[group.group_id] = why
        now_held = {
            row["group_id"]: row for row in read_decisions(catalog, plan).iter_rows(named=True)
        }
    return [_decided(group, now_held, made) for group in _named(plan, groups)]


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


def _obstacle(group: PlannedGroup, decision: Decision, by: str, *, accept: bool) -> str:
    if group.approvers and by not in group.approvers:
        return f"{by} may not decide about it; {', '.join(group.approvers)} may"
    if decision == "reject":
        return ""
    if group.refused:
        return group.refused
    if not group.operations:
        return f"there is nothing to do: the rule {group.rule} says {group.action.value}"
    if group.questions and not accept:
        asked = "; ".join(group.questions)
        return (
            f"a person has to decide: {asked}. Approve with --accept-questions to keep the "
            "keeper's values, or reject"
        )
    return ""


def _decided(
    group: PlannedGroup, held: dict[str, dict[str, object]], made: dict[str, str]
) -> Decided:
    row = held.get(group.group_id)
    if row is None:
        return Decided(
            group.group_id, group.keeper, "", "", "", False, made.get(group.group_id, "")
        )
    why = "" if group.group_id in made else f"decided before, by {row['by']}"
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
    settings: Settings, plan: Plan, words: Sequence[GroupDecision], *, by: str, door: str = "cli"
) -> list[Decided]:
    """Record decisions made group by group, for exactly this plan.

    A group for which another keeper was picked is left out: no plan showed that merge.

    Raises:
        MergeError: when a group is not in the plan, or ``by`` may not decide.
    """
    outcome = []
    turns: tuple[tuple[Decision, bool], ...]
    turns = ("reject", False), ("approve", False), ("approve", True)
    for decision, accept in turns:
        groups = [
            one.group
            for one in words
            if one.keeper is None
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
                door=door,
                accept_questions=accept,
                expected_hash=plan.hash,
            )
    return outcome
