"""The nearest contents: exact against brute force, approximate against exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.catalog import schema, search, vector_index
from tasks.catalog.catalog import Catalog
from tasks.catalog.search import choose_mode, nearest_contents
from tasks.errors import CatalogError
from tasks.records import Space

DIM = 64
SPACE = Space("model", "revision", "squeeze", DIM)
TABLE = f"vectors_{SPACE.id}"


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Families of ten, as copies make them."""
    rng = np.random.default_rng(seed)
    families = rng.normal(size=(count // 10 + 1, DIM))
    rows = families[rng.integers(0, len(families), count)] + 0.3 * rng.normal(size=(count, DIM))
    return unit(rows).astype(np.float16)


def add(catalog: Catalog, vectors: np.ndarray, first: int = 0) -> None:
    names = [f"{number:06}" for number in range(first, first + len(vectors))]
    with catalog.writing():
        catalog.vectors_table(SPACE.id, DIM)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float16()), DIM)
        catalog.upsert(TABLE, pa.table([pa.array(names), flat], schema=schema.embeddings(DIM)))


def truth(vectors: np.ndarray, query: np.ndarray, k: int, among: list[int]) -> list[str]:
    cosines = {row: float(vectors[row].astype(np.float32) @ query) for row in among}
    return [f"{row:06}" for row in sorted(among, key=lambda row: (-cosines[row], row))[:k]]


def named(found: pl.DataFrame, query: int) -> list[str]:
    return found.filter(pl.col("query") == query)["content"].to_list()


@pytest.fixture
def small(tmp_path: Path) -> tuple[Catalog, np.ndarray]:
    catalog, vectors = Catalog(str(tmp_path / "catalog")), clustered(300)
    add(catalog, vectors)
    return catalog, vectors


@pytest.fixture(scope="module")
def indexed(tmp_path_factory) -> tuple[Catalog, np.ndarray]:
    """12,000 contents, of which the last 500 came after the index was made."""
    catalog = Catalog(str(tmp_path_factory.mktemp("indexed") / "catalog"))
    vectors = clustered(12_000, 1)
    add(catalog, vectors[:11_500])
    with catalog.writing():
        catalog.tidy(rebuild=True)
    add(catalog, vectors[11_500:], 11_500)
    return catalog, vectors


@pytest.mark.parametrize(
    ("count", "mode", "used"),
    [
        (0, "auto", "exact"),
        (10_000, "auto", "exact"),
        (10_001, "auto", "balanced"),
        (100_000, "auto", "balanced"),
        (100_001, "auto", "speed"),
        (5, "speed", "speed"),
        (10**7, "exact", "exact"),
        (5, "balanced", "balanced"),
    ],
)
def test_the_size_chooses_unless_somebody_does(count, mode, used):
    assert choose_mode(count, mode) == used


def test_an_unknown_mode_is_refused(small):
    with pytest.raises(CatalogError, match="use one of auto, exact, balanced, speed"):
        nearest_contents(small[0], SPACE, np.zeros((1, DIM), np.float32), 3, mode="fast")


