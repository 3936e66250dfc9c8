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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tasks.dedup.feature_cache import FeatureCache
from tasks.dedup.features import use_one_thread
from tasks.dedup.verify import SIMILAR_SCORE, try_to_verify
from tasks.process.heap import keep_freed_memory

log = logging.getLogger(__name__)

#: Score and evidence, as the catalog keeps them; None: the pair could not be compared.
Answer = tuple[float, str | None] | None

_ROOT = Path(__file__).resolve().parents[2]
#: Libraries that would each start a thread a core inside a process that has one core.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Task:
    """Some pairs, and all that is needed to verify them.

    Attributes:
        pairs: left and right content of each.
        jpegs: thumbnails by content; of a content that is missing, pairs have no answer.
    """

    pairs: Sequence[tuple[str, str]]
    jpegs: dict[str, bytes] = field(repr=False)


def answer_pair(cache: FeatureCache, jpegs: dict[str, bytes], left: str, right: str) -> Answer:
    """The answer for one pair, with features from the cache or made for it."""
    sides = []
    for content in (left, right):
        features = cache.get(content)
        if features is None:
            if content not in jpegs:
                log.error("no thumbnail of %s: the pair is not verified", content)
                return None
            features = cache.make(content, jpegs[content])
        sides.append(features)
    found = try_to_verify(sides[0], sides[1])
    if found is None:
        return None
    told = found.evidence is not None and found.score >= SIMILAR_SCORE
    return found.score, found.evidence.as_json() if told and found.evidence else None


class VerifyProcesses:
    """As many processes as asked for, each started at its first task.

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

    def verify(self, tasks: Iterable[Task]) -> Iterator[list[Answer]]:
        """The answers to each task, in order."""
        return self._threads.map(self._run, tasks)

    def _run(self, task: Task) -> list[Answer]:
        process = self._idle.get()
        try:
            if process is None:
                process = self._start()
            return self._ask(process, task)
        except (OSError, EOFError, ValueError):
            code = process.poll() if process else None
            log.error("a process died (exit %s) on %d pairs, not verified", code, len(task.pairs))
            self._stop(process)
            process = None
            return [None] * len(task.pairs)
        finally:
            self._idle.put(process)

    def _ask(self, process: subprocess.Popen[bytes], task: Task) -> list[Answer]:
        if process.stdin is None or process.stdout is None:
            raise EOFError
        pickle.dump((list(task.pairs), task.jpegs), process.stdin)
        process.stdin.flush()
        # JSON and not pickle: what looked at strangers' pictures cannot run code here.
        answers = json.loads(process.stdout.readline())
        if len(answers) != len(task.pairs):
            raise ValueError("an answer is missing")
        return [None if one is None else (float(one[0]), one[1]) for one in answers]

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
            pairs, jpegs = pickle.load(source)  # noqa: S301 - from our own parent
            answers = [answer_pair(cache, jpegs, left, right) for left, right in pairs]
            sink.write(json.dumps(answers).encode() + b"\n")
            sink.flush()


if __name__ == "__main__":
    main()
