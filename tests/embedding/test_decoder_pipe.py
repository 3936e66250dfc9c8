"""Both pipes of a decoder: large requests, large answers, children that do not do their part."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tasks.embedding.decoder_pipe import ChildPipe

#: Answers each request of a length and a body by so many bytes as the body's first four say.
ANSWERS = """
import struct, sys
while head := sys.stdin.buffer.read(8):
    body = sys.stdin.buffer.read(struct.unpack(">Q", head)[0])
    size = struct.unpack(">I", body[:4])[0]
    sys.stdout.buffer.write(struct.pack(">Q", size) + body[-1:] * size)
    sys.stdout.buffer.flush()
"""


@pytest.fixture
def child(request):
    process = subprocess.Popen(
        [sys.executable, "-c", getattr(request, "param", ANSWERS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    yield ChildPipe(process.stdin, process.stdout, 40_000_000)
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def ask(pipe: ChildPipe, answer: int, sent: int, seconds: float = 20) -> bytes:
    body = answer.to_bytes(4, "big") + b"x" * sent
    return pipe.ask(len(body).to_bytes(8, "big"), body, time.monotonic() + seconds)


def test_answers_of_any_length_to_requests_of_any_length(child):
    for answer, sent in ((0, 1), (5, 5_000_000), (3_000_000, 1), (300_000, 300_000), (7, 1)):
        assert ask(child, answer, sent) == b"x" * answer


def test_an_answer_beyond_the_most_is_refused(child):
    with pytest.raises(EOFError):
        ask(child, 40_000_001, 1)


@pytest.mark.parametrize("child", ["import time; time.sleep(60)"], indirect=True)
def test_a_child_that_reads_nothing_is_not_waited_for(child):
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        ask(child, 1, 9_000_000, seconds=0.3)
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize("child", ["import sys; sys.stdin.buffer.read(9)"], indirect=True)
def test_a_child_that_ends_is_noticed(child):
    with pytest.raises((EOFError, OSError)) as caught:
        ask(child, 1, 9_000_000)
    assert not isinstance(caught.value, TimeoutError)
