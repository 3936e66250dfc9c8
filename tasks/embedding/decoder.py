"""Decoder processes: each may die alone, by its time limit, its memory limit or a crash.

A plain subprocess with a length-prefixed pipe, not :mod:`multiprocessing`: that would import the
parent's main module again in each child (Prefect's engine: seconds and 100 MB), and its pools
either hang or break whole when one worker is killed. The child ends when the pipe does, so a
killed parent leaves no orphan.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import queue
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tasks.embedding import decoder_protocol as protocol
from tasks.embedding.decoder_pipe import ChildPipe
from tasks.embedding.decoder_protocol import Kind
from tasks.embedding.sidecar_facts import SidecarFacts, read_sidecar_facts
from tasks.errors import ImageError
from tasks.records import Picture
from tasks.settings import LimitSettings

#: What compares two originals inside a decoder process, so that no full picture travels: left and
#: right as uint8 (h, w, 3), and the numbers that were handed in; the answer must be JSON.
Compare = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Sequence[float]], dict[str, Any]]

#: Makes a picture's features of its thumbnail.
Describe = Callable[[bytes], bytes]

#: Two images are read and compared in the time that so many may take to be decoded.
_TIMES = {Kind.COMPARE: 4}
_MAX_ANSWER = 64 * 1024**2
_START_SECONDS = 60.0
#: How long after the time limit a child kills itself, should nobody else do it.
_ALARM_SECONDS = 2
_Answer = TypeVar("_Answer")
_ROOT = Path(__file__).resolve().parents[2]


class DecoderPool:
    """As many decoder processes as there are cores; threads borrow one at a time.

    Args:
        limits: what one image may cost.
        side: width and height of the model's input.
        workers: processes; default: the cores this process may use.
        compares: what :meth:`compare` does in the processes; a function at the top of a module.
        describe: makes a picture's features of its thumbnail, in the decoder's process; a function
            at the top of a module. Default: pictures have none.
    """

    def __init__(
        self,
        limits: LimitSettings,
        side: int,
        workers: int | None = None,
        compares: Compare | None = None,
        describe: Describe | None = None,
    ) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._idle: queue.Queue[_Decoder] = queue.Queue()
        self._all = [_Decoder(limits, side, compares, describe) for _ in range(self.workers)]
        for decoder in self._all:
            self._idle.put(decoder)

    def decode(self, data: bytes) -> Picture:
        """Decode one image.

        Raises:
            ImageError: with the reason, ``timeout`` and ``crashed`` among them.
        """
        with self._borrow() as decoder:
            return decoder.decode(data)

    def render(self, data: bytes, side: int) -> bytes:
        """One image as a JPEG file for people to look at, of at most ``side`` pixels a side.

        Raises:
            ImageError: with the reason, ``timeout`` and ``crashed`` among them.
        """
        with self._borrow() as decoder:
            return decoder.render(data, side)

    def compare(self, left: bytes, right: bytes, numbers: Sequence[float]) -> dict[str, Any]:
        """Decode two images at full size and compare them, in one process.

        Args:
            left: a file.
            right: another.
            numbers: handed to the function that compares.

        Returns:
            What that function answered; from a process that hostile bytes may have taken over.

        Raises:
            ImageError: with the reason; ``cannot_compare`` where both are read and that fails.
        """
        with self._borrow() as decoder:
            return decoder.compare(left, right, numbers)

    def read_sidecar(self, name: str, data: bytes) -> SidecarFacts:
        """Read a sidecar: XMP, or a camera's thumbnail.

        Args:
            name: its key, which tells what it is.
            data: its bytes.

        Raises:
            ImageError: with the reason: ``bad_sidecar``, ``timeout``, ``crashed``.
        """
        with self._borrow() as decoder:
            return decoder.read_sidecar(name, data)

    def stop(self) -> None:
        """End the processes; the next request starts them again."""
        for decoder in self._all:
            decoder.stop()

    @contextlib.contextmanager
    def _borrow(self) -> Iterator[_Decoder]:
        decoder = self._idle.get()
        try:
            yield decoder
        finally:
            self._idle.put(decoder)

    def pids(self) -> list[int]:
        """The processes that live now."""
        return [decoder.pid for decoder in self._all if decoder.pid]

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


#: All that a decoder needs of our environment. What is not named here stays here: credentials come
#: under many names, and a list of those is never complete.
_ALLOWED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHASHSEED",
    "VIRTUAL_ENV",
    "SYSTEMROOT",
)


def _environment(folder: str) -> dict[str, str]:
    """The environment of a process that decodes strangers' bytes, in a folder of its own."""
    kept = {name: value for name, value in os.environ.items() if name in _ALLOWED}
    path = os.pathsep.join(filter(None, (str(_ROOT), kept.get("PYTHONPATH"))))
    own = {"PYTHONPATH": path, "HOME": folder, "TMPDIR": folder}
    return {**kept, **own, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


class _Decoder:
    """One process, started at its first image and again after a death."""

    def __init__(
        self,
        limits: LimitSettings,
        side: int,
        compares: Compare | None = None,
        describe: Describe | None = None,
    ) -> None:
        self._limits = limits
        self._side = side
        self._compares = compares
        self._describe = describe
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: ChildPipe | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def decode(self, data: bytes) -> Picture:
        return self._ask(Kind.READ, data, lambda got: protocol.unpack_picture(got, self._side))

    def render(self, data: bytes, side: int) -> bytes:
        request = protocol.render_request(data, side)
        return self._ask(Kind.RENDER, request, protocol.unpack_jpeg)

    def compare(self, left: bytes, right: bytes, numbers: Sequence[float]) -> dict[str, Any]:
        request = protocol.compare_request(left, right, numbers)
        return self._ask(Kind.COMPARE, request, protocol.unpack_found)

    def read_sidecar(self, name: str, data: bytes) -> SidecarFacts:
        request = protocol.sidecar_request(name, data)
        return self._ask(Kind.SIDECAR, request, protocol.unpack_sidecar)

    def _ask(self, kind: Kind, body: bytes, unpack: Callable[[bytes], _Answer]) -> _Answer:
        if self._process is None or self._process.poll() is not None:
            self._start()
        seconds = self._limits.seconds * _TIMES.get(kind, 1)
        try:
            answer = self._exchange(kind, body, seconds)
        except TimeoutError:
            self.stop()
            raise ImageError(
                "timeout", f"not decoded in {seconds:g} s; raise DAM_DEDUP_LIMITS__SECONDS"
            ) from None
        except (EOFError, OSError):
            code = self._process.wait() if self._process else None
            self.stop()
            raise ImageError("crashed", f"the decoder died on it (exit {code})") from None
        try:
            return unpack(answer)
        except protocol.UNREADABLE:
            self.stop()
            raise ImageError("crashed", "the decoder gave no answer that can be read") from None

    def stop(self) -> None:
        process, self._process = self._process, None
        folder, self._folder = self._folder, None
        self._pipe = None
        if process is None:
            return
        process.kill()
        process.wait()
        if folder is not None:
            folder.cleanup()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _start(self) -> None:
        self.stop()
        self._folder = tempfile.TemporaryDirectory(
            prefix="dam-dedup-decoder-", ignore_cleanup_errors=True
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tasks.embedding.decoder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self._folder.name,
            env=_environment(self._folder.name),
            bufsize=0,
        )
        try:
            if self._process.stdin and self._process.stdout:
                self._pipe = ChildPipe(self._process.stdin, self._process.stdout, _MAX_ANSWER)
            chosen = (self._limits, self._side, self._compares, self._describe)
            self._exchange(Kind.START, pickle.dumps(chosen), _START_SECONDS)
        except (EOFError, OSError) as error:
            self.stop()
            raise ImageError("crashed", f"the decoder process does not start: {error!r}") from error

    def _exchange(self, kind: Kind, body: bytes, seconds: float) -> bytes:
        if self._pipe is None:
            raise EOFError
        deadline = time.monotonic() + seconds
        return self._pipe.ask(*protocol.pack_request(kind, body), deadline)


def main() -> None:
    """The child: settings first, then one request after another, until the pipe ends."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a decoder library that prints must not corrupt the pipe
    start = protocol.take_request(source)
    # From our own parent. The functions bring their imports with them.
    limits, side, compares, describe = pickle.loads(start[1] if start else b"")  # noqa: S301
    # Only now: the imports are not part of what an image may cost.
    from tasks.embedding.images import read_picture, render_picture

    def answer(kind: Kind, body: bytes) -> bytes:
        if kind is Kind.COMPARE:
            return protocol.pack_answer({"found": _compared(body, limits, compares)})
        if kind is Kind.RENDER:
            return protocol.pack_answer({}, render_picture(*_rendering(body, limits)))
        if kind is Kind.SIDECAR:
            return protocol.pack_sidecar(read_sidecar_facts(*protocol.take_sidecar(body)))
        picture = read_picture(body, limits, side)
        if describe is not None:
            picture = replace(picture, features=describe(picture.thumbnail))
        return protocol.pack_picture(picture)

    # On top of what the libraries themselves have mapped.
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    allowed = mapped + limits.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    protocol.send_answer(sink, b"ready")
    while (request := protocol.take_request(source)) is not None:
        # A parent that was killed cannot kill us: an endless decode must end by itself.
        seconds = limits.seconds * _TIMES.get(request[0], 1)
        signal.alarm(math.ceil(seconds) + _ALARM_SECONDS)
        try:
            given = answer(*request)
        except ImageError as error:
            given = protocol.pack_error(error.reason, str(error))
        except MemoryError:
            given = protocol.pack_error("too_much_memory", "no memory left while decoding")
        signal.alarm(0)
        protocol.send_answer(sink, given)


def _rendering(body: bytes, limits: LimitSettings) -> tuple[bytes, LimitSettings, int]:
    data, side = protocol.take_render(body)
    return data, limits, side


def _compared(body: bytes, limits: LimitSettings, compares: Compare) -> dict[str, Any]:
    """Read the two files of a request one after the other, and compare their pictures."""
    from tasks.embedding.images import read_pixels

    left, right, numbers = protocol.take_compare(body)
    sides = [read_pixels(data, limits) for data in (left, right)]
    try:
        return compares(sides[0], sides[1], numbers)
    except MemoryError:
        raise
    except Exception as error:
        # Numerical libraries raise what no one foresaw; OpenCV tells of memory in words.
        reason = "too_much_memory" if "memory" in str(error).lower() else "cannot_compare"
        raise ImageError(reason, f"{type(error).__name__}: {error}"[:300]) from None


if __name__ == "__main__":
    main()
