"""A scan of a million made-up contents, stage by stage: time and memory of each.

The catalog is written once (:mod:`deployments.bench.made_up`). Then the stages of a scan run as
they do in production, each measured by itself. They may be run one by one, for what each leaves is
in the catalog. Two things are made up between them, for there are no pictures to look at: what
verification said of the pairs that the lists propose, and what the originals said.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from deployments.bench.made_up import (
    COLLECTION,
    content_names,
    draw_lists,
    fill_catalog,
    list_pages,
)
from flows.order import render
from reports.page import totals
from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.dedup.evidence import Evidence
from tasks.dedup.originals import SAME, proof_rule
from tasks.dedup.verify import rule_id
from tasks.errors import SettingsError
from tasks.intake.screen import screen_assets
from tasks.progress import Progress, silent
from tasks.queries.candidates import READ_ROWS, lists_where
from tasks.queries.first_looks import look_at_pairs
from tasks.queries.pair_answers import name_pairs
from tasks.records import Kind, Listing, Scan, Space, now
from tasks.reporting.summarize import summarize_scan
from tasks.requests import ScanRequest
from tasks.scan.begin import begin_scan
from tasks.scan.embed import find_unread
from tasks.scan.finish import finish_scan
from tasks.scan.group import group_assets
from tasks.scan.propose import propose_candidates
from tasks.scan.prove import prove_pairs
from tasks.scan.sync import diff, known_assets, list_assets
from tasks.scan.verify import verify_candidates
from tasks.session import open_catalog, open_source
from tasks.settings import Settings
from tasks.sources.collection import CollectionSource

#: Pairs at this cosine or above are called copies; of made-up strangers hardly any reaches it.
_COPY = 0.8
#: Pairs that are looked at to learn what looking costs.
_LOOKED = 100_000
_STATE = "million.json"
#: The stages in their order.
STAGES = (
    "fill",
    "list",
    "embed",
    "propose",
    "look",
    "answers",
    "verify",
    "prove",
    "group",
    "screen",
    "report",
    "finish",
)
#: Instead of propose, where that takes too long.
DRAW = "draw"


@dataclass(frozen=True, slots=True)
class Lap:
    """One stage.

    Attributes:
        cpu_s: CPU seconds of this process and its children.
        peak_mib: the most memory that this process held meanwhile.
        before_mib: what it held when the stage began.
        said: what the stage returned, in short.
    """

    stage: str
    contents: int
    cpu_s: float
    wall_s: float
    peak_mib: int
    before_mib: int
    said: str


def run_million(
    settings: Settings,
    contents: int,
    work: Path,
    *,
    stages: Sequence[str] = STAGES,
    features: int | None = None,
    images: Path | None = None,
    incremental: bool = False,
    dim: int = 1280,
    seed: int = 0,
    progress: Progress = silent,
    tell: Callable[[Lap], None] | None = None,
) -> list[Lap]:
    """Run some stages of a scan of made-up contents.

    Args:
        settings: of which the catalog's place is replaced by one below ``work``.
        contents: how many; a catalog of another size is not touched.
        work: where catalog and documents are kept.
        stages: names of :data:`STAGES`, run in that order; and ``draw``, which makes lists up.
        dim: of the vectors; few numbers will do where no lists are made of them.
        features: contents with compact features; None: all, 15 kB each.
        images: a folder of photographs whose features are used.
        incremental: begin an incremental scan instead of a full one.
        seed: another seed makes another collection.
        progress: told how far a stage is.
        tell: told each stage as it ends.

    Raises:
        SettingsError: when a stage is unknown, or the catalog there is of another size.
    """
    if wrong := set(stages) - {*STAGES, DRAW}:
        raise SettingsError(f"unknown stages: {', '.join(sorted(wrong))}; of {', '.join(STAGES)}")
    here = settings.catalog.model_copy(update={"uri": str(work / "catalog")})
    there = settings.delivery.model_copy(update={"folder": work / "reports", "bucket": None})
    settings = settings.model_copy(update={"catalog": here, "delivery": there})
    run = _Run(settings, contents, work, incremental, Space("made-up", "1", "none", dim), progress)
    found = []
    ordered = (DRAW, *STAGES) if "fill" not in stages else ("fill", DRAW, *STAGES[1:])
    for stage in filter(set(stages).__contains__, ordered):
        chosen = contents if features is None else features
        act = partial(run.fill, seed, chosen, images) if stage == "fill" else getattr(run, stage)
        lap = run.measure(stage, act)
        found.append(lap)
        if tell:
            tell(lap)
    return found


class _Run:
    """The stages, each a method; what one needs of another is in the catalog or in a small file."""

    def __init__(
        self,
        settings: Settings,
        contents: int,
        work: Path,
        incremental: bool,
        space: Space,
        progress: Progress,
    ) -> None:
        self._settings, self._contents, self._work = settings, contents, work
        self._kind = Kind.INCREMENTAL if incremental else Kind.FULL
        self._progress = progress
        self._space = space
        there = self._catalog.count("assets")
        if there and there != contents:
            raise SettingsError(f"{work} holds {there:,} contents, not {contents:,}")
        state = work / _STATE
        self._kept = json.loads(state.read_text()) if state.exists() else {}
        self._begun: Scan | None = None

    @property
    def _catalog(self) -> Catalog:
        """Opened anew, for the stages make tables in catalogs of their own."""
        return open_catalog(self._settings)

    def measure(self, stage: str, run: Callable[[], object]) -> Lap:
        """Run one stage, and see what it cost."""
        before = _reset_peak()
        cpu, started = _cpu(), time.monotonic()
        said = run()
        spent, passed = _cpu() - cpu, time.monotonic() - started
        return Lap(
            stage,
            self._contents,
            round(spent, 1),
            round(passed, 1),
            max(_memory("VmHWM"), before),  # the system adds up several processors' counts roughly
            before,
            " ".join(str(said).split())[:300],
        )

    def fill(self, seed: int, features: int, images: Path | None) -> str:
        """Write the catalog."""
        fill_catalog(
            self._catalog,
            self._settings,
            self._space,
            self._contents,
            seed=seed,
            features=features,
            images=images,
            progress=self._progress,
        )
        return f"{self._catalog.count('features'):,} with features"

    def list(self) -> str:
        """List as many objects as a bucket would, and compare with what the catalog knows."""
        source = _Bucket(self._contents)
        listed = list_assets(source, self._scan)
        added, changed, removed = diff(listed, known_assets(self._catalog, source))
        return f"{listed.height} listed, {added.height} {changed.height} {removed.height}"

    def embed(self) -> str:
        """Find out what must be read: nothing."""
        source = open_source(self._scan.source, self._settings)
        return f"{find_unread(self._scan, source, self._catalog, self._space).height} to read"

    def propose(self) -> object:
        """Make the neighbour lists."""
        return propose_candidates(self._scan, self._space, self._progress)

    def draw(self) -> str:
        """Make the neighbour lists up."""
        names = content_names(self._contents, 0)
        draw_lists(self._catalog, self._scan, self._space, names, 0, self._progress)
        return f"{self._catalog.count('neighbours'):,} lists made up"

    def look(self) -> str:
        """Look at some of the proposed pairs that have features; what is found means nothing."""
        known = self._catalog.read("features", ["content"])["content"]
        pairs, most = [], _LOOKED
        for part in self._proposed():
            here = part.filter(pl.all_horizontal(pl.col("left", "right").is_in(known.implode())))
            pairs.append(here.select("left", "right").head(most))
            most -= pairs[-1].height
            if most <= 0:
                break
        wanted = pl.concat(pairs)
        workers = self._settings.match.workers or len(os.sched_getaffinity(0))
        catalog = self._catalog
        with catalog.writing():
            looked = sum(part.height for part in look_at_pairs(catalog, wanted, workers))
        return f"{looked} pairs looked at"

    def answers(self) -> str:
        """Write what verification and proof would have said of every proposed pair."""
        told = 0
        evidence = _evidence()
        proven = {"rule": proof_rule(), "verified_by": rule_id(), "verdict": SAME}
        catalog = self._catalog
        with catalog.writing():
            for part in self._proposed():
                pairs = name_pairs(part)
                copy = pl.col("cosine") >= _COPY
                rows = pairs.select(
                    "pair_id",
                    "left",
                    "right",
                    pl.lit(rule_id()).alias("rule"),
                    pl.when(copy).then(0.93).otherwise(0.0).cast(pl.Float32).alias("score"),
                    pl.when(copy).then(pl.lit(evidence)).alias("evidence"),
                )
                catalog.table("pairs").add(rows.to_arrow().cast(schema.PAIRS))
                copies = pairs.filter(copy).select(
                    pl.col("pair_id").alias("proof_id"),
                    "left",
                    "right",
                    *(pl.lit(value).alias(name) for name, value in proven.items()),
                    pl.lit([0.0, 0.0, 1.0, 1.0]).alias("box"),
                    pl.lit(0.4, pl.Float32).alias("excess"),
                    pl.lit(2_000_000, pl.Int64).alias("bytes"),
                    pl.lit(None, pl.String).alias("message"),
                    pl.lit(now()).alias("at"),
                )
                told += copies.height
                catalog.table("proofs").add(copies.to_arrow().cast(schema.PROOFS))
        return f"{self._catalog.count('pairs')} pairs, {told} copies"

    def verify(self) -> object:
        """Ask what is known of every candidate pair."""
        return verify_candidates(self._scan, self._space, self._progress)

    def prove(self) -> object:
        """Ask which originals must be compared: none."""
        return prove_pairs(self._scan, self._space, self._progress)

    def group(self) -> object:
        """Make the groups."""
        return group_assets(self._scan, self._space)

    def screen(self) -> object:
        """Compare with an empty blocklist."""
        return screen_assets(self._scan, self._space)

    def report(self) -> str:
        """Summarize, and draw every document."""
        counts = {"seen": self._contents, "members": 1}
        summary = summarize_scan(self._scan, self._space, counts)
        documents = render(summary)
        sizes = {one.name: len(one.body) for one in documents}
        return f"{totals(summary)} {sizes}"

    def finish(self) -> str:
        """Tidy the catalog and close the scan."""
        finish_scan(self._scan, self._space, {"seen": self._contents}, told=False)
        return f"{self._catalog.tables()}"

    @property
    def _scan(self) -> Scan:
        """The scan that the stages belong to; a new one where none goes on."""
        if self._begun is None:
            request = ScanRequest(kind=self._kind, source=COLLECTION)
            scan = begin_scan(request, self._settings)
            if known := self._kept.get(self._kind.value):
                scan = replace(scan, id=known)
            else:
                self._kept[self._kind.value] = scan.id
                (self._work / _STATE).write_text(json.dumps(self._kept))
            self._begun = scan
        return self._begun

    def _proposed(self) -> Iterator[pl.DataFrame]:
        """The pairs that the lists propose, each once: left, right, cosine."""
        where = lists_where(self._scan, self._space)
        seen: pl.DataFrame | None = None
        columns = ["content", "names", "cosines"]
        for batch in self._catalog.stream("neighbours", columns, where, READ_ROWS):
            lists = pl.DataFrame(pl.from_arrow(batch)).explode("names", "cosines")
            pairs = (
                lists.drop_nulls("names")
                .select(
                    pl.min_horizontal("content", "names").alias("left"),
                    pl.max_horizontal("content", "names").alias("right"),
                    pl.col("cosines").alias("cosine"),
                )
                .unique(["left", "right"])
            )
            keys = pairs.select(pl.struct("left", "right").hash().alias("key"))
            pairs = pairs.with_columns(keys["key"])
            if seen is not None:
                pairs = pairs.join(seen, on="key", how="anti")
            new = pairs.select("key")
            seen = new if seen is None else pl.concat([seen, new])
            yield pairs.drop("key")


class _Bucket(CollectionSource):
    """The made-up collection as a bucket would list it."""

    def __init__(self, contents: int) -> None:
        super().__init__(COLLECTION)
        self._count = contents

    def list_pages(self) -> Iterator[list[Listing]]:
        """All objects, 1,000 a page."""
        return list_pages(self._count)


def _evidence() -> str:
    """The evidence of a plain copy, a little smaller."""
    whole = (0.0, 0.0, 1.0, 1.0)
    return Evidence(
        method="whole",
        scale=1.0,
        rotation=0.0,
        mirrored=False,
        aspect=1.0,
        shear=0.0,
        share_left=1.0,
        share_right=1.0,
        box_left=whole,
        box_right=whole,
        inliers=180,
        matches=200,
        others=2,
        residual=0.4,
        agree=0.99,
        agree_else=0.01,
        fine=0.97,
        texture=0.6,
        parallax=0.05,
        covered=0.0,
        covered_at=(0.5, 0.5),
        gain=1.0,
        contrast=1.0,
        saturation=1.0,
        hue_error=0.0,
        tint=0.0,
        sharpness=0.95,
        ink=0.0,
    ).as_json()


def _reset_peak() -> int:
    """Forget the peak so far; returns what is held now, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) // 1024
    return 0


def _cpu() -> float:
    return sum(os.times()[:4])


def as_rows(laps: Sequence[Lap]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(lap) for lap in laps]
