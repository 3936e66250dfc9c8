"""What merges keep in a bucket, changed or put there by somebody else: told, and never obeyed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tasks.catalog.lease import LEASE_SECONDS, s3_lease
from tasks.errors import SourceError
from tasks.merging import late_hands as late_module
from tasks.merging.bucket_journal import JOURNAL_PREFIX
from tasks.merging.late_hands import LATE_PREFIX, late_hands
from tasks.merging.quarantine import empty_quarantine
from tasks.merging.recover import recover
from tasks.merging.rules.plans import Plan
from tasks.queries.objects import own_places
from tasks.session import open_source, open_store
from tasks.sources.places import PLACES_KEY
from tests.merging.conftest import later, png

POLICY = """
version: 1
name: notes
minimum_age_hours: 0
caps: {share: 1.0}
quarantine: {prefix: aside/}
rules:
  - {name: all, keeper: [{prefix: [k/]}], action: quarantine}
"""


def put(site: Any, key: str, body: bytes | str) -> None:
    data = body.encode() if isinstance(body, str) else body
    site.s3.client.put_object(Bucket=site.bucket, Key=key, Body=data)


@pytest.fixture(scope="module")
def merged(make_bare_site: Callable[[str], Any]) -> tuple[Any, Plan]:
    """A bucket in which one copy was moved to a quarantine of the policy's own."""
    site = make_bare_site("plain")
    for prefix in "kd":
        site.put(f"{prefix}/1.png", png(1), ContentType="image/png")
    site.list()
    plan = site.plan(policy=POLICY)
    site.approve(plan)
    assert site.merge(plan).complete
    return site, plan


