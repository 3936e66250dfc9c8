"""CSV cells: nothing runs, nothing is lost."""

from __future__ import annotations

import csv
import io

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.csv_cells import decode_table, escape_cell, frame_csv, read_table, unescape_cell

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\rx",
    "\nx",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff201",
    " =1",
    "\xa0=1",
    "\u200b=1",
    "\ufeff@x",
    "\x00=1",
]
PLAIN = ["a=1", "photos/-x.jpg", "", " a", "\u4e00=", "1-2", "a'b"]


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_run_is_escaped(text):
    assert escape_cell(text) == "'" + text


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_stay_as_they_are(text):
    assert escape_cell(text) == text


@given(st.text())
def test_every_text_comes_back(text):
    assert unescape_cell(escape_cell(text)) == text


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8))
def test_a_frame_is_escaped_as_its_cells_are(texts):
    rows = read(frame_csv(pl.DataFrame({"key": texts, "n": [-1.5] * len(texts)})))
    assert rows == [["key", "n"], *([escape_cell(text), "-1.5"] for text in texts)]


@pytest.mark.parametrize("text", FORMULAS + PLAIN)
def test_both_know_the_same_formulas(text):
    assert read(frame_csv(pl.DataFrame({"key": [text]})))[1] == [escape_cell(text)]


def test_a_text_is_quoted_whatever_separates_cells_elsewhere():
    """Where a semicolon separates cells, an unquoted one would begin a new cell."""
    assert b'"a;=1"' in frame_csv(pl.DataFrame({"key": ["a;=1"]}))


def read(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode(), newline="")))


ROWS = [
    {"left": "'=1;2.jpg", "right": 'line\nbreak, "quoted"\tx.jpg', "verdict": "distinct"},
    {"left": "Köln, naïve €.jpg", "right": "b.jpg", "verdict": ""},
]


def saved(separator: str, encoding: str, prefix: str = "") -> bytes:
    """The rows as a spreadsheet program saves them."""
    out = io.StringIO()
    writer = csv.DictWriter(out, ["left", "right", "verdict"], delimiter=separator)
    writer.writeheader()
    writer.writerows(ROWS)
    return (prefix + out.getvalue()).encode(encoding)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]
)
def test_a_table_is_read_as_spreadsheets_save_it(separator, encoding):
    read = read_table(saved(separator, encoding), {"left", "right", "verdict"})
    assert list(read) == ROWS


@pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\n', "SEP=;\n"])
def test_the_line_in_which_excel_names_the_separator_is_no_row(first):
    assert list(read_table(saved(";", "utf-8-sig", first), {"left", "right", "verdict"})) == ROWS


def test_names_of_columns_are_read_in_any_case_and_other_columns_are_left():
    (row,) = read_table(b" Left ;RIGHT;verdict;Note\r\na;b;linked;x\r\n", {"left", "verdict"})
    assert (row["left"], row["right"], row["verdict"], row["note"]) == ("a", "b", "linked", "x")


def test_a_table_without_its_columns_names_those_that_are_missing():
    with pytest.raises(ValueError, match="no column verdict;"):
        read_table(b"left;right\na;b\n", {"left", "right", "verdict"})


def test_what_is_no_text_is_refused_with_a_word_on_its_encoding():
    with pytest.raises(ValueError, match="save it as CSV in UTF-8"):
        decode_table(b"left,right\n\x81\x8d,b\n")
    with pytest.raises(ValueError, match="save it as CSV in UTF-8"):
        decode_table(b"\xff\xfea")
