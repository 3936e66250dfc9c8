"""Prove: compare the originals of what the thumbnails call copies, at their full size.

A digit of a page, or a word of a slide, does not show on a thumbnail. So no pair is ``exact``, and
no group is merged, before its two originals were compared. Only pairs without a proof are read, so
a scan proves what is new and a scan that was killed goes on where it stopped. A changed object is
another content, so a proof is never that of other bytes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.originals import DIFFERS, DIFFERS_SCORE, READS, SAME, UNREADABLE, claimed
from tasks.dedup.proof_job import compare_originals
from tasks.dedup.verify import EXACT_SCORE, NEAR_SCORE, SIMILAR_SCORE
from tasks.embedding.decoder import DecoderPool
from tasks.engine.shards import Engine
from tasks.progress import Progress, silent
from tasks.queries.comparison import Asked, Comparer, Proven
from tasks.queries.grouping import group_members, keeper_pairs
from tasks.queries.matches import keep_matches, settled_pairs, with_boxes
from tasks.queries.proof_shards import original_of, prove_by_shards
from tasks.queries.proofs import KnownProofs, proof_rows
from tasks.queries.renditions import read_renditions
from tasks.queries.scan_verifier import ScanVerifier
from tasks.queries.scope_assets import embedded_assets, read_assets
from tasks.records import Kind, Scan, Space
from tasks.session import open_catalog, open_engine, open_source
from tasks.sources.collection import is_collection

log = logging.getLogger(__name__)

#: Proofs are written when there are so many, or after so many seconds: a crash loses no more.
_WRITE_ROWS, _WRITE_SECONDS = 512, 5.0
#: Each round may change the groups, and so which pairs hold them together. Two are usual.
_ROUNDS = 30
_SIDES = ["left", "right"]


@dataclass(frozen=True, slots=True)
class ProveCounts:
    """What a prove stage did.

    Attributes:
        proven: pairs whose originals were compared now.
        proof_bytes: bytes that were read for that.
        taken_back: how many of them are no copies after all.
        lifted: how many pages are ``exact``, now that their small print was compared.
        not_proven: pairs in scope whose originals could not be read again, or not be compared.
    """

    proven: int = 0
    proof_bytes: int = 0
    taken_back: int = 0
    lifted: int = 0
    not_proven: int = 0


def prove_pairs(scan: Scan, space: Space, progress: Progress = silent) -> ProveCounts:
    """Compare the originals of the pairs that need it and have no proof yet.

    These are all exact claims, all pages, and the pairs that hold a group together. What is taken
    back can change the groups, so this goes on until nothing is missing.
    """
    catalog = open_catalog(scan.settings)
    with catalog.writing(scan.settings.catalog.busy_seconds), open_engine(scan.settings) as engine:
        stage = _Stage(catalog, scan, space, progress, engine)
        for _ in range(_ROUNDS):
            wanted = stage.missing()
            if wanted.is_empty():
                stage.hand_on()
                break
            stage.prove(wanted)
        counts = stage.counts()
    log.info("prove: %s", counts)
    return counts


class _Stage:
    """One scan's proofs: which are missing, made and written batch by batch."""

    def __init__(
        self,
        catalog: Catalog,
        scan: Scan,
        space: Space,
        progress: Progress,
        engine: Engine | None,
    ) -> None:
        self._catalog, self._scan, self._space, self._progress = catalog, scan, space, progress
        self._engine = engine
        self._assets = embedded_assets(catalog, scan, space)
        self._verifier = ScanVerifier(catalog, scan.settings.match, progress, engine)
        # A timeout or a crash may be that of a busy machine: every full scan tries these again.
        self._proofs = KnownProofs(catalog, again=scan.kind is Kind.FULL)
        self._failed: dict[tuple[str, str], str] = {}
        self._pairs = pl.DataFrame()
        self._needed = pl.DataFrame()
        self._done: list[tuple[str, str]] = []
        self._bytes = 0

    def missing(self) -> pl.DataFrame:
        """Pairs (left, right, evidence) that need a proof, have none, and were not tried."""
        ask = self._proofs.after(self._verifier)
        # Those at the scan's threshold too, for they are handed on as its matches.
        least = min(SIMILAR_SCORE, self._scan.threshold)
        settled = settled_pairs(self._catalog, self._scan, self._space, self._assets, ask, least)
        self._pairs = settled.pairs
        matches = self._pairs.filter(pl.col("score") >= self._scan.threshold).pipe(with_boxes)
        held = keeper_pairs(group_members(self._catalog, self._scan, matches))
        copies = self._pairs.filter(pl.col("claim") >= NEAR_SCORE)
        together = copies.join(held, on=_SIDES, how="semi")
        self._needed = pl.concat([claimed(copies), together]).unique(_SIDES)
        tried = pl.DataFrame(
            list(self._failed), schema=dict.fromkeys(_SIDES, pl.String), orient="row"
        )
        wanted = self._proofs.missing(self._needed).join(tried, on=_SIDES, how="anti")
        # In this order one file is often that of the next pair too.
        return wanted.sort(_SIDES).select(*_SIDES, "evidence")

    def hand_on(self) -> None:
        """Spare the stages after this one settling the same pairs again.

        Not where a file cannot be read: the catalog then holds what an earlier scan said of it, and
        a full scan has left that out.
        """
        unread = f"verdict = {quote(UNREADABLE)}"
        if not self._failed and not self._catalog.count("proofs", unread):
            keep_matches(self._catalog, self._scan, self._space, self._pairs)

    def prove(self, wanted: pl.DataFrame) -> None:
        """Compare some pairs, and write what is known of them as it comes."""
        batch: list[Proven] = []
        written = time.monotonic()
        self._progress("prove", 0, wanted.height)
        for done, proven in enumerate(self._compare(wanted), start=1):
            if proven.verdict:
                batch.append(proven)
            else:
                self._failed[proven.left, proven.right] = proven.message
            self._bytes += proven.fetched
            if len(batch) >= _WRITE_ROWS or time.monotonic() - written > _WRITE_SECONDS:
                self._write(batch)
                batch, written = [], time.monotonic()
            self._progress("prove", done, wanted.height)
        self._write(batch)

    def counts(self) -> ProveCounts:
        """What was done, by the answers as they are settled now."""
        done = pl.DataFrame(self._done, schema=dict.fromkeys(_SIDES, pl.String), orient="row")
        mine = self._pairs.join(done, on=_SIDES, how="semi")
        claim, score, proof = pl.col("claim"), pl.col("score"), pl.col("proof")
        sure = pl.col("proof").is_in([SAME, DIFFERS, READS]).fill_null(value=False)
        needed = self._pairs.join(self._needed, on=_SIDES, how="semi")
        return ProveCounts(
            proven=len(self._done),
            proof_bytes=self._bytes,
            taken_back=mine.filter(
                proof.is_in([DIFFERS, READS]) & (claim > DIFFERS_SCORE) & (score < NEAR_SCORE)
            ).height,
            lifted=mine.filter((claim < EXACT_SCORE) & (score >= EXACT_SCORE)).height,
            not_proven=needed.filter(~sure).height,
        )

    def _compare(self, wanted: pl.DataFrame) -> Iterator[Proven]:
        settings = self._scan.settings
        pairs = [Asked(*row) for row in wanted.iter_rows()]
        source = open_source(self._scan.source, settings)
        if is_collection(source.id):  # whose files were read once; a picture of each was kept
            named = pl.concat([wanted["left"], wanted["right"]]).unique()
            originals = read_renditions(self._catalog, named.to_list())
        else:
            files = self._files(wanted)
            if self._engine is not None:
                yield from prove_by_shards(self._engine, self._scan, pairs, files)
                return
            limit = settings.limits.bytes
            originals = {name: original_of(source, limit, file) for name, file in files.items()}
        with DecoderPool(
            settings.limits, 1, settings.embedding.decoders, compare_originals
        ) as pool:
            comparer = Comparer(pool, originals, settings.limits.inflight_bytes)
            yield from comparer.compare(pairs)

    def _files(self, wanted: pl.DataFrame) -> dict[str, dict[str, Any]]:
        """Content to the smallest file that shows it: key, etag, size, width, height."""
        columns = ["asset_id", "key", "etag", "size", "content", "width", "height"]
        names = pl.concat([wanted["left"], wanted["right"]]).unique()
        assets = read_assets(self._catalog, self._scan, columns)
        best = (
            assets.filter(pl.col("content").is_in(names.implode()))
            .sort("size", "key")
            .unique("content", keep="first", maintain_order=True)
            .select("content", "key", "etag", "size", "width", "height")
        )
        return {row.pop("content"): row for row in best.iter_rows(named=True)}

    def _write(self, batch: list[Proven]) -> None:
        if not batch:
            return
        rows = proof_rows(batch)
        self._catalog.upsert("proofs", rows)
        self._proofs.add(rows)
        self._done += [(one.left, one.right) for one in batch]
