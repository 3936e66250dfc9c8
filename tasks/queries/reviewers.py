"""Reviewers: which groups lie wholly in the part of the collection that is a person's own."""

from __future__ import annotations

import logging

import polars as pl

from tasks.catalog.catalog import Catalog, quote
from tasks.catalog.filters import select_sql
from tasks.records import Scan
from tasks.settings import Share

log = logging.getLogger(__name__)


def share_groups(
    catalog: Catalog, scan: Scan, members: pl.DataFrame | None = None
) -> dict[str, tuple[str, ...]]:
    """Reviewer to the ids of the groups of a scan that are that person's to decide on.

    A group is a reviewer's when every member lies in that reviewer's part. A group that reaches
    into the parts of several people is for the collection's owners alone.

    Args:
        catalog: where the scan's groups are.
        scan: the scan, its groups written.
        members: group_id, asset_id; None: read from the catalog.
    """
    reviewers = scan.settings.mail.reviewers
    if not reviewers:
        return {}
    if members is None:
        members = catalog.read("groups", ["group_id", "asset_id"], f"scan_id = {quote(scan.id)}")
    if not scan.settings.mail.to:
        log.warning("DAM_DEDUP_MAIL__TO names no owner: groups across reviewers reach nobody")
    shares = {}
    for person, share in reviewers.items():
        mine = catalog.read("assets", ["asset_id"], share_sql(share))["asset_id"]
        inside = pl.col("asset_id").is_in(mine.implode()).all()
        found = members.group_by("group_id").agg(inside.alias("inside")).filter("inside")
        shares[person] = tuple(found["group_id"].sort())
    return shares


def share_sql(share: Share) -> str:
    """The condition that selects a reviewer's part of the live assets.

    Raises:
        FilterError: when the filter is wrong.
    """
    parts = ["removed_at IS NULL"]
    if share.prefixes:
        parts.append(" OR ".join(f"starts_with(key, {quote(one)})" for one in share.prefixes))
    if share.where.strip():
        parts.append(select_sql(share.where))
    return " AND ".join(f"({part})" for part in parts)
