"""The answers for one picture and some others: read from the catalog, or verified here.

This is the verification of a scan, of the same two thumbnails, so a check and a scan say the same
of a pair. New answers are written to the catalog for the next scan, if the catalog has the picture
and nobody else is writing. Otherwise they wait; answers that are lost only cost the work again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl
from cachetools import LRUCache

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.feature_cache import FeatureCache
from tasks.dedup.features import Features, use_one_thread
from tasks.dedup.first_look import (
    RECORD,
    Record,
    are_strangers,
    make_features,
    unpack,
    votes_for,
)
from tasks.dedup.verify import SIMILAR_SCORE, Verified, rule_id, try_to_verify
from tasks.errors import AnalysisError, CatalogBusyError
from tasks.process.heap import keep_freed_memory
from tasks.queries.blas_threads import OneBlasThread
from tasks.queries.first_looks import read_records
from tasks.queries.pair_answers import name_pairs
from tasks.records import digest
from tasks.settings import MatchSettings

log = logging.getLogger(__name__)

#: The most pictures whose features are held, of 0.6 MB each. Less than a scan's, for a service
#: that checks runs for weeks.
_HELD = 1000
#: The same for the compact features of the first look: 16 kB each.
_HELD_COMPACT = 4000
#: How many answers are written at once, and how many may wait while somebody else writes.
_WRITTEN, _WAITING = 1000, 20_000
#: The columns of answers for one picture; evidence is JSON or null.
ANSWERS = {"content": pl.String, "score": pl.Float32, "evidence": pl.String}
_SIDED = {"left": pl.String, "right": pl.String, "score": pl.Float32, "evidence": pl.String}


@dataclass(frozen=True, slots=True)
class AskedPicture:
    """The picture that is asked about.

    Attributes:
        content: digest of its pixels.
        known: whether the catalog has it; then the catalog's thumbnail is compared, and not the
            one that was handed in, because the answer is kept for good.
        thumbnail: the JPEG that was handed in.
    """

    content: str
    known: bool
    thumbnail: bytes


class PairVerifier:
    """Verifies one picture against others; threads may share it.

    Args:
        settings: how many threads verify, and how many pictures' features are held.
        patience: seconds that answers may wait to be written with others. A write costs as much
            for one pair as for a thousand, and each one makes later reads slower.
    """

    def __init__(self, settings: MatchSettings, patience: float = 0.0) -> None:
        use_one_thread()
        keep_freed_memory()
        self._unwritten = _Unwritten(patience)
        self._cache = FeatureCache(min(settings.feature_cache_images, _HELD))
        self._records: LRUCache[str, Record] = LRUCache(_HELD_COMPACT)
        self._lock = threading.Lock()
        self._one_blas_thread = OneBlasThread()
        workers = settings.workers or len(os.sched_getaffinity(0))
        self._threads = ThreadPoolExecutor(workers, "verify")

    def known(self, catalog: Catalog, asked: AskedPicture) -> pl.DataFrame:
        """All answers that the picture has under the present rule, written or waiting."""
        if not asked.known:
            return pl.DataFrame(schema=ANSWERS)
        name = quote(asked.content)
        rows = catalog.read(
            "pairs",
            ["left", "right", "score", "evidence"],
            f"rule = {quote(rule_id())} AND (left = {name} OR right = {name})",
        )
        rows = pl.concat([rows.cast(_SIDED), self._unwritten.of(asked.content)])  # type: ignore[arg-type]
        other = pl.when(pl.col("left") == asked.content).then("right").otherwise("left")
        found = rows.select(other.alias("content"), "score", "evidence")
        return found.unique("content", keep="first", maintain_order=True)

    def verify(
        self, catalog: Catalog, asked: AskedPicture, contents: Sequence[str]
    ) -> pl.DataFrame:
        """Verify the picture against some contents of the catalog, other than its own."""
        if not contents:
            return pl.DataFrame(schema=ANSWERS)
        with self._one_blas_thread:
            strangers = self._strangers(catalog, asked, contents)
            rest = [content for content in contents if content not in strangers]
            answers = self._verified(catalog, asked, rest)
        found = [(c, a) for c, a in zip(rest, answers, strict=True) if a is not None]
        found += [(content, Verified(0.0, None)) for content in strangers]
        frame = pl.DataFrame(
            {
                "content": [content for content, _ in found],
                "score": [answer.score for _, answer in found],
                "evidence": [_text(answer) for _, answer in found],
            },
            schema=ANSWERS,
        )
        if asked.known:
            self._remember(catalog, asked.content, frame)
        return frame

    def _strangers(
        self, catalog: Catalog, asked: AskedPicture, contents: Sequence[str]
    ) -> list[str]:
        """The contents that the first look refuses: with these nothing is in common."""
        if asked.known:
            own = self._compact(catalog, [asked.content])[asked.content]
        else:
            own = unpack([make_features(asked.thumbnail)])[0]
        held = self._compact(catalog, contents)
        swapped = np.array([asked.content > content for content in contents])
        votes = votes_for(own, np.array([held[content] for content in contents], RECORD), swapped)
        refused = are_strangers(votes)
        return [content for content, stranger in zip(contents, refused, strict=True) if stranger]

    def _compact(self, catalog: Catalog, contents: Sequence[str]) -> dict[str, Record]:
        """Compact features of contents: held, read, or made of their thumbnails."""
        with self._lock:
            held = {name: self._records[name] for name in contents if name in self._records}
        wanted = [name for name in contents if name not in held]
        if wanted:
            names = pl.Series(wanted, dtype=pl.String)
            read = dict(
                zip(wanted, read_records(catalog, names, self._threads, keep=False), strict=True)
            )
            with self._lock:
                self._records.update(read)
            held |= read
        return held

    def _verified(
        self, catalog: Catalog, asked: AskedPicture, contents: Sequence[str]
    ) -> list[Verified | None]:
        if not contents:
            return []
        own = self._own(catalog, asked)
        sides = self._features_or_jpegs(catalog, contents)

        def one(content: str) -> Verified | None:
            other = self._features_of(content, sides)
            if own is None or other is None:
                log.error("no thumbnail of %s: the pair is not verified", content)
                return None
            first, second = (own, other) if asked.content < content else (other, own)
            return try_to_verify(first, second)

        return list(self._threads.map(one, contents))

    def _own(self, catalog: Catalog, asked: AskedPicture) -> Features | None:
        if asked.known:
            return self._features_of(
                asked.content, self._features_or_jpegs(catalog, [asked.content])
            )
        # The features are cached under the thumbnail's bytes and not under the content: a caller
        # who sends a false thumbnail must not change what others see of that content.
        name = "jpeg " + digest(asked.thumbnail.hex())
        given: dict[str, Features | bytes] = {name: asked.thumbnail}
        try:
            return self._features_of(name, {**given, **self._cache.held([name])})
        except ValueError:
            raise AnalysisError("the analysis has a thumbnail that cannot be read") from None

    def _features_or_jpegs(
        self, catalog: Catalog, contents: Sequence[str]
    ) -> dict[str, Features | bytes]:
        """Features of contents, or their thumbnails where none are held."""
        # A reference is taken now, for other threads may push features out of the cache.
        sides: dict[str, Features | bytes] = dict(self._cache.held(contents))
        wanted = [content for content in contents if content not in sides]
        if not wanted:
            return sides
        read = catalog.read_keys("thumbnails", ["content", "jpeg"], wanted)
        return sides | dict(read.iter_rows())

    def _features_of(self, name: str, sides: dict[str, Features | bytes]) -> Features | None:
        held = sides.get(name)
        if not isinstance(held, bytes):
            return held
        return self._cache.make(name, held)

    def _remember(self, catalog: Catalog, content: str, answers: pl.DataFrame) -> None:
        other = pl.col("content")
        sides = answers.select(
            pl.min_horizontal(other, pl.lit(content)).alias("left"),
            pl.max_horizontal(other, pl.lit(content)).alias("right"),
            "score",
            "evidence",
        )
        self._unwritten.add(sides)
        if self._unwritten.due:
            self.write(catalog)

    def write(self, catalog: Catalog) -> None:
        """Write the answers that wait; while another process writes they go on waiting."""
        sides = self._unwritten.take()
        if sides.is_empty():
            return
        rows = name_pairs(sides).select(
            "pair_id", "left", "right", pl.lit(rule_id()).alias("rule"), "score", "evidence"
        )
        try:
            with catalog.writing(0):  # no waiting: a scan may hold the lease for hours
                catalog.upsert("pairs", rows.to_arrow().cast(schema.PAIRS))
        except CatalogBusyError:
            log.info("another process writes: %d answers wait to be written down", rows.height)
            self._unwritten.add(sides)


class _Unwritten:
    """Answers that wait to be written down; threads may share them."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._rows = pl.DataFrame(schema=_SIDED)
        self._since = 0.0
        self._lock = threading.Lock()

    @property
    def due(self) -> bool:
        """Whether there are enough of them, or the oldest has waited long enough."""
        with self._lock:
            old = time.monotonic() - self._since >= self._patience
            return self._rows.height >= _WRITTEN or (old and not self._rows.is_empty())

    def of(self, content: str) -> pl.DataFrame:
        """The answers that wait, of one content."""
        with self._lock:
            rows = self._rows
        return rows.filter((pl.col("left") == content) | (pl.col("right") == content))

    def add(self, rows: pl.DataFrame) -> None:
        """Keep some more; beyond 20,000 the oldest are dropped, and verified again when needed."""
        with self._lock:
            if self._rows.is_empty():
                self._since = time.monotonic()
            self._rows = pl.concat([self._rows, rows.cast(_SIDED)]).tail(_WAITING)  # type: ignore[arg-type]

    def take(self) -> pl.DataFrame:
        """Return all answers that wait, and keep none."""
        with self._lock:
            rows, self._rows = self._rows, self._rows.clear()
        return rows


def _text(answer: Verified) -> str | None:
    if answer.evidence is None or answer.score < SIMILAR_SCORE:
        return None
    return answer.evidence.as_json()
