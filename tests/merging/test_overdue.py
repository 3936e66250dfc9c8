"""Approved merges that wait too long are counted, and no others."""

from __future__ import annotations

from datetime import timedelta

from tasks.merging import overdue
from tasks.merging.overdue import overdue_merges
from tasks.records import now
from tests.merging.conftest import encoded, picture


def test_what_is_approved_and_not_merged_is_overdue_after_some_days(site, monkeypatch):
    site.put("a.png", encoded(picture(1)))
    site.put("b.png", encoded(picture(1)))
    site.list()
    plan = site.plan()
    assert overdue_merges(site.settings, 0).groups == 0, "nobody approved anything"
    site.approve(plan)
    assert overdue_merges(site.settings, 7).groups == 0
    monkeypatch.setattr(overdue, "now", lambda: now() + timedelta(days=8))
    found = overdue_merges(site.settings, 7)
    assert (found.groups, found.plans) == (1, (plan.id,))
    assert found.since is not None
    assert found.since < now()
    site.merge(plan)
    assert overdue_merges(site.settings, 7).groups == 0
