"""What merges took out of a collection: in quarantine until a day, kept as old versions, freed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deployments.gate.report import Gate
from flows.order import render
from reports.highlights import merged_words
from reports.page import report_page
from tasks.merging.quarantine import empty_quarantine, list_quarantine
from tasks.merging.undo import undo_merge
from tasks.records import now
from tasks.reporting.savings import merged_bytes
from tasks.reporting.summarize import last_scan, summarize_scan

BODY = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(900)


def told(site, at=None):
    return merged_bytes(site.settings, f"s3://{site.bucket}", at or now())


@pytest.mark.long
def test_quarantine_old_versions_and_freed_are_told_apart(site, versioned):
    for key in ("a.png", "b.png", "c.png"):
        site.put(key, BODY)
    site.list()
    assert told(site).removed == 0
    before, plan = now(), site.plan()
    site.approve(plan)
    site.merge(plan)
    found = told(site)
    assert found.removed == found.quarantined == 2 * len(BODY)
    assert found.noncurrent == (2 * len(BODY) if versioned else 0)
    assert found.freed == 0, "nothing is free while it lies in quarantine"
    (until,) = {entry.until for entry in list_quarantine(site.settings)[:1]}
    assert abs(found.until - until) < timedelta(seconds=1)
    assert found.until > before + timedelta(days=plan.quarantine_days - 1)
    assert told(site, before).removed == 0, "as it was then"
    assert merged_bytes(site.settings, "s3://another", now()).removed == 0

    scan, space, counts, _ = last_scan(site.settings)
    summary = summarize_scan(scan, space, counts | {"seen": 3})
    assert summary.merged == found
    day = f"{found.until:%Y-%m-%d}"
    assert merged_words(summary)[0] == (
        f"1.8 kB of earlier merges in quarantine until {day} at the earliest"
    )
    page = report_page(summary, Gate("a", "b", "c", "d")).body.decode()
    assert f"in quarantine until {day} at the earliest" in page
    assert "B freed by" not in page
    text = next(one.body for one in render(summary) if one.name == "groups.json").decode()
    assert '"quarantined": 1832' in text

    undo_merge(site.settings, plan.id, by="anna")
    assert told(site).removed == told(site).quarantined == 0


def test_what_is_removed_from_quarantine_is_freed_where_no_version_is_kept(site, versioned):
    site.put("a.png", BODY)
    site.put("b.png", BODY)
    site.list()
    plan = site.plan()
    site.approve(plan)
    site.merge(plan)
    empty_quarantine(site.settings, by="anna", plan_id=plan.id, early=True)
    found = told(site)
    assert (found.quarantined, found.until) == (0, None)
    assert found.removed == len(BODY)
    assert found.freed == (0 if versioned else len(BODY))
    assert found.noncurrent == (len(BODY) if versioned else 0)
