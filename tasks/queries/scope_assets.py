"""The assets in a scan's scope."""

from __future__ import annotations

import polars as pl

from tasks.catalog.catalog import Catalog
from tasks.records import Scan, Space
from tasks.session import open_source, read_sides, scope_sql

#: The columns by which groups are formed and their keepers ranked.
KEEPER_COLUMNS = [
    "key",
    "asset_id",
    "content",
    "phash",
    "width",
    "height",
    "format",
    "quality",
    "size",
    "last_modified",
    "storage_class",
]


def embedded_assets(catalog: Catalog, scan: Scan, space: Space) -> pl.DataFrame:
    """The scope's assets that have a vector, with :data:`KEEPER_COLUMNS` and their side."""
    source = open_source(scan.source, scan.settings)
    assets = catalog.read("assets", KEEPER_COLUMNS, scope_sql(scan, source))
    assets = assets.drop_nulls("content")
    # An asset may have come in since this scan embedded, without a vector in this space: it waits
    # for the next scan.
    embedded = catalog.known_contents(space.id)
    assets = assets.filter(pl.col("content").is_in(embedded.implode()))
    return read_sides(catalog, scan, assets)


def read_assets(catalog: Catalog, scan: Scan, columns: list[str]) -> pl.DataFrame:
    """The scope's assets that have a picture, with the side they are on."""
    source = open_source(scan.source, scan.settings)
    found = catalog.read("assets", columns, scope_sql(scan, source)).drop_nulls("content")
    return read_sides(catalog, scan, found)


def original_document() -> pl.Expr:
    """XMP OriginalDocumentID, of the file or of its sidecar."""
    path = "$.original_document_id"
    return pl.coalesce(
        pl.col("xmp").str.json_path_match(path), pl.col("sidecar_xmp").str.json_path_match(path)
    ).alias("document")
