"""The examples of docs/filters.md select what the page says."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

import pytest

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.catalog.filters import COLUMNS, render_filter
from tasks.catalog.fq import fq_to_sql
from tasks.session import pa_table

PAGE = Path(__file__).parents[2] / "docs" / "filters.md"


def tables() -> dict[str, list[list[str]]]:
    """The page's tables by the word over their first column."""
    found: dict[str, list[list[str]]] = {}
    for block in re.findall(r"(?:^\|.*\n)+", PAGE.read_text("utf-8"), re.MULTILINE):
        rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        ]
        found[rows[0][0]] = rows[2:]
    return found


TABLES = tables()


def pairs(text: str) -> str:
    return json.dumps(dict(pair.strip().split("=") for pair in text.split(";") if pair.strip()))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    rows = []
    for name, key, label, kind, size, time, tags, metadata in TABLES["asset"]:
        plain = key.strip("`")
        prefix, slash, last = plain.rpartition("/")
        rows.append(
            {
                "asset_id": name,
                "key": plain,
                "prefix": prefix + slash,
                "name": last,
                "extension": last.rpartition(".")[2],
                "label": label.strip("`") or None,
                "format": kind.strip("`"),
                "size": int(size),
                "last_modified": datetime.fromisoformat(time),
                "tags": pairs(tags),
                "metadata": pairs(metadata),
            }
        )
    catalog = Catalog(str(tmp_path_factory.mktemp("catalog")))
    with catalog.writing():
        catalog.upsert("assets", pa_table(rows, schema.LISTING))
    return catalog


def selected(catalog: Catalog, where: str) -> str:
    return " ".join(catalog.read("assets", ["asset_id"], render_filter(where))["asset_id"])


@pytest.mark.parametrize(("where", "assets"), TABLES["where"])
def test_where(catalog: Catalog, where: str, assets: str) -> None:
    assert selected(catalog, where.strip("`")) == assets


@pytest.mark.parametrize(("fq", "assets"), TABLES["fq"])
def test_fq(catalog: Catalog, fq: str, assets: str) -> None:
    assert selected(catalog, fq_to_sql([fq.strip("`")])) == assets


def test_every_field_is_listed() -> None:
    listed = " ".join(row[0] for row in TABLES["field"])
    assert set(re.findall(r"`(\w+)`", listed)) == set(COLUMNS)
    kinds = {name: row[1] for row in TABLES["field"] for name in re.findall(r"`(\w+)`", row[0])}
    assert kinds == COLUMNS
