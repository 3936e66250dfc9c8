"""The few XMP fields worth keeping, from a sidecar or from inside an image."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from xml.etree.ElementTree import Element

from defusedxml import ElementTree

from tasks.xmp.packet import OURS

#: Local name of the property to the name we keep it under (XMP specification, parts 1 and 2).
_FIELDS = {
    "OriginalDocumentID": "original_document_id",
    "DocumentID": "document_id",
    "InstanceID": "instance_id",
    "DerivedFrom": "derived_from",
    "title": "title",
    "description": "description",
    "creator": "creator",
    "rights": "rights",
    "UsageTerms": "usage_terms",
    "subject": "keywords",
    "Rating": "rating",
    "Label": "label",
    "CreateDate": "create_date",
    "CreatorTool": "creator_tool",
    "Credit": "credit",
}
#: In UTF-16 half of the bytes are NULs: padding must be stripped from the text instead.
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MAX_BYTES = 4 * 1024**2
_MAX_TEXT = 2000
#: Elements inside one another; XMP has some ten, and what nests deeper is read to that depth only.
_MAX_DEPTH = 100
#: Items of one list, and characters of all of them, that are read: keywords are some hundreds.
_MAX_ITEMS = 5000
_LI = "}li"


def parse_xmp(data: bytes) -> dict[str, str]:
    """Fields of an XMP packet; empty when it is none, broken or hostile.

    Lists (keywords, creators) are joined with ``"; "``. Every element is visited a bounded number
    of times, whatever is nested in what: 4 MB take a fraction of a second.
    """
    root = _opened(data)
    if root is None:
        return {}
    found: dict[str, str] = {}
    tried: Counter[str] = Counter()
    for element in _shallow(root):
        for name, value in element.attrib.items():
            _keep(found, name, value)
        field = _FIELDS.get(element.tag.rsplit("}", 1)[-1])
        if field and field not in found and tried[field] < _MAX_TRIES:
            tried[field] += 1  # an empty one may come first
            _keep(found, element.tag, _text(element))
    return found


#: Elements of one name that are looked into until one says something.
_MAX_TRIES = 10


def _opened(data: bytes) -> Element | None:
    """The packet's root; nothing when it is none, broken or hostile."""
    if not data or len(data) > _MAX_BYTES:
        return None
    try:
        if data[:2] in _UTF_16:
            return ElementTree.fromstring(data.decode("utf-16").strip("\x00 \t\r\n"))
        return ElementTree.fromstring(data.strip(b"\x00 \t\r\n"))
    except Exception:
        # Not only ParseError: entity bombs, bad encodings. Broken XMP must not lose the picture.
        return None


def _shallow(root: Element) -> Iterator[Element]:
    """Elements in the order of the document, but for those that are nested too deep."""
    waiting = [(root, 1)]
    while waiting:
        element, depth = waiting.pop()
        if element.tag.startswith(OURS):  # what our sidecars keep of files that were merged away
            continue
        yield element
        if depth < _MAX_DEPTH:
            waiting += [(child, depth + 1) for child in reversed(element)]


def _keep(found: dict[str, str], qualified: str, value: str) -> None:
    name = _FIELDS.get(qualified.rsplit("}", 1)[-1])
    if name and value and name not in found:
        found[name] = value[:_MAX_TEXT]


def _text(element: Element) -> str:
    listed = (
        item.text.strip()
        for item in _shallow(element)
        if item.tag.endswith(_LI) and item.text and item.text.strip()
    )
    items = list(islice(listed, _MAX_ITEMS))
    return "; ".join(items) if items else (element.text or "").strip()
