"""Connections of the gate that say nothing, too little, or too much."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from deployments.gate.connections import guarded
from deployments.gate.middleware import guard

HALF = b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: "
WHOLE = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


class _Metrics:
    def count(self, *_: Any) -> None:
        pass


class _Service:
    metrics = _Metrics()

    class settings:  # noqa: N801
        class gate:  # noqa: N801
            request_seconds = upload_seconds = 10.0


@contextlib.contextmanager
def serving(**limits: Any) -> Iterator[tuple[str, int]]:
    app = FastAPI()
    app.add_api_route("/health", lambda: "well", methods=["GET", "POST"])
    guard(app, _Service())  # type: ignore[arg-type]
    running = uvicorn.Server(uvicorn.Config(app, http=guarded(**limits), log_level="critical"))
    with socket.create_server(("127.0.0.1", 0)) as place:
        thread = threading.Thread(target=running.run, kwargs={"sockets": [place]}, daemon=True)
        thread.start()
        try:
            yield place.getsockname()
        finally:
            running.should_exit = running.force_exit = True
            thread.join(10)


def ask(address: tuple[str, int], request: bytes = WHOLE) -> bytes:
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(request)
        return until(client, b"}" if request is not WHOLE else b"well")


def until(client: socket.socket, end: bytes) -> bytes:
    """What comes, to its end or to some bytes."""
    came = b""
    while end not in came and (part := client.recv(65536)):
        came += part
    return came


def closed(client: socket.socket, seconds: float) -> bool:
    client.settimeout(seconds)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_half_a_header_is_not_waited_for_for_ever() -> None:
    with serving(header_seconds=0.5, most=100) as address:
        with contextlib.ExitStack() as stack:
            dripping = [stack.enter_context(socket.create_connection(address)) for _ in range(5)]
            for client in dripping:
                client.sendall(HALF)
            time.sleep(0.3)
            for client in dripping:
                client.sendall(b"a")  # more bytes give it no more time
            assert all(closed(client, 5) for client in dripping)
            silent = stack.enter_context(socket.create_connection(address))
            assert closed(silent, 5)
        assert ask(address).startswith(b"HTTP/1.1 200")


def test_who_opens_many_connections_shuts_nobody_out() -> None:
    with serving(header_seconds=60, most=20) as address, contextlib.ExitStack() as stack:
        many = [stack.enter_context(socket.create_connection(address)) for _ in range(60)]
        for client in many:
            with contextlib.suppress(OSError):  # the first are closed by now
                client.sendall(HALF)
        assert ask(address).startswith(b"HTTP/1.1 200")
        assert closed(many[0], 5), "the oldest goes"


def test_a_connection_that_is_used_again_is_served() -> None:
    with (
        serving(header_seconds=0.5, most=20) as address,
        socket.create_connection(address, timeout=10) as client,
    ):
        for pause in (0, 0.8, 0.8):  # longer than a header may take
            time.sleep(pause)
            client.sendall(WHOLE)
            assert until(client, b"well").startswith(b"HTTP/1.1 200")
        client.sendall(HALF)
        client.settimeout(5)
        assert closed(client, 5), "its further headers have their time too"


@pytest.mark.parametrize("coding", ["chunked", "Chunked"])
def test_a_request_with_two_lengths_is_refused(coding: str) -> None:
    smuggled = (
        f"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: {coding}"
        "\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    with serving(header_seconds=5, most=20) as address:
        answer = ask(address, smuggled.encode())
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"length twice" in answer
    assert b"connection: close" in answer.lower()
    assert b"200 OK" not in answer
