"""Screen: compare what is new with the blocklist, and the two sides of each alert pair.

The catalog keeps up to which blocklist entry each content was compared, and which contents were
compared with the other side of an alert pair. So only what is new on either side is compared, and
an entry that comes later is compared with all contents that are there already.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.evidence import Evidence
from tasks.dedup.explain import explain_pair
from tasks.dedup.origin import PictureFacts, turn_around
from tasks.dedup.verdicts import apply_verdicts, current
from tasks.dedup.verify import tier_of
from tasks.intake.alerts import PAIR, Alert, save_alerts
from tasks.intake.blocklist import Suspect, find_alerts, last_entry
from tasks.merging.policy_file import read_policy
from tasks.merging.rules.ingest_policy import AlertPair, AlertSide
from tasks.progress import Progress, silent
from tasks.queries.scan_verifier import ScanVerifier
from tasks.queries.vectors import read_vectors, vectors_by_content
from tasks.queries.verdicts import read_verdicts
from tasks.records import Scan, Space, digest
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
#: Queries of one matrix product: 256 MB of cosines against 64,000 others.
_PRODUCT_ROWS = 1024
_PLAIN = ("flat", "tiny")


@dataclass(frozen=True, slots=True)
class ScreenCounts:
    """What a screening found.

    Attributes:
        screened: contents that were compared with the blocklist or with a pair's other side.
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
    seen = catalog.read(
        "screening_progress", ["content", "up_to_entry"], f"screened_against = {quote(against)}"
    )
    todo = (
        assets.select("content")
        .unique()
        .join(seen, on="content", how="left")
        .with_columns(pl.col("up_to_entry").fill_null(0))
        .filter(pl.col("up_to_entry") < latest)
        .sort("up_to_entry", "content")
    )
    raised = done = 0
    for (upto,), part in todo.group_by("up_to_entry", maintain_order=True):
        for chunk in part.iter_slices(_CHUNK):
            files = assets.join(chunk, on="content", how="semi").unique(["content", "sha256"])
            suspects = _suspects(catalog, files.sort("key", descending=True), space)
            found = find_alerts(catalog, suspects, space.id, after=int(upto))
            raised += len(save_alerts(catalog, found, channel="scan", scan_id=scan.id))
            _remember(catalog, chunk["content"], against, latest)
            done += chunk.height
            progress("screen", done, todo.height)
    return todo.height, raised


def _suspects(catalog: Catalog, files: pl.DataFrame, space: Space) -> list[Suspect]:
    vectors = vectors_by_content(catalog, space.id, files["content"])
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
        {
            "progress_id": digest(against, name),
            "content": name,
            "screened_against": against,
            "up_to_entry": upto,
        }
        for name in contents
    ]
    catalog.upsert("screening_progress", pa_table(rows, schema.SCREENING_PROGRESS))


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
    raised = len(save_alerts(catalog, alerts, channel="scan", scan_id=scan.id))
    for names, mark in zip(new, marks, strict=True):
        _remember(catalog, names, mark, 1)
    return len(new[0]) + len(new[1]), raised


def _side(catalog: Catalog, scan: Scan, space: Space, side: AlertSide) -> pl.DataFrame:
    place = replace(scan, source=side.source or scan.source, where=side.where)
    source = open_source(place.source, scan.settings)
    assets = catalog.read("assets", _FACTS, scope_sql(place, source)).drop_nulls("content")
    return assets.filter(pl.col("content").is_in(catalog.known_contents(space.id).implode()))


def _unseen(catalog: Catalog, contents: pl.Series, mark: str) -> pl.Series:
    seen = catalog.read("screening_progress", ["content"], f"screened_against = {quote(mark)}")
    return contents.filter(~contents.is_in(seen["content"].implode()))


def _frame(names: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"content": names}, schema={"content": pl.String})


def _candidates(
    catalog: Catalog, space: Space, queries: pl.DataFrame, others: pl.DataFrame, k: int
) -> pl.DataFrame:
    """The pairs to verify between two sides: a (of ``queries``), b (of ``others``).

    Each query with its k nearest by vector, with those of its perceptual hash, and with itself
    where it is among the others. Both frames have content and phash, one row a content.
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
    among = read_vectors(catalog, space, names).astype(np.float32).T
    for part in queries.select("content").iter_slices(_PRODUCT_ROWS):
        asked = part["content"]
        cosines = read_vectors(catalog, space, asked).astype(np.float32) @ among
        most = min(k + 1, len(names))  # one more, since a query may be among the others itself
        nearest = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
        rows = np.repeat(np.arange(len(asked)), most)
        found.append(pl.DataFrame({"a": asked.gather(rows), "b": names.gather(nearest.ravel())}))
    return pl.concat(found).unique().sort("a", "b")


def _verified(
    catalog: Catalog, scan: Scan, pairs: pl.DataFrame, assets: pl.DataFrame, progress: Progress
) -> pl.DataFrame:
    """The pairs (a, b) with score and evidence; equal contents have the score 1 unverified."""
    wanted = (
        pairs.filter(pl.col("a") != pl.col("b"))
        .select(left=pl.min_horizontal("a", "b"), right=pl.max_horizontal("a", "b"))
        .unique()
        .sort("left", "right")
    )
    answers = ScanVerifier(catalog, scan.settings.match, progress)(wanted)
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
        if not sides:  # the two sides have this one asset in common, which is no copy of itself
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
        PictureFacts(row["width"], row["height"], row["size"], row["format"], row["quality"])
        for row in (one, two)
    ]
    evidence = Evidence.from_json(text)
    turned = turn_around(evidence) if one["content"] > two["content"] else evidence
    return explain_pair(turned, *sides).changes
