"""Screen: hold what is new against the blocklist, and the two sides of each alert pair together.

Work is found here too: the catalog remembers up to which entry a content was held against the
list, and which contents were held against the other side of a pair. An entry that comes later is
held against what is there already.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.evidence import Evidence
from tasks.dedup.explain import Side, explain, turn_around
from tasks.dedup.verdicts import apply_verdicts, current
from tasks.dedup.verify import tier_of
from tasks.intake.alerts import PAIR, Alert, save_alerts
from tasks.intake.blocklist import Suspect, find_alerts, last_entry, read_vectors
from tasks.merging.plan import read_policy
from tasks.merging.rules.ingest_policy import AlertPair
from tasks.merging.rules.ingest_policy import Side as PolicySide
from tasks.progress import Progress, silent
from tasks.queries.verdicts import read_verdicts
from tasks.records import Scan, Space, digest
from tasks.scan.verify import Asker
from tasks.session import open_catalog, open_source, pa_table, scope_sql

log = logging.getLogger(__name__)

_FACTS = [
    "key",
    "asset_id",
    "source",
    "sha256",
    "content",
    "phash",
    "flags",
    "width",
    "height",
    "size",
    "format",
    "quality",
]
_CHUNK = 4096
#: Rows of one product between two sides: 256 MB of cosines against 64,000 others.
_PRODUCT_ROWS = 1024
_PLAIN = ("flat", "tiny")


@dataclass(frozen=True, slots=True)
class ScreenCounts:
    """What a screening found.

    Attributes:
        screened: contents that were held against the blocklist, and against a pair's other side.
        alerts: new alerts.
    """

    screened: int
    alerts: int


def screen_assets(scan: Scan, space: Space, progress: Progress = silent) -> ScreenCounts:
    """Raise the alerts of a scan.

    Raises:
        PolicyError: when the settings' policy is wrong.
    """
    settings = scan.settings
    catalog = open_catalog(settings)
    policy = read_policy(settings.merge.policy) if settings.merge.policy else None
    with catalog.writing(settings.catalog.busy_seconds):
        screened, alerts = _against_list(catalog, scan, space, progress)
        for pair in policy.alerts if policy else ():
            more, raised = _across(catalog, scan, space, pair, progress)
            screened, alerts = screened + more, alerts + raised
    log.info("screen: %d contents, %d new alerts", screened, alerts)
    return ScreenCounts(screened, alerts)


# ---- the blocklist ---------------------------------------------------------------------------


def _against_list(
    catalog: Catalog, scan: Scan, space: Space, progress: Progress
) -> tuple[int, int]:
    latest = last_entry(catalog)
    if not latest:
        return 0, 0
    against = digest("blocklist", space.id)
    source = open_source(scan.source, scan.settings)
    assets = catalog.read("assets", _FACTS, scope_sql(scan, source)).drop_nulls("content")
    seen = catalog.read("screened", ["content", "upto"], f"against = {quote(against)}")
    todo = (
        assets.select("content")
        .unique()
        .join(seen, on="content", how="left")
        .with_columns(pl.col("upto").fill_null(0))
        .filter(pl.col("upto") < latest)
        .sort("upto", "content")
    )
    raised = done = 0
    for (upto,), part in todo.group_by("upto", maintain_order=True):
        for chunk in part.iter_slices(_CHUNK):
            files = assets.join(chunk, on="content", how="semi").unique(["content", "sha256"])
            suspects = _suspects(catalog, files.sort("key", descending=True), space)
            found = find_alerts(catalog, suspects, space.id, after=int(upto))
            raised += len(save_alerts(catalog, found, door="scan", scan_id=scan.id))
            _remember(catalog, chunk["content"], against, latest)
            done += chunk.height
            progress("screen", done, todo.height)
    return todo.height, raised


def _suspects(catalog: Catalog, files: pl.DataFrame, space: Space) -> list[Suspect]:
    vectors = read_vectors(catalog, space.id, files["content"])
    return [
        Suspect(
            row["key"],
            row["source"],
            row["sha256"],
            row["content"],
            row["phash"] or 0,
            any(flag in _PLAIN for flag in row["flags"] or []),
            {space.id: vectors[row["content"]]} if row["content"] in vectors else {},
        )
        for row in files.iter_rows(named=True)
    ]


def _remember(catalog: Catalog, contents: Iterable[str], against: str, upto: int) -> None:
    rows = [
        {"screen_id": digest(against, name), "content": name, "against": against, "upto": upto}
        for name in contents
    ]
    catalog.upsert("screened", pa_table(rows, schema.SCREENED))


# ---- pairs of the policy ---------------------------------------------------------------------


def _across(
    catalog: Catalog, scan: Scan, space: Space, pair: AlertPair, progress: Progress
) -> tuple[int, int]:
    left, right = (_side(catalog, scan, space, side) for side in (pair.left, pair.right))
    marks = [
        digest("pair", word, pair.model_dump_json(), scan.source, space.id)
        for word in ("left", "right")
    ]
    new = [
        _unseen(catalog, side["content"].unique().sort(), mark)
        for side, mark in zip((left, right), marks, strict=True)
    ]
    if not len(new[0]) and not len(new[1]):
        return 0, 0
    k = scan.settings.match.neighbours
    hashes = [
        side.select("content", "phash").unique("content", keep="first") for side in (left, right)
    ]
    one = _candidates(catalog, space, hashes[0].join(_frame(new[0]), on="content"), hashes[1], k)
    two = _candidates(catalog, space, hashes[1].join(_frame(new[1]), on="content"), hashes[0], k)
    both = pl.concat([one, two.select(pl.col("b").alias("a"), pl.col("a").alias("b"))]).unique()
    found = _verified(catalog, scan, both, pl.concat([left, right]), progress)
    alerts = list(_pair_alerts(pair, found, left, right))
    raised = len(save_alerts(catalog, alerts, door="scan", scan_id=scan.id))
    for names, mark in zip(new, marks, strict=True):
        _remember(catalog, names, mark, 1)
    return len(new[0]) + len(new[1]), raised


def _side(catalog: Catalog, scan: Scan, space: Space, side: PolicySide) -> pl.DataFrame:
    place = replace(scan, source=side.source or scan.source, where=side.where)
    source = open_source(place.source, scan.settings)
    assets = catalog.read("assets", _FACTS, scope_sql(place, source)).drop_nulls("content")
    return assets.filter(pl.col("content").is_in(catalog.known_contents(space.id).implode()))


def _unseen(catalog: Catalog, contents: pl.Series, mark: str) -> pl.Series:
    seen = catalog.read("screened", ["content"], f"against = {quote(mark)}")
    return contents.filter(~contents.is_in(seen["content"].implode()))


def _frame(names: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"content": names}, schema={"content": pl.String})


def _candidates(
    catalog: Catalog, space: Space, queries: pl.DataFrame, others: pl.DataFrame, k: int
) -> pl.DataFrame:
    """Pairs of a query with another content worth a look: a (of ``queries``), b (of ``others``).

    The k nearest by vector, those of one perceptual hash, and the content itself where it is among
    the others. Both frames have content and phash, one row a content.
    """
    if queries.is_empty() or others.is_empty():
        return pl.DataFrame(schema={"a": pl.String, "b": pl.String})
    same = queries.join(others, on="content", how="semi")
    hashed = queries.drop_nulls("phash").join(others.drop_nulls("phash"), on="phash", suffix="_b")
    found = [
        same.select(pl.col("content").alias("a"), pl.col("content").alias("b")),
        hashed.select(pl.col("content").alias("a"), pl.col("content_b").alias("b")),
    ]
    names = others["content"]
    among = _matrix(catalog, space, names).T
    for part in queries.select("content").iter_slices(_PRODUCT_ROWS):
        asked = part["content"]
        cosines = _matrix(catalog, space, asked) @ among
        most = min(k + 1, len(names))  # itself may be one of them
        nearest = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
        rows = np.repeat(np.arange(len(asked)), most)
        found.append(pl.DataFrame({"a": asked.gather(rows), "b": names.gather(nearest.ravel())}))
    return pl.concat(found).unique().sort("a", "b")


def _matrix(catalog: Catalog, space: Space, contents: pl.Series) -> npt.NDArray[np.float32]:
    """Vectors (n, dim) in the order of ``contents``."""
    table = catalog.read_arrow(f"vectors_{space.id}", ["content", "vector"])
    wanted = pl.DataFrame({"content": contents}).with_row_index("at")
    have = pl.DataFrame({"content": pl.from_arrow(table["content"])}).with_row_index("row")
    rows = wanted.join(have, on="content").sort("at")["row"].to_numpy()
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    return np.asarray(flat.reshape(-1, space.dim)[rows], np.float32)


def _verified(
    catalog: Catalog, scan: Scan, pairs: pl.DataFrame, assets: pl.DataFrame, progress: Progress
) -> pl.DataFrame:
    """Pairs a, b of contents, those of different contents verified: a, b, score, evidence."""
    wanted = (
        pairs.filter(pl.col("a") != pl.col("b"))
        .select(left=pl.min_horizontal("a", "b"), right=pl.max_horizontal("a", "b"))
        .unique()
        .sort("left", "right")
    )
    answers = Asker(catalog, scan.settings.match, progress)(wanted)
    said = current(read_verdicts(catalog), assets.unique("asset_id"))
    kept = apply_verdicts(answers, said, assets.unique("asset_id").select("asset_id", "content"))
    scored = pairs.with_columns(
        left=pl.min_horizontal("a", "b"), right=pl.max_horizontal("a", "b")
    ).join(kept.select("left", "right", "score", "evidence"), on=["left", "right"], how="left")
    same = pl.col("a") == pl.col("b")
    return (
        scored.with_columns(score=pl.when(same).then(1.0).otherwise(pl.col("score")))
        .drop_nulls("score")
        .select("a", "b", "score", "evidence")
        .sort("a", "b")
    )


def _pair_alerts(
    pair: AlertPair, found: pl.DataFrame, left: pl.DataFrame, right: pl.DataFrame
) -> Iterable[Alert]:
    ours, theirs = _by_content(left), _by_content(right)
    for a, b, score, text in found.iter_rows():
        if tier_of(score, same_pixels=a == b) not in pair.tier:
            continue
        sides = [(x, y) for x in ours[a] for y in theirs[b] if x["asset_id"] != y["asset_id"]]
        if not sides:  # both sides hold this very asset
            continue
        one, two = sides[0]
        yield Alert(
            kind=PAIR,
            rule=pair.name,
            entry_id="",
            reason="",
            left_source=one["source"],
            left=one["key"],
            left_content=a,
            right_source=two["source"],
            right=two["key"],
            right_content=b,
            relation=_relation(one, two),
            score=score,
            evidence=_words(one, two, text),
            detail={"evidence": text, "flipped": a > b},
        )


def _by_content(assets: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in assets.sort("key").group_by("content", maintain_order=True).head(2).to_dicts():
        found.setdefault(row["content"], []).append(row)
    return found


def _relation(one: dict[str, Any], two: dict[str, Any]) -> str:
    if one["content"] != two["content"]:
        return "verified"
    return "equal bytes" if one["sha256"] == two["sha256"] else "equal pixels"


def _words(one: dict[str, Any], two: dict[str, Any], text: str | None) -> str:
    if one["content"] == two["content"]:
        return _relation(one, two)
    if text is None:
        return "no texture; the same colours everywhere"
    sides = [
        Side(row["width"], row["height"], row["size"], row["format"], row["quality"])
        for row in (one, two)
    ]
    evidence = Evidence.from_json(text)
    turned = turn_around(evidence) if one["content"] > two["content"] else evidence
    return explain(turned, *sides).changes
