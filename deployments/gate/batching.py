"""One call of the model for all images that wait, and a bounded number of calls that may wait."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from deployments.gate.problems import busy

log = logging.getLogger(__name__)

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class Batcher(Generic[Ask, Answer]):
    """Gives everything that waits to one function, in one call.

    Nothing waits for a batch to fill up. While the function works, what comes gathers into the
    next batch; while it does not, a single request is a batch.

    Args:
        run: returns an answer or an exception for each item, in order.
        most: the largest batch.
        queue: how many items may wait.
    """

    def __init__(
        self, run: Callable[[Sequence[Ask]], Sequence[Answer | Exception]], most: int, queue: int
    ) -> None:
        self._run, self._most, self._queue = run, most, queue
        self._waiting: deque[tuple[Ask, Future[Answer]]] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return len(self._waiting)

    def submit(self, ask: Ask) -> Future[Answer]:
        """Add an item to those that wait. Cancelling its future saves its work.

        Raises:
            Problem: 429, when the line is full.
        """
        future: Future[Answer] = Future()
        with self._change:
            if self._closed or len(self._waiting) >= self._queue:
                raise busy(f"{len(self._waiting)} images wait to be analysed")
            self._waiting.append((ask, future))
            self._change.notify()
        return future

    def close(self) -> None:
        """Stop; items that still wait are cancelled."""
        with self._change:
            self._closed = True
            for _, future in self._waiting:
                future.cancel()
            self._waiting.clear()
            self._change.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or bool(self._waiting))
                if self._closed:
                    return
                batch = [self._waiting.popleft() for _ in range(min(self._most, self.waiting))]
            live = [(ask, future) for ask, future in batch if future.set_running_or_notify_cancel()]
            if live:
                self._answer(live)

    def _answer(self, batch: list[tuple[Ask, Future[Answer]]]) -> None:
        try:
            answers = self._run([ask for ask, _ in batch])
            pairs = list(zip(batch, answers, strict=True))
        # The error is given to each caller of the batch; the thread goes on with the next batch.
        except Exception as error:
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), answer in pairs:
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)


class BoundedExecutor:
    """A thread pool that refuses calls when too many wait.

    Args:
        workers: how many run at once.
        queue: how many may wait besides.
    """

    def __init__(self, workers: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(workers, "gate")
        self._most = workers + queue
        self._inside = 0
        self._lock = threading.Lock()

    @property
    def inside(self) -> int:
        """How many run or wait."""
        return self._inside

    def submit(self, call: Callable[[], Answer]) -> Future[Answer]:
        """Run a call in a thread.

        Raises:
            Problem: 429, when too many wait.
        """
        with self._lock:
            if self._inside >= self._most:
                raise busy(f"{self._inside} requests are under way")
            self._inside += 1
        future = self._pool.submit(call)
        future.add_done_callback(self._leave)
        return future

    def close(self) -> None:
        """Finish what runs; what waits is cancelled."""
        self._pool.shutdown(cancel_futures=True)

    def _leave(self, _: Future[Answer]) -> None:
        with self._lock:
            self._inside -= 1
