"""Opens the rooms a stage needs, from a scan's settings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from tasks.catalog.catalog import Catalog, quote
from tasks.catalog.filters import select_sql
from tasks.catalog.lease import LEASE_SECONDS
from tasks.dedup.cross_filter import OTHER, OWN, with_side
from tasks.errors import SettingsError
from tasks.records import Scan
from tasks.settings import Settings
from tasks.sources.base import Source
from tasks.sources.collection import CollectionSource, is_collection
from tasks.sources.local import LocalSource
from tasks.sources.s3 import S3Source, client_for, storage_options
from tasks.sources.store import Store

if TYPE_CHECKING:
    from tasks.embedding.base import Embedder
    from tasks.engine.shards import Engine


#: Catalogs in folders that this process has under :func:`kept_open`, by their address.
_OPEN: dict[str, Catalog] = {}


@contextlib.contextmanager
def kept_open(settings: Settings) -> Iterator[Catalog]:
    """The catalog of the settings, which :func:`open_catalog` gives again meanwhile.

    A scan has a dozen stages. If each opened the catalog and its tables anew, that would take a
    fifth of the CPU time of a scan that finds nothing new. Use it only while no other process may
    replace the tables, as in a scan's turn. A catalog on S3 is opened by each stage even so: the
    credentials of the stage before may have expired.
    """
    uri = settings.catalog.uri
    catalog = open_catalog(settings)
    if catalog.on_s3 or uri in _OPEN:
        yield catalog
        return
    _OPEN[uri] = catalog
    try:
        yield catalog
    finally:
        del _OPEN[uri]


def open_catalog(settings: Settings, *, migrate: bool = True) -> Catalog:
    """The catalog of the settings, made when missing.

    Args:
        settings: the settings.
        migrate: bring the catalog of an older release into this one's form first.
    """
    uri = settings.catalog.uri
    if (kept := _OPEN.get(uri)) is not None:
        kept.notice_all()
        return kept
    if uri.startswith("s3://"):
        options, client = storage_options(settings.s3), client_for(settings.s3)
        return Catalog(uri.rstrip("/"), options, client, migrate=migrate)
    return Catalog(uri, migrate=migrate)


def open_source(uri: str, settings: Settings) -> Source:
    """The source of a URI: ``s3://bucket/prefix``, ``file:///folder``, a folder, ``gate://NAME``.

    Raises:
        SettingsError: when the URI is none of these.
    """
    if uri.startswith("s3://"):
        return S3Source(uri, settings.s3)
    if uri.startswith("file://"):
        return LocalSource(uri.removeprefix("file://"))
    if is_collection(uri):
        return CollectionSource(uri)
    if "://" in uri:
        raise SettingsError(f"source {uri!r}: use s3://bucket/prefix or a folder")
    return LocalSource(uri)


def locate(uri: str, settings: Settings) -> tuple[str, str]:
    """Id and prefix of a source; nothing is asked of it."""
    source = open_source(uri, settings)
    return source.id, source.prefix


def default_source(catalog: Catalog, settings: Settings) -> str:
    """The source that is meant where none is named: the settings', or the catalog's only one.

    Raises:
        SettingsError: when there is none, or the catalog holds several.
    """
    if settings.source.uri:
        return settings.source.uri
    found = catalog.read("assets", ["source"], "removed_at IS NULL")["source"].drop_nulls()
    known = sorted(found.unique().to_list())
    if len(known) == 1:
        return str(known[0])
    if known:
        raise SettingsError(
            f"the catalog holds {len(known)} sources ({', '.join(known)[:300]}): name one "
            "(--source), or set DAM_DEDUP_SOURCE__URI"
        )
    raise SettingsError(
        f"the catalog {settings.catalog.uri} holds no assets: scan first, or name a source"
    )


def live_sql(source: str, prefix: str = "", where: str = "") -> str:
    """The condition that selects the live images of a source, below a prefix, that a filter lets.

    Raises:
        FilterError: when the filter is wrong.
    """
    parts = [f"source = {quote(source)}", "removed_at IS NULL", "skipped IS NULL"]
    if prefix:
        parts.append(f"starts_with(key, {quote(prefix)})")
    if where.strip():
        parts.append(select_sql(where))
    return " AND ".join(f"({part})" for part in parts)


def open_store(uri: str, settings: Settings) -> Store | None:
    """The bucket of a source, to be written to; None for a folder, which is only ever read."""
    if not uri.startswith("s3://"):
        return None
    # An attempt of a request must end well before the lease under which it is made.
    seconds = min(settings.s3.timeout_seconds, max(LEASE_SECONDS / 3, 5.0))
    access = settings.s3.model_copy(update={"timeout_seconds": seconds})
    return Store(S3Source(uri, access).bucket, access)


def open_embedder(settings: Settings) -> Embedder:
    """The embedder of the settings, its model loaded."""
    from tasks.embedding.base import load_embedder  # torch: seconds, and only some stages need it

    return load_embedder(settings.embedding)


@contextlib.contextmanager
def open_engine(settings: Settings) -> Iterator[Engine | None]:
    """Where a stage's shards run, as long as the block lasts; None: in processes of this machine.

    Raises:
        EngineError: when the engine does not answer, or its workers would give other results.
        SettingsError: when what it needs is not installed.
    """
    if settings.engine.kind == "processes":
        yield None
        return
    from tasks.engine.cluster import dask_engine

    with dask_engine(settings.engine, engine_facts) as engine:
        yield engine


def engine_facts() -> str:
    """What must be equal on all machines of an engine for a scan to end as on one."""
    from importlib.metadata import version

    from tasks.dedup.originals import proof_rule
    from tasks.dedup.verify import rule_id
    from tasks.embedding.images import READER_VERSION

    rules = f"pairs {rule_id()}, proofs {proof_rule()}, reader {READER_VERSION}"
    return f"dam-dedup {version('dam-dedup')}, {rules}"


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
    return " OR ".join(select_sql(text) for text in (scan.where, scan.across) if text)


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
