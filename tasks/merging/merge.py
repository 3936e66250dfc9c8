"""Merge: carry out the approved groups of a plan.

Every group is looked at anew and refused whole when anything about it moved. What is about to be
done is written to the journal first; a run that was killed is taken up by the next one, which finds
out from the bucket how far it came.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from tasks.catalog.catalog import Catalog
from tasks.errors import (
    AssetChangedError,
    AssetGoneError,
    MergeError,
    PolicyError,
    SourceError,
    TransientSourceError,
)
from tasks.merging.bucket_journal import BucketJournal
from tasks.merging.bucket_turn import bucket_turn, bucket_wanted
from tasks.merging.catalog_sync import remember_objects
from tasks.merging.catch_up import catch_up
from tasks.merging.compared import why_not_compared
from tasks.merging.decide import decide
from tasks.merging.journal import (
    CHECKED,
    DECIDED,
    DONE,
    INTENDED,
    LEFT,
    REFUSED,
    Run,
    group_state,
    last_events,
    past_outcomes,
    read_decisions,
    read_events,
    read_named_plan,
    read_plan,
    write_events,
    write_group_event,
)
from tasks.merging.late_hands import late_hands, why_too_early
from tasks.merging.looks import Stand
from tasks.merging.operations import Operator
from tasks.merging.policy_file import why_lapsed
from tasks.merging.rules.caps import next_lot, over_caps
from tasks.merging.rules.plans import OperationKind, Plan, PlannedGroup, places_of
from tasks.progress import Progress, silent
from tasks.records import now
from tasks.requests import MergeRequest, PlanDecision
from tasks.session import open_catalog, open_store
from tasks.settings import Settings
from tasks.sources.capabilities import probe
from tasks.sources.places import note_places
from tasks.sources.store import Store

log = logging.getLogger(__name__)

#: A racing upload that a delete marker hides shows after so many seconds (measured: 0 of 150
#: missed; at once, 53 of 200 were).
_SETTLED = 0.5


@dataclass(frozen=True, slots=True)
class GroupOutcome:
    """What became of one group.

    Attributes:
        state: ``merged``, ``refused``, ``would merge`` (a dry run), ``already merged``, ``failed``,
            ``waiting`` (for a later run: the caps of this one are reached).
        why: what is in the way, and what to do.
    """

    group_id: str
    keeper: str
    action: str
    state: str
    operations: int
    bytes: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class MergeOutcome:
    """What a run of a merge did."""

    plan_id: str
    run_id: str
    dry_run: bool
    groups: tuple[GroupOutcome, ...]

    @property
    def complete(self) -> bool:
        """Whether every group that was to be merged is."""
        return all(group.state not in {"refused", "failed"} for group in self.groups)


def merge_plan(
    settings: Settings,
    plan_id: str,
    *,
    by: str,
    groups: Sequence[str] = (),
    dry_run: bool = False,
    progress: Progress = silent,
) -> MergeOutcome:
    """Carry out what is approved of a plan and not yet done.

    Args:
        settings: where the catalog and the bucket are.
        plan_id: the plan.
        by: who runs this; for the journal.
        groups: only these, by their ids; none: all that are approved.
        dry_run: do all of it but the writes.
        progress: told how many groups are done.

    Raises:
        MergeError: when nothing may be done: no approval, a cap, a store that ignores conditions.
    """
    catalog = open_catalog(settings)
    plan = read_named_plan(catalog, plan_id)
    store = open_store(plan.source, settings)
    if store is None:
        raise MergeError(f"{plan.source} is a folder; merging needs a bucket")
    book = BucketJournal(store, plan)
    with contextlib.ExitStack() as stack:
        with bucket_wanted(store, settings):
            stack.enter_context(catalog.turn(settings.catalog.scan_wait_seconds))
        chosen = _chosen(catalog, plan, groups, dry_run)
        events = read_events(catalog, plan)
        _check_roles(chosen)
        to_do = [
            group
            for group in chosen
            if group_state(group, last_events(events, group.group_id)) != "merged"
        ]
        over = over_caps(plan, to_do)
        later: list[PlannedGroup] = []
        if over:
            lot = _lot_of(plan, to_do, events, over)
            later = [group for group in to_do if group not in lot]
            chosen = [group for group in chosen if group not in later]
        if not dry_run:
            _check_store(store, chosen)
            stack.enter_context(bucket_turn(store, settings))
            note_places(store.client, store.bucket, places_of(chosen))
            if chosen:
                book.open()
                catch_up(catalog, plan, book, settings.catalog.busy_seconds)
        run = Run(
            f"{now():%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
            plan,
            by,
            None if dry_run else book,
            () if dry_run else late_hands(store),
        )
        outcome = _carry_out(catalog, settings, store, run, chosen, dry_run, progress)
        why = f"{over}: it is carried out by a later run"
        waiting = tuple(_outcome(group, "waiting", why) for group in later)
        return replace(outcome, groups=(*outcome.groups, *waiting))


def decide_and_merge(
    request: MergeRequest, settings: Settings, *, progress: Progress = silent
) -> MergeOutcome:
    """Record a decision that came through the Prefect UI, and carry out what is approved.

    A dry run decides nothing, and shows what would be done with all that may be approved.

    Raises:
        MergeError: when a named group cannot be decided so; what was decided before stands.
    """
    if not request.dry_run:
        decided = decide(
            settings,
            request.plan_id,
            request.decision.value,
            by=request.approved_by,
            groups=request.groups,
            comment=request.comment,
            channel="prefect",
            accept_questions=request.accept_questions,
        )
        open_still = [one for one in decided if not one.decision]
        if open_still and (request.groups or len(open_still) == len(decided)):
            first = open_still[0]
            raise MergeError(
                f"{len(open_still)} of {len(decided)} groups were not decided; group "
                f"{first.group_id[:8]}: {first.why}"
            )
    if request.decision is PlanDecision.REJECT:
        return MergeOutcome(request.plan_id, "", request.dry_run, ())
    return merge_plan(
        settings,
        request.plan_id,
        by=request.approved_by,
        groups=request.groups,
        dry_run=request.dry_run,
        progress=progress,
    )


def merge_approved(
    settings: Settings, *, by: str, progress: Progress = silent
) -> list[MergeOutcome]:
    """Carry out all that is approved and not done, of all plans: what a schedule runs."""
    catalog = open_catalog(settings)
    outcomes = []
    decided = read_decisions(catalog).filter(decision="approve")
    for plan_id in sorted(set(decided["plan_id"])):
        try:
            plan = read_plan(catalog, plan_id)
        except MergeError as error:  # one bad plan does not stop the others
            log.error("%s", error)
            continue
        events = read_events(catalog, plan)
        approved = set(decided.filter(plan_id=plan_id)["group_id"])
        waiting = [
            group
            for group in plan.groups
            if group.group_id in approved
            and group_state(group, last_events(events, group.group_id))
            in {"waiting", "interrupted"}
            and not _refused_before(events, group)
        ]
        if not waiting:
            continue
        names = [group.group_id for group in waiting]
        try:
            done = merge_plan(settings, plan_id, by=by, groups=names, progress=progress)
        except (MergeError, SourceError) as error:
            log.error("plan %s: %s", plan_id, error)
            done = MergeOutcome(
                plan_id,
                "",
                False,
                tuple(
                    GroupOutcome(
                        group.group_id,
                        group.keeper,
                        group.action.value,
                        "failed",
                        len(group.operations),
                        group.bytes,
                        str(error),
                    )
                    for group in waiting
                ),
            )
        outcomes.append(done)
    return outcomes


def _refused_before(events: pl.DataFrame, group: PlannedGroup) -> bool:
    """A group whose state moved stays refused: it waits for another plan."""
    mine = events.filter(
        (pl.col("group_id") == group.group_id) & (pl.col("event") != DECIDED)
    ).sort("sequence")
    return mine.height > 0 and mine["event"][-1] == REFUSED


def _chosen(
    catalog: Catalog, plan: Plan, groups: Sequence[str], dry_run: bool
) -> list[PlannedGroup]:
    """The approved groups, in the plan's order."""
    decided = read_decisions(catalog, plan)
    approved = set(decided.filter(decision="approve")["group_id"])
    if dry_run and not approved:  # what would be done if all of it were approved
        open_groups = {group.group_id for group in plan.groups if not group.refused}
        approved = open_groups - set(decided["group_id"])
    wanted = approved
    if groups:
        wanted = set()
        for name in groups:
            group = plan.group(name)
            if group is None:
                raise MergeError(f"plan {plan.id} has no group {name!r}")
            if group.group_id not in approved and not _may_be_tried(group, decided, dry_run):
                raise MergeError(
                    f"group {group.group_id[:8]} of plan {plan.id} is not approved: "
                    f"dam-dedup approve {plan.id} --by NAME --groups {group.group_id[:8]}"
                )
            wanted.add(group.group_id)
    if not wanted:
        raise MergeError(
            f"nothing of plan {plan.id} is approved: dam-dedup plan show {plan.id}, then "
            f"dam-dedup approve {plan.id} --by NAME"
        )
    chosen = [group for group in plan.groups if group.group_id in wanted and group.operations]
    for group in chosen:
        if group.refused:  # no decision may stand above a plan's refusal
            raise MergeError(f"group {group.group_id[:8]} may not be merged: {group.refused}")
    return chosen


