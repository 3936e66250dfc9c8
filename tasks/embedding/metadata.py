"""All that a file says of its picture, as one XMP packet: embedded XMP, EXIF, IPTC-IIM and texts.

What XMP has no property for is named instead, so that a merge can ask about it. Everything here
runs in the decoder processes, on strangers' bytes, in a time that grows with them and no faster;
what is broken or beyond a limit is told, and the rest is read.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from xml.etree.ElementTree import Element

from PIL import Image, IptcImagePlugin

from tasks.embedding.exif_xmp import exif_properties, words
from tasks.embedding.iptc_xmp import iptc_properties
from tasks.errors import MergeError
from tasks.xmp.forms import alt, bag, seq
from tasks.xmp.packet import (
    DC,
    OURS,
    PHOTOSHOP,
    Packet,
    clean,
    description,
    new_packet,
    qualified,
    read_packet,
    write_packet,
)
from tasks.xmp.properties import BAG, LI, as_text, every_property, items_of, properties, simple

#: Bytes of one property, and of all of one file. What is larger is named, not kept: such are depth
#: maps and pictures in base64, which no sidecar is for.
_PROPERTY_BYTES, _ALL_BYTES = 64 * 1024, 512 * 1024
#: Lists in which EXIF, IPTC and XMP of one file are united; else the first of them counts.
_UNITED = {DC + "subject", PHOTOSHOP + "SupplementalCategories", OURS + "Text"}
#: Adobe, XMP specification part 3, 1.1.3.1: a JPEG's packet beyond 64 kB, in parts.
_EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
_EXTENDED_BYTES = 4 * 1024**2
#: Photoshop's image resources (Adobe, "Photoshop File Formats"): IPTC and XMP.
_IPTC_RESOURCE, _XMP_RESOURCE = 1028, 1060
#: Google's and Samsung's marks of a photo with a video behind it, and how such a video begins.
_MOTION = (b"MotionPhoto", b"MicroVideo")
_VIDEOS = (b"MotionPhoto_Data", b"ftypmp4", b"ftypisom", b"ftypqt  ")
#: Keys of Pillow's ``info`` that are texts of a PNG.
_PNG_TEXTS = {
    "Title": DC + "title",
    "Description": DC + "description",
    "Copyright": DC + "rights",
    "Author": DC + "creator",
}
_NOT_TOLD = {"Software", "XML:com.adobe.xmp", "date:create", "date:modify", "date:timestamp"}
#: Comments that encoders leave about themselves.
_ENCODERS = ("CREATOR: gd-jpeg", "Lavc", "Optimized by", "Compressed by")
_MOST_NAMES = 8
#: How a block is told that is broken, hostile or beyond a limit.
UNREADABLE = "that cannot be read"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says of its picture.

    Attributes:
        packet: an XMP packet; empty where it says nothing.
        holds: what it holds that no property says, in words.
    """

    packet: str = ""
    holds: tuple[str, ...] = ()


def read_metadata(image: Image.Image, data: bytes, xmp: bytes) -> Metadata:
    """Everything that an image file says.

    Where two blocks say different things, XMP counts before EXIF and EXIF before IPTC-IIM, and the
    other is told; keywords are united (Metadata Working Group, guidelines 2.0, 5).

    Args:
        image: opened; of a PNG the pixels are loaded, for texts may follow them.
        data: the whole file.
        xmp: its embedded packet, or nothing.
    """
    try:
        return _read(image, data, xmp)
    except Exception as error:  # whatever hostile bytes lead to, the picture is not lost
        return Metadata("", (f"metadata {UNREADABLE} ({type(error).__name__})",))


def _read(image: Image.Image, data: bytes, xmp: bytes) -> Metadata:
    holds: list[str] = []
    packet = _embedded(image, xmp, holds)
    exif, more = exif_properties(image)
    holds += more
    iptc, more = _iptc(image)
    holds += more
    for whose, found in (("EXIF", exif), ("IPTC", iptc), ("text", _texts(image))):
        _add(packet, found, whose, holds)
    if any(mark in xmp for mark in _MOTION) or _has_video(image, data):
        holds.append("a video")
    at = data.find(b"jumd")
    if at >= 0 and b"c2pa" in data[at : at + 64]:
        holds.append("content credentials (C2PA)")
    return _finished(packet, holds)


def read_sidecar(name: str, data: bytes) -> Metadata:
    """What a sidecar says: an XMP file, or a camera's thumbnail (``.thm``, a JPEG).

    Raises:
        MergeError: when it is neither, is broken, or is beyond a limit.
    """
    if not name.lower().endswith(".thm"):
        return _finished(read_packet(data, "the sidecar"), [], whole=True)
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            found = image.info.get("xmp", b"")
            return read_metadata(image, data, found if isinstance(found, bytes) else b"")
    except Exception as error:  # whatever hostile bytes lead Pillow to
        raise MergeError(f"the sidecar is no thumbnail: {type(error).__name__}") from error


# ---- blocks ----------------------------------------------------------------------------------


def _embedded(image: Image.Image, xmp: bytes, holds: list[str]) -> Packet:
    resources = _resources(image)
    xmp = xmp or resources.get(_XMP_RESOURCE, b"")
    packet = new_packet()
    for whose, block in (("XMP", xmp), ("extended XMP", _extended(image))):
        if not block.strip(b"\0 \t\r\n"):
            continue
        try:
            read = read_packet(block, f"its {whose}")
        except MergeError as error:
            holds.append(f"{whose} {UNREADABLE} ({str(error)[:80]})")
            continue
        if whose == "XMP":
            packet = read
        else:
            _add(packet, every_property(read), whose, holds)
    return packet


