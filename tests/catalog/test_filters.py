from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.catalog.filters import COLUMNS, render_filter
from tasks.errors import FilterError
from tasks.session import pa_table

Select = Callable[[str], list[str]]

ASSETS: list[dict[str, Any]] = [
    {
        "key": "shoes/red.jpg",
        "prefix": "shoes/",
        "label": "shoes",
        "format": "jpeg",
        "size": 100,
        "width": 640,
        "last_modified": datetime(2026, 1, 1, tzinfo=UTC),
        "tags": {"agency": "north", "my key": "a b", "dot.ted": "d", 'quo"ted': "q", "it's": "i"},
        "metadata": {"owner": "Zoë"},
    },
    {
        "key": "shoes/blue.png",
        "prefix": "shoes/",
        "label": "it's 100%",
        "format": "png",
        "size": 5_000_000_000,
        "width": 1920,
        "last_modified": datetime(2026, 6, 30, 12, tzinfo=UTC),
        "tags": {"agency": "south"},
    },
    {
        "key": "hats/Grün.jpg",
        "prefix": "hats/",
        "label": None,
        "format": "jpeg",
        "size": 300,
        "width": None,
        "last_modified": datetime(2025, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    },
]


def asset(number: int, values: dict[str, Any]) -> dict[str, Any]:
    maps = {name: json.dumps(values.get(name, {})) for name in ("tags", "metadata")}
    return {"asset_id": str(number), **values, **maps}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog(str(tmp_path_factory.mktemp("catalog")))
    rows = [asset(number, values) for number, values in enumerate(ASSETS)]
    with catalog.writing():
        catalog.upsert("assets", pa_table(rows, schema.LISTING))
        reading = [{"asset_id": row["asset_id"], "width": row["width"]} for row in rows]
        catalog.upsert("assets", pa_table(reading, schema.READING).select(["asset_id", "width"]))
    return catalog


@pytest.fixture(scope="module")
def select(catalog: Catalog) -> Select:
    """The last names of the keys that a user's filter selects."""

    def run(where: str) -> list[str]:
        keys = catalog.read("assets", ["key"], render_filter(where))["key"]
        return [key.rsplit("/")[-1].split(".")[0] for key in keys]

    return run


@pytest.mark.parametrize(
    ("where", "rendered"),
    [
        ("", ""),
        (" \n", ""),
        ("SIZE>3", "(size > 3)"),
        ('((("size" > 3)))', "(size > 3)"),
        ("size > 1e3", "(size > 1000)"),
        ("size != 1", "(size <> 1)"),
        ("label = 'it''s'", "(label = 'it''s')"),
        ("label IS NOT NULL", "(label IS NOT NULL)"),
        ("label NOT LIKE 'a%'", "(NOT (label LIKE 'a%'))"),
        ("tags.Agency = 'x'", "(json_get_string(tags, 'Agency') = 'x')"),
        ("metadata.Owner = 'x'", "(json_get_string(metadata, 'owner') = 'x')"),
        (
            "last_modified >= '2026-01-01T00:00:00+02:00'",
            "(last_modified >= timestamp '2025-12-31 22:00:00.000000')",
        ),
        (
            "size>1 and size<9 and (label='a' or label='b')",
            "((size > 1) AND (size < 9) AND ((label = 'a') OR (label = 'b')))",
        ),
    ],
)
def test_renders(where: str, rendered: str) -> None:
    assert render_filter(where) == rendered


@pytest.mark.parametrize(
    "where",
    [
        "label = 'a' garbage",
        "size > 1) OR (1=1",
        "size > 1; DROP TABLE assets",
        "size > 1 LIMIT 1",
        "size > 1 ORDER BY size",
        "size > 1 GROUP BY size",
        "size > 1 FOR UPDATE",
        "size > 1 UNION SELECT 1",
        "size > 1, size < 9",
        "label IN (SELECT label FROM assets)",
        "label IN ()",
        "size > (SELECT 1)",
        "EXISTS (SELECT 1)",
        "WITH x AS (SELECT 1) SELECT 1",
        "lower(label) = 'a'",
        "label = lower('A')",
        "label = 'a' -- or label = 'b'",
        "label = 'a' /* or label = 'b' */",
        "--",
        "/*",
        "1 = 1",
        "true",
        "label",
        "NOT label",
        "label IS TRUE",
        "'a' = label",
        "label = size",
        'label = "a"',
        "label = 'a' AND",
        "label = E'a\\n'",
        "label = 'a' || 'b'",
        "label LIKE 'a!%' ESCAPE '!'",
        "label ~ 'a'",
        "size NOT BETWEEN SYMMETRIC 9 AND 1",
        "tags.a.b = 'x'",
        "other.a = 'x'",
        "assets.size > 1",
        "label = ?",
        "label = $1",
        "label = :x",
        "label = %s",
        "label = 'a\x00b'",
        "label = '\ud800'",
        "last_modified > '2026-01-01'::int",
        "last_modified > '0001-01-01T00:00:00+23:00'",
        "size > 1e400",
    ],
)
def test_refuses(where: str) -> None:
    with pytest.raises(FilterError):
        render_filter(where)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("labl = 'a'", "'labl'; did you mean label?"),
        ("siez > 1 and label = 'a'", "'siez'; did you mean size?"),
        ("tags = 'a'", r"'tags'; did you mean tags.NAME\?"),
        ("removed_at IS NULL", "'removed_at'"),
        ("size > 'a'", "'size'.*no number"),
        ("label = 3", "'label'.*no text"),
        ("label IN ('a', 3)", "'label'.*no text"),
        ("label LIKE 3", "'label'.*no text"),
        ("size LIKE '1%'", "'size'"),
        ("tags.agency = 3", "'tags.agency'.*no text"),
        ("last_modified > 2026", "'last_modified'.*2026-01-31"),
        ("last_modified > 'yesterday'", "'last_modified'.*2026-01-31"),
        ("label = 'a' garbage", "'garbage'"),
    ],
)
def test_an_error_names_what_is_wrong(where: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        render_filter(where)


@pytest.mark.parametrize(
    "where",
    [
        "(" * 1500 + "size > 1" + ")" * 1500,
        "NOT " * 20 + "size > 1",
        "size > 1 AND (size > 1 OR (" * 8 + "size > 1" + "))" * 8,
    ],
)
def test_too_deep_is_refused(where: str) -> None:
    with pytest.raises(FilterError, match="deeply nested"):
        render_filter(where)


def test_too_long_is_refused() -> None:
    with pytest.raises(FilterError, match="4,000"):
        render_filter("label = '" + "a" * 4000 + "'")


def test_what_is_deep_but_allowed_runs_at_once(select: Select) -> None:
    assert select("NOT " * 10 + "size = 300") == ["Grün"]  # 30 of them take LanceDB for ever
    assert select("size > 1 AND (size > 1 OR (" * 5 + "size = 300" + "))" * 5)


def test_a_long_chain_runs(select: Select) -> None:
    assert select(" OR ".join(["size=300"] * 300)) == ["Grün"]


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("label = 'shoes'", "red"),
        ("label = 'it''s 100%'", "blue"),
        ("label LIKE 'it''s%'", "blue"),
        ("label NOT LIKE 'it''s%'", "red"),
        ("label ILIKE 'SHOES'", "red"),
        ("label LIKE 'SHOES'", ""),
        ("label IS NULL", "Grün"),
        ("label IS NOT NULL", "blue red"),
        ("NOT label IS NULL", "blue red"),
        ("prefix = 'shoes/'", "blue red"),
        ("key LIKE 'hats/Gr_n.jpg'", "Grün"),
        ("format = 'jpeg' AND NOT prefix = 'hats/'", "red"),
        ("NOT (format = 'jpeg' OR size < 200)", "blue"),
        ("format IN ('png', 'gif')", "blue"),
        ("format NOT IN ('png', 'gif')", "Grün red"),
        ("size BETWEEN 100 AND 300", "Grün red"),
        ("size NOT BETWEEN 100 AND 300", "blue"),
        ("size > 4999999999", "blue"),
        ("size < 100.5", "red"),
        ("size > -1.5", "Grün blue red"),
        ("width < 5000000000", "blue red"),
        ("width IN (640, 5000000000)", "red"),
        ("last_modified < '2026-01-01'", "Grün"),
        ("last_modified > '2025-12-31T23:59:59.999998+00:00'", "Grün blue red"),
        ("last_modified BETWEEN '2026-01-01' AND date '2026-06-30'", "red"),
        ("last_modified = timestamp '2026-06-30 14:00:00+02:00'", "blue"),
        ("last_modified > '0001-01-01'", "Grün blue red"),
        ("tags.agency = 'north'", "red"),
        ("tags.Agency = 'north'", ""),
        ("tags.\"my key\" = 'a b'", "red"),
        ("tags.\"dot.ted\" = 'd'", "red"),
        ('tags."quo""ted" = \'q\'', "red"),
        ("tags.\"it's\" = 'i'", "red"),
        ("tags.agency IS NULL", "Grün"),
        ("tags.agency <> 'north'", "blue"),
        ("metadata.Owner = 'Zoë'", "red"),
    ],
)
def test_selects(select: Select, where: str, names: str) -> None:
    assert select(where) == sorted(
        names.split(), key=lambda name: ["Grün", "blue", "red"].index(name)
    )


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)


