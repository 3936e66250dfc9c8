"""Sync: compare the source's listing with the catalog, and write what is new, changed or gone.

Objects are listed in pages and compared in frames, never one by one. An asset is *changed* when
its ETag, size or time differs from the catalog. Its pixels are only read again when ETag or size
differ, which together are its ``revision``.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.errors import SourceError
from tasks.progress import Progress, silent
from tasks.queries.objects import ARCHIVED, UNREADABLE, asset_row, is_sidecar, is_wanted, own_places
from tasks.records import ARCHIVES, Listing, Scan, asset_id, now
from tasks.session import open_catalog, open_source, pa_table
from tasks.sources.base import Source
from tasks.sources.collection import is_collection
from tasks.sources.local import LocalSource

log = logging.getLogger(__name__)

#: Rows written at once: a crash costs at most the probes of this many objects.
_WRITE_ROWS = 2000
#: When this many objects or more are written at once and the storage refused to show every one of
#: them, the fault is the source's (its permissions, say), and nothing is written.
_REFUSALS = 20
#: So many of the assets whose tags could not be read are asked at each sync whether they may be
#: now. A grant may cover a part of the bucket, so one of them is too few.
_TAG_SAMPLE = 10
_LISTING_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "asset_id": pl.String,
    "key": pl.String,
    "etag": pl.String,
    "size": pl.Int64,
    "last_modified": pl.Datetime("us", "UTC"),
    "storage_class": pl.String,
    "link": pl.Boolean,
    "restored": pl.Boolean,
}


@dataclass(frozen=True, slots=True)
class SyncCounts:
    """How many objects a sync saw, and how they differ from what the catalog knew."""

    seen: int
    added: int
    changed: int
    removed: int
    unchanged: int


def sync_assets(scan: Scan, progress: Progress = silent) -> SyncCounts:
    """Bring the catalog's assets up to date with the source.

    Removed assets become tombstones; nothing that was learned of them is deleted.

    Raises:
        SourceError: when the source cannot be listed, or lost so many assets at once that the
            listing is not believed (``DAM_DEDUP_SOURCE__MINIMUM_LISTING``).
    """
    settings = scan.settings
    source = open_source(scan.source, settings)
    catalog = open_catalog(settings)
    if is_collection(source.id):  # the catalog is all there is of it
        seen = catalog.count("assets", f"source = {quote(source.id)} AND removed_at IS NULL")
        return SyncCounts(seen, 0, 0, 0, seen)
    with catalog.writing(settings.catalog.busy_seconds):
        listed = list_assets(source, scan, progress)
        known = known_assets(catalog, source)
        added, changed, removed = diff(listed, known, everything=scan.refresh_metadata)
        removed = _really_removed(removed, source)
        _check_listing(listed, known, removed, settings.source.minimum_listing, scan)
        changed = pl.concat([changed, _out_of_the_archive(listed, known, changed)])
        changed = pl.concat([changed, _readable_again(catalog, source, listed, added, changed)])
        sidecars = _sidecars(listed)
        changed = pl.concat([changed, _sidecar_changes(listed, added, changed, removed)])
        work = pl.concat([added, changed]).sort("key")
        done = 0
        unread: set[str] = set()
        progress("sync", 0, work.height)
        with ThreadPoolExecutor(source.workers, thread_name_prefix="probe") as pool:
            for part in work.iter_slices(_WRITE_ROWS):
                rows = pool.map(
                    lambda item: asset_row(source, settings, item, sidecars), part.to_dicts()
                )
                found = _checked(list(rows), scan)
                unread.update(key for row in found for key in row.get("unread_sidecars", ()))
                catalog.upsert("assets", pa_table(found, schema.LISTING))
                done += part.height
                progress("sync", done, work.height)
        _mark_removed(catalog, removed)
        moved = _moved(listed, known, work)
        catalog.upsert("assets", pa_table(moved.to_dicts(), schema.STORAGE_CLASS))
    counts = SyncCounts(
        listed.height,
        added.height,
        changed.height,
        removed.height,
        listed.height - added.height - changed.height,
    )
    log.info("sync: %s", counts)
    if unread:
        log.warning("sidecars that could not be read: %d; what they say is not known", len(unread))
    return counts


def list_assets(source: Source, scan: Scan, progress: Progress = silent) -> pl.DataFrame:
    """All listed objects of the scan's source, sorted by key.

    Left out are those that the settings' patterns exclude, and our own reports and catalog. The
    sidecars of what is listed are never left out: a merge would leave behind what they say.
    """
    own = own_places(scan.settings, source)
    include, exclude = scan.settings.source.include, scan.settings.source.exclude
    pages, seen = [], 0
    spare: list[Listing] = []
    for page in source.list_pages():
        kept = []
        for item in page:
            if item.key.startswith(own):
                continue
            if is_wanted(item.key, include, exclude):
                kept.append(item)
            elif is_sidecar(item.key):
                spare.append(item)
        pages.append(_frame(kept, source))
        seen += len(page)
        progress("list", seen, None)
    if spare:
        keys = pl.concat(page["key"] for page in pages)
        served = {*keys, *keys.str.replace(r"\.[^./]*$", "")}
        pages.append(_frame([item for item in spare if item.key[:-4] in served], source))
    if not pages:
        return pl.DataFrame(schema=_LISTING_SCHEMA)
    return _without_links(pl.concat(pages).unique("asset_id", keep="last")).sort("key")


def known_assets(catalog: Catalog, source: Source) -> pl.DataFrame:
    """The catalog's assets of the same source and prefix, removed ones included."""
    where = f"source = {quote(source.id)}"
    if source.prefix:
        where += f" AND starts_with(key, {quote(source.prefix)})"
    columns = ["key", "asset_id", "etag", "size", "last_modified", "removed_at"]
    columns += ["storage_class", "skipped"]
    return catalog.read("assets", columns, where)


