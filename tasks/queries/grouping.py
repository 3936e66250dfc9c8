"""A scan's groups, from its matches and what people said: by these rules and no others."""

from __future__ import annotations

import polars as pl

from tasks.catalog.catalog import Catalog
from tasks.dedup.cross_filter import content_sides, crossing, keep_crossing
from tasks.dedup.groups import group_matches
from tasks.dedup.links import without_linked
from tasks.dedup.verdicts import apply_verdicts, current, keep_apart
from tasks.queries.scope_assets import KEEPER_COLUMNS, original_document, read_assets
from tasks.queries.verdicts import read_verdicts
from tasks.records import Role, Scan
from tasks.session import open_source


def group_members(catalog: Catalog, scan: Scan, matches: pl.DataFrame) -> pl.DataFrame:
    """The members of a scan's groups, computed from all matches in scope.

    Args:
        catalog: where the assets and the verdicts are.
        scan: whose scope is meant.
        matches: as :func:`tasks.queries.matches.read_matches` gives them.

    Returns:
        group_id, asset_id, role, score, same_pixels, content, side; in each group the keeper first.
    """
    assets = read_assets(catalog, scan, [*KEEPER_COLUMNS, "xmp", "sidecar_xmp"])
    assets = assets.with_columns(original_document())
    source = open_source(scan.source, scan.settings)
    said = current(read_verdicts(catalog, source.id), assets)
    matches = without_linked(matches, assets.select("content", "document"))
    # A person may have called two assets of one side duplicates: not what this scan is about.
    matches = crossing(apply_verdicts(matches, said, assets), content_sides(assets))
    members = group_matches(assets, matches)
    contents = assets.select("asset_id", "content", "side")
    members = keep_apart(members.join(contents, on="asset_id", maintain_order="left"), said)
    return keep_crossing(members) if scan.across else members


def keeper_pairs(members: pl.DataFrame) -> pl.DataFrame:
    """The pairs that hold groups together: each member's content with its keeper's.

    Args:
        members: group_id, role, content.

    Returns:
        left, right (contents, left < right); group_id.
    """
    keepers = members.filter(role=Role.KEEPER.value).select(
        "group_id", pl.col("content").alias("keeper")
    )
    return (
        members.join(keepers, on="group_id")
        .filter(pl.col("content") != pl.col("keeper"))
        .select(
            pl.min_horizontal("content", "keeper").alias("left"),
            pl.max_horizontal("content", "keeper").alias("right"),
            "group_id",
        )
        .unique(maintain_order=True)
    )
