"""Undo: put back what a merge did, from the plan and the journal alone.

In reverse order, and idempotent like the merge. What changed since is left as it is, and said.

A quarantined copy stays for a while after its original is back: a process that stood still, or a
request that was held up on its way, may remove the original once more. A store refuses a request
that was signed over 15 minutes ago, so that after an hour nothing of that kind can come any more
(`late_hands.GRACE`).
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace

import polars as pl

from tasks.catalog.catalog import Catalog
from tasks.errors import MergeError, SourceError
from tasks.merging.bucket_journal import BucketJournal
from tasks.merging.bucket_turn import bucket_turn, bucket_wanted
from tasks.merging.catalog_sync import remember_objects
from tasks.merging.catch_up import catch_up
from tasks.merging.journal import (
    LEFT,
    PURGED,
    RELEASED,
    SETTLED,
    UNDOING,
    UNDONE,
    Run,
    last_events,
    read_events,
    read_named_plan,
    read_plan,
    write_events,
)
from tasks.merging.own_markers import LEFT_MARKER, OwnMarkers
from tasks.merging.rules.plans import OperationKind, Plan, PlannedGroup
from tasks.merging.undo_operations import Undoer
from tasks.progress import Progress, silent
from tasks.records import now
from tasks.session import open_catalog, open_store
from tasks.settings import Settings
from tasks.sources.capabilities import probe

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UndoOutcome:
    """What became of one operation.

    Attributes:
        state: ``undone``, ``left`` (changed since), ``failed`` or, of a dry run, ``would undo``.
        run_id: under which the journal has it; empty of a dry run.
    """

    operation: str
    kind: str
    key: str
    state: str
    why: str = ""
    run_id: str = ""


def undo_merge(
    settings: Settings,
    target: str,
    *,
    by: str,
    groups: Collection[str] | None = None,
    dry_run: bool = False,
    progress: Progress = silent,
) -> list[UndoOutcome]:
    """Undo a plan, one group of it, or one operation.

    Args:
        settings: where the catalog and the bucket are.
        target: ``PLAN``, ``PLAN/GROUP``, ``PLAN/GROUP/NUMBER``, or ``GROUP`` alone.
        by: who undoes; for the audit.
        groups: ids of the only groups of the plan that may be undone; None: all.
        dry_run: only say what would be undone.
        progress: told how many operations are looked at.

    Returns:
        One outcome for each operation that was done or begun; none when there is nothing to undo.

    Raises:
        MergeError: when the target names nothing, or the store may not be written.
    """
    if not by.strip():
        raise MergeError("say who undoes (--by NAME): it is written into the audit")
    catalog = open_catalog(settings)
    plan, group_id, number = find_target(catalog, target)
    store = open_store(plan.source, settings)
    if store is None:
        raise MergeError(f"{plan.source} is a folder; nothing was merged there")
    with contextlib.ExitStack() as stack:
        with bucket_wanted(store, settings):
            stack.enter_context(catalog.turn(settings.catalog.scan_wait_seconds))
        events = read_events(catalog, plan)
        todo = _todo(plan, events, group_id, number, groups)
        if todo and not dry_run:
            store.capabilities = probe(store)
            if not store.capabilities.writable:
                missing = ", ".join(store.capabilities.missing)
                raise MergeError(f"the store of {store.bucket} does not keep to {missing}")
            stack.enter_context(bucket_turn(store, settings))
        book = BucketJournal(store, plan)
        if todo and not dry_run:
            book.open(undoing=True)
            catch_up(catalog, plan, book, settings.catalog.busy_seconds, undoing=True)
            events = read_events(catalog, plan)
            todo = _todo(plan, events, group_id, number, groups)
        run = Run(f"{now():%Y%m%dT%H%M%S}-{secrets.token_hex(3)}", plan, " ".join(by.split()), book)
        outcomes: list[UndoOutcome] = []
        is_ours = OwnMarkers(catalog, store).has
        for at, (group, numbers) in enumerate(todo):
            last = last_events(events, group.group_id)
            if dry_run:
                outcomes += [_outcome(plan, group, n, "would undo") for n in numbers]
            else:
                operator = Undoer(store, group, last, is_ours)
                with catalog.writing(settings.catalog.busy_seconds):
                    outcomes += _undo_group(catalog, settings, run, group, numbers, operator)
            progress("undo", at + 1, len(todo))
        return outcomes if dry_run else [replace(end, run_id=run.id) for end in outcomes]


def find_target(catalog: Catalog, target: str) -> tuple[Plan, str | None, int | None]:
    """Plan, group id and operation number that a target names.

    Raises:
        MergeError: when it names nothing, or several things.
    """
    parts = target.strip().split("/")
    if len(parts) > 3 or not all(parts):
        raise MergeError(f"{target!r}: write PLAN, PLAN/GROUP or PLAN/GROUP/NUMBER")
    try:
        plan = read_named_plan(catalog, parts[0])
    except MergeError:
        if parts[0].lower() == "latest":
            raise
        found = None if len(parts) > 1 else _plan_of_group(catalog, parts[0])
        if found is None:
            raise
        plan = found
        parts = [plan.id, parts[0]]
    if len(parts) == 1:
        return plan, None, None
    group = plan.group(parts[1])
    if group is None:
        raise MergeError(f"plan {plan.id} has no group {parts[1]!r}, or several that begin so")
    if len(parts) == 2:
        return plan, group.group_id, None
    if not parts[2].isdigit() or int(parts[2]) >= len(group.operations):
        raise MergeError(f"group {group.group_id[:8]} has no operation {parts[2]!r}")
    return plan, group.group_id, int(parts[2])


def _plan_of_group(catalog: Catalog, group_id: str) -> Plan | None:
    """The plan that last did something to a group."""
    events = read_events(catalog).filter(pl.col("group_id").str.starts_with(group_id.lower()))
    if events.is_empty():
        return None
    return read_plan(catalog, events.sort("sequence")["plan_id"][-1])


def _todo(
    plan: Plan,
    events: pl.DataFrame,
    group_id: str | None,
    number: int | None,
    groups: Collection[str] | None,
) -> list[tuple[PlannedGroup, list[int]]]:
    """Groups with the operations that were begun and are not undone, the last first."""
    found = []
    for group in reversed(plan.groups):
        if group_id is not None and group.group_id != group_id:
            continue
        if groups is not None and group.group_id not in groups:
            continue
        last = last_events(events, group.group_id)
        ended = {UNDONE, PURGED, RELEASED, SETTLED}
        numbers = sorted((n for n, (event, _) in last.items() if event not in ended), reverse=True)
        if number is not None:
            numbers = _with_followers(group, numbers, number)
        if numbers:
            found.append((group, numbers))
    return found


def _with_followers(group: PlannedGroup, numbers: list[int], number: int) -> list[int]:
    """An operation with the later ones on its key: a copy goes after its original is back."""
    key = group.operations[number].key
    return [n for n in numbers if n == number or (n > number and group.operations[n].key == key)]


def _undo_group(
    catalog: Catalog,
    settings: Settings,
    run: Run,
    group: PlannedGroup,
    numbers: list[int],
    operator: Undoer,
) -> list[UndoOutcome]:
    operator.announce(run.plan.id)
    # What is to be known of each object before the first request; see `before_undo`.
    write_events(
        catalog,
        run,
        group,
        UNDOING,
        [(n, group.operations[n], operator.before_undo(n)) for n in numbers],
    )
    outcomes = []
    lost = ""
    for n in numbers:
        if lost and group.operations[n].kind not in {OperationKind.COPY, OperationKind.DELETE}:
            why = f"it stays, for it holds what is known of an asset that is gone: {lost}"
            outcome = _outcome(run.plan, group, n, "left", why)
        else:
            outcome = _undo_one(run.plan, group, n, operator)
        outcomes.append(outcome)
        marker = operator.left_markers.get(n, "")
        _write_end(catalog, run, group, n, outcome, marker)
        if outcome.state == "gone":  # for good; the others may come back
            lost = outcome.why
        elif outcome.state == "failed":
            break
    undone = [n for n, end in zip(numbers, outcomes, strict=False) if end.state == "undone"]
    remember_objects(catalog, settings, run.plan, group, undone, undone=True)
    log.info("group %s: %d of %d operations undone", group.group_id[:8], len(undone), len(numbers))
    return [replace(end, state="failed") if end.state == "gone" else end for end in outcomes]


def _undo_one(plan: Plan, group: PlannedGroup, number: int, operator: Undoer) -> UndoOutcome:
    try:
        why = operator.undo(number, keep_copies=True)
    except MergeError as error:
        return _outcome(plan, group, number, "gone", str(error))
    except SourceError as error:
        return _outcome(plan, group, number, "failed", str(error))
    return _outcome(plan, group, number, "left" if why else "undone", why)


def _write_end(
    catalog: Catalog, run: Run, group: PlannedGroup, number: int, end: UndoOutcome, marker: str
) -> None:
    """Write down at once what became of an operation.

    From then on it is never undone again: what somebody deletes after we put it back stays deleted.
    A process that dies between its request and this row leaves the outcome open. The next undo then
    puts back what is missing, even if a person deleted it in between. On a bucket without versions
    nothing tells that deletion from a late request of our own merge, or from an object that never
    came back, so the word that is known holds: somebody asked for the undo, and asked again. Who
    deleted the object deletes it once more; an asset that is wrongly left out would be missed by
    nobody. One request for one object is all that can be open.
    """
    event = _EVENTS.get(end.state)
    if event is None:
        return
    operation = group.operations[number]
    if event == UNDONE and operation.kind is OperationKind.COPY:
        event = RELEASED
    # By it an earlier merge's undo knows that nobody else deleted what lies there.
    detail = {"why": end.why} | ({LEFT_MARKER: marker} if marker else {})
    write_events(catalog, run, group, event, [(number, operation, detail)])


_EVENTS = {"undone": UNDONE, "left": LEFT}


def _outcome(
    plan: Plan, group: PlannedGroup, number: int, state: str, why: str = ""
) -> UndoOutcome:
    operation = group.operations[number]
    name = f"{plan.id}/{group.group_id[:8]}/{number}"
    return UndoOutcome(name, operation.kind.value, operation.key, state, why)
