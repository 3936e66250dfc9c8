"""How things are written for people."""

from __future__ import annotations

import json
import string
from datetime import UTC, datetime
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.words import (
    counted,
    human_bytes,
    reason_words,
    shown_key,
    soon,
    speaking,
    text,
    texts,
)


@pytest.mark.parametrize(
    ("size", "written"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_500_000, "1.5 MB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (2_000_000_000, "2.0 GB"),
        (3_500_000_000_000, "3.5 TB"),
        (1_234_000_000_000_000, "1234.0 TB"),
    ],
)
def test_human_bytes(size, written):
    assert human_bytes(size) == written


@given(size=st.integers(0, 10**12))
def test_no_size_reads_as_1000_of_a_unit(size):
    assert not human_bytes(size).startswith("1000")


def test_counted():
    assert [counted(n, "group") for n in (0, 1, 1200)] == ["0 groups", "1 group", "1,200 groups"]
    assert counted(2, "copy", "copies") == "2 copies"


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("a/b c.jpg", "a/b c.jpg"),
        ("caf\u00e9 \u65e5\u672c \U0001f4f7", "caf\u00e9 \u65e5\u672c \U0001f4f7"),
        ("a\r\nb\tc\x00", r"a\r\nb\tc\x00"),
        ("x\u202egpj.exe", r"x\u202egpj.exe"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("sep\u2028\u2029", r"sep\u2028\u2029"),
        ("lone \ud800", r"lone \ud800"),
    ],
)
def test_shown_key(key, shown):
    assert shown_key(key) == shown


@given(key=st.text())
def test_a_shown_key_is_one_printable_line(key):
    shown = shown_key(key)
    assert len(shown.splitlines()) <= 1
    assert shown.encode().decode() == shown  # no lone surrogate is left
    assert shown_key(shown) == shown


def test_every_reason_has_words():
    assert reason_words("truncated") == "cut off: the file ends before the picture does"
    assert reason_words("never_heard_of") == "never heard of"


OTHERS = [
    one.name.removesuffix(".json")
    for one in files("reports").joinpath("texts").iterdir()
    if one.name.endswith(".json") and one.name != "en.json"
]


def test_german_is_there():
    assert "de" in OTHERS


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_has_every_text_with_the_same_values(language):
    def values(said: str) -> list[str]:
        return sorted(name for _, name, _, _ in string.Formatter().parse(said) if name)

    own = json.loads(files("reports").joinpath(f"texts/{language}.json").read_text("utf-8"))
    assert own.keys() == texts().keys()
    for name, said in texts().items():
        assert values(own[name]) == values(said), name
        assert bool(own[name].strip()) is bool(said.strip()), name


def test_numbers_times_and_plurals_of_a_language():
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    with speaking("de"):
        assert human_bytes(1_500_000) == "1,5 MB"
        assert [counted(n, "file") for n in (1, 1200)] == ["1 Datei", "1.200 Dateien"]
        assert soon(noon, noon) == "heute 12:00 UTC"
        with speaking("xx"):  # no such file
            assert text("role.duplicate") == "Duplicate"
        assert text("role.duplicate") == "Dublette"
    assert counted(1200, "file") == "1,200 files"
