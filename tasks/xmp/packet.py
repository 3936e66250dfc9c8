"""XMP packets as XML: read with care, and written the same way every time.

Reading takes a time that grows with the bytes and no faster, and has limits of size, depth,
elements and namespaces: a packet beyond one of them is refused as a whole.

The standard library's writer renames prefixes, or keeps them in a table that all of a process
shares; this one keeps the prefixes of the packet it was given.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, TreeBuilder

from defusedxml.ElementTree import DefusedXMLParser

from tasks.errors import MergeError

#: Larger sidecars are no XMP, and our reader would not look into them.
MAX_BYTES = 4 * 1024**2
#: Elements inside one another; XMP has some ten.
_MAX_DEPTH = 100
#: Elements and namespaces of one packet. The largest that photo editors write (masks, a long
#: history) have some 20,000 and 30; 4 MB could hold a million of either.
_MAX_ELEMENTS, _MAX_SPACES = 100_000, 1000
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: Characters that XML 1.0 cannot hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_IN_TEXT = str.maketrans(_ESCAPES)
_IN_QUOTES = str.maketrans(_ESCAPES | {'"': "&quot;", "\t": "&#9;", "\n": "&#10;"})
#: XMP specification part 1, 7.3: the packet's header and trailer.
_BEGIN = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_END = '\n<?xpacket end="w"?>\n'

XML = "{http://www.w3.org/XML/1998/namespace}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
META = "{adobe:ns:meta/}"
DC = "{http://purl.org/dc/elements/1.1/}"
XMP = "{http://ns.adobe.com/xap/1.0/}"
XMP_MM = "{http://ns.adobe.com/xap/1.0/mm/}"
XMP_RIGHTS = "{http://ns.adobe.com/xap/1.0/rights/}"
ST_REF = "{http://ns.adobe.com/xap/1.0/sType/ResourceRef#}"
PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
TIFF = "{http://ns.adobe.com/tiff/1.0/}"
EXIF = "{http://ns.adobe.com/exif/1.0/}"
EXIF_EX = "{http://cipa.jp/exif/1.0/}"
IPTC_CORE = "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}"
#: Our own: what is kept of files that were merged away, and texts that no standard has a place for.
OURS = "{urn:dam-dedup:merged:1}"
CRS = "{http://ns.adobe.com/camera-raw-settings/1.0/}"

#: Prefixes as the XMP specification and the standards of these namespaces give them.
PREFIXES = {
    RDF: "rdf",
    META: "x",
    DC: "dc",
    XMP: "xmp",
    XMP_MM: "xmpMM",
    XMP_RIGHTS: "xmpRights",
    ST_REF: "stRef",
    PHOTOSHOP: "photoshop",
    TIFF: "tiff",
    EXIF: "exif",
    EXIF_EX: "exifEX",
    CRS: "crs",
    OURS: "merged",
    IPTC_CORE: "Iptc4xmpCore",
    "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}": "Iptc4xmpExt",
    "{http://ns.adobe.com/exif/1.0/aux/}": "aux",
    "{http://ns.adobe.com/lightroom/1.0/}": "lr",
    "{http://ns.useplus.org/ldf/xmp/1.0/}": "plus",
    "{http://www.metadataworkinggroup.com/schemas/regions/}": "mwg-rs",
    "{http://www.metadataworkinggroup.com/schemas/keywords/}": "mwg-kw",
    "{http://www.digikam.org/ns/1.0/}": "digiKam",
    "{http://darktable.sf.net/}": "darktable",
    "{http://ns.microsoft.com/photo/1.0/}": "MicrosoftPhoto",
    "{http://ns.microsoft.com/photo/1.2/}": "MP",
    "{http://ns.acdsee.com/iptc/1.0/}": "acdsee",
    "{http://ns.google.com/photos/1.0/camera/}": "GCamera",
}


@dataclass(slots=True)
class Packet:
    """An XMP packet that may be changed.

    Attributes:
        root: ``x:xmpmeta``, or what the packet had instead.
        rdf: the ``rdf:RDF`` inside.
        prefixes: of the packet, by namespace in braces.
        wanted: prefixes of namespaces that may be added to it, as others call them.
    """

    root: Element
    rdf: Element
    prefixes: dict[str, str] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)


def new_packet() -> Packet:
    """A packet that says nothing."""
    root, rdf = Element(META + "xmpmeta"), Element(RDF + "RDF")
    root.append(rdf)
    rdf.append(Element(RDF + "Description", {RDF + "about": ""}))
    return Packet(root, rdf)


def read_packet(data: bytes, whose: str) -> Packet:
    """Read the bytes of a sidecar.

    Args:
        data: the bytes, UTF-8 or UTF-16.
        whose: what the message calls it, such as ``the keeper's sidecar``.

    Raises:
        MergeError: when they are no XMP, or hostile.
    """
    if len(data) > MAX_BYTES:
        raise MergeError(f"{whose} is not XMP: it is larger than {MAX_BYTES} bytes")
    builder = _Builder()
    try:
        text = data.decode("utf-16").strip("\0 \t\r\n") if data[:2] in _UTF_16 else None
        parser = DefusedXMLParser(target=builder, forbid_dtd=True)
        parser.feed(data.strip(b"\0 \t\r\n") if text is None else text)
        root = parser.close()
    except Exception as error:
        # Not only ParseError: entities, bad encodings. What cannot be read is not written over.
        raise MergeError(f"{whose} is not XMP: {error}; mend it or remove it") from error
    rdf = next(root.iter(RDF + "RDF"), None)
    if rdf is None:
        raise MergeError(f"{whose} is not XMP: it has no rdf:RDF; mend it or remove it")
    if rdf is root:
        root = Element(META + "xmpmeta")
        root.append(rdf)
    return Packet(root, rdf, builder.prefixes)


def write_packet(packet: Packet) -> bytes:
    """The packet in UTF-8, in its wrapper; the same packet gives the same bytes.

    Raises:
        MergeError: when it became larger than a sidecar may be.
    """
    _lay_out(packet)
    prefixes = _all_prefixes(packet)
    declared = "".join(
        f' xmlns:{prefix}="{space[1:-1].translate(_IN_QUOTES)}"'
        for prefix, space in sorted((prefix, space) for space, prefix in prefixes.items())
    )
    body = "".join(_written(packet.root, prefixes, declared))
    data = f"{_BEGIN}{body}{_END}".encode()
    if len(data) > MAX_BYTES:
        raise MergeError(f"the merged sidecar would be larger than {MAX_BYTES} bytes")
    return data


def description(packet: Packet) -> Element:
    """The last node of the packet, a new one where there is none: what is added goes there."""
    nodes = list(packet.rdf)
    if nodes and nodes[-1].tag == RDF + "Description":
        return nodes[-1]
    about = (node.get(RDF + "about") or node.get("about") for node in nodes)
    node = Element(RDF + "Description", {RDF + "about": next(filter(None, about), "")})
    packet.rdf.append(node)
    return node


def clean(text: str) -> str:
    """A text without the characters that XML cannot hold."""
    return _FORBIDDEN.sub("", text)


def qualified(name: str) -> str:
    """A property's name as people write it, ``photoshop:City``; of unknown namespaces in full."""
    space, local = split_name(name)
    return f"{PREFIXES[space]}:{local}" if space in PREFIXES else name


