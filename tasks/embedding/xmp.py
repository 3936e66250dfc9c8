"""The few XMP fields worth keeping, from a sidecar or from inside an image."""

from __future__ import annotations

import codecs
from xml.etree.ElementTree import Element

from defusedxml import ElementTree

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


def parse_xmp(data: bytes) -> dict[str, str]:
    """Fields of an XMP packet; empty when it is none, broken or hostile.

    Lists (keywords, creators) are joined with ``"; "``.
    """
    if len(data) > _MAX_BYTES:
        return {}
    try:
        if data[:2] in _UTF_16:
            root = ElementTree.fromstring(data.decode("utf-16").strip("\x00 \t\r\n"))
        else:
            root = ElementTree.fromstring(data.strip(b"\x00 \t\r\n"))
    except Exception:
        # Not only ParseError: entity bombs, bad encodings. Broken XMP must not lose the picture.
        return {}
    found: dict[str, str] = {}
    for element in root.iter():
        for name, value in element.attrib.items():
            _keep(found, name, value)
        _keep(found, element.tag, _text(element))
    return found


def _keep(found: dict[str, str], qualified: str, value: str) -> None:
    name = _FIELDS.get(qualified.rsplit("}", 1)[-1])
    if name and value and name not in found:
        found[name] = value[:_MAX_TEXT]


def _text(element: Element) -> str:
    items = [
        item.text.strip()
        for item in element.iter()
        if item.tag.endswith("}li") and item.text and item.text.strip()
    ]
    return "; ".join(items) if items else (element.text or "").strip()
