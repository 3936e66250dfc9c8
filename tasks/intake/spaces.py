"""Change the embedding model: fill the new model's vectors while the old ones serve.

Vectors of two models are never compared. Each model has a table of its own in the catalog, and
which one serves is said by the settings alone. So a new model is prepared beside the old one, then
the settings name it, and the next scan has nothing left to embed. What pairs look like, verdicts,
plans and the journal know nothing of models, and stay.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.embedding.base import Embedder
from tasks.embedding.decoder import DecoderPool
from tasks.errors import CatalogError, ImageError, SourceError
from tasks.progress import Progress, silent
from tasks.queries.byte_budget import ByteBudget
from tasks.queries.readings import record_space
from tasks.queries.vectors import vectors_by_content
from tasks.records import Space, digest
from tasks.session import open_catalog, open_embedder, open_source, pa_table
from tasks.settings import EmbeddingSettings, Settings
from tasks.sources.base import Source
from tasks.sources.collection import is_collection

log = logging.getLogger(__name__)

#: Images between two writes. A scan that waits for the writer's turn gets it in between.
_PART = 512
_LIVE = "removed_at IS NULL AND skipped IS NULL AND content IS NOT NULL"
#: Tables with rows of a space, beside its vectors.
_OF_A_SPACE = ("neighbours", "centroids", "assignments", "blocklist_vectors")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What became of a model's preparation.

    Attributes:
        space: where its vectors are.
        embedded: contents that got a vector now.
        missing: contents in use that have none, because no file of theirs could be read.
        unblocked: entries of the blocklist that have none: of pictures that are not in the
            collection any more. They are known by their bytes and pixels alone in the new space.
    """

    space: Space
    embedded: int
    missing: int
    unblocked: int


@dataclass(frozen=True, slots=True)
class KnownSpace:
    """One model's vectors in a catalog.

    Attributes:
        space: its id.
        vectors: how many there are.
        lacking: contents in use that have none.
        scanned: whether the last finished scan used it.
    """

    space: str
    model: str
    revision: str
    preprocessing: str
    dim: int
    vectors: int
    lacking: int
    scanned: bool

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def prepare_space(
    settings: Settings, model: EmbeddingSettings, progress: Progress = silent
) -> Prepared:
    """Embed every picture in use with a model, beside the vectors of the one that serves.

    Scans and merges may go on meanwhile. It may be stopped and started again: what has a vector is
    not read. A file that changed since it was last scanned is left to the next scan.

    Args:
        settings: with the catalog, and how its sources are reached.
        model: the new one.
        progress: told how far it is.

    Raises:
        ModelError: when the model cannot be loaded.
        CatalogError: when the catalog cannot be written.
    """
    catalog = open_catalog(settings)
    embedder = open_embedder(settings.model_copy(update={"embedding": model}))
    space, busy = embedder.space, settings.catalog.busy_seconds
    with catalog.writing(busy):
        record_space(catalog, space)
        name = catalog.vectors_table(space.id, space.dim)
    todo = _lacking(catalog, space.id)
    progress("embed", 0, todo.height)
    embedded = 0
    with DecoderPool(settings.limits, embedder.side, model.decoders) as pool:
        reader = _Reader(settings, pool)
        for start in range(0, todo.height, _PART):
            part = todo.slice(start, _PART)
            rows = _embed(embedder, reader.read(part), model.batch_size)
            with catalog.writing(busy):
                embedded += _write(catalog, name, rows, space.dim)
            progress("embed", min(start + _PART, todo.height), todo.height)
    with catalog.writing(busy):
        unblocked = _fill_blocklist(catalog, space)
        catalog.tidy()
    return Prepared(space, embedded, _lacking(catalog, space.id).height, unblocked)


def _lacking(catalog: Catalog, space: str) -> pl.DataFrame:
    """A file of each content in use that has no vector in a space, the largest first."""
    columns = ["content", "source", "key", "etag", "size"]
    assets = catalog.read("assets", columns, _LIVE)
    known = catalog.known_contents(space)
    found = assets.filter(~pl.col("content").is_in(known.implode()))
    first = found.sort("content", "source", "key").unique("content", keep="first")
    return first.sort("size", "content", descending=[True, False])


class _Reader:
    """Reads and decodes files, many at once, within the settings' bounds."""

    def __init__(self, settings: Settings, pool: DecoderPool) -> None:
        self._settings, self._pool = settings, pool
        self._budget = ByteBudget(settings.limits.inflight_bytes)
        self._sources: dict[str, Source] = {}

    def read(self, part: pl.DataFrame) -> list[tuple[str, Any]]:
        """Content and pixels of each file that still shows what it showed when it was scanned."""
        for uri in part["source"].unique():
            if uri not in self._sources and not is_collection(uri):
                self._sources[uri] = open_source(uri, self._settings)
        with ThreadPoolExecutor(self._pool.workers * 2, "read") as threads:
            return [one for one in threads.map(self._one, part.iter_rows(named=True)) if one]

    def _one(self, item: dict[str, Any]) -> tuple[str, Any] | None:
        source, limit = self._sources.get(item["source"]), self._settings.limits.bytes
        if source is None:  # of a gate, which kept no bytes
            return None
        try:
            with self._budget.spend(item["size"]):
                picture = self._pool.decode(source.read(item["key"], item["etag"], limit))
        except (ImageError, SourceError) as error:
            log.warning("%r: %s", item["key"], error)
            return None
        return (picture.content, picture.pixels) if picture.content == item["content"] else None