def _approved_by_way_of(catalog: Catalog, plan: Plan, group: PlannedGroup) -> str:
    """The channel of a group's approval; empty where there is none, or it was taken back."""
    decided = read_decisions(catalog, plan).filter(decision="approve", group_id=group.group_id)
    return str(decided["channel"][0]) if decided.height else ""


def _may_be_tried(group: PlannedGroup, decided: pl.DataFrame, dry_run: bool) -> bool:
    """Whether a dry run may show a group that nobody has decided on."""
    return dry_run and not group.refused and group.group_id not in set(decided["group_id"])


def _outcome(group: PlannedGroup, state: str, why: str = "") -> GroupOutcome:
    return GroupOutcome(
        group.group_id,
        group.keeper,
        group.action.value,
        state,
        len(group.operations),
        group.bytes,
        why,
    )


def _lot_of(
    plan: Plan, chosen: Sequence[PlannedGroup], events: pl.DataFrame, over: str
) -> list[PlannedGroup]:
    """The groups that this run carries out, where all of them are more than a run may do.

    What an earlier run began comes first: half of a merge does not wait for others.

    Raises:
        MergeError: when not one of them keeps to the caps: then nothing is done.
    """
    begun = [
        group
        for group in chosen
        if group_state(group, last_events(events, group.group_id)) == "interrupted"
    ]
    lot = next_lot(plan, [group for group in chosen if group not in begun], begun)
    if not lot:
        raise MergeError(f"{over}: nothing was done; raise the cap in the policy and plan again")
    log.info(
        "plan %s: %s; %d of %d groups now, the others by the next runs",
        plan.id,
        over,
        len(lot),
        len(chosen),
    )
    return lot


