"""CSV that a spreadsheet program can open without running what is in it.

A cell is run as a formula when it begins with ``=``, ``+``, ``-`` or ``@`` (or their full-width
forms), also behind blanks and invisible characters. Such a cell gets an apostrophe in front, as
OWASP advises, and so does one that begins with an apostrophe: whoever takes one leading apostrophe
away from any cell has the text as it was.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # reading a table of words takes no polars
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


def decode_table(data: bytes) -> str:
    """The text of a CSV file as spreadsheet programs save it.

    UTF-8 and UTF-16 are known by their byte order mark or by being valid; else it is taken for
    Windows-1252, which Excel writes in Western Europe and America. A text in another encoding then
    has wrong letters, so that names in it match nothing.

    Raises:
        ValueError: when it is none of these.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    elif data[1:2] == b"\0":
        encodings = ["utf-16-le"]
    elif data[:1] == b"\0":
        encodings = ["utf-16-be"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError("neither UTF-8, UTF-16 nor Windows-1252; save it as CSV in UTF-8")


def read_table(data: bytes, columns: set[str]) -> csv.DictReader[str]:
    """The rows of a CSV file with commas, semicolons or tabs between cells.

    Which of them it is, the first line says: the one that gives the wanted columns. Excel writes
    semicolons where the comma stands in numbers, and may put ``sep=;`` before the first line.

    Args:
        data: the file.
        columns: what the first line must name, in lower case; it may name more.

    Raises:
        ValueError: when a column is missing, or the file is no text.
    """
    text = decode_table(data)
    mark = re.match(r"\s*\"?sep=(.)\"?\r?\n", text, re.IGNORECASE)
    text = text[mark.end() :] if mark else text
    found: set[str] = set()
    for separator in (mark[1],) if mark else (",", ";", "\t"):
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        if columns <= set(reader.fieldnames):
            return reader
        found = max(found, set(reader.fieldnames), key=len)
    missing = ", ".join(sorted(columns - found))
    raise ValueError(f"the CSV has no column {missing}; its first line names the columns")


def frame_csv(frame: pl.DataFrame) -> bytes:
    """A frame as CSV in UTF-8, texts quoted and escaped, numbers and column names as they are."""
    import polars as pl

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