def _embed(
    embedder: Embedder, pictures: list[tuple[str, Any]], batch: int
) -> Iterator[tuple[str, Any]]:
    for start in range(0, len(pictures), batch):
        part = pictures[start : start + batch]
        vectors = embedder.embed(np.stack([pixels for _, pixels in part]))
        for (content, _), vector in zip(part, vectors, strict=True):
            if np.isfinite(vector).all():
                yield content, vector.astype(np.float16)


def _write(catalog: Catalog, name: str, rows: Iterator[tuple[str, Any]], dim: int) -> int:
    found = dict(rows)
    if not found:
        return 0
    flat = pa.array(np.concatenate(list(found.values())), pa.float16())
    vectors = pa.FixedSizeListArray.from_arrays(flat, dim)
    columns = [pa.array(list(found), pa.string()), vectors]
    table = pa.table(columns, schema=schema.embeddings(dim))
    return catalog.upsert(name, table, only_new=True)


def _fill_blocklist(catalog: Catalog, space: Space) -> int:
    """Give the entries vectors whose pictures have some; returns how many entries are left."""
    entries = catalog.read("blocklist", ["entry_id", "content"], "removed_at IS NULL")
    there = catalog.read("blocklist_vectors", ["entry_id"], f"space = {quote(space.id)}")
    entries = entries.join(there, on="entry_id", how="anti")
    vectors = vectors_by_content(catalog, space.id, entries["content"])
    rows = [
        {
            "vector_id": digest(entry, space.id),
            "entry_id": entry,
            "space": space.id,
            "vector": vectors[content],
        }
        for entry, content in entries.iter_rows()
        if content in vectors
    ]
    catalog.upsert("blocklist_vectors", pa_table(rows, schema.BLOCKLIST_VECTORS))
    return entries.height - len(rows)


def list_spaces(settings: Settings) -> list[KnownSpace]:
    """Every model that has vectors in the catalog, the one of the last scan first."""
    catalog = open_catalog(settings)
    used = _last_used(catalog)
    columns = ["space", "model", "revision", "preprocessing", "dim"]
    spaces = [
        KnownSpace(
            **row,
            vectors=catalog.count(f"vectors_{row['space']}"),
            lacking=_lacking(catalog, row["space"]).height,
            scanned=row["space"] == used,
        )
        for row in catalog.read("spaces", columns).iter_rows(named=True)
        if catalog.has(f"vectors_{row['space']}")
    ]
    return sorted(spaces, key=lambda one: (not one.scanned, one.model, one.space))


def _last_used(catalog: Catalog) -> str:
    """The space of the last finished scan; empty where none has finished."""
    found = catalog.read(
        "scans", ["scan_id", "space", "finished"], "starts_with(state, 'finished')"
    )
    found = found.sort("finished", "scan_id")
    return str(found["space"][-1]) if found.height else ""


def remove_space(settings: Settings, wanted: str, *, dry_run: bool = False) -> KnownSpace:
    """Remove a model's vectors and all that was made of them.

    Reports of scans that used it can no longer be made again; those that were delivered stay.

    Args:
        settings: with the catalog and the model that serves.
        wanted: the space's id, or the beginning of it.
        dry_run: only say what would be removed.

    Raises:
        CatalogError: when there is no such space, or more than one, or it is in use.
    """
    known = list_spaces(settings)
    found = [one for one in known if one.space.startswith(wanted)]
    if not wanted or len(found) != 1:
        raise CatalogError(
            f"{len(found)} spaces of {settings.catalog.uri} begin with {wanted!r}; dam-dedup model "
            "show lists them"
        )
    (one,) = found
    if one.scanned:
        raise CatalogError(
            f"{one.space} ({one.model}) is what the last scan used: let the settings name the new "
            "model, scan, then remove this one"
        )
    if open_embedder(settings).space.id == one.space:
        raise CatalogError(
            f"{one.space} ({one.model}) is what the settings name (DAM_DEDUP_EMBEDDING__MODEL)"
        )
    if not dry_run:
        catalog = open_catalog(settings)
        wait, busy = settings.catalog.scan_wait_seconds, settings.catalog.busy_seconds
        with catalog.turn(wait), catalog.writing(busy):
            for name in _OF_A_SPACE:
                catalog.delete_where(name, f"space = {quote(one.space)}")
            # Last: what was stopped before is done by the same command.
            catalog.drop(f"vectors_{one.space}")
    return one
