"""Opens the rooms a stage needs, from a scan's settings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from tasks.catalog.catalog import Catalog, quote
from tasks.catalog.filters import render_filter
from tasks.dedup.sides import OTHER, OWN, with_side
from tasks.errors import SettingsError
from tasks.records import Scan
from tasks.settings import Settings
from tasks.sources.base import Source
from tasks.sources.local import LocalSource
from tasks.sources.s3 import S3Source, client_for, storage_options
from tasks.sources.store import Store

if TYPE_CHECKING:
    from tasks.embedding.base import Embedder


def open_catalog(settings: Settings) -> Catalog:
    """The catalog of the settings, made when missing."""
    uri = settings.catalog.uri
    if uri.startswith("s3://"):
        return Catalog(uri.rstrip("/"), storage_options(settings.s3), client_for(settings.s3))
    return Catalog(uri)


def open_source(uri: str, settings: Settings) -> Source:
    """The source of a URI: ``s3://bucket/prefix``, ``file:///folder`` or a folder.

    Raises:
        SettingsError: when the URI is none of these.
    """
    if uri.startswith("s3://"):
        return S3Source(uri, settings.s3)
    if uri.startswith("file://"):
        return LocalSource(uri.removeprefix("file://"))
    if "://" in uri:
        raise SettingsError(f"source {uri!r}: use s3://bucket/prefix or a folder")
    return LocalSource(uri)


def open_store(uri: str, settings: Settings) -> Store | None:
    """The bucket of a source, to be written to; None for a folder, which is only ever read."""
    if not uri.startswith("s3://"):
        return None
    return Store(S3Source(uri, settings.s3).bucket, settings.s3)


def open_embedder(settings: Settings) -> Embedder:
    """The embedder of the settings, its model loaded."""
    from tasks.embedding.base import load_embedder  # torch: seconds, and only some stages need it

    return load_embedder(settings.embedding)


def scope_sql(scan: Scan, source: Source) -> str:
    """The condition that selects the live images of a scan."""
    parts = [
        f"source = {quote(source.id)}",
        "removed_at IS NULL",
        "skipped IS NULL",
    ]
    if source.prefix:
        parts.append(f"starts_with(key, {quote(source.prefix)})")
    if chosen := filter_sql(scan):
        parts.append(chosen)
    return " AND ".join(f"({part})" for part in parts)


def filter_sql(scan: Scan) -> str:
    """The condition that a scan's filters make, on either side of it; empty for all assets."""
    if not scan.where:  # all, with or without another side
        return ""
    return " OR ".join(render_filter(text) for text in (scan.where, scan.across) if text)


def read_sides(catalog: Catalog, scan: Scan, assets: pl.DataFrame) -> pl.DataFrame:
    """Assets (asset_id, ...) of a scan with the ``side`` they are on."""
    if not scan.across:
        return with_side(assets)
    source = open_source(scan.source, scan.settings)
    sides = pl.lit(0, pl.UInt8)
    for side, where in ((OWN, scan.where), (OTHER, scan.across)):
        there = scope_sql(replace(scan, where=where, across=""), source)
        ids = catalog.read("assets", ["asset_id"], there)["asset_id"]
        sides += pl.col("asset_id").is_in(ids.implode()).cast(pl.UInt8) * side
    return assets.with_columns(sides.alias("side")).filter(pl.col("side") > 0)


def pa_table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as an Arrow table of a schema; columns that no row has become null."""
    return pa.table(
        [pa.array([row.get(field.name) for row in rows], field.type) for field in schema],
        schema=schema,
    )
