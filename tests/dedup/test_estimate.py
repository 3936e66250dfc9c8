"""Intervals that hold what they should, and samples that are drawn as said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dedup.estimate import (
    EDGES,
    THRESHOLDS,
    Stratum,
    allocate,
    at_thresholds,
    labels_needed,
    precision,
    recall,
    recommend,
    stratum_of,
    wilson,
)

populations = st.lists(st.integers(0, 10**6), min_size=1, max_size=7)


@st.composite
def labelled(draw, fewest: int = 0) -> list[Stratum]:
    """Strata with labels; ``fewest`` in each."""
    return [
        Stratum(
            low,
            draw(st.integers(1, 10**6)),
            draw(st.integers(fewest, 40)),
            draw(st.integers(0, 40)),
            draw(st.integers(0, 5)),
        )
        for low in EDGES[: draw(st.integers(1, 7))]
    ]


def times(strata: list[Stratum], factor: int) -> list[Stratum]:
    """The same answers from so many times the labels."""
    return [
        Stratum(one.low, one.population, one.duplicates * factor, one.distinct * factor)
        for one in strata
    ]


@settings(deadline=None)
@given(labelled())
def test_estimates_lie_within_their_bounds(strata):
    for at in at_thresholds(strata):
        for found in (at.precision, at.recall):
            assert 0.0 <= found.low <= found.high <= 1.0
            assert found.estimate is None or found.low <= found.estimate <= found.high


@settings(deadline=None)
@given(labelled(fewest=1), st.integers(2, 20))
def test_fewer_labels_give_a_wider_interval(strata, factor):
    few, many = precision(strata), precision(times(strata, factor))
    assert few.estimate == pytest.approx(many.estimate)
    assert few.low <= many.low + 1e-12
    assert many.high <= few.high + 1e-12
    assert many.high - many.low < few.high - few.low


@settings(deadline=None)
@given(labelled(fewest=1))
def test_perfect_labels_leave_a_doubt(strata):
    perfect = [Stratum(one.low, one.population, one.duplicates) for one in strata]
    found = precision(perfect)
    assert found.estimate == pytest.approx(1.0)
    assert found.low < 1.0
    assert found.high == pytest.approx(1.0)


@settings(deadline=None)
@given(labelled())
def test_unsure_counts_for_neither_side(strata):
    decided = [Stratum(one.low, one.population, one.duplicates, one.distinct) for one in strata]
    assert at_thresholds(strata) == at_thresholds(decided)


def test_nothing_is_known_without_labels():
    for strata in ([], [Stratum(0.5, 10)], [Stratum(0.5, 0)], [Stratum(0.5, 9, unsure=9)]):
        for found in (precision(strata), recall(strata, 0.5)):
            assert (found.estimate, found.low, found.high) == (None, 0.0, 1.0)
        assert recommend(at_thresholds(strata)) is None


def test_one_stratum_is_wilsons_interval():
    # Newcombe 1998, Statistics in Medicine 17, table I, score method: 81 of 263, 1 of 29, 0 of 20.
    for hits, count, low, high in [
        (81, 263, 0.2553, 0.3662),
        (1, 29, 0.0061, 0.1718),
        (0, 20, 0.0, 0.1611),
    ]:
        assert wilson(hits, count) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
        found = precision([Stratum(0.9, 1000, hits, count - hits)])
        assert (found.low, found.high) == pytest.approx(wilson(hits, count))


def test_strata_count_by_their_population():
    strata = [Stratum(0.8, 900, 5, 5), Stratum(0.9, 100, 10, 0)]
    assert precision(strata).estimate == pytest.approx(0.55)
    assert recall(strata, 0.9).estimate == pytest.approx(100 / 550)


def test_a_stratum_without_labels_widens_the_bounds_by_its_share():
    known, silent = Stratum(0.9, 700, 50, 0), Stratum(0.8, 300)
    one, both = precision([known]), precision([silent, known])
    assert both.low == pytest.approx(0.7 * one.low)
    assert both.high == 1.0
    assert recall([silent, known], 0.9).low < 0.8


def test_a_large_stratum_without_duplicates_leaves_recall_open():
    found = recall([Stratum(0.3, 100_000, 0, 17), Stratum(0.95, 3000, 17, 0)], 0.95)
    assert (found.estimate, found.high) == (1.0, 1.0)
    assert found.low < 0.2
    everything = recall([Stratum(0.5, 5000, 3, 27), Stratum(0.9, 300, 29, 1)], 0.5)
    assert (everything.low, everything.high) == (1.0, 1.0)


@settings(deadline=None)
@given(labelled(fewest=1), st.integers(2, 20))
def test_fewer_labels_leave_recall_wider(strata, factor):
    few, many = recall(strata, 0.7), recall(times(strata, factor), 0.7)
    assert few.estimate == pytest.approx(many.estimate)
    assert few.low <= many.low + 1e-9
    assert many.high <= few.high + 1e-9


def test_bounds_cover_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(7)
    sizes, shares = (4000, 300, 200, 600, 2500), (0.02, 0.5, 0.8, 0.97, 0.995)
    truth = sum(n * p for n, p in zip(sizes[2:], shares[2:], strict=True)) / sum(sizes[2:])
    all_of_them = sum(n * p for n, p in zip(sizes, shares, strict=True))
    reached = truth * sum(sizes[2:]) / all_of_them
    held = np.zeros(2)
    for _ in range(1000):
        hits = [int(random.binomial(40, share)) for share in shares]
        strata = [
            Stratum(low, n, d, 40 - d)
            for low, n, d in zip((0.3, 0.5, 0.7, 0.9, 0.95), sizes, hits, strict=True)
        ]
        for number, (found, value) in enumerate(
            [(precision(strata[2:]), truth), (recall(strata, 0.7), reached)]
        ):
            held[number] += found.low <= value <= found.high
    # Wilson's intervals hold 95 % on average, a little less for shares near 1.
    assert (held / 1000 >= 0.91).all(), held


def test_the_lowest_threshold_that_is_sure_is_recommended():
    strata = [Stratum(0.5, 100, 0, 50), Stratum(0.8, 10, 30, 0), Stratum(0.95, 9000, 900, 0)]
    assert recommend(at_thresholds(strata)) == 0.6
    assert recommend(at_thresholds(strata[:2])) is None


@settings(deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_labels_needed_are_just_enough(sizes):
    strata = [Stratum(0.5 + n / 20, size) for n, size in enumerate(sizes)]
    needed = labels_needed(strata)

    def lowest(count: int) -> float:
        return precision([Stratum(one.low, one.population, count) for one in strata]).low

    assert lowest(needed) >= 0.99 - 1e-9
    assert lowest(needed - 1) < 0.99
    assert labels_needed([Stratum(0.95, 7)]) == 381


@settings(max_examples=300, deadline=None)
@given(populations, st.integers(0, 3000))
def test_equal_numbers_where_there_are_enough(sizes, wanted):
    drawn = allocate(sizes, wanted)
    assert all(0 <= n <= size for n, size in zip(drawn, sizes, strict=True))
    assert all(n for n, size in zip(drawn, sizes, strict=True) if size)
    if wanted >= len(sizes):
        assert sum(drawn) == min(wanted, sum(sizes))
        cut = [n for n, size in zip(drawn, sizes, strict=True) if n < size]
        assert not cut or max(drawn) - min(cut) <= 1


def test_scores_fall_into_strata():
    scores = [0.2999, 0.3, 0.5, np.float32(0.7), 0.6999, 0.95, 0.9499, 1.0]
    assert stratum_of(scores).tolist() == [-1, 0, 1, 3, 2, 6, 5, 6]
    assert THRESHOLDS == (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
