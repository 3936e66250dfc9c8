"""Merges that come late, or beside another: what they must not do any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.catalog import lease
from tasks.errors import MergeError
from tasks.merging.bucket_turn import bucket_turn
from tasks.merging.merge import merge_plan
from tasks.merging.operations import Operator
from tasks.merging.quarantine import empty_quarantine, list_quarantine
from tasks.session import open_store
from tests.merging.conftest import EITHER_KIND, other_catalog, png

POLICY = """
version: 1
name: by prefix
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, keeper: [{prefix: [%s]}], action: %s}
"""


@pytest.mark.parametrize("kind", EITHER_KIND)
def test_two_catalogs_never_remove_both_copies(make_site: Any, tmp_path: Path, kind: str) -> None:
    """Opposite keepers, at the same time: 12 of 12 pictures lost both of their objects."""
    site = make_site(kind)
    other = other_catalog(site, tmp_path / "other")
    for seed in range(4):
        for prefix in "ab":
            site.put(f"{prefix}/{seed}.png", png(seed), ContentType="image/png")
    site.list()
    other.list()
    action = "delete" if kind == "versioned" else "quarantine"
    plans = [
        (site, site.plan(policy=POLICY % ("a/", action))),
        (other, other.plan(policy=POLICY % ("b/", action))),
    ]
    for where, plan in plans:
        where.approve(plan)
    threads = [threading.Thread(target=where.merge, args=(plan,)) for where, plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    live = site.keys()
    assert {site.body(key) for key in live} == {png(seed) for seed in range(4)}


@pytest.mark.long
def test_a_bucket_has_one_hand_at_a_time(make_site: Any, tmp_path: Path) -> None:
    site = make_site("plain")
    for prefix in "kd":
        site.put(f"{prefix}/1.png", png(1), ContentType="image/png")
    site.list()
    plan = site.plan(policy=POLICY % ("k/", "quarantine"))
    site.approve(plan)
    impatient = site.settings.catalog.model_copy(update={"scan_wait_seconds": 0.2})
    settings = site.settings.model_copy(update={"catalog": impatient})
    store = open_store(f"s3://{site.bucket}", site.settings)
    assert store is not None
    with bucket_turn(store, site.settings):
        with pytest.raises(MergeError, match="somebody else merges"):
            merge_plan(settings, plan.id, by="anna")
        assert site.keys() == ["d/1.png", "k/1.png"]
    assert site.merge(plan).complete
    settings = settings.model_copy(update={"catalog": impatient})
    with bucket_turn(store, site.settings), pytest.raises(MergeError, match="somebody else"):
        type(site)(site.s3, site.bucket, settings).undo(plan.id, settle=False)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["plain", "versioned"])
@pytest.mark.parametrize("what", ["replaced", "removed"])
def test_nothing_leaves_for_a_keeper_that_is_gone(
    make_site: Any, monkeypatch: pytest.MonkeyPatch, kind: str, what: str
) -> None:
    site = make_site(kind)
    site.put("k/a.png", png(1), ContentType="image/png")
    for seed in range(3):
        site.put(f"d/{seed}.png", png(1), ContentType="image/png")
    site.list()
    plan = site.plan(policy=POLICY % ("k/", "delete" if kind == "versioned" else "quarantine"))
    site.approve(plan)
    real = Operator.perform

    def perform(self: Operator, number: int, stand: Any) -> Any:
        if number == 1 and what == "replaced":
            site.put("k/a.png", png(99), ContentType="image/png")
        elif number == 1:
            site.s3.client.delete_object(Bucket=site.bucket, Key="k/a.png")
        return real(self, number, stand)

    monkeypatch.setattr(Operator, "perform", perform)
    (group,) = site.merge(plan).groups
    assert group.state == "failed"
    assert "its copies stay" in group.why
    live = site.keys()
    assert png(1) in [site.body(key) for key in live]


@pytest.mark.long
def test_what_an_undo_put_back_survives_a_late_delete(make_site: Any) -> None:
    """The copy stays until no request of the merge can come any more."""
    site = make_site("plain")
    for prefix in "kd":
        site.put(f"{prefix}/1.png", png(1), {"only": prefix}, ContentType="image/png")
    site.list()
    plan = site.plan(policy=POLICY % ("k/", "quarantine"))
    site.approve(plan)
    site.merge(plan)
    assert {one.state for one in site.undo(plan.id, settle=False)} == {"undone"}
    (entry,) = list_quarantine(site.settings)
    assert entry.state == "released"
    assert empty_quarantine(site.settings, by="schedule") == [], "not for an hour"
    site.s3.client.delete_object(Bucket=site.bucket, Key="d/1.png")  # the late hand
    site.settle()
    (entry,) = list_quarantine(site.settings)
    assert entry.state == "left", "and then it is told, and kept"
    assert site.body(entry.at) == png(1)


@pytest.mark.long
def test_the_copy_goes_when_its_original_is_still_there(make_site: Any) -> None:
    site = make_site("plain")
    for prefix in "kd":
        site.put(f"{prefix}/1.png", png(1), ContentType="image/png")
    before = site.snapshot(ours=True)
    site.list()
    plan = site.plan(policy=POLICY % ("k/", "quarantine"))
    site.approve(plan)
    site.merge(plan)
    site.undo(plan.id, settle=False)
    assert site.undo(plan.id, settle=False) == []
    site.settle()
    assert site.snapshot(ours=True) == before
    assert list_quarantine(site.settings) == []


CHILD = """
import pathlib, sys, time
from botocore.client import BaseClient
from tasks.catalog import lease
lease.LEASE_SECONDS, lease._POLL_SECONDS = 4.0, 0.1
flag, plan, where = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
real = BaseClient._make_api_call
def call(self, operation, given):
    if operation == "DeleteObject" and given["Key"] == "d/a.png":
        if where == "before the call":
            flag.write_text("here"); time.sleep(1)
        else:
            def last(**_):
                flag.write_text("here"); time.sleep(1)
            self.meta.events.register_first("before-send.s3.DeleteObject", last)
    return real(self, operation, given)
