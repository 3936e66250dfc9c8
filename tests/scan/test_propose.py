"""Neighbour lists and candidates: the same whatever came when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import tasks.scan.propose as stage
import tasks.search.brute_force as brute_force
import tasks.search.ivf_join as ivf_join
from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.progress import silent
from tasks.queries import assignments as partition
from tasks.queries.candidates import Candidates
from tasks.records import Kind, Scan, Space
from tasks.scan.propose import refresh_lists
from tasks.settings import load_settings
from tests.conftest import first_of

DIM = 16
SPACE = Space("model", "revision", "squeeze", DIM)
CONTENTS = 90
NAMES = [f"{number:03}" for number in range(CONTENTS)]
Lists = dict[str, list[tuple[str, float]]]


class Bench:
    """Catalogs of one set of vectors."""

    def __init__(self, place: Path, seed: int, mode: str = "auto") -> None:
        self._place, self._made = place, 0
        rng = np.random.default_rng(seed)
        # Families of near vectors, as copies make them; some reach beyond the lists' length.
        of = rng.integers(0, CONTENTS // 6, CONTENTS)
        rows = rng.normal(size=(CONTENTS // 6, DIM))[of] + 0.2 * rng.normal(size=(CONTENTS, DIM))
        self.vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
        settings = load_settings(
            match={"neighbours": 4, "block": 16, "mode": mode},
            embedding={"device": "cpu"},
        )
        self.request = Scan(
            "id",
            Kind.INCREMENTAL,
            "file:///x",
            "",
            "scope",
            0.7,
            False,
            False,
            datetime(2026, 11, 22, tzinfo=UTC),
            settings,
        )

    def catalog(self) -> Catalog:
        self._made += 1
        catalog = Catalog(str(self._place / str(self._made)))
        with catalog.writing():
            name = catalog.vectors_table(SPACE.id, DIM)
            flat = pa.array(self.vectors.reshape(-1), pa.float16())
            vectors = pa.FixedSizeListArray.from_arrays(flat, DIM)
            table = pa.table([pa.array(NAMES), vectors], schema=schema.embeddings(DIM))
            catalog.upsert(name, table)
        return catalog

    def refresh(self, catalog: Catalog, here: set[str], kind: Kind = Kind.INCREMENTAL) -> int:
        request = replace(self.request, kind=kind, id=f"{kind}{len(here)}")
        with catalog.writing():
            contents = pl.Series("content", sorted(here), dtype=pl.String)
            return refresh_lists(catalog, request, SPACE, contents, silent)

    def refresh_across(
        self, catalog: Catalog, sides: dict[str, int], kind: Kind = Kind.INCREMENTAL
    ) -> int:
        request = replace(self.request, kind=kind, across="the other side")
        names = sorted(sides)
        with catalog.writing():
            return refresh_lists(
                catalog,
                request,
                SPACE,
                pl.Series("content", names, dtype=pl.String),
                silent,
                pl.Series("side", [sides[name] for name in names], dtype=pl.UInt8),
            )

    def fresh(self, here: set[str]) -> Lists:
        catalog = self.catalog()
        self.refresh(catalog, here, Kind.FULL)
        return lists_in(catalog)


def lists_in(catalog: Catalog) -> Lists:
    rows = catalog.read("neighbours", ["content", "names", "cosines"])
    return {
        content: list(zip(names, (pytest.approx(one, abs=2e-4) for one in cosines), strict=True))
        for content, names, cosines in rows.iter_rows()
    }


def same(one: Lists, other: Lists) -> bool:
    plain = {name: [(n, c.expected) for n, c in listed] for name, listed in other.items()}
    return one == plain


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, 0)


def test_a_full_scan_lists_the_nearest(bench):
    found = bench.fresh(set(NAMES))
    vectors = bench.vectors.astype(np.float32)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    for row, name in enumerate(NAMES):
        best = np.sort(cosines[row])[::-1][:4]
        listed = [cosines[row, NAMES.index(other)] for other, _ in found[name]]
        assert listed == pytest.approx(best.tolist(), abs=1e-4)


@pytest.mark.parametrize("seed", first_of(6))
def test_any_order_of_arrivals_and_removals_ends_like_a_full_scan(tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    bench, rng = Bench(tmp_path, seed), np.random.default_rng(100 + seed)
    catalog, here = bench.catalog(), set[str]()
    for _ in range(8):
        away = sorted(set(NAMES) - here)
        here |= set(rng.choice(away, rng.integers(0, len(away) // 2 + 1), replace=False).tolist())
        here -= set(rng.choice(NAMES, rng.choice([0, 0, 3, 15]), replace=False).tolist())
        bench.refresh(catalog, here)
        assert same(lists_in(catalog), bench.fresh(here))
        assert bench.refresh(catalog, here) == 0
    assert catalog.duplicate_keys() == {}


def test_one_by_one_ends_like_a_full_scan(bench):
    catalog, here = bench.catalog(), set[str]()
    for name in np.random.default_rng(1).permutation(NAMES).tolist()[:25]:
        here.add(name)
        bench.refresh(catalog, here)
    assert same(lists_in(catalog), bench.fresh(here))


def test_one_content_alone_has_nothing_to_look_up(bench):
    catalog = bench.catalog()
    assert bench.refresh(catalog, set()) == 0
    assert bench.refresh(catalog, {"000"}) == 0
    assert bench.refresh(catalog, {"000", "001"}) == 2
    assert bench.refresh(catalog, {"000", "001"}) == 0
    assert same(lists_in(catalog), bench.fresh({"000", "001"}))


def test_who_leaves_and_comes_back_is_listed_again(bench):
    catalog, everyone = bench.catalog(), set(NAMES)
    bench.refresh(catalog, everyone)
    before = lists_in(catalog)
    naming = {name for name, listed in before.items() if "007" in {n for n, _ in listed}}
    assert bench.refresh(catalog, everyone - {"007"}) == len(naming)
    assert "007" not in lists_in(catalog)
    assert bench.refresh(catalog, everyone) == 1
    assert same(lists_in(catalog), before)


@pytest.mark.parametrize("kind", Kind)
def test_a_kill_half_way_leaves_no_list_that_only_looks_whole(bench, monkeypatch, kind):
    catalog = bench.catalog()
    # 000 comes when the others know one another, is in the first block, and 089 has just left.
    bench.refresh(catalog, set(NAMES) - {"000"})

    def cut(*args, **kwargs):
        yield next(real(*args, **kwargs))
        raise RuntimeError("power cut")

    real = brute_force.nearest
    with monkeypatch.context() as patch:
        patch.setattr(brute_force, "nearest", cut)
        with pytest.raises(RuntimeError, match="power cut"):
            bench.refresh(catalog, set(NAMES) - set(NAMES[-30:]), kind)
    bench.refresh(catalog, set(NAMES))  # and those who had left are back
    assert same(lists_in(catalog), bench.fresh(set(NAMES)))


def test_equal_vectors_beyond_a_list_are_taken_by_name(bench):
    bench.vectors[:40] = bench.vectors[0]  # blank pages of forty sizes
    catalog, here = bench.catalog(), set[str]()
    for part in np.array_split(np.random.default_rng(2).permutation(NAMES), 4):
        here |= set(part.tolist())
        bench.refresh(catalog, here)
    assert same(lists_in(catalog), bench.fresh(here))


def candidates(bench: Bench, catalog: Catalog, hashes: dict[str, int | None]) -> set[tuple]:
    contents = pl.DataFrame(
        {"content": list(hashes), "phash": list(hashes.values())},
        schema={"content": pl.String, "phash": pl.UInt64},
    )
    found = pl.concat(Candidates(catalog, bench.request, SPACE, contents).parts(7))
    assert (found["left"] < found["right"]).all()
    assert found.is_unique().all()
    return set(found.rows())


def test_candidates_are_listed_by_either_side(bench):
    catalog = bench.catalog()
    bench.refresh(catalog, set(NAMES))
    listed = {(min(a, b), max(a, b)) for a, found in lists_in(catalog).items() for b, _ in found}
    assert candidates(bench, catalog, dict.fromkeys(NAMES)) == listed
    few = dict.fromkeys(NAMES[:50])
    assert candidates(bench, catalog, few) == {
        pair for pair in listed if set(pair) <= few.keys()
    }, "who is not in scope is no candidate"


def test_others_are_the_pairs_that_no_list_proposes(bench):
    catalog = bench.catalog()
    bench.refresh(catalog, set(NAMES))
    contents = pl.DataFrame(
        {"content": NAMES, "phash": None}, schema_overrides={"phash": pl.UInt64}
    )
    known = Candidates(catalog, bench.request, SPACE, contents)
    listed = pl.concat(known.parts(1000))
    every = contents.select(left="content").join(contents.select(right="content"), how="cross")
    asked = pl.concat([every.filter(pl.col("left") < pl.col("right")), listed.head(0)])
    asked = asked.with_columns(rank=pl.int_range(pl.len())).sample(fraction=1, shuffle=True, seed=1)
    strange = pl.DataFrame({"left": ["003"], "right": ["nobody"], "rank": [0]})
    others = known.others(pl.concat([asked, strange]))
    assert others.height == asked.height - listed.height + 1
    assert others.join(listed, on=["left", "right"], how="semi").is_empty()
    assert others.equals(
        pl.concat([asked, strange])
        .join(others, on=["left", "right"], maintain_order="left")
        .select("left", "right", "rank")
    ), "the order stays"


def test_equal_hashes_are_candidates_whatever_the_vectors_say(bench):
    catalog = bench.catalog()  # no lists at all
    hashes = dict.fromkeys(NAMES) | {"003": 7, "050": 7, "080": 7, "001": 2**64 - 1}
    assert candidates(bench, catalog, hashes) == {("003", "050"), ("003", "080"), ("050", "080")}
    many = dict.fromkeys(NAMES, 5)
    assert candidates(bench, catalog, many) == {("000", name) for name in NAMES[1:]}


@pytest.mark.parametrize("seed", first_of(4))
def test_across_any_order_of_arrivals_and_moves_ends_like_a_full_scan(tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    bench, rng = Bench(tmp_path, seed), np.random.default_rng(200 + seed)
    catalog, sides = bench.catalog(), dict[str, int]()
    for step in range(8):
        for name in rng.choice(NAMES, rng.integers(0, 40), replace=False).tolist():
            sides[name] = int(rng.choice([1, 1, 1, 2, 3]))  # comes, or changes sides
        for name in rng.choice(NAMES, rng.choice([0, 0, 3, 15]), replace=False).tolist():
            sides.pop(name, None)
        if step == 5:
            sides = dict.fromkeys(sides, 3)  # the filters were made one
        bench.refresh_across(catalog, sides)
        fresh = bench.catalog()
        bench.refresh_across(fresh, sides, Kind.FULL)
        assert same(lists_in(catalog), lists_in(fresh))
        for name, listed in lists_in(catalog).items():
            assert all({sides[name], sides[other]} not in ({1}, {2}) for other, _ in listed)
        assert bench.refresh_across(catalog, sides) == 0
    assert catalog.duplicate_keys() == {}


def test_across_the_other_side_is_found_in_a_crowd(bench):
    # Forty contents of the own side are closer to one another than to the one on the other side.
    bench.vectors[:40] = bench.vectors[0]
    catalog = bench.catalog()
    sides = dict.fromkeys(NAMES[:40], 1) | {"070": 2}
    assert bench.refresh_across(catalog, sides) == 41
    listed = {name: [other for other, _ in found] for name, found in lists_in(catalog).items()}
    assert listed == {name: ["070"] for name in NAMES[:40]} | {"070": NAMES[:4]}
    contents = pl.DataFrame(
        {"content": list(sides), "phash": [5] * 41, "side": list(sides.values())},
        schema={"content": pl.String, "phash": pl.UInt64, "side": pl.UInt8},
    )
    found = pl.concat(Candidates(catalog, bench.request, SPACE, contents).parts(7))
    assert set(found.rows()) == {(name, "070") for name in NAMES[:40]}


def test_across_a_side_without_anybody_costs_nothing(bench):
    catalog = bench.catalog()
    sides = dict.fromkeys(NAMES[:40], 1)
    assert bench.refresh_across(catalog, sides) == 0
    assert bench.refresh_across(catalog, sides | {"070": 2}) == 41
    assert bench.refresh_across(catalog, sides) == 0
    assert lists_in(catalog) == {}


# ---- modes -----------------------------------------------------------------------------------


@pytest.fixture
def small_cells(monkeypatch):
    """Cells of eight, of which few are looked into."""
    monkeypatch.setattr(partition, "_PER_CELL", 8)
    monkeypatch.setattr(partition, "PROBES", {"balanced": (3, 3, 0), "speed": (2, 2, 0)})
    monkeypatch.setattr(stage, "_QUERY_BLOCKS", 1)


def in_mode(bench: Bench, mode: str) -> Bench:
    match = bench.request.settings.match.model_copy(update={"mode": mode})
    settings = bench.request.settings.model_copy(update={"match": match})
    bench.request = replace(bench.request, settings=settings)
    return bench


def note(catalog: Catalog) -> dict[str, object]:
    return catalog.read("searches", schema.SEARCHES.names).row(-1, named=True)


@pytest.mark.parametrize(
    ("count", "mode", "used"),
    [
        (100_000, "auto", "exact"),
        (100_001, "auto", "balanced"),
        (10**6, "auto", "balanced"),
        (10**6 + 1, "auto", "speed"),
        (5, "speed", "speed"),
        (10**8, "exact", "exact"),
    ],
)
def test_the_scope_chooses_the_mode_unless_somebody_does(count, mode, used):
    assert partition.choose_scan_mode(count, mode) == used


def test_the_cut_over_is_by_the_scope(bench, small_cells, monkeypatch):
    monkeypatch.setattr(partition, "EXACT_UP_TO", 50)
    monkeypatch.setattr(partition, "BALANCED_UP_TO", 80)
    catalog = bench.catalog()
    for size, mode in ((50, "exact"), (51, "balanced"), (81, "speed"), (50, "exact")):
        bench.refresh(catalog, set(NAMES[:size]))
        noted = catalog.read("searches", ["scan_id", "mode"]).filter(scan_id=f"incremental{size}")
        assert noted["mode"].to_list() == [mode]
        assert catalog.count("centroids") == (0 if mode == "exact" else 1)
    assert same(lists_in(catalog), in_mode(bench, "exact").fresh(set(NAMES[:50])))


@pytest.mark.parametrize("mode", ["balanced", "speed"])
@pytest.mark.parametrize("seed", first_of(4))
def test_in_the_same_cells_any_order_ends_like_a_full_scan(
    tmp_path, monkeypatch, small_cells, mode, seed
):
    monkeypatch.chdir(tmp_path)
    bench, rng = Bench(tmp_path, seed, mode), np.random.default_rng(100 + seed)
    catalog, here = bench.catalog(), set(NAMES[:50])
    bench.refresh(catalog, here)
    centres = catalog.read("centroids", ["centroids_id", "centroids"])
    for _ in range(6):
        away = sorted(set(NAMES) - here)
        here |= set(rng.choice(away, rng.integers(0, len(away) // 2 + 1), replace=False).tolist())
        here -= set(rng.choice(NAMES, rng.choice([0, 0, 3, 15]), replace=False).tolist())
        bench.refresh(catalog, here)
        incremental = lists_in(catalog)
        assert bench.refresh(catalog, here, Kind.FULL) == len(here)
        assert same(incremental, lists_in(catalog))
        assert bench.refresh(catalog, here) == 0
    assert catalog.read("centroids", ["centroids_id", "centroids"]).equals(centres)
    assert catalog.duplicate_keys() == {}


def test_a_scope_that_doubled_gets_other_cells_and_lists(bench, small_cells):
    catalog = in_mode(bench, "balanced").catalog()
    bench.refresh(catalog, set(NAMES[:30]))
    assert bench.refresh(catalog, set(NAMES[:60])) == 30
    assert bench.refresh(catalog, set(NAMES[:61])) == 61
    assert catalog.read("centroids", ["centroids_id", "trained_on"])["trained_on"].to_list() == [61]
    assert same(lists_in(catalog), bench.fresh(set(NAMES[:61])))


def test_another_mode_makes_all_lists_anew(bench, small_cells):
    catalog = bench.catalog()
    for mode in ("exact", "speed", "balanced", "exact"):
        assert in_mode(bench, mode).refresh(catalog, set(NAMES)) == CONTENTS
        assert bench.refresh(catalog, set(NAMES)) == 0
        assert same(lists_in(catalog), bench.fresh(set(NAMES)))
    assert catalog.count("centroids") == catalog.count("assignments") == 0


def test_what_is_measured_is_what_the_lists_hold(bench, small_cells):
    exact = bench.fresh(set(NAMES))
    catalog = in_mode(bench, "speed").catalog()
    bench.refresh(catalog, set(NAMES))
    found, noted = lists_in(catalog), note(catalog)
    held = [
        sum(cosine.expected >= best[-1][1].expected - 2e-4 for _, cosine in found.get(name, []))
        for name, best in exact.items()
    ]
    assert noted["sample_size"] == CONTENTS
    assert noted["recall"] == pytest.approx(sum(held) / (4 * CONTENTS), abs=1e-5)
    assert 0.3 < noted["recall"] < 1, "these cells are too small to hold all"
    assert noted["recall"] <= noted["recall_at_1"] <= 1
    assert 0.05 < noted["compared_share"] < 0.6
    bench.refresh(catalog, set(NAMES))
    assert note(catalog)["recall"] == noted["recall"], "a scan with nothing to do says it again"


def test_exact_lists_are_not_estimated(bench):
    catalog = bench.catalog()
    bench.refresh(catalog, set(NAMES))
    assert note(catalog) == {
        "scan_id": "incremental90",
        "mode": "exact",
        "recall": 1.0,
        "recall_at_1": 1.0,
        "sample_size": 0,
        "compared_share": 1.0,
        "list_length": 4,
    }


def test_all_cells_find_what_exact_lists_hold(bench, small_cells, monkeypatch):
    monkeypatch.setattr(partition, "PROBES", {"balanced": (99, 99, 0), "speed": (99, 99, 0)})
    exact = bench.fresh(set(NAMES))
    catalog = in_mode(bench, "balanced").catalog()
    bench.refresh(catalog, set(NAMES))
    assert same(lists_in(catalog), exact)
    assert note(catalog)["recall"] == 1


@pytest.mark.parametrize("kind", Kind)
def test_a_kill_half_way_in_cells_leaves_no_list_that_only_looks_whole(
    bench, small_cells, monkeypatch, kind
):
    catalog = in_mode(bench, "balanced").catalog()
    bench.refresh(catalog, set(NAMES) - {"000"})

    def cut(*args, **kwargs):
        yield next(real(*args, **kwargs))
        raise RuntimeError("power cut")

    real = ivf_join.nearest_in_cells
    with monkeypatch.context() as patch:
        patch.setattr(ivf_join, "nearest_in_cells", cut)
        with pytest.raises(RuntimeError, match="power cut"):
            bench.refresh(catalog, set(NAMES) - set(NAMES[-30:]), kind)
    bench.refresh(catalog, set(NAMES))
    after = lists_in(catalog)
    bench.refresh(catalog, set(NAMES), Kind.FULL)
    assert same(lists_in(catalog), after)


def test_two_scopes_have_cells_of_their_own(bench, small_cells):
    catalog = in_mode(bench, "balanced").catalog()
    bench.refresh(catalog, set(NAMES))
    first = catalog.read("centroids", ["centroids_id", "scope", "centroids"])
    bench.request = replace(bench.request, scope="another")
    bench.refresh(catalog, set(NAMES[:40]))
    both = catalog.read("centroids", ["centroids_id", "scope", "centroids"])
    assert both.height == 2
    assert both.filter(scope="scope").equals(first)


def test_only_the_lists_that_change_are_read_with_their_names(bench, monkeypatch):
    catalog = bench.catalog()
    bench.refresh(catalog, set(NAMES[:-1]))
    before = lists_in(catalog)
    read, real = [], catalog.take

    def take(table, columns, ids):
        read.extend(ids)
        return real(table, columns, ids)

    monkeypatch.setattr(catalog, "take", take)
    assert bench.refresh(catalog, set(NAMES)) == 1
    after = lists_in(catalog)
    changed = [name for name in before if not same({name: after[name]}, {name: before[name]})]
    assert 0 < len(changed) <= len(read) < len(NAMES) / 2
    assert same(after, bench.fresh(set(NAMES)))
