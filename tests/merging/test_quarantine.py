"""What lies in quarantine, how long, and what its emptying takes away for good."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tasks.catalog import schema
from tasks.errors import MergeError
from tasks.merging import quarantine
from tasks.merging.quarantine import empty_quarantine, list_quarantine
from tasks.records import now
from tasks.reporting.savings import read_savings
from tasks.session import open_catalog, pa_table
from tests.merging.conftest import EITHER_KIND
from tests.merging.conftest import later as time_passes

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x28\x00\x00\x00\x1e"
POLICY = """
version: 1
name: quarantine
minimum_age_hours: 0
caps: {share: 1.0}
quarantine: {days: 7, prefix: aside/}
rules:
  - {name: all, keeper: [{prefix: [k/]}], action: quarantine}
"""


@pytest.fixture(params=EITHER_KIND)
def site(make_site: Any, request: pytest.FixtureRequest) -> Any:
    """A merged plan of three groups; one has two duplicates."""
    made = make_site(request.param)
    for seed in range(3):
        made.put(f"k/{seed}.png", PNG + bytes([seed]), {"owner": "north"})
        made.put(f"d/{seed}.png", PNG + bytes([seed]), {"agency": "x"}, {"client": "acme"})
    made.put("e/0.png", PNG + bytes([0]))
    made.list()
    made.before = made.snapshot(ours=True)
    made.made = made.plan(policy=POLICY)
    made.approve(made.made)
    assert made.merge(made.made).complete
    made.kind = request.param
    return made


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    time_passes(monkeypatch, timedelta(days=days))


def aside(site: Any) -> set[str]:
    return {
        key.rsplit("/", 2)[-2] + "/" + key.rsplit("/", 1)[-1]
        for key in site.keys(ours=True)
        if key.startswith("aside/")
    }


ALL = {"d/0.png", "d/1.png", "d/2.png", "e/0.png"}


def test_kept_until_the_policys_days_are_over(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = list_quarantine(site.settings)
    assert {entry.key for entry in entries} == ALL
    assert {entry.state for entry in entries} == {"kept"}
    assert all(timedelta(days=6.9) < entry.until - now() <= timedelta(days=7) for entry in entries)
    later(monkeypatch, 6.9)
    assert empty_quarantine(site.settings, by="anna") == []
    assert aside(site) == ALL
    # one group comes back before, and is merged aside no more
    group = next(one for one in site.made.groups if one.keeper == "k/1.png")
    site.undo(f"{site.made.id}/{group.group_id}")
    later(monkeypatch, 7.1)
    assert {entry.state for entry in list_quarantine(site.settings)} == {"expired"}
    left = ALL - {"d/1.png"}
    dry = empty_quarantine(site.settings, by="anna", dry_run=True)
    assert {entry.key for entry in dry} == left
    assert aside(site) == left
    gone = empty_quarantine(site.settings, by="anna")
    assert {entry.key: entry.state for entry in gone} == dict.fromkeys(left, "purged")
    assert aside(site) == set()
    assert {"k/0.png", "k/1.png", "k/2.png", "d/1.png"} <= set(site.keys())
    assert list_quarantine(site.settings) == []
    assert empty_quarantine(site.settings, by="anna") == []
    freed = read_savings(site.settings)["total"]["freed"]
    assert freed == (0 if site.kind == "versioned" else 3 * len(PNG + b"0"))


@pytest.mark.long
def test_a_clock_that_is_ahead_removes_nothing(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By that clock the days were over: every copy was gone for good minutes after the merge."""
    monkeypatch.setattr(quarantine, "now", lambda: now() + timedelta(days=400))
    ended = empty_quarantine(site.settings, by="anna")
    assert {entry.key: entry.state for entry in ended} == dict.fromkeys(ALL, "kept")
    assert all("0.0 of 168 hours by the store's clock" in entry.why for entry in ended)
    assert aside(site) == ALL
    # What an undo put back rests for an hour by the store's clock, too.
    site.undo(site.made.id, settle=False)
    ended = empty_quarantine(site.settings, by="anna")
    assert {entry.key: entry.state for entry in ended} == dict.fromkeys(ALL, "kept")
    assert all("0.0 of 1 hours by the store's clock" in entry.why for entry in ended)
    assert aside(site) == ALL
    site.settle()
    assert site.snapshot(ours=True) == site.before


