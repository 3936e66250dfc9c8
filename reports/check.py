"""What a check found: as data, as lines for a terminal, as markdown and rows for a run page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from reports.run import code
from reports.words import counted, human_bytes, shown_key
from tasks.records import Checked, Finding, Question

#: Shown first, in this order, where a table has columns.
COLUMNS = (
    "score",
    "tier",
    "key",
    "changes",
    "relation",
    "verdict",
    "width",
    "height",
    "size",
    "format",
    "label",
    "last_modified",
    "asset_id",
    "source",
)


def finding_data(finding: Finding, fields: Sequence[str] = ()) -> dict[str, Any]:
    """A finding as JSON data, its facts beside it; with ``fields``, only these."""
    whole = {
        "asset_id": finding.asset_id,
        "key": finding.key,
        "source": finding.source,
        "score": finding.score,
        "tier": finding.tier,
        "content": finding.content,
        "relation": finding.relation,
        "changes": finding.changes,
        "verdict": finding.verdict,
        "evidence": json.loads(finding.evidence) if finding.evidence else None,
        **{name: _plain(value) for name, value in finding.facts.items()},
    }
    return {name: whole.get(name) for name in fields} if fields else whole


def checked_data(
    checked: Checked, question: Question, fields: Sequence[str] = ()
) -> dict[str, Any]:
    """One page of a check as JSON data, and where the next begins."""
    return {
        "total": checked.total,
        "offset": question.offset,
        "next": _next(checked, question),
        "threshold": question.threshold,
        "candidates": checked.candidates,
        "verified": checked.verified,
        "silenced": checked.silenced,
        "mode": checked.mode,
        "model": checked.space.model,
        "found": [finding_data(finding, fields) for finding in checked.found],
    }


def headline(name: str, checked: Checked) -> str:
    """``a.jpg: 2 matches, the best exact (0.999)``."""
    shown = shown_key(name)
    if not checked.total:
        return f"{shown}: nothing found"
    best = f", the best {checked.found[0].tier} ({checked.found[0].score:.3f})"
    said = counted(checked.total, "match", "matches")
    return f"{shown}: {said}" + (best if checked.found else "")


def check_lines(name: str, checked: Checked, question: Question) -> list[str]:
    """For people, on a terminal: score, tier, key; below, what it is and the evidence in words."""
    lines = [headline(name, checked)]
    for one in checked.found:
        said = f"  [{one.verdict}]" if one.verdict else ""
        lines.append(f"  {one.score:.3f}  {one.tier:<7}  {shown_key(one.key)}{said}")
        lines.append(f"                  {_what(one)}: {one.changes}")
    lines.append(f"  {_how(checked, question)}")
    if left := _left_over(checked, question):
        lines.append(f"  {left}")
    return lines


def check_markdown(name: str, checked: Checked, question: Question) -> str:
    """The answer on a Prefect run page."""
    lines = [f"## {code(name)}", "", f"**{_verdict(checked)}** {_how(checked, question)}", ""]
    if checked.found:
        lines += ["| score | tier | asset | | evidence |", "|---|---|---|---|---|"]
    lines += [
        f"| {one.score:.3f} | {one.tier} | {code(one.key)} | {_what(one)} | {code(one.changes)} |"
        for one in checked.found
    ]
    if left := _left_over(checked, question):
        lines += ["", left]
    return "\n".join(lines)


def check_rows(checked: Checked) -> list[dict[str, Any]]:
    """The findings as rows of a table artifact; no cell is ever empty, which the UI hides."""
    return [
        {
            name: value if value is not None else ""
            for name, value in finding_data(one, COLUMNS).items()
        }
        for one in checked.found
    ]


def _verdict(checked: Checked) -> str:
    if not checked.total:
        return "Nothing found."
    return f"{counted(checked.total, 'match', 'matches')}."


def _what(one: Finding) -> str:
    facts = one.facts
    return (
        f"{facts.get('width')} x {facts.get('height')}, {human_bytes(facts.get('size') or 0)}, "
        f"{facts.get('format')}"
    )


def _how(checked: Checked, question: Question) -> str:
    silenced = f"; {checked.silenced} kept apart by a person" if checked.silenced else ""
    return (
        f"{counted(checked.candidates, 'candidate')}, {checked.verified} compared now, threshold "
        f"{question.threshold:g}, {checked.mode} search{silenced}"
    )


def _next(checked: Checked, question: Question) -> int | None:
    end = question.offset + len(checked.found)
    return end if end < checked.total and question.limit else None


def _left_over(checked: Checked, question: Question) -> str:
    if len(checked.found) == checked.total:
        return ""
    last = question.offset + len(checked.found)
    shown = f"{question.offset + 1} to {last}" if checked.found else "none"
    more = _next(checked, question)
    return f"shown: {shown} of {checked.total}" + (f"; the next: --offset {more}" if more else "")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value
