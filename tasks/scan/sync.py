"""Sync: what is in the source, diffed against what the catalog knows.

Listing, comparing and writing all go in pages and frames. An asset is *changed* when its listing
is (ETag, size or time); its pixels are read again only when its ETag or size is, which is what
``revision`` stands for.
"""

from __future__ import annotations

import contextlib
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.embedding.sniff import PILLOW_FORMATS, sniff
from tasks.embedding.xmp import parse_xmp
from tasks.errors import AssetGoneError, SourceError
from tasks.progress import Progress, silent
from tasks.records import Listing, Scan, asset_id, digest, now
from tasks.session import open_catalog, open_source, pa_table
from tasks.settings import Settings
from tasks.sources.base import Source
from tasks.sources.collection import is_collection

log = logging.getLogger(__name__)

#: Rows written at once: a crash costs at most the probes of so many objects.
_WRITE_ROWS = 2000
#: The storage refused to show an object that it lists: a failure, tried again by the next scan.
UNREADABLE = "unreadable"
#: So many refusals in a row, and nothing else, are a fault of the whole source.
_REFUSALS = 20
_SIDECAR_BYTES = 4 * 1024**2
_LISTING_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "asset_id": pl.String,
    "key": pl.String,
    "etag": pl.String,
    "size": pl.Int64,
    "last_modified": pl.Datetime("us", "UTC"),
    "storage_class": pl.String,
}


@dataclass(frozen=True, slots=True)
class SyncCounts:
    """What a sync found."""

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
        _believe(listed, known, removed, settings.source.minimum_listing, scan)
        sidecars = _sidecars(listed)
        changed = pl.concat([changed, _sidecar_changes(listed, added, changed, removed)])
        work = pl.concat([added, changed]).sort("key")
        done = 0
        progress("sync", 0, work.height)
        with ThreadPoolExecutor(source.workers, thread_name_prefix="probe") as pool:
            for part in work.iter_slices(_WRITE_ROWS):
                rows = pool.map(
                    lambda item: _row(source, settings, item, sidecars), part.to_dicts()
                )
                catalog.upsert("assets", pa_table(_checked(list(rows), scan), schema.LISTING))
                done += part.height
                progress("sync", done, work.height)
        _bury(catalog, removed)
    counts = SyncCounts(
        listed.height,
        added.height,
        changed.height,
        removed.height,
        listed.height - added.height - changed.height,
    )
    log.info("sync: %s", counts)
    return counts


def look_at(source: Source, key: str, settings: Settings) -> dict[str, Any]:
    """The listing of one object as a sync of the whole source would write it.

    Raises:
        AssetGoneError: when it is not there.
        SourceError: when it cannot be read.
    """
    probe = source.probe(key)
    item = {
        "asset_id": asset_id(source.id, key),
        "key": key,
        "etag": probe.etag,
        "size": probe.size,
        "last_modified": probe.last_modified,
    }
    beside: dict[str, list[str]] = {}
    for stem in {key, key.removesuffix(PurePosixPath(key).suffix)}:
        with contextlib.suppress(AssetGoneError):
            source.probe(f"{stem}.xmp")
            beside[stem] = [f"{stem}.xmp"]
    return _row(source, settings, item, beside)


def list_assets(source: Source, scan: Scan, progress: Progress = silent) -> pl.DataFrame:
    """All listed objects of the scan's scope but for what the patterns leave out, by key."""
    own = own_places(scan.settings, source)
    include, exclude = scan.settings.source.include, scan.settings.source.exclude
    pages, seen = [], 0
    for page in source.list_pages():
        kept = [
            item
            for item in page
            if not item.key.startswith(own) and is_wanted(item.key, include, exclude)
        ]
        pages.append(_frame(kept, source))
        seen += len(page)
        progress("list", seen, None)
    frame = pl.concat(pages) if pages else pl.DataFrame(schema=_LISTING_SCHEMA)
    return frame.unique("asset_id", keep="last").sort("key")


