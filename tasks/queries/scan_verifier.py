"""Answers pairs of contents from the catalog, and verifies those that it has no answer for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import polars as pl
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.dedup.feature_cache import FeatureCache
from tasks.dedup.features import use_one_thread
from tasks.dedup.verify import SIMILAR_SCORE, Verified, rule_id, try_to_verify
from tasks.progress import Progress
from tasks.queries.pair_answers import KnownAnswers, name_pairs
from tasks.settings import MatchSettings

log = logging.getLogger(__name__)

#: Pairs verified between two writes.
_CHUNK = 512


class ScanVerifier:
    """Answers pairs from the catalog, and verifies those it does not know.

    Args:
        catalog: where the answers are, and where new ones are written every 512 pairs. The caller
            holds the writer's lease.
        settings: how many threads verify, and how many pictures' features are held.
        progress: told how many of the unknown pairs are verified.

    Attributes:
        verified: how many pairs were verified so far.
    """

    def __init__(self, catalog: Catalog, settings: MatchSettings, progress: Progress) -> None:
        self._catalog = catalog
        self._answers = KnownAnswers(catalog)
        self._workers = settings.workers or os.cpu_count() or 1
        self._held = settings.feature_cache_images
        self._progress = progress
        self.verified = 0
        self._failed: set[tuple[str, str]] = set()

    @property
    def unanswered(self) -> int:
        """How many pairs could not be compared; the next scan tries them again."""
        return len(self._failed)

    def __call__(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """Wanted pairs (left, right) with their answers."""
        new = self._answers.missing(wanted)
        before = 0
        for done, rows in self._verify(new):
            self._catalog.upsert("pairs", rows)
            self._answers.add(rows)
            self.verified += rows.num_rows
            asked = set(new.slice(before, done - before).select("left", "right").iter_rows())
            answered = zip(rows["left"].to_pylist(), rows["right"].to_pylist(), strict=True)
            self._failed |= asked.difference(answered)
            before = done
            self._progress("verify", done, new.height)
        return self._answers.of(wanted)

    def _verify(self, pairs: pl.DataFrame) -> Iterator[tuple[int, pa.Table]]:
        if pairs.is_empty():
            return
        use_one_thread()
        cache = FeatureCache(self._held)
        # Each pair is verified by one thread. If the matrix products inside were spread over the
        # cores as well, the threads would get in each other's way, at twice the cost.
        with (
            threadpool_limits(1),
            ThreadPoolExecutor(self._workers, "verify") as pool,
        ):
            for start in range(0, pairs.height, _CHUNK):
                chunk = pairs.slice(start, _CHUNK)
                sides = chunk.select("left", "right").rows()
                # The thumbnails of contents whose features are in the cache are read as well: they
                # may be pushed out before their pair's turn comes.
                names = {name for pair in sides for name in pair}
                read = self._catalog.read_keys("thumbnails", ["content", "jpeg"], names)
                answer = partial(_answer, cache, dict(read.iter_rows()))
                answers = list(pool.map(answer, *zip(*sides, strict=True)))
                yield start + chunk.height, _rows(chunk, answers)


def _answer(cache: FeatureCache, jpegs: dict[str, bytes], left: str, right: str) -> Verified | None:
    sides = []
    for content in (left, right):
        features = cache.get(content)
        if features is None:
            if content not in jpegs:
                log.error("no thumbnail of %s: the pair is not verified", content)
                return None
            features = cache.make(content, jpegs[content])
        sides.append(features)
    return try_to_verify(sides[0], sides[1])


def _rows(pairs: pl.DataFrame, found: list[Verified | None]) -> pa.Table:
    # A pair without an answer is not written, so the next scan verifies it.
    pairs = pairs.filter(pl.Series([answer is not None for answer in found], dtype=pl.Boolean))
    answers = [answer for answer in found if answer is not None]
    texts = [
        answer.evidence.as_json() if answer.evidence and answer.score >= SIMILAR_SCORE else None
        for answer in answers
    ]
    frame = name_pairs(pairs).select(
        "pair_id",
        "left",
        "right",
        pl.lit(rule_id()).alias("rule"),
        pl.Series("score", [answer.score for answer in answers], dtype=pl.Float32),
        pl.Series("evidence", texts, dtype=pl.String),
    )
    return frame.to_arrow().cast(schema.PAIRS)
