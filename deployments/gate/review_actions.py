"""What the buttons of the approval page do: record decisions, or make a plan with other keepers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from deployments.gate.forms import Form
from reports.review import can_decide
from tasks.errors import MergeError
from tasks.merging.approvals import Claim
from tasks.merging.decide import HOW_TO_ACCEPT, Decided, decide, withdraw
from tasks.merging.journal import read_decisions
from tasks.merging.rules.plans import Plan
from tasks.session import open_catalog
from tasks.settings import Settings

#: Makes a plan with other keepers. Takes the plan's id; by group id, the key of the keeper that was
#: picked; and, where values were picked, by group id and field those. Returns the new plan's id.
Replan = Callable[..., str]


def decide_form(settings: Settings, claim: Claim, plan: Plan, form: Form) -> list[Decided]:
    """Record the decision of a form for the groups that were chosen.

    Raises:
        MergeError: when nothing is chosen, a group is not in the plan, the plan is another, or
            another keeper was picked for what would be approved.
    """
    if form.decision in ("approve-all", "approve-all-asked"):
        if form.keepers:
            raise _other_keeper()
        return _decide(settings, claim, form, _easy(settings, claim, plan), accept=False)
    if not form.groups:  # decide() would take no groups for all groups
        raise MergeError("no group was chosen; nothing was decided. Choose some")
    unknown = set(form.groups) - {group.group_id for group in plan.groups}
    if unknown:
        raise MergeError("the form names groups that this plan does not have; nothing was decided")
    check_scope(claim, plan, form.groups)
    if form.decision == "withdraw":
        by, comment = claim.reviewer, form.comment
        return withdraw(
            settings, plan.hash, by=by, groups=form.groups, comment=comment, channel="page"
        )
    if form.decision == "approve" and set(form.groups) & set(form.keepers):
        raise _other_keeper()
    plain = [name for name in form.groups if name not in form.accepted]
    read = [name for name in form.groups if name in form.accepted]
    return _decide(settings, claim, form, plain, accept=False) + _decide(
        settings, claim, form, read, accept=True
    )


def problems(outcome: list[Decided], decision: str) -> list[str]:
    """Sentences for the page that say why groups stay as they were: undecided, or decided."""
    back = decision == "withdraw"
    return [
        f"{one.keeper}: "
        + one.why.replace(HOW_TO_ACCEPT, "Tick “I have read this” there, or reject it.")
        for one in outcome
        if one.why and bool(one.decision) is back
    ]


def replan_form(
    settings: Settings, claim: Claim, plan: Plan, form: Form, replan: Replan | None
) -> str:
    """Make a plan with the keepers that were picked in a form; decides nothing.

    Returns:
        The new plan's id.

    Raises:
        MergeError: when no other keeper was picked, or a group is not this reviewer's to decide.
    """
    if replan is None:
        raise MergeError("another keeper cannot be chosen here; ask for a new plan")
    decided = _decided(settings, plan)
    groups = {group.group_id: group for group in plan.groups}
    keepers = {}
    for name, number in form.keepers.items():
        group = groups.get(name)
        if group is None or number > len(group.duplicates):
            raise MergeError("the form names files that this plan does not have")
        check_scope(claim, plan, (name,))
        if not can_decide(group, claim.reviewer, decided):
            raise MergeError(f"{group.keeper}: about this group you cannot decide (any more)")
        keepers[name] = group.duplicates[number - 1]
    if not keepers:
        raise MergeError("no other keeper was picked; nothing was done. Pick one")
    return replan(plan.id, keepers)


def _other_keeper() -> MergeError:
    """The error when another keeper was picked and the plan approved.

    Approving would merge into the planned keeper, which is not what the form shows.
    """
    return MergeError(
        "you picked another file to stay: have it planned again first, or pick the planned one "
        "again; nothing was decided"
    )


def _decide(
    settings: Settings, claim: Claim, form: Form, groups: list[str], *, accept: bool
) -> list[Decided]:
    if not groups:
        return []
    return decide(
        settings,
        claim.hash,
        "reject" if form.decision == "reject" else "approve",
        by=claim.reviewer,
        groups=groups,
        comment=form.comment,
        channel="page",
        accept_questions=accept,
        expected_hash=claim.hash,
    )


def _easy(settings: Settings, claim: Claim, plan: Plan) -> list[str]:
    """The ids of the groups that this reviewer can approve and that have no questions."""
    decided = _decided(settings, plan)
    mine = claim.groups(plan)
    return [
        group.group_id
        for group in plan.groups
        if can_decide(group, claim.reviewer, decided)
        and not group.questions
        and (mine is None or group.group_id in mine)
    ]


def check_scope(claim: Claim, plan: Plan, names: Iterable[str]) -> None:
    """Refuse groups that a link is not for.

    Raises:
        MergeError: when it is not for all of them.
    """
    mine = claim.groups(plan)
    if mine is not None and not mine.issuperset(names):
        raise MergeError(
            "this link is for some of the plan's groups only, and not for all that were chosen; "
            "nothing was decided. The collection's owner can decide on the others"
        )


def _decided(settings: Settings, plan: Plan) -> dict[str, object]:
    found = read_decisions(open_catalog(settings), plan)["group_id"].to_list()
    return dict.fromkeys(found, True)
