"""The page of what was merged, and the question before an undo: pure, without a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from reports import words
from reports.review import render_page

if TYPE_CHECKING:
    from tasks.reporting.receipts import Done, DoneGroup

#: Groups on one page.
GROUPS_PER_PAGE = 50
#: So many groups one click undoes: a browser waits for an answer only for a while.
MOST_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class DonePage:
    """All that the page shows.

    Attributes:
        person: who undoes with this link.
        until: when the link ends.
        page: from 1; one beyond the last shows the last.
        language: of the page's words.
        notice: the name of what was done just now, of the texts ``done.note.*``; or nothing.
        problems: why something could not be undone.
    """

    done: Done
    source: str
    person: str
    until: datetime
    now: datetime
    page: int = 1
    notice: str = ""
    problems: Sequence[str] = ()
    language: str = words.ENGLISH


def done_page(shown: DonePage) -> bytes:
    """The page, as HTML."""
    with words.speaking(shown.language):
        return _done_page(shown)


def _done_page(shown: DonePage) -> bytes:
    groups = shown.done.groups
    pages = max(1, -(-len(groups) // GROUPS_PER_PAGE))
    page = min(max(shown.page, 1), pages)
    listed = groups[(page - 1) * GROUPS_PER_PAGE : page * GROUPS_PER_PAGE]
    highest = max((month.moved for month in shown.done.months), default=0)
    return render_page(
        "done.html",
        shown=shown,
        page=page,
        pages=pages,
        groups=[_group(group, shown.now) for group in listed],
        merged=sum(1 for group in groups if group.state in {"merged", "purged"}),
        first=_days(shown.done.until, shown.now),
        months=[(month, round(100 * month.moved / (highest or 1))) for month in shown.done.months],
    )


def confirm_undo_page(shown: DonePage, chosen: Sequence[DoneGroup], command: str) -> bytes:
    """The question before an undo.

    Args:
        shown: the page that it goes back to.
        chosen: the groups that would be undone.
        command: what undoes them on a terminal, where they are too many for a page.
    """
    open_still = [group for group in chosen if group.undoable]
    with words.speaking(shown.language):
        return render_page(
            "done_confirm.html",
            shown=shown,
            chosen=open_still,
            many=len(open_still) > MOST_AT_ONCE,
            command=command,
            files=sum(group.files for group in open_still),
            size=sum(group.bytes for group in open_still),
        )


def _group(group: DoneGroup, now: datetime) -> dict[str, Any]:
    text = words.text
    facts = [
        text(
            "done.moved",
            files=words.counted(group.files, "file"),
            bytes=words.human_bytes(group.bytes),
        )
        if group.files
        else text("done.moved.none"),
        text("done.by", by=group.by, at=words.moment(group.at)),
    ]
    if group.approved_by:
        facts.append(text("done.approved", by=group.approved_by))
    if group.undone_by and group.undone_at:
        facts.append(text("done.undone", by=group.undone_by, at=words.moment(group.undone_at)))
    left = ""
    if group.quarantined and group.until:
        days = _days(group.until, now)
        left = (
            text("done.left", days=days, until=words.moment(group.until))
            if group.until > now
            else text("done.over")
        )
    return {
        "id": f"{group.plan_id}/{group.group_id}",
        "keeper": group.keeper,
        "tier": group.tier,
        "state": group.state,
        "word": text(f"done.state.{group.state}"),
        "facts": facts,
        "left": left,
        "undoable": group.undoable,
    }


def _days(until: datetime | None, now: datetime) -> str:
    """``12 days``; of the last day ``1 day``, and nothing where there is no end."""
    if until is None:
        return ""
    return words.counted(max(0, -(-int((until - now).total_seconds()) // 86400)), "day")