@pytest.mark.parametrize(
    "body",
    [
        '{"holder": "x", "term": NaN}',
        '{"holder": "x", "term": 1e999}',
        '{"holder": "", "fence": 1e999}',
        "[" * 100_000,
        "[1]",
        b"\xff\xd8\xff",
    ],
    ids=["nan", "endless", "fence", "deep", "list", "no json"],
)
def test_whatever_is_in_a_leases_place_it_runs_out(
    s3: Any, body: bytes | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A term that is no number was never over: nobody could merge in that bucket again."""
    moment = [0.0]
    monkeypatch.setattr("tasks.catalog.lease.elapsed", lambda: moment[0])

    def sleep(seconds: float) -> None:
        moment[0] += LEASE_SECONDS / 3

    monkeypatch.setattr("tasks.catalog.lease.time.sleep", sleep)
    bucket = s3.bucket()
    data = body.encode() if isinstance(body, str) else body
    s3.client.put_object(Bucket=bucket, Key="c/.merge.lease", Body=data)
    with s3_lease(s3.client, f"s3://{bucket}/c", 3 * LEASE_SECONDS, "merge") as lease:
        lease.check()


def test_what_is_no_note_is_never_removed(
    merged: tuple[Any, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that lay below late/ for an hour was removed, whatever it was."""
    site, _ = merged
    store = open_store(f"s3://{site.bucket}", site.settings)
    assert store is not None
    put(site, f"{LATE_PREFIX}picture.png", png(7))
    monkeypatch.setattr(late_module, "GRACE", timedelta(hours=-1))
    with pytest.raises(SourceError, match="is no note of a merge"):
        late_hands(store)
    assert site.body(f"{LATE_PREFIX}picture.png") == png(7)
    site.s3.client.delete_object(Bucket=site.bucket, Key=f"{LATE_PREFIX}picture.png")


def test_a_damaged_list_of_quarantines_stops_scans_until_it_is_written_anew(
    merged: tuple[Any, Plan],
) -> None:
    """It was taken for empty: another catalog then scanned the copies as assets."""
    site, _ = merged
    source = open_source(f"s3://{site.bucket}", site.settings)
    good = site.body(PLACES_KEY)
    for bad in ("{}", "no json", "7"):
        put(site, PLACES_KEY, bad)
        with pytest.raises(SourceError, match="dam-dedup recover"):
            own_places(site.settings, source)
    site.s3.client.delete_object(Bucket=site.bucket, Key=PLACES_KEY)
    recover(site.settings, f"s3://{site.bucket}")
    assert site.body(PLACES_KEY) == good


def test_rows_and_plans_of_somebody_else_are_told_and_the_others_come_back(
    merged: tuple[Any, Plan],
) -> None:
    """One wrong row ended recover with a traceback, and no plan came back."""
    site, plan = merged
    folder = f"{JOURNAL_PREFIX}{plan.id}/"
    answer = site.s3.client.list_objects_v2(Bucket=site.bucket, Prefix=folder)
    name = next(one["Key"] for one in answer["Contents"] if "-intended-" in one["Key"])
    (row, *_) = json.loads(site.body(name))
    strange = [
        [{"at": row["at"]}],
        [row | {"plan_id": "0" * 12}],
        [row | {"number": 99}],
        [row | {"group_id": "f" * 32}],
        [row | {"sequence": "first"}],
        [row | {"sequence": 2**63 - 1}],  # the next one would fit into no table
        [row | {"sequence": 10**30}],
        [row | {"kind": "put"}],
        [row | {"key": "k/1.png"}],
        [row | {"detail": "[]"}],
        7,
    ]
    for number, rows in enumerate(strange):
        # The same plan, of which one step was tampered with, where nothing else is wrong.
        key = f"{folder}{number:010}-strange.json"
        put(site, key, json.dumps(rows))
        found = recover(site.settings, f"s3://{site.bucket}")
        assert found.plans == ()
        assert key in found.unreadable[0]
        site.s3.client.delete_object(Bucket=site.bucket, Key=key)
    foreign = Plan.from_json(plan.as_json().replace(f"s3://{site.bucket}", "s3://elsewhere"))
    put(site, f"{JOURNAL_PREFIX}{foreign.id}/plan.json", foreign.as_json())
    found = recover(site.settings, f"s3://{site.bucket}")
    assert found.plans == (plan.id,)
    assert "not about this bucket" in found.unreadable[0]


@pytest.mark.long
def test_what_was_put_in_a_copys_place_is_not_removed_with_it(
    make_bare_site: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lay at that key when the days were over was removed for good."""
    site = make_bare_site("plain")
    for prefix in "kd":
        for seed in range(2):
            site.put(f"{prefix}/{seed}.png", png(seed), ContentType="image/png")
    site.list()
    plan = site.plan(policy=POLICY)
    site.approve(plan)
    assert site.merge(plan).complete
    first, second = (key for key in site.snapshot() if key.startswith("aside/"))
    put(site, first, png(99))
    site.s3.client.put_object_tagging(
        Bucket=site.bucket, Key=second, Tagging={"TagSet": [{"Key": "cost", "Value": "7"}]}
    )
    later(monkeypatch, timedelta(days=40))
    ended = {one.at: one for one in empty_quarantine(site.settings, by="anna")}
    assert (ended[first].state, ended[second].state) == ("failed", "purged")
    assert "not what was moved there" in ended[first].why
    assert site.body(first) == png(99)
    assert second not in site.snapshot()


def approved_pair(make_bare_site: Any) -> tuple[Any, Any]:
    """A bucket with one picture twice, and the approved plan that takes the second away."""
    site = make_bare_site("plain")
    for prefix in "kd":
        site.put(f"{prefix}/1.png", png(1))
    site.list()
    plan = site.plan(policy=POLICY)
    site.approve(plan)
    return site, plan


def test_other_bytes_in_a_copys_place_are_not_put_back(make_bare_site: Any) -> None:
    """Of the same length, they came back as the original, and the undo called that undone."""
    site, plan = approved_pair(make_bare_site)
    assert site.merge(plan).complete
    (copy,) = (key for key in site.snapshot() if key.startswith("aside/"))
    put(site, copy, png(8))
    ended = {one.kind: one for one in site.undo(plan.id, settle=False)}
    assert ended["delete"].state == "failed"
    assert "is something else by now" in ended["delete"].why
    assert (site.keys(), site.body(copy)) == ([copy, "k/1.png"], png(8))


def test_what_lies_in_a_plans_place_stops_its_merge_and_no_undo(make_bare_site: Any) -> None:
    """It was taken for the plan, and the merge could never have been recovered."""
    site, plan = approved_pair(make_bare_site)
    key = f"{JOURNAL_PREFIX}{plan.id}/plan.json"
    put(site, key, plan.as_json().replace("k/1.png", "k/2.png"))
    with pytest.raises(SourceError, match="is not the plan"):
        site.merge(plan)
    assert site.keys() == ["d/1.png", "k/1.png"]
    site.s3.client.delete_object(Bucket=site.bucket, Key=key)
    assert site.merge(plan).complete
    put(site, key, b"something else")
    assert {one.state for one in site.undo(plan.id, settle=False)} == {"undone"}
    assert site.keys()[-2:] == ["d/1.png", "k/1.png"]


def test_the_catalog_outlives_such_a_bucket(merged: tuple[Any, Plan]) -> None:
    site, plan = merged
    shutil.rmtree(site.settings.catalog.uri)
    assert plan.id in recover(site.settings, f"s3://{site.bucket}").plans
    assert {one.state for one in site.undo(plan.id)} == {"undone"}
    assert site.keys() == ["d/1.png", "k/1.png"]
