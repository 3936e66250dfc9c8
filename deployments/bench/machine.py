"""What all cores and the GPU of a machine do together, by the clock, beside what each does alone.

Processor time says what work costs; it does not say whether the cores and the GPU wait for one
another. So these rates are of a clock, and mean something on a machine that does nothing else.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from deployments.bench.varied import read_files, vary
from tasks.catalog.catalog import Catalog
from tasks.embedding.base import Embedder
from tasks.embedding.vision import choose_device
from tasks.progress import Progress, silent
from tasks.queries.candidates import Candidates
from tasks.queries.scan_verifier import ScanVerifier
from tasks.queries.scope_assets import embedded_assets
from tasks.records import Kind, Scan, Space
from tasks.requests import ScanRequest
from tasks.scan.begin import begin_scan
from tasks.scan.embed import embed_assets
from tasks.scan.propose import propose_candidates
from tasks.scan.sync import sync_assets
from tasks.search.brute_force import nearest
from tasks.search.half_products import nearest_by_halves
from tasks.session import open_catalog, open_embedder
from tasks.settings import MatchSettings, Settings

#: Seconds for which the model alone is measured, and batches that one call is given.
_SECONDS, _BATCHES = 2.0, 4
#: Side of the matrices whose product tells what the machine can do.
_PEAK = {"cpu": 2048, "cuda": 8192}
#: Length of the lists, and the rows that are compared with exact ones in double precision.
_K, _CHECKED = 30, 100
#: Lists are off by less than this, where they are those of exact products.
_ROUNDED = 1.5e-4


@dataclass(frozen=True, slots=True)
class Rate:
    """Something the machine does, beside the most it could do.

    Attributes:
        what: what is done.
        unit: what is counted.
        rate: how many a second.
        floor: what is compared with; empty where nothing is.
        floor_rate: how many a second that does.
        seconds: what the whole took, starts included.
    """

    what: str
    unit: str
    rate: float
    floor: str = ""
    floor_rate: float | None = None
    seconds: float | None = None

    @property
    def ratio(self) -> float | None:
        """Which part of the floor's rate is reached."""
        return self.rate / self.floor_rate if self.floor_rate else None


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """What is measured.

    Attributes:
        pictures: how many files the embed stage reads.
        side: their long side in pixels.
        pairs: pairs verified by each number of processes.
        workers: numbers of processes; the first is what the others are compared with.
        vectors: how many vectors lists are made of; 0: none are made.
        dim: numbers of each.
    """

    pictures: int = 2000
    side: int = 640
    pairs: int = 2000
    workers: Sequence[int] = (1, 2, 4, 8)
    vectors: int = 20_000
    dim: int = 1280


def run_machine(
    images: Path,
    settings: Settings,
    plan: MachinePlan,
    *,
    work: Path | None = None,
    tell: Callable[[Rate], None] = lambda _: None,
    progress: Progress = silent,
) -> list[Rate]:
    """Measure a machine on files made of photographs of a folder.

    Args:
        images: photographs, with subfolders; only read.
        settings: model, device and limits; the catalog goes to a temporary folder.
        plan: how much is measured.
        work: where files are made; default: a temporary folder.
        tell: told of each rate as it is known.
        progress: told which part is at work.
    """
    rates: list[Rate] = []

    def know(*known: Rate) -> None:
        rates.extend(known)
        for rate in known:
            tell(rate)

    with tempfile.TemporaryDirectory(dir=work) as name:
        place = Path(name)
        catalog = settings.catalog.model_copy(update={"uri": str(place / "catalog")})
        here = settings.model_copy(update={"catalog": catalog})
        progress("files", 0, 6)
        folder = place / "files"
        vary(images, folder, plan.pictures, plan.side)
        device = choose_device(settings.embedding.device).type
        peak = _peak(device)
        know(peak)
        if plan.vectors:
            progress("lists", 1, 6)
            know(_lists(plan.vectors, plan.dim, device, peak))
        progress("model", 2, 6)
        model = _model(open_embedder(here))
        know(model)
        progress("decode", 3, 6)
        decoders = _decoders(folder, here)
        know(decoders)
        progress("embed", 4, 6)
        scan = begin_scan(ScanRequest(kind=Kind.FULL, source=str(folder)), here)
        sync_assets(scan)
        stage, space = _stage(scan, min(model, decoders, key=lambda one: one.rate))
        know(stage)
        progress("verify", 5, 6)
        know(*_verified(scan, space, plan))
    return rates


def _peak(device: str) -> Rate:
    side, kind = _PEAK[device], torch.float16 if device == "cuda" else torch.float32
    square = torch.randn(side, side, device=device).to(kind)
    seconds = _timed(lambda: torch.mm(square, square), device)
    return Rate(f"matrix product, {side}, {kind}", "TFLOP", 2 * side**3 / seconds / 1e12)


def _timed(work: Callable[[], object], device: str, times: int = 8) -> float:
    """Seconds of one time."""

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        work()
    wait()
    begun = time.perf_counter()
    for _ in range(times):
        work()
    wait()
    return (time.perf_counter() - begun) / times


def _model(embedder: Embedder) -> Rate:
    """As the embed stage calls it: by two threads, on pixels in memory."""
    count = embedder.batch * _BATCHES
    shape = (count, embedder.side, embedder.side, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(embedder.embed, [pixels] * 2))
        begun, done = time.perf_counter(), 0
        while time.perf_counter() - begun < _SECONDS:
            list(threads.map(embedder.embed, [pixels] * 2))
            done += 2 * count
        seconds = time.perf_counter() - begun
    name = f"model alone, {embedder.space.model}, {embedder.device}, batches of {embedder.batch}"
    return Rate(name, "picture", done / seconds)