def _check_roles(chosen: Sequence[PlannedGroup]) -> None:
    keepers = {group.keeper for group in chosen}
    both = keepers & {key for group in chosen for key in group.duplicates}
    if both:
        raise MergeError(
            f"{sorted(both)[0]!r} is the keeper of one group and a duplicate of another: plan again"
        )


def _check_store(store: Store, chosen: Sequence[PlannedGroup]) -> None:
    """Refuse a store that ignores conditions: there, a delete hits what was uploaded just now."""
    if not chosen:
        return
    store.capabilities = probe(store)
    if not store.capabilities.writable:
        raise MergeError(
            f"the store of {store.bucket} may only be read: it does not keep to "
            f"{', '.join(store.capabilities.missing)}; nothing was done"
        )
    if store.capabilities.forgets:
        log.warning(
            "the store of %s never tells an object's %s: what objects have of it is not known, and "
            "is not with what a merge copies or rewrites",
            store.bucket,
            ", ".join(store.capabilities.forgets),
        )
    kinds = {(operation.kind, operation.to) for group in chosen for operation in group.operations}
    leaving = any(kind is OperationKind.DELETE for kind, _ in kinds)
    if leaving and store.suspended:
        raise MergeError(
            f"versioning of the bucket {store.bucket} is suspended, where a delete destroys data "
            "and still leaves a marker: nothing was done; turn versioning on"
        )
    bare = any(kind is OperationKind.DELETE and to is None for kind, to in kinds)
    if bare and not store.versioned:
        raise MergeError(
            f"the bucket {store.bucket} keeps no versions: a delete could not be undone. Turn "
            "versioning on, or let the policy quarantine"
        )


