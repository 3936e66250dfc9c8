"""Update: put one analysed image into the catalog, so that no scan reads it again.

Of an asset of a collection ``gate://NAME`` the caller's analysis is all there is. An object of a
bucket or a folder is read and analysed here, whatever was handed in: a merge removes what it holds
for a copy, so nobody else may say what an object shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import polars as pl
import pyarrow as pa

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.errors import AssetChangedError, ImageError, SettingsError, SourceError
from tasks.intake.analyze import Analyzer
from tasks.queries.objects import label_of, look_at, own_places, revision_of
from tasks.queries.packets import write_packets
from tasks.queries.readings import picture_row, record_space
from tasks.queries.renditions import forget_renditions, read_renditions, write_rendition
from tasks.records import Analysis, asset_id, now
from tasks.session import default_source, open_catalog, open_source, pa_table
from tasks.settings import Settings
from tasks.sources.base import Source
from tasks.sources.collection import is_collection

_NONE: Mapping[str, str] = MappingProxyType({})
#: As S3 allows.
_KEY_BYTES = 1024
_TEXT_BYTES = 64 * 1024
_TOMBSTONES = 10_000
#: An uploaded file of at most so many bytes is kept as it is to prove copies with; of a larger one
#: a JPEG is made.
_KEPT_AS_IT_IS = 512 * 1024


@dataclass(frozen=True, slots=True)
class ReadObject:
    """An object of a bucket or a folder as this process read it.

    Attributes:
        listing: its row of the assets' table, without the reading.
        analysis: of the bytes that belong to the listing's ETag.
    """

    listing: dict[str, Any]
    analysis: Analysis


def update_asset(
    settings: Settings,
    analysis: Analysis,
    key: str,
    *,
    source: str = "",
    tags: Mapping[str, str] = _NONE,
    metadata: Mapping[str, str] = _NONE,
    name: str = "",
    etag: str = "",
    analyzer: Analyzer | None = None,
) -> str:
    """Put an analysed image into the catalog; the same again changes nothing.

    Args:
        settings: with the catalog.
        analysis: of the image's bytes. Of an object only its SHA-256 counts, which must be that
            of the object's bytes: all the rest is made from those bytes here.
        key: the object's key; in a collection ``gate://NAME``, the caller's id.
        source: where it is; empty: the default source.
        tags: of an asset of a collection; an object has its own.
        metadata: likewise.
        name: what people call an asset of a collection; default: its key.
        etag: that an object must have, where the caller knows it.
        analyzer: to read an object with; none: one is made, which loads the model.

    Returns:
        The asset's id.

    Raises:
        SettingsError: when there is no such source, or the key can be none.
        AssetChangedError: when the object is not what was analysed.
        AssetGoneError: when there is no such object.
        SourceError: when it cannot be read, or gives no picture.
    """
    _check_key(key, [*tags.items(), *metadata.items(), ("name", name)])
    catalog = open_catalog(settings)
    place = open_source(source or default_source(catalog, settings), settings)
    if not is_collection(place.id):
        found = read_object(
            settings, place, key, etag=etag, analyzer=analyzer, sha256=analysis.picture.sha256
        )
        return enter_object(settings, found)
    listing = _handed_in(place, analysis, key, tags, metadata, name, settings)
    kept = read_renditions(catalog, [analysis.picture.content])
    rendition = None if kept else _rendition(settings, analysis, analyzer)
    with catalog.writing(settings.catalog.busy_seconds):
        before = catalog.read_keys("assets", ["asset_id", "content"], [listing["asset_id"]])
        if rendition is not None:
            write_rendition(catalog, analysis.picture.content, *rendition)
        asset = _enter(settings, listing, analysis)
        others = [one for one in before["content"] if one != analysis.picture.content]
        forget_renditions(catalog, others)
    return asset


def _rendition(
    settings: Settings, analysis: Analysis, analyzer: Analyzer | None
) -> tuple[bytes, int, int] | None:
    """A picture to prove copies of an asset with, its width and height; None: none can be made."""
    side, data, picture = settings.gate.rendition_side, analysis.original, analysis.picture
    if not side or data is None:
        return None  # an analysis that travelled brings no bytes
    if len(data) <= _KEPT_AS_IT_IS:
        return data, picture.width, picture.height
    if analyzer is None:
        return None
    try:
        made = analyzer.render(data, side)
    except ImageError:  # which was read before; then there is no proof, and somebody is asked
        return None
    less = min(1.0, side / max(picture.width, picture.height))
    return made, max(1, round(picture.width * less)), max(1, round(picture.height * less))


def read_object(
    settings: Settings,
    place: Source,
    key: str,
    *,
    etag: str = "",
    sha256: str = "",
    analyzer: Analyzer | None = None,
) -> ReadObject:
    """Read an object and analyse its bytes, whatever anybody says of it.

    Args:
        settings: with the model and the limits.
        place: its source, a bucket or a folder.
        key: the object's.
        etag: that it must have; empty: any.
        sha256: that its bytes must have, in hex; empty: any.
        analyzer: of the same settings; none: one is made, which loads the model.

    Raises:
        SettingsError: when the key is outside of the source.
        AssetChangedError: when it has another ETag or other bytes than it should.
        AssetGoneError: when there is no such object.
        SourceError: when it cannot be read, or gives no picture.
    """
    _check_key(key, [])
    if not key.startswith(place.prefix):
        raise SettingsError(f"{key!r} is not below {place.id}/{place.prefix}: give the whole key")
    if key.startswith(own_places(settings, place)):
        raise SourceError(f"{key!r} of {place.id} is in a quarantine, or a document of ours")
    listing = look_at(place, key, settings)
    if listing["skipped"]:
        raise SourceError(f"{key!r} of {place.id} is no image to add: {listing['skipped']}")
    other = AssetChangedError(
        f"{key!r} of {place.id} is not the object that was analysed; analyse it again"
    )
    if etag and _bare(etag) != _bare(listing["etag"]):
        raise other
    data = place.read(key, listing["etag"], settings.limits.bytes)
    if analyzer is None:
        with Analyzer(settings) as own:
            (analysis,) = own.analyze([data])
    else:
        (analysis,) = analyzer.analyze([data])
    if isinstance(analysis, ImageError):
        raise SourceError(f"{key!r} of {place.id} gives no picture: {analysis}")
    if sha256 and analysis.picture.sha256 != sha256:
        raise other
    return ReadObject(listing, analysis)


def enter_object(settings: Settings, found: ReadObject) -> str:
    """Put an object that this process read into the catalog; returns the asset's id."""
    return _enter(settings, found.listing, found.analysis)