@settings(max_examples=40, deadline=None)
@given(value=texts | st.sampled_from(["'", "''", "\\", "\\'", "' OR 1=1 --", "a\r\nb", "e\u0301"]))
def test_any_text_selects_itself_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, value: str
) -> None:
    others = ["", "'", value + " ", value + "'", "x" + value, value.replace("'", "''") + "?"]
    catalog = Catalog(str(tmp_path_factory.mktemp("c")))
    rows = [
        asset(number, {"key": text, "tags": {"t": text}})
        for number, text in enumerate(dict.fromkeys([value, *others]))
    ]
    with catalog.writing():
        catalog.upsert("assets", pa_table(rows, schema.LISTING))
    literal = "'" + value.replace("'", "''") + "'"
    for column in ("key", "tags.t"):
        found = catalog.read("assets", ["key"], render_filter(f"{column} = {literal}"))
        assert found["key"].to_list() == [value]


signs = [
    "AND",
    "OR",
    "NOT",
    "(",
    ")",
    "=",
    "<>",
    ">",
    "IN",
    "LIKE",
    "BETWEEN",
    "IS",
    ",",
    "--",
    ";",
]
values = ["1", "2.5", "-3", "'a'", "'2026-01-01'", "NULL", "SELECT"]
words = st.sampled_from([*COLUMNS, "tags.x", 'tags."y z"', *signs, *values])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(where=st.text(max_size=60) | st.lists(words, max_size=12).map(" ".join))
def test_garbage_is_refused_or_runs(catalog: Catalog, where: str) -> None:
    try:
        rendered = render_filter(where)
    except FilterError:
        return
    assert catalog.count("assets", rendered or None) <= len(ASSETS)


column = st.sampled_from(["key", "label", "format"])
literals = texts.map(lambda text: "'" + text.replace("'", "''") + "'")
leaves = st.one_of(
    st.builds("{} = {}".format, column, literals),
    st.builds("{} LIKE {}".format, column, literals),
    st.builds("{} IS NOT NULL".format, column),
    st.builds("size > {}".format, st.integers(1 - 2**31, 2**31 - 1)),
    st.builds("size BETWEEN {} AND {}".format, st.integers(0, 9), st.integers(0, 9)),
    st.builds("{} NOT IN ({}, {})".format, column, literals, literals),
)
filters = st.recursive(
    leaves,
    lambda inner: (
        st.builds("({} AND {})".format, inner, inner)
        | st.builds("({} OR {})".format, inner, inner)
        | st.builds("NOT {}".format, inner)
    ),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(where=filters)
def test_rendering_again_changes_nothing(catalog: Catalog, where: str) -> None:
    try:
        rendered = render_filter(where)
    except FilterError as error:
        assert "deeply nested" in str(error)  # noqa: PT017 - the only reason allowed here
        return
    assert render_filter(rendered) == rendered
    assert catalog.count("assets", rendered) <= len(ASSETS)
