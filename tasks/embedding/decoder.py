"""Decoder processes: each may die alone, by its time limit, its memory limit or a crash.

A plain subprocess with a length-prefixed pipe, not :mod:`multiprocessing`: that would import the
parent's main module again in each child (Prefect's engine: seconds and 100 MB), and its pools
either hang or break whole when one worker is killed. The child ends when the pipe does, so a
killed parent leaves no orphan.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import queue
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tasks.errors import ImageError
from tasks.records import Picture
from tasks.settings import LimitSettings

#: What compares two originals inside a decoder process, so that no full picture travels: left and
#: right as uint8 (h, w, 3), and the numbers that were handed in; the answer must be JSON.
Compare = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Sequence[float]], dict[str, Any]]

_HEADER = struct.Struct(">Q")
#: Before the bytes of a request: their number, and the longest side of the picture to draw; 0 for a
#: reading.
_REQUEST = struct.Struct(">QI")
#: In the place of that side: two files that are to be compared. They are laid out as how many
#: numbers there are, the bytes of the left file, the numbers, the left file and the right one.
_TWO = 0xFFFFFFFF
_PAIR = struct.Struct(">IQ")
#: Two images are read and compared in the time that so many may take to be decoded.
_TIMES = 4
#: Sizes of an answer's facts and thumbnail; pixels are the rest.
_PARTS = struct.Struct(">II")
_BLOBS = {"thumbnail", "pixels"}
_MAX_ANSWER = 64 * 1024**2
_START_SECONDS = 60.0
#: How long after the time limit a child kills itself, should nobody else do it.
_ALARM_SECONDS = 2
_ROOT = Path(__file__).resolve().parents[2]


class DecoderPool:
    """As many decoder processes as there are cores; threads borrow one at a time.

    Args:
        limits: what one image may cost.
        side: width and height of the model's input.
        workers: processes; default: the cores this process may use.
        compares: what :meth:`compare` does in the processes; a function at the top of a module.
    """

    def __init__(
        self,
        limits: LimitSettings,
        side: int,
        workers: int | None = None,
        compares: Compare | None = None,
    ) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._idle: queue.Queue[_Decoder] = queue.Queue()
        self._all = [_Decoder(limits, side, compares) for _ in range(self.workers)]
        for decoder in self._all:
            self._idle.put(decoder)

    def decode(self, data: bytes) -> Picture:
        """Decode one image.

        Raises:
            ImageError: with the reason, ``timeout`` and ``crashed`` among them.
        """
        decoder = self._idle.get()
        try:
            return decoder.decode(data)
        finally:
            self._idle.put(decoder)

    def render(self, data: bytes, side: int) -> bytes:
        """One image as a JPEG file for people to look at, of at most ``side`` pixels a side.

        Raises:
            ImageError: with the reason, ``timeout`` and ``crashed`` among them.
        """
        decoder = self._idle.get()
        try:
            return decoder.render(data, side)
        finally:
            self._idle.put(decoder)

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
        decoder = self._idle.get()
        try:
            return decoder.compare(left, right, numbers)
        finally:
            self._idle.put(decoder)

    def pids(self) -> list[int]:
        """The processes that live now."""
        return [decoder.pid for decoder in self._all if decoder.pid]

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, *_: object) -> None:
        for decoder in self._all:
            decoder.stop()


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

    def __init__(self, limits: LimitSettings, side: int, compares: Compare | None = None) -> None:
        self._limits = limits
        self._side = side
        self._compares = compares
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def decode(self, data: bytes) -> Picture:
        answer = self._answer(data)
        try:
            return _unpack(answer, self._side)
        except (ValueError, KeyError, TypeError, struct.error):
            raise self._unreadable() from None

    def render(self, data: bytes, side: int) -> bytes:
        answer = self._answer(data, side)
        try:
            return _unpack_jpeg(answer)
        except (ValueError, KeyError, TypeError, struct.error):
            raise self._unreadable() from None

    def compare(self, left: bytes, right: bytes, numbers: Sequence[float]) -> dict[str, Any]:
        head = _PAIR.pack(len(numbers), len(left)) + struct.pack(f">{len(numbers)}d", *numbers)
        answer = self._answer(b"".join((head, left, right)), _TWO)
        try:
            return _unpack_found(answer)
        except (ValueError, KeyError, TypeError, struct.error):
            raise self._unreadable() from None

    def _unreadable(self) -> ImageError:
        self.stop()
        return ImageError("crashed", "the decoder gave no answer that can be read")

    def _answer(self, data: bytes, side: int = 0) -> bytes:
        if self._process is None or self._process.poll() is not None:
            self._start()
        seconds = self._limits.seconds * (_TIMES if side == _TWO else 1)
        try:
            return self._ask(data, seconds, side)
        except TimeoutError:
            self.stop()
            raise ImageError(
                "timeout", f"not decoded in {seconds:g} s; raise DAM_DEDUP_LIMITS__SECONDS"
            ) from None
        except (EOFError, OSError):
            code = self._process.wait() if self._process else None
            self.stop()
            raise ImageError("crashed", f"the decoder died on it (exit {code})") from None

    def stop(self) -> None:
        process, self._process = self._process, None
        folder, self._folder = self._folder, None
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
        )
        try:
            self._ask(pickle.dumps((self._limits, self._side, self._compares)), _START_SECONDS)
        except (EOFError, OSError) as error:
            self.stop()
            raise ImageError("crashed", f"the decoder process does not start: {error!r}") from error

    def _ask(self, data: bytes, seconds: float, side: int = 0) -> bytes:
        process = self._process
        if not (process and process.stdin and process.stdout):
            raise EOFError
        deadline = time.monotonic() + seconds
        # The pipe holds 64 kB: a child that died early must not leave us writing for ever.
        head = _REQUEST.pack(len(data), side)
        writer = threading.Thread(target=_write, args=(process.stdin, head, data), daemon=True)
        writer.start()
        size = _HEADER.unpack(_read(process.stdout, _HEADER.size, deadline))[0]
        if size > _MAX_ANSWER:
            raise EOFError
        answer = _read(process.stdout, size, deadline)
        writer.join(timeout=5)
        return answer


def _pack(picture: Picture) -> bytes:
    """A picture as data.

    Not pickled: a child that hostile bytes took over must not run code in its parent, which holds
    the credentials.
    """
    facts = {f.name: getattr(picture, f.name) for f in fields(picture) if f.name not in _BLOBS}
    head = json.dumps(facts).encode()
    parts = _PARTS.pack(len(head), len(picture.thumbnail))
    return parts + head + picture.thumbnail + picture.pixels.tobytes()


def _pack_error(reason: str, message: str) -> bytes:
    head = json.dumps({"reason": reason, "message": message}).encode()
    return _PARTS.pack(len(head), 0) + head


def _unpack(answer: bytes, side: int) -> Picture:
    head_size, thumbnail_size = _PARTS.unpack_from(answer)
    at = _PARTS.size + head_size
    facts = json.loads(answer[_PARTS.size : at])
    if "reason" in facts:
        raise ImageError(str(facts["reason"]), str(facts["message"]))
    pixels = np.frombuffer(answer, np.uint8, offset=at + thumbnail_size).reshape(side, side, 3)
    facts["flags"] = tuple(facts["flags"])
    return Picture(**facts, thumbnail=answer[at : at + thumbnail_size], pixels=pixels)


def _unpack_jpeg(answer: bytes) -> bytes:
    head_size, size = _PARTS.unpack_from(answer)
    at = _PARTS.size + head_size
    facts = json.loads(answer[_PARTS.size : at])
    if "reason" in facts:
        raise ImageError(str(facts["reason"]), str(facts["message"]))
    jpeg = answer[at : at + size]
    if not jpeg.startswith(b"\xff\xd8\xff"):
        raise ValueError("no JPEG")
    return jpeg


def _unpack_found(answer: bytes) -> dict[str, Any]:
    head_size, _ = _PARTS.unpack_from(answer)
    facts = json.loads(answer[_PARTS.size : _PARTS.size + head_size])
    if "reason" in facts:
        raise ImageError(str(facts["reason"]), str(facts["message"]))
    return dict(facts["found"])


def _write(pipe: IO[bytes], head: bytes, data: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):
        pipe.write(head)
        pipe.write(data)
        pipe.flush()


def _read(pipe: IO[bytes], size: int, deadline: float) -> bytes:
    parts = bytearray()
    fd = pipe.fileno()
    while len(parts) < size:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            raise TimeoutError
        chunk = os.read(fd, min(size - len(parts), 1 << 20))
        if not chunk:
            raise EOFError
        parts += chunk
    return bytes(parts)


def main() -> None:
    """The child: settings first, then one image after another, until the pipe ends."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a decoder library that prints must not corrupt the pipe
    start = _take(source)
    # From our own parent. The function that compares brings its imports with it.
    limits, side, compares = pickle.loads(start[0] if start else b"")  # noqa: S301
    # Only now: the imports are not part of what an image may cost.
    from tasks.embedding.images import read_picture, render_picture

    # On top of what the libraries themselves have mapped.
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    allowed = mapped + limits.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _write(sink, _HEADER.pack(5), b"ready")
    while (request := _take(source)) is not None:
        data, drawn = request
        # A parent that was killed cannot kill us: an endless decode must end by itself.
        seconds = limits.seconds * (_TIMES if drawn == _TWO else 1)
        signal.alarm(math.ceil(seconds) + _ALARM_SECONDS)
        try:
            if drawn == _TWO:
                head = json.dumps({"found": _compared(data, limits, compares)}).encode()
                answer = _PARTS.pack(len(head), 0) + head
            elif drawn:
                jpeg = render_picture(data, limits, drawn)
                answer = _PARTS.pack(2, len(jpeg)) + b"{}" + jpeg
            else:
                answer = _pack(read_picture(data, limits, side))
        except ImageError as error:
            answer = _pack_error(error.reason, str(error))
        except MemoryError:
            answer = _pack_error("too_much_memory", "no memory left while decoding")
        signal.alarm(0)
        _write(sink, _HEADER.pack(len(answer)), answer)


def _compared(request: bytes, limits: LimitSettings, compares: Compare) -> dict[str, Any]:
    """Read the two files of a request one after the other, and compare their pictures."""
    from tasks.embedding.images import read_pixels

    count, size = _PAIR.unpack_from(request)
    numbers = struct.unpack_from(f">{count}d", request, _PAIR.size)
    at = _PAIR.size + 8 * count
    left = read_pixels(request[at : at + size], limits)
    right = read_pixels(request[at + size :], limits)
    try:
        return compares(left, right, numbers)
    except MemoryError:
        raise
    except Exception as error:
        # Numerical libraries raise what no one foresaw; OpenCV tells of memory in words.
        reason = "too_much_memory" if "memory" in str(error).lower() else "cannot_compare"
        raise ImageError(reason, f"{type(error).__name__}: {error}"[:300]) from None


def _take(pipe: IO[bytes]) -> tuple[bytes, int] | None:
    """The bytes of a request, and the side of the picture to draw of them; None at the end."""
    header = pipe.read(_REQUEST.size)
    if len(header) != _REQUEST.size:
        return None
    size, drawn = _REQUEST.unpack(header)
    return pipe.read(size), drawn


if __name__ == "__main__":
    main()
