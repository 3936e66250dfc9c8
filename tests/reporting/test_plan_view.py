"""The plan's view of groups and members, put into the tables once."""

from __future__ import annotations

import polars as pl
import pytest

from tasks.merging.rules.plan_note import GroupNote, PlanNote
from tasks.reporting.plan_view import standing, with_plan

PAIRS = {"left": pl.String, "right": pl.String, "score": pl.Float64, "tier": pl.String}


def tables(members: list[tuple[str, str, float]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One group: key, tier and score of each member as the scan has it, its keeper first."""
    rows = [
        ("g", key, "duplicate" if at else "keeper", tier, score)
        for at, (key, tier, score) in enumerate(members)
    ]
    columns = ["group_id", "key", "role", "tier", "score"]
    groups = pl.DataFrame(
        {
            "group_id": ["g"],
            "state": ["new"],
            "tier": ["near"],
            "size": [len(rows)],
            "bytes": [100],
            "savings": [70],
            "score": [min(score for _, _, score in members)],
            "keeper": [members[0][0]],
        }
    )
    return groups, pl.DataFrame(rows, schema=columns, orient="row")


def note(keeper: str, **changes) -> PlanNote:
    one = GroupNote("quarantine", True, 2, 55, keeper=keeper, **changes)
    return PlanNote("a1", 1, 0, 0, 0, 55, groups={"g": one})


def seen(members: pl.DataFrame) -> list[tuple[str, str, str, float]]:
    return members.select("key", "role", "tier", "score").rows()


@pytest.mark.parametrize("turned", [False, True])
def test_a_member_is_scored_by_its_pair_with_the_file_that_stays(turned):
    groups, members = tables([("o", "exact", 1.0), ("k", "near", 0.9), ("m", "exact", 0.99)])
    pair = ("m", "k", 0.8, "near") if turned else ("k", "m", 0.8, "near")
    pairs = pl.DataFrame([("k", "o", 0.9, "near"), pair], schema=PAIRS, orient="row")
    groups, members = with_plan(groups, members, pairs, note("k"))
    assert seen(members) == [
        ("k", "keeper", "exact", 1.0),
        ("m", "duplicate", "near", 0.8),
        ("o", "duplicate", "near", 0.9),
    ]
    row = groups.row(0, named=True)
    assert (row["keeper"], row["savings"], row["score"]) == ("k", 55, 0.8)
    assert (row["action"], row["standing"]) == ("quarantine", "waits")
    assert set(members["action"]) == {"quarantine"}


def test_a_pair_that_was_not_compared_has_the_lower_of_the_two_scores():
    groups, members = tables([("o", "exact", 1.0), ("k", "near", 0.9), ("m", "exact", 0.99)])
    far = pl.DataFrame([("k", "m", 0.3, "similar")], schema=PAIRS, orient="row")
    for pairs in (far, far.clear()):
        _, changed = with_plan(groups, members, pairs, note("k"))
        assert seen(changed)[1:] == [
            ("m", "duplicate", "near", 0.9),
            ("o", "duplicate", "near", 0.9),
        ]


def test_the_scans_own_keeper_changes_nothing_but_the_bytes():
    groups, members = tables([("o", "exact", 1.0), ("m", "near", 0.8)])
    told, same = with_plan(groups, members, pl.DataFrame(schema=PAIRS), note("o"))
    assert seen(same) == seen(members)
    assert told["savings"].to_list() == [55]
    # A note of an older release names no keeper.
    assert seen(with_plan(groups, members, pl.DataFrame(schema=PAIRS), note(""))[1]) == seen(
        members
    )


def test_without_a_plan_all_stays_and_what_no_plan_holds_saves_nothing():
    groups, members = tables([("o", "exact", 1.0), ("m", "near", 0.8)])
    none = pl.DataFrame(schema=PAIRS)
    told, same = with_plan(groups, members, none, None)
    assert told["savings"].to_list() == [70]
    assert told["standing"].to_list() == [None]
    assert same["action"].to_list() == [None, None]
    told, same = with_plan(groups, members, none, PlanNote("a1", 0, 0, 0, 0, 0))
    assert told["savings"].to_list() == [0]
    assert told["standing"].to_list() == ["unplanned"]
    assert told["keeper"].to_list() == ["o"]


def test_what_stands_in_the_way_comes_first():
    acting = {"action": "quarantine", "files": 1, "bytes": 1}
    assert standing(GroupNote(acting=False, refused="why", **acting)) == "refused"
    assert standing(GroupNote(acting=False, **acting)) == "nothing"
    assert standing(GroupNote(acting=True, approved=True, **acting)) == "approved"
    assert standing(GroupNote(acting=True, questions=("which?",), **acting)) == "asks"
    assert standing(GroupNote(acting=True, **acting)) == "waits"
