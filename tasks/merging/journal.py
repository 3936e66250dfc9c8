"""The memory of merges: plans, what was decided about them, and what was done.

Plans and journal are only ever added to. What state a group is in follows from its rows, so that a
run that was killed leaves nothing wrong behind, and the audit is the tables themselves. Rows are in
the order in which they were written, whatever the clocks of the machines that wrote them: each has
a sequence that is one more than the largest so far, and all writers hold the catalog's lease.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.errors import MergeError
from tasks.merging.bucket_journal import BucketJournal
from tasks.merging.late_hands import LateHand
from tasks.merging.rules.plans import Operation, Plan, PlannedGroup
from tasks.queries.sequence import next_sequence
from tasks.records import digest, now
from tasks.session import pa_table

log = logging.getLogger(__name__)

#: Events of one operation, in the order in which they may come.
INTENDED, DONE, UNDOING, UNDONE, LEFT = "intended", "done", "undoing", "undone", "left"
#: Event of a copy whose original an undo put back; it is removed after a while.
RELEASED = "released"
#: Event of such a copy, when it was removed.
SETTLED = "settled"
#: Event of a copy that was removed from quarantine for good.
PURGED = "purged"
#: Event of a whole group: somebody decided about it, or took that back.
DECIDED = "decided"
#: Event of a whole group: nothing was done to it, ``detail`` says why.
REFUSED = "refused"
#: Event of a group whose delete markers were looked at again after a while.
CHECKED = "checked"

_EVENTS = [
    "sequence",
    "run_id",
    "plan_id",
    "group_id",
    "fingerprint",
    "number",
    "kind",
    "key",
    "event",
    "by",
    "at",
    "bytes",
    "detail",
]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a merge or an undo: who is at work on which plan.

    Attributes:
        book: the journal in the bucket, which is written too; none: what is told of is decided
            in the catalog alone.
        late: what others were at who may still send something.
    """

    id: str
    plan: Plan
    by: str
    book: BucketJournal | None = None
    late: tuple[LateHand, ...] = ()


# ---- plans -----------------------------------------------------------------------------------


def save_plan(catalog: Catalog, plan: Plan, *, made: datetime | None = None) -> None:
    """Keep a plan; the same plan twice is one, made now or when it is said."""
    body = plan.as_json()
    row = {
        "plan_id": plan.id,
        "hash": plan.hash,
        "scan_id": plan.scan_id,
        "scope": plan.scope,
        "source": plan.source,
        "policy": plan.policy,
        "made": made or now(),
        "groups": len(plan.groups),
        "body": body,
    }
    catalog.upsert("plans", pa_table([row], schema.PLANS))


def read_plan(catalog: Catalog, plan_id: str) -> Plan:
    """A plan by its id, by a part of it that only one has, or ``latest``.

    Raises:
        MergeError: when there is none, or what is kept is not what was planned.
    """
    columns = ["made", "plan_id", "hash", "body"]
    if plan_id == "latest":
        found = catalog.read("plans", columns).tail(1)
    else:
        wanted = plan_id.strip().lower()
        found = catalog.read("plans", columns, f"starts_with(plan_id, {quote(wanted[:12])})")
        found = found.filter(pl.col("hash").str.starts_with(wanted)) if wanted else found.clear()
    if found.height != 1:
        none = "there is no plan yet" if plan_id == "latest" else f"there is no plan {plan_id!r}"
        many = f"{found.height} plans begin with {plan_id!r}" if found.height else none
        raise MergeError(f"{many}; `dam-dedup plan list` shows them all")
    row = found.row(0, named=True)
    try:
        plan = Plan.from_json(row["body"])
    except ValueError as error:
        raise MergeError(f"plan {row['plan_id']} cannot be read: {error}; plan again") from error
    if plan.hash != row["hash"]:
        raise MergeError(
            f"plan {row['plan_id']} was changed since it was made: its hash is {plan.hash[:12]}. "
            "Nothing is done; plan again"
        )
    return plan


