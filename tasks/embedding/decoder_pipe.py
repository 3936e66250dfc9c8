"""Requests and answers through a child's pipes, in the thread that asks and in few system calls.

Each call lets go of Python's lock and has to wait for it again. With sixteen decoders and a thread
for each request's bytes, the threads waited for one another more than for the decoders.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
from typing import IO

from tasks.embedding.decoder_protocol import LENGTH

#: What a pipe may hold, where the system allows it (Linux: 1 MiB for everyone): most files and all
#: answers then pass at once.
_PIPE_BYTES = 1 << 20
#: The first guess of an answer's size: pixels of 224 x 224, thumbnail and features.
_ANSWER_BYTES = 1 << 18


class ChildPipe:
    """Both pipes of a child that reads each request to its end before it answers.

    Args:
        requests: the child's standard input.
        answers: its standard output.
        most: bytes of the longest answer that is taken.
    """

    def __init__(self, requests: IO[bytes], answers: IO[bytes], most: int) -> None:
        self._to, self._from, self._most = requests.fileno(), answers.fileno(), most
        self._buffer = bytearray(_ANSWER_BYTES)
        os.set_blocking(self._to, False)
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError, AttributeError):  # too many pipes: only slower
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def ask(self, head: bytes, body: bytes, deadline: float) -> bytes:
        """Send a request and wait for its answer, without the length that it begins with.

        Args:
            head: sent first.
            body: sent after it, without a copy.
            deadline: by :func:`time.monotonic`.

        Raises:
            TimeoutError: when the deadline has passed.
            EOFError: when the child ended, or told of an answer that is too long.
            OSError: when the child no longer reads.
        """
        self._send(head, body, deadline)
        return self._take(deadline)

    def _send(self, head: bytes, body: bytes, deadline: float) -> None:
        parts = [memoryview(head), memoryview(body)]
        while parts:
            try:
                sent = os.writev(self._to, parts)
            except BlockingIOError:
                sent = 0
                _wait([], [self._to], deadline)
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if sent:
                parts[0] = parts[0][sent:]

    def _take(self, deadline: float) -> bytes:
        held, size = 0, LENGTH.size
        while held < size:
            _wait([self._from], [], deadline)
            with memoryview(self._buffer) as buffer:
                got = os.readv(self._from, [buffer[held:]])
            if not got:
                raise EOFError
            held += got
            if held >= LENGTH.size:
                size = LENGTH.size + LENGTH.unpack_from(self._buffer)[0]
                if size > self._most or held > size:
                    raise EOFError
                self._buffer.extend(bytes(max(0, size - len(self._buffer))))
        with memoryview(self._buffer) as buffer:
            answer = bytes(buffer[LENGTH.size : size])
        if len(self._buffer) > _ANSWER_BYTES:
            self._buffer = bytearray(_ANSWER_BYTES)
        return answer


def _wait(readers: list[int], writers: list[int], deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0 or not any(select.select(readers, writers, [], left)):
        raise TimeoutError
