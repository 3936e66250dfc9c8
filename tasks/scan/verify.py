"""Match: look at the pixels of every candidate pair that nobody has looked at.

Contents (equal pixels) are compared, not assets: ten thousand copies of one logo are one row.
Answers are written as they come, refusals too, and belong to the two contents for good: no scan,
of whatever scope or model, verifies a pair again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.cross_filter import content_sides
from tasks.dedup.features import Features, extract_features, use_one_thread
from tasks.dedup.groups import bridging_pairs
from tasks.dedup.keepers import rank_keepers
from tasks.dedup.verify import SIMILAR_SCORE, Verified, rule_id, tiers_of, try_to_verify
from tasks.progress import Progress, silent
from tasks.records import Scan, Space, digest
from tasks.scan.propose import list_candidates, refresh_lists
from tasks.session import open_catalog, open_source, read_sides, scope_sql
from tasks.settings import MatchSettings

log = logging.getLogger(__name__)

#: Pairs verified between two writes.
_CHUNK = 512
#: How often members may be offered to the keeper of a neighbouring group. Three rounds are the
#: rule; a ring of 3,000 copies, each like its neighbours only, takes 17.
_ROUNDS = 30

_PAIRS = {
    "left": pl.String,
    "right": pl.String,
    "score": pl.Float32,
    "evidence": pl.String,
}
KEEPER_COLUMNS = [
    "key",
    "asset_id",
    "content",
    "phash",
    "width",
    "height",
    "format",
    "size",
    "last_modified",
]


@dataclass(frozen=True, slots=True)
class MatchCounts:
    """What a match stage did.

    Attributes:
        compared: contents whose nearest were looked up.
        candidates: pairs that are worth a look.
        verified: of these, how many were looked at now; the others were known.
        matches: how many are copies at or above the threshold.
    """

    compared: int
    candidates: int
    verified: int
    matches: int


def match_assets(scan: Scan, space: Space, progress: Progress = silent) -> MatchCounts:
    """Look up what is new (everything, in a full scan), and verify what was never verified."""
    catalog = open_catalog(scan.settings)
    with catalog.writing(scan.settings.catalog.busy_seconds):
        assets = _assets(catalog, scan, space)
        here = content_sides(assets).sort("content")
        compared = refresh_lists(catalog, scan, space, here["content"], progress, here["side"])
        asker = Asker(catalog, scan.settings.match, progress)
        pairs = _settled(catalog, scan, space, assets, asker)
        candidates = pairs.height
        matches = pairs.filter(pl.col("score") >= scan.threshold).height
    counts = MatchCounts(compared, candidates, asker.verified, matches)
    log.info("match: %s", counts)
    return counts


def read_pairs(catalog: Catalog, scan: Scan, space: Space) -> pl.DataFrame:
    """All verified pairs of a scope, refusals included, as the match stage left them.

    Returns:
        left, right (contents, left < right), score, tier, evidence (JSON or null); sorted by left
        and right.
    """
    assets = _assets(catalog, scan, space)
    pairs = _settled(catalog, scan, space, assets, _Answers(catalog).of)
    tiers = tiers_of(pairs["score"])
    return pairs.with_columns(pl.Series("tier", tiers, dtype=pl.String)).sort("left", "right")


def _assets(catalog: Catalog, scan: Scan, space: Space) -> pl.DataFrame:
    source = open_source(scan.source, scan.settings)
    assets = catalog.read("assets", KEEPER_COLUMNS, scope_sql(scan, source))
    assets = assets.drop_nulls("content")
    # Another scan may have brought assets since ours embedded: they wait for their own scan.
    embedded = catalog.known_contents(space.id)
    assets = assets.filter(pl.col("content").is_in(embedded.implode()))
    return read_sides(catalog, scan, assets)


def _settled(
    catalog: Catalog,
    scan: Scan,
    space: Space,
    assets: pl.DataFrame,
    ask: Callable[[pl.DataFrame], pl.DataFrame],
) -> pl.DataFrame:
    """Candidates with their answers, and those of members with the keepers of nearby groups.

    A pure function of what is in scope and of the pairs' answers: it does not matter in which
    order the assets came, nor which scans there were before.
    """
    sides = content_sides(assets)
    contents = assets.select("content", "phash").unique("content", keep="first")
    contents = contents.join(sides, on="content")
    pairs = ask(list_candidates(catalog, scan, space, contents))
    ranks = (
        rank_keepers(assets).with_row_index("rank").group_by("content").agg(pl.col("rank").min())
    ).join(sides, on="content")
    for _ in range(_ROUNDS):
        missing = bridging_pairs(ranks, pairs)
        if missing.is_empty():
            break
        pairs = pl.concat([pairs, ask(missing)])
    return pairs


def name_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs (left, right, ...) with their ids in the catalog, pair_id, in front."""
    keys = [digest(left, right) for left, right in pairs.select("left", "right").iter_rows()]
    return pairs.select(pl.Series("pair_id", keys, dtype=pl.String), pl.all())