def _decoders(folder: Path, settings: Settings) -> Rate:
    """As many processes as the stage has decoders, which read files and tell nothing."""
    count = settings.embedding.decoders or len(os.sched_getaffinity(0))
    paths = [str(path) for path in sorted(folder.iterdir())]
    parts = [paths[at : at + 16] for at in range(0, len(paths), 16)]
    with _one_thread_each(), ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        list(pool.map(read_files, [paths[:8]] * count * 2))
        begun = time.perf_counter()
        done = sum(pool.map(read_files, parts))
        seconds = time.perf_counter() - begun
    return Rate(f"decoders alone, {count} processes", "picture", done / seconds)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that are started meanwhile multiply with one thread, as decoders do.

    With a thread for each core in each process they wait for one another instead.
    """
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _stage(scan: Scan, slower: Rate) -> tuple[Rate, Space]:
    """The embed stage: its pace from a tenth of the pictures on, for the model is loaded first."""
    seen: list[tuple[float, int]] = []

    def watch(stage: str, done: int, total: int | None) -> None:
        if stage == "embed" and total and done * 10 >= total:
            seen.append((time.perf_counter(), done))

    begun = time.perf_counter()
    counts = embed_assets(scan, watch)
    ended = time.perf_counter()
    at, already = seen[0]
    pace = (counts.read - already) / (ended - at) if counts.read > already else 0.0
    rate = Rate("embed stage", "picture", pace, slower.what, slower.rate, ended - begun)
    return rate, counts.space


def _verified(scan: Scan, space: Space, plan: MachinePlan) -> list[Rate]:
    """Pairs of nearest neighbours, verified from nothing by each number of processes."""
    propose_candidates(scan, space)
    catalog = open_catalog(scan.settings)
    contents = embedded_assets(catalog, scan, space).select("content", "phash").unique()
    found = list(Candidates(catalog, scan, space, contents).parts(plan.pairs))
    pairs = found[0].select("left", "right") if found else pl.DataFrame()
    rates: list[Rate] = []
    for workers in plan.workers if pairs.height else ():
        settings = scan.settings.match.model_copy(update={"workers": workers})
        seconds = _verify_anew(catalog, pairs, scan, settings)
        pace = pairs.height / seconds
        floor = f"{workers} x {plan.workers[0]}" if rates else ""
        most = rates[0].rate * workers / plan.workers[0] if rates else None
        rates.append(Rate(f"verification, {workers} processes", "pair", pace, floor, most, seconds))
    return rates


def _verify_anew(
    catalog: Catalog, pairs: pl.DataFrame, scan: Scan, settings: MatchSettings
) -> float:
    with catalog.writing(scan.settings.catalog.busy_seconds):
        catalog.delete_where("pairs", "true")
        verifier = ScanVerifier(catalog, settings, silent)
        begun = time.perf_counter()
        verifier(pairs)
        return time.perf_counter() - begun


def _lists(count: int, dim: int, device: str, peak: Rate) -> Rate:
    vectors = _vectors(count, dim, device)
    nobody, ranks = np.zeros(0, np.float32), np.arange(count)
    find = nearest_by_halves if device == "cuda" else nearest
    rng = np.random.default_rng(1)
    wanted = np.sort(rng.choice(count, min(_CHECKED, count), replace=False))
    held: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]] = []
    looked = np.zeros(count, bool)
    looked[wanted] = True
    begun = time.perf_counter()
    for block in find(vectors, count, _K, nobody, ranks, device=device):
        mine = looked[block.owner]
        held.append((block.owner[mine], block.cosine[mine]))
    seconds = time.perf_counter() - begun
    wrong = _wrong(vectors, wanted, held)
    floor = f"2 n^2 d by {peak.what}; {wrong} of {len(wanted)} lists off"
    least = 2 * count**2 * dim / (peak.rate * 1e12)
    what = f"exact lists of {count:,} x {dim:,}"
    return Rate(what, "list", count / seconds, floor, count / least, seconds)


def _vectors(count: int, dim: int, device: str) -> npt.NDArray[np.float16]:
    """Random unit vectors, a fifth of them near copies of others."""
    made = torch.Generator(device).manual_seed(0)
    drawn = torch.randn(count, dim, generator=made, device=device)
    first = count - count // 5
    of = torch.randint(0, max(first, 1), (count - first,), generator=made, device=device)
    drawn[first:] = drawn[of] + 0.5 * drawn[first:]
    unit = torch.nn.functional.normalize(drawn, dim=1).to(torch.float16)
    return np.asarray(unit.cpu().numpy())


def _wrong(
    vectors: npt.NDArray[np.float16],
    rows: npt.NDArray[np.int64],
    held: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]],
) -> int:
    """How many lists have other cosines than exact products in double precision give."""
    best = np.full((len(rows), 0), 0.0)
    asked = vectors[rows].astype(np.float64)
    for start in range(0, len(vectors), 1 << 16):
        part = asked @ vectors[start : start + (1 << 16)].astype(np.float64).T
        inside = np.flatnonzero((rows >= start) & (rows < start + part.shape[1]))
        part[inside, rows[inside] - start] = -2.0
        best = np.sort(np.concatenate([best, part], 1), 1)[:, ::-1][:, :_K]
    owners, cosines = (np.concatenate(part) for part in zip(*held, strict=True))
    wrong = 0
    for row, exact in zip(rows, best, strict=True):
        ours = np.sort(cosines[owners == row])[::-1][:_K]
        wrong += len(ours) != len(exact) or bool(np.abs(ours - exact).max() > _ROUNDED)
    return wrong
