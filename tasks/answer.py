"""Answer: what verification says of one picture and some others, from memory where it is known.

The same verification, of the same two thumbnails, as a scan's: a check and a scan cannot say two
things of one pair. What is verified anew is written down for the next scan, unless the picture is
none of the catalog's, or somebody else is writing: then it is only made again one day.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.features import Features, extract_features, use_one_thread
from tasks.dedup.verify import SIMILAR_SCORE, Verified, rule_id, verify_pair
from tasks.errors import AnalysisError, CatalogBusyError
from tasks.records import digest
from tasks.settings import MatchSettings

log = logging.getLogger(__name__)

#: Pictures whose features are held, of 0.6 MB each: a service that checks lives for weeks.
_HELD = 1000
#: content, score, evidence (JSON or null).
ANSWERS = {"content": pl.String, "score": pl.Float32, "evidence": pl.String}


@dataclass(frozen=True, slots=True)
class Asked:
    """The picture that is asked about.

    Attributes:
        content: digest of its pixels.
        known: whether the catalog has it; then its own thumbnail counts, not the one handed in.
        thumbnail: JPEG.
    """

    content: str
    known: bool
    thumbnail: bytes


class Answerer:
    """Verifies; threads may share it. Keeps the features of pictures seen lately."""

    def __init__(self, settings: MatchSettings) -> None:
        use_one_thread()
        self._most = min(settings.features_held, _HELD)
        self._features: OrderedDict[str, Features] = OrderedDict()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(settings.workers or os.cpu_count() or 1, "verify")

    def known(self, catalog: Catalog, asked: Asked) -> pl.DataFrame:
        """All that was ever said of the picture under the present rule."""
        if not asked.known:
            return pl.DataFrame(schema=ANSWERS)
        name = quote(asked.content)
        rows = catalog.read(
            "pairs",
            ["left", "right", "score", "evidence"],
            f"rule = {quote(rule_id())} AND (left = {name} OR right = {name})",
        )
        other = pl.when(pl.col("left") == asked.content).then("right").otherwise("left")
        return rows.select(other.alias("content"), "score", "evidence").cast(ANSWERS)  # type: ignore[arg-type]

    def verify(self, catalog: Catalog, asked: Asked, contents: Sequence[str]) -> pl.DataFrame:
        """Look at the picture beside each of some contents of the catalog, none its own."""
        if not contents:
            return pl.DataFrame(schema=ANSWERS)
        own = self._own(catalog, asked)
        jpegs = self._missing(catalog, contents)

        def one(content: str) -> Verified | None:
            other = self._of(content, jpegs.get(content))
            if own is None or other is None:
                log.error("no thumbnail of %s: the pair is not verified", content)
                return None
            first, second = (own, other) if asked.content < content else (other, own)
            return verify_pair(first, second)

        answers = list(self._threads.map(one, contents))
        found = [(c, a) for c, a in zip(contents, answers, strict=True) if a is not None]
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

    def _own(self, catalog: Catalog, asked: Asked) -> Features | None:
        if asked.known:
            missing = self._missing(catalog, [asked.content])
            return self._of(asked.content, missing.get(asked.content))
        # By its bytes: whoever hands in a thumbnail does not get to say what a content looks like.
        try:
            return self._of("jpeg " + digest(asked.thumbnail.hex()), asked.thumbnail)
        except ValueError:
            raise AnalysisError("the analysis has a thumbnail that cannot be read") from None

    def _missing(self, catalog: Catalog, contents: Sequence[str]) -> dict[str, bytes]:
        """Thumbnails of the contents whose features are not held."""
        with self._lock:
            wanted = [content for content in contents if content not in self._features]
        if not wanted:
            return {}
        return dict(catalog.read_keys("thumbnails", ["content", "jpeg"], wanted).iter_rows())

    def _of(self, name: str, jpeg: bytes | None) -> Features | None:
        with self._lock:
            held = self._features.get(name)
            if held is not None:
                self._features.move_to_end(name)
                return held
        if jpeg is None:
            return None
        made = extract_features(jpeg)
        with self._lock:
            self._features[name] = made
            while len(self._features) > self._most:
                self._features.popitem(last=False)
        return made

    def _remember(self, catalog: Catalog, content: str, answers: pl.DataFrame) -> None:
        other = pl.col("content")
        sides = answers.select(
            pl.min_horizontal(other, pl.lit(content)).alias("left"),
            pl.max_horizontal(other, pl.lit(content)).alias("right"),
            pl.lit(rule_id()).alias("rule"),
            "score",
            "evidence",
        )
        ids = [digest(left, right) for left, right in sides.select("left", "right").iter_rows()]
        rows = sides.insert_column(0, pl.Series("pair_id", ids, dtype=pl.String))
        try:
            with catalog.writing(0):  # a scan may hold the lease for hours: nobody waits for it
                catalog.upsert("pairs", rows.to_arrow().cast(schema.PAIRS))
        except CatalogBusyError:
            log.info("another process writes: %d answers are not written down", rows.height)


def _text(answer: Verified) -> str | None:
    if answer.evidence is None or answer.score < SIMILAR_SCORE:
        return None
    return answer.evidence.as_json()