def _carry_out(
    catalog: Catalog,
    settings: Settings,
    store: Store,
    run: Run,
    chosen: Sequence[PlannedGroup],
    dry_run: bool,
    progress: Progress,
) -> MergeOutcome:
    outcomes = []
    wait = settings.catalog.busy_seconds
    if not dry_run:
        _check_hidden(catalog, store, run, wait)
    for at, group in enumerate(chosen):
        with catalog.writing(wait):
            outcomes.append(_merge_group(catalog, settings, store, run, group, dry_run))
        log.info("group %s: %s %s", group.group_id[:8], outcomes[-1].state, outcomes[-1].why)
        progress("merge", at + 1, len(chosen))
    if any(outcome.state == "merged" for outcome in outcomes) and store.versioned:
        time.sleep(_SETTLED)
        hidden = _check_hidden(catalog, store, run, wait)
        outcomes = [
            replace(outcome, state="failed", why=hidden[outcome.group_id])
            if outcome.group_id in hidden
            else outcome
            for outcome in outcomes
        ]
    return MergeOutcome(run.plan.id, run.id, dry_run, tuple(outcomes))


def _merge_group(
    catalog: Catalog, settings: Settings, store: Store, run: Run, group: PlannedGroup, dry_run: bool
) -> GroupOutcome:
    def outcome(state: str, why: str = "") -> GroupOutcome:
        return _outcome(group, state, why)

    last = last_events(read_events(catalog, run.plan), group.group_id)
    state = group_state(group, last)
    if state == "merged":
        return outcome("already merged")
    if state in {"undone", "partly undone"}:
        return outcome("refused", f"it was {state}; plan again with --again to merge it")
    if state == "undoing":
        return outcome(
            "refused",
            "an undo of it did not come to its end: "
            f"dam-dedup undo {run.plan.id}/{group.group_id[:8]} --by NAME",
        )
    begun = state == "interrupted"
    channel = _approved_by_way_of(catalog, run.plan, group)
    if not begun and not dry_run and not channel:
        return outcome("refused", "its approval was taken back")
    # Approved in this plan, and rejected or undone in another one since: the last word holds.
    since = "" if begun else past_outcomes(catalog, run.plan.scope).get(group.fingerprint, "")
    try:
        if channel == "policy" and not begun:
            since = since or why_lapsed(settings, run.plan.policy)
    except PolicyError as error:
        return outcome("failed", f"its approval is a policy's: {error}. Nothing was done to it")
    since = since or ("" if begun else why_not_compared(catalog, settings, run.plan, group))
    if since:
        if not dry_run:
            write_group_event(catalog, run, group, REFUSED, since)
        return outcome("refused", since)
    operator = Operator(store, group, last)
    try:
        stands = operator.look_all()
        _check_group(store, group, stands, begun)
        intended = [] if begun or dry_run else operator.intentions()
    except (SourceError, MergeError) as error:
        if _may_pass(error):  # the next run tries it again
            return outcome("failed", f"{error}. Nothing was done to the group now")
        if not dry_run:
            write_group_event(catalog, run, group, REFUSED, str(error))
        return outcome("refused", str(error))
    if dry_run:
        return outcome("would merge")
    try:
        if why := why_too_early(run.late, run.plan.id, group):
            return outcome("failed", why)
        operator.announce(run.plan.id)
        if not begun:
            write_events(catalog, run, group, INTENDED, intended)
    except SourceError as error:
        return outcome("failed", f"{error}. Nothing was done to the group now")
    return _perform(catalog, settings, run, group, operator, stands, outcome)


