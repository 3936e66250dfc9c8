"""What a sidecar says, read in a decoder process.

A sidecar is strangers' bytes like any picture, so it is parsed where a picture is decoded: within
limits of time and memory, in a process that holds no credentials and may die alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.errors import ImageError, MergeError


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


def read_sidecar_facts(name: str, data: bytes) -> SidecarFacts:
    """Parse a sidecar; for the decoder process.

    Raises:
        ImageError: ``bad_sidecar``, when it cannot be read.
    """
    from tasks.embedding.metadata import read_sidecar
    from tasks.embedding.xmp import parse_xmp

    try:
        found = read_sidecar(name, data)
    except MergeError as error:
        raise ImageError("bad_sidecar", str(error)[:300]) from None
    return SidecarFacts(parse_xmp(found.packet.encode()), found.packet, tuple(found.holds))
