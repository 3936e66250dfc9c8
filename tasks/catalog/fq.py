"""Filter queries (``field:value``), translated to the ``where`` language.

The result is text in the language of :mod:`tasks.catalog.filters`, and goes through its whitelist
like any other filter: a mistake here cannot reach the engine. A negated query selects exactly what
the query does not, as in Solr: ``-label:shoes`` also holds for assets without a label. In SQL a
comparison with a missing value is neither true nor false, so ``NOT`` is not enough: the negation
is moved into each condition, with an ``OR ... IS NULL``.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NoReturn

from tasks.catalog import moments
from tasks.catalog.filters import COLUMNS, MAPS, MOST_CHARACTERS
from tasks.errors import FilterError
from tasks.records import now

#: How deep parentheses may be nested; together with the levels that a condition needs itself, this
#: stays within the depth that a filter may have.
_DEPTH = 5
_MOST = 50
#: Conditions that all assets satisfy, and none: every asset has a key.
_EVERYTHING, _NOTHING = "key IS NOT NULL", "key IS NULL"
#: Names of columns that filter queries know besides our own.
_ALIASES = {"id": "key"}
_OPPOSITE = {"=": "<>", "LIKE": "NOT LIKE", ">=": "<", ">": "<=", "<=": ">", "<": ">="}
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?")
_WORDS = ("AND", "OR", "NOT")

#: Conditions that all hold, as (operator, literal).
Conditions = list[tuple[str, str]]


def fq_to_sql(
    fq: Sequence[str],
    moment: datetime | None = None,
    own: Callable[[str], bool] = lambda _: False,
) -> str:
    """One ``where`` filter that holds where all filter queries hold; empty when there are none.

    Understood: ``field:value``, ``field:"a phrase"``, ``field:IM?_*``, ``field:*``, ``*:*``,
    ``field:[1 TO 9]``, ``{1 TO 9}`` without the ends, ``field:(a OR b)``, ``-`` or ``NOT`` before
    any of it, ``AND``, ``OR`` and parentheses. A backslash takes any character as it is.

    Args:
        fq: the queries.
        moment: what ``NOW`` means; by default now.
        own: whether a name that is no column is one of the collection's own fields, which are
            kept as user metadata. One that holds a list has a value where an element is it.

    Raises:
        FilterError: naming the query, the character and what is wrong there.
    """
    if len(fq) > _MOST:
        raise FilterError(f"{len(fq)} filter queries; at most {_MOST} are taken")
    readers = (_Reader(text, moment or now(), own) for text in fq if text.strip())
    found = " AND ".join(reader.whole() for reader in readers)
    if len(found) > MOST_CHARACTERS:
        raise FilterError(f"the filter queries are longer than {MOST_CHARACTERS:,} characters")
    return found


class _Reader:
    """Reads one query from left to right."""

    def __init__(self, text: str, moment: datetime, own: Callable[[str], bool]) -> None:
        self._own = own
        self._lists: set[str] = set()
        self._text = text
        self._at = 0
        self._moment = moment
        if len(text) > MOST_CHARACTERS:
            raise FilterError(f"a filter query is longer than {MOST_CHARACTERS:,} characters")
        bad = re.search("[\x00\ud800-\udfff]", text)
        if bad:
            self._refuse("this character cannot be part of any text", bad.start())

    def whole(self) -> str:
        found = self._query(negated=False)
        if self._at < len(self._text):
            self._refuse("a closing parenthesis without an opening one")
        return found

    def _query(self, *, negated: bool, field: str = "", depth: int = 0) -> str:
        """Clauses up to the end or a closing parenthesis."""
        parts, word = [self._clause(negated=negated, field=field, depth=depth)], ""
        while not self._ends():
            start = self._at
            found = self._match(r"(AND|OR|&&|\|\|)(?=[\s(]|$)")
            if not found:
                self._refuse("write AND or OR before this, or give it as a filter query of its own")
            found = {"&&": "AND", "||": "OR"}.get(found, found)
            if word and found != word:
                self._refuse("AND and OR side by side: say with parentheses what belongs", start)
            word = found
            parts.append(self._clause(negated=negated, field=field, depth=depth))
        if len(parts) == 1:
            return parts[0]
        joined = word if not negated else {"AND": "OR", "OR": "AND"}[word]
        return f"({f' {joined} '.join(parts)})"

    def _clause(self, *, negated: bool, field: str, depth: int) -> str:
        self._spaces()
        while sign := self._match(r"[-!+]|NOT(?=[\s(])"):
            negated ^= sign != "+"
            self._spaces()
        if not field and self._match(r"\*:\*"):
            self._end_of_value()
            return _NOTHING if negated else _EVERYTHING
        if not field and self._peek() != "(":
            field = self._field()
        start = self._at
        if self._match(r"\("):
            if depth >= _DEPTH:
                self._refuse(f"more than {_DEPTH} parentheses inside one another", start)
            found = self._query(negated=negated, field=field, depth=depth + 1)
            if not self._match(r"\)"):
                self._refuse("this parenthesis is never closed", start)
            self._end_of_value()
            return found
        return self._value(field, negated=negated)

    def _field(self) -> str:
        """The column that a clause names, in the ``where`` language."""
        start = self._at
        name = self._plain(self._term(":", "a field"))
        if not self._match(":"):
            self._refuse("a field and a colon belong before a value: label:shoes", start)
        table, dot, inner = name.partition(".")
        if dot and inner and table.lower() in MAPS:
            return f'{table.lower()}."{inner.replace(chr(34), chr(34) * 2)}"'
        known = _ALIASES.get(name.lower(), name.lower())
        if known not in COLUMNS and self._own(name):
            column = f'metadata."{name.replace(chr(34), chr(34) * 2)}"'
            self._lists.add(column)
            return column
        if known not in COLUMNS:
            near = difflib.get_close_matches(known, [*COLUMNS, *MAPS], n=1)
            meant = f"; did you mean {near[0]}{'.NAME' if near[0] in MAPS else ''}?" if near else ""
            self._refuse(
                f"no field {name[:80]!r}{meant or '.'} Fields: {', '.join(COLUMNS)}, tags.NAME, "
                "metadata.NAME",
                start,
            )
        return known

    def _value(self, column: str, *, negated: bool) -> str:
        opening = self._peek()
        if opening and opening in "[{":
            conditions = self._range(column)
        elif opening == '"':
            start = self._at
            conditions = self._equal(column, self._phrase(), start)
        else:
            if opening == "/":
                self._refuse("regular expressions are not understood; or put the value in quotes")
            start = self._at
            term = self._term("", "a value")
            if term == "*":
                conditions = []
            elif self._wild(term):
                conditions = [("LIKE", self._pattern(column, term, start))]
            elif term in _WORDS:
                self._refuse(f"{term} is no value; or put it in quotes", start)
            else:
                conditions = self._equal(column, self._plain(term), start)
        self._end_of_value()
        if not conditions:
            return f"{column} IS {'' if negated else 'NOT '}NULL"
        if column in self._lists and conditions[0][0] == "=":
            return _in_list(column, conditions[0][1], negated=negated)
        if not negated:
            parts = [f"{column} {sign} {literal}" for sign, literal in conditions]
            return parts[0] if len(parts) == 1 else f"({' AND '.join(parts)})"
        parts = [f"{column} {_OPPOSITE[sign]} {literal}" for sign, literal in conditions]
        return f"({' OR '.join(parts)} OR {column} IS NULL)"

    def _range(self, column: str) -> Conditions:
        start = self._at
        opening = self._match(r"[\[{]")
        self._spaces()
        low = self._end()
        if not self._match(r"\s+TO\s+"):
            self._refuse("TO belongs between the ends of a range: [1 TO 9]")
        high = self._end()
        self._spaces()
        closing = self._match(r"[\]}]")
        if not closing:
            self._refuse("this range is never closed", start)
        return [
            *self._edge(column, ">=" if opening == "[" else ">", *low),
            *self._edge(column, "<=" if closing == "]" else "<", *high),
        ]

    def _end(self) -> tuple[str | None, int]:
        """One end of a range and where it stands; None for ``*``."""
        start = self._at
        if self._peek() == '"':
            return self._phrase(), start
        term = self._term("", "an end of the range")
        if term == "*":
            return None, start
        if self._wild(term):
            self._refuse("no wildcards in a range, but * alone", start)
        return self._plain(term), start

    def _edge(self, column: str, sign: str, text: str | None, start: int) -> Conditions:
        if text is None:
            return []
        if _kind(column) != "time":
            return [(sign, self._literal(column, text, start))]
        first, after = self._span(text, start)
        if first == after:
            return [(sign, _quote(first))]
        # A day at the end of a range counts whole: [... TO 2026-01-31] includes that evening.
        edges = {">=": (">=", first), ">": (">=", after), "<=": ("<", after), "<": ("<", first)}
        sign, moment = edges[sign]
        return [(sign, _quote(moment))]

    def _equal(self, column: str, text: str, start: int) -> Conditions:
        if _kind(column) != "time":
            return [("=", self._literal(column, text, start))]
        first, after = self._span(text, start)
        if first == after:
            return [("=", _quote(first))]
        return [(">=", _quote(first)), ("<", _quote(after))]

    def _span(self, text: str, start: int) -> tuple[str, str]:
        try:
            return moments.span_of(text, self._moment)
        except FilterError as error:
            self._refuse(str(error), start)

    def _literal(self, column: str, text: str, start: int) -> str:
        if _kind(column) == "text":
            return _quote(text)
        if not _NUMBER.fullmatch(text) or abs(float(text)) >= 2**62:
            self._refuse(f"{text[:80]!r} is no number, and {column} is one", start)
        return text

    def _pattern(self, column: str, term: str, start: int) -> str:
        if _kind(column) != "text":
            self._refuse(f"wildcards stand for text, and {column} is a {_kind(column)}", start)
        found = []
        for part in re.findall(r"\\.|.", term, re.DOTALL):
            if part in ("*", "?"):
                found.append("%" if part == "*" else "_")
            else:
                found.append(re.sub(r"([\\%_])", r"\\\1", part[-1]))
        return _quote("".join(found))

    def _term(self, stop: str, what: str) -> str:
        """Characters up to a space, a bracket or ``stop``, backslashes and all."""
        found = self._match(rf"(\\.|[^\s()\[\]{{}}\"\\^~{stop}])+")
        if not found:
            here = self._peek()
            self._refuse(
                f"{what} is missing here"
                if not here or here.isspace() or here in ")]}:"
                else f"{here!r} does not belong here; put quotes around a value that holds it"
            )
        return found

    def _phrase(self) -> str:
        start = self._at
        found = self._match(r'"(\\.|[^"\\])*"')
        if not found:
            self._refuse("these quotes are never closed", start)
        return self._plain(found[1:-1])

    def _end_of_value(self) -> None:
        if not self._match(r"(?=[\s)]|$)"):
            self._refuse(f"{self._peek()!r} does not belong here")

    @staticmethod
    def _wild(term: str) -> bool:
        return bool(re.search(r"[*?]", re.sub(r"\\.", "", term, flags=re.DOTALL)))

    @staticmethod
    def _plain(term: str) -> str:
        return re.sub(r"\\(.)", r"\1", term, flags=re.DOTALL)

    def _match(self, pattern: str) -> str:
        """Consume what matches the pattern at the current position, and return it."""
        found = re.compile(pattern, re.DOTALL).match(self._text, self._at)
        if not found:
            return ""
        self._at = found.end()
        return found[0] or " "

    def _spaces(self) -> None:
        self._match(r"\s+")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _ends(self) -> bool:
        self._spaces()
        return self._peek() in ("", ")")

    def _refuse(self, what: str, at: int | None = None) -> NoReturn:
        where = (self._at if at is None else at) + 1
        raise FilterError(f"fq {self._text[:200]!r}, character {where}: {what}")


def _in_list(column: str, literal: str, *, negated: bool) -> str:
    """A text is the value, or one element of a list that is kept as JSON."""
    element = json.dumps(literal[1:-1].replace("''", "'"))
    like = _quote("[%" + re.sub(r"([\\%_])", r"\\\1", element) + "%]")
    if negated:
        return f"(({column} <> {literal} AND {column} NOT LIKE {like}) OR {column} IS NULL)"
    return f"({column} = {literal} OR {column} LIKE {like})"


def _kind(column: str) -> str:
    return COLUMNS.get(column, "text")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