def _may_pass(error: Exception) -> bool:
    """Whether the store failed, and nothing is known of the group."""
    moved = isinstance(error, AssetChangedError | AssetGoneError)
    return isinstance(error, TransientSourceError) and not moved


def _check_group(store: Store, group: PlannedGroup, stands: Sequence[Stand], begun: bool) -> None:
    """Refuse the group when anything is not as the plan relies on, or as we left it."""
    moved = "{!r} is not what it was when the plan was made: " + (
        "the merge that was begun goes no further; undo what is done of it, scan and plan again"
        if begun
        else "nothing was done to the group; scan and plan again"
    )
    for operation, stand in zip(group.operations, stands, strict=True):
        if stand is Stand.MOVED or (stand is Stand.DONE and not begun):
            raise AssetChangedError(moved.format(operation.key))
    changing = {operation.key for operation in group.operations}
    found = store.states(state.key for state in group.states if state.key not in changing)
    for before in group.states:
        if before.key in found and found[before.key] != before:
            raise AssetChangedError(moved.format(before.key))
    held = [state for state in group.states if state.held and state.key in group.duplicates]
    if held:
        raise MergeError(f"{held[0].key!r} is under {held[0].held}")
    if group.keeper in changing and stands[_number(group, group.keeper)] is Stand.DONE:
        return
    keeper = next((state for state in group.states if state.key == group.keeper), None)
    if keeper is None or not keeper.exists:
        raise AssetGoneError(f"the keeper {group.keeper!r} is no longer there")
    store.check_readable(keeper)


def _number(group: PlannedGroup, key: str) -> int:
    return next(n for n, operation in enumerate(group.operations) if operation.key == key)


def _perform(
    catalog: Catalog,
    settings: Settings,
    run: Run,
    group: PlannedGroup,
    operator: Operator,
    stands: Sequence[Stand],
    outcome: Callable[..., GroupOutcome],
) -> GroupOutcome:
    done = []
    failed: SourceError | MergeError | None = None
    for number, operation in enumerate(group.operations):
        try:
            detail = operator.perform(number, stands[number])
        except (SourceError, MergeError) as error:
            failed = error
            break
        done.append((number, operation, detail))
    write_events(catalog, run, group, DONE, done)
    remember_objects(catalog, settings, run.plan, group, [n for n, _, _ in done], undone=False)
    if failed is None:
        return outcome("merged")
    log.error(
        "group %s stopped after %d of %d operations: %s",
        group.group_id[:8],
        len(done),
        len(group.operations),
        failed,
    )
    why = (
        f"{failed}. {len(done)} of {len(group.operations)} operations are done: run the merge "
        f"again to go on, or `dam-dedup undo {run.plan.id}/{group.group_id[:8]} --by NAME`"
    )
    return outcome("failed", why)


def _check_hidden(catalog: Catalog, store: Store, run: Run, wait: float) -> dict[str, str]:
    """Look again at markers that were set; group id to what a racing upload made us take back."""
    events = read_events(catalog, run.plan)
    checked = set(events.filter(event=CHECKED).select("run_id", "group_id").iter_rows())
    hidden: dict[str, str] = {}
    for group in run.plan.groups:
        mine = events.filter((pl.col("group_id") == group.group_id) & (pl.col("event") == DONE))
        runs = {(run_id, group.group_id) for run_id in mine["run_id"]} - checked
        if not runs or not any(o.kind is OperationKind.DELETE for o in group.operations):
            continue
        operator = Operator(store, group, last_events(events, group.group_id))
        with catalog.writing(wait):
            try:
                for number, why in operator.take_back_hidden():
                    hidden[group.group_id] = why
                    operation = group.operations[number]
                    write_events(catalog, run, group, LEFT, [(number, operation, {"why": why})])
            except SourceError as error:  # the next run looks again
                log.warning("group %s: cannot look again: %s", group.group_id[:8], error)
                hidden[group.group_id] = (
                    f"it is merged, but whether something was uploaded in the same moment is not "
                    f"known: {error}. Run the merge again"
                )
                continue
            for run_id, _ in sorted(runs):
                write_group_event(catalog, Run(run_id, run.plan, run.by), group, CHECKED, "")
    return hidden
