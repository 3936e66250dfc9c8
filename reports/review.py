"""The page on which a person decides about a merge plan: pure, without a script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup

from reports import words
from reports.environment import environment
from reports.proposals import press_words
from reports.translated import translated, translated_message, translated_question
from reports.why_not import WhyNot, question_words, why_not
from tasks.merging.rules.plan_note import above_caps
from tasks.merging.rules.plans import (
    Action,
    FieldMerge,
    Operation,
    OperationKind,
    Plan,
    PlannedGroup,
)

#: Groups on one page: what is approved should have been looked at.
GROUPS_PER_PAGE = 50
#: Of one group: members with a picture, further keys, operations.
_MEMBERS, _KEYS, _OPERATIONS = 12, 200, 200
#: Groups that are named before everything is approved.
_LARGEST = 10
#: Longer values and bodies are cut off where they are shown.
_LONG = 600


@dataclass(frozen=True, slots=True)
class Look:
    """How one asset looks: what the catalog knows beyond the plan."""

    jpeg: bytes | None = field(default=None, repr=False)
    width: int | None = None
    height: int | None = None
    format: str = ""
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """All that the page shows.

    Attributes:
        plan: what is decided on.
        reviewer: who decides.
        until: when the link ends.
        decisions: as ``tasks.merging.journal.read_decisions`` gives them.
        states: group id to what was done so far (``waiting``, ``merged`` ...).
        looks: by key; where one is missing, the page does without.
        page: from 1.
        notice: the name of what was done just now, of the texts ``form.note.*``; or nothing.
        problems: why something could not be done.
        comment: what was written, where it could not be recorded.
        keepers: whether another keeper can be chosen.
        only: ids of the groups that this reviewer's link is for; None: all.
        report: the address of the report page that decides on the same plan.
        now: when the page is made.
        language: of the page's words.
    """

    plan: Plan
    reviewer: str
    until: datetime
    decisions: pl.DataFrame
    states: Mapping[str, str] = field(default_factory=dict)
    looks: Mapping[str, Look] = field(default_factory=dict)
    page: int = 1
    notice: str = ""
    problems: Sequence[str] = ()
    comment: str = ""
    keepers: bool = False
    only: Collection[str] | None = None
    report: str = ""
    now: datetime | None = None
    language: str = words.ENGLISH


def review_page(review: Review) -> bytes:
    """The page, as HTML."""
    with words.speaking(review.language):
        return _review_page(review)


def _review_page(review: Review) -> bytes:
    plan = review.plan
    decided = {row["group_id"]: row for row in review.decisions.iter_rows(named=True)}
    mine = _listed(plan, review.only)
    shown = groups_of_page(plan, review.page, review.only)
    groups = [_group(review, group, decided.get(group.group_id)) for group in shown]
    still = [group for group in mine if can_decide(group, review.reviewer, decided)]
    return render_page(
        "review.html",
        review=review,
        groups=groups,
        first=(review.page - 1) * GROUPS_PER_PAGE + 1,
        choices=sum(1 for group in groups if group["open"]),
        waiting=len(still),
        easy=sum(1 for group in still if not group.questions),
        totals=_totals(mine),
        pages=pages(plan, review.only),
        reported=0 if review.only is not None else len(plan.groups) - len(mine),
        lasting=[_lasting(group) for group in mine if _lasting(group)],
    )


def confirm_page(review: Review) -> bytes:
    """The one question before everything is approved: counts, bytes, and the ten largest groups."""
    with words.speaking(review.language):
        return _confirm_page(review)


def _confirm_page(review: Review) -> bytes:
    decided = {row["group_id"]: row for row in review.decisions.iter_rows(named=True)}
    mine = _listed(review.plan, review.only)
    still = [group for group in mine if can_decide(group, review.reviewer, decided)]
    easy = [group for group in still if not group.questions]
    largest = sorted(easy, key=lambda group: (-_leaving(group)[1], group.keeper))
    return render_page(
        "review_confirm.html",
        review=review,
        totals=_totals(easy),
        asking=len(still) - len(easy),
        above=words.cap_words("all", above_caps(review.plan, easy)),
        lasting=[_lasting(group) for group in easy if _lasting(group)],
        largest=[
            {
                "keeper": group.keeper,
                "files": _leaving(group)[0],
                "bytes": _leaving(group)[1],
                "tier": group.tier.value,
            }
            for group in largest[:_LARGEST]
        ],
    )


def message_page(status: int, said: str, language: str = words.ENGLISH) -> bytes:
    """A page that only says something: why a link does not work, say.

    Args:
        status: of the answer; its title goes by it.
        said: the message, in English.
        language: of the page.
    """
    with words.speaking(language):
        name = f"message.{status}"
        title = words.text(name if name in words.texts() else "message.other")
        return render_page("review_message.html", title=title, message=translated_message(said))


def groups_of_page(
    plan: Plan, page: int, only: Collection[str] | None = None
) -> Sequence[PlannedGroup]:
    """The groups that one page shows, from page 1; of all, or of those a link is for."""
    start = (page - 1) * GROUPS_PER_PAGE
    return _listed(plan, only)[start : start + GROUPS_PER_PAGE]


def pages(plan: Plan, only: Collection[str] | None = None) -> int:
    """How many pages a plan has; at least one."""
    return max(1, -(-len(_listed(plan, only)) // GROUPS_PER_PAGE))


def page_of(plan: Plan, group_id: str, only: Collection[str] | None = None) -> int | None:
    """The page that shows a group; None where none does."""
    for number, group in enumerate(_listed(plan, only)):
        if group.group_id == group_id:
            return number // GROUPS_PER_PAGE + 1
    return None


def keys_drawn(group: PlannedGroup) -> tuple[str, ...]:
    """The keys of a group's members that are shown with a picture; the keeper first."""
    return (group.keeper, *group.duplicates)[:_MEMBERS]


