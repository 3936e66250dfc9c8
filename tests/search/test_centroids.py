"""Lists made in cells: exact among what is looked at, and the same whatever came when."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.bench.vectors import collection
from tasks.search import ivf_join as join
from tasks.search.centroids import (
    nearest_cells,
    nearest_cosines,
    reorder,
    share_found,
    train_centroids,
)
from tasks.search.ivf_join import CellOrder, nearest_in_cells
from tasks.search.pca_bounds import ROUGHNESS, sketch

DIM = 16
Lists = dict[int, dict[int, float]]


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def clustered(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(count // 12, 1), DIM))
    return unit(centres[rng.integers(0, len(centres), count)] + 0.4 * rng.normal(size=(count, DIM)))


def cut(found: dict[int, float], rank: np.ndarray, k: int) -> dict[int, float]:
    return dict(sorted(found.items(), key=lambda e: (-round(e[1], 4), rank[e[0]]))[:k])


def joined(vectors, order: CellOrder, k: int, block: int) -> Lists:
    found: Lists = {}
    for part in nearest_in_cells(vectors, order, k, block=block):
        for owner, neighbour, cosine in zip(part.owner, part.neighbour, part.cosine, strict=True):
            assert owner != neighbour, "nobody is a neighbour of itself"
            found.setdefault(int(owner), {})[int(neighbour)] = float(cosine)
    return found


def everything(probes: np.ndarray) -> CellOrder:
    rows = len(probes)
    return CellOrder(probes, np.ones(rows, bool), np.zeros(rows, np.float32), np.arange(rows))


def in_cells(count: int, cells: int, probes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors in the order of their own cells, and the cells each looks into."""
    vectors = clustered(count, seed)
    near = nearest_cells(vectors, train_centroids(vectors, cells), probes)
    by_cell = np.argsort(near[:, 0], kind="stable")
    return vectors[by_cell], near[by_cell]


def brute(vectors: np.ndarray, probes: np.ndarray, k: int) -> Lists:
    cosines = vectors.astype(np.float32) @ vectors.astype(np.float32).T
    lists = {}
    for row, looked in enumerate(probes):
        seen = [
            other for other in range(len(vectors)) if other != row and probes[other, 0] in looked
        ]
        lists[row] = cut({o: float(cosines[row, o]) for o in seen}, np.arange(len(vectors)), k)
    return lists


def same(one: Lists, other: Lists) -> bool:
    rows = one.keys() | other.keys()
    return all(
        sorted(one.get(row, {}).values())
        == pytest.approx(sorted(other.get(row, {}).values()), abs=2e-4)
        for row in rows
    )


SIZES = {
    "count": st.integers(2, 90),
    "cells": st.integers(1, 9),
    "probes": st.integers(1, 6),
    "k": st.integers(1, 20),
    "block": st.integers(1, 100),
    "seed": st.integers(0, 500),
}