def _enter(settings: Settings, listing: dict[str, Any], analysis: Analysis) -> str:
    catalog = open_catalog(settings)
    asset = str(listing["asset_id"])
    reading = picture_row(asset, listing["revision"], analysis.picture, settings)
    with catalog.writing(settings.catalog.busy_seconds):
        if not _is_known(catalog, listing | reading, analysis):
            _write(catalog, analysis, listing | reading)
    return asset


def remove_assets(settings: Settings, source: str, keys: Sequence[str] | None) -> int:
    """Take assets out of a collection ``gate://NAME``; returns how many were there.

    Args:
        settings: with the catalog.
        source: the collection.
        keys: which; None: all.

    Raises:
        SettingsError: for any other source: there the objects say what exists.
    """
    if not is_collection(source):
        raise SettingsError(
            f"assets of {source!r:.200} are not removed here: remove the objects, the next scan "
            "sees it; only gate:// collections live in the catalog alone"
        )
    place = open_source(source, settings)
    catalog = open_catalog(settings)
    with catalog.writing(settings.catalog.busy_seconds):
        here = f"source = {quote(place.id)} AND removed_at IS NULL"
        live = catalog.read("assets", ["asset_id", "content"], here)
        if keys is not None:
            named = pl.Series([asset_id(place.id, key) for key in keys], dtype=pl.String)
            live = live.filter(pl.col("asset_id").is_in(named.implode()))
        gone = live.select("asset_id", pl.lit(now()).alias("removed_at"))
        for part in gone.iter_slices(_TOMBSTONES):
            catalog.upsert("assets", part.to_arrow().cast(schema.TOMBSTONE))
        forget_renditions(catalog, live["content"])
    return live.height


