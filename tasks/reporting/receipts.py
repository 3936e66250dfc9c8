"""Receipts: what merges, undos and emptyings of the quarantine did, as the journal tells it.

Every number comes from the journal's rows. What was not done and left no row there (a store that
did not answer, say) comes from the outcome of the run, with its reason.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from tasks.catalog.catalog import Catalog
from tasks.errors import MergeError
from tasks.merging.journal import (
    DONE,
    PURGED,
    RELEASED,
    SETTLED,
    UNDONE,
    group_state,
    read_decisions,
    read_events,
    read_plan,
)
from tasks.merging.rules.plans import OperationKind, Plan, PlannedGroup
from tasks.records import now
from tasks.reporting.savings import keeps_versions
from tasks.session import open_catalog
from tasks.settings import Settings
from tasks.summary import MergedSince

#: What a receipt is of.
MERGE, UNDO, PURGE = "merge", "undo", "purge"
#: For each kind: the event that says that it was done, and the operation whose bytes count.
_COUNTED = {
    MERGE: (DONE, OperationKind.DELETE.value),
    UNDO: (UNDONE, OperationKind.DELETE.value),
    PURGE: (PURGED, OperationKind.COPY.value),
}
_OPERATION = ["plan_id", "group_id", "number"]


@dataclass(frozen=True, slots=True)
class NotDone:
    """What a run was asked for and did not do.

    Attributes:
        key: the file that stays, or the one that could not be put back or removed.
        state: ``refused``, ``failed``, ``left`` or ``waiting``.
    """

    key: str
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class ReceiptGroup:
    """What a run did to one group: so many files, and their bytes."""

    plan_id: str
    group_id: str
    keeper: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class MergeReceipt:
    """What one run did.

    Attributes:
        kind: ``merge``, ``undo`` or ``purge``.
        plan_id: the plan, or the first of several.
        approved_by: who approved what was merged, each once.
        at: when the last of it was done.
        files: how many left their place, came back, or were removed from quarantine for good.
        bytes: of these files.
        quarantined: of these bytes, what lies in quarantine now because of this run.
        noncurrent: of these bytes, what the bucket still keeps as old versions: not freed.
        freed: of these bytes, what is gone for good and costs nothing any more.
        until: until when at least a merge can be undone; None: nothing of it is in quarantine.
    """

    kind: str
    source: str
    plan_id: str
    by: str
    approved_by: tuple[str, ...]
    at: datetime
    groups: tuple[ReceiptGroup, ...]
    files: int
    bytes: int
    quarantined: int
    noncurrent: int
    freed: int
    until: datetime | None
    refused: tuple[NotDone, ...]


@dataclass(frozen=True, slots=True)
class DoneGroup:
    """A group that a merge began, as it is now.

    Attributes:
        state: as :func:`tasks.merging.journal.group_state` names it; ``purged`` when its copies
            were removed from quarantine for good.
        by: who ran the merge; ``undone_by``: who ran the undo, or nothing.
        files: how many the merge moved or removed, and ``bytes`` of these.
        quarantined: bytes that lie in quarantine now.
        until: when the quarantine may be emptied of them.
        undoable: whether there is something to put back, and what it takes is still there.
    """

    plan_id: str
    group_id: str
    keeper: str
    tier: str
    state: str
    approved_by: str
    by: str
    at: datetime
    undone_by: str
    undone_at: datetime | None
    files: int
    bytes: int
    quarantined: int
    until: datetime | None
    undoable: bool


@dataclass(frozen=True, slots=True)
class Month:
    """What merges did in one month (``2026-11``): groups, and bytes moved, brought back, freed."""

    month: str
    groups: int
    moved: int
    undone: int
    freed: int


@dataclass(frozen=True, slots=True)
class Done:
    """All that the page of what was merged shows; the newest group first, the oldest month too.

    Attributes:
        noncurrent: bytes that were removed and that the bucket keeps as old versions.
        freed: bytes that are gone for good; none where the bucket keeps versions.
    """

    groups: tuple[DoneGroup, ...]
    months: tuple[Month, ...]
    quarantined: int
    until: datetime | None
    noncurrent: int
    freed: int


def transitions(events: pl.DataFrame) -> pl.DataFrame:
    """The rows of a journal at which an operation became something else, in order.

    A merge that was cut off and taken up again writes once more what it finds done already.
    """
    ordered = events.filter(pl.col("number") >= 0).sort("sequence")
    before = pl.col("event").shift(1).over(_OPERATION)
    return ordered.filter(before.is_null() | (before != pl.col("event")))


def read_receipt(
    settings: Settings,
    kind: str,
    runs: Collection[tuple[str, str]],
    refused: Sequence[NotDone] = (),
    *,
    plan_id: str = "",
    by: str = "",
) -> MergeReceipt | None:
    """The receipt of what was done to one source; None when nothing was, and nothing refused.

    Args:
        settings: where the catalog is.
        kind: ``merge``, ``undo`` or ``purge``.
        runs: plan id and run id of each run, all on one source.
        refused: what was not done.
        plan_id: the plan, where no run did anything.
        by: who ran it, where the journal has no row of it.
    """
    catalog = open_catalog(settings)
    event, counted = _COUNTED[kind]
    plans = {name: read_plan(catalog, name) for name in dict.fromkeys(one for one, _ in runs)}
    told = pl.concat(
        [transitions(read_events(catalog, plan)) for plan in plans.values()]
        or [read_events(catalog).clear()]
    )
    mine = told.filter(pl.col("run_id").is_in([run for _, run in runs]))
    ends = mine.group_by(_OPERATION, maintain_order=True).last()
    ended = [event, RELEASED] if kind == UNDO else [event]
    acted = ends.filter(pl.col("event").is_in(ended))
    if kind == PURGE:
        acted = acted.filter(kind=counted)
    if acted.is_empty() and not refused:
        return None
    files = acted.filter((pl.col("kind") == counted) & (pl.col("event") == event))
    copies = acted.filter(kind=OperationKind.COPY.value)
    first = next(iter(plans.values()), None) or read_plan(catalog, plan_id)
    size = int(files["bytes"].sum())
    versioned = size > 0 and kind != UNDO and keeps_versions(first.source, settings)
    groups = _receipt_groups(plans, acted, files)
    return MergeReceipt(
        kind=kind,
        source=first.source,
        plan_id=first.id,
        by=acted["by"][-1] if acted.height else by,
        approved_by=_approvers(catalog, plans.values(), groups) if kind == MERGE else (),
        at=acted["at"].max() if acted.height else now(),  # type: ignore[arg-type]
        groups=groups,
        files=files.height,
        bytes=size,
        quarantined=int(copies["bytes"].sum()) if kind == MERGE else 0,
        noncurrent=size if versioned else 0,
        freed=size if kind == PURGE and not versioned else 0,
        until=_until(plans, copies) if kind == MERGE else None,
        refused=tuple(refused),
    )


def _receipt_groups(
    plans: dict[str, Plan], acted: pl.DataFrame, files: pl.DataFrame
) -> tuple[ReceiptGroup, ...]:
    sizes = {
        (plan_id, group_id): (number, size)
        for plan_id, group_id, number, size in files.group_by("plan_id", "group_id")
        .agg(pl.len(), pl.col("bytes").sum().alias("size"))
        .iter_rows()
    }
    found = []
    for plan_id, group_id in acted.select("plan_id", "group_id").unique(maintain_order=True).rows():
        group = plans[plan_id].group(group_id)
        number, size = sizes.get((plan_id, group_id), (0, 0))
        found.append(
            ReceiptGroup(plan_id, group_id, group.keeper if group else "", number, int(size))
        )
    return tuple(found)


def _approvers(
    catalog: Catalog, plans: Collection[Plan], groups: Sequence[ReceiptGroup]
) -> tuple[str, ...]:
    names = {group.group_id for group in groups}
    said = [
        row["by"]
        for plan in plans
        for row in read_decisions(catalog, plan).iter_rows(named=True)
        if row["group_id"] in names
    ]
    return tuple(dict.fromkeys(said))


def _until(plans: dict[str, Plan], copies: pl.DataFrame) -> datetime | None:
    ends = [
        row["at"] + timedelta(days=plans[row["plan_id"]].quarantine_days)
        for row in copies.iter_rows(named=True)
    ]
    return min(ends, default=None)


def read_done(settings: Settings, plan: Plan, only: Collection[str] | None = None) -> Done:
    """What was merged and is known of it now.

    Args:
        settings: where the catalog and the buckets are.
        plan: the plan that was merged.
        only: ids of its groups; None: all groups of every plan of the plan's source.
    """
    catalog = open_catalog(settings)
    if only is None:
        sources = dict(catalog.read("plans", ["plan_id", "source"]).iter_rows())
        ids = [name for name, source in sources.items() if source == plan.source]
        events = read_events(catalog).filter(pl.col("plan_id").is_in(ids))
    else:
        events = read_events(catalog, plan).filter(pl.col("group_id").is_in(list(only)))
    told = transitions(events)
    groups: list[DoneGroup] = []
    for name in told["plan_id"].unique(maintain_order=True):
        try:
            its = plan if name == plan.id else read_plan(catalog, name)
        except MergeError:  # a damaged plan cannot be undone from here
            continue
        groups += _done_groups(catalog, its, told.filter(plan_id=name))
    versioned = told.height > 0 and keeps_versions(plan.source, settings)
    months = _months(told, versioned)
    quarantine = [group for group in groups if group.quarantined]
    return Done(
        groups=tuple(sorted(groups, key=lambda one: (one.at, one.keeper), reverse=True)),
        months=months,
        quarantined=sum(group.quarantined for group in quarantine),
        until=min((group.until for group in quarantine if group.until), default=None),
        noncurrent=sum(m.moved - m.undone for m in months) if versioned else 0,
        freed=sum(month.freed for month in months),
    )


def merged_since(settings: Settings, source: str, since: datetime, until: datetime) -> MergedSince:
    """What merges of a source's plans did between two times, as the journal tells it."""
    catalog = open_catalog(settings)
    sources = dict(catalog.read("plans", ["plan_id", "source"]).iter_rows())
    ids = [name for name, its in sources.items() if its == source]
    told = transitions(read_events(catalog).filter(pl.col("plan_id").is_in(ids)))
    told = told.filter((pl.col("at") > since) & (pl.col("at") <= until))
    if told.is_empty():
        return MergedSince()
    months = _months(told, keeps_versions(source, settings))
    undone = told.filter(event=UNDONE).select("plan_id", "group_id").n_unique()
    groups = told.filter(event=DONE).select("plan_id", "group_id").n_unique()
    return MergedSince(groups, sum(m.moved for m in months), undone, sum(m.freed for m in months))


