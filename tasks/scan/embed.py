"""Embed: read each new image once, and keep all that is ever needed of it.

Threads download and wait for a decoder process; the main thread runs the model on what is ready
and writes. What is under way is bounded in number and in bytes. Work is found, not remembered:
an asset is read when the catalog has no reading of its revision, or no vector of its content in
this space, so a scan that was killed goes on where it stopped.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.embedding.base import Embedder
from tasks.embedding.decoder import DecoderPool
from tasks.embedding.images import READER_VERSION
from tasks.errors import ImageError, ModelError, SourceError
from tasks.progress import Progress, silent
from tasks.records import Kind, Picture, Scan, Space, digest
from tasks.session import open_catalog, open_embedder, open_source, pa_table, scope_sql
from tasks.settings import Settings
from tasks.sources.base import Source
from tasks.sources.collection import is_collection

log = logging.getLogger(__name__)

#: A crash loses at most so many readings, or so many seconds of them ...
_WRITE_ROWS = 4096
_WRITE_SECONDS = 2.0
#: ... but writing, which grows slower with the catalog, never takes more than this share of time.
_WRITE_SHARE = 0.05
#: Failures that are tried again by the next scan; the others wait for new bytes.
_PASSING = "storage_error"
#: Failures that a busy machine can cause: tried again by every full scan.
_MAYBE_PASSING = ["timeout", "crashed", "too_much_memory"]
#: Of a picture whose pixels the model has seen.
NO_PIXELS = np.empty((0, 0, 3), dtype=np.uint8)
#: Filter columns that only a reading fills. Found in a text value too, it costs readings, no more.
_READING_COLUMN = re.compile(r"\b(width|height|mode|sha256)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EmbedCounts:
    """What an embed stage did.

    Attributes:
        read: images decoded.
        embedded: contents that got a vector; equal pixels are embedded once.
        failed: images that gave no picture.
        space: where the vectors are.
    """

    read: int
    embedded: int
    failed: int
    space: Space


@dataclass(frozen=True, slots=True)
class _Reading:
    key: str
    asset_id: str
    revision: str
    picture: Picture | None
    failed: str | None = None
    message: str | None = None


def embed_assets(scan: Scan, progress: Progress = silent) -> EmbedCounts:
    """Read and embed every image of the scan's scope that lacks it.

    Raises:
        ModelError: when the model cannot be loaded.
        CatalogError: when the catalog cannot be written.
    """
    settings = scan.settings
    source = open_source(scan.source, settings)
    catalog = open_catalog(settings)
    embedder = open_embedder(settings)
    space = embedder.space
    log.info("embed: %s (%s) on %s", space.model, space.revision[:12], embedder.device)
    with catalog.writing(settings.catalog.busy_seconds):
        record_space(catalog, space)
        todo = find_unread(scan, source, catalog, space)
        _refuse_unreadable(source, todo, space)
        progress("embed", 0, todo.height)
        writer = _Writer(catalog, embedder, settings.embedding.batch_size, reader_id(scan))
        with DecoderPool(settings.limits, embedder.side, settings.embedding.decoders) as pool:
            for done, reading in enumerate(_read_all(scan, source, pool, todo), start=1):
                if reading.failed:  # told here: loggers find the Prefect run only in this thread
                    log.warning("%r: %s: %s", reading.key, reading.failed, reading.message)
                writer.take(reading)
                progress("embed", done, todo.height)
        writer.flush()
    log.info("embed: %d read, %d embedded, %d failed", writer.read, writer.embedded, writer.failed)
    return EmbedCounts(writer.read, writer.embedded, writer.failed, space)


def _refuse_unreadable(source: Source, todo: pl.DataFrame, space: Space) -> None:
    """Bytes of a collection were never kept: reading them would only lose what is known."""
    if is_collection(source.id) and todo.height:
        raise ModelError(
            f"{todo.height} assets of {source.id} ({todo['key'][0]!r} ...) have no vector of the "
            f"model {space.model} ({space.revision[:12]}, {space.preprocessing}), and their bytes "
            "were not kept: send them again, or scan with the model they were analysed with"
        )


def names_reading_column(where: str) -> bool:
    """Whether a filter asks for what only a reading tells."""
    return bool(_READING_COLUMN.search(where))


def reader_id(scan: Scan) -> str:
    """Names how images are read: a failure is tried again once the program or a limit differs."""
    return reader_of(scan.settings)


def reader_of(settings: Settings) -> str:
    """The same, by the settings."""
    limits = settings.limits.model_dump_json(exclude={"inflight_bytes"})
    return digest(str(READER_VERSION), limits)[:16]


def find_unread(scan: Scan, source: Source, catalog: Catalog, space: Space) -> pl.DataFrame:
    """The assets that must be read, the largest first so that the last batch is not the longest."""
    columns = [
        "key",
        "asset_id",
        "etag",
        "size",
        "revision",
        "read_revision",
        "reader",
        "failed",
        "content",
    ]
    assets = catalog.read("assets", columns, scope_sql(scan, source))
    if names_reading_column(f"{scan.where} {scan.across}"):
        # Whether an unread image passes such a filter is not known before it is read.
        everything = catalog.read(
            "assets", columns, scope_sql(replace(scan, where="", across=""), source)
        )
        stale = pl.col("read_revision").ne_missing(pl.col("revision"))
        others = everything.filter(stale).join(assets, on="asset_id", how="anti")
        assets = pl.concat([assets, others])
    known = catalog.known_contents(space.id)
    unread = pl.col("read_revision").is_null() | (pl.col("read_revision") != pl.col("revision"))
    passing = pl.col("failed") == _PASSING
    if scan.kind is Kind.FULL:
        passing |= pl.col("failed").is_in(_MAYBE_PASSING)
    retry = pl.col("failed").is_not_null() & (passing | (pl.col("reader") != reader_id(scan)))
    no_vector = pl.col("content").is_not_null() & ~pl.col("content").is_in(known.implode())
    return assets.filter(unread | retry.fill_null(False) | no_vector).sort(
        "size", "key", descending=[True, False]
    )


def record_space(catalog: Catalog, space: Space) -> None:
    """Write down what a space is."""
    row = {
        "space": space.id,
        "model": space.model,
        "revision": space.revision,
        "preprocessing": space.preprocessing,
        "dim": space.dim,
    }
    catalog.upsert("spaces", pa_table([row], schema.SPACES), only_new=True)


def _read_all(
    scan: Scan, source: Source, decoders: DecoderPool, todo: pl.DataFrame
) -> Iterator[_Reading]:
    """Readings in order, with a bounded number of images and bytes under way."""
    budget = _ByteBudget(scan.settings.limits.inflight_bytes)
    limit = scan.settings.limits.bytes
    window = decoders.workers * 4 + source.workers
    waiting: deque[Future[_Reading]] = deque()
    with ThreadPoolExecutor(decoders.workers + source.workers, "read") as threads:
        try:
            for part in todo.iter_slices(1024):
                for item in part.iter_rows(named=True):
                    if len(waiting) >= window:
                        yield waiting.popleft().result()
                    waiting.append(threads.submit(_read_one, source, decoders, budget, item, limit))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _read_one(
    source: Source, decoders: DecoderPool, budget: _ByteBudget, item: dict[str, Any], limit: int
) -> _Reading:
    asset, revision, key = item["asset_id"], item["revision"], item["key"]
    try:
        if item["size"] > limit:
            raise ImageError(
                "too_many_bytes", f"{item['size']} bytes; raise DAM_DEDUP_LIMITS__BYTES"
            )
        with budget.spend(item["size"]):
            picture = decoders.decode(source.read(key, item["etag"], limit))
        return _Reading(key, asset, revision, picture)
    except ImageError as error:
        return _Reading(key, asset, revision, None, error.reason, str(error))
    except SourceError as error:
        return _Reading(key, asset, revision, None, _PASSING, str(error))


class _ByteBudget:
    """Lets downloads start as long as all under way fit; one alone always may."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._spent = 0
        self._free = threading.Condition()

    def spend(self, amount: int) -> _Spending:
        return _Spending(self, amount)

    def take(self, amount: int) -> None:
        with self._free:
            self._free.wait_for(lambda: self._spent == 0 or self._spent + amount <= self._size)
            self._spent += amount

    def give(self, amount: int) -> None:
        with self._free:
            self._spent -= amount
            self._free.notify_all()


