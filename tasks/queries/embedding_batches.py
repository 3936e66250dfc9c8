"""Readings gathered into batches for the model, in threads of their own.

While the GPU works on one batch the next is gathered, and a third may be written: none waits for
another. What takes the batches has nothing to do for a single image.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from tasks.embedding.base import Embedder
from tasks.queries.readings import NO_PIXELS, Reading

Vector = npt.NDArray[np.float16]
_Vectors = tuple[dict[str, Vector], set[str]]

#: Batches that the model works on at once, and that may wait to be written.
_AT_WORK, _WAITING = 2, 4
#: A batch without new pictures, or with few, is told after so many seconds, and of so many readings
#: for each picture that fits in it.
_SECONDS, _READINGS = 1.0, 4
#: Names that are looked up in a set before they are sorted into the array.
_RECENT = 8192


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings, and the vectors of those contents that had none.

    Attributes:
        readings: in order, without their pixels.
        vectors: of the contents that are new, float16 (dim,).
        bad: contents that the model gives no finite vector.
    """

    readings: Sequence[Reading]
    vectors: dict[str, Vector] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)


class SeenContents:
    """Which contents have a vector already, or will have.

    Args:
        known: their names, of 32 characters. A sorted array of fixed-width texts takes 32 MB a
            million, a set ten times that.
    """

    def __init__(self, known: npt.NDArray[np.bytes_]) -> None:
        self._sorted = np.sort(known.astype("S32"))
        self._recent: set[bytes] = set()

    def add(self, content: str) -> bool:
        """Whether a content was not seen before; from now on it was."""
        name = content.encode()
        at = int(np.searchsorted(self._sorted, name))
        if name in self._recent or (at < len(self._sorted) and self._sorted[at] == name):
            return False
        self._recent.add(name)
        if len(self._recent) >= _RECENT:
            fresh = np.sort(np.array(list(self._recent), dtype="S32"))
            self._sorted = np.insert(self._sorted, np.searchsorted(self._sorted, fresh), fresh)
            self._recent = set()
        return True


def embed_readings(
    readings: Generator[Reading], embedder: Embedder, seen: SeenContents
) -> Generator[Batch]:
    """The readings in order, in batches, each content embedded once.

    Args:
        readings: with pixels; they are made in another thread than the caller's, and closed there.
        embedder: several threads call it.
        seen: contents that need no vector.

    Raises:
        Whatever the readings or the model raise, after what was read before it was told.
    """
    told: queue.Queue[Batch | BaseException | None] = queue.Queue(_WAITING)
    stopped = threading.Event()
    gatherer = _Gatherer(embedder, seen, told, stopped)
    thread = threading.Thread(target=gatherer.run, args=(readings,), name="gather", daemon=True)
    thread.start()
    try:
        while (batch := told.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield batch
    finally:
        stopped.set()
        while thread.is_alive():  # it may be waiting to tell of a batch
            with contextlib.suppress(queue.Empty):
                told.get(timeout=0.05)
        thread.join()


class _Gatherer:
    def __init__(
        self,
        embedder: Embedder,
        seen: SeenContents,
        told: queue.Queue[Batch | BaseException | None],
        stopped: threading.Event,
    ) -> None:
        self._embedder, self._seen, self._told, self._stopped = embedder, seen, told, stopped
        self._readings: list[Reading] = []
        self._new: dict[str, npt.NDArray[np.uint8]] = {}
        self._at_work: deque[tuple[list[Reading], Future[_Vectors]]] = deque()
        self._due = time.monotonic() + _SECONDS

    def run(self, readings: Generator[Reading]) -> None:
        failure: BaseException | None = None
        with ThreadPoolExecutor(_AT_WORK, "embed") as model:
            try:
                with contextlib.closing(readings):
                    for reading in readings:
                        if self._stopped.is_set():
                            return
                        self._take(reading, model)
            except BaseException as error:  # told to whoever takes the batches
                failure = error
            try:
                self._begin(model)
                while self._at_work:
                    self._tell()
            except BaseException as error:
                failure = failure or error
        self._told.put(failure)

    def _take(self, reading: Reading, model: ThreadPoolExecutor) -> None:
        picture, batch = reading.picture, self._embedder.batch
        if picture is not None:
            if self._seen.add(picture.content):
                self._new[picture.content] = picture.pixels
            reading = replace(reading, picture=replace(picture, pixels=NO_PIXELS))
        self._readings.append(reading)
        many = len(self._new) >= batch or len(self._readings) >= _READINGS * batch
        if many or time.monotonic() > self._due:
            self._begin(model)
        while self._at_work and (self._at_work[0][1].done() or len(self._at_work) > _AT_WORK):
            self._tell()

    def _begin(self, model: ThreadPoolExecutor) -> None:
        """Let the model begin with what was gathered."""
        if self._readings:
            self._at_work.append((self._readings, model.submit(self._embed, self._new)))
        self._readings, self._new = [], {}
        self._due = time.monotonic() + _SECONDS

    def _tell(self) -> None:
        readings, future = self._at_work.popleft()
        vectors, bad = future.result()
        self._told.put(Batch(readings, vectors, bad))

    def _embed(self, pixels: dict[str, npt.NDArray[np.uint8]]) -> _Vectors:
        if not pixels:
            return {}, set()
        vectors = self._embedder.embed(np.stack(list(pixels.values())))
        usable = np.asarray(np.isfinite(vectors).all(axis=1))
        found = zip(pixels, vectors.astype(np.float16), usable, strict=True)
        good = {name: half for name, half, fine in found if fine}
        return good, pixels.keys() - good.keys()
