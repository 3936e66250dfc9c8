"""What a decoder process is asked about a sidecar, and what it answers.

A sidecar is strangers' bytes like any picture, so it is parsed where a picture is decoded: within
limits of time and memory, in a process that holds no credentials and may die alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tasks.errors import ImageError, MergeError

#: How a request begins. No picture format begins so.
_MARK = b"dam-dedup sidecar\n"


@dataclass(frozen=True, slots=True)
class SidecarFacts:
    """What a sidecar says.

    Attributes:
        fields: the fields of :func:`tasks.embedding.xmp.parse_xmp`.
        packet: all of it, as an XMP packet that our own writer wrote.
        holds: what it holds that no property says.
    """

    fields: dict[str, str] = field(default_factory=dict)
    packet: str = ""
    holds: tuple[str, ...] = ()


def sidecar_request(name: str, data: bytes) -> bytes:
    """The request for a sidecar of this name."""
    return _MARK + json.dumps(name).encode() + b"\n" + data


def is_sidecar_request(data: bytes) -> bool:
    """Whether a request is for a sidecar, and not for a picture."""
    return data.startswith(_MARK)


def answer_sidecar(request: bytes) -> bytes:
    """The answer, in the decoder process.

    Raises:
        ImageError: when the sidecar cannot be read; with the reason.
    """
    from tasks.embedding.metadata import read_sidecar
    from tasks.embedding.xmp import parse_xmp

    name, _, data = request.removeprefix(_MARK).partition(b"\n")
    try:
        found = read_sidecar(json.loads(name), data)
    except MergeError as error:
        raise ImageError("bad_sidecar", str(error)[:300]) from None
    facts = {"fields": parse_xmp(found.packet.encode()), "packet": found.packet}
    return json.dumps(facts | {"holds": found.holds}).encode()


def unpack_sidecar(answer: bytes) -> SidecarFacts:
    """What the process answered.

    Raises:
        ValueError, KeyError, TypeError: when it is no such answer.
        ImageError: with the reason, when it says that the sidecar cannot be read.
    """
    if not answer.startswith(b"{"):  # a refusal is packed as one of a picture
        refusal = json.loads(answer[answer.index(b"{") :])
        raise ImageError(str(refusal["reason"]), str(refusal["message"]))
    facts = json.loads(answer)
    fields = {str(name): str(text) for name, text in facts["fields"].items()}
    return SidecarFacts(fields, str(facts["packet"]), tuple(map(str, facts["holds"])))
