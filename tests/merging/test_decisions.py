"""Who decides what, once; what was answered is not asked again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import tasks.merging.journal as journal_module
import tasks.merging.merge as merge_module
import tasks.merging.undo as undo_module
from tasks.errors import MergeError, PolicyError
from tasks.merging.audit import read_audit
from tasks.merging.decide import decide, withdraw
from tasks.merging.journal import read_decisions, read_events, read_plan
from tasks.merging.merge import decide_and_merge, merge_approved, merge_plan
from tasks.merging.operations import Operator
from tasks.merging.plan import plan_anew
from tasks.merging.rules.policy import load_policy
from tasks.merging.undo import undo_merge
from tasks.records import now
from tasks.reporting.summarize import last_scan
from tasks.requests import MergeRequest
from tasks.session import open_catalog
from tests.conftest import first_of

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x28\x00\x00\x00\x1e"
POLICY = """
version: 1
name: decisions
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, keeper: [{prefix: [k/]}], action: quarantine%s}
"""


def policy(more: str = "") -> str:
    return POLICY % (f", {more}" if more else "")


@pytest.fixture
def site(make_site: Any) -> Any:
    """Three groups; the third asks a question."""
    made = make_site("plain")
    for seed in range(3):
        asked = seed == 2
        tags = [{"agency": "north"}, {"agency": "south"}] if asked else [{}, {}]
        for prefix, words in zip("kd", tags, strict=True):
            made.put(f"{prefix}/{seed}.png", PNG + bytes([seed]), words)
    made.list()
    return made


def named(plan: Any, seed: int) -> Any:
    return next(one for one in plan.groups if f"k/{seed}.png" in (one.keeper, *one.duplicates))


def acting(plan: Any) -> set[str]:
    return {one.keeper for one in plan.groups if one.operations and not one.refused}


def test_decisions(site: Any) -> None:
    plan = site.plan(policy=policy())
    ids = [named(plan, seed).group_id for seed in range(3)]
    assert [bool(named(plan, seed).questions) for seed in range(3)] == [False, False, True]
    for by in ("", " \n", "x" * 201, "ann\x1b[31ma"):
        with pytest.raises(MergeError, match="--by"):
            site.approve(plan, by=by)
    with pytest.raises(MergeError, match="another plan; nothing was decided"):
        site.approve(plan, expected_hash="0" * 64)
    with pytest.raises(MergeError, match="no group 'nope'"):
        site.approve(plan, groups=[ids[0], "nope"])
    assert read_decisions(open_catalog(site.settings)).is_empty(), "all or nothing"

    (first,) = site.approve(plan, groups=[ids[0][:8]], by=" anna  lind ", comment=" fine ")
    assert (first.decision, first.by, first.new) == ("approve", "anna lind", True)
    (held,) = decide(site.settings, plan.id, "reject", by="ben", groups=[ids[0]])
    assert (held.decision, held.by, held.new) == ("approve", "anna lind", False)
    assert "decided before, by anna lind" in held.why
    rest = {one.group_id: one for one in site.approve(plan, accept_questions=False)}
    assert rest[ids[1]].decision == "approve"
    assert rest[ids[2]].decision == ""
    assert "agency" in rest[ids[2]].why
    assert "--accept-questions" in rest[ids[2]].why
    outcome = site.merge(plan)
    assert {one.group_id for one in outcome.groups} == set(ids[:2])
    with pytest.raises(MergeError, match=f"approve {plan.id} --by NAME --groups {ids[2][:8]}"):
        site.merge(plan, groups=[ids[2]])
    site.approve(plan, groups=[ids[2]], expected_hash=plan.hash)
    assert site.merge(plan).complete
    assert site.tags("k/2.png") == {"agency": "north"}, "what conflicts stays as the keeper has it"
    told = read_audit(site.settings)
    assert [row["by"] for row in told.to_dicts() if row["what"] == "approve"] == [
        "anna lind",
        "anna",
        "anna",
    ]
    assert told.filter(what="approve")["detail"][0] == "fine"


def test_only_those_who_may(site: Any) -> None:
    plan = site.plan(policy=policy("approvers: [ben, cleo]"))
    for decision in ("approve", "reject"):
        said = decide(site.settings, plan.id, decision, by="anna", accept_questions=True)
        assert {one.decision for one in said} == {""}
        assert all("ben, cleo may" in one.why for one in said)
    with pytest.raises(MergeError, match=r"nothing of plan .* is approved"):
        site.merge(plan)
    assert {one.decision for one in site.approve(plan, by="cleo")} == {"approve"}


@pytest.mark.long
def test_rejected_is_not_planned_again(site: Any) -> None:
    plan = site.plan(policy=policy())
    decide(site.settings, plan.id, "reject", by="ben", groups=[named(plan, 0).group_id])
    for rule in (policy(), policy("metadata: []")):  # another plan, even under another policy
        site.list()
        later = site.plan(policy=rule)
        assert acting(later) == {"k/1.png", "k/2.png"}
        refused = named(later, 0).refused
        assert "rejected by ben" in refused
        assert "--again" in refused
        (said,) = site.approve(later, groups=[named(later, 0).group_id])
        assert said.decision == ""
    # another keeper is no other group
    name = named(later, 0).group_id
    assert named(site.plan(policy=policy(), keepers={name: "d/0.png"}), 0).refused
    # a new member is
    site.put("d/0 again.png", PNG + bytes([0]))
    site.list()
    assert "k/0.png" in acting(site.plan(policy=policy()))


@pytest.mark.long
@pytest.mark.parametrize(
    "scan",
    [False, pytest.param(True, marks=pytest.mark.long)],
    ids=["same-scan", "later-scan"],
)
def test_people_may_think_again(site: Any, scan: bool) -> None:
    """A rejected and an undone group, both merged in the end."""
    plan = site.plan(policy=policy())
    decide(site.settings, plan.id, "reject", by="ben", groups=[named(plan, 0).group_id])
    site.approve(plan)
    before = site.snapshot(ours=True)
    site.merge(plan)
    site.undo(plan.id)
    assert site.snapshot(ours=True) == before
    if scan:
        site.list()
        later = site.plan(policy=policy())
        assert acting(later) == set(), "neither is asked again"
        assert "undone by anna" in named(later, 1).refused
    again = site.plan(policy=policy(), again=True)
    assert again.id != plan.id
    assert acting(again) == {"k/0.png", "k/1.png", "k/2.png"}
    assert {one.decision for one in site.approve(again)} == {"approve"}
    outcome = site.merge(again)
    assert {one.state for one in outcome.groups} == {"merged"}
    assert {one.state for one in site.undo(again.id)} == {"undone"}
    assert site.snapshot(ours=True) == before


@pytest.mark.parametrize(("most", "expected"), [(2, 2), (1, 0)])
def test_automatic_approval(site: Any, most: int, expected: int) -> None:
    """Groups with questions are for people, and beyond the limit all are."""
    plan = site.plan(policy=policy(f"automatic: {{groups: {most}}}"))
    decided = read_decisions(open_catalog(site.settings), plan)
    assert decided.height == expected
    assert set(decided["channel"]) <= {"policy"}
    assert named(plan, 2).group_id not in set(decided["group_id"])
    if expected:
        assert site.merge(plan).complete
        assert "d/2.png" in site.keys(ours=True)
    else:
        with pytest.raises(MergeError, match="nothing of plan"):
            site.merge(plan)


@pytest.mark.long
def test_a_rule_approves_nothing_that_its_policy_says_no_more(site: Any, tmp_path: Path) -> None:
    """A rule that approved too much was taken out, and all it had approved was merged."""
    file = tmp_path / "policy.yaml"
    file.write_text(policy("automatic: {groups: 2}"))
    merging = site.settings.merge.model_copy(update={"policy": file})
    settings = site.settings.model_copy(update={"merge": merging})
    plan = site.plan(policy=policy("automatic: {groups: 2}"))
    by_hand = named(plan, 2).group_id
    site.approve(plan, groups=[by_hand])
    file.write_text(policy())
    (outcome,) = merge_approved(settings, by="schedule")
    states = {one.group_id: one.state for one in outcome.groups}
    assert states.pop(by_hand) == "merged", "a person saw that one"
    assert set(states.values()) == {"refused"}
    assert all("the policy was changed since" in one.why for one in outcome.groups if one.why)
    assert merge_approved(settings, by="schedule") == [], "told once"
    file.unlink()
    other = site.plan(policy=policy("automatic: {groups: 2}"), again=True)
    (outcome,) = merge_approved(settings, by="schedule")
    assert {one.state for one in outcome.groups} == {"failed"}, "the file may come back"
    file.write_text(policy("automatic: {groups: 2}"))
    (outcome,) = merge_approved(settings, by="schedule")
    assert (outcome.plan_id, {one.state for one in outcome.groups}) == (other.id, {"merged"})


def test_another_keeper(site: Any) -> None:
    plan = site.plan(policy=policy())
    group = named(plan, 0)
    other = site.plan(policy=policy(), keepers={group.group_id[:6]: "d/0.png"})
    chosen = named(other, 0)
    assert (chosen.keeper, chosen.duplicates) == ("d/0.png", ("k/0.png",))
    assert chosen.reasons == ("chosen by a person",)
    assert chosen.fingerprint == group.fingerprint
    assert named(other, 1).keeper == "k/1.png"
    for keepers, words in (
        ({group.group_id: "d/1.png"}, "'d/1.png' is not in this group"),
        ({"zz": "d/0.png"}, "0 groups of the last scan begin with 'zz'"),
        ({"g": "d/0.png"}, "3 groups of the last scan begin with 'g'"),
    ):
        with pytest.raises(MergeError, match=words):
            site.plan(policy=policy(), keepers=keepers)
    site.approve(other, groups=[chosen.group_id])
    site.approve(plan, groups=[group.group_id])
    assert site.merge(other).complete
    assert "k/0.png" not in site.keys(ours=True)
    assert [one.state for one in site.merge(plan).groups] == ["refused"], "its keeper is gone"
    assert "d/0.png" in site.keys(ours=True)


def test_through_the_prefect_page(site: Any) -> None:
    plan = site.plan(policy=policy())
    before = site.snapshot(ours=True)
    ids = [named(plan, seed).group_id for seed in range(3)]

    def ask(**fields: Any) -> Any:
        request = MergeRequest(
            **{"plan_id": plan.id, "approved_by": "anna", "dry_run": False} | fields
        )
        return decide_and_merge(request, site.settings)

    assert len(ask(decision="approve", dry_run=True).groups) == 3
    assert site.snapshot(ours=True) == before
    assert read_decisions(open_catalog(site.settings)).is_empty()
    with pytest.raises(MergeError, match=f"1 of 1 groups were not decided; group {ids[2][:8]}"):
        ask(decision="approve", groups=[ids[2]])
    assert ask(decision="reject", groups=[ids[0]]).groups == ()
    with pytest.raises(MergeError, match="is not approved"):
        ask(decision="approve", groups=[ids[0]])
    tried = ask(decision="approve", groups=[ids[1]], dry_run=True)
    assert {one.group_id: one.state for one in tried.groups} == {ids[1]: "would merge"}
    outcome = ask(decision="approve")
    assert {one.group_id: one.state for one in outcome.groups} == {ids[1]: "merged"}
    assert set(read_decisions(open_catalog(site.settings))["channel"]) == {"prefect"}


def test_a_policy_for_another_collection(site: Any) -> None:
    with pytest.raises(PolicyError, match="is for s3://elsewhere"):
        site.plan(policy=policy().replace("name:", "collection: s3://elsewhere\nname:", 1))


def test_plans_by_name(site: Any) -> None:
    with pytest.raises(MergeError, match="there is no plan yet"):
        read_plan(open_catalog(site.settings), "latest")
    plan, other = site.plan(policy=policy()), site.plan("tag")
    catalog = open_catalog(site.settings)
    assert read_plan(catalog, "latest").id == other.id
    assert read_plan(catalog, plan.id[:7].upper()).hash == plan.hash
    assert read_plan(catalog, plan.hash).id == plan.id
    for wrong in ("", plan.hash[:20] + "0" * 44, "'; --"):
        with pytest.raises(MergeError, match="plan"):
            read_plan(catalog, wrong)


def test_the_latest_plan_is_the_one_made_last(site: Any) -> None:
    first = site.plan(policy=policy())
    site.plan(policy=policy("tier: exact"))
    assert site.plan(policy=policy()).id == first.id
    assert read_plan(open_catalog(site.settings), "latest").id == first.id


def test_a_dry_run_shows_any_open_group_when_another_is_approved(site: Any) -> None:
    plan = site.plan(policy=policy())
    ids = [named(plan, seed).group_id for seed in range(3)]
    site.approve(plan, groups=[ids[0]])
    decide(site.settings, plan.id, "reject", by="anna", groups=[ids[1]])
    (shown,) = site.merge(plan, groups=[ids[2]], dry_run=True).groups
    assert (shown.group_id, shown.state) == (ids[2], "would merge")
    with pytest.raises(MergeError, match="is not approved"):
        site.merge(plan, groups=[ids[1]], dry_run=True)
    with pytest.raises(MergeError, match="is not approved"):
        site.merge(plan, groups=[ids[2]])


# ---- named, taken back, in order -------------------------------------------------------------


def test_who_acts_names_the_plan(site: Any) -> None:
    """`latest` may be another plan by now than the one that was looked at."""
    plan = site.plan(policy=policy())
    for act in (
        lambda: decide(site.settings, "latest", "approve", by="anna"),
        lambda: decide(site.settings, " Latest ", "reject", by="anna"),
        lambda: withdraw(site.settings, "latest", by="anna"),
        lambda: merge_plan(site.settings, "latest", by="anna"),
        lambda: undo_merge(site.settings, "latest", by="anna"),
    ):
        with pytest.raises(MergeError, match=f"by its id.*{plan.id}"):
            act()
    assert read_decisions(open_catalog(site.settings)).is_empty()


def test_an_approval_can_be_taken_back_until_its_group_is_carried_out(site: Any) -> None:
    plan = site.plan(policy=policy())
    one, two = (named(plan, seed).group_id for seed in range(2))
    site.approve(plan, groups=[one, two])
    site.merge(plan, groups=[one])
    taken = withdraw(site.settings, plan.id, by="ben", comment="not yet")
    assert {(w.group_id, w.decision) for w in taken} == {(one, "approve"), (two, "")}
    assert "dam-dedup undo" in next(w.why for w in taken if w.group_id == one)
    assert merge_approved(site.settings, by="schedule") == []
    with pytest.raises(MergeError, match="not approved"):
        site.merge(plan, groups=[two])
    assert withdraw(site.settings, plan.id, by="ben", groups=[two]) == []
    (again,) = site.approve(plan, groups=[two])
    assert (again.decision, again.new) == ("approve", True)
    assert site.merge(plan, groups=[two]).complete
    said = read_audit(site.settings).filter(group_id=two)
    assert said["what"].to_list()[0] == "approve"


@pytest.mark.long
def test_a_rejection_is_taken_back_when_it_is_named(site: Any) -> None:
    plan = site.plan(policy=policy())
    one = named(plan, 0)
    decide(site.settings, plan.id, "reject", by="anna", groups=[one.group_id])
    assert acting(site.plan(policy=policy())) == acting(plan) - {one.keeper}
    assert withdraw(site.settings, plan.id, by="ben") == [], "without names: approvals alone"
    (taken,) = withdraw(site.settings, plan.id, by="ben", groups=[one.group_id])
    assert (taken.decision, taken.new) == ("", True)
    assert acting(site.plan(policy=policy())) == acting(plan), "it is planned again"
    (again,) = site.approve(plan, groups=[one.group_id])
    assert again.new
    assert site.merge(plan, groups=[one.group_id]).complete


@pytest.mark.long
def test_planned_anew_is_only_what_was_chosen(site: Any) -> None:
    """The others are as they were, and are not looked at: who waits, waits for one group."""
    plan = site.plan(policy=policy())
    one, two = named(plan, 0), named(plan, 1)
    site.s3.client.delete_object(Bucket=site.bucket, Key="d/1.png")  # a plan of all would refuse it
    scan, space, _, _ = last_scan(site.settings)
    rules = load_policy(policy(), "policy.yaml")
    anew = plan_anew(scan, space, rules, plan, keepers={one.group_id[:6]: "d/0.png"})
    assert read_plan(open_catalog(site.settings), anew.id) == anew
    assert [group.group_id for group in anew.groups] == [group.group_id for group in plan.groups]
    assert named(anew, 0).keeper == "d/0.png"
    assert anew.group(two.group_id) == two
    assert named(site.plan(policy=policy()), 1).refused, "so that there was something to see"
    site.approve(anew, groups=[one.group_id])
    assert site.merge(anew, groups=[one.group_id]).complete
    assert {"k/0.png", "d/0.png"} & set(site.keys()) == {"d/0.png"}


@pytest.mark.long
def test_an_approval_that_is_taken_back_amid_a_run_stops_its_group(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = site.plan(policy=policy())
    site.approve(plan)
    real, before = merge_module._merge_group, site.keys()

    def take_back(*given: Any) -> Any:
        monkeypatch.setattr(merge_module, "_merge_group", real)
        withdraw(site.settings, plan.id, by="ben")
        return real(*given)

    monkeypatch.setattr(merge_module, "_merge_group", take_back)
    outcome = site.merge(plan)
    assert {group.state for group in outcome.groups} == {"refused"}
    assert site.keys() == before


@pytest.mark.parametrize("skew", first_of(-90, 90))
def test_the_journals_order_is_no_clocks(
    site: Any, monkeypatch: pytest.MonkeyPatch, skew: int
) -> None:
    """A group that a machine with another clock undid was merged again by the next schedule."""
    plan = site.plan(policy=policy())
    site.approve(plan, groups=[named(plan, 0).group_id])
    real = Operator.perform

    class Killed(BaseException):
        pass

    def killed(self: Operator, number: int, stand: Any) -> Any:
        if number == 1:
            raise Killed
        return real(self, number, stand)

    with monkeypatch.context() as patch:
        patch.setattr(Operator, "perform", killed)
        with pytest.raises(Killed):
            site.merge(plan)
    with monkeypatch.context() as patch:
        for module in (journal_module, undo_module):
            patch.setattr(module, "now", lambda: now() + timedelta(seconds=skew))
        assert {one.state for one in site.undo(plan.id)} == {"undone"}
    assert merge_approved(site.settings, by="schedule") == []
    events = read_events(open_catalog(site.settings), plan)
    assert events["sequence"].is_unique().all()
    again = site.plan(policy=policy())
    assert [g.refused[:6] for g in again.groups if g.group_id == named(plan, 0).group_id] == [
        "undone"
    ]


@pytest.mark.long
def test_a_chosen_value_is_planned_and_carried_out(site: Any) -> None:
    """The owner that wins is that of the file that goes; nothing is asked about it again."""
    site.put("k/9.png", PNG + b"nine", tags={"owner": "north"})
    site.put("d/9.png", PNG + b"nine", tags={"owner": "south"})
    site.list()
    asked = named(site.plan(policy=policy()), 9)
    assert any(question.startswith("owner differs") for question in asked.questions)
    name = asked.group_id
    with pytest.raises(MergeError, match="'west' cannot be chosen"):
        site.plan(policy=policy(), values={name: {"tags.owner": "west"}})
    plan = site.plan(policy=policy(), values={name[:8]: {"tags.owner": "south"}})
    chosen = named(plan, 9)
    assert chosen.questions == ()
    assert chosen.fingerprint == asked.fingerprint
    site.approve(plan, groups=[name], accept_questions=False)
    assert site.merge(plan).complete
    assert site.tags(chosen.keeper)["owner"] == "south"
    assert chosen.duplicates[0] not in site.keys()  # noqa: SIM118 - a site is no mapping
    site.undo(plan.id)
    assert (site.tags("k/9.png"), site.tags("d/9.png")) == ({"owner": "north"}, {"owner": "south"})
