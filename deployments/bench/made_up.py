"""A catalog of any size with made-up contents: no picture is read, no file is kept.

Vectors are those of :mod:`deployments.bench.vectors`: clustered as pictures are, a fifth of them
copies. Compact features are random records of a picture's size, or those of real photographs, each
used many times. So every stage of a scan that follows embedding has the work that it has in
production. What is found means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pyarrow as pa

from deployments.bench.vectors import collection
from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.dedup.first_look import MOST, NUMBERS, RECORD, make_features, pack
from tasks.progress import Progress
from tasks.queries.candidates import lists_where
from tasks.queries.first_looks import features_table
from tasks.queries.readings import reader_of
from tasks.records import THUMBNAIL_SIDE, Listing, Scan, Space, asset_id, digest
from tasks.session import pa_table
from tasks.settings import Settings

#: The collection that is made. Its bytes are nowhere, so no stage can read any.
COLLECTION = "gate://million"
#: Rows written at once.
_BLOCK = 20_000
#: Contents with a thumbnail: as many as a report can show, and more.
_THUMBNAILS = 20_000
#: Different features, and pictures whose features are used.
_FEATURES = 2000
#: Names in a list that is made up.
_LISTED = 20
_STARTED = datetime(2024, 1, 1, tzinfo=UTC)
_KINDS = {".jpg", ".jpeg", ".png"}


def fill_catalog(
    catalog: Catalog,
    settings: Settings,
    space: Space,
    contents: int,
    *,
    seed: int,
    features: int,
    images: Path | None,
    progress: Progress,
) -> None:
    """Write so many contents, an asset each, unless the catalog has them already.

    Args:
        catalog: where they are written.
        settings: by which the assets count as read.
        space: where their vectors are said to be.
        contents: how many.
        seed: another seed makes other contents.
        features: how many contents get compact features; the first in the order of their names.
        images: a folder of photographs whose features are used; None: random ones.
        progress: told how many are written.
    """
    if catalog.count("assets") == contents:
        return
    names = content_names(contents, seed)
    vectors = collection(contents, space.dim, seed)
    pool = _feature_pool(seed, images)
    jpeg = _made_up_jpeg(seed)
    with catalog.writing(settings.catalog.busy_seconds):
        row = {name: getattr(space, name) for name in ("model", "revision", "preprocessing", "dim")}
        catalog.upsert("spaces", pa_table([{"space": space.id, **row}], schema.SPACES))
        table = catalog.table(catalog.vectors_table(space.id, space.dim))
        kind = schema.embeddings(space.dim)
        featured = set(sorted(names)[:features])
        for start in range(0, contents, _BLOCK):
            part = slice(start, min(start + _BLOCK, contents))
            block = pa.array(names[part])
            flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors[part].reshape(-1)), space.dim)
            table.add(pa.table([block, flat], schema=kind))
            chosen = [(at, name) for at, name in enumerate(names[part], start) if name in featured]
            if chosen:
                blobs = [pool[at % len(pool)] for at, _ in chosen]
                rows = features_table([name for _, name in chosen], blobs)
                catalog.table("features").add(rows)
            if start < _THUMBNAILS:
                pictures = pa.array([jpeg] * len(block), pa.large_binary())
                shown = pa.table([block, pictures], schema=schema.THUMBNAILS)
                catalog.table("thumbnails").add(shown)
            catalog.table("assets").add(_assets(names[part], start, seed, reader_of(settings)))
            progress("fill", part.stop, contents)


def draw_lists(
    catalog: Catalog, scan: Scan, space: Space, names: list[str], seed: int, progress: Progress
) -> None:
    """Write neighbour lists that are made up, where making them would take hours.

    A fifth of the contents are copies of others, each in the other's list; the others in a list are
    drawn, twenty in all, so that as many pairs are proposed as in production.
    """
    rng = np.random.default_rng(seed)
    count = len(names)
    copy_of = rng.integers(0, count - count // 5, count // 5)  # of the last ones
    everyone = np.array(names)
    copied: dict[int, list[int]] = {}
    for copy, original in enumerate(copy_of.tolist(), count - count // 5):
        copied.setdefault(original, []).append(copy)
        copied.setdefault(copy, []).append(original)
    with catalog.writing():
        catalog.delete_where("neighbours", lists_where(scan, space))
        table = catalog.table("neighbours")
        for start in range(0, count, _BLOCK):
            part = range(start, min(start + _BLOCK, count))
            drawn = rng.integers(0, count, (len(part), _LISTED))
            cosines = np.sort(rng.uniform(0.3, 0.6, (len(part), _LISTED)))[:, ::-1].copy()
            for row, number in enumerate(part):
                here = copied.get(number, [])[:_LISTED]
                drawn[row, : len(here)] = here
                cosines[row, : len(here)] = 0.9
            rows = pl.DataFrame(
                {
                    "list_id": [digest(scan.scope, names[at], space.id) for at in part],
                    "scope": [scan.scope] * len(part),
                    "content": names[start : part.stop],
                    "space": [space.id] * len(part),
                    "k": pl.Series([scan.settings.match.neighbours] * len(part), dtype=pl.Int32),
                    "names": everyone[drawn].tolist(),
                    "cosines": cosines.astype(np.float32),
                }
            )
            rows = rows.with_columns(pl.col("cosines").arr.to_list())
            table.add(rows.to_arrow().cast(schema.NEIGHBOURS))
            progress("draw", part.stop, count)


def content_names(contents: int, seed: int) -> list[str]:
    """The names of the contents, which are drawn as hashes are."""
    digits = np.random.default_rng(seed).bytes(16 * contents).hex()
    return [digits[at : at + 32] for at in range(0, 32 * contents, 32)]


def list_pages(contents: int) -> Iterator[list[Listing]]:
    """The listing of the collection as a bucket would give it, 1,000 objects a page."""
    for start in range(0, contents, 1000):
        yield [
            Listing(key_of(number), f"{number:032x}", size_of(number), time_of(number))
            for number in range(start, min(start + 1000, contents))
        ]


def key_of(number: int) -> str:
    """The key of an asset; a thousand share a prefix."""
    return f"assets/{number // 1000:05}/{number:08}.jpg"


def size_of(number: int) -> int:
    """Bytes of an asset, which differ so that keepers are told apart."""
    return 400_000 + number * 7919 % 3_000_000


def time_of(number: int) -> datetime:
    """When an asset was written."""
    return _STARTED + timedelta(seconds=number)


def _assets(names: list[str], first: int, seed: int, reader: str) -> pa.Table:
    numbers = range(first, first + len(names))
    hashes = np.random.default_rng((seed, first)).integers(0, 2**63, len(names), np.uint64)
    revisions = [f"{number:032x}" for number in numbers]
    keys = [key_of(number) for number in numbers]
    columns: dict[str, object] = {
        "asset_id": [asset_id(COLLECTION, key) for key in keys],
        "source": [COLLECTION] * len(names),
        "key": keys,
        "prefix": [key.rpartition("/")[0] for key in keys],
        "name": [key.rpartition("/")[2] for key in keys],
        "extension": ["jpg"] * len(names),
        "etag": revisions,
        "size": [size_of(number) for number in numbers],
        "last_modified": [time_of(number) for number in numbers],
        "format": ["jpeg"] * len(names),
        "tags": ["{}"] * len(names),
        "metadata": ["{}"] * len(names),
        "revision": revisions,
        "read_revision": revisions,
        "reader": [reader] * len(names),
        "sha256": [name * 2 for name in names],
        "content": names,
        "phash": hashes,
        "width": [1000 + number % 7 * 400 for number in numbers],
        "height": [750 + number % 7 * 300 for number in numbers],
        "mode": ["RGB"] * len(names),
        "flags": [[]] * len(names),
        "exif": ["{}"] * len(names),
        "xmp": ["{}"] * len(names),
    }
    arrays = [
        pa.array(columns.get(field.name, [None] * len(names)), field.type)
        for field in schema.ASSETS
    ]
    return pa.table(arrays, schema=schema.ASSETS)


def _feature_pool(seed: int, images: Path | None) -> list[bytes]:
    """Packed features: of real photographs, or random ones whose power falls as theirs does."""
    if images is not None:
        paths = sorted(path for path in images.rglob("*") if path.suffix.lower() in _KINDS)
        step = max(1, len(paths) // _FEATURES)
        return [make_features(_thumbnail(path)) for path in paths[::step][:_FEATURES]]
    rng = np.random.default_rng(seed)
    pool = []
    for _ in range(_FEATURES):
        record = np.zeros(1, RECORD)
        record["width"], record["height"], record["count"] = 384, 288, MOST
        record["coarse"] = rng.normal(0, 40, (24, 24))
        record["points"] = rng.integers(0, 288 * 64, (MOST, 4))
        power = np.arange(1, NUMBERS + 1) ** -0.5
        drawn = rng.normal(size=(MOST, NUMBERS)) * power
        drawn *= 254 / np.linalg.norm(drawn, axis=1, keepdims=True)
        record["descriptors"] = np.clip(np.rint(drawn), -127, 127)
        pool.append(pack(record))
    return pool


def _thumbnail(path: Path) -> bytes:
    picture = cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_2)
    if picture is None:
        return b""
    scale = min(1.0, THUMBNAIL_SIDE / max(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])


def _made_up_jpeg(seed: int) -> bytes:
    """A picture of a thumbnail's usual size, about 12 kB."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (36, 48, 3), np.uint8)
    picture = cv2.resize(coarse, (THUMBNAIL_SIDE, THUMBNAIL_SIDE * 3 // 4))
    noisy = picture + rng.normal(0, 6, picture.shape)
    data = np.clip(noisy, 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", data, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])
