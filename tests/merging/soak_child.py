"""What a process of its own does that is stopped or killed: imported there, and forked from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.catalog import lease
from tasks.merging.merge import merge_plan
from tasks.merging.undo import undo_merge
from tasks.session import open_catalog
from tasks.settings import Settings
from tasks.sources.s3 import client_for
from tests.merging.conftest import Site
from tests.merging.frugal import frugally

POLICY = """
version: 1
name: soak
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, keeper: [{prefix: [%s]}], action: %s}
"""


def site_of(settings: Settings, bucket: str) -> Site:
    """The bucket and catalog, with a client of this process's own."""
    return Site(SimpleNamespace(client=client_for(settings.s3)), bucket, settings)


def work(
    stage: str, settings: Settings, bucket: str, plan_id: str, policy: str, term: float
) -> None:
    """One stage, whole: ``create``, ``scan``, ``plan``, ``merge`` or ``undo``."""
    lease.LEASE_SECONDS, lease._POLL_SECONDS = term, 0.05
    frugally(pytest.MonkeyPatch())
    site: Any = site_of(settings, bucket)
    if stage == "create":
        catalog = open_catalog(settings)
        with catalog.writing():
            for name in ("plans", "journal", "decisions", "verdicts", "groups", "scans"):
                catalog.table(name)
    elif stage == "scan":
        site.list()
    elif stage == "plan":
        site.approve(site.plan(policy=policy))
    elif stage == "merge":
        merge_plan(settings, plan_id, by="child")
    elif stage == "undo":
        undo_merge(settings, plan_id, by="child")