def _extended(image: Image.Image) -> bytes:
    """The parts of a JPEG's further packet, joined: GUID, full length and offset before each."""
    parts: dict[int, bytes] = {}
    total = 0
    for name, body in getattr(image, "applist", ()):
        if name == "APP1" and body.startswith(_EXTENDED):
            at = len(_EXTENDED) + 32
            parts[int.from_bytes(body[at + 4 : at + 8], "big")] = body[at + 8 :]
            total += len(body)
            if total > _EXTENDED_BYTES:
                return b"<too large"
    return b"".join(parts[offset] for offset in sorted(parts))


def _resources(image: Image.Image) -> dict[int, bytes]:
    """Photoshop's image resources by number, of a PSD."""
    with contextlib.suppress(Exception):
        return {
            int(one[1]): bytes(one[3]) for one in getattr(image, "resources", ()) if len(one) > 3
        }
    return {}


def _iptc(image: Image.Image) -> tuple[list[Element], list[str]]:
    with contextlib.suppress(Exception):
        records = IptcImagePlugin.getiptcinfo(image)  # type: ignore[arg-type]
        if records:
            return iptc_properties(records)
    return [], []


def _texts(image: Image.Image) -> Iterator[Element]:
    """Texts of a PNG, and the comment of a JPEG or GIF."""
    info = dict(image.info)
    others = []
    for name, value in info.items():
        if image.format != "PNG" or not isinstance(name, str) or not isinstance(value, str):
            continue
        text = value.strip()
        if not text or name in _NOT_TOLD or name.startswith("Raw profile type"):
            continue
        if name == "Author":
            yield seq(_PNG_TEXTS[name], [clean(text)])
        elif name in _PNG_TEXTS:
            yield alt(_PNG_TEXTS[name], clean(text))
        else:
            others.append(clean(f"{name}: {text}"))
    comment = words(info.get("comment"))
    if comment and not comment.startswith(_ENCODERS):
        yield simple(OURS + "Comment", clean(comment))
    if others:
        yield bag(OURS + "Text", islice(others, 200))


def _has_video(image: Image.Image, data: bytes) -> bool:
    """Whether a video follows a picture's own bytes."""
    return image.format in ("JPEG", "MPO") and any(mark in data for mark in _VIDEOS)


# ---- one packet ------------------------------------------------------------------------------


def _add(packet: Packet, found: Iterable[Element], whose: str, holds: list[str]) -> None:
    """Add what a packet lacks; unite keywords; tell what says something else."""
    has = properties(packet)
    node = description(packet)
    differ = []
    for element in found:
        known = has.get(element.tag)
        if known is None:
            node.append(element)
            has[element.tag] = element
        elif element.tag in _UNITED:
            _unite(packet, node, has, element)
        elif not _agree(as_text(known), as_text(element)):
            differ.append(f"{qualified(element.tag)} {as_text(element)[:80]!r}")
    if differ:
        more = f" and {len(differ) - _MOST_NAMES} more" if len(differ) > _MOST_NAMES else ""
        holds.append(f"another {', '.join(differ[:_MOST_NAMES])}{more} in its {whose}")


def _unite(packet: Packet, node: Element, has: dict[str, Element], element: Element) -> None:
    known = has[element.tag]
    have = {text.casefold() for text in items_of(known)}
    new = [text for text in items_of(element) if text.casefold() not in have]
    inner = next((part for part in known if part.tag == BAG), None)
    if not new:
        return
    if inner is not None:
        inner.extend(simple(LI, text) for text in new)
        return
    whole = bag(element.tag, [*items_of(known), *new])
    for one in packet.rdf:
        one.attrib.pop(element.tag, None)
        for child in [child for child in one if child.tag == element.tag]:
            one.remove(child)
    node.append(whole)
    has[element.tag] = whole


def _agree(one: str, other: str) -> bool:
    """Whether two blocks of a file say the same; older ones cut texts, and know no time zones."""
    one, other = one.casefold(), other.casefold()
    return one == other or (len(other) >= 16 and one.startswith(other))


def _finished(packet: Packet, holds: list[str], *, whole: bool = False) -> Metadata:
    """The packet as text. Of an image, properties beyond a limit are named and left out."""
    spent, large = 0, []
    for node in () if whole else packet.rdf:
        for child in list(node):
            size = sum(
                len(part.text or "") + sum(map(len, part.attrib.values())) + 40
                for part in child.iter()
            )
            spent += size
            if size > _PROPERTY_BYTES or spent > _ALL_BYTES:
                node.remove(child)
                large.append(f"{qualified(child.tag)} ({size} bytes)")
                spent -= size
        for name, value in list(node.attrib.items()):
            spent += len(value)
            if len(value) > _PROPERTY_BYTES or spent > _ALL_BYTES:
                del node.attrib[name]
                large.append(f"{qualified(name)} ({len(value)} bytes)")
                spent -= len(value)
    if large:
        more = f" and {len(large) - _MOST_NAMES} more" if len(large) > _MOST_NAMES else ""
        holds.append(f"XMP too large to take over: {', '.join(large[:_MOST_NAMES])}{more}")
    for element in packet.rdf.iter():
        if element.text:
            element.text = clean(element.text)
    empty = not any(True for _ in every_property(packet))
    try:
        text = "" if empty else write_packet(packet).decode()
    except MergeError as error:
        return Metadata("", (*holds, f"XMP that cannot be written: {error}"))
    return Metadata(text, tuple(holds))