def split_name(name: str) -> tuple[str, str]:
    """Namespace, in braces or empty, and local name."""
    space, brace, local = name.rpartition("}")
    return space + brace, local


class _Builder(TreeBuilder):
    """Builds elements, remembers prefixes, and refuses what is nested to do harm."""

    def __init__(self) -> None:
        super().__init__()
        self.prefixes: dict[str, str] = {}
        self._taken: set[str] = set()
        self._depth = self._elements = 0

    def start_ns(self, prefix: str | None, uri: str | None) -> None:
        space = f"{{{uri}}}"
        if not (prefix and uri) or space == XML or prefix in self._taken:
            return
        if len(self._taken) >= _MAX_SPACES:
            raise ValueError(f"it names more than {_MAX_SPACES} namespaces")
        if space not in self.prefixes:
            self.prefixes[space] = prefix
            self._taken.add(prefix)

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        self._elements += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError(f"elements are nested more than {_MAX_DEPTH} deep")
        if self._elements > _MAX_ELEMENTS:
            raise ValueError(f"it has more than {_MAX_ELEMENTS} elements")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def _all_prefixes(packet: Packet) -> dict[str, str]:
    """A prefix for every namespace of the packet: its own, else the usual one, else a new one."""
    found = dict(packet.prefixes)
    taken = set(found.values())
    number = 0
    for space in dict.fromkeys(_spaces(packet.root)):
        if space in found or space in ("", XML):
            continue
        prefix = PREFIXES.get(space) or packet.wanted.get(space, "")
        while not prefix or prefix in taken:
            number += 1
            prefix = f"ns{number}"
        found[space] = prefix
        taken.add(prefix)
    return found


def _spaces(root: Element) -> Iterator[str]:
    for element in root.iter():
        for name in (element.tag, *element.attrib):
            yield split_name(name)[0]


def _lay_out(packet: Packet) -> None:
    """One property a line. Only space that has no meaning is touched."""
    _indent(packet.rdf, "\n  ", "\n ")
    for node in packet.rdf:
        _indent(node, "\n   ", "\n  ")
    if len(packet.root) == 1:
        _indent(packet.root, "\n ", "\n")


def _indent(parent: Element, inner: str, outer: str) -> None:
    if not (parent.text or "").strip():
        parent.text = inner if len(parent) else None
    for number, child in enumerate(parent, 1):
        if not (child.tail or "").strip():
            child.tail = inner if number < len(parent) else outer


def _written(element: Element, prefixes: dict[str, str], declared: str = "") -> Iterator[str]:
    name = _named(element.tag, prefixes)
    attributes = "".join(
        f' {_named(key, prefixes)}="{value.translate(_IN_QUOTES)}"'
        for key, value in element.attrib.items()
    )
    inside = (element.text or "").translate(_IN_TEXT)
    if not inside and not len(element):
        yield f"<{name}{declared}{attributes}/>"
        return
    yield f"<{name}{declared}{attributes}>{inside}"
    for child in element:
        yield from _written(child, prefixes)
        yield (child.tail or "").translate(_IN_TEXT)
    yield f"</{name}>"


def _named(name: str, prefixes: dict[str, str]) -> str:
    space, local = split_name(name)
    if not space:
        return local
    return f"{'xml' if space == XML else prefixes[space]}:{local}"
