"""The ``where`` language: parsed, checked against a whitelist, and rendered anew.

LanceDB's own parser ignores whatever follows the first complete expression (``x = 1 garbage``,
``x > 1) OR (1=1``), so a user's text never reaches it. sqlglot parses it, every node must be on
the whitelist below, and what the engine gets is rendered from the tree alone.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Callable

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tasks.errors import FilterError

#: The kind of each column; ``tags.NAME`` and ``metadata.NAME`` name any tag or user-metadata key.
COLUMNS: dict[str, str] = {
    "key": "text",
    "prefix": "text",
    "name": "text",
    "extension": "text",
    "label": "text",
    "format": "text",
    "content_type": "text",
    "storage_class": "text",
    "etag": "text",
    "version_id": "text",
    "sha256": "text",
    "mode": "text",
    "size": "number",
    "width": "number",
    "height": "number",
    "last_modified": "time",
}
MAPS = ("tags", "metadata")

#: The most characters of a filter.
MOST_CHARACTERS = 4000
#: The deepest nesting. LanceDB's parser gives up beyond 50 levels, and takes exponential time for
#: 30 nested NOTs.
_DEPTH = 10
_INT32 = 2**31

_TAGS_TOLD = "(tags IS NOT NULL)"
_LABEL_TOLD = "(tags IS NOT NULL OR label IS NOT NULL)"

_COMPARE: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.LT: "<",
    exp.LTE: "<=",
}


def render_filter(text: str) -> str:
    """The SQL that LanceDB gets for a user's filter; empty for an empty filter.

    Allowed: comparisons, ``IN``, ``BETWEEN``, ``LIKE``, ``ILIKE``, ``IS [NOT] NULL``, ``AND``,
    ``OR``, ``NOT`` and parentheses over the columns above. A column stands at the left, values at
    the right. The same filter, spaced or written differently, renders the same.

    Raises:
        FilterError: with the offending column or construct.
    """
    if not text.strip():
        return ""
    if len(text) > MOST_CHARACTERS:
        raise FilterError(f"the filter is longer than {MOST_CHARACTERS:,} characters")
    if re.search("[\ud800-\udfff]", text):
        raise FilterError(f"the filter {text!r} holds half a character, which no text has")
    try:
        if any(token.comments for token in sqlglot.tokenize(text, dialect="postgres")):
            raise FilterError(f"the filter {text!r} must not hold comments")
        tree = sqlglot.parse_one(f"SELECT 1 FROM t WHERE {text}", dialect="postgres")  # noqa: S608
    except RecursionError:
        raise FilterError("the filter is too deeply nested") from None
    except SqlglotError as error:
        raise FilterError(f"cannot read the filter {text!r}: {_first_line(error)}") from None
    given = {name for name, value in tree.args.items() if value} - {"kind"}
    if not isinstance(tree, exp.Select) or given - {"expressions", "from", "from_", "where"}:
        raise FilterError(f"the filter {text!r} must be one condition, without further clauses")
    source = tree.args.get("from_") or tree.args.get("from")
    if source is None or len(tree.expressions) != 1 or source.this.args.get("joins"):
        raise FilterError(f"the filter {text!r} must be one condition, without further clauses")
    try:
        return _condition(tree.args["where"].this)
    except RecursionError:
        raise FilterError("the filter is too deeply nested") from None


def join_filters(*texts: str) -> str:
    """One filter that holds where all of the given ones hold; an empty one holds everywhere.

    Each is checked by itself first, so that none can close a parenthesis of another.

    Raises:
        FilterError: with the offending column or construct.
    """
    given = [text.strip() for text in texts if render_filter(text)]
    return given[0] if len(given) == 1 else " AND ".join(f"({text})" for text in given)


def select_sql(text: str) -> str:
    """The SQL that selects the assets of a user's filter, and none of which that cannot be said.

    Tags that may not be read are null in the catalog. An embargo may be among them, so such an
    asset is left out of every filter that names tags, negated or not. A label comes from tags too.

    Raises:
        FilterError: with the offending column or construct.
    """
    told = _told(text)
    return f"({render_filter(text)} AND {told})" if told else render_filter(text)


def names_tags(text: str) -> bool:
    """Whether what a filter selects depends on tags, which not everybody may read.

    Raises:
        FilterError: with the offending column or construct.
    """
    return bool(_told(text))


def _told(text: str) -> str:
    if not render_filter(text):
        return ""
    columns = list(sqlglot.parse_one(text, dialect="postgres").find_all(exp.Column))
    if any(column.table.lower() == "tags" for column in columns):
        return _TAGS_TOLD
    named = any(not column.table and column.name.lower() == "label" for column in columns)
    return _LABEL_TOLD if named else ""


def _first_line(error: SqlglotError) -> str:
    # The positions in sqlglot's message count the SELECT put before the filter: they are left out.
    known = getattr(error, "errors", None)
    if known and known[0].get("description"):
        # sqlglot names its own class here: "Required keyword: 'expression' missing for <class ...".
        missing = known[0]["description"].startswith("Required keyword")
        what = "something is missing" if missing else known[0]["description"]
        return f"{what} near {known[0].get('highlight') or 'the end'!r}"
    return (str(error).splitlines() or ["it cannot be parsed"])[0]


def _condition(node: exp.Expr, depth: int = 0) -> str:
    if depth > _DEPTH:
        raise FilterError(f"the filter is too deeply nested (more than {_DEPTH} levels)")
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.And | exp.Or):
        parts = [_condition(part, depth + 1) for part in _chain(node)]
        return f"({(' AND ' if isinstance(node, exp.And) else ' OR ').join(parts)})"
    if isinstance(node, exp.Not):
        return f"(NOT {_condition(node.this, depth + 1)})"
    kind = type(node)
    if kind in _COMPARE:
        _only(node, "this", "expression")
        column, literal = _column(node.this)
        return f"({column} {_COMPARE[kind]} {literal(node.expression)})"
    if isinstance(node, exp.Like | exp.ILike):
        _only(node, "this", "expression", "negate")
        column, literal = _column(node.this, only="text")
        word = "LIKE" if isinstance(node, exp.Like) else "ILIKE"
        condition = f"({column} {word} {literal(node.expression)})"
        return f"(NOT {condition})" if node.args.get("negate") else condition
    if isinstance(node, exp.Between):
        _only(node, "this", "low", "high")
        column, literal = _column(node.this)
        low, high = literal(node.args["low"]), literal(node.args["high"])
        return f"({column} BETWEEN {low} AND {high})"
    if isinstance(node, exp.In):
        if not node.expressions or any(
            v for k, v in node.args.items() if k not in {"this", "expressions"}
        ):
            raise FilterError("IN takes a list of values: label IN ('a', 'b')")
        column, literal = _column(node.this)
        return f"({column} IN ({', '.join(literal(value) for value in node.expressions)}))"
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
        _only(node, "this", "expression", "negate")
        column, _ = _column(node.this)
        return f"({column} IS {'NOT ' if node.args.get('negate') else ''}NULL)"
    raise FilterError(
        f"{node.sql(dialect='postgres')[:80]!r} is not allowed in a filter; use comparisons, IN, "
        "BETWEEN, LIKE, IS NULL, AND, OR and NOT"
    )


def _chain(node: exp.Expr) -> list[exp.Expr]:
    """The parts of ``a AND b AND c``, so that they count as one level of nesting and not as two."""
    links, waiting = [], [node]
    while waiting:
        link = waiting.pop()
        while isinstance(link, exp.Paren):
            link = link.this
        if type(link) is type(node):
            waiting += [link.expression, link.this]
        else:
            links.append(link)
    return links


def _only(node: exp.Expr, *known: str) -> None:
    """Refuse a node with arguments that are not rendered: without them a filter may turn around."""
    if {name for name, value in node.args.items() if value} - set(known):
        raise FilterError(f"{node.sql(dialect='postgres')[:80]!r} is not allowed in a filter")


def _column(node: exp.Expr, only: str = "") -> tuple[str, Callable[[exp.Expr], str]]:
    """A column's rendering, and the renderer of the values it can be compared with."""
    if isinstance(node, exp.Paren):
        return _column(node.this, only)
    if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
        raise FilterError(
            f"{node.sql(dialect='postgres')[:80]!r} stands where a column belongs; write the "
            "column at the left, the value at the right"
        )
    if node.args.get("db") or node.args.get("catalog"):
        raise FilterError(f"{node.sql()!r}: only tags.NAME and metadata.NAME have a dot")
    _only(node, "this", "table")
    name = node.name if node.this.quoted else node.name.lower()
    if node.table:
        if node.table.lower() not in MAPS:
            raise FilterError(f"{node.sql()!r}: only tags.NAME and metadata.NAME have a dot")
        # User-metadata names arrive lower-cased from S3; tag names keep their case.
        inner = node.name.lower() if node.table.lower() == "metadata" else node.name
        column = f"json_get_string({node.table.lower()}, {_quote(inner)})"
        return column, _literal(f"{node.table.lower()}.{inner}", _text)
    if name not in COLUMNS:
        near = difflib.get_close_matches(name.lower(), [*COLUMNS, *MAPS], n=1)
        close = f"{near[0]}.NAME" if near and near[0] in MAPS else "".join(near)
        hint = f"; did you mean {close}?" if near else "."
        raise FilterError(
            f"no column {name!r}{hint} Columns: {', '.join(COLUMNS)}, tags.NAME, metadata.NAME"
        )
    kind = COLUMNS[name]
    if only and kind != only:
        raise FilterError(f"column {name!r} is a {kind}, and LIKE compares text")
    return name, _literal(name, {"text": _text, "number": _number, "time": _time}[kind])


