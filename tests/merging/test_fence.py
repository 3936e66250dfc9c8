"""What a store cannot stop: a request that was checked in time and comes late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.catalog import lease
from tasks.merging import late_hands
from tasks.merging.operations import Operator
from tasks.merging.quarantine import empty_quarantine
from tasks.session import open_store
from tests.merging.conftest import other_catalog, png
from tests.merging.test_late_hands import POLICY


class Stopped(BaseException):
    """The process stands still here, with its last request on its way."""


def stand_still(site: Any, plan: Any, patch: pytest.MonkeyPatch) -> None:
    """Merge up to the first DELETE, and stop there without giving anything up."""

    def stop(self: Operator, operation: Any, stand: Any) -> Any:
        raise Stopped

    with patch.context() as inner:
        inner.setattr(Operator, "_delete", stop)
        inner.setattr(lease.S3Lease, "release", lambda self: self._stop.set())
        with pytest.raises(Stopped):
            site.merge(plan)
    # To the others it is a process of another machine.
    patch.setattr(lease, "_machine", lambda: "another")


@pytest.fixture
def two(make_site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two catalogs of one bucket with opposite keepers; the first stands still at its DELETE."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.1)
    site = make_site("plain")
    other = other_catalog(site, tmp_path / "other")
    for key in ("a/1.png", "b/1.png", "c/2.png", "d/2.png"):
        site.put(key, png(int(key[2])), ContentType="image/png")
    site.list()
    other.list()
    plans = []
    for where, prefix in ((site, '"a/", "c/"'), (other, '"b/", "d/"')):
        plan = where.plan(policy=POLICY % (prefix, "quarantine"))
        plans.append(plan)
        where.approve(plan)
    at = next(g for g in plans[0].groups if g.keeper == "a/1.png")
    with monkeypatch.context() as patch:
        real = type(site).merge
        patch.setattr(type(site), "merge", lambda s, p: real(s, p, groups=[at.group_id]))
        stand_still(site, plans[0], patch)
    monkeypatch.setattr(lease, "_machine", lambda: "another")
    return site, other, *plans


@pytest.mark.long
def test_nothing_relies_on_what_a_late_request_may_remove(two: Any) -> None:
    """The late DELETE of b/1.png hit the keeper of the other catalog's merge."""
    site, other, _, plan = two
    outcome = {one.keeper: one for one in other.merge(plan).groups}
    site.s3.client.delete_object(Bucket=site.bucket, Key="b/1.png")  # here it comes
    live = site.keys()
    assert png(1) in [site.body(key) for key in live]
    assert outcome["b/1.png"].state == "failed"
    assert "stood still, and may go on" in outcome["b/1.png"].why
    assert outcome["d/2.png"].state == "merged", "what it was not at goes on"


@pytest.mark.long
def test_after_an_hour_by_the_stores_clock_it_goes_on(
    two: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, other, _, plan = two
    assert not other.merge(plan).complete
    store = open_store(plan.source, other.settings)
    (hand,) = late_hands.late_hands(store)
    assert hand.keys >= {"a/1.png", "b/1.png"}
    assert "c/2.png" not in hand.keys
    monkeypatch.setattr(late_hands, "GRACE", late_hands.GRACE * 0)
    assert other.merge(plan).complete
    assert late_hands.late_hands(store) == ()


@pytest.mark.long
def test_the_group_itself_is_carried_on_or_undone_at_once(two: Any) -> None:
    site, _, plan, _ = two
    assert site.merge(plan).complete
    assert {one.state for one in site.undo(plan.id, settle=False)} == {"undone"}
    assert site.keys() == ["a/1.png", "b/1.png", "c/2.png", "d/2.png"]


@pytest.mark.long
def test_a_quarantine_is_not_emptied_of_what_may_be_the_last(
    two: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, other, _, plan = two
    with monkeypatch.context() as patch:
        patch.setattr("tasks.merging.merge.why_too_early", lambda *_: "")
        assert other.merge(plan).complete
    purged = empty_quarantine(other.settings, by="anna", plan_id=plan.id, early=True)
    assert {one.key: one.state for one in purged} == {"a/1.png": "failed", "c/2.png": "purged"}


@pytest.mark.long
def test_what_was_cut_off_is_not_forgotten_when_its_taker_dies(
    two: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The taker could not write down what it found: the next one finds it in the lease."""
    _, other, _, plan = two

    def dies(*_: Any) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("tasks.merging.bucket_turn.note_late_hand", dies)
        with pytest.raises(Stopped):
            other.merge(plan)
    assert not other.merge(plan).complete
