"""CSV cells: nothing runs, nothing is lost."""

from __future__ import annotations

import csv
import io

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.csv_cells import escape_cell, frame_csv, unescape_cell

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
