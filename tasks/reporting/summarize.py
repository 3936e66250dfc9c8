"""Summarize: all that a report of one scan needs, read back from the catalog."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib.metadata import version
from typing import Any

import polars as pl

from tasks.catalog.catalog import Catalog, quote
from tasks.catalog.filters import names_tags
from tasks.dedup.links import find_links
from tasks.dedup.originals import proof_rule
from tasks.dedup.verify import calibration, rule_id
from tasks.embedding.images import shrink
from tasks.errors import CatalogError
from tasks.intake.blocklist import scan_alerts
from tasks.merging.journal import read_decisions, read_plan
from tasks.merging.rules.plan_note import PlanNote, note_plan
from tasks.merging.rules.plans import Plan
from tasks.queries.asset_pairs import list_pairs
from tasks.queries.assignments import read_search
from tasks.queries.matches import read_matches
from tasks.queries.objects import NOT_SHOWN
from tasks.queries.readings import names_reading_column
from tasks.queries.reviewers import share_groups
from tasks.queries.scans import INCOMPLETE
from tasks.queries.scope_assets import original_document, read_assets
from tasks.records import Kind, Role, Scan, Space, now
from tasks.reporting.history import (
    TABLES,
    KeptReport,
    last_mailed,
    past_scans,
    read_kept,
    realised_bytes,
    was_refused,
)
from tasks.reporting.plan_view import with_plan
from tasks.reporting.receipts import merged_since
from tasks.reporting.savings import merged_bytes
from tasks.session import filter_sql, open_catalog, open_source
from tasks.settings import Settings
from tasks.summary import Coverage, MergedSince, Summary

log = logging.getLogger(__name__)

#: Members of one group whose thumbnails are shown.
_DRAWN_MEMBERS = 12
#: Bytes of thumbnails as they are kept; then of pictures of 160 pixels, then of 64: a report of ten
#: thousand groups is still a file that can be sent and opened.
_LARGE_BYTES = 9_000_000
_SMALL = ((160, 4_000_000), (64, 10_000_000))
_PICTURES_AT_ONCE = 512

_FACTS = [
    "key",
    "asset_id",
    "content",
    "sha256",
    "size",
    "width",
    "height",
    "format",
    "quality",
    "label",
    "last_modified",
    "flags",
]


def summarize_scan(
    scan: Scan,
    space: Space,
    counts: dict[str, int],
    finished: datetime | None = None,
    *,
    plan: PlanNote | None = None,
) -> Summary:
    """The summary of a scan whose groups are written.

    Args:
        scan: the scan.
        space: where its vectors are.
        counts: what the stages counted; ``seen`` is the number of objects listed.
        finished: when it ended, for a scan of the past: it is summarized as it was, where the
            catalog still has the versions of then.
        plan: the merge plan that the documents tell; default: the scan's last one, if any.
    """
    live = open_catalog(scan.settings)
    kept = read_kept(live, scan.id) if finished else None
    note, planned = _plan(live, scan, plan, kept)
    catalog, tables, lost = _as_it_was(live, kept) if finished else _as_it_is(live)
    ended = kept.finished if kept else finished or now()
    assets = read_assets(catalog, scan, _FACTS)
    members = _members(catalog, scan, assets)
    if members.is_empty() and counts.get("members"):
        raise CatalogError(
            f"the groups of the scan {scan.id} are no longer kept; scan again, or read the "
            "documents that were delivered then"
        )
    pairs = list_pairs(assets, read_matches(catalog, scan, space), members, _keepers(members, note))
    groups, members = with_plan(_groups(members), members.drop("state"), pairs, note)
    coverage = measure_coverage(catalog, scan, counts["seen"])
    thumbnails, small = _pictures(catalog, groups, members, scan.settings.delivery.page_groups)
    if not coverage.adds_up:
        log.error("coverage does not add up: %s", coverage)
    past, mailed = past_scans(live, before=scan), last_mailed(live, scan)
    last = mailed or (past["started"][-1] if past.height else None)
    return Summary(
        scan_id=scan.id,
        kind=scan.kind,
        collection=scan.settings.collection,
        source=scan.source,
        where=scan.where,
        across=scan.across,
        threshold=scan.threshold,
        dry_run=scan.dry_run,
        started=scan.started,
        finished=ended,
        coverage=coverage,
        counts=counts,
        space=space,
        versions=kept.versions if kept else _versions(),
        groups=groups,
        members=members,
        pairs=pairs,
        links=_links(catalog, scan),
        alerts=scan_alerts(catalog, scan),
        plan=note,
        calibrated=_calibrated(catalog, scan),
        shares=share_groups(catalog, scan, members.select("group_id", "asset_id")),
        past=past,
        mailed=mailed,
        realised=realised_bytes(live, ended),
        tables=tables,
        lost=lost,
        thumbnails=thumbnails,
        small=small,
        described=_described(catalog, members),
        planned=planned,
        cost_per_gb_month=scan.settings.merge.cost_per_gb_month,
        search=read_search(catalog, scan),
        merged=merged_bytes(scan.settings, scan.source, ended),
        since=merged_since(scan.settings, scan.source, last, ended) if last else MergedSince(),
        decidable=_decidable(live, scan, groups),
    )


def _decidable(live: Catalog, scan: Scan, groups: pl.DataFrame) -> frozenset[str]:
    """Groups that are old enough by now, out of embargo, or else no longer refused."""
    opened = groups.filter(
        (pl.col("state") == "known") & pl.col("standing").is_in(["approved", "asks", "waits"])
    )["group_id"]
    if opened.is_empty():
        return frozenset()
    return frozenset(opened).intersection(was_refused(live, scan))


def _as_it_is(live: Catalog) -> tuple[Catalog, dict[str, int], tuple[str, ...]]:
    """The catalog held at its present versions: what is written down is what was read."""
    tables = live.versions(TABLES)
    return live.at(tables)[0], tables, ()


def _as_it_was(
    live: Catalog, kept: KeptReport | None
) -> tuple[Catalog, dict[str, int], tuple[str, ...]]:
    """The catalog as it was for a scan of the past; where some of it is gone, all as it is now."""
    if kept is None:
        return live, {}, ("its tables' versions were not kept",)
    view, lost = live.at(kept.tables)
    gone = tuple(f"the old version of the table {name} was tidied away" for name in lost)
    now_made = _versions()
    other = tuple(
        f"it was made with {name} {kept.versions[name]}, this is {now_made[name]}"
        for name in sorted(kept.versions.keys() & now_made.keys())
        if kept.versions[name] != now_made[name]
    )
    return live if lost else view, kept.tables, gone + other


def _versions() -> dict[str, str]:
    """What decides about a scan's result, beside the assets and the model."""
    return {
        "dam-dedup": version("dam-dedup"),
        "rule": rule_id(),
        "proof": proof_rule(),
        "calibration": calibration().version,
    }


