"""Answers pairs of contents from the catalog, and verifies those that it has no answer for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import polars as pl
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.dedup.feature_cache import FeatureCache
from tasks.dedup.features import use_one_thread
from tasks.dedup.first_look import are_strangers
from tasks.dedup.locality import in_company
from tasks.dedup.verify import rule_id
from tasks.engine.shards import Engine
from tasks.process.heap import keep_freed_memory
from tasks.progress import Progress
from tasks.queries.first_looks import look_at_pairs
from tasks.queries.pair_answers import KnownAnswers, name_pairs
from tasks.queries.verify_processes import Answer, Task, VerifyProcesses, answer_pair
from tasks.queries.verify_shards import read_verified, verify_shard
from tasks.settings import MatchSettings

#: Pairs verified between two writes: about half a minute of two cores.
_CHUNK = 2048
#: Pairs that a process verifies before it tells. A copy costs ten times a stranger, so of larger
#: tasks some processes have more left than others when the last ones are handed out.
_TASK = 16
#: Processes are worth their start, a second of a core each, from so many pairs on.
_WORTH_PROCESSES = 256


class ScanVerifier:
    """Answers pairs from the catalog, and verifies those it does not know.

    A first look refuses strangers, 95 of 100 pairs; the others are verified by the workers of an
    engine, by processes, or by threads here where they are few.

    Args:
        catalog: where the answers are, and where new ones are written in large batches. The caller
            holds the writer's lease.
        settings: how many processes verify, and how many pictures' features are held.
        progress: told how many of the unknown pairs are verified.
        engine: where pairs are verified; None: on this machine.

    Attributes:
        verified: how many pairs were verified so far.
    """

    def __init__(
        self,
        catalog: Catalog,
        settings: MatchSettings,
        progress: Progress,
        engine: Engine | None = None,
    ) -> None:
        self._catalog = catalog
        self._engine = engine
        self._answers = KnownAnswers(catalog)
        self._workers = settings.workers or len(os.sched_getaffinity(0))
        self._held = settings.feature_cache_images
        self._progress = progress
        self.verified = 0
        self._failed: set[tuple[str, str]] = set()

    @property
    def unanswered(self) -> int:
        """How many pairs could not be compared; the next scan tries them again."""
        return len(self._failed)

    def __call__(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """Wanted pairs (left, right) with their answers."""
        new = self._answers.missing(wanted)
        done = 0
        for asked, rows in self._verify(new):
            self._catalog.upsert("pairs", rows)
            self._answers.add(rows)
            self.verified += rows.num_rows
            done += asked.height
            if rows.num_rows < asked.height:
                written = pl.DataFrame(pl.from_arrow(rows.select(["left", "right"])))
                self._failed |= set(asked.join(written, on=["left", "right"], how="anti").rows())
            self._progress("verify", done, new.height)
        return self._answers.of(wanted)

    def _verify(self, pairs: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, pa.Table]]:
        """Parts of the pairs (left, right), each with the rows of its answers."""
        if pairs.is_empty():
            return
        left = []
        for looked in look_at_pairs(self._catalog, pairs, self._workers):
            stranger = pl.Series(are_strangers(looked["votes"].to_numpy()))
            refused = looked.filter(stranger).select("left", "right")
            left.append(looked.filter(~stranger))
            if refused.height:
                yield refused, _rows(refused, [(0.0, None)] * refused.height)
        survivors = in_company(pl.concat(left)).select("left", "right")
        many = survivors.height >= _WORTH_PROCESSES
        if many and self._engine is not None:
            yield from self._by_engine(survivors, self._engine)
        elif many and self._workers > 1:
            yield from self._by_processes(survivors)
        else:
            yield from self._by_threads(survivors)

    def _by_engine(
        self, pairs: pl.DataFrame, engine: Engine
    ) -> Iterator[tuple[pl.DataFrame, pa.Table]]:
        tasks = (
            task
            for chunk in pairs.iter_slices(_CHUNK)
            for task in _tasks(chunk, self._thumbnails(chunk), {})
        )
        done, answers = 0, list[Answer]()
        for task, table in engine.run(verify_shard, tasks):
            answers += read_verified(table, len(task.pairs))
            if len(answers) >= _CHUNK or done + len(answers) == pairs.height:
                chunk = pairs.slice(done, len(answers))
                yield chunk, _rows(chunk, answers)
                done, answers = done + len(answers), []

    def _by_processes(self, pairs: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, pa.Table]]:
        with VerifyProcesses(self._workers, self._held) as processes:
            # A chunk is prepared while the one before it is verified, so that no process waits for
            # the last pairs of a chunk.
            waiting: deque[tuple[pl.DataFrame, Iterator[list[Answer]]]] = deque()
            for chunk in pairs.iter_slices(_CHUNK):
                jpegs = self._thumbnails(chunk)
                tasks = _tasks(chunk, jpegs, processes.describe(jpegs))
                waiting.append((chunk, processes.verify(tasks)))
                if len(waiting) > 1:
                    yield _told(*waiting.popleft())
            while waiting:
                yield _told(*waiting.popleft())

    def _by_threads(self, pairs: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, pa.Table]]:
        use_one_thread()
        keep_freed_memory()
        cache = FeatureCache(self._held)
        # Each pair is verified by one thread. If the matrix products inside were spread over the
        # cores as well, the threads would get in each other's way, at twice the cost.
        with (
            threadpool_limits(1, "blas"),
            ThreadPoolExecutor(self._workers, "verify") as pool,
        ):
            for chunk in pairs.iter_slices(_CHUNK):
                # The thumbnails of contents whose features are in the cache are read as well: they
                # may be pushed out before their pair's turn comes.
                answer = partial(answer_pair, cache, self._thumbnails(chunk))
                yield chunk, _rows(chunk, list(pool.map(answer, chunk["left"], chunk["right"])))

    def _thumbnails(self, pairs: pl.DataFrame) -> dict[str, bytes]:
        names = {*pairs["left"], *pairs["right"]}
        return dict(self._catalog.read_keys("thumbnails", ["content", "jpeg"], names).iter_rows())


def _tasks(chunk: pl.DataFrame, jpegs: dict[str, bytes], local: dict[str, bytes]) -> Iterator[Task]:
    """Pairs (left, right) in parts, each with the thumbnails and local features it needs."""
    for part in chunk.iter_slices(_TASK):
        pairs = part.rows()
        names = {name for pair in pairs for name in pair}
        yield Task(
            pairs,
            {name: jpegs[name] for name in names if name in jpegs},
            {name: local[name] for name in names if name in local},
        )


def _told(chunk: pl.DataFrame, found: Iterator[list[Answer]]) -> tuple[pl.DataFrame, pa.Table]:
    return chunk, _rows(chunk, [answer for answers in found for answer in answers])


def _rows(pairs: pl.DataFrame, found: Sequence[Answer]) -> pa.Table:
    # A pair without an answer is not written, so the next scan verifies it.
    pairs = pairs.filter(pl.Series([answer is not None for answer in found], dtype=pl.Boolean))
    answers = [answer for answer in found if answer is not None]
    frame = name_pairs(pairs).select(
        "pair_id",
        "left",
        "right",
        pl.lit(rule_id()).alias("rule"),
        pl.Series("score", [score for score, _ in answers], dtype=pl.Float32),
        pl.Series("evidence", [text for _, text in answers], dtype=pl.String),
    )
    return frame.to_arrow().cast(schema.PAIRS)
