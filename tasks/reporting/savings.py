"""Savings: what merging is worth, and where the bytes are now.

A delete marker frees nothing as long as the version below it is kept, nor does a quarantine: such
bytes are named apart, and not counted as freed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl

from tasks.catalog.catalog import Catalog
from tasks.errors import MergeError, SourceError
from tasks.merging.journal import DONE, PURGED, UNDONE, read_events, read_plan, read_plans
from tasks.merging.rules.plans import OperationKind, Plan
from tasks.session import open_catalog, open_store
from tasks.settings import Settings
from tasks.summary import MergedBytes

#: What the ledger counts, in bytes.
COLUMNS = ("planned", "removed", "quarantined", "noncurrent", "freed", "undone")


def read_savings(settings: Settings) -> dict[str, Any]:
    """The ledger of all plans.

    Returns:
        ``plans``: for each its id and the bytes of COLUMNS: planned to leave (a group that several
        plans hold counts in the last); removed from view; of these in quarantine, in old versions
        and freed; undone. ``total``, ``monthly_cost`` of planned and freed, ``per_gb_month``;
        ``unreadable``: ids of plans that are damaged or of another release, and not counted.
    """
    catalog = open_catalog(settings)
    plans, unreadable = read_plans(catalog)
    last = {group.fingerprint: plan.id for plan in plans for group in plan.groups}
    rows = [_row(catalog, settings, plan, last) for plan in plans]
    total = {name: sum(row[name] for row in rows) for name in COLUMNS}
    price = settings.merge.cost_per_gb_month
    cost = {name: round(total[name] / 1e9 * price, 2) for name in ("planned", "freed")}
    return {
        "plans": rows,
        "total": total,
        "monthly_cost": cost,
        "per_gb_month": price,
        "unreadable": unreadable,
    }


def merged_bytes(settings: Settings, source: str, at: datetime) -> MergedBytes:
    """Where the bytes are that merges of a source's plans have moved or removed until a time.

    Args:
        settings: where the catalog and the buckets are.
        source: the plans of this source, and of no other.
        at: what happened later is left out.
    """
    catalog = open_catalog(settings)
    sources = dict(catalog.read("plans", ["plan_id", "source"]).iter_rows())
    # The last event of each operation tells where its object is now.
    events = read_events(catalog).filter((pl.col("number") >= 0) & (pl.col("at") <= at))
    ends = (
        events.sort("sequence")
        .group_by("plan_id", "group_id", "number", maintain_order=True)
        .last()
        .filter(pl.col("plan_id").replace_strict(sources, default="") == source)
    )
    copies = ends.filter(pl.col("kind") == OperationKind.COPY.value)
    there, purged = copies.filter(event=DONE), copies.filter(event=PURGED)
    gone = ends.filter((pl.col("kind") == OperationKind.DELETE.value) & (pl.col("event") == DONE))
    removed = int(gone["bytes"].sum())
    versioned = removed > 0 and keeps_versions(source, settings)
    moved = there.group_by("plan_id").agg(pl.col("at").min())
    ending = [end for end in (_end(catalog, *row) for row in moved.iter_rows()) if end is not None]
    return MergedBytes(
        removed=removed,
        quarantined=int(there["bytes"].sum()),
        until=min(ending, default=None),
        noncurrent=removed if versioned else 0,
        freed=0 if versioned else int(purged["bytes"].sum()),
    )


def _end(catalog: Catalog, plan_id: str, moved: datetime) -> datetime | None:
    """Until when the policy of a plan keeps what was moved; None where the plan is unreadable."""
    try:
        return moved + timedelta(days=read_plan(catalog, plan_id).quarantine_days)
    except MergeError:
        return None


def _row(catalog: Catalog, settings: Settings, plan: Plan, last: dict[str, str]) -> dict[str, Any]:
    events = read_events(catalog, plan).filter(pl.col("number") >= 0).sort("sequence")
    ends = events.group_by("group_id", "number", maintain_order=True).last()

    def count(event: str, kind: OperationKind) -> int:
        chosen = ends.filter((pl.col("event") == event) & (pl.col("kind") == kind.value))
        return int(chosen["bytes"].sum())

    removed = count(DONE, OperationKind.DELETE)
    versioned = removed > 0 and keeps_versions(plan.source, settings)
    return {
        "plan": plan.id,
        "planned": sum(
            operation.before.size
            for group in plan.groups
            if last[group.fingerprint] == plan.id
            for operation in group.operations
            if operation.kind is OperationKind.DELETE
        ),
        "removed": removed,
        "quarantined": count(DONE, OperationKind.COPY),
        "noncurrent": removed if versioned else 0,
        "freed": 0 if versioned else count(PURGED, OperationKind.COPY),
        "undone": count(UNDONE, OperationKind.DELETE),
    }


def keeps_versions(source: str, settings: Settings) -> bool:
    """Whether the bucket keeps what is deleted; one that cannot be asked counts as such."""
    store = open_store(source, settings)
    try:
        return store is not None and store.versioned
    except SourceError:
        return True
