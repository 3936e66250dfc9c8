"""Pairs of originals compared as a shard of an engine, on whatever machine."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from tasks.dedup.proof_job import compare_originals
from tasks.embedding.decoder import DecoderPool
from tasks.engine.kept import Kept
from tasks.engine.shards import Engine
from tasks.queries.comparison import Asked, Comparer, Original, Proven
from tasks.records import Scan
from tasks.session import open_source
from tasks.settings import Settings
from tasks.sources.base import Source

log = logging.getLogger(__name__)

#: Pairs of one shard: a few seconds of a worker. Neighbouring ones often share a file.
_PAIRS = 16
_PROVEN = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("left", "right", "verdict", "message")),
        pa.field("box", pa.list_(pa.float64())),
        pa.field("excess", pa.float64()),
        pa.field("bytes", pa.int64()),
        pa.field("fetched", pa.int64()),
    ]
)

_kept: Kept[DecoderPool] = Kept()


@dataclass(frozen=True, slots=True)
class ProofShard:
    """Some pairs, and where their originals are.

    Attributes:
        files: content to key, etag, size, width and height of the file that shows it; pairs of a
            content without a file are not proven.
    """

    source: str
    pairs: list[Asked]
    files: dict[str, dict[str, Any]]
    settings: Settings = field(repr=False)


def original_of(source: Source, limit: int, file: Mapping[str, Any]) -> Original:
    """The file (key, etag, size, width, height) as something that can be read."""
    read = partial(source.read, file["key"], file["etag"], limit)
    return Original(read, file["size"], file["width"], file["height"])


def prove_by_shards(
    engine: Engine, scan: Scan, pairs: list[Asked], files: Mapping[str, dict[str, Any]]
) -> Iterator[Proven]:
    """The pairs' proofs, in their order; none told of a shard that killed its workers."""
    shards = (
        ProofShard(scan.source, part, _files_of(part, files), scan.settings)
        for part in (pairs[at : at + _PAIRS] for at in range(0, len(pairs), _PAIRS))
    )
    for shard, table in engine.run(prove_shard, shards):
        if table is None:
            for pair in shard.pairs:
                yield Proven(pair.left, pair.right, "", message="the workers that tried it died")
            continue
        for row in table.to_pylist():
            yield Proven(**row | {"box": tuple(row["box"])})


def prove_shard(shard: ProofShard) -> pa.Table:
    """The proofs of a shard's pairs; they depend on the files alone."""
    settings = shard.settings
    limits = settings.limits
    # One decoder process: a machine has a worker for each core.
    pool = _kept.of(
        limits.model_dump_json(),
        lambda stack: stack.enter_context(DecoderPool(limits, 1, 1, compare_originals)),
    )
    source = open_source(shard.source, settings)
    originals = {
        name: original_of(source, limits.bytes, file) for name, file in shard.files.items()
    }
    comparer = Comparer(pool, originals, limits.inflight_bytes)
    rows = [asdict(proven) for proven in comparer.compare(shard.pairs)]
    return pa.Table.from_pylist([row | {"box": list(row["box"])} for row in rows], _PROVEN)


def _files_of(
    pairs: Iterable[Asked], files: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    names = {name for pair in pairs for name in (pair.left, pair.right)}
    return {name: files[name] for name in sorted(names) if name in files}
