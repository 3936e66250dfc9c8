"""Pairs of originals, fetched and compared by decoder processes, many at once."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from tasks.dedup.originals import UNREADABLE, fit_of, read_compared
from tasks.embedding.decoder import DecoderPool
from tasks.errors import ImageError, SourceError
from tasks.queries.byte_budget import ByteBudget

_NOWHERE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Original:
    """One file that shows a content at its full size.

    Attributes:
        read: gives its bytes; raises SourceError or ImageError.
        size: bytes.
        width: upright, pixels.
        height: the same.
    """

    read: Callable[[], bytes]
    size: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A pair of contents that claims to be a copy; evidence is JSON, or None without texture."""

    left: str
    right: str
    evidence: str | None


@dataclass(frozen=True, slots=True)
class Proven:
    """What became of a pair.

    Attributes:
        verdict: of the proof; empty where a file could not be fetched, which may pass.
        box: around what differs most, x0, y0, x1, y1 in 0..1 of the right picture.
        excess: how much, in units of the pair's own noise.
        bytes: of the two files.
        fetched: bytes that were read for it now.
        message: why there is no proof.
    """

    left: str
    right: str
    verdict: str
    box: tuple[float, float, float, float] = _NOWHERE
    excess: float = 0.0
    bytes: int = 0
    fetched: int = 0
    message: str = ""


class Comparer:
    """Compares pairs of originals, as many at once as there are decoder processes.

    Args:
        pool: made with :func:`tasks.dedup.proof_job.compare_originals`.
        originals: content to its file; a content without one is not proven.
        inflight_bytes: the most bytes of files held at once, those kept for the next pair included.
    """

    def __init__(
        self, pool: DecoderPool, originals: Mapping[str, Original], inflight_bytes: int
    ) -> None:
        self._pool = pool
        self._originals = originals
        # Half for the files under way, half for those that a neighbouring pair may want again.
        self._budget = ByteBudget(max(1, inflight_bytes // 2))
        self._shelf = _Shelf(inflight_bytes // 2)

    def compare(self, pairs: Sequence[Asked]) -> Iterator[Proven]:
        """The pairs' proofs, in the order of the pairs."""
        waiting: deque[Future[Proven]] = deque()
        with ThreadPoolExecutor(self._pool.workers, "prove") as threads:
            try:
                for pair in pairs:
                    waiting.append(threads.submit(self._one, pair))
                    if len(waiting) > 2 * self._pool.workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _one(self, pair: Asked) -> Proven:
        sides = [self._originals.get(name) for name in (pair.left, pair.right)]
        left, right = sides
        if left is None or right is None:
            return Proven(pair.left, pair.right, "", message="no original that can be read again")
        size = left.size + right.size
        try:
            with self._budget.spend(size):
                one, fetched_one = self._shelf.get(pair.left, left)
                two, fetched_two = self._shelf.get(pair.right, right)
                there = (left.width, left.height), (right.width, right.height)
                fit = fit_of(pair.evidence, *there)
                found = read_compared(self._pool.compare(one, two, fit))
        except SourceError as error:
            return Proven(pair.left, pair.right, "", message=str(error))
        except (ImageError, ValueError) as error:
            text = str(error)[:300]
            return Proven(pair.left, pair.right, UNREADABLE, bytes=size, message=text)
        fetched = fetched_one + fetched_two
        said = found.verdict, found.box, found.excess
        return Proven(pair.left, pair.right, *said, bytes=size, fetched=fetched)


class _Shelf:
    """The files fetched last, up to so many bytes; threads may share it."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, name: str, original: Original) -> tuple[bytes, int]:
        """A content's file, and how many bytes were read for that now."""
        with self._lock:
            held = self._held.get(name)
            if held is not None:
                self._held.move_to_end(name)
                return held, 0
        data = original.read()
        with self._lock:
            if name not in self._held and len(data) <= self._room:
                self._held[name] = data
                self._size += len(data)
            while self._size > self._room:
                _, gone = self._held.popitem(last=False)
                self._size -= len(gone)
        return data, len(data)
