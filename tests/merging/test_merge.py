"""Applied, compared with the plan, undone, compared with before: every action, on a real store."""

from __future__ import annotations

import pytest

from tasks.errors import MergeError
from tasks.merging.rules.plans import Action, OperationKind, Plan

ACTIONS = [
    *(
        pytest.param(name, marks=pytest.mark.long)
        for name in ("tag", "link", "metadata", "replace")
    ),
    "quarantine",
    "delete",
]


def one_group(plan: Plan):
    assert len(plan.groups) == 1
    assert not plan.groups[0].refused
    return plan.groups[0]


@pytest.mark.parametrize("action", ACTIONS)
def test_merged_and_undone(filled, versioned, action):
    before = filled.snapshot()
    plan = filled.plan(action)
    group = one_group(plan)
    assert group.keeper == "a/big.png"
    assert set(group.duplicates) == {"b/small copy.jpg", "c/équal.png"}
    assert filled.snapshot() == before, "planning writes nothing"
    filled.approve(plan)
    if action == "delete" and not versioned:
        with pytest.raises(MergeError, match="keeps no versions"):
            filled.merge(plan)
        assert filled.snapshot() == before
        return
    dry = filled.merge(plan, dry_run=True)
    assert [one.state for one in dry.groups] == ["would merge"]
    assert filled.snapshot(ours=True) == before
    assert [one.state for one in filled.merge(plan).groups] == ["merged"]
    compare_with_plan(filled, plan, before)
    assert [one.state for one in filled.merge(plan).groups] == ["already merged"]
    outcomes = filled.undo(plan.id)
    assert {one.state for one in outcomes} == {"undone"}, outcomes
    assert filled.snapshot(ours=True) == before
    assert filled.undo(plan.id) == []


def compare_with_plan(site, plan: Plan, before) -> None:
    after = site.snapshot(ours=True)
    untouched = set(before)
    for operation in plan.groups[0].operations:
        untouched.discard(operation.key)
        if operation.kind is OperationKind.TAG:
            assert site.tags(operation.key) == operation.tags
            assert after[operation.key][0] == before[operation.key][0]
        elif operation.kind is OperationKind.REWRITE:
            assert dict(after[operation.key][2]) == operation.metadata
            assert dict(after[operation.key][1]) == operation.tags
            assert after[operation.key][0] == before[operation.key][0]
            assert after[operation.key][3] == before[operation.key][3]
        elif operation.kind is OperationKind.COPY:
            assert after[operation.to] == before[operation.key]
        elif operation.kind is OperationKind.DELETE:
            assert operation.key not in after
        else:
            assert operation.key in after
    for key in untouched:
        assert after[key] == before[key]


def test_what_the_duplicates_knew_goes_to_the_keeper(filled):
    plan = filled.plan("quarantine")
    filled.approve(plan)
    filled.merge(plan)
    tags = filled.tags("a/big.png")
    assert tags["owner"] == "north"
    assert set(tags["keywords"].split(" ")) == {"sea", "boat"}
    assert tags["agency"] == "x y"
    found = filled.s3.client.head_object(Bucket=filled.bucket, Key="a/big.png")
    assert found["Metadata"] == {"shot": "7", "client": "acme", "note": "second"}
    assert found["CacheControl"] == "max-age=60"
    words = filled.body("a/big.png.xmp").decode()
    assert "harbour" in words
    assert "gull" in words
    assert filled.keys() == ["a/big.png", "a/big.png.xmp", "d/other.png", "d/third.png"]


def test_nothing_without_approval(filled):
    plan = filled.plan()
    before = filled.snapshot(ours=True)
    with pytest.raises(MergeError, match="approve"):
        filled.merge(plan)
    assert filled.snapshot(ours=True) == before


def test_report_is_the_default_action(filled):
    plan = filled.plan("report")
    assert plan.groups[0].action is Action.REPORT
    assert plan.groups[0].operations == ()
    assert filled.approve(plan) == []


@pytest.mark.parametrize(
    ("cap", "words"),
    [
        ("objects: 2", "objects would be touched"),
        ("bytes: 10kB", "bytes would leave"),
        ("share: 0.1", "of the collection"),
    ],
)
def test_caps_stop_before_the_first_operation(filled, cap, words):
    policy = filled.template.replace("caps: {share: 1.0}", f"caps: {{{cap}}}")
    plan = filled.plan("quarantine", policy)
    before = filled.snapshot(ours=True)
    (group,) = plan.groups
    assert words in group.refused, "told before it can be approved"
    assert not group.operations
    assert filled.approve(plan) == []
    with pytest.raises(MergeError, match="nothing of plan"):
        filled.merge(plan)
    assert filled.snapshot(ours=True) == before
