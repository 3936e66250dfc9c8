"""Quarantine: what lies there, and its emptying, the one step that cannot be undone."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from tasks.catalog.catalog import Catalog
from tasks.errors import MergeError, SourceError
from tasks.merging.bucket_journal import BucketJournal
from tasks.merging.bucket_turn import bucket_turn, bucket_wanted
from tasks.merging.catch_up import catch_up
from tasks.merging.journal import (
    DONE,
    LEFT,
    PURGED,
    RELEASED,
    SETTLED,
    UNDOING,
    Run,
    last_events,
    read_events,
    read_named_plan,
    read_plans,
    write_events,
)
from tasks.merging.late_hands import GRACE, late_hands, why_too_early
from tasks.merging.looks import Looks
from tasks.merging.rules.lifecycle import why_expiring
from tasks.merging.rules.plans import OperationKind, Plan, PlannedGroup
from tasks.merging.undo_operations import Undoer
from tasks.progress import Progress, silent
from tasks.records import now
from tasks.session import open_catalog, open_store
from tasks.settings import Settings
from tasks.sources.capabilities import probe
from tasks.sources.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One object in quarantine.

    Attributes:
        until: how long the policy keeps it.
        state: ``kept``, ``expired``, ``released`` (its original is back; it goes after a while),
            ``left`` (an undo could not put it back: it is never removed); after emptying
            ``purged`` or ``failed``.
        run_id: of the emptying, under which the journal has it.
    """

    plan_id: str
    group_id: str
    number: int
    key: str
    at: str
    bytes: int
    until: datetime
    state: str
    why: str = ""
    run_id: str = ""


def list_quarantine(settings: Settings, plan_id: str = "") -> list[Quarantined]:
    """Everything that merges moved into quarantine and nobody brought back, the oldest first."""
    catalog = open_catalog(settings)
    found = [entry for plan in _plans(catalog, plan_id) for entry, _ in _entries(catalog, plan)]
    return sorted(found, key=lambda entry: (entry.until, entry.at))


