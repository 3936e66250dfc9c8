"""Groups that hold together."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dedup.groups import bridging_pairs, group_matches, inner_pairs
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
    rows = [(a, b, draw(st.sampled_from([0.0, 0.6, 0.69, 0.7, 0.75, 0.99]))) for a, b in chosen]
    return assets, pl.DataFrame(rows, schema=MATCHES, orient="row")


def boxed(*found: tuple[str, str, tuple[float, ...], tuple[float, ...]]) -> pl.DataFrame:
    """Pairs with the places where they meet, in left and in right."""
    schema = MATCHES | {"box_left": pl.List(pl.Float64), "box_right": pl.List(pl.Float64)}
    rows = [(left, right, 0.8, list(one), list(two)) for left, right, one, two in found]
    return pl.DataFrame(rows, schema=schema, orient="row")


def ranks_of(assets: pl.DataFrame) -> pl.DataFrame:
    """As the match stage ranks contents."""
    ranked = rank_keepers(assets).with_row_index("rank")
    return ranked.group_by("content").agg(pl.col("rank").min())


def settled(
    ranks: pl.DataFrame, known: pl.DataFrame, truth: Callable[[str, str], float]
) -> tuple[pl.DataFrame, int]:
    """Known pairs and those asked until nothing is left to ask; and in how many rounds."""
    for rounds in range(30):
        missing = bridging_pairs(ranks, known)
        if missing.is_empty():
            return known, rounds
        assert (missing["left"] < missing["right"]).all()
        assert missing.join(known, on=["left", "right"], how="semi").is_empty(), "asked twice"
        scores = [truth(left, right) for left, right in missing.iter_rows()]
        asked = missing.with_columns(pl.Series("score", scores, dtype=pl.Float32))
        known = pl.concat([known, asked])
    raise AssertionError("30 rounds do not do")


@settings(deadline=None, max_examples=40)
@given(case=libraries(), seed=st.integers(0, 99))
def test_the_order_of_the_input_does_not_matter(case, seed):
    assets, matches = case
    shuffled = assets.sample(fraction=1, shuffle=True, seed=seed)
    mixed = matches.sample(fraction=1, shuffle=True, seed=seed)
    assert group_matches(shuffled, mixed).equals(group_matches(assets, matches))


@settings(deadline=None, max_examples=40)
@given(case=libraries())
def test_every_duplicate_matches_its_keeper_itself(case):
    assets, matches = case
    scores = {(a, b): score for a, b, score in matches.rows() if score >= np.float32(0.7)}
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
            assert score == (1.0 if same else scores.get(pair)), "0.7 with the keeper, or equal"


@settings(deadline=None, max_examples=40)
@given(case=libraries())
def test_nobody_is_left_out_who_could_be_in(case):
    assets, matches = case
    grouped = set(group_matches(assets, matches)["asset_id"])
    content = dict(assets.select("asset_id", "content").iter_rows())
    alone = {content[asset] for asset in content if asset not in grouped}
    lonely = [asset for asset in content if asset not in grouped]
    assert len(alone) == len(lonely), "equal pixels are always together"
    strong = matches.filter(pl.col("score") >= np.float32(0.7)).rows()
    assert not any(a in alone and b in alone for a, b, _ in strong)


@settings(deadline=None, max_examples=40)
@given(case=libraries(), seed=st.integers(0, 99))
def test_asking_ends_and_does_not_depend_on_the_order(case, seed):
    assets, matches = case
    assets = assets if assets.height else library(("a", "a", 1))
    known = matches.join(ranks_of(assets), left_on="left", right_on="content", how="semi")
    known = known.join(ranks_of(assets), left_on="right", right_on="content", how="semi")

    def truth(left: str, right: str) -> float:
        return random.Random(f"{seed} {left} {right}").choice([0.0, 0.65, 0.8])

    pairs_, _ = settled(ranks_of(assets), known, truth)
    mixed, _ = settled(
        ranks_of(assets).sample(fraction=1, shuffle=True, seed=seed),
        known.sample(fraction=1, shuffle=True, seed=seed),
        truth,
    )
    assert mixed.sort("left", "right").equals(pairs_.sort("left", "right"))
    assert group_matches(assets, mixed).equals(group_matches(assets, pairs_))


@settings(deadline=None, max_examples=40)
@given(
    homes=st.lists(st.integers(0, 2), min_size=2, max_size=16),
    seed=st.integers(0, 99),
)
def test_copies_of_one_picture_become_one_group(homes, seed):
    """Where every pair of one picture matches, a chain of candidates is enough to find them all."""
    rng = random.Random(seed)
    names = [f"c{n:02}" for n in range(len(homes))]
    widths = rng.sample(range(1, 100), len(names))
    assets = library(*((name, name, width) for name, width in zip(names, widths, strict=True)))
    home = dict(zip(names, homes, strict=True))
    chains = []
    for which in set(homes):
        members = [name for name in names if home[name] == which]
        rng.shuffle(members)
        chains += itertools.pairwise(members)
    found, _ = settled(
        ranks_of(assets), pairs(*chains), lambda left, right: 0.8 * (home[left] == home[right])
    )
    groups = keys(group_matches(assets, found))
    together = [sorted(name for name in names if home[name] == which) for which in set(homes)]
    assert sorted(map(sorted, groups)) == sorted(part for part in together if len(part) > 1)


@pytest.mark.parametrize("score", [0.0, 0.5, 0.69])
def test_pairs_below_a_copy_join_nothing(score):
    assets = library(("a", "a", 90), ("b", "b", 80), ("c", "c", 70))
    weak = pairs(("a", "b"), ("b", "c")).with_columns(score=pl.lit(score, pl.Float32))
    assert group_matches(assets, weak).is_empty()
    assert bridging_pairs(ranks_of(assets), weak).is_empty()


def test_a_pair_at_the_limit_joins():
    limit = pairs(("a", "b")).with_columns(score=pl.lit(0.7, pl.Float32))
    assert keys(group_matches(library(("a", "a", 2), ("b", "b", 1)), limit)) == [["a", "b"]]


def test_members_are_offered_to_the_better_keeper():
    assets = library(("a", "a", 90), ("b", "b", 80), ("c", "c", 70), ("d", "d", 60))
    chain = pairs(("a", "b"), ("b", "c"), ("c", "d"))
    asked = bridging_pairs(ranks_of(assets), chain)
    assert asked.rows() == [("a", "c")]
    refused = pl.concat([chain, pairs(("a", "c")).with_columns(score=pl.lit(0.1, pl.Float32))])
    assert bridging_pairs(ranks_of(assets), refused).is_empty(), "a refusal is an answer"
    assert keys(group_matches(assets, refused)) == [["a", "b"], ["c", "d"]]
    joined = pl.concat([chain, pairs(("a", "c"))])
    assert bridging_pairs(ranks_of(assets), joined).rows() == [("a", "d")]


def test_a_member_that_matches_few_is_compared_with_the_best_of_its_group():
    """A collage is found through one edit of a picture, and shows the picture as well."""
    names = [chr(ord("a") + number) for number in range(9)]
    assets = library(*[(name, name, 90 - number) for number, name in enumerate(names)])
    everyone = [(a, b) for a in names[:8] for b in names[:8] if a < b]
    known = pairs(*everyone, ("a", "i"))
    ranks = ranks_of(assets)
    assert bridging_pairs(ranks, known).is_empty()
    asked = inner_pairs(ranks, known)
    assert asked.rows() == [(name, "i") for name in "bcdefgh"], "those that match many ask nothing"
    answers = asked.with_columns(score=pl.lit(0.1, pl.Float32))
    assert inner_pairs(ranks, pl.concat([known, answers])).is_empty(), "a refusal is an answer"


def test_a_large_group_asks_for_its_best_members_alone():
    names = [f"{number:03}" for number in range(200)]
    assets = library(*[(name, name, 900 - number) for number, name in enumerate(names)])
    star = pairs(*[("000", name) for name in names[1:]])
    asked = inner_pairs(ranks_of(assets), star)
    assert asked.height == 11 * 10 // 2 + 11 * 188
    assert set(asked["left"]) == set(names[1:12])


@settings(deadline=None, max_examples=40)
@given(case=libraries())
def test_inner_pairs_are_asked_once_and_lie_in_one_group(case):
    assets, known = case
    ranks = ranks_of(assets)
    asked = inner_pairs(ranks, known)
    assert (asked["left"] < asked["right"]).all()
    assert asked.is_unique().all()
    assert asked.join(known, on=["left", "right"], how="semi").is_empty()
    homes = group_matches(assets, known).join(assets.select("asset_id", "content"), on="asset_id")
    home = dict(homes.select("content", "group_id").iter_rows())
    assert all(home[left] == home[right] for left, right in asked.iter_rows())


@settings(deadline=None, max_examples=40)
@given(case=libraries())
def test_refusals_that_are_known_elsewhere_need_not_be_handed_in(case):
    assets, known = case
    ranks = ranks_of(assets)
    refused = known.filter(pl.col("score") < 0.5)
    told = known.filter(pl.col("score") >= 0.5)

    def unasked(wishes: pl.DataFrame) -> pl.DataFrame:
        return wishes.join(refused, on=["left", "right"], how="anti", maintain_order="left")

    assert bridging_pairs(ranks, told, unasked).equals(bridging_pairs(ranks, known))


def test_nothing_to_ask():
    none = bridging_pairs(ranks_of(library()), pairs())
    assert none.is_empty()
    assert none.schema == {"left": pl.String, "right": pl.String}


def test_3000_copies_in_a_ring_cost_few_pairs():
    count, near = 3000, 5
    names = [f"c{n:04}" for n in range(count)]
    widths = random.Random(1).sample(range(1, 10 * count), count)
    assets = library(*((name, name, width) for name, width in zip(names, widths, strict=True)))
    ring = {
        tuple(sorted((names[n], names[(n + step) % count])))
        for n in range(count)
        for step in range(1, near + 1)
    }
    found, rounds = settled(ranks_of(assets), pairs(*sorted(ring)), lambda left, right: 0.8)
    asked = found.height - len(ring)
    assert asked <= 5 * count, f"{asked} pairs in {rounds} rounds"
    groups = group_matches(assets, found)
    assert groups["group_id"].n_unique() == 1
    assert groups.height == count


UPPER_LEFT, LOWER_RIGHT = (0.0, 0.0, 0.45, 0.45), (0.55, 0.55, 1.0, 1.0)
WHOLE = (0.0, 0.0, 1.0, 1.0)


def test_a_collage_does_not_join_what_it_shows():
    assets = library(("collage", "c", 100), ("one", "a", 50), ("two", "b", 40))
    apart = boxed(("a", "c", WHOLE, UPPER_LEFT), ("b", "c", WHOLE, LOWER_RIGHT))
    assert keys(group_matches(assets, apart)) == [["collage", "one"]]


def test_copies_of_one_part_of_a_collage_stay_together():
    assets = library(("collage", "c", 100), ("one", "a", 50), ("two", "b", 40), ("all", "d", 30))
    close = (0.02, 0.01, 0.44, 0.47)
    together = boxed(
        ("a", "c", WHOLE, UPPER_LEFT), ("b", "c", WHOLE, close), ("c", "d", WHOLE, WHOLE)
    )
    assert keys(group_matches(assets, together)) == [["collage", "all", "one", "two"]]


def test_large_crops_of_a_keeper_need_not_meet_a_small_one():
    assets = library(("whole", "w", 100), ("most", "a", 50), ("corner", "b", 40))
    found = boxed(("a", "w", WHOLE, (0.0, 0.0, 0.8, 0.8)), ("b", "w", WHOLE, (0.81, 0.81, 1, 1)))
    assert keys(group_matches(assets, found)) == [["whole", "corner", "most"]]


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
    groups = group_matches(assets, pairs(("logo", "x")))
    assert groups.height == 20_001
    assert groups["group_id"].n_unique() == 1
    assert groups.filter(pl.col("role") == Role.KEEPER.value)["asset_id"].to_list() == ["id-k00000"]
    assert groups["same_pixels"].sum() == 20_000