def can_decide(group: PlannedGroup, reviewer: str, decided: Mapping[str, object]) -> bool:
    """Whether there is something about this group that this person can decide."""
    return bool(
        group.operations
        and not group.refused
        and group.group_id not in decided
        and (not group.approvers or reviewer in group.approvers)
    )


def content_policy() -> str:
    """The Content-Security-Policy of these pages: their own style, pictures inside, no script."""
    style = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; img-src data:; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    )


def action_words(group: PlannedGroup, quarantine_days: int) -> str:
    """What carrying out a group does, for people who have not read the policy."""
    leaving, total = _leaving(group)
    number = len(group.operations)
    kind = group.action.value
    if group.action is Action.DELETE and _lasting(group):
        kind += ".good"
    elif group.action is Action.TAG and number == 1:
        kind += ".one"
    said = words.text(
        f"form.does.{kind}",
        files=words.counted(number if group.action is Action.TAG else leaving, "file"),
        sidecars=words.counted(number, "sidecar"),
        bytes=words.human_bytes(total),
        days=words.counted(quarantine_days, "day"),
    )
    gained = sum(1 for one in group.fields if one.kept != one.had)
    if gained and group.action in (Action.QUARANTINE, Action.REPLACE, Action.DELETE):
        said += words.text("form.does.gains", fields=words.counted(gained, "field"))
    return said


# ---- one group -------------------------------------------------------------------------------


def _group(review: Review, group: PlannedGroup, row: dict[str, Any] | None) -> dict[str, Any]:
    keys = (group.keeper, *group.duplicates)
    return {
        "plan": group,
        "title": group.keeper.rstrip("/").rsplit("/", 1)[-1] or group.keeper,
        "members": [_member(review, group, key) for key in keys_drawn(group)],
        "further": keys[_MEMBERS : _MEMBERS + _KEYS],
        "more": max(0, len(keys) - _MEMBERS - _KEYS),
        "action": action_words(group, review.plan.quarantine_days),
        "press": press_words(group.action.value, _leaving(group)[0], len(group.duplicates)),
        "why": _why(review, group),
        "reasons": "; ".join(translated(one) for one in group.reasons),
        "asks": [
            (short, "" if short == question else translated_question(question))
            for question in group.questions
            for short in [question_words(question)]
        ],
        "changes": [_field(one) for one in group.fields if one.conflict or one.kept != one.had],
        "same": [_field(one) for one in group.fields if not one.conflict and one.kept == one.had],
        "operations": [_operation(one) for one in group.operations[:_OPERATIONS]],
        "hidden": max(0, len(group.operations) - _OPERATIONS),
        "open": can_decide(group, review.reviewer, {group.group_id: row} if row else {}),
        "outcome": _outcome(review, group, row) if row else None,
        "closed": "" if row else _closed(group, review.reviewer),
    }


def _leaving(group: PlannedGroup) -> tuple[int, int]:
    """How many objects of a group would leave their place, and their bytes."""
    leaving = [one for one in group.operations if one.kind is OperationKind.DELETE]
    return len(leaving), sum(one.before.size for one in leaving)


def _why(review: Review, group: PlannedGroup) -> WhyNot | None:
    """Why nothing may be done to a group, in one line, and what would change that."""
    if not group.refused:
        return None
    looks = [review.looks.get(key, Look()) for key in (group.keeper, *group.duplicates)]
    newest = max((look.modified for look in looks if look.modified), default=None)
    return why_not(group.refused, review.now, newest)


def _closed(group: PlannedGroup, reviewer: str) -> str:
    """Why this person cannot decide about the group."""
    if group.refused or not group.operations:
        return ""
    if group.approvers and reviewer not in group.approvers:
        return words.text("ui.others", who=", ".join(group.approvers))
    return ""