def empty_quarantine(
    settings: Settings,
    *,
    by: str,
    plan_id: str = "",
    early: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> list[Quarantined]:
    """Remove for good what has been in quarantine for as long as the policy says.

    Args:
        settings: where the catalog and the buckets are.
        by: who empties it; for the audit.
        plan_id: of this plan only; required with ``early``.
        early: also what has not been there long enough.
        dry_run: only say what would be removed.
        progress: told how many objects are done.

    Raises:
        MergeError: when ``early`` names no plan, or the store ignores conditions.
    """
    if not by.strip():
        raise MergeError("say who empties the quarantine (--by NAME): it is written into the audit")
    if early and not plan_id:
        raise MergeError("emptying a quarantine early needs one plan's id")
    catalog = open_catalog(settings)
    outcomes: list[Quarantined] = []
    with contextlib.ExitStack() as stack:
        with contextlib.ExitStack() as wanted:
            for source in sorted({plan.source for plan in _plans(catalog, plan_id)}):
                if (store := open_store(source, settings)) is not None:
                    wanted.enter_context(bucket_wanted(store, settings))
            stack.enter_context(catalog.turn(settings.catalog.scan_wait_seconds))
        for plan in _plans(catalog, plan_id):
            due = _due(catalog, plan, early)
            outcomes += _purge(catalog, settings, plan, due, by, dry_run, early, progress)
    return outcomes


def _due(catalog: Catalog, plan: Plan, early: bool) -> list[tuple[Quarantined, PlannedGroup]]:
    return [
        (entry, group)
        for entry, group in _entries(catalog, plan)
        if entry.state == "expired" or (early and entry.state == "kept")
    ]


def _plans(catalog: Catalog, plan_id: str) -> Iterator[Plan]:
    if plan_id:
        yield read_named_plan(catalog, plan_id)
        return
    yield from read_plans(catalog)[0]  # what lies there because of the others stays there


def _entries(catalog: Catalog, plan: Plan) -> Iterator[tuple[Quarantined, PlannedGroup]]:
    events = read_events(catalog, plan)
    last = events.sort("sequence").group_by("group_id", "number", maintain_order=True).last()
    groups = {group.group_id: group for group in plan.groups}
    # Left: an undo did not put the original back, and the copy is all there is of it. It is shown,
    # and never removed by us.
    there = pl.col("event").is_in([DONE, LEFT, RELEASED])
    moved = last.filter(there & (pl.col("kind") == OperationKind.COPY.value))
    for row in moved.iter_rows(named=True):
        group = groups[row["group_id"]]
        operation = group.operations[row["number"]]
        until = row["at"] + timedelta(days=plan.quarantine_days)
        if row["event"] == RELEASED:
            until = row["at"] + GRACE
        state = "expired" if until <= now() else "kept"
        if row["event"] == LEFT:
            state = "left"
        elif row["event"] == RELEASED and state == "kept":
            state = "released"
        yield (
            Quarantined(
                plan.id,
                group.group_id,
                row["number"],
                operation.key,
                operation.to or "",
                operation.before.size,
                until,
                state,
            ),
            group,
        )


def _purge(
    catalog: Catalog,
    settings: Settings,
    plan: Plan,
    due: list[tuple[Quarantined, PlannedGroup]],
    by: str,
    dry_run: bool,
    early: bool,
    progress: Progress,
) -> list[Quarantined]:
    if not due or dry_run:
        return [entry for entry, _ in due]
    store = open_store(plan.source, settings)
    if store is None:
        raise MergeError(f"{plan.source} is a folder; nothing is in quarantine there")
    store.capabilities = probe(store)
    if not store.capabilities.writable:
        raise MergeError(
            f"the store of {store.bucket} does not keep to {', '.join(store.capabilities.missing)}"
        )
    with bucket_turn(store, settings):
        return _purge_in_turn(catalog, settings, store, plan, by, early, progress)


def _purge_in_turn(
    catalog: Catalog,
    settings: Settings,
    store: Store,
    plan: Plan,
    by: str,
    early: bool,
    progress: Progress,
) -> list[Quarantined]:
    book = BucketJournal(store, plan)
    book.open()
    catch_up(catalog, plan, book, settings.catalog.busy_seconds)
    due = _due(catalog, plan, early)  # another catalog may have put some back
    run = Run(f"{now():%Y%m%dT%H%M%S}-{secrets.token_hex(3)}", plan, " ".join(by.split()), book)
    events = read_events(catalog, plan)
    outcomes = []
    hands = late_hands(store)
    rested = _rested(store, book)
    for at, (entry, group) in enumerate(due):
        progress("purge", at + 1, len(due))
        operation = group.operations[entry.number]
        last = last_events(events, group.group_id)
        try:
            with catalog.writing(settings.catalog.busy_seconds):
                if why := why_too_early(hands, plan.id, group):
                    raise MergeError(why)
                released = last[entry.number][0] == RELEASED
                age = rested if released else None if early else store.age(entry.at)
                least = GRACE if released else timedelta(days=plan.quarantine_days)
                if age is not None and age < least:
                    why = _why_not_yet(entry, age, least)
                    log.warning("%s", why)
                    outcomes.append(replace(entry, state="kept", why=why))
                    continue
                store.announce(f"{plan.id}/{group.group_id}")
                # The journal last: what is gone and not written down is found by the next run.
                if released:
                    event = _end_release(Undoer(store, group, last), entry.number)
                else:
                    _check_keeper(store, group, last)
                    copy = Looks(store, group, last).quarantined(entry.number)
                    if copy is not None:
                        store.delete(copy)
                    event = PURGED
                write_events(catalog, run, group, event, [(entry.number, operation, {})])
            if event == LEFT:
                raise MergeError(
                    f"{entry.key!r} is not there, or another, though an undo put it back: its copy "
                    "stays in quarantine"
                )
        except (SourceError, MergeError) as error:
            outcomes.append(_ended(entry, "failed", str(error)))
        else:
            outcomes.append(_ended(entry, "purged"))
    log.info(
        "quarantine of plan %s: %d of %d removed",
        plan.id,
        sum(1 for outcome in outcomes if outcome.state == "purged"),
        len(due),
    )
    return [replace(entry, run_id="" if entry.state == "kept" else run.id) for entry in outcomes]


def _rested(store: Store, book: BucketJournal) -> timedelta | None:
    """How long ago an undo of the plan last began or did a step, by the store's clock.

    None where its bucket's journal has no undo: an older release undid it.
    """
    last = book.last_of(UNDOING, RELEASED)
    return store.age(last) if last else None


def _why_not_yet(entry: Quarantined, age: timedelta, least: timedelta) -> str:
    """Why a copy stays that is due by this machine's clock and not by the store's.

    A clock that is a month ahead would else remove for good what was merged today.
    """
    hours, wanted = (moment.total_seconds() / 3600 for moment in (age, least))
    return (
        f"{entry.at!r} has been there for {hours:.1f} of {wanted:.0f} hours by the store's clock, "
        "whatever this machine's says: it stays"
    )


def _end_release(operator: Undoer, number: int) -> str:
    """Remove the copy of what an undo put back, if that is still there; the event to write."""
    return LEFT if operator.undo(number) else SETTLED


def _check_keeper(
    store: Store, group: PlannedGroup, last: dict[int, tuple[str, dict[str, Any]]]
) -> None:
    """Keep the copies of a keeper that is not the approved one any more: they may be the last."""
    keeper = store.state(group.keeper)
    if not keeper.exists:
        raise MergeError(f"the keeper {group.keeper!r} is gone: its copies are kept")
    planned = next((state for state in group.states if state.key == group.keeper), None)
    if why := why_expiring(planned, keeper):
        raise MergeError(f"the keeper {group.keeper!r} does not stay: {why}. Its copies are kept")
    known = {state.etag for state in group.states if state.key == group.keeper}
    known |= {
        detail.get("etag", "")
        for number, (_, detail) in last.items()
        if group.operations[number].key == group.keeper
    }
    if keeper.etag not in known:
        raise MergeError(
            f"the keeper {group.keeper!r} was replaced since the merge: its copies are kept; scan, "
            "and undo the merge if the two are not the same picture any more"
        )


def _ended(entry: Quarantined, state: str, why: str = "") -> Quarantined:
    return replace(entry, state=state, why=why)
