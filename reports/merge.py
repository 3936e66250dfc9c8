"""What a merge or an undo did, as Markdown for the run's page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from reports.run import code
from reports.words import counted, human_bytes


def merge_headline(outcome: Any) -> str:
    """What a merge did, in one line: what went wrong first, and never nothing.

    Args:
        outcome: a merge's outcome (``tasks.merging.merge.MergeOutcome``).
    """
    states = Counter(group.state for group in outcome.groups)
    bad = states["failed"] + states["refused"]
    size = human_bytes(sum(one.bytes for one in outcome.groups if one.state == "merged"))
    total = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    dry = " (dry run: nothing was written)" if outcome.dry_run else ""
    if not outcome.groups:
        return f"NOTHING WAS MERGED: no group of the plan was approved and not yet done{dry}"
    if bad:
        whole = counted(len(outcome.groups), "group")
        return f"NOT DONE: {bad} of {whole} could not be merged ({total}){dry}"
    return f"{total}, {size} moved{dry}" if states["merged"] else f"{total}{dry}"


def merge_markdown(outcome: Any) -> str:
    """One table row a group of a merge's outcome, the groups that went wrong first."""
    wrong = ("failed", "refused")
    rows = [
        (group.group_id[:8], group.state, group.action, group.keeper, group.why)
        for group in sorted(outcome.groups, key=lambda group: group.state not in wrong)
    ]
    head = f"**{merge_headline(outcome)}.**\n\nPlan `{outcome.plan_id}`.\n\n"
    return head + (_table(("group", "state", "action", "stays", "why"), rows) if rows else "")


def undo_headline(outcomes: Sequence[Any]) -> str:
    """What an undo did, in one line; outcomes are of ``tasks.merging.undo.UndoOutcome``."""
    states = Counter(one.state for one in outcomes)
    total = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    if not outcomes:
        return "NOTHING WAS UNDONE: nothing of it is merged"
    bad = states["failed"] + states["left"]
    return f"NOT ALL UNDONE: {total}" if bad else total


def undo_markdown(outcomes: Sequence[Any]) -> str:
    """One table row an operation of an undo."""
    rows = [(one.operation, one.state, one.kind, one.key, one.why) for one in outcomes]
    head = f"**{undo_headline(outcomes)}.**\n\n"
    return head + (_table(("operation", "state", "kind", "key", "why"), rows) if rows else "")


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(code(value) if value else "" for value in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines[:500]) + "\n"
