"""Reads the bodies of requests: within limits while they arrive, as bytes and text alone."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request
from python_multipart.multipart import MultipartParser

from deployments.gate.problems import Problem, busy, wrong
from tasks.settings import GateSettings

#: The most bytes of a JSON body. Read, JSON takes many times its size; an analysis has some 100 kB.
JSON_BYTES = 8 * 1024**2
_PARTS = 64
#: Bytes of one header of a part, and headers of a part.
_HEAD, _HEADERS = 8192, 16
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Body:
    """The content of a request's body.

    Attributes:
        file: an image's bytes.
        document: a JSON document.
        pairs: the texts of a form, in order; a name may come more than once.
    """

    file: bytes | None = None
    document: Any = None
    pairs: tuple[tuple[str, str], ...] = ()

    @property
    def fields(self) -> dict[str, str]:
        """The texts of a form by their names."""
        return dict(self.pairs)


class Inflight:
    """Counts the bytes of all requests under way. Only for the event loop's thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    def take(self, size: int) -> None:
        """Count bytes that arrived.

        Raises:
            Problem: 429, when more would be under way than is allowed.
        """
        if self.held and self.held + size > self._most:
            raise busy("too many uploads are under way")
        self.held += size


@asynccontextmanager
async def read_body(
    request: Request, limits: GateSettings, inflight: Inflight
) -> AsyncIterator[Body]:
    """The body of a request; its bytes count as under way until the block ends.

    Raises:
        Problem: 400, 408, 413, 415 or 429.
    """
    before = 0
    packed = request.headers.get("content-encoding", "identity").strip().lower()
    if packed != "identity":
        raise Problem(
            415,
            "wrong_type",
            f"the body is compressed ({packed[:50]}), which is not read here",
            "Send it as it is, without Content-Encoding",
        )
    try:
        try:
            async with asyncio.timeout(limits.upload_seconds):
                data = bytearray()
                async for chunk in _stream(request, _limit(request, limits)):
                    inflight.take(len(chunk))
                    before += len(chunk)
                    data += chunk
        except TimeoutError:
            raise Problem(
                408, "too_slow", "the request came too slowly", "Send it faster"
            ) from None
        yield parse_body(bytes(data), request.headers.get("content-type", ""), limits)
    finally:
        inflight.held -= before


def parse_body(data: bytes, content_type: str, limits: GateSettings) -> Body:
    """A body by its media type: form, multipart form, JSON, or else an image."""
    head = Message()
    head["content-type"] = content_type or "application/octet-stream"
    kind = head.get_content_type()
    if not data:
        return Body()
    if not content_type and data.lstrip()[:1] in (b"{", b"["):  # no image begins so
        raise Problem(
            415,
            "wrong_type",
            "the body has no Content-Type, and looks like JSON",
            "Send Content-Type: application/json, or an image",
        )
    if kind in {"application/json", "text/json"}:
        return Body(document=read_json(data))
    if kind == _FORM:
        return Body(pairs=_form(data))
    if kind == "multipart/form-data":
        return _multipart(data, str(head.get_boundary() or ""), limits)
    if kind.startswith("image/") or kind == "application/octet-stream":
        return Body(file=data)
    raise Problem(
        415,
        "wrong_type",
        f"a body of type {kind[:100]} is not read here",
        "Send an image, multipart/form-data with the part `file`, or application/json",
    )


def read_json(data: bytes | str) -> Any:
    """A JSON document of a caller.

    Raises:
        Problem: when it is none.
    """
    if len(data) > JSON_BYTES:
        raise _too_large(JSON_BYTES)
    try:
        return json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise wrong("the JSON document cannot be read", "Send valid JSON in UTF-8") from None


def read_data_uri(text: str, limits: GateSettings) -> bytes:
    """The bytes of ``data:image/jpeg;base64,...``, or of plain base64.

    Raises:
        Problem: when it is neither, or too large.
    """
    head, comma, rest = text.partition(",") if text[:5].lower() == "data:" else ("", ",", text)
    if not comma or (head and not head.lower().endswith(";base64")):
        raise wrong("the data URI is not base64", "Send data:image/jpeg;base64,...")
    if len(rest) > limits.max_upload_bytes * 3 // 2:
        raise _too_large(limits.max_upload_bytes)
    try:  # a plus that was not escaped in a form came as a space
        data = base64.b64decode(rest.strip().replace(" ", "+"), validate=True)
    except (binascii.Error, ValueError):
        raise wrong("the data URI is not base64", "Send data:image/jpeg;base64,...") from None
    if len(data) > limits.max_upload_bytes:
        raise _too_large(limits.max_upload_bytes)
    return data


