"""An undo that was killed, what others did meanwhile, and the undo that comes after it."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.catalog.catalog import Catalog
from tasks.merging.operations import Operator
from tasks.merging.quarantine import list_quarantine
from tasks.merging.undo_operations import Undoer
from tests.merging.conftest import png
from tests.merging.world import Killed

POLICY = """
version: 1
name: cut off
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, keeper: [{prefix: [k/]}], action: %s}
"""


def merged(site: Any, action: str) -> Any:
    """A merged plan of one group: a keeper and two that left."""
    for key in ("k/1.png", "d/1.png", "d/2.png"):
        site.put(key, png(1), ContentType="image/png")
    site.list()
    plan = site.plan(policy=POLICY % action)
    site.approve(plan)
    assert site.merge(plan).complete
    return plan


def killed_undo(site: Any, plan: Any, patch: pytest.MonkeyPatch, after: int, *, row: bool) -> str:
    """Undo a plan, and die once so many assets are back, before or after the row about it."""
    back: list[str] = []
    undo, upsert = Undoer.undo, Catalog.upsert

    def watched(self: Undoer, number: int, **options: Any) -> str:
        why = undo(self, number, **options)
        operation = self.group.operations[number]
        if operation.kind == "delete" and not why:
            back.append(operation.key)
        if len(back) == after and not row:
            raise Killed
        return why

    def written(self: Catalog, name: str, *args: Any, **options: Any) -> int:
        done = upsert(self, name, *args, **options)
        if name == "journal" and len(back) == after:
            raise Killed
        return done

    with patch.context() as inner:
        inner.setattr(Undoer, "undo", watched)
        inner.setattr(Catalog, "upsert", written)
        with pytest.raises(Killed):
            site.undo(plan.id, settle=False)
    return back[-1]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["plain", "versioned"])
def test_what_was_put_back_and_deleted_since_stays_deleted(
    make_site: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The undo died in the middle of its group, after the row of the first asset."""
    site = make_site(kind)
    plan = merged(site, "delete" if kind == "versioned" else "quarantine")
    key = killed_undo(site, plan, monkeypatch, 1, row=True)
    site.s3.client.delete_object(Bucket=site.bucket, Key=key)
    site.undo(plan.id, settle=False)
    assert site.keys() == sorted({"k/1.png", "d/1.png", "d/2.png"} - {key})
    if kind == "plain":
        left = [entry for entry in list_quarantine(site.settings) if entry.state == "left"]
        assert [entry.key for entry in left] == [key], "and its copy is kept, and told"


@pytest.mark.long
def test_without_versions_an_open_outcome_is_put_back(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row tells whether it was back before somebody deleted it: the undo's word holds."""
    site = make_site("plain")
    plan = merged(site, "quarantine")
    key = killed_undo(site, plan, monkeypatch, 1, row=False)
    site.s3.client.delete_object(Bucket=site.bucket, Key=key)
    assert {one.state for one in site.undo(plan.id, settle=False)} == {"undone"}
    assert site.keys() == ["d/1.png", "d/2.png", "k/1.png"]


@pytest.mark.long
def test_a_later_marker_is_never_taken_for_ours(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merge and undo both died before their rows: the versions tell whose deletion it is."""
    site = make_site("versioned")
    for key in ("k/1.png", "d/1.png"):
        site.put(key, png(1), ContentType="image/png")
    site.list()
    plan = site.plan(policy=POLICY % "delete")
    site.approve(plan)
    real = Operator.perform

    def perform(self: Operator, number: int, stand: Any) -> Any:
        detail = real(self, number, stand)
        if self.group.operations[number].kind == "delete":
            raise Killed
        return detail

    with monkeypatch.context() as patch:
        patch.setattr(Operator, "perform", perform)
        with pytest.raises(Killed):
            site.merge(plan)
    assert site.keys() == ["k/1.png"]
    key = killed_undo(site, plan, monkeypatch, 1, row=False)
    site.s3.client.delete_object(Bucket=site.bucket, Key=key)
    outcome = site.undo(plan.id, settle=False)
    assert [one.state for one in outcome if one.kind == "delete"] == ["left"]
    assert site.keys() == ["k/1.png"]
