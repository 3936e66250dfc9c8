"""Writing XMP sidecars: what the duplicates' say goes into the keeper's, and nothing goes out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from xml.etree.ElementTree import Element

from tasks.errors import MergeError
from tasks.merging.rules.metadata import fold
from tasks.merging.rules.xmp_packet import (
    DC,
    PHOTOSHOP,
    RDF,
    ST_REF,
    XML,
    XMP,
    XMP_MM,
    XMP_RIGHTS,
    Packet,
    clean,
    new_packet,
    read_packet,
    split_name,
    write_packet,
)

#: Attributes of a node that are no properties.
_SYNTAX = {RDF + name for name in ("about", "ID", "nodeID", "parseType", "datatype", "resource")}
_CONTAINERS = {RDF + "Bag", RDF + "Seq", RDF + "Alt"}
_ALT, _SEQ, _BAG, _TEXT = "Alt", "Seq", "Bag", ""
#: Our reader's name of a field to its property and form (XMP specification, parts 1 and 2).
#: Identities are not among them: they are never merged.
_PROPERTIES = {
    "title": (DC + "title", _ALT),
    "description": (DC + "description", _ALT),
    "rights": (DC + "rights", _ALT),
    "usage_terms": (XMP_RIGHTS + "UsageTerms", _ALT),
    "creator": (DC + "creator", _SEQ),
    "keywords": (DC + "subject", _BAG),
    "rating": (XMP + "Rating", _TEXT),
    "label": (XMP + "Label", _TEXT),
    "create_date": (XMP + "CreateDate", _TEXT),
    "creator_tool": (XMP + "CreatorTool", _TEXT),
    "credit": (PHOTOSHOP + "Credit", _TEXT),
}
_SUBJECT = DC + "subject"
_TIFF, _EXIF = "{http://ns.adobe.com/tiff/1.0/}", "{http://ns.adobe.com/exif/1.0/}"
#: Identities, and the settings by which a raw converter develops one file.
_OF_ONE_FILE = {XMP_MM, "{http://ns.adobe.com/camera-raw-settings/1.0/}"}
#: Properties that describe a file and not its picture: a keeper with a duplicate's orientation
#: would be shown lying on its side.
_DESCRIBES_FILE = {
    DC + "format",
    *(XMP + name for name in ("MetadataDate", "ModifyDate", "Thumbnails")),
    *(
        PHOTOSHOP + name
        for name in ("ColorMode", "ICCProfile", "SidecarForExtension", "DocumentAncestors")
    ),
    *(
        _TIFF + name
        for name in (
            "Orientation",
            "ImageWidth",
            "ImageLength",
            "BitsPerSample",
            "Compression",
            "PhotometricInterpretation",
            "SamplesPerPixel",
            "PlanarConfiguration",
            "YCbCrSubSampling",
            "YCbCrPositioning",
            "XResolution",
            "YResolution",
            "ResolutionUnit",
            "NativeDigest",
        )
    ),
    *(
        _EXIF + name
        for name in (
            "PixelXDimension",
            "PixelYDimension",
            "ColorSpace",
            "ComponentsConfiguration",
            "CompressedBitsPerPixel",
            "NativeDigest",
        )
    ),
    "{http://ns.adobe.com/xmp/note/}HasExtendedXMP",
}


def merge_sidecar(
    keeper: bytes | None,
    duplicates: Sequence[bytes],
    values: Mapping[str, str],
    *,
    withheld: Collection[str] = (),
) -> bytes:
    """The keeper's sidecar with what the duplicates' sidecars and the merged fields add.

    All of the keeper's properties stay, unknown ones too, except where ``values`` sets one.
    Properties it lacks come from the duplicates, the first that has one first; keywords are
    united and never removed. Identities and what describes a file (its size, its orientation, its
    raw development) stay where they are. Where nothing is added, the keeper's bytes come back.

    Args:
        keeper: bytes of its sidecar, if it has one.
        duplicates: bytes of theirs.
        values: fields to set, by the name our reader gives them; characters that XML cannot hold
            are dropped, and empty values set nothing.
        withheld: fields that are not to be taken from the duplicates' sidecars.

    Raises:
        MergeError: when a sidecar is not XMP, or the merged one would be too large.
        ValueError: when ``values`` names a field that is not merged.
    """
    unknown = sorted(values.keys() - _PROPERTIES.keys())
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no XMP field that a merge sets")
    packet, before = _opened(keeper, "the keeper's sidecar")
    read = [
        read_packet(data, f"the sidecar of duplicate {number}")
        for number, data in enumerate(duplicates, 1)
    ]
    others = [_properties(other) for other in read]
    wanted = {name: clean(text).strip() for name, text in values.items()}
    _set_fields(packet, {name: text for name, text in wanted.items() if text}, others)
    _add_lacking(packet, others, {_local(name) for name in withheld})
    if "keywords" not in withheld:
        _add_keywords(packet, [item for other in read for item in _listed(other, _SUBJECT)])
    return _unless_same(keeper, before, packet)


def link_sidecar(existing: bytes | None, derived_from: str, original_document_id: str) -> bytes:
    """A duplicate's sidecar that names its keeper; all else in it stays.

    Args:
        existing: bytes of its sidecar, if it has one.
        derived_from: key of the keeper.
        original_document_id: of the keeper.

    Raises:
        MergeError: when the sidecar is not XMP, or XML cannot hold a key.
    """
    for text in (derived_from, original_document_id):
        if clean(text) != text:
            raise MergeError(f"{text!r} has characters that XMP cannot hold: no link is written")
    packet, before = _opened(existing, "the sidecar")
    source = Element(XMP_MM + "DerivedFrom", {RDF + "parseType": "Resource"})
    source.append(_simple(ST_REF + "filePath", derived_from))
    source.append(_simple(ST_REF + "originalDocumentID", original_document_id))
    _set_first(packet, [source, _simple(XMP_MM + "OriginalDocumentID", original_document_id)])
    return _unless_same(existing, before, packet)


def _opened(data: bytes | None, whose: str) -> tuple[Packet, bytes]:
    """A packet, and how it would be written unchanged."""
    packet = new_packet() if data is None else read_packet(data, whose)
    return packet, write_packet(packet)


def _unless_same(data: bytes | None, before: bytes, packet: Packet) -> bytes:
    after = write_packet(packet)
    return data if data is not None and after == before else after


# ---- reading ---------------------------------------------------------------------------------


def _properties(packet: Packet) -> dict[str, Element]:
    """Top-level properties by name, in their order; attributes as the elements they stand for."""
    found: dict[str, Element] = {}
    for element in _every(packet):
        found.setdefault(element.tag, element)
    return found


def _every(packet: Packet) -> Iterator[Element]:
    for node in packet.rdf:
        for name, value in node.attrib.items():
            if name not in _SYNTAX and split_name(name)[0] not in ("", XML):
                yield _simple(name, value)
        yield from node


def _listed(packet: Packet, name: str) -> list[Element]:
    """Items of a list, wherever its parts are; a plain text counts as its only item."""
    found: list[Element] = []
    for element in _every(packet):
        if element.tag == name:
            inner = next((part for part in element if part.tag in _CONTAINERS), None)
            if inner is None and len(element):
                raise MergeError(f"{split_name(name)[1]} of a sidecar is no list: mend it")
            plain = [_simple(RDF + "li", element.text)] if (element.text or "").strip() else []
            found += plain if inner is None else list(inner)
    return found


def _word(item: Element) -> str:
    return "".join(item.itertext()).strip()


def _shown(element: Element) -> str:
    """The property as our reader shows it."""
    items = [(item.text or "").strip() for item in element.iter(RDF + "li")]
    return "; ".join(filter(None, items)) or (element.text or "").strip()


def _reading(packet: Packet, local: str) -> str:
    """What our reader finds in the whole packet: it goes by local names, and the first one."""
    for element in packet.root.iter():
        for name, value in element.attrib.items():
            if value and split_name(name)[1] == local:
                return value
        if split_name(element.tag)[1] == local and (text := _shown(element)):
            return text
    return ""


def _local(field: str) -> str:
    return split_name(_PROPERTIES[field][0])[1] if field in _PROPERTIES else field


# ---- changing --------------------------------------------------------------------------------


def _set_fields(
    packet: Packet, values: Mapping[str, str], others: Sequence[Mapping[str, Element]]
) -> None:
    elements = []
    for field, (name, form) in _PROPERTIES.items():
        if field not in values or form == _BAG:
            continue
        element = _FORMS[form](name, values[field])
        if _reading(packet, _local(field)) == _shown(element):
            continue
        # A duplicate that says just this may say it in more languages.
        whole = (other[name] for other in others if name in other)
        same = next((found for found in whole if _shown(found) == _shown(element)), None)
        elements.append(element if same is None else _copied(same))
    _set_first(packet, elements)
    words = (word.strip() for word in values.get("keywords", "").split(";"))
    _add_keywords(packet, [_simple(RDF + "li", word) for word in words])


def _add_lacking(
    packet: Packet, others: Sequence[Mapping[str, Element]], withheld: Collection[str]
) -> None:
    has = _properties(packet).keys() | {_SUBJECT}
    for other in others:
        for name, element in other.items():
            space, local = split_name(name)
            ours = space in _OF_ONE_FILE or name in _DESCRIBES_FILE or local in withheld
            if name not in has and not ours:
                has.add(name)
                # Last: our reader takes the first of one local name, which stays the keeper's.
                _last_node(packet).append(_copied(element))


def _add_keywords(packet: Packet, items: Iterable[Element]) -> None:
    """Unite keywords, in their order; what the packet has stays as it is written."""
    kept = _listed(packet, _SUBJECT)
    # A word with a ";" inside is shown as two: they are no news.
    known = {fold(part) for item in kept for part in (_word(item), *_word(item).split(";"))}
    new = []
    for item in items:
        if _word(item) and fold(_word(item)) not in known:
            known.add(fold(_word(item)))
            new.append(item)
    if new:
        _set_first(packet, [_container(_SUBJECT, _BAG, map(_copied, [*kept, *new]))])


def _set_first(packet: Packet, elements: Sequence[Element]) -> None:
    """Put properties at the packet's start, where no other property hides them from our reader."""
    if not elements:
        return
    names = {element.tag for element in elements}
    for node in packet.rdf:
        for name in names & node.attrib.keys():
            del node.attrib[name]
        for element in [element for element in node if element.tag in names]:
            node.remove(element)
    first = _first_node(packet)
    for number, element in enumerate(elements):
        first.insert(number, element)