def _outcome(review: Review, group: PlannedGroup, row: dict[str, Any]) -> dict[str, Any]:
    state = review.states.get(group.group_id, "waiting")
    approved = row["decision"] == "approve"
    return {
        "approved": approved,
        "word": words.text(f"form.word.{'approve' if approved else 'reject'}"),
        "by": row["by"],
        "at": row["at"],
        "comment": row["comment"] or "",
        "done": words.text(f"form.done.{state if approved else 'rejected'}"),
        "again": state == "waiting" and (not group.approvers or review.reviewer in group.approvers),
    }


def _member(review: Review, group: PlannedGroup, key: str) -> dict[str, Any]:
    state = next((state for state in group.states if state.key == key), None)
    look = review.looks.get(key, Look())
    facts = []
    if look.width and look.height:
        facts.append(f"{words.grouped(look.width)} \u00d7 {words.grouped(look.height)}")
    facts += [look.format.upper()] if look.format else []
    facts += [words.human_bytes(state.size)] if state else []
    return {
        "key": key,
        "is_keeper": key == group.keeper,
        "picture": words.data_uri(look.jpeg),
        "facts": ", ".join(facts),
        "held": state.held if state else "",
    }


def _field(merged: FieldMerge) -> dict[str, Any]:
    others: dict[str, list[str]] = {}
    for key, value in merged.others.items():
        others.setdefault(_short(value), []).append(key)
    room, _, name = merged.field.partition(".")
    known = words.texts()
    return {
        "room": words.text(f"form.room.{room}") if f"form.room.{room}" in known else room,
        "name": name,
        "rule": merged.rule,
        "had": None if merged.had is None else _short(merged.had),
        "kept": None if merged.kept is None else _short(merged.kept),
        "others": others,
        "conflict": merged.conflict,
        "lost": [value for value in others if value != merged.kept],
        "changes": merged.kept != merged.had,
    }


def _operation(operation: Operation) -> dict[str, Any]:
    anew = operation.kind is OperationKind.PUT and operation.had is not None
    return {
        "verb": words.text(f"form.verb.{operation.kind.value}{'.anew' if anew else ''}"),
        "key": operation.key,
        "to": operation.to if operation.kind is OperationKind.COPY else None,
        "reason": operation.reason,
        "tags": operation.tags,
        "metadata": operation.metadata,
        "body": _short(_text(operation.body)) if operation.body is not None else "",
    }


def _text(body: str) -> str:
    try:
        return base64.b64decode(body).decode("utf-8", "replace")
    except ValueError:
        return ""


def _short(value: str) -> str:
    return value if len(value) <= _LONG else value[:_LONG] + "…"


# ---- the whole plan --------------------------------------------------------------------------


def _listed(plan: Plan, only: Collection[str] | None) -> list[PlannedGroup]:
    """What the page is about: first what can be done, then what was refused."""
    mine = [group for group in plan.groups if only is None or group.group_id in only]
    acting = [group for group in mine if group.operations and not group.refused]
    return acting + [group for group in mine if group.refused]


def _totals(groups: Sequence[PlannedGroup]) -> dict[str, int]:
    acting = [group for group in groups if group.operations and not group.refused]
    leaving = [
        operation
        for group in acting
        for operation in group.operations
        if operation.kind is OperationKind.DELETE
    ]
    return {
        "groups": len(acting),
        "files": len(leaving),
        "quarantined": sum(1 for operation in leaving if operation.to),
        "bytes": sum(operation.before.size for operation in leaving),
        "questions": sum(1 for group in acting if group.questions),
        "refused": sum(1 for group in groups if group.refused),
    }


def _lasting(group: PlannedGroup) -> str:
    """The group's id where something would be removed with neither a copy nor a version left."""
    lost = any(
        operation.kind is OperationKind.DELETE
        and not operation.to
        and operation.before.version_id in (None, "", "null")
        for operation in group.operations
    )
    return group.group_id if lost else ""


# ---- rendering -------------------------------------------------------------------------------


def render_page(template: str, **values: Any) -> bytes:
    """A template in the style that :func:`content_policy` lets through."""
    return _templates().get_template(template).render(**values, style=Markup(_style())).encode()  # noqa: S704 - our own file


@cache
def _templates() -> jinja2.Environment:
    made = environment().overlay()
    made.filters = made.filters | {"lines": _lines}  # an overlay shares its dict
    return made


def _lines(text: str) -> list[str]:
    """Of a text by people: its lines, for a key has none."""
    return text.replace("\r\n", "\n").split("\n")


@cache
def _style() -> str:
    loader = environment().loader
    assert loader is not None  # noqa: S101 - set where the environment is made
    return loader.get_source(environment(), "review.css")[0]