def known_assets(catalog: Catalog, source: Source) -> pl.DataFrame:
    """What the catalog knows of the same place, tombstones included."""
    where = f"source = {quote(source.id)}"
    if source.prefix:
        where += f" AND starts_with(key, {quote(source.prefix)})"
    columns = ["key", "asset_id", "etag", "size", "last_modified", "removed_at"]
    return catalog.read("assets", columns, where)


def diff(
    listed: pl.DataFrame, known: pl.DataFrame, *, everything: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Added and changed (rows of ``listed``), and removed (rows of ``known``).

    A tombstone that is listed again is *added* again. With ``everything`` all that is not added
    counts as changed.
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


def revision_of(etag: str, size: int) -> str:
    """Names the bytes of an object as far as its listing knows them."""
    return digest(etag, str(size))


def _frame(page: list[Listing], source: Source) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "asset_id": [asset_id(source.id, item.key) for item in page],
            "key": [item.key for item in page],
            "etag": [item.etag for item in page],
            "size": [item.size for item in page],
            "last_modified": [item.last_modified for item in page],
            "storage_class": [item.storage_class for item in page],
        },
        schema=_LISTING_SCHEMA,
    )


def own_places(settings: Settings, source: Source) -> tuple[str, ...]:
    """Prefixes of the source that hold our own reports and catalog: never assets."""
    delivery = settings.delivery
    mine = [settings.catalog.uri, delivery.bucket, delivery.folder]
    start = f"{source.id}/"
    places = [".dam-dedup/"]  # where the demo, and whoever follows it, puts reports
    for place in mine:
        uri = str(place or "")
        uri = uri if "://" in uri else f"file://{Path(uri).resolve()}"
        if place and uri.startswith(start) and uri != start:
            places.append(uri.removeprefix(start).rstrip("/") + "/")
    return tuple(places)


def is_wanted(key: str, include: list[str], exclude: list[str]) -> bool:
    """Whether the patterns of the settings let a key in."""
    if include and not any(fnmatchcase(key, pattern) for pattern in include):
        return False
    return not any(fnmatchcase(key, pattern) for pattern in exclude)


def _believe(
    listed: pl.DataFrame, known: pl.DataFrame, removed: pl.DataFrame, least: float, scan: Scan
) -> None:
    """A listing that suddenly lacks most assets is a fault (wrong credentials, half a listing)."""
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
    """``.xmp`` keys by the stem they may belong to: ``a/b.xmp`` and ``a/b.jpg.xmp``."""
    found: dict[str, list[str]] = {}
    keys = listed.filter(pl.col("key").str.to_lowercase().str.ends_with(".xmp"))["key"]
    for key in keys:
        found.setdefault(key[:-4], []).append(key)
    return found


def _sidecar_changes(
    listed: pl.DataFrame, added: pl.DataFrame, changed: pl.DataFrame, removed: pl.DataFrame
) -> pl.DataFrame:
    """Assets, themselves unchanged, whose sidecar came, changed or went."""
    touched = _sidecars(pl.concat([frame.select("key") for frame in (added, changed, removed)]))
    if not touched:
        return listed.clear()
    stem = pl.col("key").str.replace(r"\.[^./]*$", "")
    return (
        listed.filter(pl.col("key").is_in(list(touched)) | stem.is_in(list(touched)))
        .filter(~pl.col("key").str.to_lowercase().str.ends_with(".xmp"))
        .join(pl.concat([added, changed]), on="asset_id", how="anti")
    )


def _sidecars_of(key: str, sidecars: dict[str, list[str]]) -> list[str]:
    stem = key[: -len(PurePosixPath(key).suffix)] if PurePosixPath(key).suffix else key
    return [*sidecars.get(key, []), *(sidecars.get(stem, []) if stem != key else [])]