def _first_node(packet: Packet) -> Element:
    first = next(iter(packet.rdf), None)
    if first is None or first.tag != RDF + "Description" or not first.attrib.keys() <= _SYNTAX:
        first = _node(packet)
        packet.rdf.insert(0, first)
    return first


def _last_node(packet: Packet) -> Element:
    nodes = list(packet.rdf)
    if not nodes or nodes[-1].tag != RDF + "Description":
        nodes.append(_node(packet))
        packet.rdf.append(nodes[-1])
    return nodes[-1]


def _node(packet: Packet) -> Element:
    """A new node about the same thing."""
    about = (node.get(RDF + "about") or node.get("about") for node in packet.rdf)
    return Element(RDF + "Description", {RDF + "about": next(filter(None, about), "")})


# ---- forms -----------------------------------------------------------------------------------


def _simple(name: str, text: str | None) -> Element:
    element = Element(name)
    element.text = text
    return element


def _copied(element: Element) -> Element:
    copy = deepcopy(element)
    copy.tail = None
    return copy


def _container(name: str, form: str, items: Iterable[Element]) -> Element:
    element, inner = Element(name), Element(RDF + form)
    inner.extend(items)
    element.append(inner)
    return element


def _seq(name: str, text: str) -> Element:
    words = [word.strip() for word in text.split(";") if word.strip()]
    return _container(name, _SEQ, (_simple(RDF + "li", word) for word in words or [text]))


def _alt(name: str, text: str) -> Element:
    item = _simple(RDF + "li", text)
    item.set(XML + "lang", "x-default")
    return _container(name, _ALT, [item])


_FORMS: dict[str, Callable[[str, str], Element]] = {_ALT: _alt, _SEQ: _seq, _TEXT: _simple}
