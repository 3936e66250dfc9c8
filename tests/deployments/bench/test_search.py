"""The measurement of search modes: its collections, and what it says of small ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from deployments.bench.vectors import COPIES, collection, copies
from deployments.cli.main import app

RUN = CliRunner()


def test_collections_are_clustered_and_hold_planted_copies():
    vectors = collection(4000, 64, 3).astype(np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4000), abs=2e-3)
    assert (collection(4000, 64, 3) == vectors.astype(np.float16)).all()
    assert (collection(4000, 64, 4) != vectors.astype(np.float16)).any()
    first = 4000 - int(4000 * COPIES)
    best = (vectors[first:] @ vectors[:first].T).max(1)
    assert best.min() > 0.79
    assert np.mean(best < 0.9) > 0.3, "at all cosines from 0.8"
    others = (vectors[:500] @ vectors[500:1000].T).ravel()
    assert others.mean() < 0.2
    assert np.quantile(others, 0.999) > 0.5, "subjects lie close together"


def test_copies_lie_where_they_are_planted():
    rng = np.random.default_rng(0)
    rows = collection(500, 64, 1).astype(np.float32)
    made = copies(rows, rng)
    cosines = (rows * made).sum(1)
    assert 0.79 < cosines.min() < 0.83
    assert cosines.max() > 0.97


@pytest.mark.long
def test_every_mode_and_engine_is_measured():
    ran = RUN.invoke(app, ["bench", "search", "--sizes", "1000,12000", "--dim", "32", "--json"])
    assert ran.exit_code == 0, ran.output
    rows = json.loads(ran.stdout)
    assert [(row["size"], row["engine"], row["mode"]) for row in rows] == [
        (size, engine, mode)
        for size in (1000, 12_000)
        for engine in ("scan", "check")
        for mode in ("exact", "balanced", "speed")
    ]
    for row in rows:
        assert row["best"] >= 0.8
        assert 0.7 <= row["recall"] <= 1
        if row["mode"] == "exact":
            assert (row["recall"], row["best"], row["ranked"]) == (1, 1, 1)
    speed = next(row for row in rows if (row["size"], row["mode"]) == (12_000, "speed"))
    assert speed["ranked"] < 0.8


def test_sizes_must_be_numbers():
    for sizes in ("many", "10", ""):
        ran = RUN.invoke(app, ["bench", "search", "--sizes", sizes])
        assert ran.exit_code == 2
