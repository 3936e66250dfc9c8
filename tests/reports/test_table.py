"""groups.json, pairs.csv, coverage.csv, and the same as Parquet."""

from __future__ import annotations

import csv
import io
import json
import re

import jsonschema
import polars as pl
import pytest

from reports.table import coverage_csv, groups_json, pairs_csv, schema, tables
from tasks.csv_cells import unescape_cell
from tasks.records import GroupNote, PlanNote


def rows_of(document) -> list[list[str]]:
    return list(csv.reader(io.StringIO(document.body.decode(), newline="")))


def test_groups_json(make_summary):
    summary = make_summary(["a.jpg", "b.jpg", "c.jpg"], ["x.png", "y.png"], tiers=("near", "exact"))
    content = json.loads(groups_json(summary).body)
    assert content["format"] == "dam-dedup groups 1"
    assert content["scan"]["kind"] == "full"
    assert content["scan"]["threshold"] == 0.7
    assert content["model"]["space"] == summary.space.id
    assert [group["id"] for group in content["groups"]] == ["g0000", "g0001"]
    first = content["groups"][0]
    assert first["savings"] == 3000
    assert [(m["key"], m["role"], m["score"]) for m in first["members"]] == [
        ("a.jpg", "keeper", 1.0),
        ("b.jpg", "duplicate", 0.91),
        ("c.jpg", "duplicate", 0.91),
    ]
    assert first["members"][0]["last_modified"].startswith("2026-11-22T12:00:00")
    assert all("group_id" not in member for member in first["members"])


def test_coverage_of_groups_json_adds_up(make_summary):
    summary = make_summary(["a", "b"], skipped=("t1", "t0"), failed=("f",))
    coverage = json.loads(groups_json(summary).body)["coverage"]
    lost = sum(coverage["skipped"].values()) + sum(coverage["failed"].values())
    assert coverage["seen"] == coverage["scanned"] + lost
    assert coverage["keys"] == {"failed:truncated": ["f"], "skipped:not_an_image": ["t0", "t1"]}


def test_groups_stay_in_the_order_of_the_summary(make_summary):
    summary = make_summary(*([f"a{n}", f"b{n}"] for n in range(50)))
    turned = summary.groups.reverse()
    again = make_summary(*([f"a{n}", f"b{n}"] for n in range(50)), groups=turned)
    listed = [group["id"] for group in json.loads(groups_json(again).body)["groups"]]
    assert listed == turned["group_id"].to_list()


def test_odd_keys_come_back_from_json(make_summary, hostile):
    content = json.loads(groups_json(make_summary(hostile, failed=tuple(hostile))).body)
    assert [member["key"] for member in content["groups"][0]["members"]] == hostile
    assert content["coverage"]["keys"]["failed:truncated"] == sorted(hostile)


def test_pairs_csv(make_summary):
    rows = rows_of(pairs_csv(make_summary(["b.jpg", "a.jpg"])))
    assert rows == [
        [
            "left",
            "right",
            "score",
            "tier",
            "relation",
            "changes",
            "original",
            "reasons",
            "flipped",
            "evidence",
        ],
        [
            "a.jpg",
            "b.jpg",
            "0.91",
            "near",
            "duplicate",
            "cropped to 80 %; brighter by 0.3 stops",
            "right",
            "larger",
            "true",
            '{"method":"features","inliers":40}',
        ],
    ]


def test_links_are_listed(make_summary):
    links = pl.DataFrame({"left": ["a.cr2"], "right": ["a.jpg"], "reason": ["raw"]})
    content = json.loads(groups_json(make_summary(["x", "y"], links=links)).body)
    assert content["linked"] == [{"left": "a.cr2", "right": "a.jpg", "reason": "raw"}]


