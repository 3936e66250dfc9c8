"""Why nothing may be done, in one line: every reason that a plan can give, made by the plan."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from reports.why_not import question_words, why_not
from tasks.merging.rules.keeper_choice import choose_keeper
from tasks.merging.rules.metadata import merge_metadata
from tasks.merging.rules.plans import Member
from tasks.merging.rules.policy import load_policy

NOON = datetime(2026, 11, 26, 10, 25, 30, tzinfo=UTC)
POLICY = "version: 1\nname: p\nprotected: [masters/]\ncaps: {group: 3}\nrules: [{name: all}]\n"


def member(key: str, **changes) -> Member:
    facts = {"asset_id": key, "key": key, "content": "c", "size": 9, "width": 4, "height": 3}
    old = NOON - timedelta(days=9)
    return Member(**(facts | {"format": "png", "last_modified": old} | changes))


def refusal(*members: Member, wanted: str | None = None) -> str:
    """What the plan says against a group of these members."""
    policy = load_policy(POLICY, "policy.yaml")
    return choose_keeper(list(members), policy, policy.rules[0], NOON, wanted).refused


@pytest.mark.parametrize(
    ("said", "why", "lifts"),
    [
        (
            refusal(member("masters/a"), member("masters/b")),
            "masters/ is protected: 2 of these files may not be moved",
            "Not duplicates",
        ),
        (
            refusal(member("a", held="legal hold"), member("masters/b"), member("c")),
            "2 of these files may not be moved (legal hold; protected prefix masters/)",
            "lift the hold",
        ),
        (
            refusal(member("masters/a"), member("b"), wanted="b"),
            "masters/a may not be moved (protected prefix masters/)",
            "let it be the file that stays",
        ),
        (
            refusal(member("masters/a"), member("b", tags={"licence": "x"})),
            "a valid licence would be lost",
            "let the licensed file stay",
        ),
        (
            refusal(member("masters/a"), member("b", tags={"release": "yes"})),
            "a release would be lost",
            "let the released file stay",
        ),
        (
            refusal(member("masters/a"), member("b.nef", format="raw")),
            "a camera raw file would be lost",
            "let the raw file stay",
        ),
        (
            "the keeper 'a' is under legal hold, and is not rewritten to take over what they know",
            "on hold and may not take over metadata",
            "lift the hold",
        ),
        (
            refusal(*(member(f"{n}") for n in range(4))),
            "4 files are more than the 3 that the policy merges as one group",
            "caps.group",
        ),
        (
            refusal(member("a"), member("b", last_modified=NOON - timedelta(hours=1))),
            "a file is younger than 24 h",
            "from tomorrow 09:26 UTC (2026-11-27)",
        ),
        (
            refusal(member("a"), member("b", tags={"embargo-until": "2026-12-24"})),
            "a file is under embargo",
            "from 2026-12-25 00:00 UTC",
        ),
        (
            "rejected by anna on 2026-11-01: asked again when its members change, or with --again",
            "rejected by anna on 2026-11-01",
            "--again",
        ),
        ("the action quarantine needs a bucket; /srv is a folder", "only reported", "a bucket"),
        ("'a b' changed since it was scanned: scan again", "changed after", "the next scan"),
        ("'a' is no longer in the bucket: scan again", "changed after", "the next scan"),
        ("a reason of a later release", "a reason of a later release", ""),
    ],
)
def test_every_reason_in_one_line_and_what_lifts_it(said, why, lifts):
    assert said
    found = why_not(said, NOON, NOON - timedelta(hours=1))
    assert why in found.why
    assert lifts in found.lifts
    assert "\n" not in found.why + found.lifts
    assert len(found.why) < 120


def test_several_reasons_are_all_told_and_time_alone_does_not_lift_them():
    young = member("masters/a", last_modified=NOON - timedelta(hours=1))
    said = refusal(young, member("masters/b"))
    found = why_not(said, NOON, young.last_modified)
    assert "masters/ is protected" in found.why
    assert "younger than 24 h" in found.why
    assert "tomorrow 09:26" in found.lifts
    assert found.opens is None
    alone = refusal(replace(young, key="a"), member("b"))
    assert why_not(alone, NOON, young.last_modified).opens == datetime(
        2026, 11, 27, 9, 26, tzinfo=UTC
    )


def test_what_is_old_enough_by_now_waits_for_the_next_scan():
    said = refusal(member("a"), member("b", last_modified=NOON - timedelta(hours=1)))
    later = NOON + timedelta(days=3)
    assert why_not(said, later, NOON - timedelta(hours=1)).lifts == "the next scan"
    assert "from 2026-11-27 09:26 UTC" in why_not(said, None, NOON - timedelta(hours=1)).lifts


def test_questions_in_a_few_words():
    members = [
        member("a", tags={"licence": "x", "owner": "north", "agency": "s"}),
        member("b", tags={"licence": "y", "owner": "south", "agency": "t"}),
        member("c", tags={"licence": "z", "owner": "south"}),
    ]
    policy = load_policy(POLICY, "policy.yaml")
    choice = choose_keeper(members, policy, policy.rules[0], NOON)
    assert sorted(map(question_words, choice.questions)) == [
        "2 owners: choose",
        "3 licences: choose",
    ]
    merge = merge_metadata(choice.keeper, choice.duplicates, policy.rules[0].metadata)
    assert sorted(map(question_words, merge.conflicts)) == [
        "2 owners: choose",
        "3 licences: choose",
        "agency: 2 values: choose",
    ]
    assert question_words("which one?") == "which one?"
