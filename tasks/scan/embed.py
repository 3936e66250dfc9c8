"""Embed: read each new image once, and keep all that is ever needed of it.

Threads download images and wait for decoder processes, another gathers the pictures into batches
for the model (:mod:`tasks.queries.embedding_batches`), and the main thread writes what is finished.
The images under way are bounded in number and in bytes. An asset is read when the catalog has no
reading of its revision, or no vector of its content in this space, so a scan that was killed goes
on where it stopped.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.dedup.first_look import make_features
from tasks.embedding.base import Embedder
from tasks.embedding.decoder import DecoderPool
from tasks.embedding.metadata import UNREADABLE
from tasks.errors import ModelError
from tasks.progress import Progress, silent
from tasks.queries.byte_budget import ByteBudget
from tasks.queries.embedding_batches import Batch, SeenContents, embed_readings
from tasks.queries.first_looks import features_table
from tasks.queries.objects import NOT_SHOWN
from tasks.queries.packets import write_packets
from tasks.queries.reading_shards import read_by_shards, read_one
from tasks.queries.readings import (
    Reading,
    names_reading_column,
    reader_of,
    reading_row,
    record_space,
)
from tasks.records import Kind, Scan, Space
from tasks.session import open_catalog, open_embedder, open_engine, open_source, pa_table, scope_sql
from tasks.sources.base import Source
from tasks.sources.collection import is_collection

log = logging.getLogger(__name__)

#: Readings are written when there are this many ...
_WRITE_ROWS = 4096
#: ... or after this many seconds: a crash loses no more than that.
_WRITE_SECONDS = 2.0
#: Most of the time that writing may take. A write takes longer as the catalog grows, so the pauses
#: between writes grow with it, beyond the two seconds above.
_WRITE_SHARE = 0.05
#: Failures that a busy machine can cause; every full scan tries these images again.
_MAYBE_PASSING = ["timeout", "crashed", "too_much_memory"]


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
        writer = _Writer(catalog, space, reader_of(scan.settings))
        with contextlib.closing(_batches(scan, source, catalog, embedder, todo)) as batches:
            done = 0
            for batch in batches:
                # Logged in this thread: in others a logger does not find the Prefect run.
                for reading in batch.readings:
                    if reading.failed:
                        log.warning("%r: %s: %s", reading.key, reading.failed, reading.message)
                writer.take(batch)
                done += len(batch.readings)
                progress("embed", done, todo.height)
        writer.flush()
    log.info("embed: %d read, %d embedded, %d failed", writer.read, writer.embedded, writer.failed)
    if writer.unread_metadata:
        log.warning(
            "%d files hold metadata that cannot be read: a merge asks about them",
            writer.unread_metadata,
        )
    return EmbedCounts(writer.read, writer.embedded, writer.failed, space)


def _refuse_unreadable(source: Source, todo: pl.DataFrame, space: Space) -> None:
    """Refuse assets without a vector in a ``gate://`` collection, whose bytes were never kept.

    Trying to read them would put a failure in the place of what is known of them.
    """
    if is_collection(source.id) and todo.height:
        raise ModelError(
            f"{todo.height} assets of {source.id} ({todo['key'][0]!r} ...) have no vector of the "
            f"model {space.model} ({space.revision[:12]}, {space.preprocessing}), and their bytes "
            "were not kept: send them again, or scan with the model they were analysed with"
        )


def find_unread(scan: Scan, source: Source, catalog: Catalog, space: Space) -> pl.DataFrame:
    """The assets that must be read, the largest first.

    A large image that is begun last would keep one thread busy while the others have nothing to do.
    """
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
        # Whether an image passes such a filter is only known once it is read: all new ones are.
        everything = catalog.read(
            "assets", columns, scope_sql(replace(scan, where="", across=""), source)
        )
        stale = pl.col("read_revision").ne_missing(pl.col("revision"))
        others = everything.filter(stale).join(assets, on="asset_id", how="anti")
        assets = pl.concat([assets, others])
    known = catalog.known_contents(space.id)
    unread = pl.col("read_revision").is_null() | (pl.col("read_revision") != pl.col("revision"))
    passing = pl.col("failed").is_in(NOT_SHOWN)
    if scan.kind is Kind.FULL:
        passing |= pl.col("failed").is_in(_MAYBE_PASSING)
    retry = pl.col("failed").is_not_null() & (
        passing | (pl.col("reader") != reader_of(scan.settings))
    )
    no_vector = pl.col("content").is_not_null() & ~pl.col("content").is_in(known.implode())
    return assets.filter(unread | retry.fill_null(False) | no_vector).sort(
        "size", "key", descending=[True, False]
    )


def _batches(
    scan: Scan, source: Source, catalog: Catalog, embedder: Embedder, todo: pl.DataFrame
) -> Generator[Batch]:
    """Readings in order with their vectors, made on this machine or by the workers of an engine."""
    settings = scan.settings
    seen = SeenContents(catalog.known_contents(embedder.space.id).to_numpy().astype("S32"))
    with open_engine(settings) if todo.height else contextlib.nullcontext() as engine:
        if engine is not None:
            for reading, vector in read_by_shards(engine, scan, todo):
                yield _batch_of(reading, vector, seen)
            return
    decoders = settings.embedding.decoders
    with DecoderPool(settings.limits, embedder.side, decoders, describe=make_features) as pool:
        yield from embed_readings(_read_all(scan, source, pool, todo), embedder, seen)


def _batch_of(
    reading: Reading, vector: npt.NDArray[np.float16] | None, seen: SeenContents
) -> Batch:
    """A reading that was embedded elsewhere."""
    if reading.picture is None:
        return Batch([reading])
    content = reading.picture.content
    if vector is None:
        return Batch([reading], bad={content})
    return Batch([reading], {content: vector} if seen.add(content) else {})


def _read_all(
    scan: Scan, source: Source, decoders: DecoderPool, todo: pl.DataFrame
) -> Generator[Reading]:
    """Readings in order, with a bounded number of images and bytes under way."""
    budget = ByteBudget(scan.settings.limits.inflight_bytes)
    limit = scan.settings.limits.bytes
    window = decoders.workers * 4 + source.workers
    waiting: deque[Future[Reading]] = deque()
    with ThreadPoolExecutor(decoders.workers + source.workers, "read") as threads:
        try:
            for part in todo.iter_slices(1024):
                for item in part.iter_rows(named=True):
                    if len(waiting) >= window:
                        yield waiting.popleft().result()
                    waiting.append(threads.submit(read_one, source, decoders, budget, item, limit))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Writer:
    """Writes what was read and embedded, in full chunks.

    The order of writing makes a crash harmless: vectors and thumbnails first, then the readings
    that point to them. A reading is only ever there when its vector is.
    """

    def __init__(self, catalog: Catalog, space: Space, reader: str) -> None:
        self._catalog, self._dim, self._reader = catalog, space.dim, reader
        self._vectors = catalog.vectors_table(space.id, space.dim)
        self._bad: set[str] = set()
        self._readings: list[Reading] = []
        self._ready: dict[str, npt.NDArray[np.float16]] = {}
        self._next_write = time.monotonic() + _WRITE_SECONDS
        self.read = self.embedded = self.failed = self.unread_metadata = 0

    def take(self, batch: Batch) -> None:
        self._readings += batch.readings
        self._ready |= batch.vectors
        self._bad |= batch.bad
        pictures = [one.picture for one in batch.readings if one.picture]
        self.read += len(pictures)
        self.failed += len(batch.readings) - len(pictures)
        self.unread_metadata += sum(UNREADABLE in one.exif.get("Holds", "") for one in pictures)
        if len(self._readings) >= _WRITE_ROWS or time.monotonic() > self._next_write:
            self.flush()

    def flush(self) -> None:
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
        write_packets(self._catalog, [one.picture for one in self._readings if one.picture])
        features = {
            reading.picture.content: reading.picture.features
            for reading in self._readings
            if reading.picture and reading.picture.features
        }
        self._catalog.upsert("features", features_table(features, list(features.values())))
        rows = [reading_row(self._judged(reading), self._reader) for reading in self._readings]
        self._catalog.upsert("assets", pa_table(rows, schema.READING))
        self._readings = []
        now = time.monotonic()
        self._next_write = now + max(_WRITE_SECONDS, (now - started) / _WRITE_SHARE)

    def _judged(self, reading: Reading) -> Reading:
        """The reading, turned into a failure when the model gave its picture no finite vector.

        Otherwise the asset would have a reading without a vector, and be in no list and no report.
        """
        if reading.picture is None or reading.picture.content not in self._bad:
            return reading
        self.read, self.failed = self.read - 1, self.failed + 1
        message = "the model gives no vector for it; another DAM_DEDUP_EMBEDDING__DTYPE may"
        log.warning("%r: no_vector: %s", reading.key, message)
        return replace(reading, picture=None, failed="no_vector", message=message)

    def _write_vectors(self) -> None:
        table = self._catalog.table(self._vectors)
        flat = pa.array(np.concatenate(list(self._ready.values())), pa.float16())
        rows = pa.table(
            [
                pa.array(list(self._ready), pa.string()),
                pa.FixedSizeListArray.from_arrays(flat, self._dim),
            ],
            schema=table.schema,
        )
        self.embedded += self._catalog.upsert(self._vectors, rows, only_new=True)
        self._ready = {}
