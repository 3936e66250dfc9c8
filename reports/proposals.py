"""What may become of each group, in the words that every document uses."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from reports.why_not import question_words, why_not
from reports.words import counted, human_bytes, text
from tasks.merging.rules.plan_note import GroupNote
from tasks.reporting.plan_view import UNPLANNED, standing
from tasks.summary import Summary


@dataclass(frozen=True, slots=True)
class Proposal:
    """What may become of a group.

    Attributes:
        standing: as ``tasks.reporting.plan_view.standing`` tells it; ``none`` without a plan.
        press: what the button says.
        line: what happens when it is pressed, or why nothing may, in one line.
        why: of a refused group, why; without what would change that.
        lifts: of a refused group, what would change that.
        opens: when nothing but time speaks against it: from when.
        asks: what a person has to decide, in a few words each.
    """

    standing: str
    press: str
    line: str
    why: str = ""
    lifts: str = ""
    opens: datetime | None = None
    asks: tuple[str, ...] = ()

    @property
    def offers(self) -> bool:
        """Whether there is something to accept."""
        return self.standing != "refused"


def proposals(summary: Summary, ids: Collection[str] | None = None) -> dict[str, Proposal]:
    """Group id to what may become of it; with ``ids``, of these groups."""
    notes = summary.plan.groups if summary.plan else {}
    members = summary.members
    if ids is not None:
        members = members.filter(pl.col("group_id").is_in(list(ids)))
    rows = members.group_by("group_id").agg(pl.len(), pl.col("last_modified").max())
    days = summary.plan.quarantine_days if summary.plan else 0
    return {
        name: propose(
            notes.get(name),
            planned=summary.plan is not None,
            copies=size - 1,
            days=days,
            now=summary.finished,
            newest=newest,
        )
        for name, size, newest in rows.iter_rows()
    }


def propose(
    note: GroupNote | None,
    *,
    planned: bool,
    copies: int,
    days: int,
    now: datetime,
    newest: datetime | None,
) -> Proposal:
    """What may become of one group.

    Args:
        note: what the plan says of it; None: the plan does not hold it, or there is none.
        planned: whether there is a plan.
        copies: how many duplicates it has.
        days: how long quarantine lasts.
        now: when the report is made.
        newest: when the group's newest file was written.
    """
    if note is None:
        kind = UNPLANNED if planned else "none"
        return Proposal(kind, text("press.report"), _sentence(f"line.{kind}"))
    if note.refused:
        found = why_not(note.refused, now, newest)
        line = text("line.refused", why=found.why)
        if found.lifts:
            line += "; " + text("line.lifts", lifts=found.lifts)
        return Proposal("refused", "", line, found.why, found.lifts, found.opens)
    action = note.action if note.acting else "report"
    line = _sentence(
        f"line.{action}",
        files=counted(note.files, "file"),
        bytes=human_bytes(note.bytes),
        days=counted(days, "day"),
    )
    if note.approved:
        line += "; " + text("line.approved")
    return Proposal(
        standing(note),
        press_words(action, note.files, copies),
        line,
        asks=tuple(question_words(one) for one in note.questions),
    )


def press_words(action: str, leaving: int, copies: int) -> str:
    """What the button of a group says: what pressing it does, with the number of files.

    Args:
        action: the plan's.
        leaving: how many files would leave their place, sidecars included.
        copies: how many duplicates the group has.
    """
    return text(
        f"press.{action}", files=counted(leaving, "file"), copies=counted(copies, "duplicate")
    )


def _sentence(name: str, **values: str) -> str:
    said = text(name, **values)
    return said[0].upper() + said[1:]