def _calibrated(catalog: Catalog, scan: Scan) -> dict[str, Any] | None:
    """What the collection's own labels say of its thresholds; the latest word on this scope."""
    columns = ["made", "scope", "rule", "labelled", "result"]
    rows = catalog.read("calibrations", columns, f"scope = {quote(scan.scope)}")
    if rows.is_empty():
        return None
    row = rows.row(-1, named=True)
    said = json.loads(row["result"])
    return {
        "made": row["made"].isoformat(),
        "rule": row["rule"],
        "labelled": row["labelled"],
        "recommended": said.get("recommended"),
        "thresholds": said.get("thresholds", []),
    }


def last_scan(
    settings: Settings, scan_id: str | None = None
) -> tuple[Scan, Space, dict[str, int], datetime]:
    """A finished scan of the catalog, to report on it again; the latest by default.

    An incomplete scan has a report too, which is given where its id is named.

    Raises:
        CatalogError: when there is none.
    """
    catalog = open_catalog(settings)
    where = "starts_with(state, 'finished')"
    if scan_id:
        named = f"scan_id = {quote(scan_id)}"
        where = f"({where} OR starts_with(state, {quote(INCOMPLETE)})) AND {named}"
    columns = [
        "started",
        "scan_id",
        "kind",
        "source",
        "where",
        "scope",
        "threshold",
        "dry_run",
        "space",
        "counts",
        "finished",
    ]
    found = catalog.read("scans", columns, where)
    if found.is_empty():
        raise CatalogError(
            f"the catalog {settings.catalog.uri} holds no finished scan"
            + (f" {scan_id!r}" if scan_id else "; run `dam-dedup scan` first")
        )
    row = found.row(-1, named=True)
    kept = catalog.read("spaces", ["space", "model", "revision", "preprocessing", "dim"])
    space = kept.filter(pl.col("space") == row["space"]).drop("space").row(0, named=True)
    filters = catalog.read(
        "cross_filters", ["reference_filter"], f"scan_id = {quote(row['scan_id'])}"
    )["reference_filter"]
    scan = Scan(
        id=row["scan_id"],
        kind=Kind(row["kind"]),
        source=row["source"],
        where=row["where"],
        across=filters[0] if len(filters) else "",
        scope=row["scope"],
        threshold=round(row["threshold"], 6),  # float32 in the table
        dry_run=row["dry_run"],
        refresh_metadata=False,
        started=row["started"],
        settings=settings,
    )
    return scan, Space(**space), json.loads(row["counts"]), row["finished"]


