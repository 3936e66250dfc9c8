"""One object of a source, as the catalog's table of assets describes it."""

from __future__ import annotations

import contextlib
import json
import logging
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.embedding.sniff import PILLOW_FORMATS, sniff
from tasks.errors import (
    AssetGoneError,
    SourceError,
    StoreRefusedError,
    TransientSourceError,
)
from tasks.queries.sidecars import read_sidecars
from tasks.records import asset_id, digest
from tasks.session import open_catalog
from tasks.settings import Settings
from tasks.sources.base import Source
from tasks.sources.places import OUR_PREFIX, read_places
from tasks.sources.s3 import S3Source, client_for

log = logging.getLogger(__name__)

#: Why an object is left out that the storage lists but refuses to show. The next scan tries again.
UNREADABLE = "unreadable"
#: The same where the storage failed in a way that may pass (throttled, timed out, unreachable).
#: Where there are many of these, the scan itself waits and tries again.
UNANSWERED = "storage_error"
#: Why an object is left out whose bytes are in an archive. It is read once it is restored.
ARCHIVED = "archived"
#: The failures that the next scan tries again; images with other failures wait for new bytes.
NOT_SHOWN = [UNANSWERED, UNREADABLE]


def look_at(source: Source, key: str, settings: Settings) -> dict[str, Any]:
    """One object's row in the table of assets, as a sync of the whole source would write it.

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
        "storage_class": probe.storage_class,
    }
    beside: dict[str, list[str]] = {}
    for stem in {key, key.removesuffix(PurePosixPath(key).suffix)}:
        with contextlib.suppress(AssetGoneError):
            source.probe(f"{stem}.xmp")
            beside[stem] = [f"{stem}.xmp"]
    return asset_row(source, settings, item, beside)


def revision_of(etag: str, size: int) -> str:
    """A name for the bytes of an object, made of what a listing tells of them."""
    return digest(etag, str(size))


def own_places(settings: Settings, source: Source) -> tuple[str, ...]:
    """Prefixes of the source that hold our own reports, catalog and quarantines: never assets."""
    delivery = settings.delivery
    mine = [settings.catalog.uri, delivery.bucket, delivery.folder]
    start = f"{source.id}/"
    places = [OUR_PREFIX]  # quarantine and probes; the demo puts its reports there too
    for place in mine:
        uri = str(place or "")
        uri = uri if "://" in uri else f"file://{Path(uri).resolve()}"
        if place and uri.startswith(start) and uri != start:
            places.append(uri.removeprefix(start).rstrip("/") + "/")
    return (*places, *_quarantines(settings, source))


def _quarantines(settings: Settings, source: Source) -> set[str]:
    """Every place that a merge ever used as quarantine, whatever the policy says now.

    Raises:
        SourceError: when the bucket's list cannot be read now, or is damaged: without it, a copy
            that another catalog moved would be scanned, and merged, as an asset.
    """
    # Of merges of releases that did not keep the list in the bucket.
    moved = open_catalog(settings).read("journal", ["key", "detail"], "kind = 'copy'")
    targets = moved["detail"].str.json_path_match("$.to")
    found = {
        to.removesuffix(key)
        for key, to in zip(moved["key"], targets, strict=True)
        if to and to.endswith(key) and to != key
    }
    if isinstance(source, S3Source):
        try:
            found.update(read_places(client_for(settings.s3), source.bucket))
        except StoreRefusedError as error:
            log.warning(
                "%s: where quarantines were is known of this catalog alone: %s", source.id, error
            )
    return found


def is_wanted(key: str, include: list[str], exclude: list[str]) -> bool:
    """Whether a key passes the settings' include and exclude patterns."""
    if include and not any(fnmatchcase(key, pattern) for pattern in include):
        return False
    return not any(fnmatchcase(key, pattern) for pattern in exclude)


def sidecars_of(key: str, sidecars: dict[str, list[str]]) -> list[str]:
    """The sidecars of an asset, from those found by the stem they may belong to."""
    stem = key[: -len(PurePosixPath(key).suffix)] if PurePosixPath(key).suffix else key
    return [*sidecars.get(key, []), *(sidecars.get(stem, []) if stem != key else [])]


def is_sidecar(key: str) -> bool:
    """Whether a key is an XMP sidecar's."""
    return key.lower().endswith(".xmp")


def asset_row(
    source: Source, settings: Settings, item: dict[str, Any], sidecars: dict[str, list[str]]
) -> dict[str, Any]:
    """The row of a listed object in the table of assets, as one small request shows it.

    Args:
        source: where the object is.
        settings: which tags and metadata hold an asset's label.
        item: asset_id, key, etag, size, last_modified, storage_class, as the listing has them.
        sidecars: keys of XMP sidecars by the stem they may belong to.

    Returns:
        Columns of the assets table, and ``unread_sidecars``: the keys of those that could not be
        read. ``tags`` is null where they may not be read. An object that is no image, or that the
        store refuses to show, has the reason under
        ``skipped``.
    """
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
    if item.get("link"):
        return row | {"skipped": "link"}
    if is_sidecar(key):
        return row | {"skipped": "sidecar", "format": "xmp"}
    try:
        probe = source.probe(key)
    except AssetGoneError:
        return row | {"skipped": "gone", "etag": ""}
    except SourceError as error:
        # No listing has an empty ETag, so the next scan finds the object changed and looks again.
        log.warning("%r is left out of this scan: %s", key, error)
        return row | {"skipped": not_shown(error), "etag": ""}
    attached = sidecars_of(key, sidecars)
    said = read_sidecars(source, settings, attached)
    kind = sniff(probe.head) if probe.head else None
    if probe.etag != item["etag"]:
        # The object was replaced since it was listed: what the probe saw is what will be read. In
        # all other cases the listing's time stays, which on some stores is finer than the header's.
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
        "label": label_of(probe.tags or {}, probe.metadata, settings.source.label_keys),
        "tags": None if probe.tags is None else json.dumps(probe.tags),
        "metadata": json.dumps(probe.metadata),
        "sidecars": attached,
        "sidecar_xmp": json.dumps(said.fields),
        "unread_sidecars": sorted(said.unread),
        "skipped": _skip_reason(probe.head, kind),
    }


def not_shown(error: SourceError) -> str:
    """Why the storage did not show an object: it failed in passing, or refuses."""
    return UNANSWERED if isinstance(error, TransientSourceError) else UNREADABLE


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
        return ARCHIVED
    if kind in PILLOW_FORMATS:
        return None
    return f"format_{kind}" if kind else "not_an_image"
