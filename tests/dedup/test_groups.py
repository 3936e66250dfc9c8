"""Groups that hold together."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dedup.groups import group_matches
from tasks.dedup.keepers import rank_keepers
from tasks.records import Role

DAY = datetime(2026, 1, 1, tzinfo=UTC)
ASSETS = {
    "key": pl.String,
    "asset_id": pl.String,
    "content": pl.String,
    "width": pl.Int32,
    "height": pl.Int32,
    "format": pl.String,
    "size": pl.Int64,
    "last_modified": pl.Datetime("us", "UTC"),
}
MATCHES = {"left": pl.String, "right": pl.String, "score": pl.Float32}


def library(*assets: tuple[str, str, int]) -> pl.DataFrame:
    """Assets of (key, content, width)."""
    rows = [
        (key, f"id-{key}", content, width, 10, "jpeg", 1, DAY) for key, content, width in assets
    ]
    return pl.DataFrame(rows, schema=ASSETS, orient="row")


def pairs(*found: tuple[str, str]) -> pl.DataFrame:
    rows = [(min(pair), max(pair), 0.8) for pair in found]
    return pl.DataFrame(rows, schema=MATCHES, orient="row")


def keys(groups: pl.DataFrame) -> list[list[str]]:
    """Each group's keys, the keeper first."""
    return sorted(
        part["asset_id"].str.strip_prefix("id-").to_list()
        for part in groups.partition_by("group_id", maintain_order=True)
    )


@st.composite
def libraries(draw):
    contents = [f"c{n}" for n in range(draw(st.integers(1, 8)))]
    copies = draw(st.lists(st.tuples(st.sampled_from(contents), st.integers(1, 3)), max_size=14))
    assets = library(*((f"k{n:02}", name, width) for n, (name, width) in enumerate(copies)))
    everyone = [(a, b) for a in contents for b in contents if a < b]
    chosen = draw(st.lists(st.sampled_from(everyone), unique=True)) if everyone else []
    rows = [(a, b, draw(st.sampled_from([0.6, 0.75, 0.9]))) for a, b in chosen]
    return assets, pl.DataFrame(rows, schema=MATCHES, orient="row")


@settings(deadline=None, max_examples=60)
@given(case=libraries(), seed=st.integers(0, 99))
def test_the_order_of_the_input_does_not_matter(case, seed):
    assets, matches = case
    shuffled = assets.sample(fraction=1, shuffle=True, seed=seed)
    mixed = matches.sample(fraction=1, shuffle=True, seed=seed)
    assert group_matches(shuffled, mixed).equals(group_matches(assets, matches))


@settings(deadline=None, max_examples=60)
@given(case=libraries())
def test_every_duplicate_matches_its_keeper_itself(case):
    assets, matches = case
    scores = {(a, b): score for a, b, score in matches.rows()}
    groups = group_matches(assets, matches)
    content = dict(assets.select("asset_id", "content").iter_rows())
    ranks = {asset: n for n, asset in enumerate(rank_keepers(assets)["asset_id"])}
    assert groups["asset_id"].is_unique().all(), "no asset in two groups"
    for group in groups.partition_by("group_id"):
        assert group.height >= 2
        assert group["role"].to_list() == ["keeper"] + ["duplicate"] * (group.height - 1)
        keeper = group["asset_id"][0]
        for asset, score, same in group.select("asset_id", "score", "same_pixels").iter_rows():
            assert ranks[keeper] <= ranks[asset]
            assert same == (content[asset] == content[keeper])
            pair = tuple(sorted((content[asset], content[keeper])))
            assert score == (1.0 if same else scores.get(pair))


@settings(deadline=None, max_examples=60)
@given(case=libraries())
def test_nobody_is_left_out_who_could_be_in(case):
    assets, matches = case
    grouped = set(group_matches(assets, matches)["asset_id"])
    content = dict(assets.select("asset_id", "content").iter_rows())
    alone = {content[asset] for asset in content if asset not in grouped}
    lonely = [asset for asset in content if asset not in grouped]
    assert len(alone) == len(lonely), "equal pixels are always together"
    assert not any(a in alone and b in alone for a, b, _ in matches.rows())


def test_chains_do_not_merge():
    assets = library(("a", "a", 90), ("b", "b", 80), ("c", "c", 70), ("d", "d", 60))
    chain = pairs(("a", "b"), ("b", "c"), ("c", "d"))
    assert keys(group_matches(assets, chain)) == [["a", "b"], ["c", "d"]]


def test_a_long_chain_gives_pairs_not_one_group():
    names = [f"c{n:03}" for n in range(300)]
    assets = library(*((name, name, 1000 - n) for n, name in enumerate(names)))
    chain = pairs(*itertools.pairwise(names))
    assert group_matches(assets, chain)["group_id"].n_unique() == 150


def test_the_best_keeper_takes_first():
    assets = library(("big", "x", 100), ("mid", "y", 50), ("small", "z", 10))
    both = pairs(("x", "z"), ("y", "z"))
    assert keys(group_matches(assets, both)) == [["big", "small"]]


def test_copies_stay_together_when_their_partner_is_taken():
    assets = library(("a", "x", 100), ("b", "y", 50), ("b2", "y", 50), ("c", "z", 10))
    both = pairs(("x", "z"), ("y", "z"))
    assert keys(group_matches(assets, both)) == [["a", "c"], ["b", "b2"]]


def test_ids_stay_when_a_worse_member_joins_or_leaves():
    one = library(("a", "x", 100), ("b", "y", 50))
    more = library(("a", "x", 100), ("b", "y", 50), ("c", "z", 40), ("0", "x", 20))
    first = group_matches(one, pairs(("x", "y")))
    second = group_matches(more, pairs(("x", "y"), ("x", "z")))
    assert first["group_id"].unique().to_list() == second["group_id"].unique().to_list()
    assert second.height == 4


def test_the_id_changes_with_the_keeper():
    one = group_matches(library(("a", "x", 100), ("b", "y", 50)), pairs(("x", "y")))
    better = library(("a", "x", 100), ("b", "y", 50), ("c", "z", 900))
    other = group_matches(better, pairs(("x", "y"), ("x", "z"), ("y", "z")))
    assert one["group_id"][0] != other["group_id"][0]
    assert keys(other) == [["c", "a", "b"]]


@pytest.mark.parametrize("matches", [pairs(), pairs(("gone", "lost"))])
def test_nothing_to_group(matches):
    groups = group_matches(library(("a", "x", 1), ("b", "y", 1)), matches)
    assert groups.is_empty()
    full = group_matches(library(("a", "x", 1), ("b", "x", 1)), matches)
    assert groups.schema == full.schema


def test_an_empty_library():
    assert group_matches(library(), pairs()).is_empty()


def test_20000_equal_copies_are_one_group():
    assets = library(*((f"k{n:05}", "logo", 10) for n in range(20_000)), ("near", "x", 5))
    started = time.perf_counter()
    groups = group_matches(assets, pairs(("logo", "x")))
    assert time.perf_counter() - started < 2
    assert groups.height == 20_001
    assert groups["group_id"].n_unique() == 1
    assert groups.filter(pl.col("role") == Role.KEEPER.value)["asset_id"].to_list() == ["id-k00000"]
    assert groups["same_pixels"].sum() == 20_000
