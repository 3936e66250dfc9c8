"""``dam-dedup bench quality``: the real scan on files whose truth is known."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from deployments.bench.plant import RECIPE, TRUTH, plant, read_truth
from deployments.bench.plots import check_plots, draw_plots
from deployments.bench.rivals import Rival, compare_rivals, own_row
from deployments.bench.score import Quality, assess
from tasks.progress import Progress, silent

if TYPE_CHECKING:
    from flows.order import Outcome, Steps
    from tasks.settings import Settings

#: The least a scan may report: all scores there are, to see what a threshold does.
_LOWEST = 0.5


@dataclass(frozen=True, slots=True)
class Report:
    """One measurement.

    Attributes:
        asked: what was measured, and with what.
        quality: the figures.
        rivals: the product and the other methods, one row each.
        counts: what the stages of the scan counted.
        failed: files that could not be read, by reason; their copies cannot be found.
        stages: seconds of each stage.
        seconds: of the whole scan.
        stage_mb: the most memory that the process held in each stage; empty where the system does
            not tell.
        rss_mb: the most memory that the process held, and the largest of its decoders.
    """

    asked: dict[str, Any]
    quality: Quality
    rivals: list[Rival]
    counts: dict[str, int]
    failed: dict[str, int]
    stages: dict[str, float]
    stage_mb: dict[str, int]
    seconds: float
    rss_mb: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "asked": self.asked,
            "quality": self.quality.as_dict(),
            "rivals": [rival.as_dict() for rival in self.rivals],
            "counts": self.counts,
            "failed": self.failed,
            "stages": self.stages,
            "stage_mb": self.stage_mb,
            "seconds": self.seconds,
            "rss_mb": self.rss_mb,
        }


def run_quality(
    images: Path,
    *,
    seed: int = 0,
    sources: int = 200,
    edits: int = 12,
    truth: Path | None = None,
    workdir: Path | None = None,
    plots: Path | None = None,
    threshold: float = 0.7,
    model: str | None = None,
    progress: Progress = silent,
) -> Report:
    """Scan files whose truth is known, and compare.

    Args:
        images: a folder of photographs; nothing is written to it.
        seed: names the draw of sources and edits.
        sources: how many photographs get edited copies.
        edits: how many each gets.
        truth: a table (file, group) of ``images`` itself; then nothing is planted.
        workdir: keeps the planted files, the catalog and the documents; None: a passing folder.
        plots: an SVG or PNG file to draw.
        threshold: the score from which a pair counts.
        model: the embedding model; None: that of the settings.
        progress: told how far the scan is.

    Raises:
        SettingsError: when something asked for cannot be.
    """
    if plots:
        check_plots(plots)
    if workdir is None:
        with tempfile.TemporaryDirectory(prefix="dam-dedup-bench-") as passing:
            return run_quality(
                images,
                seed=seed,
                sources=sources,
                edits=edits,
                truth=truth,
                workdir=Path(passing),
                plots=plots,
                threshold=threshold,
                model=model,
                progress=progress,
            )
    if truth:
        folder, table = images, read_truth(truth)
        asked: dict[str, Any] = {"truth": str(truth)}
    else:
        folder = workdir / "planted"
        table = read_truth(plant(images, folder, seed, sources, edits))
        asked = {"seed": seed, "sources": sources, "edits": edits}
    settings = bench_settings(workdir, model)
    asked |= {"images": str(images), "model": settings.embedding.model, "files": table.height}
    outcome, clock, seconds = _scan(settings, folder, workdir / "documents", progress)
    peak = max([*clock.peaks.values(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024])
    quality, rivals = _assess(settings, outcome, table, threshold, folder)
    if plots:
        draw_plots(quality, plots)
    return Report(
        asked=asked,
        quality=quality,
        rivals=[own_row(quality), *rivals],
        counts=outcome.summary.counts,
        failed=outcome.summary.coverage.failed,
        stages=clock.seconds,
        stage_mb=clock.peaks,
        seconds=seconds,
        rss_mb={
            "process": peak,
            "decoder": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        },
    )


def bench_settings(workdir: Path, model: str | None) -> Settings:
    """The user's settings, but for what would change which files are seen, or tell others."""
    from tasks.settings import load_settings

    parts: dict[str, Any] = {
        "catalog": {"uri": str(workdir / "catalog")},
        "delivery": {"folder": workdir / "documents", "bucket": None},
        "mail": {"to": []},
        "source": {"include": [], "exclude": [TRUTH, RECIPE], "minimum_listing": 0.0},
    }
    if model:
        parts["embedding"] = {"model": model}
    return load_settings(**parts)


