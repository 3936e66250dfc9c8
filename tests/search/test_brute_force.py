"""Nearest neighbours against brute force."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.search import apart as pairs
from tasks.search.brute_force import nearest
from tasks.search.half_products import nearest_by_halves

#: Products of other blocks differ in the last bits: neighbours this close may change places.
ROUNDING = 2e-4
Lists = dict[int, dict[int, float]]
#: The way of a GPU, here on a CPU, with so little memory that products are made in parts.
HALVES = partial(nearest_by_halves, device="cpu", memory=1)
BOTH_WAYS = pytest.mark.parametrize("find", [nearest, HALVES], ids=["floats", "halves"])


def unit(count: int, dim: int, seed: int) -> np.ndarray:
    """Unit vectors, a third of them near copies of others."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, dim))
    for row in range(0, count, 3):
        vectors[row] = vectors[random.integers(count)] + random.normal(size=dim) * 0.05
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def entries(
    vectors: np.ndarray, queries: int, k: int, kth: np.ndarray, block: int, find=nearest
) -> Lists:
    """Everything ``nearest`` says: owner to neighbour to cosine."""
    found: Lists = {}
    for part in find(vectors, queries, k, kth, np.arange(len(vectors)), block=block):
        assert len(part.owner) == len(part.neighbour) == len(part.cosine)
        for owner, neighbour, cosine in zip(part.owner, part.neighbour, part.cosine, strict=True):
            assert owner != neighbour, "nobody is a neighbour of itself"
            found.setdefault(int(owner), {})[int(neighbour)] = float(cosine)
    return found


def cut(found: dict[int, float], k: int) -> dict[int, float]:
    return dict(sorted(found.items(), key=lambda entry: (-round(entry[1], 4), entry[0]))[:k])


def full(vectors: np.ndarray, k: int, block: int, find=nearest) -> Lists:
    nobody = np.zeros(0, np.float32)
    found = entries(vectors, len(vectors), k, nobody, block, find)
    return {row: cut(found.get(row, {}), k) for row in range(len(vectors))}


def assert_nearest(lists: Lists, vectors: np.ndarray, k: int) -> None:
    """Each list is the row's k nearest, up to ties at its end."""
    scores = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    for row, found in lists.items():
        others = np.delete(np.arange(len(vectors)), row)
        best = np.sort(scores[row, others])[::-1][:k]
        assert len(found) == len(best)
        assert sorted(found.values(), reverse=True) == pytest.approx(best.tolist(), abs=ROUNDING)
        for neighbour, cosine in found.items():
            assert cosine == pytest.approx(scores[row, neighbour], abs=1e-5)
        if len(best):
            sure = others[scores[row, others] > best[-1] + ROUNDING]
            assert set(sure.tolist()) <= set(found)


@BOTH_WAYS
@settings(deadline=None, max_examples=35)
@given(
    count=st.integers(0, 70),
    k=st.integers(1, 30),
    block=st.integers(1, 80),
    seed=st.integers(0, 1000),
)
def test_lists_equal_brute_force_whatever_the_block(find, count, k, block, seed):
    vectors = unit(count, 8, seed)
    assert_nearest(full(vectors, k, block, find), vectors, k)


@BOTH_WAYS
@settings(deadline=None, max_examples=35)
@given(
    count=st.integers(2, 60),
    share=st.floats(0, 1),
    k=st.integers(1, 12),
    block=st.integers(1, 70),
    seed=st.integers(0, 1000),
)
def test_new_rows_enter_older_lists_as_if_all_came_at_once(find, count, share, k, block, seed):
    vectors = unit(count, 8, seed)
    new = int(count * share)
    old = full(vectors[new:], k, block, find)
    older = {row + new: {n + new: c for n, c in found.items()} for row, found in old.items()}
    whole = min(k, count - 1)
    ends = [min(found.values()) if len(found) == whole else -1.0 for found in older.values()]
    found = entries(vectors, new, k, np.array(ends, np.float32), block, find)
    merged = {row: cut(older.get(row, {}) | found.get(row, {}), k) for row in range(count)}
    assert_nearest(merged, vectors, k)


@BOTH_WAYS
def test_equal_vectors_are_each_others_neighbours(find):
    vectors = np.repeat(unit(1, 8, 0), 30, axis=0)
    lists = full(vectors, 5, 7, find)
    assert all(len(found) == 5 for found in lists.values())
    assert min(min(found.values()) for found in lists.values()) > 0.998


@BOTH_WAYS
def test_rows_far_from_an_older_list_stay_out_of_it(find):
    vectors = np.eye(6, dtype=np.float16)
    ends = np.full(4, 0.5, np.float32)
    found = entries(vectors, 2, 3, ends, 4, find)
    assert set(found) == {0, 1}


@BOTH_WAYS
def test_spans_and_progress_cover_all_queries(find):
    told: list[int] = []
    vectors = unit(50, 8, 1)
    ends = np.full(5, -1.0, np.float32)
    parts = find(vectors, 45, 4, ends, np.arange(len(vectors)), block=20, progress=told.append)
    assert [part.queries for part in parts] == [(0, 20), (20, 40), (40, 45)]
    assert told == [20, 40, 45]