def read_named_plan(catalog: Catalog, plan_id: str) -> Plan:
    """A plan that somebody acts on, by its id: what was looked at must be what is acted on.

    Raises:
        MergeError: for ``latest``, which may be another plan by now than the one that was shown,
            and as `read_plan` does.
    """
    if plan_id.strip().lower() == "latest":
        newest = read_plan(catalog, "latest").id
        raise MergeError(
            "name the plan by its id: `latest` may be another one than was looked at. The latest "
            f"is {newest} now: dam-dedup plan show {newest}"
        )
    return read_plan(catalog, plan_id)


def read_plans(catalog: Catalog) -> tuple[list[Plan], list[str]]:
    """Every plan that can be read, the oldest first, and the ids of those that cannot."""
    plans, unreadable = [], []
    for name in catalog.read("plans", ["made", "plan_id"])["plan_id"]:
        try:
            plans.append(read_plan(catalog, name))
        except MergeError as error:
            log.error("%s", error)
            unreadable.append(str(name))
    return plans, unreadable


def list_plans(catalog: Catalog) -> pl.DataFrame:
    """plan_id, made, source, policy, scan_id, groups; the oldest first."""
    return catalog.read("plans", ["made", "plan_id", "source", "policy", "scan_id", "groups"])


# ---- decisions -------------------------------------------------------------------------------


def save_decision(
    catalog: Catalog,
    plan: Plan,
    group: PlannedGroup,
    *,
    decision: str,
    by: str,
    channel: str,
    comment: str = "",
) -> None:
    """Keep a decision about a group: of a plan's group the first holds until it is withdrawn."""
    said = [
        row
        for row in read_decisions(catalog, plan).iter_rows(named=True)
        if row["group_id"] == group.group_id
    ]
    if said and decision != WITHDRAWN:
        return
    row = {
        # One per plan and group: two clicks at once leave one row.
        "decision_id": digest(plan.hash, group.group_id),
        "plan_id": plan.id,
        "hash": plan.hash,
        "scope": plan.scope,
        "group_id": group.group_id,
        "fingerprint": group.fingerprint,
        "decision": decision,
        "by": by,
        "channel": channel,
        "comment": comment,
        "at": now(),
    }
    catalog.upsert("decisions", pa_table([row], schema.DECISIONS))
    sequence = next_sequence(catalog)
    # A run of its own: the same word said twice are two rows.
    run = Run(f"decided-{sequence}", plan, by)
    write_group_event(catalog, run, group, DECIDED, f"{decision} ({channel}) {comment}".strip())


#: A decision that was taken back: the group is as if nobody had decided about it.
WITHDRAWN = "withdrawn"


def read_decisions(
    catalog: Catalog, plan: Plan | None = None, *, withdrawn: bool = False
) -> pl.DataFrame:
    """at, plan_id, group_id, fingerprint, decision, by, channel, comment; of one plan, or of all.

    Those that were taken back are left out, unless they are asked for.
    """
    columns = ["at", "plan_id", "group_id", "fingerprint", "decision", "by", "channel", "comment"]
    found = catalog.read("decisions", columns, f"hash = {quote(plan.hash)}" if plan else "")
    return found if withdrawn else found.filter(pl.col("decision") != WITHDRAWN)


def past_outcomes(catalog: Catalog, scope: str) -> dict[str, str]:
    """Fingerprint of a group to why it is not planned again: rejected, or undone."""
    inside = f"scope = {quote(scope)}"
    columns = ["at", "plan_id", "group_id", "fingerprint", "by", "decision"]
    decided = catalog.read("decisions", columns, inside)
    events = catalog.read(
        "journal",
        ["sequence", "at", "plan_id", "group_id", "fingerprint", "by", "event"],
        inside,
    )
    order = events.filter(event=DECIDED).group_by("plan_id", "group_id").agg(pl.max("sequence"))
    # Decisions of older releases have no event; sequences were nanoseconds then.
    decided = decided.join(order, on=["plan_id", "group_id"], how="left").with_columns(
        pl.col("sequence").fill_null(pl.col("at").dt.timestamp("us") * 1000)
    )
    words = {DONE: "done", UNDOING: "undone", UNDONE: "undone", RELEASED: "undone", LEFT: "undone"}
    acted = events.filter(pl.col("event").is_in(list(words))).with_columns(
        pl.col("event").replace(words).alias("decision")
    )
    kept = ["sequence", "at", "fingerprint", "by", "decision"]
    every = pl.concat([decided.select(kept), acted.select(kept)]).sort("sequence")
    last = every.group_by("fingerprint", maintain_order=True).last()
    return {
        row["fingerprint"]: f"{_WORDS[row['decision']]} by {row['by']} on {row['at']:%Y-%m-%d}: "
        "asked again when its members change, or with --again"
        for row in last.iter_rows(named=True)
        if row["decision"] in _WORDS
    }


