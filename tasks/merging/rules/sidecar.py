"""Writing XMP sidecars: what the duplicates' say goes into the keeper's, and nothing goes out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from tasks.errors import MergeError
from tasks.merging.rules.metadata import fold
from tasks.merging.rules.xmp_fields import (
    FILES,
    NAMED_FIELDS,
    OF_ONE_FILE,
    TEXT,
    is_merged,
    tags_by_name,
)
from tasks.xmp.packet import (
    DC,
    OURS,
    RDF,
    ST_REF,
    XML,
    XMP_MM,
    Packet,
    clean,
    description,
    new_packet,
    read_packet,
    split_name,
    write_packet,
)
from tasks.xmp.properties import (
    ALT,
    BAG,
    CONTAINERS,
    LI,
    SEQ,
    SYNTAX,
    as_text,
    every_property,
    form_of,
    properties,
)

_PROPERTIES = NAMED_FIELDS
_SUBJECT = DC + "subject"
#: A sidecar that says nothing, as it would be written.
EMPTY = write_packet(new_packet())


@dataclass(frozen=True, slots=True)
class MergedFile:
    """A file that is merged away.

    Attributes:
        name: its key.
        sha256: of its bytes.
        packet: all that the file and its first sidecar say.
    """

    name: str
    sha256: str
    packet: bytes


def merge_sidecar(
    keeper: bytes | None,
    duplicates: Sequence[bytes],
    values: Mapping[str, str],
    *,
    withheld: Collection[str] = (),
    own: bytes | None = None,
    files: Sequence[MergedFile] = (),
) -> bytes:
    """The keeper's sidecar with what the duplicates' sidecars and the merged fields add.

    All of the keeper's properties stay, unknown ones too, except where ``values`` sets one.
    Properties it lacks come from the duplicates, the first that has one first; keywords are
    united and never removed. What describes a file (its size, its orientation) stays where it is.
    Identities, history and raw development of ``files`` are kept as a record of them. Where nothing
    is added, the keeper's bytes come back.

    Args:
        keeper: bytes of its sidecar, if it has one.
        duplicates: bytes of theirs.
        values: fields to set, by the name our reader gives them, or as ``photoshop:City``;
            characters that XML cannot hold are dropped, and empty values set nothing.
        withheld: fields that are not to be taken from the duplicates' sidecars.
        own: what the keeper's file itself says: it is not said again.
        files: what is merged away.

    Raises:
        MergeError: when a sidecar is not XMP, or the merged one would be too large.
        ValueError: when ``values`` names a field that is not merged.
    """
    packet, before = _opened(keeper, "the keeper's sidecar")
    read = [
        read_packet(data, f"the sidecar of duplicate {number}")
        for number, data in enumerate(duplicates, 1)
    ]
    for other in read:
        packet.wanted = other.prefixes | packet.wanted
    others = [properties(other) for other in read]
    mine = {} if own is None else properties(read_packet(own, "the keeper"))
    tags = tags_by_name([*others, mine, properties(packet)])
    unknown = sorted(values.keys() - _PROPERTIES.keys() - tags.keys())
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no XMP field that a merge sets")
    wanted = {name: clean(text).strip() for name, text in values.items()}
    wanted = {name: text for name, text in wanted.items() if text}
    _set_fields(packet, wanted, others)
    further = {tags[name]: text for name, text in wanted.items() if name not in _PROPERTIES}
    _set_further(packet, further, others, mine)
    kept_back = {_local(name) for name in withheld} | {tags.get(name, "") for name in withheld}
    _add_lacking(packet, others, kept_back, mine.keys())
    if "keywords" not in withheld:
        _add_keywords(packet, [item for other in read for item in _listed(other, _SUBJECT)])
    _record(packet, files)
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


def _listed(packet: Packet, name: str) -> list[Element]:
    """Items of a list, wherever its parts are; a plain text counts as its only item."""
    found: list[Element] = []
    for element in every_property(packet):
        if element.tag == name:
            inner = next((part for part in element if part.tag in CONTAINERS), None)
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
    for element in _all_but_ours(packet.root):
        for name, value in element.attrib.items():
            if value and split_name(name)[1] == local:
                return value
        if split_name(element.tag)[1] == local and (text := _shown(element)):
            return text
    return ""


def _all_but_ours(root: Element) -> Iterator[Element]:
    """Elements in the order of the document, without what is kept of other files."""
    waiting = [root]
    while waiting:
        element = waiting.pop()
        if not element.tag.startswith(OURS):
            yield element
            waiting += reversed(element)


def _local(field: str) -> str:
    return split_name(_PROPERTIES[field][0])[1] if field in _PROPERTIES else field


# ---- changing --------------------------------------------------------------------------------


def _set_fields(
    packet: Packet, values: Mapping[str, str], others: Sequence[Mapping[str, Element]]
) -> None:
    elements = []
    for field, (name, form) in _PROPERTIES.items():
        if field not in values or form == BAG:
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
    packet: Packet,
    others: Sequence[Mapping[str, Element]],
    withheld: Collection[str],
    mine: Collection[str],
) -> None:
    has = properties(packet).keys() | {_SUBJECT, *mine}
    lacking: list[Element] = []
    for other in others:
        for name, element in other.items():
            kept_back = name in withheld or split_name(name)[1] in withheld
            if name not in has and is_merged(name) and not kept_back:
                has.add(name)
                lacking.append(_copied(element))
    if lacking:  # last: our reader takes the first of one local name, which stays the keeper's
        description(packet).extend(lacking)


def _set_further(
    packet: Packet,
    values: Mapping[str, str],
    others: Sequence[Mapping[str, Element]],
    mine: Mapping[str, Element],
) -> None:
    """Set properties that our reader has no name for: whole, as one of the members has them.

    Lists without an order are united, the keeper's first.
    """
    elements = []
    has = properties(packet)
    for tag, text in values.items():
        known = has.get(tag, mine.get(tag))
        sources = [other[tag] for other in others if tag in other]
        every = [known, *sources] if known is not None else sources
        if any(form_of(element) == "Bag" for element in every):
            elements.append(_united(tag, every))
            continue
        same = next((element for element in every if as_text(element) == text), None)
        elements.append(_simple(tag, text) if same is None else _copied(same))
    _set_first(packet, elements)


def _united(tag: str, every: Sequence[Element]) -> Element:
    seen: set[str] = set()
    items = []
    for element in every:
        inner = next((part for part in element if part.tag in CONTAINERS), None)
        for item in [_simple(LI, element.text)] if inner is None else inner:
            if _word(item) and fold(_word(item)) not in seen:
                seen.add(fold(_word(item)))
                items.append(_copied(item))
    return _container(tag, BAG, items)


def _record(packet: Packet, files: Sequence[MergedFile]) -> None:
    """Keep what tells how the files that are merged away came about."""
    kept = [
        item
        for element in every_property(packet)
        if element.tag == FILES
        for item in element.iter(LI)
    ]
    known = {item.findtext(OURS + "SHA256") for item in kept}
    new = []
    for file in files:
        found = properties(read_packet(file.packet, f"what {file.name} says"))
        for item in () if FILES not in found else found[FILES].iter(LI):  # of its earlier merges
            if (sha := item.findtext(OURS + "SHA256")) and sha not in known:
                known.add(sha)
                new.append(_copied(item))
        told = [one for tag, one in found.items() if split_name(tag)[0] in OF_ONE_FILE]
        if not told or file.sha256 in known:
            continue
        known.add(file.sha256)
        item = Element(LI, {RDF + "parseType": "Resource"})
        item.append(_simple(OURS + "Name", clean(file.name)))
        item.append(_simple(OURS + "SHA256", file.sha256))
        item.extend(map(_copied, told))
        new.append(item)
    if not new:
        return
    whole = next((one for one in every_property(packet) if one.tag == FILES), None)
    inner = None if whole is None else next((one for one in whole if one.tag == BAG), None)
    if inner is None:
        description(packet).append(_container(FILES, BAG, new))
    else:
        inner.extend(new)


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
        _set_first(packet, [_container(_SUBJECT, BAG, map(_copied, [*kept, *new]))])


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
    if first is None or first.tag != RDF + "Description" or not first.attrib.keys() <= SYNTAX:
        first = _node(packet)
        packet.rdf.insert(0, first)
    return first


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
    element, inner = Element(name), Element(form)
    inner.extend(items)
    element.append(inner)
    return element


def _seq(name: str, text: str) -> Element:
    words = [word.strip() for word in text.split(";") if word.strip()]
    return _container(name, SEQ, (_simple(RDF + "li", word) for word in words or [text]))


def _alt(name: str, text: str) -> Element:
    item = _simple(RDF + "li", text)
    item.set(XML + "lang", "x-default")
    return _container(name, ALT, [item])


_FORMS: dict[str, Callable[[str, str], Element]] = {ALT: _alt, SEQ: _seq, TEXT: _simple}
