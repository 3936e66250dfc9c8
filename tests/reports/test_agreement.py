"""Every document of one scan says the same."""

from __future__ import annotations

import csv
import email
import email.policy
import io
import json
import re

import polars as pl
import pytest

from flows.order import compose, render
from reports.page import totals
from reports.run import group_rows, summary_markdown
from reports.words import human_bytes, shown_key
from tasks.csv_cells import unescape_cell
from tasks.records import Summary
from tasks.settings import Settings


@pytest.fixture(params=["scanned", "hostile"])
def summary(request, make_summary, hostile) -> Summary:
    """A real scan's summary, and one of hostile keys."""
    if request.param == "hostile":
        groups = [[f"{n} {key}", key + str(n), f"x{n}{key}"] for n, key in enumerate(hostile)]
        return make_summary(*groups, tiers=("near", "exact"), failed=tuple(hostile))
    library = request.getfixturevalue("library")
    for number in range(4):
        library.add(f"keep {number}.png", number, width=320)
        library.add(f"=copy {number}.jpg", number)
    library.add("a third.bmp", 0)
    library.add("alone.png", 9)
    library.write("notes.txt", b"no picture")
    library.write("cut.jpg", b"\xff\xd8\xff" + b"x" * 500)
    return library.scan().summary


def test_html_json_csv_parquet_and_mail_agree(summary):
    documents = {document.name: document.body for document in render(summary)}
    counted = totals(summary)

    data = json.loads(documents["groups.json"])
    assert data["totals"] == counted
    groups = {group["id"]: group for group in data["groups"]}
    assert len(groups) == counted["groups"] > 3
    assert sum(group["savings"] for group in groups.values()) == counted["savings"]
    keys = {(name, one["key"], one["role"]) for name, g in groups.items() for one in g["members"]}
    assert sum(role == "duplicate" for _, _, role in keys) == counted["duplicates"]

    read = {
        name: pl.read_parquet(io.BytesIO(body))
        for name, body in documents.items()
        if name.endswith(".parquet")
    }
    assert set(read["members.parquet"].select("group_id", "key", "role").iter_rows()) == keys
    assert dict(read["members.parquet"].group_by("group_id").len().iter_rows()) == {
        name: len(group["members"]) for name, group in groups.items()
    }

    pairs = cells(documents["pairs.csv"])
    table = read["pairs.parquet"]
    assert [(row["left"], row["right"], row["tier"]) for row in pairs] == list(
        table.select("left", "right", "tier").iter_rows()
    )
    assert [float(row["score"]) for row in pairs] == table["score"].to_list()
    home = {key: name for name, key, _ in keys}
    inside = {row["relation"] == "duplicate" for row in pairs}
    assert inside == {True}
    assert {home[row["left"]] == home[row["right"]] for row in pairs} == {True}

    lost = cells(documents["coverage.csv"])
    assert [tuple(row.values()) for row in lost] == list(read["coverage.parquet"].iter_rows())
    assert len(lost) == counted["failed"] + counted["skipped"]
    for outcome in ("failed", "skipped"):
        reasons = [row["reason"] for row in lost if row["outcome"] == outcome]
        assert data["coverage"][outcome] == {name: reasons.count(name) for name in set(reasons)}

    last = json.loads(documents["history.json"])["scans"][-1]
    assert {name: last[name] for name in counted} == counted

    page = documents["report.html"].decode()
    found = re.search(r'<script type="application/json" id="data"[^>]*>(.*?)</script>', page, re.S)
    drawn = json.loads(found[1])["groups"]
    assert [group["i"] for group in drawn] == [group["id"] for group in data["groups"]]
    for group in drawn:
        assert group["n"] == len(groups[group["i"]]["members"])
        assert {(group["i"], member[0]) for member in group["m"]} <= {key[:2] for key in keys}
    assert f"{counted['groups']} group" in page
    assert human_bytes(counted["savings"]) in page


def test_the_mail_and_the_run_page_agree_with_them(summary):
    (mail,) = compose(summary, [], Settings(mail={"to": ["a@example.com"]}))
    read = email.message_from_bytes(mail.as_bytes(), policy=email.policy.default)
    text = read.get_body(("plain",)).get_content()
    counted = totals(summary)
    assert f"{counted['groups']} groups with {counted['duplicates']} duplicates" in read["Subject"]
    assert f"{counted['exact']} exact (only encoded or scaled anew), {counted['near']} near" in text
    assert f"{counted['skipped']} skipped, {counted['failed']} failed" in text
    kept = re.findall(r"(?m)^   keep {7}(.*)$", text)
    assert sorted(kept) == sorted(shown_key(key) for key in summary.groups["keeper"])
    for state in ("new", "changed"):
        assert (f"{counted[state]} {state}" in text) is bool(counted[state])

    markdown = summary_markdown(summary, [])
    assert f"**{counted['exact']}** exact" in markdown
    assert f"{counted['skipped']} skipped, {counted['failed']} failed" in markdown
    rows = group_rows(summary, 200)
    assert [row["group"] for row in rows] == summary.groups["group_id"].to_list()
    assert sum(row["assets"] - 1 for row in rows) == counted["duplicates"]


def cells(body: bytes) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(body.decode(), newline=""))
    return [{name: unescape_cell(cell) for name, cell in row.items()} for row in rows]
