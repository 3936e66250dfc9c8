"""How things are written for people: sizes, counts, keys, pictures inside a page.

The words for what a report tells (tiers, roles, decisions, what a button does, why nothing may be
done) are in ``texts/en.json``; another language is one more such file, here and for the script of
the report alike. What a file lacks is told in English. Data files keep the terms of the program:
``exact``, ``near``, ``keeper``.
"""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

from tasks.records import Receipt

#: The language that complete texts exist in; the others may lack some.
ENGLISH = "en"
_language: ContextVar[str] = ContextVar("language", default=ENGLISH)


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Within it, words are told in a language: the name of a file of ``texts/``."""
    before = _language.set(language)
    try:
        yield
    finally:
        _language.reset(before)


@cache
def texts(language: str = ENGLISH) -> dict[str, str]:
    """Every text of a language, by its name; in English where it has none."""
    file = files("reports").joinpath(f"texts/{language}.json")
    found: dict[str, str] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return found if language == ENGLISH else texts() | found


def spoken() -> str:
    """The language that is spoken."""
    return _language.get()


def text(name: str, **values: Any) -> str:
    """A text of the language that is spoken, with its values put in.

    Raises:
        KeyError: when there is no such text, or one of its values is missing.
    """
    return texts(_language.get())[name].format(**values)


def tier_words(tier: str) -> str:
    """``Same picture`` for ``exact``, ``Edited copy`` for ``near``, ``Related`` for ``similar``."""
    return text(f"tier.{tier}")


def soon(when: datetime, now: datetime | None) -> str:
    """A coming time: ``today 18:00 UTC``, ``tomorrow 10:26 UTC (2026-11-27)``, or the date."""
    clock = f"{when:%H:%M} UTC"
    if now is None:
        return f"{when:%Y-%m-%d} {clock}"
    if when.date() == now.date():
        return text("soon.today", clock=clock)
    if when.date() == (now + timedelta(days=1)).date():
        # The date too: a mail is read late.
        return text("soon.tomorrow", clock=clock, date=f"{when:%Y-%m-%d}")
    return f"{when:%Y-%m-%d} {clock}"


def human_bytes(size: int) -> str:
    """``1.5 MB``; decimal units, as storage is sold and billed."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < (1000 if unit == "B" else 999.95):  # which rounds to 1000.0
            return f"{value:.0f} {unit}" if unit == "B" else f"{marked(f'{value:.1f}')} {unit}"
        value /= 1000
    return f"{marked(f'{value:.1f}')} TB"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 group``, ``2 groups``, ``1,200 copies``; in English where a language has no such noun.

    The texts ``n.group.one`` and ``n.group.other`` are for one and for all other numbers, which is
    the rule of English, German and their neighbours; a language with more forms needs CLDR's.
    """
    shown = grouped(number)
    name = f"n.{noun}.{'one' if number == 1 else 'other'}"
    if name in texts(_language.get()):
        return text(name, number=shown)
    return f"{shown} {noun if number == 1 else (plural or noun + 's')}"


def grouped(number: int) -> str:
    """``1,200``; with the language's own separator."""
    return marked(f"{number:,}")


def decimal(number: float, form: str) -> str:
    """A number in one of Python's forms (``.1f``, ``.0%``), with the language's own marks."""
    return marked(format(number, form))


def marked(number: str) -> str:
    """A number as English writes it, with the language's own decimal mark and separator."""
    marks = {",": text("number.thousands"), ".": text("number.decimal")}
    return "".join(marks.get(char, char) for char in number)


def shown_key(key: str) -> str:
    """A key with everything invisible made visible.

    Newlines, control characters and the marks that turn text around could make one key look like
    another, or break out of a line.
    """
    return "".join(
        char
        if unicodedata.category(char)[0] != "C" and char not in "\u2028\u2029"
        else char.encode("unicode_escape").decode()
        for char in key
    )


def link_end(receipt: Receipt, link: str = "link") -> str:
    """How long a document's link works; nothing where it does not end.

    Args:
        receipt: of the document.
        link: how it is called: the beginning of the names of two texts, ``until`` and ``sooner``.
    """
    if not receipt.until:
        return ""
    return text(f"{link}.{'sooner' if receipt.sooner else 'until'}", until=moment(receipt.until))


def until(when: datetime | None) -> str:
    """How long the signed page of a mail can be opened; nothing where there is none."""
    return text("mail.review.until", until=moment(when)) if when else ""


def moment(when: datetime) -> str:
    """``2026-11-22 14:05 UTC``."""
    return f"{when:%Y-%m-%d %H:%M} UTC"


def cap_words(what: str, above: Mapping[str, float]) -> list[str]:
    """The caps of a policy that are exceeded, as one sentence; none where none is.

    Args:
        what: ``plan``: by all of it; ``all``: by what is about to be approved.
        above: name of the cap (``objects``, ``bytes``, ``share``) to its value.
    """
    shown = {"objects": ",.0f", "share": ".1%"}
    caps = [
        human_bytes(int(cap))
        if name == "bytes"
        else text(f"cap.{name}", cap=decimal(cap, shown[name]))
        for name, cap in above.items()
    ]
    return [text(f"above.{what}", cap=text("cap.and").join(caps))] if caps else []


def search_words(search: Mapping[str, str | float | int]) -> str:
    """How the candidates of a scan were searched for, and what share of them that found."""
    if not search:
        return text("search.none")
    mode, number = search["mode"], search["neighbours"]
    if not search["sample"]:
        return text("search.all", mode=mode, number=number)
    return text(
        "search.some",
        mode=mode,
        number=number,
        ranked=decimal(float(search["ranked"]), ".0%"),
        sample=grouped(int(search["sample"])),
        recall=decimal(float(search["recall"]), ".1%"),
        best=decimal(float(search["best"]), ".1%"),
    )


def proof_words(counts: Mapping[str, int]) -> list[str]:
    """What the comparison of originals did and could not do, a sentence each; of old scans none."""
    said = []
    if counts.get("proven"):
        said.append(
            text(
                "proof.done",
                pairs=counted(counts["proven"], "pair"),
                bytes=human_bytes(counts.get("proof_bytes", 0)),
                back=grouped(counts.get("taken_back", 0)),
            )
        )
    if counts.get("not_proven"):
        said.append(text("proof.open", pairs=counted(counts["not_proven"], "pair")))
    return said


def label_words(said: Mapping[str, Any] | None) -> str:
    """Where a collection's thresholds come from (``dam-dedup calibrate``)."""
    if said is None:
        return text("labels.none")
    number, date, advised = grouped(said["labelled"]), said["made"][:10], said["recommended"]
    if advised is None:
        return text("labels.few", number=number, date=date)
    return text("labels.advised", number=number, date=date, threshold=decimal(advised, "g"))


def data_uri(jpeg: bytes | None) -> str | None:
    """A picture as a page that stands alone holds it; None where there is none."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else None


def reason_words(code: str) -> str:
    """The reason in words; a code without any as it is."""
    known = texts(_language.get())
    if f"reason.{code}" in known:
        return known[f"reason.{code}"]
    if code.startswith("format_"):
        return text("reason.format", format=code.removeprefix("format_").replace("_", " ").upper())
    return code.replace("_", " ")
