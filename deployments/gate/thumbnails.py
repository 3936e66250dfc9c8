"""Thumbnails and facts of a plan's assets, from the catalog."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from reports.review import Look, keys_drawn
from tasks.catalog.catalog import Catalog, quote
from tasks.merging.rules.plans import Plan, PlannedGroup
from tasks.session import open_source
from tasks.settings import Settings


def read_looks(
    settings: Settings, catalog: Catalog, plan: Plan, groups: Sequence[PlannedGroup]
) -> dict[str, Look]:
    """From key to thumbnail and facts, for the members that are drawn.

    An asset that has changed since the plan was made is left out: it may show another picture.
    """
    drawn = {key for group in groups for key in keys_drawn(group)}
    if not drawn:
        return {}
    source = open_source(plan.source, settings).id
    listed = ", ".join(quote(key) for key in sorted(drawn))
    assets = catalog.read(
        "assets",
        ["key", "etag", "content", "width", "height", "format", "last_modified"],
        f"source = {quote(source)} AND key IN ({listed})",
    )
    seen = {state.key: state.etag for group in groups for state in group.states}
    assets = assets.filter(
        pl.struct("key", "etag").map_elements(
            lambda row: seen.get(row["key"]) == row["etag"], return_dtype=pl.Boolean
        )
    )
    contents = assets["content"].drop_nulls().to_list()
    found = catalog.read_keys("thumbnails", ["content", "jpeg"], contents)
    thumbnails = dict(found.iter_rows()) if found.width else {}
    return {
        row["key"]: Look(
            thumbnails.get(row["content"]),
            row["width"],
            row["height"],
            row["format"] or "",
            row["last_modified"],
        )
        for row in assets.iter_rows(named=True)
    }
