"""Candidate pairs against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dedup.pairs import close_pairs


def unit(count: int, dim: int, seed: int) -> np.ndarray:
    """Unit vectors, a third of them near copies of others."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, dim))
    for row in range(0, count, 3):
        vectors[row] = vectors[random.integers(count)] + random.normal(size=dim) * 0.05
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def found(vectors: np.ndarray, queries: int, floor: float, block: int) -> list[tuple[int, int]]:
    pairs = []
    for part in close_pairs(vectors, queries, floor, block=block):
        pairs += zip(part.left.tolist(), part.right.tolist(), strict=True)
    return pairs


def brute(vectors: np.ndarray, queries: int, floor: float) -> dict[tuple[int, int], float]:
    scores = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    return {
        (i, j): scores[i, j]
        for i in range(len(vectors))
        for j in range(i + 1, len(vectors))
        if i < queries and scores[i, j] >= floor
    }


@settings(deadline=None)
@given(data=st.data(), count=st.integers(0, 70), seed=st.integers(0, 1000))
def test_equals_brute_force(data, count, seed):
    queries = data.draw(st.integers(0, count))
    block = data.draw(st.integers(1, 80))
    floor = data.draw(st.floats(-0.95, 0.999))
    vectors = unit(count, 8, seed)
    pairs = found(vectors, queries, floor, block)
    assert len(pairs) == len(set(pairs)), "each pair once"
    assert all(left < right for left, right in pairs)
    sure = brute(vectors, queries, floor + 1e-5)  # a pair on the floor itself may go either way
    possible = brute(vectors, queries, floor - 1e-5)
    assert set(sure) <= set(pairs) <= set(possible)


@pytest.mark.parametrize("block", [1, 7, 16, 100])
def test_cosines_belong_to_their_pairs(block):
    vectors = unit(40, 16, 3)
    wanted = brute(vectors, 25, 0.5)
    assert len(wanted) > 5
    for part in close_pairs(vectors, 25, 0.5, block=block):
        for left, right, cosine in zip(part.left, part.right, part.cosine, strict=True):
            assert cosine == pytest.approx(wanted[left, right], abs=1e-5)
            assert cosine <= 1


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 60), block=st.integers(1, 70), share=st.floats(0, 1))
def test_incremental_and_rest_make_a_full_scan(count, block, share):
    vectors = unit(count, 8, count)
    late = int(count * share)
    full = set(found(vectors, count, 0.6, block))
    news = set(found(vectors, late, 0.6, block))
    before = {(a + late, b + late) for a, b in found(vectors[late:], count - late, 0.6, block)}
    assert news | before == full
    assert not news & before


def test_spans_and_progress_cover_all_queries():
    told: list[int] = []
    vectors = unit(50, 8, 1)
    spans = [part.queries for part in
             close_pairs(vectors, 45, 0.5, block=20, progress=told.append)]  # fmt: skip
    assert spans == [(0, 20), (20, 40), (40, 45)]
    assert told == [20, 40, 45]


def test_no_queries_give_nothing():
    assert list(close_pairs(unit(5, 8, 1), 0, 0.5)) == []