def measure_coverage(catalog: Catalog, scan: Scan, seen: int) -> Coverage:
    """What became of every object that was listed."""
    place = _place(scan)
    columns = ["key", "asset_id", "skipped", "failed", "message", "content"]
    rows = catalog.read("assets", columns, place)
    untold = pl.lit(False)
    if chosen := filter_sql(scan):
        inside = catalog.read("assets", ["asset_id"], f"({place}) AND ({chosen})")
        if any(names_tags(text) for text in (scan.where, scan.across)):
            unread = catalog.read("assets", ["asset_id"], f"({place}) AND tags IS NULL")
            untold = pl.col("asset_id").is_in(unread["asset_id"].implode())
        filtered = ~pl.col("asset_id").is_in(inside["asset_id"].implode())
        if names_reading_column(
            f"{scan.where} {scan.across}"
        ):  # an unread image has no width to be filtered by
            filtered &= pl.col("content").is_not_null()
    else:
        filtered = pl.lit(False)
    rows = rows.with_columns(
        pl.when(pl.col("skipped").is_in(NOT_SHOWN))
        .then(pl.struct(outcome=pl.lit("failed"), reason=pl.col("skipped")))
        .when(pl.col("skipped").is_not_null())
        .then(pl.struct(outcome=pl.lit("skipped"), reason=pl.col("skipped")))
        .when(filtered & untold)
        .then(pl.struct(outcome=pl.lit("skipped"), reason=pl.lit("tags_unread")))
        .when(filtered)
        .then(pl.struct(outcome=pl.lit("skipped"), reason=pl.lit("filtered")))
        .when(pl.col("failed").is_not_null())
        .then(pl.struct(outcome=pl.lit("failed"), reason=pl.col("failed")))
        .when(pl.col("content").is_null())
        .then(pl.struct(outcome=pl.lit("failed"), reason=pl.lit("not_read")))
        .otherwise(pl.struct(outcome=pl.lit("scanned"), reason=pl.lit("")))
        .alias("became")
    ).unnest("became")
    outcomes = rows.filter(pl.col("outcome") != "scanned").select(
        "key", "outcome", "reason", pl.col("message").fill_null("")
    )

    def counted(outcome: str) -> dict[str, int]:
        chosen = outcomes.filter(pl.col("outcome") == outcome)
        return dict(chosen.group_by("reason").len().sort("reason").iter_rows())

    scanned = rows.height - outcomes.height
    return Coverage(seen, scanned, counted("skipped"), counted("failed"), outcomes)


def _links(catalog: Catalog, scan: Scan) -> pl.DataFrame:
    """Linked assets; a camera raw file is linked though it was not scanned."""
    columns = ["key", "content", "skipped", "failed", "sidecars", "xmp", "sidecar_xmp"]
    rows = catalog.read("assets", columns, _place(scan))
    raw = (pl.col("skipped") == "format_raw") | (pl.col("failed") == "raw")
    return find_links(
        rows.with_columns(raw.fill_null(value=False).alias("raw"), original_document())
        .filter(pl.col("content").is_not_null() | pl.col("raw"))
        .select("key", "raw", "sidecars", "document")
    )


def _place(scan: Scan) -> str:
    """The condition that selects all live objects of a scan's source, scanned or not."""
    source = open_source(scan.source, scan.settings)
    place = f"source = {quote(source.id)} AND removed_at IS NULL"
    if source.prefix:
        place += f" AND starts_with(key, {quote(source.prefix)})"
    return place


def _members(catalog: Catalog, scan: Scan, assets: pl.DataFrame) -> pl.DataFrame:
    columns = ["group_id", "asset_id", "role", "tier", "score", "state"]
    rows = catalog.read("groups", columns, f"scan_id = {quote(scan.id)}")
    return (
        rows.join(assets.drop("side"), on="asset_id")
        .with_columns(pl.col("score").cast(pl.Float64).round(4))
        .sort("group_id", pl.col("role") != Role.KEEPER.value, "key")
    )