@pytest.mark.long
def test_early_needs_a_plan(site: Any) -> None:
    with pytest.raises(MergeError, match="needs one plan's id"):
        empty_quarantine(site.settings, by="anna", early=True)
    for by in ("", " "):
        with pytest.raises(MergeError, match="--by"):
            empty_quarantine(site.settings, by=by, plan_id=site.made.id, early=True)
    assert aside(site) == ALL
    gone = empty_quarantine(site.settings, by="anna", plan_id=site.made.id[:6], early=True)
    assert {entry.state for entry in gone} == {"purged"}
    assert aside(site) == set()


@pytest.mark.long
def test_undo_after_emptying(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot come back is said; what can does; what is known of the lost ones stays."""
    site.s3.client.delete_object(Bucket=site.bucket, Key="k/2.png")  # its copy is kept
    keeper = site.snapshot()["k/0.png"]
    gone = empty_quarantine(site.settings, by="anna", plan_id=site.made.id, early=True)
    assert {entry.key: entry.state for entry in gone} == {
        "d/0.png": "purged",
        "d/1.png": "purged",
        "e/0.png": "purged",
        "d/2.png": "failed",
    }
    undone = {(one.kind, one.key): one for one in site.undo(site.made.id)}
    assert undone["delete", "d/2.png"].state == "undone"
    now_there = site.snapshot()
    if site.kind == "versioned":
        assert {key: now_there[key] for key in ALL} == {key: site.before[key] for key in ALL}
        assert now_there["k/0.png"] == site.before["k/0.png"]
        return
    for key in ("d/0.png", "e/0.png", "d/1.png"):
        assert undone["delete", key].state == "failed"
        assert f"{key!r} cannot be brought back" in undone["delete", key].why
        assert "its copy 'aside/" in undone["delete", key].why
    assert now_there["d/2.png"] == site.before["d/2.png"]
    assert undone["rewrite", "k/0.png"].state == "left"
    assert now_there["k/0.png"] == keeper, "what only the lost ones knew stays with the keeper"


@pytest.mark.long
@pytest.mark.parametrize("how", ["gone", "replaced"])
def test_without_the_keeper_the_copy_is_kept(
    site: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It may be the last there is of that picture."""
    if how == "gone":
        site.s3.client.delete_object(Bucket=site.bucket, Key="k/0.png")
    else:
        site.put("k/0.png", PNG + b"another picture")
    tag = {"TagSet": [{"Key": "a", "Value": "b"}]}  # a keeper people work on is the keeper still
    site.s3.client.put_object_tagging(Bucket=site.bucket, Key="k/1.png", Tagging=tag)
    later(monkeypatch, 8)
    ended = {entry.key: entry for entry in empty_quarantine(site.settings, by="anna")}
    for key in ("d/0.png", "e/0.png"):
        assert ended[key].state == "failed"
        assert f"the keeper 'k/0.png' {'is gone' if how == 'gone' else 'was replaced'}" in (
            ended[key].why
        )
        assert "kept" in ended[key].why
    assert ended["d/1.png"].state == ended["d/2.png"].state == "purged"
    assert aside(site) == {"d/0.png", "e/0.png"}
    assert {entry.key for entry in list_quarantine(site.settings)} == {"d/0.png", "e/0.png"}


@pytest.mark.long
def test_a_removal_that_failed_is_tried_again(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch, 8)
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:DeleteObject",
        "Resource": f"arn:aws:s3:::{site.bucket}/aside/*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    site.s3.client.put_bucket_policy(Bucket=site.bucket, Policy=policy)
    ended = empty_quarantine(site.settings, by="anna")
    assert {entry.state for entry in ended} == {"failed"}
    assert all("allow s3:DeleteObject" in entry.why for entry in ended)
    assert aside(site) == ALL
    assert {entry.key for entry in list_quarantine(site.settings)} == ALL
    assert read_savings(site.settings)["total"]["freed"] == 0
    site.s3.client.delete_bucket_policy(Bucket=site.bucket)
    assert {entry.state for entry in empty_quarantine(site.settings, by="anna")} == {"purged"}
    assert aside(site) == set()


@pytest.mark.long
def test_a_damaged_plan_hides_no_other(site: Any) -> None:
    catalog = open_catalog(site.settings)
    row = catalog.table("plans").to_arrow().to_pylist()[0]
    damaged = row | {"plan_id": "0" * 12, "hash": "0" * 64, "body": row["body"] + " "}
    with catalog.writing():
        catalog.upsert("plans", pa_table([damaged], schema.PLANS))
    assert {entry.key for entry in list_quarantine(site.settings)} == ALL
    ledger = read_savings(site.settings)
    assert [plan["plan"] for plan in ledger["plans"]] == [site.made.id]
    assert ledger["unreadable"] == ["0" * 12]
