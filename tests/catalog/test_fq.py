"""Filter queries: what they select, that negation is the complement, that nothing else gets by."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.catalog.filters import COLUMNS, join_filters, render_filter
from tasks.catalog.fq import fq_to_sql
from tasks.errors import FilterError
from tasks.session import pa_table

NOON = datetime(2026, 3, 31, 12, tzinfo=UTC)
ASSETS: dict[str, dict[str, Any]] = {
    "IMG_1.jpg": {
        "label": "red shoes",
        "format": "jpeg",
        "size": 100,
        "prefix": "shoes/",
        "last_modified": datetime(2026, 1, 31, 23, tzinfo=UTC),
        "tags": {"agency": "north", "usage rights": "web", "project": "spring"},
        "metadata": {"owner": "Zoë"},
    },
    "IMGX1.png": {
        "label": "it's 100%",
        "format": "png",
        "size": 5_000_000_000,
        "prefix": "shoes/",
        "last_modified": datetime(2026, 3, 31, 11, tzinfo=UTC),
        "tags": {"agency": "south"},
    },
    "bare": {"last_modified": datetime(2025, 12, 31, tzinfo=UTC)},
    "a*b (2).gif": {
        "label": "a*b",
        "format": "gif",
        "size": 7,
        "prefix": "",
        "last_modified": datetime(2026, 3, 31, 13, tzinfo=UTC),
        "metadata": {"owner": "AND"},
    },
}
SHORT = {"IMG_1.jpg": "I", "IMGX1.png": "X", "bare": "b", "a*b (2).gif": "s"}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog(str(tmp_path_factory.mktemp("catalog")))
    rows = [
        {"asset_id": key, "key": key, "name": key, **values}
        | {name: json.dumps(values.get(name, {})) for name in ("tags", "metadata")}
        for key, values in ASSETS.items()
    ]
    with catalog.writing():
        catalog.upsert("assets", pa_table(rows, schema.LISTING))
    return catalog


def select(catalog: Catalog, *fq: str) -> set[str]:
    where = render_filter(fq_to_sql(fq, NOON))
    return {SHORT[key] for key in catalog.read("assets", ["key"], where)["key"]}


@pytest.mark.parametrize(
    ("fq", "found"),
    [
        ("", "IXbs"),
        ("*:*", "IXbs"),
        ("-*:*", ""),
        ('label:"red shoes"', "I"),
        (r"label:red\ shoes", "I"),
        ("label:it's*", "X"),
        ("-label:it's*", "Ibs"),
        ("label:*", "IXs"),
        ("-label:*", "b"),
        ("label:[* TO *]", "IXs"),
        ("format:(jpeg OR png)", "IX"),
        ("format:(jpeg || png)", "IX"),
        ("-format:(jpeg OR png)", "bs"),
        ("(format:jpeg OR size:[8 TO *])", "IX"),
        ("NOT format:jpeg AND NOT format:png", "bs"),
        ("+format:jpeg && -label:x", "I"),
        ("-(format:jpeg OR -label:*)", "Xs"),
        ("name:IMG_*", "I"),
        ("name:IMG?1*", "IX"),
        (r"name:IMG\*", ""),
        (r"label:a\*?", "s"),
        (r"name:a\*b\ \(2\).gif", "s"),
        ("label:*100%", "X"),
        ("Label:a*b", "s"),
        ("size:100", "I"),
        ("size:[100 TO *]", "IX"),
        ("size:{100 TO *]", "X"),
        ("size:[7 TO 100}", "s"),
        ("-size:[7 TO 100]", "Xb"),
        ("size:99.5", ""),
        ("size:[99.5 TO 5000000000]", "IX"),
        ("last_modified:[2026-01-01 TO NOW]", "IX"),
        ("last_modified:[NOW-1HOUR TO *]", "Xs"),
        ("last_modified:{NOW-1HOUR TO *]", "s"),
        ("last_modified:[NOW-2MONTHS TO NOW/DAY]", "I"),
        ("last_modified:2026-01-31", "I"),
        ("last_modified:2026-03", "Xs"),
        ("last_modified:2026", "IXs"),
        ("-last_modified:2026", "b"),
        ("last_modified:[2026-01-01 TO 2026-01-31]", "I"),
        ("last_modified:[2026-01-01 TO 2026-01-31}", ""),
        ("last_modified:{2026-01-31 TO *]", "Xs"),
        ("last_modified:[* TO 2026-01-31T23:00:00Z}", "b"),
        ('last_modified:["2026-03-31T13:00:00+02:00" TO 2026-03-31T11:00:00Z]', "X"),
        ("tags.agency:north", "I"),
        ("-tags.agency:north", "Xbs"),
        ("tags.project:spr*", "I"),
        (r"tags.usage\ rights:web", "I"),
        ("metadata.Owner:Zoë", "I"),
        ('metadata.owner:"AND"', "s"),
        ("prefix:shoes/", "IX"),
        ('prefix:""', "s"),
        ("id:IMG_1.jpg", "I"),
        ("label:[a TO m]", "Xs"),
    ],
)
def test_selects(catalog: Catalog, fq: str, found: str) -> None:
    assert select(catalog, fq) == set(found)


def test_several_all_hold(catalog: Catalog) -> None:
    assert select(catalog, "prefix:shoes/", "-label:it's*", " ") == {"I"}
    assert fq_to_sql([]) == ""


@pytest.mark.parametrize(
    ("fq", "message"),
    [
        ("label:", "character 7: a value is missing"),
        ("shoes", "character 1: a field and a colon"),
        (":shoes", "character 1: a field is missing"),
        ("lable:a", "character 1: no field 'lable'; did you mean label?"),
        ("format:png tagz.x:1", "character 12: write AND or OR"),
        ("format:png and size:1", "character 12: write AND or OR"),
        ("removed_at:*", "character 1: no field 'removed_at'"),
        ("tags:x", "did you mean tags.NAME?"),
        ("tags.:x", "no field 'tags.'"),
        ("label:a OR size:1 AND size:2", "character 19: AND and OR side by side"),
        ("(label:a", "character 1: this parenthesis is never closed"),
        ("label:(a OR b", "character 7: this parenthesis is never closed"),
        ("label:a) OR (size:1", "character 8: a closing parenthesis"),
        ("-", "character 2: a field is missing"),
        ('label:"a', "character 7: these quotes are never closed"),
        ('label:"a"b', "character 10: 'b' does not belong"),
        ("label:a~2", "character 8: '~' does not belong"),
        ("label:a^2", r"character 8: '\^' does not belong"),
        ("label:/a.*/", "character 7: regular expressions"),
        ("label:a OR", "character 11: a field is missing"),
        ("label:OR", "character 7: OR is no value"),
        ("label:x\\", "character 8"),
        ("{!lucene}label:x", "character 1"),
        ("_query_:x", "character 1: no field"),
        ("size:big", "character 6: 'big' is no number"),
        ("size:1*", "character 6: wildcards"),
        ("size:[1 2]", "character 8: TO belongs"),
        ("size:[1 TO 2", "character 6: this range is never closed"),
        ("size:[1 TO x]", "character 12: 'x' is no number"),
        ("label:[a* TO b]", "character 8: no wildcards"),
        ("size:99999999999999999999", "is no number"),
        ("last_modified:tomorrow", "character 15: 'tomorrow' is no time"),
        ("last_modified:[NOW+1FORTNIGHT TO *]", "character 16: 'NOW.1FORTNIGHT' is no time"),
        ("last_modified:2026-13", "is no time"),
        ("last_modified:9999", "is no time"),
        ("last_modified:[NOW-999999YEARS TO *]", "is no time"),
        ("label:" + "(" * 6 + "a" + ")" * 6, "character 12: more than 5 parentheses"),
        ("(" * 3000 + "label:a" + ")" * 900, "more than 5 parentheses"),
        ("label:a\x00b", "character 8: this character"),
        ("label:\ud800", "character 7: this character"),
        ("x" * 4001, "longer than 4,000"),
    ],
)
def test_refuses_and_says_where(fq: str, message: str) -> None:
    with pytest.raises(FilterError, match=message) as refused:
        fq_to_sql([fq])
    str(refused.value).encode()  # can be printed and answered


def test_too_many_and_too_long_are_refused() -> None:
    with pytest.raises(FilterError, match="at most 50"):
        fq_to_sql(["label:a"] * 51)
    with pytest.raises(FilterError, match="4,000"):
        fq_to_sql([f"label:{'a' * 300}"] * 20)


def test_now_is_the_only_thing_that_moves() -> None:
    rolling, fixed = "last_modified:[NOW-7DAYS TO *]", "last_modified:[2026-01-01 TO *]"
    later = datetime(2027, 1, 1, tzinfo=UTC)
    assert fq_to_sql([rolling], NOON) != fq_to_sql([rolling], later)
    assert fq_to_sql([fixed], NOON) == fq_to_sql([fixed], later)


def test_filters_are_joined_after_each_was_checked() -> None:
    assert join_filters() == join_filters("", " ") == ""
    assert join_filters("size > 1") == "size > 1"
    assert join_filters("size > 1 OR size < 9", "", "label = 'a'") == (
        "(size > 1 OR size < 9) AND (label = 'a')"
    )
    with pytest.raises(FilterError):
        join_filters("size > 1) OR (size < 9", "label = 'a'")


anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=9)
known = st.sampled_from(["red shoes", "jpeg", "it's 100%", "a*b", "north", "IMG_1.jpg", ""])


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def escaped(text: str) -> str:
    return "".join(f"\\{letter}" for letter in text)


fields = st.sampled_from(
    ["label", "format", "name", "prefix", "tags.agency", "metadata.owner", "sha256"]
)
numbers = st.sampled_from(["0", "7", "100", "-3", "99.5", "5000000000", "*"])
times = st.sampled_from(
    ["2026", "2026-01", "2026-01-31", "2026-03-31T11:00:00Z", "NOW", "NOW-1HOUR", "NOW/DAY", "*"]
)
opening, closing = st.sampled_from("[{"), st.sampled_from("]}")
leaves = st.one_of(
    st.builds("{}:{}".format, fields, (anything | known).map(quoted)),
    st.builds("{}:{}".format, fields, (anything | known).filter(bool).map(escaped)),
    st.builds("{}:*{}?".format, fields, anything.map(escaped)),
    st.builds("{}:{}*".format, fields, known.map(escaped)),
    st.builds("{}:*".format, fields | st.sampled_from([*COLUMNS])),
    st.builds("size:{}{} TO {}{}".format, opening, numbers, numbers, closing),
    st.builds("last_modified:{}{} TO {}{}".format, opening, times, times, closing),
    st.builds("last_modified:{}".format, times),
    st.builds("{}:({} OR -{})".format, fields, known.map(quoted), known.map(quoted)),
    st.just("*:*"),
)
queries = st.recursive(
    leaves,
    lambda inner: (
        st.builds("({} AND {})".format, inner, inner)
        | st.builds("({} OR {} OR {})".format, inner, inner, inner)
        | st.builds("-{}".format, inner)
        | st.builds("NOT {}".format, inner)
    ),
    max_leaves=4,
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.long
@quick
@given(fq=queries)
def test_negation_is_the_complement(catalog: Catalog, fq: str) -> None:
    held, not_held = select(catalog, fq), select(catalog, f"-({fq})")
    assert held | not_held == set("IXbs")
    assert not held & not_held


@pytest.mark.long
@quick
@given(one=queries, two=queries)
def test_operators_are_those_of_sets(catalog: Catalog, one: str, two: str) -> None:
    first, second = select(catalog, one), select(catalog, two)
    assert select(catalog, one, two) == first & second
    assert select(catalog, f"{one} AND {two}") == first & second
    assert select(catalog, f"{one} OR {two}") == first | second


@quick
@given(value=anything)
def test_a_value_is_one_text_and_nothing_else(value: str) -> None:
    """Whatever it holds, it ends as one literal of the engine's filter."""
    literal = "'" + value.replace("'", "''") + "'"
    assert render_filter(fq_to_sql([f"label:{quoted(value)}"])) == f"(label = {literal})"


