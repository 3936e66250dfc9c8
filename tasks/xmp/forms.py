"""XMP's forms of a value: lists, alternatives by language, structures (specification part 1, 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.etree.ElementTree import Element

from tasks.xmp.packet import RDF, XML
from tasks.xmp.properties import ALT, BAG, LI, SEQ, simple


def alt(name: str, text: str) -> Element:
    """A text in its default language."""
    item = simple(LI, text)
    item.set(XML + "lang", "x-default")
    return _container(name, ALT, [item])


def seq(name: str, texts: Iterable[str]) -> Element:
    """A list whose order counts."""
    return _container(name, SEQ, (simple(LI, text) for text in texts))


def bag(name: str, texts: Iterable[str]) -> Element:
    """A list whose order does not count."""
    return _container(name, BAG, (simple(LI, text) for text in texts))


def structure(name: str, parts: Mapping[str, str]) -> Element:
    """Named texts."""
    element = Element(name, {RDF + "parseType": "Resource"})
    element.extend(simple(part, text) for part, text in parts.items())
    return element


def _container(name: str, form: str, items: Iterable[Element]) -> Element:
    element, inner = Element(name), Element(form)
    inner.extend(items)
    element.append(inner)
    return element