BaseClient._make_api_call = call
from tasks.merging.merge import merge_plan
from tasks.settings import load_settings
for group in merge_plan(load_settings(), plan, by="anna").groups:
    print(group.state, group.why)
"""


@pytest.fixture
def stopped(make_site: Any, tmp_path: Path) -> Callable[..., Any]:
    """A merge that is stopped at its DELETE, as by a paused machine."""

    def start(where: str) -> tuple[Any, Any, subprocess.Popen[str]]:
        site = make_site("plain")
        catalog = f"s3://{site.s3.bucket()}/cat"
        moved = site.settings.catalog.model_copy(
            update={"uri": catalog, "busy_seconds": 60, "scan_wait_seconds": 60}
        )
        site.settings = site.settings.model_copy(update={"catalog": moved})
        for prefix in "kd":
            site.put(f"{prefix}/a.png", png(1), {}, {"only": prefix}, ContentType="image/png")
        site.list()
        plan = site.plan(policy=POLICY % ("k/", "quarantine"))
        site.approve(plan)
        env = os.environ | {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "AWS_ACCESS_KEY_ID": site.s3.key,
            "AWS_SECRET_ACCESS_KEY": site.s3.secret,
            "DAM_DEDUP_S3__ENDPOINT_URL": site.s3.endpoint,
            "DAM_DEDUP_S3__PATH_STYLE": "true",
            "DAM_DEDUP_S3__REGION": "us-east-1",
            "DAM_DEDUP_CATALOG__URI": catalog,
        }
        flag = tmp_path / "flag"
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(flag), plan.id, where],
            env=env,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + 120
        while not flag.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGSTOP)
        return site, plan, process

    return start


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "where", ["before the call", pytest.param("as it is sent", marks=pytest.mark.long)]
)
def test_a_merge_that_stood_still_does_nothing_more(
    stopped: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Somebody undid it meanwhile; going on, it deleted what had just been put back."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", 4.0)
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.1)
    site, plan, process = stopped(where)
    try:
        assert {one.state for one in site.undo(plan.id, settle=False)} == {"undone"}
        after = site.snapshot()
        assert sorted(after) == ["d/a.png", "k/a.png"]
    finally:
        os.kill(process.pid, signal.SIGCONT)
    said, _ = process.communicate(timeout=120)
    assert site.snapshot() == after, said