pieces = st.sampled_from(
    [
        "label",
        "size",
        "tags.x",
        ":",
        "*",
        "?",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        '"',
        "\\",
        "TO",
        "AND",
        "OR",
        "NOT",
        "-",
        "+",
        "1",
        "NOW",
        "2026-01-01",
        " ",
        "'",
        "--",
        ";",
        "/*",
        "!",
        "&&",
    ]
)


@settings(max_examples=400, deadline=None)
@given(fq=st.lists(st.text(max_size=40) | st.lists(pieces, max_size=14).map("".join), max_size=3))
def test_what_is_not_refused_is_accepted_by_the_filter(catalog: Catalog, fq: list[str]) -> None:
    try:
        found = fq_to_sql(fq, NOON)
    except FilterError:
        return
    assert catalog.count("assets", render_filter(found) or None) <= len(ASSETS)


def test_the_deepest_query_is_accepted(catalog: Catalog) -> None:
    deepest = "(label:a OR (" * 2 + "(-name:b* AND -size:[1 TO 2])" + "))" * 2
    assert "NOT LIKE" in fq_to_sql([deepest])
    select(catalog, deepest, "format:jpeg")
    where = join_filters("size > 1 OR label = 'b'", fq_to_sql([deepest, "format:jpeg"]))
    catalog.count("assets", render_filter(where))
