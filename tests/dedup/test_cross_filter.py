"""Sides of a scan across, against what the words say."""

from __future__ import annotations

from itertools import combinations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dedup.cross_filter import (
    content_sides,
    crossing,
    facing,
    keep_crossing,
    on_sides,
    pairs_sharing,
)

SIDES = st.sampled_from([1, 2, 3])


def frame(rows: list[tuple], **columns: type[pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=columns, orient="row")


def lies_across(one: int, two: int) -> bool:
    return bool((one & 1 and two & 2) or (one & 2 and two & 1))


def test_a_content_is_where_any_of_its_assets_is():
    assets = frame(
        [("a", 1), ("a", 1), ("b", 1), ("b", 2), ("c", 2), ("d", 3)],
        content=pl.String,
        side=pl.UInt8,
    )
    assert dict(content_sides(assets).iter_rows()) == {"a": 1, "b": 3, "c": 2, "d": 3}


@given(sides=st.lists(SIDES, max_size=8))
def test_pairs_that_lie_across(sides):
    contents = frame(
        [(str(n), side) for n, side in enumerate(sides)], content=pl.String, side=pl.UInt8
    )
    of = dict(contents.iter_rows())
    every = list(combinations(of, 2))
    found = crossing(frame(every, left=pl.String, right=pl.String), contents)
    assert found.rows() == [pair for pair in every if lies_across(of[pair[0]], of[pair[1]])]
    alone = set(facing(contents)["content"]) - {name for pair in found.rows() for name in pair}
    assert all(of[name] == 3 for name in alone), "only who is on both sides faces itself"


def test_without_sides_everything_lies_across():
    pairs = frame([("a", "b")], left=pl.String, right=pl.String)
    contents = frame([("a",), ("b",)], content=pl.String)
    assert crossing(pairs, contents).equals(pairs)
    own, other = on_sides(contents)
    assert own.equals(other)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from([1, 2, None]), SIDES), max_size=12))
def test_all_pairs_of_one_value_across(rows):
    assets = frame(
        [(f"{n:02}", value, side) for n, (value, side) in enumerate(rows)],
        key=pl.String,
        value=pl.Int64,
        side=pl.UInt8,
    )
    wanted = {
        (one[0], two[0])
        for one, two in combinations(assets.rows(), 2)
        if one[1] is not None and one[1] == two[1] and lies_across(one[2], two[2])
    }
    assert set(pairs_sharing(assets, "value", "key", 12).rows()) == wanted
    few = pairs_sharing(assets, "value", "key", 2)
    assert set(few.rows()) <= wanted
    assert {n for pair in few.rows() for n in pair} == {n for pair in wanted for n in pair}, (
        "of many, each is with somebody"
    )


def test_of_many_each_is_with_the_first_of_the_other_side():
    assets = frame(
        [(f"{n:02}", 7, 1 if n < 15 else 2) for n in range(20)],
        key=pl.String,
        value=pl.Int64,
        side=pl.UInt8,
    )
    found = set(pairs_sharing(assets, "value", "key", 12).rows())
    assert found == {(f"{n:02}", "15") for n in range(15)} | {
        ("00", f"{n:02}") for n in range(15, 20)
    }


def members(*rows: tuple[str, str, str, str, int]) -> pl.DataFrame:
    return frame(
        list(rows),
        group_id=pl.String,
        asset_id=pl.String,
        content=pl.String,
        role=pl.String,
        side=pl.UInt8,
    )


def kept(*rows: tuple[str, str, str, str, int]) -> set[str]:
    return set(keep_crossing(members(*rows))["asset_id"])


def test_a_group_of_one_side_is_no_finding():
    assert kept(("g", "a", "p", "keeper", 1), ("g", "b", "p", "duplicate", 1)) == set()
    assert kept(("g", "a", "p", "keeper", 2), ("g", "b", "q", "duplicate", 2)) == set()


def test_copies_of_one_side_stay_with_what_they_face():
    both = ("g", "a", "p", "keeper", 1), ("g", "b", "p", "duplicate", 1)
    assert kept(*both, ("g", "c", "q", "duplicate", 2)) == {"a", "b", "c"}


def test_who_faces_nobody_it_matches_leaves():
    # d matches the keeper's picture only, of which no copy is on the other side.
    rows = (
        ("g", "a", "p", "keeper", 1),
        ("g", "c", "q", "duplicate", 2),
        ("g", "d", "r", "duplicate", 1),
    )
    assert kept(*rows) == {"a", "c"}
    assert kept(*rows, ("g", "e", "p", "duplicate", 2)) == {"a", "c", "d", "e"}


def test_who_is_on_both_sides_does_not_face_itself():
    assert kept(("g", "a", "p", "keeper", 3), ("g", "b", "p", "duplicate", 1)) == {"a", "b"}
    assert kept(("g", "a", "p", "keeper", 3), ("h", "b", "p", "keeper", 1)) == set()