def _literal(name: str, render: Callable[[exp.Expr], str]) -> Callable[[exp.Expr], str]:
    def literal(value: exp.Expr) -> str:
        try:
            return render(value)
        except FilterError as error:
            raise FilterError(f"column {name!r}: {error}") from None

    return literal


def _quote(text: str) -> str:
    if "\x00" in text:
        raise FilterError("a text may not hold a NUL character")
    return "'" + text.replace("'", "''") + "'"


def _text(node: exp.Expr) -> str:
    if isinstance(node, exp.Literal) and node.is_string:
        return _quote(node.this)
    shown = node.name if isinstance(node, exp.Column) else node.sql(dialect="postgres")
    raise FilterError(f"{shown[:80]} is no text; texts stand in single quotes: '{shown[:80]}'")


def _number(node: exp.Expr) -> str:
    sign = ""
    if isinstance(node, exp.Neg):
        sign, node = "-", node.this
    if isinstance(node, exp.Literal) and not node.is_string:
        try:
            value = float(node.this)
        except ValueError:
            value = float("nan")
        if value == value and abs(value) < 2**62:
            if value.is_integer():
                whole = int(node.this) if node.this.isdecimal() else int(value)
                # A 32-bit column refuses a larger literal.
                return f"{sign}{whole}" if whole < _INT32 else f"CAST({sign}{whole} AS BIGINT)"
            # An integer column refuses a float literal; the cast keeps 100.5 meaningful.
            return f"CAST({sign}{value!r} AS DOUBLE)"
    raise FilterError(f"{node.sql(dialect='postgres')[:80]!r} is no number")


_TIMES = {exp.DataType.Type.DATE, exp.DataType.Type.TIMESTAMP, exp.DataType.Type.TIMESTAMPTZ}


def _time(node: exp.Expr) -> str:
    if isinstance(node, exp.Cast) and node.to.this in _TIMES:
        _only(node, "this", "to")
        node = node.this
    if not (isinstance(node, exp.Literal) and node.is_string):
        raise FilterError(f"{node.sql(dialect='postgres')[:80]!r} is no date; write '2026-01-31'")
    try:
        moment = dt.datetime.fromisoformat(node.this)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise FilterError(
            f"{node.this!r} is no date; write '2026-01-31' or '2026-01-31T12:00:00+00:00'"
        ) from None
    # Not strftime: its %Y writes the year 999 without a leading zero, which LanceDB refuses.
    shown = moment.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return f"timestamp '{shown}'"