def _keepers(members: pl.DataFrame, note: PlanNote | None) -> set[str]:
    """Keys of the files that stay: the plan's, and the scan's where the plan names none."""
    planned = {name: one.keeper for name, one in note.groups.items()} if note else {}
    rows = members.filter(pl.col("role") == Role.KEEPER.value).select("group_id", "key")
    return {planned.get(group) or key for group, key in rows.iter_rows()}


def _groups(members: pl.DataFrame) -> pl.DataFrame:
    """One row a group, as the scan itself made it."""
    duplicates = pl.col("role") == Role.DUPLICATE.value
    # Nothing else is in a group: what is only similar joins none.
    rank = pl.col("tier").replace_strict({"exact": 0, "near": 1}, return_dtype=pl.Int8)
    return members.group_by("group_id").agg(
        pl.col("state").first(),
        pl.col("tier").sort_by(rank).last(),
        pl.len().alias("size"),
        pl.col("size").sum().alias("bytes"),
        pl.col("size").filter(duplicates).sum().alias("savings"),
        pl.col("score").filter(duplicates).min().alias("score"),
        pl.col("key").filter(~duplicates).first().alias("keeper"),
    )


def _pictures(
    catalog: Catalog, groups: pl.DataFrame, members: pl.DataFrame, drawn: int
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Thumbnails of the first groups, and smaller pictures of the others, within their budgets."""
    order = groups.select("group_id", pl.int_range(pl.len()).alias("at"))
    shown = (
        members.group_by("group_id", maintain_order=True)
        .head(_DRAWN_MEMBERS)
        .join(order, on="group_id")
        .sort("at", maintain_order=True)
        .unique("content", keep="first", maintain_order=True)
    )

    def kept() -> Iterator[tuple[str, int, bytes]]:
        for batch in shown.select("content", "at").iter_slices(_PICTURES_AT_ONCE):
            rows = catalog.read_keys("thumbnails", ["content", "jpeg"], batch["content"])
            found = dict(rows.iter_rows())
            for content, at in batch.iter_rows():
                if content in found:
                    yield content, at, found[content]

    return share_out(kept(), drawn)


def share_out(
    pictures: Iterable[tuple[str, int, bytes]], drawn: int
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Pictures as large as a report has room for: as they are, then smaller, then none.

    Args:
        pictures: content, number of its group, JPEG; in the order of the groups.
        drawn: so many groups may have theirs as they are.
    """
    large: dict[str, bytes] = {}
    small: dict[str, bytes] = {}
    room, (side, left), sides = _LARGE_BYTES, _SMALL[0], iter(_SMALL[1:])
    for content, at, jpeg in pictures:
        if at < drawn and len(jpeg) <= room:
            large[content] = jpeg
            room -= len(jpeg)
            continue
        room = 0  # what comes later is not larger than what came before
        small[content] = shrink(jpeg, side)
        left -= len(small[content])
        if left <= 0:
            side, left = next(sides, (0, 0))
            if not side:
                break
    return large, small


def _described(catalog: Catalog, members: pl.DataFrame) -> pl.DataFrame:
    """What is known of the members beyond their pixels, for people to compare."""
    columns = ["asset_id", "tags", "metadata", "xmp", "sidecar_xmp", "exif"]
    return catalog.read_keys("assets", columns, members["asset_id"])


def _plan(
    catalog: Catalog, scan: Scan, given: PlanNote | None, kept: KeptReport | None
) -> tuple[PlanNote | None, Plan | None]:
    """The plan that the documents tell, and its details.

    It is the given one, else the scan's last one: of a scan of the past too, since that is the one
    that decisions are about. Where it is the plan that the report was made with then, it is told as
    it was then.
    """
    if given is not None:
        return given, read_plan(catalog, given.id)
    plans = catalog.read("plans", ["made", "plan_id"], f"scan_id = {quote(scan.id)}")
    if plans.is_empty():
        return (kept.plan if kept else None), None
    plan = read_plan(catalog, plans["plan_id"][-1])
    if kept and kept.plan and kept.plan.id == plan.id:
        return kept.plan, plan
    return note_plan(plan, approved_by_policy(read_decisions(catalog, plan))), plan


def approved_by_policy(decisions: pl.DataFrame) -> frozenset[str]:
    """The ids of the groups that a policy approved by itself, of a plan's decisions."""
    return frozenset(decisions.filter(decision="approve", channel="policy")["group_id"])
