"""What the commands of merging print for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl
import typer

from reports.words import counted, human_bytes, shown_key
from tasks.merging.audit import event_detail
from tasks.merging.decide import Decided
from tasks.merging.journal import group_state, last_events
from tasks.merging.merge import MergeOutcome
from tasks.merging.quarantine import Quarantined
from tasks.merging.rules.caps import caps_note
from tasks.merging.rules.plans import Plan, PlannedGroup, as_data
from tasks.merging.rules.policy import NO_RULE
from tasks.merging.undo import UndoOutcome

#: What a person's word, or none, makes of a group.
_DECIDED = {"approve": "approved", "reject": "rejected", "": "not decided"}


def plan_data(plan: Plan, decisions: pl.DataFrame, events: pl.DataFrame) -> dict[str, Any]:
    """A plan with what was decided and done, as plain data."""
    decided = {row["group_id"]: row for row in decisions.iter_rows(named=True)}
    groups = []
    for group in plan.groups:
        row = decided.get(group.group_id)
        groups.append(
            as_data(group)
            | {
                "state": group_state(group, last_events(events, group.group_id)),
                "decision": row["decision"] if row else "",
                "decided_by": row["by"] if row else "",
            }
        )
    return {
        "plan": plan.id,
        "hash": plan.hash,
        "source": plan.source,
        "scan": plan.scan_id,
        "policy": plan.policy,
        "caps": plan.caps,
        "groups": groups,
    }


def show_plan(plan: Plan, data: dict[str, Any], *, operations: bool) -> None:
    """A plan, group by group."""
    acting = [group for group in plan.groups if group.operations]
    size = sum(group.bytes for group in acting)
    typer.echo(f"plan {plan.id}  ({plan.source}, scan {plan.scan_id}, policy {plan.policy})")
    typer.echo(
        f"  {counted(len(plan.groups), 'group')}, {len(acting)} to be acted on, "
        f"{human_bytes(size)} of duplicates in them"
    )
    if note := caps_note(plan):
        typer.echo(f"  {note}")
    for group, row in zip(plan.groups, data["groups"], strict=True):
        typer.echo("")
        show_group(
            group,
            operations=operations,
            state=row["state"],
            decision=row["decision"],
            by=row["decided_by"],
        )
    if acting and any(not row["decision"] for row in data["groups"]):
        typer.echo(f"\nto approve: dam-dedup approve {plan.id} --by NAME [--groups GROUP ...]")


def show_group(
    group: PlannedGroup, *, operations: bool, state: str = "", decision: str = "", by: str = ""
) -> None:
    """One group: keeper and why, duplicates, metadata merge, questions, operations."""
    told = state
    if decision:
        said = f"{_DECIDED[decision]} by {shown_key(by)}"
        told = said if state in ("", "waiting") else f"{state}, {said}"
    elif state == "waiting" and not group.operations:
        told = "nothing to decide"
    rule = "no rule fits" if group.rule == NO_RULE else f"rule {shown_key(group.rule)}"
    typer.echo(
        f"{group.group_id[:8]}  {group.tier.value} {group.score:.2f}  "
        f"{group.action.value} ({rule})  {told}"
    )
    typer.echo(
        f"  keep {shown_key(group.keeper)}: {shown_key('; '.join(group.reasons)) or 'first by key'}"
    )
    verb = "merge" if group.operations else "copy"
    for key in group.duplicates:
        typer.echo(f"  {verb} {shown_key(key)}")
    if group.refused:
        typer.echo(f"  refused: {shown_key(group.refused)}")
    for question in group.questions:
        typer.echo(f"  to decide: {shown_key(question)}")
    for field in group.fields:
        mark = "conflict" if field.conflict else field.rule
        others = ", ".join(f"{shown_key(key)}: {value!r}" for key, value in field.others.items())
        name = shown_key(field.field)
        typer.echo(f"  {name}: {field.had!r} -> {field.kept!r} ({mark}; {others})")
    kinds = Counter(operation.kind.value for operation in group.operations)
    if kinds and not operations:
        typer.echo("  does: " + ", ".join(f"{number} {kind}" for kind, number in kinds.items()))
    if operations:
        for number, operation in enumerate(group.operations):
            to = f" -> {shown_key(operation.to)}" if operation.to else ""
            typer.echo(
                f"  {number}: {operation.kind.value} {shown_key(operation.key)}{to}: "
                f"{shown_key(operation.reason)}"
            )


def show_decided(plan_id: str, outcome: Sequence[Decided]) -> None:
    """What became of each group's decision."""
    for one in outcome:
        why = f": {shown_key(one.why)}" if one.why else ""
        typer.echo(f"{one.group_id[:8]}  {_DECIDED[one.decision]}  {shown_key(one.keeper)}{why}")
    if not outcome:
        typer.echo("nothing to decide: the plan acts on no group")
    if any(one.decision == "approve" and one.new for one in outcome):
        typer.echo(f"to carry it out: dam-dedup merge {plan_id} [--dry-run]")