class _Answers:
    """What is known of pairs under the present rule, read once."""

    # By both sides and not by the pair's id: millions of pairs are joined, and none is digested.
    _SIDES = ("left", "right")
    _COLUMNS = (*_SIDES, "score", "evidence")

    def __init__(self, catalog: Catalog) -> None:
        where = f"rule = {quote(rule_id())}"
        rows = pl.from_arrow(catalog.read_arrow("pairs", self._COLUMNS, where))
        self._rows = pl.DataFrame(rows)

    def of(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """Pairs (left, right) with their answers; those never looked at count as refused."""
        if wanted.is_empty():
            return pl.DataFrame(schema=_PAIRS)
        found = wanted.select(self._SIDES).join(
            self._rows, on=self._SIDES, how="left", maintain_order="left"
        )
        return found.with_columns(pl.col("score").fill_null(0.0))

    def missing(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """Those of the pairs that nobody has looked at."""
        return wanted.select(self._SIDES).join(
            self._rows, on=self._SIDES, how="anti", maintain_order="left"
        )

    def add(self, rows: pa.Table) -> None:
        """Take in what was just verified."""
        new = pl.DataFrame(pl.from_arrow(rows.select(self._COLUMNS)))
        self._rows = pl.concat([self._rows, new], rechunk=False)


class Asker:
    """Answers pairs from the catalog, and verifies those it does not know."""

    def __init__(self, catalog: Catalog, settings: MatchSettings, progress: Progress) -> None:
        self._catalog = catalog
        self._answers = _Answers(catalog)
        self._workers = settings.workers or os.cpu_count() or 1
        self._held = settings.features_held
        self._progress = progress
        self.verified = 0

    def __call__(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """Wanted pairs (left, right) with their answers."""
        new = self._answers.missing(wanted)
        for done, rows in self._verify(new):
            self._catalog.upsert("pairs", rows)
            self._answers.add(rows)
            self.verified += rows.num_rows
            self._progress("verify", done, new.height)
        return self._answers.of(wanted)

    def _verify(self, pairs: pl.DataFrame) -> Iterator[tuple[int, pa.Table]]:
        if pairs.is_empty():
            return
        use_one_thread()
        shelf = _Shelf(self._catalog, self._held)
        # The pairs are spread over the cores; products that spread as well double the cost.
        with (
            threadpool_limits(1),
            ThreadPoolExecutor(self._workers, "verify") as pool,
        ):
            for start in range(0, pairs.height, _CHUNK):
                chunk = pairs.slice(start, _CHUNK)
                shelf.fetch(chunk)
                sides = chunk.select("left", "right").rows()
                answers = list(pool.map(lambda pair: _answer(shelf, *pair), sides))
                yield start + chunk.height, _rows(chunk, answers)


class _Shelf:
    """Features of pictures, made once in a run as long as they fit."""

    def __init__(self, catalog: Catalog, most: int) -> None:
        self._catalog = catalog
        self._most = most
        self._jpegs: dict[str, bytes] = {}
        self._features: OrderedDict[str, Features] = OrderedDict()
        self._lock = threading.Lock()

    def fetch(self, pairs: pl.DataFrame) -> None:
        """Read the thumbnails a chunk of pairs needs."""
        # Those whose features are held too: they may have to make room before their turn.
        names = set(pairs["left"]) | set(pairs["right"])
        read = self._catalog.read_keys("thumbnails", ["content", "jpeg"], names)
        self._jpegs = dict(read.iter_rows())

    def features(self, content: str) -> Features | None:
        """Of one content; None when it has no thumbnail."""
        with self._lock:
            held = self._features.get(content)
            if held is not None:
                self._features.move_to_end(content)
                return held
        jpeg = self._jpegs.get(content)
        if jpeg is None:
            return None
        made = extract_features(jpeg)
        with self._lock:
            self._features[content] = made
            while len(self._features) > self._most:
                self._features.popitem(last=False)
        return made


def _answer(shelf: _Shelf, left: str, right: str) -> Verified | None:
    one, two = shelf.features(left), shelf.features(right)
    if one is None or two is None:
        log.error("no thumbnail of %s: the pair is not verified", left if one is None else right)
        return None
    return try_to_verify(one, two)


def _rows(pairs: pl.DataFrame, found: list[Verified | None]) -> pa.Table:
    # A pair without an answer is asked again by the next scan.
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
