"""What a decoder process is asked and what it answers: bytes on a pipe, never a pickle.

A child that hostile bytes took over must not run code in its parent, which holds the credentials.
So an answer is a JSON head and a few blobs, and what the parent makes of them it checks.

A request is its kind (one byte), the length of its body (8 bytes) and the body; what kind it is, is
said by the parent alone and never read from the file that a stranger sent. An answer is its length
(8 bytes), the length of the head and the number of blobs (4 bytes each), the length of each blob
(8 bytes), the head and the blobs.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Sequence
from dataclasses import fields
from enum import IntEnum
from typing import IO, Any

import numpy as np

from tasks.embedding.sidecar_facts import SidecarFacts
from tasks.errors import ImageError
from tasks.records import Picture

LENGTH = struct.Struct(">Q")
_REQUEST = struct.Struct(">BQ")
_HEAD = struct.Struct(">II")
_SIDE = struct.Struct(">I")
#: Of two files to compare: how many numbers come with them, and the bytes of the left one.
_PAIR = struct.Struct(">IQ")
_BLOBS = ("thumbnail", "features", "pixels")
_MOST_BLOBS = 8


class Kind(IntEnum):
    """What is asked."""

    START = 0
    READ = 1
    RENDER = 2
    COMPARE = 3
    SIDECAR = 4


#: What an answer that cannot be understood raises.
UNREADABLE = (ValueError, KeyError, TypeError, IndexError, struct.error)


# ---- requests --------------------------------------------------------------------------------


def pack_request(kind: Kind, body: bytes) -> tuple[bytes, bytes]:
    """The head of a request, and its body, which is not copied."""
    return _REQUEST.pack(kind, len(body)), body


def take_request(pipe: IO[bytes]) -> tuple[Kind, bytes] | None:
    """The next request; None when the pipe has ended."""
    head = pipe.read(_REQUEST.size)
    if len(head) != _REQUEST.size:
        return None
    kind, size = _REQUEST.unpack(head)
    return Kind(kind), pipe.read(size)


def render_request(data: bytes, side: int) -> bytes:
    """A file, and the longest side of the picture to draw of it."""
    return _SIDE.pack(side) + data


def take_render(body: bytes) -> tuple[bytes, int]:
    """What :func:`render_request` packed."""
    return body[_SIDE.size :], int(_SIDE.unpack_from(body)[0])


def compare_request(left: bytes, right: bytes, numbers: Sequence[float]) -> bytes:
    """Two files, and the numbers for the function that compares them."""
    head = _PAIR.pack(len(numbers), len(left)) + struct.pack(f">{len(numbers)}d", *numbers)
    return b"".join((head, left, right))


def take_compare(body: bytes) -> tuple[bytes, bytes, tuple[float, ...]]:
    """What :func:`compare_request` packed."""
    count, size = _PAIR.unpack_from(body)
    numbers = struct.unpack_from(f">{count}d", body, _PAIR.size)
    at = _PAIR.size + 8 * count
    return body[at : at + size], body[at + size :], numbers


def sidecar_request(name: str, data: bytes) -> bytes:
    """A sidecar's name, which tells what it is, and its bytes."""
    return json.dumps(name).encode() + b"\n" + data


def take_sidecar(body: bytes) -> tuple[str, bytes]:
    """What :func:`sidecar_request` packed."""
    name, _, data = body.partition(b"\n")
    return str(json.loads(name)), data


# ---- answers ---------------------------------------------------------------------------------


def send_answer(pipe: IO[bytes], answer: bytes) -> None:
    """An answer with its length, in one write; nothing when nobody reads any more."""
    with contextlib.suppress(OSError, ValueError):
        pipe.write(LENGTH.pack(len(answer)) + answer)
        pipe.flush()


def pack_answer(head: dict[str, Any], *blobs: bytes) -> bytes:
    """An answer, without its length."""
    text = json.dumps(head).encode()
    sizes = b"".join(LENGTH.pack(len(blob)) for blob in blobs)
    return b"".join((_HEAD.pack(len(text), len(blobs)), sizes, text, *blobs))


def pack_error(reason: str, message: str) -> bytes:
    """The answer that there is none."""
    return pack_answer({"reason": reason, "message": message})


def pack_picture(picture: Picture) -> bytes:
    """A reading."""
    facts = {f.name: getattr(picture, f.name) for f in fields(picture) if f.name not in _BLOBS}
    return pack_answer(facts, picture.thumbnail, picture.features, picture.pixels.tobytes())


def pack_sidecar(facts: SidecarFacts) -> bytes:
    """What a sidecar says."""
    return pack_answer({"fields": facts.fields, "packet": facts.packet, "holds": facts.holds})


def _unpack(answer: bytes) -> tuple[dict[str, Any], list[memoryview]]:
    """The head and the blobs, which are parts of the answer and no copies.

    Raises:
        ImageError: with the reason, when the answer is that there is none.
        One of UNREADABLE: when it is no answer.
    """
    length, count = _HEAD.unpack_from(answer)
    if count > _MOST_BLOBS:
        raise ValueError("too many parts")
    sizes = [LENGTH.unpack_from(answer, _HEAD.size + 8 * number)[0] for number in range(count)]
    at = _HEAD.size + 8 * count
    head = json.loads(answer[at : at + length])
    at += length
    if at + sum(sizes) != len(answer):
        raise ValueError("parts of another length")
    if "reason" in head:
        raise ImageError(str(head["reason"]), str(head["message"]))
    blobs, view = [], memoryview(answer)
    for size in sizes:
        blobs.append(view[at : at + size])
        at += size
    return head, blobs


def unpack_picture(answer: bytes, side: int) -> Picture:
    """A reading, whose pixels are (side, side, 3)."""
    facts, blobs = _unpack(answer)
    thumbnail, features, flat = blobs
    pixels = np.frombuffer(flat, np.uint8).reshape(side, side, 3)
    facts["flags"] = tuple(facts["flags"])
    return Picture(**facts, thumbnail=bytes(thumbnail), features=bytes(features), pixels=pixels)


def unpack_jpeg(answer: bytes) -> bytes:
    """A picture that was drawn."""
    (part,) = _unpack(answer)[1]
    jpeg = bytes(part)
    if not jpeg.startswith(b"\xff\xd8\xff"):
        raise ValueError("no JPEG")
    return jpeg


def unpack_found(answer: bytes) -> dict[str, Any]:
    """What the function that compares answered."""
    return dict(_unpack(answer)[0]["found"])


def unpack_sidecar(answer: bytes) -> SidecarFacts:
    """What a sidecar says."""
    facts, _ = _unpack(answer)
    said = {str(name): str(text) for name, text in facts["fields"].items()}
    return SidecarFacts(said, str(facts["packet"]), tuple(map(str, facts["holds"])))