def diff(
    listed: pl.DataFrame, known: pl.DataFrame, *, everything: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Added and changed assets (rows of ``listed``), and removed ones (rows of ``known``).

    An asset that was marked as removed and is listed again is *added* again. With ``everything``
    all that is not added counts as changed.
    """
    live = known.filter(pl.col("removed_at").is_null())
    added = listed.join(live, on="asset_id", how="anti")
    both = listed.join(
        live.select("asset_id", "etag", "size", "last_modified"), on="asset_id", suffix="_known"
    )
    same = (
        (pl.col("etag") == pl.col("etag_known"))
        & (pl.col("size") == pl.col("size_known"))
        & (pl.col("last_modified") == pl.col("last_modified_known"))
    )
    changed = (both if everything else both.filter(~same)).select(listed.columns)
    removed = live.join(listed, on="asset_id", how="anti")
    return added, changed, removed


def _out_of_the_archive(
    listed: pl.DataFrame, known: pl.DataFrame, changed: pl.DataFrame
) -> pl.DataFrame:
    """Unchanged assets that could not be read in their archive, and can be now."""
    archived = known.filter(pl.col("removed_at").is_null() & (pl.col("skipped") == ARCHIVED))
    there = pl.col("storage_class").is_in(ARCHIVES).fill_null(value=False)
    return (
        listed.filter(pl.col("restored") | ~there)
        .join(archived, on="asset_id", how="semi")
        .join(changed, on="asset_id", how="anti")
    )


def _moved(listed: pl.DataFrame, known: pl.DataFrame, work: pl.DataFrame) -> pl.DataFrame:
    """Unchanged assets (asset_id, storage_class) that a lifecycle rule moved to another class."""
    before = known.filter(pl.col("removed_at").is_null()).select("asset_id", "storage_class")
    return (
        listed.select("asset_id", "storage_class")
        .join(before, on="asset_id", suffix="_known")
        .filter(pl.col("storage_class").ne_missing(pl.col("storage_class_known")))
        .select("asset_id", "storage_class")
        .join(work, on="asset_id", how="anti")
    )


def _readable_again(
    catalog: Catalog,
    source: Source,
    listed: pl.DataFrame,
    added: pl.DataFrame,
    changed: pl.DataFrame,
) -> pl.DataFrame:
    """Unchanged assets whose tags could not be read, where a sample shows that they may be now."""
    untold = catalog.read(
        "assets",
        ["asset_id"],
        f"source = {quote(source.id)} AND removed_at IS NULL AND skipped IS NULL AND tags IS NULL",
    )
    waiting = listed.join(untold, on="asset_id", how="semi").join(
        pl.concat([added, changed]), on="asset_id", how="anti"
    )
    for key in waiting.gather_every(max(1, waiting.height // _TAG_SAMPLE))["key"][:_TAG_SAMPLE]:
        try:
            if source.probe(key).tags is not None:
                return waiting
        except SourceError as error:
            log.debug("%r says nothing of its tags: %s", key, error)
    return waiting.clear()


def _frame(page: list[Listing], source: Source) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "asset_id": [asset_id(source.id, item.key) for item in page],
            "key": [item.key for item in page],
            "etag": [item.etag for item in page],
            "size": [item.size for item in page],
            "last_modified": [item.last_modified for item in page],
            "storage_class": [item.storage_class for item in page],
            "link": [item.linked for item in page],
            "restored": [item.restored for item in page],
            "file": [item.file for item in page],
        },
        schema=_LISTING_SCHEMA | {"file": pl.String},
    )


def _without_links(frame: pl.DataFrame) -> pl.DataFrame:
    """Listed objects, where all keys but one that lead to the same file are marked as links.

    They are no duplicates: removing one frees nothing. A file's own name goes before a symbolic
    link to it, then the first in order. The ETag says which is which, so that a link is looked at
    as soon as it is the only name left.
    """
    frame = frame.sort("link", "key")
    again = pl.col("file").is_not_null() & (pl.int_range(pl.len()).over("file") > 0)
    return frame.with_columns(
        link=again,
        etag=pl.when(again).then(pl.col("etag") + "-link").otherwise(pl.col("etag")),
    ).drop("file")


def _really_removed(removed: pl.DataFrame, source: Source) -> pl.DataFrame:
    """Removed assets without those below folders that could not be entered this time."""
    for start in source.unlisted if isinstance(source, LocalSource) else []:
        removed = removed.filter(~pl.col("key").str.starts_with(start))
    return removed


def _check_listing(
    listed: pl.DataFrame, known: pl.DataFrame, removed: pl.DataFrame, least: float, scan: Scan
) -> None:
    """Refuse a listing that suddenly lacks most assets.

    Wrong credentials or half a listing look like that, and every missing asset would be marked as
    removed. A few missing assets are believed: 10 when nothing is listed any more, else 100.
    """
    live = known.height - known["removed_at"].count()
    many = removed.height > (10 if listed.is_empty() else 100)
    if many and listed.height < live * least:
        raise SourceError(
            f"{scan.source} lists {listed.height} objects where the catalog knows {live}; "
            f"nothing was changed. If {removed.height} objects really were removed, set "
            "DAM_DEDUP_SOURCE__MINIMUM_LISTING=0 for one scan"
        )


# ---- sidecars --------------------------------------------------------------------------------


def _sidecars(listed: pl.DataFrame) -> dict[str, list[str]]:
    """The listed ``.xmp`` keys by what stands before ``.xmp``: ``a/b`` or ``a/b.jpg``."""
    found: dict[str, list[str]] = {}
    keys = listed.filter(pl.col("key").str.to_lowercase().str.ends_with(".xmp"))["key"]
    for key in keys:
        found.setdefault(key[:-4], []).append(key)
    return found


def _sidecar_changes(
    listed: pl.DataFrame, added: pl.DataFrame, changed: pl.DataFrame, removed: pl.DataFrame
) -> pl.DataFrame:
    """Assets whose sidecar was added, changed or removed, while they themselves are unchanged."""
    touched = _sidecars(pl.concat([frame.select("key") for frame in (added, changed, removed)]))
    if not touched:
        return listed.clear()
    stem = pl.col("key").str.replace(r"\.[^./]*$", "")
    return (
        listed.filter(pl.col("key").is_in(list(touched)) | stem.is_in(list(touched)))
        .filter(~pl.col("key").str.to_lowercase().str.ends_with(".xmp"))
        .join(pl.concat([added, changed]), on="asset_id", how="anti")
    )


# ---- probing ---------------------------------------------------------------------------------


def _checked(rows: list[dict[str, Any]], scan: Scan) -> list[dict[str, Any]]:
    """The rows as they are, unless the source refuses to show all of them (:data:`_REFUSALS`)."""
    if len(rows) >= _REFUSALS and all(row["skipped"] == UNREADABLE for row in rows):
        raise SourceError(
            f"{scan.source} lists objects but lets none of them be read; nothing was changed. "
            "Check that the credentials allow s3:GetObject (and kms:Decrypt for encrypted objects)"
        )
    return rows


def _mark_removed(catalog: Catalog, removed: pl.DataFrame) -> None:
    when = now()
    rows = [{"asset_id": asset, "removed_at": when} for asset in removed["asset_id"]]
    catalog.upsert("assets", pa_table(rows, schema.TOMBSTONE))
