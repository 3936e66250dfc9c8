"""Blocks of pairs verified as shards of an engine, on whatever machine."""

from __future__ import annotations

import pyarrow as pa

from tasks.dedup.feature_cache import FeatureCache
from tasks.dedup.features import use_one_thread
from tasks.engine.kept import Kept
from tasks.process.heap import keep_freed_memory
from tasks.queries.blas_threads import OneBlasThread
from tasks.queries.verify_processes import Answer, Task, answer_pair

#: Pictures whose features a worker holds from one shard to the next, 0.6 MB each.
_HELD = 400
_ANSWERS = pa.schema([pa.field("score", pa.float64()), pa.field("evidence", pa.string())])

_kept: Kept[FeatureCache] = Kept()


def verify_shard(task: Task) -> pa.Table:
    """The answers to some pairs, in their order: score (null: not compared), evidence (or null).

    They depend on the pairs' thumbnails alone, so any worker gives the same ones.
    """
    use_one_thread()
    keep_freed_memory()
    cache = _kept.of("features", lambda _: FeatureCache(_HELD))
    with OneBlasThread():
        found = [answer_pair(cache, task.jpegs, left, right) for left, right in task.pairs]
    scores = [None if one is None else one[0] for one in found]
    texts = [None if one is None else one[1] for one in found]
    return pa.table([scores, texts], schema=_ANSWERS)


def read_verified(table: pa.Table | None, count: int) -> list[Answer]:
    """The answers of a shard of so many pairs; none to any where its workers died."""
    if table is None:
        return [None] * count
    scores, texts = (column.to_pylist() for column in table.select(["score", "evidence"]))
    return [
        None if score is None else (score, text) for score, text in zip(scores, texts, strict=True)
    ]