@settings(deadline=None, max_examples=30)
@given(**SIZES)
def test_lists_are_the_nearest_of_what_is_looked_at(count, cells, probes, k, block, seed):
    vectors, near = in_cells(count, min(cells, count), probes, seed)
    found = joined(vectors, everything(near), k, block)
    wanted = brute(vectors, near, k)
    assert same(found, wanted)
    exact = vectors.astype(np.float32) @ vectors.astype(np.float32).T
    for row, listed in found.items():
        for other, cosine in listed.items():
            assert near[other, 0] in near[row]
            assert cosine == pytest.approx(exact[row, other], abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(**SIZES, share=st.floats(0, 1))
def test_new_rows_enter_older_lists_as_if_all_came_at_once(
    count, cells, probes, k, block, seed, share
):
    vectors, near = in_cells(count, min(cells, count), probes, seed)
    new = np.random.default_rng(seed).random(count) < share
    rank = np.arange(count)
    old = np.flatnonzero(~new)
    before = joined(vectors[old], everything(near[old]), k, block)
    older = {
        int(old[row]): {int(old[n]): c for n, c in found.items()} for row, found in before.items()
    }
    ends = np.zeros(count, np.float32)
    for row in old.tolist():
        listed = older.setdefault(row, {})
        ends[row] = min(listed.values()) if len(listed) == k else -1.0
    found = joined(vectors, CellOrder(near, new, ends, rank), k, block)
    merged = {row: cut(older.get(row, {}) | found.get(row, {}), rank, k) for row in range(count)}
    assert same(merged, brute(vectors, near, k))


def test_all_cells_are_everything():
    vectors, near = in_cells(80, 8, 8, 3)
    found = joined(vectors, everything(near), 5, 33)
    best = nearest_cosines(vectors, np.arange(80), 5)
    for row, cosines in enumerate(best):
        assert sorted(found[row].values(), reverse=True) == pytest.approx(
            cosines.tolist(), abs=2e-4
        )


def test_equal_cosines_go_by_rank():
    vectors = np.repeat(clustered(1, 0), 40, axis=0)
    near = np.zeros((40, 1), np.uint16)
    rank = np.random.default_rng(0).permutation(40)
    order = CellOrder(near, np.ones(40, bool), np.zeros(40, np.float32), rank)
    found = joined(vectors, order, 6, 7)
    for row, listed in found.items():
        first = [other for other in np.argsort(rank).tolist() if other != row][:6]
        assert set(listed) == set(first)


def test_cells_are_always_the_same_and_none_is_empty():
    vectors = clustered(400, 1)
    centres = train_centroids(vectors, 20)
    assert (train_centroids(vectors, 20) == centres).all()
    assert np.linalg.norm(centres, axis=1) == pytest.approx(np.ones(20), abs=1e-4)
    own_cells = nearest_cells(vectors, centres, 1)[:, 0]
    assert len(np.unique(own_cells)) >= 18


def test_cells_of_equal_vectors():
    vectors = np.repeat(clustered(1, 0), 30, axis=0)
    centres = train_centroids(vectors, 4)
    assert np.isfinite(centres).all()
    assert np.isfinite(nearest_cells(vectors, centres, 9)).all()


@settings(deadline=None, max_examples=50)
@given(
    count=st.integers(2, 60),
    dim=st.integers(1, 70),
    seed=st.integers(0, 500),
    fall=st.sampled_from([0.0, 0.5, 2.0]),
    same=st.booleans(),
)
def test_a_sketch_never_says_less_than_the_cosine(count, dim, seed, fall, same):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, dim)) * np.arange(1, dim + 1) ** -fall
    vectors = unit(rows[:1] + 0.01 * rows if same else rows)
    found = sketch(vectors)
    everyone = found.floats(slice(0, count), "cpu").numpy()
    exact = vectors.astype(np.float32) @ vectors.astype(np.float32).T
    assert (everyone @ everyone.T >= exact - ROUGHNESS).all()
    assert everyone.shape[1] - 1 <= max(1, dim // 2)


def test_sketches_spare_most_products():
    vectors = collection(6000, 128, 5)
    near = nearest_cells(vectors, train_centroids(vectors, 12), 12)
    by_cell = np.argsort(near[:, 0], kind="stable")
    vectors, near = vectors[by_cell], near[by_cell]
    multiplied = sum(part.multiplied for part in nearest_in_cells(vectors, everything(near), 5))
    own_cells = (np.bincount(near[:, 0]) ** 2).sum()
    assert own_cells <= multiplied < 0.35 * 6000**2


def test_many_who_look_are_found_in_portions(monkeypatch):
    vectors, near = in_cells(200, 9, 4, 7)
    new = np.arange(200) % 3 == 0
    order = CellOrder(near, new, np.full(200, -1, np.float32), np.arange(200))
    whole = joined(vectors, order, 4, 50)
    monkeypatch.setattr(join, "_LOOKED", 10)
    monkeypatch.setattr(join, "_BLOCK", 7)
    monkeypatch.setattr(join, "_WAITING", 3)
    assert joined(vectors, order, 4, 50) == whole


def test_reordering_in_place():
    vectors = clustered(50, 2)
    order = np.random.default_rng(0).permutation(50)
    wanted = vectors[order]
    reorder(vectors, order)
    assert (vectors == wanted).all()


def test_shares_count_what_lists_hold():
    best = np.array([[0.9, 0.8, 0.7], [0.9, 0.5, -2.0]], np.float32)
    assert share_found(best, [[0.9, 0.8, 0.7], [0.5, 0.9]]) == (1.0, 1.0)
    assert share_found(best, [[0.9, 0.7], None]) == (pytest.approx(2 / 5), 0.5)
    assert share_found(best[:0], []) == (1.0, 1.0)
