"""What a file or a sidecar says, as a merge compares and unites it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.errors import MergeError
from tasks.merging.rules.xmp_fields import fields_of, list_names
from tasks.xmp.packet import description, read_packet, write_packet
from tasks.xmp.properties import properties


@dataclass(frozen=True, slots=True)
class Voice:
    """What one packet says.

    Attributes:
        fields: by the names of a merge: ``title``, ``photoshop:City``.
        lists: names of those that are lists without an order.
    """

    fields: dict[str, str] = field(default_factory=dict)
    lists: frozenset[str] = frozenset()


def said_by(packet: str) -> Voice:
    """What a packet of a decoder process says; of one that cannot be read, nothing."""
    if not packet:
        return Voice()
    try:
        found = properties(read_packet(packet.encode(), "what it says"))
    except MergeError:
        return Voice()
    return Voice(fields_of(found), list_names(found))


def one_packet(packets: Sequence[str]) -> str:
    """Several packets as one; of a property that two have, the first's."""
    found = [packet for packet in packets if packet]
    if len(found) < 2:
        return "".join(found)
    whole = read_packet(found[0].encode(), "what it says")
    for other in found[1:]:
        has = properties(whole)
        said = properties(read_packet(other.encode(), "what it says"))
        if lacking := [element for name, element in said.items() if name not in has]:
            description(whole).extend(lacking)
    return write_packet(whole).decode()
