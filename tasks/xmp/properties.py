"""The properties of an XMP packet, one by one, and as texts that can be compared and shown."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from xml.etree.ElementTree import Element

from tasks.xmp.packet import EXIF, RDF, XML, Packet, split_name

#: Attributes of a node that are no properties (XMP specification part 1, 7.4).
SYNTAX = {RDF + name for name in ("about", "ID", "nodeID", "parseType", "datatype", "resource")}
BAG, SEQ, ALT, LI = RDF + "Bag", RDF + "Seq", RDF + "Alt", RDF + "li"
CONTAINERS = {BAG, SEQ, ALT}
#: Nodes that hold a value and are none.
_WRAPPING = {*CONTAINERS, LI, RDF + "Description", RDF + "value"}
#: A text that is longer is shown to this length, with a digest that tells it from others.
_SHOWN = 400
_RATIO = re.compile(r"(-?\d{1,12})/(\d{1,12})")
_PLACE = re.compile(r"(\d{1,3}),(\d{1,2}(?:\.\d+)?)(?:,(\d{1,2}(?:\.\d+)?))?([NSEW])")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.0+)?(.*)")


def every_property(packet: Packet) -> Iterator[Element]:
    """Top-level properties in their order; attributes as the elements they stand for."""
    for node in packet.rdf:
        for name, value in node.attrib.items():
            if name not in SYNTAX and split_name(name)[0] not in ("", XML):
                yield simple(name, value)
        yield from node


def properties(packet: Packet) -> dict[str, Element]:
    """Top-level properties by name; of several of one name the first."""
    found: dict[str, Element] = {}
    for element in every_property(packet):
        found.setdefault(element.tag, element)
    return found


def simple(name: str, text: str | None) -> Element:
    """A property that is a text."""
    element = Element(name)
    element.text = text
    return element


def form_of(element: Element) -> str:
    """``Bag``, ``Seq``, ``Alt``, ``text`` or ``structure``."""
    inner = next((part for part in element if part.tag in CONTAINERS), None)
    if inner is not None:
        plain = all(not len(item) and item.attrib.keys() <= {XML + "lang"} for item in inner)
        return split_name(inner.tag)[1] if plain else "structure"
    named = any(name not in SYNTAX for name in element.attrib if name != XML + "lang")
    return "structure" if len(element) or named else "text"


def items_of(element: Element) -> list[str]:
    """The texts of a list; of a plain text, that text."""
    found = [(item.text or "").strip() for item in element.iter(LI)]
    return [text for text in (found or [(element.text or "").strip()]) if text]


def as_text(element: Element) -> str:
    """A property as a text: equal texts mean the same, whichever program wrote them.

    Lists are joined with ``"; "``; structures are told as ``Name=Kim, Type=Face``, the parts of
    each in alphabetical order. A text over 400 characters that is no list is cut, and a digest of
    all of it added.
    """
    form = form_of(element)
    if form == "structure":
        return _cut("; ".join(_leaves(element)))
    text = "; ".join(canonical(element.tag, item) for item in items_of(element))
    return text if form in ("Bag", "Seq") else _cut(text)


def _cut(text: str) -> str:
    if len(text) <= _SHOWN:
        return text
    mark = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    return f"{text[:_SHOWN]}... ({len(text)} characters, {mark})"


def canonical(name: str, text: str) -> str:
    """One spelling of a value that has several: ratios in lowest terms, positions in degrees."""
    text = unicodedata.normalize("NFC", text.strip())
    if (ratio := _RATIO.fullmatch(text)) and int(ratio[2]):
        value = Fraction(int(ratio[1]), int(ratio[2]))
        return f"{value.numerator}/{value.denominator}"
    if name.startswith(EXIF) and (place := _PLACE.fullmatch(text)):
        degrees = int(place[1]) + float(place[2]) / 60 + float(place[3] or 0) / 3600
        return f"{degrees:.6f} {place[4]}"
    if time := _TIME.fullmatch(text):
        return time[1] + time[3]
    return text


def _leaves(element: Element) -> list[str]:
    """Names and values below an element; one text for each item of a list."""
    parts = sorted(
        f"{split_name(name)[1]}={canonical(name, value)}"
        for name, value in element.attrib.items()
        if name not in SYNTAX and split_name(name)[0] != XML
    )
    if not len(element) and (own := (element.text or "").strip()):
        parts.append(canonical(element.tag, own))
    for child in element:
        inner = _leaves(child)
        if child.tag == LI:
            parts.append(", ".join(inner))
        elif child.tag in _WRAPPING:
            parts += inner
        elif inner:
            plain = not len(child) and not any(key not in SYNTAX for key in child.attrib)
            told = inner[0] if plain else f"({', '.join(inner)})"
            parts.append(f"{split_name(child.tag)[1]}={told}")
    return parts if any(child.tag in CONTAINERS for child in element) else sorted(parts)