class _Clock:
    """The stages, each timed, and the most memory it held."""

    def __init__(self, stages: object) -> None:
        self._stages = stages
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, int] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        stage = getattr(self._stages, name)

        def timed(*args: Any, **options: Any) -> Any:
            fresh = _forget_peak()
            started = time.perf_counter()
            try:
                return stage(*args, **options)
            finally:
                self.seconds[name] = round(time.perf_counter() - started, 2)
                if fresh:
                    self.peaks[name] = _peak_mb()

        return timed


def _forget_peak() -> bool:
    """Let the system count the most memory anew; false where it cannot (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_mb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1024


def _scan(
    settings: Settings, folder: Path, documents: Path, progress: Progress
) -> tuple[Outcome, _Clock, float]:
    from flows.order import run_scan
    from tasks import stages
    from tasks.records import Kind, ScanRequest

    clock = _Clock(stages)
    request = ScanRequest(kind=Kind.FULL, source=str(folder), threshold=_LOWEST, where="")
    started = time.perf_counter()
    outcome = run_scan(cast("Steps", clock), request, settings, progress=progress, folder=documents)
    return outcome, clock, round(time.perf_counter() - started, 2)


def _assess(
    settings: Settings, outcome: Outcome, truth: pl.DataFrame, threshold: float, folder: Path
) -> tuple[Quality, list[Rival]]:
    from tasks.scan.verify import read_pairs
    from tasks.session import open_catalog, open_source, scope_sql

    scan, space = outcome.scan, outcome.summary.space
    catalog = open_catalog(settings)
    where = scope_sql(scan, open_source(scan.source, settings))
    assets = catalog.read("assets", ["key", "content", "phash"], where).drop_nulls("content")
    candidates = candidate_keys(assets, truth, read_pairs(catalog, scan, space))
    members = _members_at(settings, outcome, folder, threshold)
    quality = assess(truth, outcome.summary.pairs, members, candidates, threshold)
    return quality, compare_rivals(catalog, space.id, assets, truth)


def candidate_keys(
    assets: pl.DataFrame, truth: pl.DataFrame, verified: pl.DataFrame
) -> pl.DataFrame:
    """left, right (keys) of the pairs of one truth group that were looked at, or are equal.

    Args:
        assets: key, content.
        truth: file, group.
        verified: left, right (contents) of all pairs looked at.
    """
    files = assets.select("key", "content").join(
        truth.select(pl.col("file").alias("key"), "group"), on="key"
    )
    equal = files.join(files, on=["content", "group"], suffix="_right")
    looked = (
        verified.select("left", "right")
        .join(files, left_on="left", right_on="content")
        .join(files, left_on=["right", "group"], right_on=["content", "group"], suffix="_right")
    )
    both = pl.concat([frame.select("key", "key_right") for frame in (equal, looked)])
    return both.filter(pl.col("key") != pl.col("key_right")).select(
        pl.col("key").alias("left"), pl.col("key_right").alias("right")
    )


def _members_at(
    settings: Settings, outcome: Outcome, folder: Path, threshold: float
) -> pl.DataFrame:
    """The groups at a threshold: those of a second scan, which has nothing left to verify."""
    if threshold <= _LOWEST:
        return outcome.summary.members
    from flows.order import run_scan
    from tasks import stages
    from tasks.records import ScanRequest

    request = ScanRequest(source=str(folder), threshold=threshold, where="")
    documents = Path(settings.delivery.folder or ".") / f"at-{threshold:g}"
    return run_scan(stages, request, settings, folder=documents).summary.members