@BOTH_WAYS
def test_no_queries_give_nothing(find):
    assert list(find(unit(5, 8, 1), 0, 3, np.zeros(5, np.float32), np.arange(5))) == []


def brute(vectors: np.ndarray, sides: np.ndarray, k: int) -> Lists:
    """The k nearest of each row among those that lie across from it."""
    scores = vectors.astype(np.float32) @ vectors.astype(np.float32).T
    lists: Lists = {}
    for row, side in enumerate(sides):
        facing = {1: (2, 3), 2: (1, 3), 3: (1, 2, 3)}[int(side)]
        there = [at for at, other in enumerate(sides) if at != row and other in facing]
        lists[row] = cut({at: float(scores[row, at]) for at in there}, k)
    return lists


@BOTH_WAYS
@settings(deadline=None, max_examples=50)
@given(
    sides=st.lists(st.sampled_from([1, 1, 1, 2, 3]), min_size=1, max_size=60),
    share=st.floats(0, 1),
    k=st.integers(1, 12),
    block=st.integers(1, 70),
    seed=st.integers(0, 1000),
    ordered=st.booleans(),
)
def test_lists_across_hold_only_the_other_side(find, sides, share, k, block, seed, ordered):
    of = np.array(sorted(sides) if ordered else sides, np.uint8)
    vectors = unit(len(of), 8, seed)
    new = int(len(of) * share)
    older = {
        row + new: {n + new: c for n, c in found.items()}
        for row, found in brute(vectors[new:], of[new:], k).items()
    }
    whole = min(k, len(of) - 1)
    ends = [min(found.values()) if len(found) == whole > 0 else -1.0 for found in older.values()]
    found: Lists = {}
    for part in find(
        vectors, new, k, np.array(ends, np.float32), np.arange(len(of)), block=block, sides=of
    ):
        for owner, neighbour, cosine in zip(part.owner, part.neighbour, part.cosine, strict=True):
            found.setdefault(int(owner), {})[int(neighbour)] = float(cosine)
    merged = {row: cut(older.get(row, {}) | found.get(row, {}), k) for row in range(len(of))}
    for row, best in brute(vectors, of, k).items():
        assert sorted(merged[row].values()) == pytest.approx(sorted(best.values()), abs=ROUNDING)
        for other in merged[row]:
            assert {int(of[row]), int(of[other])} not in ({1}, {2}), "not across"


@BOTH_WAYS
def test_equal_vectors_across_are_taken_by_rank_on_the_other_side(find):
    vectors = np.repeat(unit(1, 8, 0), 60, axis=0)
    sides = np.array([1] * 30 + [2] * 30, np.uint8)
    nobody = np.zeros(0, np.float32)
    found: Lists = {}
    for part in find(vectors, 60, 4, nobody, np.arange(60), block=16, sides=sides):
        for owner, neighbour, cosine in zip(part.owner, part.neighbour, part.cosine, strict=True):
            found.setdefault(int(owner), {})[int(neighbour)] = float(cosine)
    for row in range(60):
        first = 30 if row < 30 else 0
        assert list(cut(found[row], 4)) == [first, first + 1, first + 2, first + 3]


@BOTH_WAYS
def test_blocks_of_one_side_are_never_multiplied(find, monkeypatch):
    """A small delivery against a large archive costs the one times the other, not the square."""
    multiplied, real = [], pairs.Apart.bar

    def bar(apart, scores, first, start):
        multiplied.append(scores.shape)
        real(apart, scores, first, start)

    monkeypatch.setattr(pairs.Apart, "bar", bar)
    sides = np.array([1] * 128 + [2] * 1280, np.uint8)
    nobody = np.zeros(0, np.float32)
    parts = find(unit(1408, 8, 3), 1408, 4, nobody, np.arange(1408), block=128, sides=sides)
    assert sum(len(part.owner) for part in parts) >= 1408 * 4
    assert sum(rows * columns for rows, columns in multiplied) == 2 * 128 * 1280


def test_halves_that_cannot_tell_neighbours_apart_are_compared_in_full():
    """Two hundred vectors whose cosines to a query differ by less than a half can hold."""
    random = np.random.default_rng(5)
    way = random.normal(size=(200, 64))
    centre = random.normal(size=64)
    near = centre / np.linalg.norm(centre) + way * np.linspace(0.004, 0.008, 200)[:, None]
    vectors = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float16)
    products = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    lists = full(vectors, 5, 64, HALVES)
    assert_nearest(lists, vectors, 5)
    for row, found in lists.items():
        order = np.argsort(-np.delete(products[row], row).round(4), kind="stable")
        assert list(found) == np.delete(np.arange(200), row)[order][:5].tolist()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("memory", [None, 1 << 22])
def test_lists_of_a_gpu_are_those_of_a_cpu(memory):
    vectors = unit(20_000, 256, 3)
    ours = full(vectors, 30, 2048, partial(nearest_by_halves, device="cuda", memory=memory))
    theirs = full(vectors, 30, 2048)
    for row, found in theirs.items():
        assert sorted(ours[row].values()) == pytest.approx(sorted(found.values()), abs=ROUNDING)
        end = min(found.values()) + ROUNDING
        assert {n for n, c in found.items() if c > end} <= set(ours[row])
