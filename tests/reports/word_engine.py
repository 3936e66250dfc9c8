"""A mail's HTML as Outlook on Windows lays it out, which does so with Word's engine.

It is a simulation, to be rendered by a browser: what Word ignores is taken away, what only Word
reads is put in. What is ignored is listed by Microsoft in "Word 2007 HTML and CSS Rendering
Capabilities in Outlook 2007" (MSDN, parts 1 and 2) and, feature by feature and for later releases,
by "Can I email" (caniemail.com, Outlook on Windows). Conditional comments and the ``mso-``
properties are those of Word's own HTML export. A word that is longer than its line is broken where
it must be in tables of a fixed layout; any other table grows with it, as in Word.

It does not simulate Word's fonts, its scaling at 120 dpi, or the colours that Outlook's dark mode
makes up by itself.
"""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

#: Properties that Word does not know, or knows and does not follow.
_IGNORED = re.compile(
    r"^(?:max-width|min-width|max-height|min-height|border-radius|box-shadow|text-shadow|opacity"
    r"|overflow.*|word-break|word-wrap|float|clear|position|top|left|right|bottom|z-index"
    r"|background-(?:image|size|position|repeat)|flex.*|grid.*|gap|align-.*|justify-.*|transform"
    r"|transition|animation.*|object-fit|aspect-ratio|color-scheme|supported-color-schemes|filter"
    r"|cursor|outline.*|content|visibility)$"
)
#: Of these elements Word reads neither padding nor CSS width and height; only of table cells.
_NO_BOX = {"div", "p", "a", "span", "h1", "h2", "h3", "img", "ul", "ol", "li", "body", "b", "font"}
_VOID = {"meta", "img", "br", "wbr", "hr", "link", "col"}
#: Selectors of a style sheet that Word follows: elements, classes, ids, and descendants of them.
_PLAIN = re.compile(r"^[\w.#\s-]+$")


def as_word(html: str) -> str:
    """The HTML that a browser has to render to show what Word would."""
    opened = re.sub(r"<!--\[if mso\]>(.*?)<!\[endif\]-->", r"\1", html, flags=re.S)
    hidden = re.sub(r"<!--\[if !mso\]><!-->.*?<!--<!\[endif\]-->", "", opened, flags=re.S)
    writer = _Writer()
    writer.feed(hidden)
    return "".join(writer.out)


def word_rules(css: str) -> str:
    """The rules of a style sheet that Word follows: no media queries, no attribute selectors."""
    kept = []
    for selector, body, nested in _rules(css):
        names = [one.strip() for one in selector.split(",")]
        plain = [one for one in names if _PLAIN.match(one) and not one.startswith("@")]
        if plain and not nested:
            kept.append(f"{', '.join(plain)} {{ {_declared(body, 'td')} }}")
    return "\n".join(kept)


def _rules(css: str) -> list[tuple[str, str, bool]]:
    """Selector, body, and whether the body holds rules itself, as an @media block does."""
    found, at = [], 0
    while (start := css.find("{", at)) >= 0:
        depth, end = 1, start + 1
        while depth and end < len(css):
            depth += {"{": 1, "}": -1}.get(css[end], 0)
            end += 1
        body = css[start + 1 : end - 1]
        found.append((css[at:start].strip(), body, "{" in body))
        at = end
    return found


def _declared(style: str, tag: str) -> str:
    kept = []
    padding = ""
    for declaration in filter(None, (one.strip() for one in style.split(";"))):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        name = name.lower()
        if name == "mso-padding-alt":
            padding = value
        elif name == "mso-hide":
            kept.append("display:none")
        elif not _ignores(tag, name, value):
            kept.append(f"{name}:{value}")
    if "table-layout:fixed" in kept:
        kept.append("overflow-wrap:anywhere")
    if padding and tag == "td":
        kept.append(f"padding:{padding}")
    return ";".join(kept)


def _ignores(tag: str, name: str, value: str) -> bool:
    if name == "display":  # neither flex and grid nor inline-block
        return not value.startswith("none")
    if "url(" in value or _IGNORED.match(name):
        return True
    if tag in _NO_BOX and (name.startswith("padding") or name in ("width", "height")):
        return True
    return tag in ("img", "a", "span") and name.startswith("margin")


class _Writer(HTMLParser):
    """Writes what it reads, without what Word ignores."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.out: list[str] = []
        self._in_style = False

    def handle_decl(self, decl: str) -> None:
        self.out.append(f"<!{decl}>")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        told = []
        for name, value in attrs:
            if tag == "meta" and name == "content" and value == "light dark":
                value = "light"
            if name == "style":
                value = _declared(value or "", tag)
            told.append(name if value is None else f'{name}="{escape(value)}"')
        self.out.append(f"<{' '.join([tag, *told])}>")

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False
        if tag not in _VOID:
            self.out.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.out.append(word_rules(data) if self._in_style else data)

    def handle_entityref(self, name: str) -> None:
        self.out.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.out.append(f"&#{name};")