@settings(deadline=None, max_examples=25)
@given(
    k=st.integers(1, 400),
    block=st.integers(1, 400),
    share=st.sampled_from([None, 0.0, 0.02, 0.5, 1.0]),
    held=st.booleans(),
    seed=st.integers(0, 99),
)
def test_exact_is_brute_force(tmp_path_factory, k, block, share, held, seed):
    catalog = Catalog(str(tmp_path_factory.mktemp("exact") / "catalog"))
    vectors = clustered(120, seed)
    vectors[:30] = vectors[0]  # blank pages: names decide
    add(catalog, vectors)
    rng = np.random.default_rng(seed)
    rows = range(120) if share is None else np.flatnonzero(rng.random(120) < share).tolist()
    among = None if share is None else pl.Series([f"{row:06}" for row in rows], dtype=pl.String)
    queries = unit(rng.normal(size=(2, DIM)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_BLOCK", block)
        patch.setattr(search, "_HELD_BYTES", 10**9 if held else 0)
        found = nearest_contents(catalog, SPACE, queries, k, among=among)
    for query in range(2):
        wanted = truth(vectors, queries[query], k, list(rows))
        got = named(found, query)
        assert len(got) == len(wanted) == min(k, len(rows))
        cosines = found.filter(pl.col("query") == query)["cosine"].to_numpy()
        assert (np.diff(cosines) <= 0).all()
        exactly = [float(vectors[int(name)].astype(np.float32) @ queries[query]) for name in got]
        assert cosines.tolist() == pytest.approx(exactly, abs=1e-5)
        best = [float(vectors[int(name)].astype(np.float32) @ queries[query]) for name in wanted]
        assert exactly == pytest.approx(best, abs=1e-5)


def test_equal_vectors_come_by_name(small):
    catalog, vectors = small
    add(catalog, np.repeat(vectors[:1], 40, axis=0), 1000)
    found = nearest_contents(catalog, SPACE, vectors[:1].astype(np.float32), 5)
    assert named(found, 0) == ["000000", "001000", "001001", "001002", "001003"]


def test_what_was_added_is_found_at_once(small):
    catalog, _ = small
    query = unit(np.random.default_rng(9).normal(size=(1, DIM)))
    nearest_contents(catalog, SPACE, query, 1)  # the small table is held now
    add(catalog, query.astype(np.float16), 5000)
    assert named(nearest_contents(catalog, SPACE, query, 1), 0) == ["005000"]
    other = Catalog(catalog.uri)
    add(other, query.astype(np.float16), 4000)
    assert named(nearest_contents(catalog, SPACE, query, 2), 0) == ["004000", "005000"]
    with catalog.writing():
        catalog.delete_keys(TABLE, ["004000"])
    assert named(nearest_contents(catalog, SPACE, query, 1), 0) == ["005000"]


def test_nothing_to_find(tmp_path):
    catalog = Catalog(str(tmp_path / "catalog"))
    query = unit(np.ones((1, DIM)))
    assert nearest_contents(catalog, SPACE, query, 5).is_empty()
    add(catalog, clustered(20))
    assert nearest_contents(catalog, SPACE, query, 0).is_empty()
    assert nearest_contents(catalog, SPACE, query[:0], 5).is_empty()
    nobody = pl.Series([], dtype=pl.String)
    assert nearest_contents(catalog, SPACE, query, 5, among=nobody).is_empty()
    stranger = pl.Series(["nobody has this"])
    assert nearest_contents(catalog, SPACE, query, 5, among=stranger).is_empty()


@pytest.mark.parametrize("mode", search.MODES)
def test_vectors_of_another_space_are_refused(small, mode):
    with pytest.raises(CatalogError, match="64 dimensions"):
        nearest_contents(small[0], SPACE, np.ones((1, 16), np.float32), 3, mode=mode)
    with pytest.raises(CatalogError, match="not finite"):
        nearest_contents(small[0], SPACE, np.full((1, DIM), np.nan, np.float32), 3, mode=mode)


def recall(catalog: Catalog, queries: np.ndarray, mode: str, among: pl.Series | None = None):
    best = nearest_contents(catalog, SPACE, queries, 5, mode="exact", among=among)
    found = nearest_contents(catalog, SPACE, queries, 5, mode=mode, among=among)
    assert (found.group_by("query").len()["len"] == best.group_by("query").len()["len"][0]).all()
    both = found.join(best, on=["query", "content"], suffix="_exact")
    assert both["cosine"].to_numpy() == pytest.approx(both["cosine_exact"].to_numpy(), abs=1e-6)
    return both.height / best.height


@pytest.mark.parametrize("mode", ["balanced", "speed"])
@pytest.mark.parametrize("queries", [1, 100])
def test_the_index_finds_nearly_all_and_its_cosines_are_exact(indexed, mode, queries):
    catalog, vectors = indexed
    rng = np.random.default_rng(3)
    rows = vectors[rng.integers(0, 12_000, queries)].astype(np.float32)
    asked = unit(rows + 0.05 * rng.normal(size=rows.shape))
    assert vector_index.indexed_cells(catalog.table(TABLE)) == 64
    assert recall(catalog, asked, mode) >= 0.9


@pytest.mark.parametrize("mode", ["balanced", "speed"])
def test_rows_that_came_after_the_index_are_found(indexed, mode):
    catalog, vectors = indexed
    found = nearest_contents(catalog, SPACE, vectors[-50:].astype(np.float32), 1, mode=mode)
    assert found["cosine"].min() > 0.999
    assert found["query"].to_list() == list(range(50))


@pytest.mark.parametrize("mode", ["balanced", "speed"])
@pytest.mark.parametrize("share", [0.6, 0.1, 0.01, 0.001])
def test_a_filter_leaves_as_many_as_there_are(indexed, mode, share):
    catalog, vectors = indexed
    rng = np.random.default_rng(4)
    inside = [f"{row:06}" for row in np.flatnonzero(rng.random(12_000) < share)]
    queries = vectors[:30].astype(np.float32)
    found = nearest_contents(
        catalog, SPACE, queries, 20, mode=mode, among=pl.Series(inside, dtype=pl.String)
    )
    assert set(found["content"]) <= set(inside)
    assert found.group_by("query").len()["len"].to_list() == [min(20, len(inside))] * 30
    assert recall(catalog, queries, mode, pl.Series(inside, dtype=pl.String)) >= 0.85


def test_far_away_from_everything_a_filter_still_leaves_enough(indexed):
    catalog, vectors = indexed
    query = -vectors[:1].astype(np.float32)
    # Nothing of what is asked for lies in the cells that are looked into first.
    near = nearest_contents(catalog, SPACE, query, 6000, mode="exact")["content"]
    everyone = pl.Series([f"{row:06}" for row in range(12_000)])
    far = everyone.filter(~everyone.is_in(near.implode()))
    found = nearest_contents(catalog, SPACE, query, 20, mode="speed", among=far)
    assert found.height == 20


def test_dimensions_that_fill_no_byte_are_indexed_too(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_index, "INDEX_FROM", 500)
    space = Space("model", "revision", "squeeze", 13)
    catalog = Catalog(str(tmp_path / "catalog"))
    rows = unit(np.random.default_rng(0).normal(size=(2000, 13))).astype(np.float16)
    with catalog.writing():
        name = catalog.vectors_table(space.id, 13)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1), pa.float16()), 13)
        names = pa.array([f"{number:06}" for number in range(2000)])
        catalog.upsert(name, pa.table([names, flat], schema=schema.embeddings(13)))
        catalog.tidy(rebuild=True)
    assert vector_index.indexed_cells(catalog.table(name)) == 16
    found = nearest_contents(catalog, space, rows[:9].astype(np.float32), 1, mode="speed")
    assert found["content"].to_list() == [f"{number:06}" for number in range(9)]


