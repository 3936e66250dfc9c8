"""Answer: what verification says of one picture and some others, from memory where it is known.

The same verification, of the same two thumbnails, as a scan's: a check and a scan cannot say two
things of one pair. What is verified anew is written down for the next scan, unless the picture is
none of the catalog's, or somebody else is writing: then it is only made again one day.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.features import Features, extract_features, use_one_thread
from tasks.dedup.verify import SIMILAR_SCORE, Verified, rule_id, try_to_verify
from tasks.errors import AnalysisError, CatalogBusyError
from tasks.records import digest
from tasks.scan.verify import name_pairs
from tasks.settings import MatchSettings

log = logging.getLogger(__name__)

#: Pictures whose features are held, of 0.6 MB each: a service that checks lives for weeks.
_HELD = 1000
#: Answers that are written at once, and that wait at the most where somebody else writes.
_WRITTEN, _WAITING = 1000, 20_000
#: content, score, evidence (JSON or null).
ANSWERS = {"content": pl.String, "score": pl.Float32, "evidence": pl.String}
_SIDED = {"left": pl.String, "right": pl.String, "score": pl.Float32, "evidence": pl.String}


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
    """Verifies; threads may share it. Keeps the features of pictures seen lately.

    Args:
        settings: how many threads, and how many features are kept.
        patience: seconds that answers may wait to be written with others: a write costs as much
            for one pair as for a thousand, and every one makes later reads dearer.
    """

    def __init__(self, settings: MatchSettings, patience: float = 0.0) -> None:
        use_one_thread()
        self._unwritten = _Unwritten(patience)
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
        rows = pl.concat([rows.cast(_SIDED), self._unwritten.of(asked.content)])  # type: ignore[arg-type]
        other = pl.when(pl.col("left") == asked.content).then("right").otherwise("left")
        found = rows.select(other.alias("content"), "score", "evidence")
        return found.unique("content", keep="first", maintain_order=True)

    def verify(self, catalog: Catalog, asked: Asked, contents: Sequence[str]) -> pl.DataFrame:
        """Look at the picture beside each of some contents of the catalog, none its own."""
        if not contents:
            return pl.DataFrame(schema=ANSWERS)
        own = self._own(catalog, asked)
        shelf = self._shelf(catalog, contents)

        def one(content: str) -> Verified | None:
            other = self._features_of(content, shelf)
            if own is None or other is None:
                log.error("no thumbnail of %s: the pair is not verified", content)
                return None
            first, second = (own, other) if asked.content < content else (other, own)
            return try_to_verify(first, second)

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
            return self._features_of(asked.content, self._shelf(catalog, [asked.content]))
        # By its bytes: whoever hands in a thumbnail does not get to say what a content looks like.
        name = "jpeg " + digest(asked.thumbnail.hex())
        given: dict[str, Features | bytes] = {name: asked.thumbnail}
        try:
            return self._features_of(name, given | self._held([name]))
        except ValueError:
            raise AnalysisError("the analysis has a thumbnail that cannot be read") from None

    def _shelf(self, catalog: Catalog, contents: Sequence[str]) -> dict[str, Features | bytes]:
        """Features of contents, or their thumbnails where none are held."""
        # Taken now: other threads may push out what is held before it is looked at.
        shelf = self._held(contents)
        wanted = [content for content in contents if content not in shelf]
        if not wanted:
            return shelf
        read = catalog.read_keys("thumbnails", ["content", "jpeg"], wanted)
        return shelf | dict(read.iter_rows())

    def _held(self, names: Sequence[str]) -> dict[str, Features | bytes]:
        found: dict[str, Features | bytes] = {}
        with self._lock:
            for name in names:
                if name in self._features:
                    self._features.move_to_end(name)
                    found[name] = self._features[name]
        return found

    def _features_of(self, name: str, shelf: dict[str, Features | bytes]) -> Features | None:
        held = shelf.get(name)
        if not isinstance(held, bytes):
            return held
        made = extract_features(held)
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
            "score",
            "evidence",
        )
        self._unwritten.add(sides)
        if self._unwritten.due:
            self.write(catalog)

    def write(self, catalog: Catalog) -> None:
        """Write down what waits; it goes on waiting while another process writes."""
        sides = self._unwritten.take()
        if sides.is_empty():
            return
        rows = name_pairs(sides).select(
            "pair_id", "left", "right", pl.lit(rule_id()).alias("rule"), "score", "evidence"
        )
        try:
            with catalog.writing(0):  # a scan may hold the lease for hours: nobody waits for it
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
        """Whether they are many, or old."""
        with self._lock:
            old = time.monotonic() - self._since >= self._patience
            return self._rows.height >= _WRITTEN or (old and not self._rows.is_empty())

    def of(self, content: str) -> pl.DataFrame:
        """Those of one content."""
        with self._lock:
            rows = self._rows
        return rows.filter((pl.col("left") == content) | (pl.col("right") == content))

    def add(self, rows: pl.DataFrame) -> None:
        """Keep some more; of too many the oldest are forgotten, and made again one day."""
        with self._lock:
            if self._rows.is_empty():
                self._since = time.monotonic()
            self._rows = pl.concat([self._rows, rows.cast(_SIDED)]).tail(_WAITING)  # type: ignore[arg-type]

    def take(self) -> pl.DataFrame:
        """All of them; none are kept."""
        with self._lock:
            rows, self._rows = self._rows, self._rows.clear()
        return rows


def _text(answer: Verified) -> str | None:
    if answer.evidence is None or answer.score < SIMILAR_SCORE:
        return None
    return answer.evidence.as_json()
