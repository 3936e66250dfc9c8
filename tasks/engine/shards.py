"""Runs shards on an executor: so many at a time, answers in order, a lost one told and not fatal.

A shard is a part of a stage's work: some assets, or a block of pairs. A job is a plain function
from one shard to an Arrow table. It asks nothing of other shards and leaves nothing behind, so a
shard whose worker died is simply run again, and the order in which shards end does not matter.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import TimeoutError as NotYet
from typing import TypeVar

import pyarrow as pa

from tasks.errors import EngineError

log = logging.getLogger(__name__)

S = TypeVar("S")

#: Shards under way for each worker: one at work and one that waits for it.
_AHEAD = 2
#: Seconds between two looks whether there are workers, while a shard takes long.
_LOOK_SECONDS = 5.0


class Engine:
    """An executor of the standard library's kind, and what is known of those behind it.

    Args:
        name: of the engine and its address, for messages.
        executor: runs the shards.
        workers: tells how many there are now.
        lost: the errors by which the executor says that a shard killed its workers.
        patience: seconds to go on without any worker.
    """

    def __init__(
        self,
        name: str,
        executor: Executor,
        workers: Callable[[], int],
        *,
        lost: tuple[type[BaseException], ...] = (),
        patience: float = 300.0,
    ) -> None:
        self.name = name
        self._executor, self._workers = executor, workers
        self._lost, self._patience = lost, patience

    def run(
        self, job: Callable[[S], pa.Table], shards: Iterable[S]
    ) -> Iterator[tuple[S, pa.Table | None]]:
        """Each shard with its answer, in the order of the shards.

        Shards are drawn as they are needed: no more than two for each worker are in memory.

        Args:
            job: importable by the workers, by the module's name.
            shards: small enough to be sent; a megabyte or two.

        Yields:
            The shard, and its table; None where its workers died of it.

        Raises:
            EngineError: when the engine itself is gone, or has no worker for too long.
        """
        waiting: deque[tuple[S, Future[pa.Table]]] = deque()
        try:
            for shard in shards:
                while len(waiting) >= _AHEAD * max(1, self._count()):
                    yield self._answer(waiting)
                waiting.append((shard, self._submit(job, shard)))
            while waiting:
                yield self._answer(waiting)
        finally:
            for _, future in waiting:
                future.cancel()

    def _count(self) -> int:
        try:
            return self._workers()
        except OSError as error:  # it is the scheduler that is asked
            raise self._gone(error) from error

    def _submit(self, job: Callable[[S], pa.Table], shard: S) -> Future[pa.Table]:
        try:
            return self._executor.submit(job, shard)
        except Exception as error:
            raise self._gone(error) from error

    def _answer(self, waiting: deque[tuple[S, Future[pa.Table]]]) -> tuple[S, pa.Table | None]:
        shard, future = waiting[0]
        seen = time.monotonic()
        while True:
            try:
                answer = future.result(_LOOK_SECONDS)
            except NotYet:
                if future.done():  # the job itself raised it
                    raise
                if self._count():
                    seen = time.monotonic()
                elif time.monotonic() - seen > self._patience:
                    raise EngineError(
                        f"{self.name} has had no worker for {self._patience:.0f} s: start some, "
                        "then scan again; what was written is still there"
                    ) from None
            except self._lost as error:
                log.error("a shard killed its workers, and is left for the next scan: %s", error)
                answer = None
                break
            except (CancelledError, OSError) as error:
                raise self._gone(error) from error
            else:
                break
        waiting.popleft()
        return shard, answer

    def _gone(self, error: BaseException) -> EngineError:
        return EngineError(
            f"{self.name} is gone ({type(error).__name__} {error}): start it, then scan again; "
            "what was written is still there"
        )
