"""The memory of merges: plans, what was decided about them, and what was done.

All three are only ever added to. What state a group is in follows from its rows, so that a run
that was killed leaves nothing wrong behind, and the audit is the tables themselves.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.errors import MergeError
from tasks.merging.rules.plans import PLAN_FORM, Operation, Plan, PlannedGroup
from tasks.records import digest, now
from tasks.session import pa_table

log = logging.getLogger(__name__)

#: Events of one operation, in the order in which they may come.
INTENDED, DONE, UNDOING, UNDONE, LEFT = "intended", "done", "undoing", "undone", "left"
#: Event of a copy that was removed from quarantine for good.
PURGED = "purged"
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
    """One run of a merge or an undo: who is at work on which plan."""

    id: str
    plan: Plan
    by: str


# ---- plans -----------------------------------------------------------------------------------


def save_plan(catalog: Catalog, plan: Plan) -> None:
    """Keep a plan; the same plan twice is one, made now."""
    body = plan.as_json()
    row = {
        "plan_id": plan.id,
        "hash": plan.hash,
        "scan_id": plan.scan_id,
        "scope": plan.scope,
        "source": plan.source,
        "policy": plan.policy,
        "made": now(),
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
    if plan.form != PLAN_FORM:
        raise MergeError(f"plan {row['plan_id']} is of another release; plan again")
    if plan.hash != row["hash"]:
        raise MergeError(
            f"plan {row['plan_id']} was changed since it was made: its hash is {plan.hash[:12]}. "
            "Nothing is done; plan again"
        )
    return plan


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
    door: str,
    comment: str = "",
) -> None:
    """Add one decision about one group; the first about a group of a plan is the one that holds."""
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
        "door": door,
        "comment": comment,
        "at": now(),
    }
    catalog.upsert("decisions", pa_table([row], schema.DECISIONS), only_new=True)


def read_decisions(catalog: Catalog, plan: Plan | None = None) -> pl.DataFrame:
    """at, plan_id, group_id, fingerprint, decision, by, door, comment; of one plan, or of all."""
    columns = ["at", "plan_id", "group_id", "fingerprint", "decision", "by", "door", "comment"]
    return catalog.read("decisions", columns, f"hash = {quote(plan.hash)}" if plan else "")


def past_outcomes(catalog: Catalog, scope: str) -> dict[str, str]:
    """Fingerprint of a group to why it is not planned again: rejected, or undone."""
    inside = f"scope = {quote(scope)}"
    columns = ["at", "fingerprint", "by", "decision", "door"]
    decided = catalog.read("decisions", columns, inside)
    events = catalog.read("journal", ["sequence", "at", "fingerprint", "by", "event"], inside)
    undone = events.filter(pl.col("event").is_in([UNDOING, UNDONE, LEFT])).select(
        "at", "fingerprint", "by", pl.lit("undone").alias("decision")
    )
    done = events.filter(event=DONE).select(
        "at", "fingerprint", "by", pl.lit("done").alias("decision")
    )
    every = pl.concat([decided.drop("door"), undone, done]).sort("at")
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
    rows = []
    for number, operation, detail in operations:
        row = {
            "sequence": time.time_ns() + number,
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
    catalog.upsert("journal", pa_table(rows, schema.JOURNAL))


def write_group_event(
    catalog: Catalog, run: Run, group: PlannedGroup, event: str, why: str
) -> None:
    """Add one event about a whole group; its number is -1."""
    row = {
        "event_id": digest(run.id, group.group_id, "-1", event),
        "sequence": time.time_ns(),
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
    if UNDONE in states and states <= {UNDONE, PURGED}:
        return "undone"
    return "partly undone" if states & {UNDONE, LEFT} else "interrupted"
