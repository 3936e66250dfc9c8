"""Verifies pairs in processes of its own: threads of one Python keep four of sixteen cores busy.

Each process gets tasks on its standard input and answers on its standard output, and ends when the
input does, so a killed parent leaves no orphan. One that dies costs its task: those pairs have no
answer, and the next scan asks them again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

import cv2
from cachetools import LRUCache

from tasks.dedup.feature_cache import FeatureCache
from tasks.dedup.features import pack_local, use_one_thread
from tasks.dedup.verify import SIMILAR_SCORE, try_to_verify
from tasks.process.heap import keep_freed_memory

log = logging.getLogger(__name__)

#: Score and evidence, as the catalog keeps them; None: the pair could not be compared.
Answer = tuple[float, str | None] | None
_Read = TypeVar("_Read")

#: Pictures whose packed local features are held, 72 kB each; more where one batch needs them.
_LOCAL = 2048
#: Pictures that a process describes before it tells, and more bytes than any features have.
_DESCRIBED, _MOST_LOCAL = 8, 1 << 17

_ROOT = Path(__file__).resolve().parents[2]
#: Libraries that would each start a thread a core inside a process that has one core.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Task:
    """Some pairs, and all that is needed to verify them.

    Attributes:
        pairs: left and right content of each.
        jpegs: thumbnails by content; of a content that is missing, pairs have no answer.
        local: packed local features of some of them, see :meth:`VerifyProcesses.describe`.
    """

    pairs: Sequence[tuple[str, str]]
    jpegs: dict[str, bytes] = field(repr=False)
    local: dict[str, bytes] = field(default_factory=dict, repr=False)


def answer_pair(
    cache: FeatureCache,
    jpegs: dict[str, bytes],
    left: str,
    right: str,
    local: dict[str, bytes] | None = None,
) -> Answer:
    """The answer for one pair, with features from the cache or made for it.

    Args:
        cache: holds features.
        jpegs: thumbnails by content.
        left: a content.
        right: another.
        local: packed local features by content, where they are known.
    """
    sides = []
    for content in (left, right):
        features = cache.get(content)
        if features is None:
            if content not in jpegs:
                log.error("no thumbnail of %s: the pair is not verified", content)
                return None
            features = cache.make(content, jpegs[content], (local or {}).get(content, b""))
        sides.append(features)
    found = try_to_verify(sides[0], sides[1])
    if found is None:
        return None
    told = found.evidence is not None and found.score >= SIMILAR_SCORE
    return found.score, found.evidence.as_json() if told and found.evidence else None


class VerifyProcesses:
    """As many processes as asked for, each started at its first task.

    A picture's local features are looked for by one of them, and handed to whichever needs them: a
    picture has some ten pairs, which are spread over all processes.

    Args:
        workers: how many.
        held: pictures whose features are held, by all processes together.
    """

    def __init__(self, workers: int, held: int) -> None:
        self.workers = workers
        self._held = max(2, held // workers)
        self._idle: queue.Queue[subprocess.Popen[bytes] | None] = queue.Queue()
        for _ in range(workers):
            self._idle.put(None)
        self._threads = ThreadPoolExecutor(workers, "verify")
        self._local: LRUCache[str, bytes] = LRUCache(_LOCAL)

    def describe(self, jpegs: dict[str, bytes]) -> dict[str, bytes]:
        """The packed local features of some thumbnails, each looked for once.

        Those of a picture that makes a process fail are missing; its pairs fail alone.
        """
        missing = [name for name in jpegs if name not in self._local]
        parts = [missing[at : at + _DESCRIBED] for at in range(0, len(missing), _DESCRIBED)]
        found = {name: self._local[name] for name in jpegs if name in self._local}
        for part, packed in zip(
            parts,
            self._threads.map(lambda part: self._described([jpegs[n] for n in part]), parts),
            strict=True,
        ):
            told = {name: one for name, one in zip(part, packed, strict=True) if one}
            self._local.update(told)
            found |= told
        return found

    def verify(self, tasks: Iterable[Task]) -> Iterator[list[Answer]]:
        """The answers to each task, in order."""
        return self._threads.map(self._answered, tasks)

    def _described(self, jpegs: list[bytes]) -> list[bytes]:
        def read(answers: IO[bytes]) -> list[bytes]:
            sizes = json.loads(answers.readline())
            if len(sizes) != len(jpegs) or not all(0 <= size < _MOST_LOCAL for size in sizes):
                raise ValueError("no sizes of features")
            return [_exactly(answers, size) for size in sizes]

        return self._run(jpegs, read, f"{len(jpegs)} pictures") or [b""] * len(jpegs)

    def _answered(self, task: Task) -> list[Answer]:
        def read(answers: IO[bytes]) -> list[Answer]:
            # JSON and not pickle: what looked at strangers' pictures cannot run code here.
            found = json.loads(answers.readline())
            if len(found) != len(task.pairs):
                raise ValueError("an answer is missing")
            return [None if one is None else (float(one[0]), one[1]) for one in found]

        asked = (list(task.pairs), task.jpegs, task.local)
        return self._run(asked, read, f"{len(task.pairs)} pairs") or [None] * len(task.pairs)

    def _run(self, asked: object, read: Callable[[IO[bytes]], _Read], what: str) -> _Read | None:
        """What a process says to a request; None where it dies of it."""
        process = self._idle.get()
        try:
            if process is None:
                process = self._start()
            if process.stdin is None or process.stdout is None:
                raise EOFError
            pickle.dump(asked, process.stdin)
            process.stdin.flush()
            return read(process.stdout)
        except (OSError, EOFError, ValueError):
            code = process.poll() if process else None
            log.error("a process died (exit %s) on %s, not verified", code, what)
            self._stop(process)
            process = None
            return None
        finally:
            self._idle.put(process)

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            [sys.executable, "-m", "tasks.queries.verify_processes", str(self._held)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, **_ONE_THREAD, "PYTHONPATH": path},
        )

    def close(self) -> None:
        """End the processes; a task at work is waited for."""
        self._threads.shutdown()
        while not self._idle.empty():
            self._stop(self._idle.get())

    def _stop(self, process: subprocess.Popen[bytes] | None) -> None:
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    def __enter__(self) -> VerifyProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> None:
    """The child: one task after another, until the pipe ends."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not corrupt the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    use_one_thread()
    keep_freed_memory()
    cache = FeatureCache(int(sys.argv[1]))
    with contextlib.suppress(EOFError):
        while True:
            asked = pickle.load(source)  # noqa: S301 - from our own parent
            sink.write(_packed(asked) if isinstance(asked, list) else _answers(cache, *asked))
            sink.flush()


def _packed(jpegs: list[bytes]) -> bytes:
    """How many bytes the features of each thumbnail have, as a line of JSON, and these bytes."""
    found = [_try_to_pack(jpeg) for jpeg in jpegs]
    return json.dumps([len(one) for one in found]).encode() + b"\n" + b"".join(found)


def _try_to_pack(jpeg: bytes) -> bytes:
    try:
        return pack_local(jpeg)
    except (cv2.error, ValueError):  # its pairs will say so
        return b""


def _answers(
    cache: FeatureCache,
    pairs: list[tuple[str, str]],
    jpegs: dict[str, bytes],
    local: dict[str, bytes],
) -> bytes:
    found = [answer_pair(cache, jpegs, left, right, local) for left, right in pairs]
    return json.dumps(found).encode() + b"\n"


def _exactly(answers: IO[bytes], size: int) -> bytes:
    data = answers.read(size)
    if len(data) != size:
        raise EOFError
    return data


if __name__ == "__main__":
    main()