def test_the_index_is_made_when_the_size_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_index, "INDEX_FROM", 1000)
    monkeypatch.setattr(vector_index, "_LEAST_OUTSIDE", 100)
    catalog, vectors = Catalog(str(tmp_path / "catalog")), clustered(5000)

    def cells_after_tidy(rebuild: bool) -> int:
        with catalog.writing():
            catalog.tidy(rebuild=rebuild)
        return vector_index.indexed_cells(catalog.table(TABLE))

    add(catalog, vectors[:900])
    assert cells_after_tidy(True) == 0
    add(catalog, vectors[900:1100], 900)
    assert cells_after_tidy(False) == 16, "a missing index is made by any tidying"
    made = catalog.version(TABLE)
    assert cells_after_tidy(False) == 16
    assert catalog.version(TABLE) == made, "nothing to do"
    add(catalog, vectors[1100:1400], 1100)
    assert cells_after_tidy(False) == 16
    stats = catalog.table(TABLE).index_stats("vector_cells_16")
    assert stats.num_unindexed_rows == 0, "rows outside are taken in"
    add(catalog, vectors[1400:], 1400)
    assert cells_after_tidy(True) == 32
    assert len(catalog.table(TABLE).list_indices()) == 1, "the outgrown index is gone"
    found = nearest_contents(catalog, SPACE, vectors[:50].astype(np.float32), 1, mode="balanced")
    assert found["cosine"].min() > 0.999
