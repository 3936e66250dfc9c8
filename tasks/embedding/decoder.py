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
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import IO

import numpy as np

from tasks.errors import ImageError
from tasks.records import Picture
from tasks.settings import LimitSettings

_HEADER = struct.Struct(">Q")
#: Sizes of an answer's facts, thumbnail and features; pixels are the rest.
_PARTS = struct.Struct(">III")
_BLOBS = {"thumbnail", "features", "pixels"}
_MAX_ANSWER = 64 * 1024**2
_START_SECONDS = 60.0
#: How long after the time limit a child kills itself, should nobody else do it.
_ALARM_SECONDS = 2
_ROOT = Path(__file__).resolve().parents[2]


#: Features of a thumbnail.
Describe = Callable[[bytes], bytes]


class DecoderPool:
    """As many decoder processes as there are cores; threads borrow one at a time.

    Args:
        limits: what one image may cost.
        side: width and height of the model's input.
        workers: processes; default: the cores this process may use.
        describe: makes a picture's features of its thumbnail, in the decoder's process; a function
            of a module, found there by its name. Default: pictures have none.
    """

    def __init__(
        self,
        limits: LimitSettings,
        side: int,
        workers: int | None = None,
        describe: Describe | None = None,
    ) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._idle: queue.Queue[_Decoder] = queue.Queue()
        self._all = [_Decoder(limits, side, describe) for _ in range(self.workers)]
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

    def __init__(self, limits: LimitSettings, side: int, describe: Describe | None) -> None:
        self._limits = limits
        self._side = side
        self._describe = describe
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def decode(self, data: bytes) -> Picture:
        if self._process is None or self._process.poll() is not None:
            self._start()
        try:
            answer = self._ask(data, self._limits.seconds)
        except TimeoutError:
            self.stop()
            raise ImageError(
                "timeout",
                f"not decoded in {self._limits.seconds:g} s; raise DAM_DEDUP_LIMITS__SECONDS",
            ) from None
        except (EOFError, OSError):
            code = self._process.wait() if self._process else None
            self.stop()
            raise ImageError("crashed", f"the decoder died on it (exit {code})") from None
        try:
            return _unpack(answer, self._side)
        except (ValueError, KeyError, TypeError, struct.error):
            self.stop()
            raise ImageError("crashed", "the decoder gave no answer that can be read") from None

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
            self._ask(pickle.dumps((self._limits, self._side, self._describe)), _START_SECONDS)
        except (EOFError, OSError) as error:
            self.stop()
            raise ImageError("crashed", f"the decoder process does not start: {error!r}") from error

    def _ask(self, data: bytes, seconds: float) -> bytes:
        process = self._process
        if not (process and process.stdin and process.stdout):
            raise EOFError
        deadline = time.monotonic() + seconds
        # The pipe holds 64 kB: a child that died early must not leave us writing for ever.
        writer = threading.Thread(target=_write, args=(process.stdin, data), daemon=True)
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
    parts = _PARTS.pack(len(head), len(picture.thumbnail), len(picture.features))
    return parts + head + picture.thumbnail + picture.features + picture.pixels.tobytes()


def _pack_error(reason: str, message: str) -> bytes:
    head = json.dumps({"reason": reason, "message": message}).encode()
    return _PARTS.pack(len(head), 0, 0) + head


def _unpack(answer: bytes, side: int) -> Picture:
    head_size, thumbnail_size, features_size = _PARTS.unpack_from(answer)
    at = _PARTS.size + head_size
    facts = json.loads(answer[_PARTS.size : at])
    if "reason" in facts:
        raise ImageError(str(facts["reason"]), str(facts["message"]))
    thumbnail, at = answer[at : at + thumbnail_size], at + thumbnail_size
    features, at = answer[at : at + features_size], at + features_size
    pixels = np.frombuffer(answer, np.uint8, offset=at).reshape(side, side, 3)
    facts["flags"] = tuple(facts["flags"])
    return Picture(**facts, thumbnail=thumbnail, features=features, pixels=pixels)


def _write(pipe: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):
        pipe.write(_HEADER.pack(len(data)))
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
    limits, side, describe = pickle.loads(_take(source) or b"")  # noqa: S301 - from our own parent
    # Only now: the imports are not part of what an image may cost.
    from tasks.embedding.images import read_picture

    # On top of what the libraries themselves have mapped.
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    allowed = mapped + limits.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _write(sink, b"ready")
    while (data := _take(source)) is not None:
        # A parent that was killed cannot kill us: an endless decode must end by itself.
        signal.alarm(math.ceil(limits.seconds) + _ALARM_SECONDS)
        try:
            picture = read_picture(data, limits, side)
            if describe is not None:
                picture = replace(picture, features=describe(picture.thumbnail))
            answer = _pack(picture)
        except ImageError as error:
            answer = _pack_error(error.reason, str(error))
        except MemoryError:
            answer = _pack_error("too_much_memory", "no memory left while decoding")
        signal.alarm(0)
        _write(sink, answer)


def _take(pipe: IO[bytes]) -> bytes | None:
    header = pipe.read(_HEADER.size)
    return pipe.read(_HEADER.unpack(header)[0]) if len(header) == _HEADER.size else None


if __name__ == "__main__":
    main()
