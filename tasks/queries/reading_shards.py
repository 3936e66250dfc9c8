"""Some assets read and embedded as a shard of an engine, on whatever machine.

The worker fetches the files itself; what travels is what the catalog keeps: thumbnail, features,
vector and what the file says, about 30 kB an image.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from tasks.dedup.first_look import make_features
from tasks.embedding.base import Embedder
from tasks.embedding.decoder import DecoderPool
from tasks.engine.kept import Kept
from tasks.engine.shards import Engine
from tasks.errors import ImageError, SourceError
from tasks.queries.byte_budget import ByteBudget
from tasks.queries.objects import not_shown
from tasks.queries.readings import NO_PIXELS, Reading
from tasks.records import Picture, Scan
from tasks.session import open_embedder, open_source, pa_table
from tasks.settings import Settings
from tasks.sources.base import Source

log = logging.getLogger(__name__)

Vector = npt.NDArray[np.float16]

#: Images of one shard: some seconds of a worker.
_IMAGES = 32
#: Files fetched at once while one decoder works.
_FETCHED = 4
_WANTED = ["key", "asset_id", "etag", "size", "revision"]
_ASSET = ("key", "asset_id", "revision")
_TEXTS = ("sha256", "content", "mode", "format")
_NUMBERS = ("width", "height", "quality")
#: What travels of a picture as it is.
_TOLD = (*_TEXTS, *_NUMBERS, "phash", "packet", "thumbnail", "features")
_READINGS = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in _ASSET),
        *(pa.field(name, pa.string()) for name in ("failed", "message", *_TEXTS, "packet")),
        *(pa.field(name, pa.int32()) for name in _NUMBERS),
        pa.field("phash", pa.uint64()),
        pa.field("flags", pa.list_(pa.string())),
        pa.field("exif", pa.string()),
        pa.field("xmp", pa.string()),
        pa.field("thumbnail", pa.binary()),
        pa.field("features", pa.binary()),
        pa.field("vector", pa.list_(pa.float16())),
    ]
)

#: A worker thread's source, decoder process and model.
_Tools = tuple[Source, DecoderPool, Embedder]
_kept: Kept[_Tools] = Kept()


@dataclass(frozen=True, slots=True)
class ReadShard:
    """Some assets, and all that is needed to read them.

    Attributes:
        source: the scan's.
        items: key, asset_id, etag, size and revision of each.
    """

    source: str
    items: list[dict[str, Any]]
    settings: Settings = field(repr=False)


def read_by_shards(
    engine: Engine, scan: Scan, todo: pl.DataFrame
) -> Iterator[tuple[Reading, Vector | None]]:
    """The readings of assets (key, asset_id, etag, size, revision), each with its vector.

    There is no vector where there is no picture, or where the model gives no finite one. Of a
    shard that killed its workers nothing is told: the next scan reads its assets.
    """
    rows = todo.select(_WANTED)
    shards = (
        ReadShard(scan.source, part.to_dicts(), scan.settings) for part in rows.iter_slices(_IMAGES)
    )
    for shard, table in engine.run(read_shard, shards):
        if table is None:
            log.error("%d images were not read, %r ...", len(shard.items), shard.items[0]["key"])
        else:
            yield from _readings_of(table)


def read_shard(shard: ReadShard) -> pa.Table:
    """The readings of a shard's assets, as they come, with their vectors.

    They depend on the files, the model and the reader alone, so any worker gives the same ones.
    """
    source, pool, embedder = _tools(shard.source, shard.settings)
    budget = ByteBudget(shard.settings.limits.inflight_bytes)
    limit = shard.settings.limits.bytes
    with ThreadPoolExecutor(_FETCHED, "read") as threads:
        read = partial(read_one, source, pool, budget, limit=limit)
        readings = list(threads.map(read, shard.items))
    pictures = {one.picture.content: one.picture for one in readings if one.picture}
    vectors = _embed(embedder, pictures)
    return pa_table([_row(reading, vectors) for reading in readings], _READINGS)


def _tools(uri: str, settings: Settings) -> _Tools:
    def make(stack: ExitStack) -> _Tools:
        embedder = open_embedder(settings)
        # One decoder process: a machine has a worker for each core.
        pool = DecoderPool(settings.limits, embedder.side, 1, describe=make_features)
        return open_source(uri, settings), stack.enter_context(pool), embedder

    return _kept.of((uri, settings.model_dump_json()), make)


def read_one(
    source: Source, decoders: DecoderPool, budget: ByteBudget, item: dict[str, Any], limit: int
) -> Reading:
    """One asset's reading; why there is none, where it cannot be read.

    Args:
        source: where it is.
        decoders: decodes it.
        budget: the bytes of files that may be held at once.
        item: key, asset_id, etag, size and revision.
        limit: bytes of the largest file that is read.
    """
    asset, revision, key = item["asset_id"], item["revision"], item["key"]
    try:
        if item["size"] > limit:
            raise ImageError(
                "too_many_bytes", f"{item['size']} bytes; raise DAM_DEDUP_LIMITS__BYTES"
            )
        with budget.spend(item["size"]):
            picture = decoders.decode(source.read(key, item["etag"], limit))
        return Reading(key, asset, revision, picture)
    except ImageError as error:
        return Reading(key, asset, revision, None, error.reason, str(error))
    except SourceError as error:
        return Reading(key, asset, revision, None, not_shown(error), str(error))


def _embed(embedder: Embedder, pictures: dict[str, Picture]) -> dict[str, Vector]:
    if not pictures:
        return {}
    vectors = embedder.embed(np.stack([one.pixels for one in pictures.values()]))
    halves = vectors.astype(np.float16)
    usable = np.asarray(np.isfinite(vectors).all(axis=1))
    return {name: half for name, half, good in zip(pictures, halves, usable, strict=True) if good}


def _row(reading: Reading, vectors: dict[str, Vector]) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(reading, name) for name in (*_ASSET, "failed", "message")}
    picture = reading.picture
    if picture is None:
        return row
    return (
        row
        | {name: getattr(picture, name) for name in _TOLD}
        | {
            "flags": list(picture.flags),
            "exif": json.dumps(picture.exif),
            "xmp": json.dumps(picture.xmp),
            "vector": vectors.get(picture.content),
        }
    )


def _readings_of(table: pa.Table) -> Iterator[tuple[Reading, Vector | None]]:
    for row in table.to_pylist():
        asset = {name: row[name] for name in _ASSET}
        reading = Reading(**asset, picture=None, failed=row["failed"], message=row["message"])
        if row["content"] is None:
            yield reading, None
            continue
        picture = Picture(
            **{name: row[name] for name in _TOLD},
            pixels=NO_PIXELS,
            flags=tuple(row["flags"]),
            exif=json.loads(row["exif"]),
            xmp=json.loads(row["xmp"]),
        )
        vector = row["vector"]
        yield (
            replace(reading, picture=picture),
            None if vector is None else np.asarray(vector, np.float16),
        )