def show_merge(outcome: MergeOutcome) -> None:
    """What a merge did, group by group."""
    for group in outcome.groups:
        why = f": {shown_key(group.why)}" if group.why else ""
        typer.echo(
            f"{group.group_id[:8]}  {group.state}  {shown_key(group.keeper)}  "
            f"{counted(group.operations, 'operation')}{why}"
        )
    states = Counter(group.state for group in outcome.groups)
    total = ", ".join(f"{number} {state}" for state, number in states.items()) or "nothing to do"
    typer.echo(f"run {outcome.run_id}{' (dry run)' if outcome.dry_run else ''}: {total}")
    if states["merged"]:
        typer.echo(f"to undo: dam-dedup undo {outcome.plan_id} --by NAME")


def show_undo(outcomes: Sequence[UndoOutcome]) -> None:
    """What an undo did, operation by operation."""
    for one in outcomes:
        why = f": {shown_key(one.why)}" if one.why else ""
        typer.echo(f"{one.operation}  {one.state}  {one.kind} {shown_key(one.key)}{why}")
    if not outcomes:
        typer.echo("nothing to undo")


def show_quarantine(entries: Sequence[Quarantined]) -> None:
    """What is in quarantine, a line each."""
    for entry in entries:
        why = f": {shown_key(entry.why)}" if entry.why else ""
        typer.echo(
            f"{entry.plan_id}/{entry.group_id[:8]}/{entry.number}  {entry.state} until "
            f"{entry.until:%Y-%m-%d}  {human_bytes(entry.bytes)}  "
            f"{shown_key(entry.key)}{why}"
        )
    if not entries:
        typer.echo("nothing there")


def show_audit(events: pl.DataFrame) -> None:
    """The audit, a line each."""
    for row in events.iter_rows(named=True):
        place = "/".join(
            part
            for part in (
                row["plan_id"],
                row["group_id"][:8],
                "" if row["number"] is None else str(row["number"]),
            )
            if part
        )
        detail = shown_key(event_detail(row["detail"]))
        by = shown_key(row["by"])
        typer.echo(
            f"{row['at']:%Y-%m-%d %H:%M:%S}  {row['what']:<16} {by:<12} {place}  "
            f"{shown_key(row['key'])}  {detail}".rstrip()
        )


def show_savings(ledger: dict[str, Any]) -> None:
    """The ledger, a line a plan."""
    for plan in (*ledger["plans"], {"plan": "in all"} | ledger["total"]):
        typer.echo(
            f"{plan['plan']:<12}  planned {human_bytes(plan['planned'])}, out of sight "
            f"{human_bytes(plan['removed'])} (in quarantine {human_bytes(plan['quarantined'])}, "
            f"old versions {human_bytes(plan['noncurrent'])}), freed {human_bytes(plan['freed'])}"
        )
    for plan in ledger["unreadable"]:
        typer.echo(f"{plan:<12}  not counted: it is damaged, or of another release", err=True)
    cost = ledger["monthly_cost"]
    typer.echo(
        f"at {ledger['per_gb_month']} per GB and month: planned {cost['planned']}, "
        f"freed {cost['freed']}"
    )
