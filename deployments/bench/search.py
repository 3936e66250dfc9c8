"""Recall, share ranked, time and memory of every search mode, on synthetic collections.

Both engines are measured: that of scans (lists of all contents) and that of single checks (the
catalog's vector index). Truth is the exact product with every vector.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from deployments.bench.vectors import collection, copies
from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.catalog.search import EXACT, LEAST_ASKED, REACH, nearest_contents
from tasks.catalog.vector_index import indexed_cells
from tasks.progress import Progress, silent
from tasks.records import Space
from tasks.search.centroids import nearest_cells, reorder
from tasks.search.centroids import train_centroids as train
from tasks.search.ivf_join import CellOrder, nearest_in_cells
from tasks.search.pca_bounds import sketch

Half = npt.NDArray[np.float16]
Vectors = npt.NDArray[np.float32]

_K = 20
_QUERIES = 300
_BATCH = 64
_SINGLE = 20
_BLOCK = 8192
#: Where planted copies begin.
_PLANTED = 0.8
#: Contents whose lists are made to learn what all lists would cost.
_JOINED = 16_384


@dataclass(frozen=True, slots=True)
class Measured:
    """One mode on one collection.

    Attributes:
        engine: ``scan`` (lists) or ``check`` (one image against the collection).
        best: share of the queries whose best hit was found.
        planted: the same of the queries that have a copy at a cosine of 0.8 or more.
        recall: share of the exact k nearest that were found.
        looked: share of the collection in the cells that a query looks into.
        ranked: share of the collection that a query is multiplied with in full.
        single_ms: CPU time of one query by itself; none for lists.
        batch_ms: CPU time of a query among many.
        build_s: CPU time of the cells or the index.
        rss_mb: the process's memory so far.
    """

    size: int
    dim: int
    engine: str
    mode: str
    best: float
    planted: float
    recall: float
    looked: float
    ranked: float
    single_ms: float | None
    batch_ms: float
    floor_ms: float
    build_s: float
    rss_mb: int


def run_search(
    sizes: list[int],
    dim: int,
    seed: int = 0,
    *,
    index_up_to: int = 200_000,
    work: Path | None = None,
    progress: Progress = silent,
    tell: Callable[[Measured], None] | None = None,
) -> list[Measured]:
    """Measure every mode at every size.

    Args:
        sizes: vectors of the collections.
        dim: their dimensions.
        seed: another seed makes other collections.
        index_up_to: larger collections are measured without the catalog's index, whose making
            takes an hour of one core at a million vectors of 1,280 dimensions.
        work: where catalogs are put; default: a temporary folder.
        progress: told how many measurements are done.
        tell: told each measurement as it is made.
    """
    found: list[Measured] = []

    def take(measured: Measured) -> None:
        found.append(measured)
        if tell:
            tell(measured)

    peak = _peak()
    for done, size in enumerate(sizes):
        progress("search", done, len(sizes))
        vectors = collection(size, dim, seed)
        _scan_modes(vectors, peak, take)
        if size <= index_up_to:
            _check_modes(vectors, seed, peak, work, take)
        del vectors
    return found


# ---- scans -----------------------------------------------------------------------------------


def _scan_modes(vectors: Half, peak: float, take: Callable[[Measured], None]) -> None:
    """Lists of contents of the collection itself."""
    from tasks.queries.assignments import PROBES, SAMPLED, cell_count, probes_for

    size, dim = vectors.shape
    rng = np.random.default_rng(1)
    start = _cpu()
    sampled = vectors[np.sort(rng.permutation(size)[: cell_count(size) * SAMPLED])]
    centres = train(sampled, cell_count(size))
    del sampled
    reach = {mode: probes_for(mode, len(centres)) for mode in PROBES}
    probes = nearest_cells(vectors, centres, max(reach.values()))
    by_cell = np.argsort(probes[:, 0], kind="stable")
    reorder(vectors, by_cell)
    probes = probes[by_cell]
    sketches = sketch(vectors)
    build = _cpu() - start
    asked = np.sort(rng.permutation(size)[:_QUERIES])
    start = _cpu()
    truth = _truth(vectors, vectors[asked].astype(np.float32), asked)
    floor = 2 * dim * size / peak * 1e3
    exact_ms = (_cpu() - start) / len(asked) * 1e3
    whole = (1.0, 1.0)
    take(_measured(vectors, "scan", EXACT, truth, truth.names, whole, (None, exact_ms, floor), 0.0))
    for mode, count in reach.items():
        order = _order(probes[:, :count], asked)
        lists = {int(row): np.zeros(0, np.int64) for row in asked}
        for block in nearest_in_cells(vectors, order, _K, block=len(asked), sketches=sketches):
            for owner in np.unique(block.owner).tolist():
                lists[owner] = block.neighbour[block.owner == owner]
        sizes = np.bincount(probes[:, 0], minlength=len(centres))
        looked = float(sizes[probes[asked, :count]].sum(1).mean() / size)
        # What a whole scan costs is seen where neighbours in order share their cells.
        first = int(rng.integers(0, max(size - _JOINED, 1)))
        some = np.arange(first, min(first + _JOINED, size))
        order = _order(probes[:, :count], some)
        start = _cpu()
        blocks = list(nearest_in_cells(vectors, order, _K, sketches=sketches))
        spent = (_cpu() - start) / len(some) * 1e3
        ranked = sum(block.multiplied for block in blocks) / len(some) / size
        heads = sketches.rows.shape[1]
        floor = 2 * (heads * looked * size + dim * len(centres)) / peak * 1e3
        costs = (None, spent, floor)
        found = [lists[int(row)] for row in asked]
        take(_measured(vectors, "scan", mode, truth, found, (looked, ranked), costs, build))


def _order(probes: npt.NDArray[np.uint16], queries: npt.NDArray[np.int64]) -> CellOrder:
    rows = len(probes)
    chosen = np.zeros(rows, bool)
    chosen[queries] = True
    never = np.full(rows, np.inf, np.float32)  # no older list is entered
    return CellOrder(np.ascontiguousarray(probes), chosen, never, np.arange(rows))


# ---- single checks ---------------------------------------------------------------------------


def _check_modes(
    vectors: Half, seed: int, peak: float, work: Path | None, take: Callable[[Measured], None]
) -> None:
    """Pictures that are copies of some of the collection, and not in it."""
    size, dim = vectors.shape
    rng = np.random.default_rng(seed + 1)
    queries = copies(vectors[rng.integers(0, size, _QUERIES)].astype(np.float32), rng)
    truth = _truth(vectors, queries, None)
    space = Space("synthetic", str(seed), str(size), dim)
    place = Path(tempfile.mkdtemp(prefix="dam-dedup-search-", dir=work))
    try:
        catalog = Catalog(str(place))
        start = _cpu()
        with catalog.writing():
            _fill(catalog, space, vectors)
            written = _cpu() - start
            catalog.tidy(rebuild=True)
        build = _cpu() - start - written
        cells = indexed_cells(catalog.table(f"vectors_{space.id}"))
        for mode in (EXACT, *REACH):
            few = queries[:_SINGLE]
            start = _cpu()
            for query in few:
                nearest_contents(catalog, space, query[None, :], _K, mode=mode)
            single = (_cpu() - start) / len(few) * 1e3
            start = _cpu()
            rows = []
            for at in range(0, len(queries), _BATCH):
                batch = queries[at : at + _BATCH]
                part = nearest_contents(catalog, space, batch, _K, mode=mode)
                named, of = part["content"].cast(int).to_numpy(), part["query"].to_numpy()
                rows += [named[of == number] for number in range(len(batch))]
            spent = (_cpu() - start) / len(queries) * 1e3
            near = cells and mode != EXACT
            looked = REACH[mode].probes(cells) / cells if near else 1.0
            full = max(_K * REACH[mode].spare, LEAST_ASKED) if near else size
            floor = 2 * dim * looked * size / peak * 1e3
            costs = (single, spent, floor)
            shares = (looked, full / size)
            take(_measured(vectors, "check", mode, truth, rows, shares, costs, build))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _fill(catalog: Catalog, space: Space, vectors: Half) -> None:
    kind = schema.embeddings(space.dim)
    table = catalog.table(catalog.vectors_table(space.id, space.dim))
    for start in range(0, len(vectors), 50_000):
        part = vectors[start : start + 50_000]
        names = pa.array([f"{number:08}" for number in range(start, start + len(part))])
        flat = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), space.dim)
        table.add(pa.table([names, flat], schema=kind))


# ---- truth -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Truth:
    """The rows nearest to each query, and the highest cosine of each."""

    names: list[npt.NDArray[np.int64]]
    best: Vectors


def _truth(vectors: Half, queries: Vectors, own: npt.NDArray[np.int64] | None) -> _Truth:
    """The k nearest rows of each query, its own left out."""
    asked = torch.from_numpy(queries)
    best = torch.full((len(queries), 0), 0.0)
    names = torch.zeros((len(queries), 0), dtype=torch.int64)
    for start in range(0, len(vectors), _BLOCK):
        scores = asked @ torch.from_numpy(vectors[start : start + _BLOCK]).float().T
        if own is not None:
            inside = np.flatnonzero((own >= start) & (own < start + _BLOCK))
            scores[inside, own[inside] - start] = -2.0
        values, columns = scores.topk(min(_K, scores.shape[1]), dim=1)
        both = torch.cat([best, values], 1)
        best, at = both.topk(min(_K, both.shape[1]), dim=1)
        names = torch.cat([names, columns + start], 1).gather(1, at)
    return _Truth(list(names.numpy()), best[:, 0].numpy())


def _measured(
    vectors: Half,
    engine: str,
    mode: str,
    truth: _Truth,
    found: list[npt.NDArray[np.int64]],
    shares: tuple[float, float],
    costs: tuple[float | None, float, float],
    build: float,
) -> Measured:
    pairs = list(zip(truth.names, found, strict=True))
    first = np.array([exact[0] in rows for exact, rows in pairs])
    copied = truth.best >= _PLANTED
    recall = np.mean([np.isin(exact, rows).mean() for exact, rows in pairs])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Measured(
        len(vectors),
        vectors.shape[1],
        engine,
        mode,
        round(float(first.mean()), 4),
        round(float(first[copied].mean()), 4),
        round(float(recall), 4),
        round(shares[0], 5),
        round(shares[1], 6),
        *costs,
        build,
        memory,
    )


def _peak() -> float:
    """Floating operations a second of CPU time in a product of large blocks."""
    one = torch.randn(2048, 1280)
    one @ one.T
    start = _cpu()
    for _ in range(4):
        one @ one.T
    return 4 * 2 * 2048 * 2048 * 1280 / max(_cpu() - start, 1e-9)


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


def as_rows(found: list[Measured]) -> list[dict[str, object]]:
    """For JSON."""
    return [asdict(measured) for measured in found]