class _Spending:
    def __init__(self, budget: _ByteBudget, amount: int) -> None:
        self._budget, self._amount = budget, amount

    def __enter__(self) -> None:
        self._budget.take(self._amount)

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._amount)


class _Writer:
    """Runs the model on full batches and writes full chunks.

    The order of writing makes a crash harmless: vectors and thumbnails first, then the readings
    that point to them. A reading is only ever there when its vector is.
    """

    def __init__(self, catalog: Catalog, embedder: Embedder, batch: int, reader: str) -> None:
        self._catalog, self._embedder, self._batch = catalog, embedder, batch
        self._reader = reader
        self._vectors = catalog.vectors_table(embedder.space.id, embedder.space.dim)
        # A sorted array of fixed-width texts: 32 MB a million, where a set takes ten times that.
        self._known = np.sort(catalog.known_contents(embedder.space.id).to_numpy().astype("S32"))
        self._bad: set[str] = set()
        self._readings: list[_Reading] = []
        self._pixels: dict[str, Any] = {}
        self._ready: dict[str, Any] = {}
        self._next_write = time.monotonic() + _WRITE_SECONDS
        self.read = self.embedded = self.failed = 0

    def take(self, reading: _Reading) -> None:
        picture = reading.picture
        if picture is not None:  # pixels are only kept until the model has seen them
            reading = replace(reading, picture=replace(picture, pixels=NO_PIXELS))
        self._readings.append(reading)
        if picture is None:
            self.failed += 1
        else:
            self.read += 1
            if picture.content not in self._ready:
                self._pixels[picture.content] = picture.pixels
                if len(self._pixels) >= self._batch:
                    self._embed()
        if len(self._readings) >= _WRITE_ROWS or time.monotonic() > self._next_write:
            self.flush()

    def flush(self) -> None:
        self._embed()
        started = time.monotonic()
        if self._ready:
            self._write_vectors()
        thumbnails = {
            reading.picture.content: reading.picture.thumbnail
            for reading in self._readings
            if reading.picture
        }
        self._catalog.upsert(
            "thumbnails",
            pa_table(
                [{"content": c, "jpeg": jpeg} for c, jpeg in thumbnails.items()], schema.THUMBNAILS
            ),
            only_new=True,
        )
        rows = [_reading_row(self._judged(reading), self._reader) for reading in self._readings]
        self._catalog.upsert("assets", pa_table(rows, schema.READING))
        self._readings = []
        now = time.monotonic()
        self._next_write = now + max(_WRITE_SECONDS, (now - started) / _WRITE_SHARE)

    def _embed(self) -> None:
        new = [name for name in self._pixels if not self._is_known(name)]
        if new:
            vectors = self._embedder.embed(np.stack([self._pixels[name] for name in new]))
            usable = np.asarray(np.isfinite(vectors).all(axis=1))
            self._bad |= {name for name, good in zip(new, usable, strict=True) if not good}
            halves = vectors.astype(np.float16)
            self._ready |= {n: v for n, v, ok in zip(new, halves, usable, strict=True) if ok}
        self._pixels = {}

    def _is_known(self, content: str) -> bool:
        at = int(np.searchsorted(self._known, content.encode()))
        return at < len(self._known) and self._known[at] == content.encode()

    def _judged(self, reading: _Reading) -> _Reading:
        """A picture whose vector has no direction is a failure: the catalog would lose it."""
        if reading.picture is None or reading.picture.content not in self._bad:
            return reading
        self.read, self.failed = self.read - 1, self.failed + 1
        message = "the model gives no vector for it; another DAM_DEDUP_EMBEDDING__DTYPE may"
        log.warning("%r: no_vector: %s", reading.key, message)
        return replace(reading, picture=None, failed="no_vector", message=message)

    def _write_vectors(self) -> None:
        table = self._catalog.table(self._vectors)
        flat = pa.array(np.concatenate(list(self._ready.values())), pa.float16())
        dim = self._embedder.space.dim
        rows = pa.table(
            [
                pa.array(list(self._ready), pa.string()),
                pa.FixedSizeListArray.from_arrays(flat, dim),
            ],
            schema=table.schema,
        )
        self.embedded += self._catalog.upsert(self._vectors, rows, only_new=True)
        fresh = np.sort(np.array(list(self._ready), dtype="S32"))
        self._known = np.insert(self._known, np.searchsorted(self._known, fresh), fresh)
        self._ready = {}


def picture_row(asset: str, revision: str, picture: Picture, settings: Settings) -> dict[str, Any]:
    """What is kept of a picture that was read elsewhere, for the table of assets."""
    return _reading_row(_Reading("", asset, revision, picture), reader_of(settings))


def _reading_row(reading: _Reading, reader: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "asset_id": reading.asset_id,
        "read_revision": reading.revision,
        "reader": reader,
        "failed": reading.failed,
        "message": reading.message,
        "flags": [],
        "exif": "{}",
        "xmp": "{}",
    }
    picture = reading.picture
    if picture is None:
        return row
    return row | {
        "sha256": picture.sha256,
        "content": picture.content,
        "phash": picture.phash,
        "width": picture.width,
        "height": picture.height,
        "mode": picture.mode,
        "quality": picture.quality,
        "flags": list(picture.flags),
        "exif": json.dumps(picture.exif),
        "xmp": json.dumps(picture.xmp),
    }