def _done_groups(catalog: Catalog, plan: Plan, told: pl.DataFrame) -> list[DoneGroup]:
    approved = {
        row["group_id"]: row["by"] for row in read_decisions(catalog, plan).iter_rows(named=True)
    }
    groups = {group.group_id: group for group in plan.groups}
    found = []
    for (group_id,), rows in told.group_by("group_id", maintain_order=True):
        group = groups.get(str(group_id))
        if group is not None and (rows["event"] == DONE).any():
            found.append(_done_group(plan, group, rows, approved.get(group.group_id, "")))
    return found


def _done_group(plan: Plan, group: PlannedGroup, rows: pl.DataFrame, approved_by: str) -> DoneGroup:
    ends = rows.group_by("number", maintain_order=True).last()
    state = group_state(group, {row["number"]: (row["event"], {}) for row in ends.to_dicts()})
    purged = (ends["event"] == PURGED).any()
    done = rows.filter(event=DONE)
    back = rows.filter(pl.col("event").is_in([UNDONE, RELEASED]))
    there = ends.filter((pl.col("kind") == OperationKind.COPY.value) & (pl.col("event") == DONE))
    moved = done.filter(kind=OperationKind.DELETE.value).unique("number")
    open_still = ~ends["event"].is_in([UNDONE, PURGED, RELEASED, SETTLED])
    return DoneGroup(
        plan_id=plan.id,
        group_id=group.group_id,
        keeper=group.keeper,
        tier=group.tier.value,
        state="purged" if purged and state == "merged" else state,
        approved_by=approved_by,
        by=done["by"][-1],
        at=done["at"][-1],
        undone_by=back["by"][-1] if back.height else "",
        undone_at=back["at"][-1] if back.height else None,
        files=moved.height,
        bytes=int(moved["bytes"].sum()),
        quarantined=int(there["bytes"].sum()),
        until=_until({plan.id: plan}, there),
        undoable=bool(open_still.any()) and not purged,
    )


def _months(told: pl.DataFrame, versioned: bool) -> tuple[Month, ...]:
    deletes = pl.col("kind") == OperationKind.DELETE.value
    copies = pl.col("kind") == OperationKind.COPY.value
    event, size = pl.col("event"), pl.col("bytes")
    rows = (
        told.filter(event.is_in([DONE, UNDONE, PURGED]))
        .group_by(pl.col("at").dt.strftime("%Y-%m").alias("month"))
        .agg(
            pl.struct("plan_id", "group_id").filter(event == DONE).n_unique().alias("groups"),
            size.filter(deletes & (event == DONE)).sum().alias("moved"),
            size.filter(deletes & (event == UNDONE)).sum().alias("undone"),
            size.filter(copies & (event == PURGED)).sum().alias("freed"),
        )
        .sort("month")
    )
    return tuple(
        Month(month, groups, int(moved), int(undone), 0 if versioned else int(freed))
        for month, groups, moved, undone, freed in rows.iter_rows()
    )
