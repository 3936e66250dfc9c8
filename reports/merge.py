"""What a merge or an undo did, as Markdown for the run's page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from reports.run import code


def merge_markdown(outcome: Any) -> str:
    """One table row a group of a merge's outcome (``tasks.merging.merge.MergeOutcome``)."""
    states = Counter(group.state for group in outcome.groups)
    total = ", ".join(f"{number} {state}" for state, number in states.items()) or "nothing to do"
    head = f"Plan `{outcome.plan_id}`{' (dry run: nothing was written)' if outcome.dry_run else ''}"
    rows = [
        (group.group_id[:8], group.state, group.action, group.keeper, group.why)
        for group in outcome.groups
    ]
    return f"{head}: {total}.\n\n" + _table(("group", "state", "action", "keeper", "why"), rows)


def undo_markdown(outcomes: Sequence[Any]) -> str:
    """One table row an operation of an undo (``tasks.merging.undo.UndoOutcome``)."""
    states = Counter(one.state for one in outcomes)
    total = ", ".join(f"{number} {state}" for state, number in states.items()) or "nothing to undo"
    rows = [(one.operation, one.state, one.kind, one.key, one.why) for one in outcomes]
    return f"{total}.\n\n" + _table(("operation", "state", "kind", "key", "why"), rows)


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(code(value) if value else "" for value in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines[:500]) + "\n"
