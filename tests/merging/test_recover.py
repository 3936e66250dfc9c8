"""The catalog is lost: what was merged can be undone all the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import MergeError
from tasks.merging.bucket_journal import JOURNAL_PREFIX
from tasks.merging.decide import decide, withdraw
from tasks.merging.journal import group_state, last_events, read_events
from tasks.merging.operations import Operator
from tasks.merging.quarantine import list_quarantine
from tasks.merging.recover import recover
from tasks.session import open_catalog
from tests.merging.conftest import EITHER_KIND, png
from tests.merging.test_late_hands import other_catalog
from tests.merging.world import Killed

POLICY = """
version: 1
name: recover
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, keeper: [{prefix: [k/]}], action: %s}
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", EITHER_KIND)
def test_three_plans_are_undone_without_the_catalog(make_site: Any, kind: str) -> None:
    site = make_site(kind)
    before = {}
    plans = []
    for seed, action in enumerate(("quarantine", "replace", "metadata")):
        for prefix in "kd":
            site.put(
                f"{prefix}/{seed}.png",
                png(seed),
                {"word": prefix},
                {prefix: "1"},
                ContentType="image/png",
            )
        before |= {key: what for key, what in site.snapshot().items() if f"/{seed}." in key}
        site.list()
        plan = site.plan(policy=POLICY % action)
        site.approve(plan)
        assert site.merge(plan).complete
        plans.append(plan)
    assert site.snapshot() != before
    events = read_events(open_catalog(site.settings))
    entries = list_quarantine(site.settings)
    shutil.rmtree(site.settings.catalog.uri)
    with pytest.raises(MergeError, match="no plan"):
        site.undo(plans[0].id, settle=False)
    found = recover(site.settings, f"s3://{site.bucket}")
    assert (set(found.plans), found.unreadable) == ({plan.id for plan in plans}, ())
    columns = ["sequence", "run_id", "plan_id", "group_id", "number", "event", "at", "detail"]
    back = read_events(open_catalog(site.settings))
    kept = events.filter(~events["event"].is_in(["decided", "checked"]))
    assert back.filter(back["event"] != "checked").select(columns).equals(kept.select(columns))
    assert list_quarantine(site.settings) == entries
    assert recover(site.settings, f"s3://{site.bucket}") == found, "again: nothing new"
    for plan in reversed(plans):
        assert {one.state for one in site.undo(plan.id)} == {"undone"}
    assert site.snapshot() == before
    assert list_quarantine(site.settings) == []


def test_what_is_intended_is_in_the_bucket_before_it_is_done(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site("plain")
    for prefix in "kd":
        site.put(f"{prefix}/1.png", png(1), {}, {prefix: "1"}, ContentType="image/png")
    before = site.snapshot()
    site.list()
    plan = site.plan(policy=POLICY % "quarantine")
    site.approve(plan)
    real = Operator.perform

    class Killed(BaseException):
        pass

    def killed(self: Operator, number: int, stand: Any) -> Any:
        if number == 2:
            raise Killed
        return real(self, number, stand)

    with monkeypatch.context() as patch:
        patch.setattr(Operator, "perform", killed)
        with pytest.raises(Killed):
            site.merge(plan)
    shutil.rmtree(site.settings.catalog.uri)
    assert recover(site.settings, f"s3://{site.bucket}").plans == (plan.id,)
    assert {one.state for one in site.undo(plan.id)} == {"undone"}
    assert site.snapshot() == before


def test_nothing_is_done_where_the_journal_cannot_be_written(make_site: Any) -> None:
    site = make_site("plain")
    for prefix in "kd":
        site.put(f"{prefix}/1.png", png(1), ContentType="image/png")
    site.list()
    plan = site.plan(policy=POLICY % "quarantine")
    site.approve(plan)
    denied = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["s3:PutObject"],
        "Resource": [f"arn:aws:s3:::{site.bucket}/{JOURNAL_PREFIX}*"],
    }
    site.s3.client.put_bucket_policy(
        Bucket=site.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [denied]})
    )
    before = site.keys()
    with pytest.raises(Exception, match="journal"):
        site.merge(plan)
    assert site.keys() == before


def test_a_plan_that_was_tampered_with_is_told_and_the_others_come_back(make_site: Any) -> None:
    site = make_site("plain")
    for prefix in "kd":
        site.put(f"{prefix}/1.png", png(1), ContentType="image/png")
    site.list()
    plan = site.plan(policy=POLICY % "quarantine")
    site.approve(plan)
    site.merge(plan)
    body = site.body(f"{JOURNAL_PREFIX}{plan.id}/plan.json")
    for name, data in (("0000", body), ("1111", b"no json"), ("2222", None)):
        key = f"{JOURNAL_PREFIX}{name}/plan.json" if data else f"{JOURNAL_PREFIX}{name}/x.json"
        site.s3.client.put_object(Bucket=site.bucket, Key=key, Body=data or b"[]")
    found = recover(site.settings, f"s3://{site.bucket}")
    assert found.plans == (plan.id,)
    assert [text[:9] for text in found.unreadable] == ["plan 0000", "plan 1111", "plan 2222"]


@pytest.mark.long
def test_what_another_catalog_undid_is_not_carried_on(
    make_site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each catalog counts by itself; what came later is told by the bucket's fence.

    The first catalog did not know of the undo, and merged what a person had put back.
    """
    site = make_site("plain")
    for prefix in "kd":
        site.put(f"{prefix}/1.png", png(1), ContentType="image/png")
    site.list()
    plan = site.plan(policy=POLICY % "tag")
    site.approve(plan)

    def killed(*_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Operator, "perform", killed)
        with pytest.raises(Killed):
            site.merge(plan)
    other = other_catalog(site, tmp_path / "other")
    other.list()
    more = other.plan(policy=POLICY % "metadata")
    for _ in range(12):  # the other catalog has counted further
        decide(other.settings, more.id, "approve", by="anna", accept_questions=True)
        withdraw(other.settings, more.id, by="anna")
    recover(other.settings, f"s3://{site.bucket}")
    other.undo(plan.id, settle=False)
    (outcome,) = site.merge(plan).groups
    assert outcome.state == "refused"
    assert "it was undone" in outcome.why
    (group,) = plan.groups
    assert not site.tags("d/1.png")
    for settings in (third(site, tmp_path), other.settings, site.settings):
        recover(settings, f"s3://{site.bucket}")
        events = read_events(open_catalog(settings), plan)
        assert group_state(group, last_events(events, group.group_id)) == "undone"
        rows = events.filter(events["event"] != "decided")
        assert rows["sequence"].n_unique() == rows.height


def third(site: Any, folder: Path) -> Any:
    """A catalog that knows all from the bucket alone."""
    settings = other_catalog(site, folder / "third").settings
    recover(settings, f"s3://{site.bucket}")
    return settings
