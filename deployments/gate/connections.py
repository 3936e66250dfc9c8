"""Connections of the gate: how many, and how long one may take to say what it wants.

uvicorn counts a connection's time from its request on. One that sends half a header is never
closed: 300 of them, which cost their sender nothing, stopped the gate and its approval pages.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class GuardedProtocol(H11Protocol):
    """HTTP/1.1 whose connections are counted, and closed when a header does not come in time.

    Attributes:
        header_seconds: from a connection's first moment, or a further request's first byte, to
            the end of its header.
        most: connections at once. One more closes the oldest that has no request under way, so
            that who opens many shuts out nobody but themselves.
    """

    header_seconds: ClassVar[float]
    most: ClassVar[int]
    _waiting: ClassVar[OrderedDict[GuardedProtocol, None]]
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and give its first header its time."""
        super().connection_made(transport)
        self._waiting[self] = None
        self._start_timer()
        if len(self.connections) > self.most:
            oldest, _ = self._waiting.popitem(last=False)
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read on; a header that is not whole yet has its time from now."""
        super().data_received(data)
        self._look(began=True)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._look(began=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        self._waiting.pop(self, None)
        super().connection_lost(exc)

    def _look(self, *, began: bool) -> None:
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE:
            self._waiting.setdefault(self, None)
            if began:
                self._start_timer()
        else:  # a request is under way, which has limits of its own
            self._waiting.pop(self, None)
            self._stop_timer()

    def _start_timer(self) -> None:
        if self._timer is None:  # more bytes of the same header give it no more time
            self._timer = self.loop.call_later(self.header_seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        self.transport.abort()


def guarded(*, header_seconds: float, most: int) -> type[asyncio.Protocol]:
    """The protocol of one gate, with its own limits and its own count."""
    limits: dict[str, Any] = {
        "header_seconds": header_seconds,
        "most": most,
        "_waiting": OrderedDict(),
    }
    return type("Guarded", (GuardedProtocol,), limits)
