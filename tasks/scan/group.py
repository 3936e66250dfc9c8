"""Group: from matches to duplicate groups, and what is new since the last scan of this scope."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.verify import tiers_of
from tasks.progress import Progress, silent
from tasks.queries.grouping import group_members
from tasks.queries.matches import read_matches
from tasks.records import Scan, Space, digest
from tasks.session import open_catalog

log = logging.getLogger(__name__)

#: How many scans of one scope keep their groups in the catalog.
_KEPT_SCANS = 20


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """What a group stage found: groups in all, and of these the new and the changed ones."""

    groups: int
    members: int
    new: int
    changed: int


def group_assets(scan: Scan, space: Space, progress: Progress = silent) -> GroupCounts:
    """Group everything in scope, and write the groups under the scan's id."""
    catalog = open_catalog(scan.settings)
    progress("group", 0, 1)
    members = group_members(catalog, scan, read_matches(catalog, scan, space))
    tiers = tiers_of(members["score"], members["same_pixels"])
    members = members.with_columns(pl.Series("tier", tiers, dtype=pl.String))
    with catalog.writing(scan.settings.catalog.busy_seconds):
        last, before = _last_groups(catalog, scan)
        members = members.join(_states(members, before), on="group_id", maintain_order="left")
        _write(catalog, scan, members)
        _forget_old(catalog, scan, last)
    progress("group", 1, 1)
    state = members.unique("group_id")["state"]
    counts = GroupCounts(
        len(state), members.height, int((state == "new").sum()), int((state == "changed").sum())
    )
    log.info("group: %s", counts)
    return counts


def _last_groups(catalog: Catalog, scan: Scan) -> tuple[str, pl.DataFrame]:
    """The scan whose groups people last saw, with its group and member ids.

    That is the last finished scan of this scope at this threshold. A dry run does not count, for
    nobody was told of it; nor does a scan at another threshold, which has other groups.
    """
    where = f"scope = {quote(scan.scope)} AND state = 'finished' AND NOT dry_run"
    scans = catalog.read("scans", ["started", "scan_id", "threshold"], where)
    same = scans.filter((pl.col("threshold") - scan.threshold).abs() < 1e-6)
    last = same["scan_id"][-1] if same.height else ""
    return last, catalog.read("groups", ["group_id", "asset_id"], f"scan_id = {quote(last)}")


def _states(members: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """group_id, state: ``known`` (the same members), ``changed`` or ``new`` (none seen before).

    Groups are compared by their members, because a group's id comes from its keeper: when a better
    asset becomes the keeper, the id changes, but the group is not new.
    """

    def fingerprints(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.group_by("group_id").agg(pl.col("asset_id").sort().str.join(" ").alias("all"))

    now = fingerprints(members)
    same = now.join(fingerprints(before), on="all", how="semi")["group_id"]
    seen = members.join(before, on="asset_id", how="semi")["group_id"]
    return now.select(
        "group_id",
        pl.when(pl.col("group_id").is_in(same.implode()))
        .then(pl.lit("known"))
        .when(pl.col("group_id").is_in(seen.implode()))
        .then(pl.lit("changed"))
        .otherwise(pl.lit("new"))
        .alias("state"),
    )


def _write(catalog: Catalog, scan: Scan, members: pl.DataFrame) -> None:
    ids = [digest(scan.id, asset) for asset in members["asset_id"]]
    rows = members.select(
        pl.Series("member_id", ids, dtype=pl.String),
        pl.lit(scan.id).alias("scan_id"),
        pl.lit(scan.scope).alias("scope"),
        "group_id",
        "asset_id",
        "role",
        "tier",
        "score",
        "state",
    )
    # A retry of this stage may find other groups than the attempt before it: its rows must go.
    stale = catalog.read("groups", ["member_id"], f"scan_id = {quote(scan.id)}")
    catalog.delete_keys("groups", stale["member_id"].to_list())
    catalog.upsert("groups", rows.to_arrow().cast(schema.GROUPS))


def _forget_old(catalog: Catalog, scan: Scan, last: str) -> None:
    scans = catalog.read("groups", ["scan_id"], f"scope = {quote(scan.scope)}")["scan_id"]
    # Ids begin with the time, so they sort by age. The groups that people last saw are kept,
    # however many scans have failed since.
    old = [name for name in scans.unique().sort().to_list()[:-_KEPT_SCANS] if name != last]
    if old:
        listed = ", ".join(quote(name) for name in old)
        catalog.table("groups").delete(f"scan_id IN ({listed})")