def _check_key(key: str, texts: list[tuple[str, str]]) -> None:
    try:
        size = len(key.encode())
        rest = sum(len(name.encode()) + len(text.encode()) for name, text in texts)
    except UnicodeEncodeError:
        raise SettingsError("a key, name, tag or metadata value is no valid text") from None
    if not 0 < size <= _KEY_BYTES or "\x00" in key:
        raise SettingsError(f"a key has 1 to {_KEY_BYTES} bytes and no NUL; this has {size}")
    if rest > _TEXT_BYTES:
        raise SettingsError(f"name, tags and metadata of {key!r} have over {_TEXT_BYTES} bytes")


def _handed_in(
    place: Source,
    analysis: Analysis,
    key: str,
    tags: Mapping[str, str],
    metadata: Mapping[str, str],
    name: str,
    settings: Settings,
) -> dict[str, Any]:
    """The listing of an asset that nobody can list."""
    shown = name or key.rsplit("/", 1)[-1]
    picture = analysis.picture
    lowered = {word.lower(): text for word, text in metadata.items()}  # as S3 hands them out
    return {
        "asset_id": asset_id(place.id, key),
        "source": place.id,
        "key": key,
        "prefix": key[: key.rfind("/") + 1],
        "name": shown,
        "extension": PurePosixPath(shown).suffix.lower().lstrip("."),
        "etag": picture.sha256,
        "size": analysis.size,
        "last_modified": now(),
        "format": picture.format,
        "label": label_of(dict(tags), lowered, settings.source.label_keys),
        "tags": json.dumps(dict(tags)),
        "metadata": json.dumps(lowered),
        "sidecars": [],
        "sidecar_xmp": "{}",
        "revision": revision_of(picture.sha256, analysis.size),
        "skipped": None,
        "removed_at": None,
    }


def _bare(etag: str) -> str:
    return etag.strip().removeprefix("W/").strip('"')


def _is_known(catalog: Catalog, row: dict[str, Any], analysis: Analysis) -> bool:
    """Whether the catalog has all of this already."""
    same = [
        "source",
        "key",
        "name",
        "etag",
        "size",
        "revision",
        "read_revision",
        "reader",
        "content",
        "sha256",
        "label",
        "tags",
        "metadata",
        "sidecars",
        "skipped",
        "removed_at",
        "failed",
    ]
    known = catalog.read("assets", same, f"asset_id = {quote(row['asset_id'])}")
    if known.is_empty():
        return False
    before = known.row(0, named=True)
    changed = [name for name in same if not _equal(before[name], row.get(name), name)]
    vectors = f"vectors_{analysis.space.id}"
    wanted = f"content = {quote(analysis.picture.content)}"
    return not changed and bool(
        catalog.count(vectors, wanted) and catalog.count("thumbnails", wanted)
    )


def _equal(before: Any, after: Any, name: str) -> bool:
    if name in {"tags", "metadata"}:
        return bool(json.loads(before or "{}") == json.loads(after or "{}"))
    return bool(before == after)


def _write(catalog: Catalog, analysis: Analysis, row: dict[str, Any]) -> None:
    """Vector and thumbnail first, then the row that points to them, as a scan does."""
    space, content = analysis.space, analysis.picture.content
    record_space(catalog, space)
    name = catalog.vectors_table(space.id, space.dim)
    vector = pa.FixedSizeListArray.from_arrays(pa.array(analysis.vector, pa.float16()), space.dim)
    catalog.upsert(
        name,
        pa.table([pa.array([content]), vector], schema=schema.embeddings(space.dim)),
        only_new=True,
    )
    thumbnail = {"content": content, "jpeg": analysis.picture.thumbnail}
    catalog.upsert("thumbnails", pa_table([thumbnail], schema.THUMBNAILS), only_new=True)
    write_packets(catalog, [analysis.picture])
    catalog.upsert("assets", pa_table([row], schema.ASSETS))