def _is_sidecar(key: str) -> bool:
    return key.lower().endswith(".xmp")


# ---- probing ---------------------------------------------------------------------------------


def _row(
    source: Source, settings: Settings, item: dict[str, Any], sidecars: dict[str, list[str]]
) -> dict[str, Any]:
    key = item["key"]
    path = PurePosixPath(key)
    row = {
        **item,
        "source": source.id,
        "prefix": key[: key.rfind("/") + 1],
        "name": key.rsplit("/", 1)[-1],
        "extension": path.suffix.lower().lstrip("."),
        "revision": revision_of(item["etag"], item["size"]),
        "removed_at": None,
        "tags": "{}",
        "metadata": "{}",
        "sidecars": [],
        "sidecar_xmp": "{}",
        "skipped": None,
    }
    if item["size"] == 0:
        return row | {"skipped": "folder" if key.endswith("/") else "zero_bytes"}
    if _is_sidecar(key):
        return row | {"skipped": "sidecar", "format": "xmp"}
    try:
        probe = source.probe(key)
    except AssetGoneError:
        return row | {"skipped": "gone", "etag": ""}
    except SourceError as error:
        # An ETag that no listing has makes the next scan look again.
        log.warning("%r is left out of this scan: %s", key, error)
        return row | {"skipped": UNREADABLE, "etag": ""}
    attached = _sidecars_of(key, sidecars)
    kind = sniff(probe.head) if probe.head else None
    if probe.etag != item["etag"]:
        # Replaced since it was listed: what the probe saw is what will be read. Otherwise the
        # listing's time stays, which on some stores is finer than the header's.
        row |= {
            "etag": probe.etag,
            "size": probe.size,
            "last_modified": probe.last_modified,
            "revision": revision_of(probe.etag, probe.size),
        }
    return row | {
        "version_id": probe.version_id,
        "content_type": probe.content_type,
        "format": kind,
        "label": label_of(probe.tags, probe.metadata, settings.source.label_keys),
        "tags": json.dumps(probe.tags),
        "metadata": json.dumps(probe.metadata),
        "sidecars": attached,
        "sidecar_xmp": json.dumps(_read_sidecars(source, attached)),
        "skipped": _skip_reason(probe.head, kind),
    }


def _checked(rows: list[dict[str, Any]], scan: Scan) -> list[dict[str, Any]]:
    """The rows, unless the source refuses all of them: then what is known stays as it is."""
    if len(rows) >= _REFUSALS and all(row["skipped"] == UNREADABLE for row in rows):
        raise SourceError(
            f"{scan.source} lists objects but lets none of them be read; nothing was changed. "
            "Check that the credentials allow s3:GetObject (and kms:Decrypt for encrypted objects)"
        )
    return rows


def label_of(tags: dict[str, str], metadata: dict[str, str], names: list[str]) -> str | None:
    """The first of the label keys that has a value, among tags, then in user metadata."""
    for name in names:
        if tags.get(name):
            return tags[name]
    for name in names:
        if metadata.get(name.lower()):  # S3 hands out metadata names in lower case
            return metadata[name.lower()]
    return None


def _skip_reason(head: bytes, kind: str | None) -> str | None:
    if not head:
        return "archived"
    if kind in PILLOW_FORMATS:
        return None
    return f"format_{kind}" if kind else "not_an_image"


def _read_sidecars(source: Source, keys: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in keys:
        try:
            found |= parse_xmp(source.read(key, source.probe(key).etag, _SIDECAR_BYTES))
        except SourceError as error:  # the asset itself is fine
            log.warning("sidecar %r is left out: %s", key, error)
    return found


def _bury(catalog: Catalog, removed: pl.DataFrame) -> None:
    when = now()
    rows = [{"asset_id": asset, "removed_at": when} for asset in removed["asset_id"]]
    catalog.upsert("assets", pa_table(rows, schema.TOMBSTONE))