async def _stream(request: Request, limit: int) -> AsyncIterator[bytes]:
    said = request.headers.get("content-length", "0")
    if said.isascii() and said.isdigit() and int(said[:19]) > limit:
        raise _too_large(limit)
    came = 0
    async for chunk in request.stream():
        came += len(chunk)
        if came > limit:
            raise _too_large(limit)
        yield chunk


def _limit(request: Request, limits: GateSettings) -> int:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    match kind:
        case "application/json" | "text/json":
            return min(JSON_BYTES, limits.max_upload_bytes * 3 // 2)
        case "application/x-www-form-urlencoded":  # base64, with some of it escaped
            return limits.max_upload_bytes * 3 // 2 + _HEAD
        case "multipart/form-data":
            return limits.max_upload_bytes + JSON_BYTES
    return limits.max_upload_bytes


def _form(data: bytes) -> tuple[tuple[str, str], ...]:
    pairs = data.split(b"&", _PARTS)
    if len(pairs) > _PARTS:
        raise wrong("the form has too many fields", f"Send {_PARTS} at most")
    halves = (pair.partition(b"=") for pair in pairs)
    return tuple((_text(name), _text(value)) for name, _, value in halves)


def _text(data: bytes) -> str:
    return unquote_to_bytes(data.replace(b"+", b" ")).decode("utf-8", "replace")


def _multipart(data: bytes, boundary: str, limits: GateSettings) -> Body:
    if not boundary or not boundary.isascii():
        raise wrong("the multipart body names no boundary", "Send multipart/form-data")
    # Before they are parsed: behind each of them the parser goes byte by byte, in the event loop.
    if data.count(b"\r\n--" + boundary.encode()) > _PARTS:
        raise wrong("the form has too many parts", f"Send {_PARTS} at most")
    file: bytes | None = None
    pairs: list[tuple[str, str]] = []
    for name, is_file, content in _Parts(data, boundary).found:
        if name in {"file", "image"} or (is_file and name not in {"analysis", "input.data"}):
            if file is not None:
                raise wrong("the form has two files", "Send one image at a time")
            file = content
        elif len(content) > (limits.max_upload_bytes * 3 // 2):
            raise _too_large(limits.max_upload_bytes)
        else:
            pairs.append((name, content.decode("utf-8", "replace")))
    if file is not None and len(file) > limits.max_upload_bytes:
        raise _too_large(limits.max_upload_bytes)
    return Body(file=file, pairs=tuple(pairs))


class _Parts:
    """The parts of a multipart body, as python-multipart finds them.

    Attributes:
        found: the name of each part, whether it is sent as a file, and its bytes.
    """

    def __init__(self, data: bytes, boundary: str) -> None:
        self.found: list[tuple[str, bool, bytes]] = []
        self._whole = False
        self._content: list[bytes] = []
        self._header = ["", ""]
        self._disposition = Message()
        try:
            MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._field,
                    "on_header_value": self._value,
                    "on_header_end": self._keep,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._finish,
                },
                max_header_count=_HEADERS,
                max_header_size=_HEAD,
            ).write(data)
        except (ValueError, LookupError):  # the parser's own are ValueErrors; a name's charset
            raise wrong("the multipart body is malformed", "Send multipart/form-data") from None
        if not self._whole:
            raise wrong("the multipart body is cut off", "Send it whole")

    def _begin(self) -> None:
        self._content = []
        self._disposition = Message()

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] = data[start:end].decode("ascii", "replace")

    def _value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] = data[start:end].decode("utf-8", "replace")

    def _keep(self) -> None:
        name, value = self._header
        self._header = ["", ""]
        if name.lower() == "content-disposition":
            self._disposition[name] = value

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def _end(self) -> None:
        # Not the parser's own reader of this header: old clients send a file's name in another
        # character set as ``filename*=``, which it leaves out.
        name = self._disposition.get_param("name", "", "content-disposition")
        named = self._disposition.get_param("filename", None, "content-disposition") is not None
        self.found.append((collapse_rfc2231_value(name or ""), named, b"".join(self._content)))

    def _finish(self) -> None:
        self._whole = True


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _too_large(limit: int) -> Problem:
    return Problem(
        413,
        "too_large",
        f"the request is larger than {limit} bytes",
        "Send less, or raise DAM_DEDUP_GATE__MAX_UPLOAD_BYTES where the gate runs",
    )
