"""groups.json, pairs.csv, coverage.csv."""

from __future__ import annotations

import csv
import io
import json

import polars as pl
import pytest

from reports.table import coverage_csv, groups_json, pairs_csv


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
        ["left", "right", "score", "tier", "relation", "changes", "original", "reasons",
         "flipped", "evidence"],
        ["a.jpg", "b.jpg", "0.91", "near", "duplicate", "cropped to 80 %; brighter by 0.3 stops",
         "right", "larger", "true", '{"method":"features","inliers":40}'],
    ]  # fmt: skip


def test_links_are_listed(make_summary):
    links = pl.DataFrame({"left": ["a.cr2"], "right": ["a.jpg"], "reason": ["raw"]})
    content = json.loads(groups_json(make_summary(["x", "y"], links=links)).body)
    assert content["linked"] == [{"left": "a.cr2", "right": "a.jpg", "reason": "raw"}]


def test_odd_keys_come_back_from_csv(make_summary, hostile):
    summary = make_summary(["0 keeper", *hostile], failed=tuple(hostile))
    assert [row[:2] for row in rows_of(pairs_csv(summary))[1:]] == [
        sorted(["0 keeper", key]) for key in hostile
    ]
    failed = [row[0] for row in rows_of(coverage_csv(summary)) if row[1] == "failed"]
    assert failed == hostile


@pytest.mark.parametrize("key", ["a\rb", "a\nb", 'a"b', "a,b", " a ", "", "'a'", "a;b", "\u2028"])
def test_csv_of_one_odd_key(make_summary, key):
    rows = rows_of(coverage_csv(make_summary(skipped=(), failed=(key,))))
    assert rows[1:] == [[key, "failed", "truncated", "file is truncated"]]


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