_WORDS = {"reject": "rejected", "undone": "undone"}


# ---- journal ---------------------------------------------------------------------------------


def write_events(
    catalog: Catalog,
    run: Run,
    group: PlannedGroup,
    event: str,
    operations: Iterable[tuple[int, Operation, dict[str, Any]]],
) -> None:
    """Add one event for each of some operations of a group: number, operation, detail."""
    at = now()
    rows: list[dict[str, Any]] = []
    first = next_sequence(catalog)
    for number, operation, detail in operations:
        row = {
            "sequence": first + len(rows),
            "run_id": run.id,
            "plan_id": run.plan.id,
            "scope": run.plan.scope,
            "group_id": group.group_id,
            "fingerprint": group.fingerprint,
            "number": number,
            "kind": operation.kind.value,
            "key": operation.key,
            "event": event,
            "by": run.by,
            "at": at,
            "bytes": operation.before.size,
            "detail": json.dumps(detail, sort_keys=True),
        }
        event_id = digest(run.id, group.group_id, str(number), event)
        rows.append({"event_id": event_id} | row)
    if run.book is not None:
        run.book.write(rows, required=event in {INTENDED, UNDOING})
    catalog.upsert("journal", pa_table(rows, schema.JOURNAL))


def write_group_event(
    catalog: Catalog, run: Run, group: PlannedGroup, event: str, why: str
) -> None:
    """Add one event about a whole group; its number is -1."""
    row = {
        "event_id": digest(run.id, group.group_id, "-1", event),
        "sequence": next_sequence(catalog),
        "run_id": run.id,
        "plan_id": run.plan.id,
        "scope": run.plan.scope,
        "group_id": group.group_id,
        "fingerprint": group.fingerprint,
        "number": -1,
        "kind": "group",
        "key": group.keeper,
        "event": event,
        "by": run.by,
        "at": now(),
        "bytes": 0,
        "detail": json.dumps({"why": why}),
    }
    if run.book is not None:
        run.book.write([row], required=False)
    catalog.upsert("journal", pa_table([row], schema.JOURNAL))


def read_events(catalog: Catalog, plan: Plan | None = None) -> pl.DataFrame:
    """The journal, in order; of one plan, or of all."""
    return catalog.read("journal", _EVENTS, f"plan_id = {quote(plan.id)}" if plan else "")


def last_events(events: pl.DataFrame, group_id: str) -> dict[int, tuple[str, dict[str, Any]]]:
    """Operation number to its last event, and what all its events tell; the later wins."""
    mine = events.filter((pl.col("group_id") == group_id) & (pl.col("number") >= 0))
    last: dict[int, tuple[str, dict[str, Any]]] = {}
    for row in mine.sort("sequence").iter_rows(named=True):
        told = last.get(row["number"], ("", {}))[1]
        last[row["number"]] = (row["event"], told | json.loads(row["detail"]))
    return last


def group_state(group: PlannedGroup, last: dict[int, tuple[str, dict[str, Any]]]) -> str:
    """``waiting``, ``interrupted``, ``merged``, ``undoing``, ``undone`` or ``partly undone``.

    What a person began to undo is never carried on as a merge.
    """
    states = {event for event, _ in last.values()}
    if not states:
        return "waiting"
    if states <= {DONE, PURGED} and len(last) == len(group.operations):
        return "merged"
    if UNDOING in states:
        return "undoing"
    ended = {UNDONE, RELEASED, SETTLED}
    if states & ended and states <= {*ended, PURGED}:
        return "undone"
    return "partly undone" if states & {*ended, LEFT} else "interrupted"