def test_odd_keys_come_back_from_csv(make_summary, hostile):
    summary = make_summary(["0 keeper", *hostile], failed=tuple(hostile))
    rows = rows_of(pairs_csv(summary))[1:] + rows_of(coverage_csv(summary))[1:]
    assert not [cell for row in rows for cell in row if re.match(r"[=+@\t\r\n-]", cell)]
    pairs = [[unescape_cell(cell) for cell in row[:2]] for row in rows_of(pairs_csv(summary))[1:]]
    assert pairs == [sorted(["0 keeper", key]) for key in hostile]
    failed = [row[0] for row in rows_of(coverage_csv(summary)) if row[1] == "failed"]
    assert [unescape_cell(key) for key in failed] == hostile


@pytest.mark.parametrize("key", ["a\rb", "a\nb", 'a"b', "a,b", " a ", "", "'a'", "a;b", "\u2028"])
def test_csv_of_one_odd_key(make_summary, key):
    rows = rows_of(coverage_csv(make_summary(skipped=(), failed=(key,))))
    assert [unescape_cell(rows[1][0]), *rows[1][1:]] == [
        key,
        "failed",
        "truncated",
        "file is truncated",
    ]


def test_totals_agree_between_json_and_csv(make_summary):
    summary = make_summary(["a", "b", "c"], ["x", "y"], failed=("1", "2"))
    content = json.loads(groups_json(summary).body)
    duplicates = sum(len(group["members"]) - 1 for group in content["groups"])
    assert duplicates == len(rows_of(pairs_csv(summary))) - 1 == 3
    assert content["coverage"]["failed"] == {"truncated": 2}
    assert len(rows_of(coverage_csv(summary))) - 1 == 3


def test_an_empty_result(make_summary):
    summary = make_summary(skipped=(), failed=())
    assert json.loads(groups_json(summary).body)["groups"] == []
    assert len(rows_of(pairs_csv(summary))) == 1
    assert rows_of(coverage_csv(summary)) == [["key", "outcome", "reason", "message"]]


# ---- the schema ------------------------------------------------------------------------------


def checked(summary) -> dict:
    content = json.loads(groups_json(summary).body)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema(), format_checker=checker).validate(content)
    return content


def test_groups_json_keeps_its_schema(make_summary, hostile):
    jsonschema.Draft202012Validator.check_schema(schema())
    note = GroupNote("quarantine", True, 1, 1500, questions=("which?",), approvers=("legal",))
    pages = {"a@example.com": "https://gate/secret"}
    plan = PlanNote(
        "a1b2", 1, 1, 0, 0, 1500, form="https://ui/secret", pages=pages, groups={"g0000": note}
    )
    said = {
        "made": "2026-11-22T12:00:00+00:00",
        "rule": "r",
        "labelled": 40,
        "recommended": None,
        "thresholds": [],
    }
    summary = make_summary(
        hostile,
        ["x", "y"],
        tiers=("near", "exact"),
        plan=plan,
        calibrated=said,
        counts={"seen": 9, "ms_sync": 1500},
    )
    content = checked(summary)
    assert content["$schema"] == schema()["$id"]
    assert content["scan"]["stages"] == {"sync": 1.5}
    assert content["groups"][0]["proposal"]["questions"] == ["which?"]
    assert content["groups"][1]["proposal"] is None
    assert "secret" not in json.dumps(content), "who has a link may decide"
    checked(make_summary(skipped=(), failed=()))


def test_the_schema_refuses_what_is_wrong(make_summary):
    content = json.loads(groups_json(make_summary(["a", "b"])).body)
    for wrong in ({"version": 2}, {"groups": [{"id": "x"}]}, {"totals": {"groups": "1"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content | wrong, schema())


def test_parquet_holds_the_texts_as_they_are(make_summary, hostile):
    summary = make_summary(hostile, failed=tuple(hostile))
    read = {one.name: pl.read_parquet(io.BytesIO(one.body)) for one in tables(summary)}
    assert read["pairs.parquet"].equals(summary.pairs)
    assert read["members.parquet"].equals(summary.members)
    assert read["coverage.parquet"].equals(summary.coverage.outcomes)
