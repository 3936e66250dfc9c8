"""CSV that a spreadsheet program can open without running what is in it.

A cell is run as a formula when it begins with ``=``, ``+``, ``-`` or ``@`` (or their full-width
forms), also behind blanks and invisible characters. Such a cell gets an apostrophe in front, as
OWASP advises, and so does one that begins with an apostrophe: whoever takes one leading apostrophe
away from any cell has the text as it was.
"""

from __future__ import annotations

import re

import polars as pl

#: What the program's own CSV files put in front of a cell that is not to be run.
MARK = "'"
#: Blanks and invisible characters, which some programs skip, and what makes a formula.
_STARTS = (
    r"^(?:[\t\r\n']|[\s\x00-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]*"
    r"[=+\-@\uff1d\uff0b\uff0d\uff20])"
)
_FORMULA = re.compile(_STARTS)
#: The same for polars, whose regular expressions write code points differently.
_FORMULA_RUST = re.sub(r"\\u([0-9a-f]{4})", r"\\x{\1}", _STARTS)


def escape_cell(text: str) -> str:
    """A text that no spreadsheet program takes for a formula."""
    return MARK + text if _FORMULA.match(text) else text


def unescape_cell(text: str) -> str:
    """The text that :func:`escape_cell` was given."""
    return text.removeprefix(MARK)


def frame_csv(frame: pl.DataFrame) -> bytes:
    """A frame as CSV in UTF-8, texts quoted and escaped, numbers and column names as they are."""
    texts = [
        pl.when(pl.col(name).str.contains(_FORMULA_RUST))
        .then(pl.lit(MARK) + pl.col(name))
        .otherwise(pl.col(name))
        .alias(name)
        for name, kind in frame.schema.items()
        if kind == pl.String
    ]
    body = frame.with_columns(texts).write_csv(quote_style="non_numeric", include_header=False)
    return (",".join(frame.columns) + "\n" + body).encode()
