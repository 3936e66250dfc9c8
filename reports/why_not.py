"""Why nothing may be done to a group, in one line, and what would change that.

A plan gives its reasons as sentences that name every file, for the audit. People who decide need
one line and the way out. The sentences are made in ``tasks/merging/rules/keeper_choice.py`` and
``caps.py``, ``tasks/merging/plan.py`` and ``tasks/merging/journal.py``; each is known here by its
beginning. One that is not known is told as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from reports.words import human_bytes, soon, text

#: So much of a sentence that is not known here.
_LONG = 200


@dataclass(frozen=True, slots=True)
class WhyNot:
    """Why nothing may be done to a group.

    Attributes:
        why: in one line.
        lifts: what would change that; empty where nobody can say.
        opens: the time from which time itself no longer speaks against it; None: it does not.
    """

    why: str
    lifts: str
    opens: datetime | None = None


@dataclass(frozen=True, slots=True)
class _When:
    """What is needed to tell times: when the report is made, and the group's newest file."""

    now: datetime | None
    newest: datetime | None


def why_not(refused: str, now: datetime | None, newest: datetime | None) -> WhyNot:
    """A plan's reasons against a group, for people.

    Args:
        refused: as the plan says it, reasons joined by semicolons.
        now: when the report is made; None: times are told as dates.
        newest: when the group's newest file was written.
    """
    when = _When(now, newest)
    found = []
    for pattern, tell in _KNOWN:
        match = re.search(rf"(?:^|; ){pattern}", refused)
        if match:
            found.append(tell(match, when))
    if not found:
        return WhyNot(refused if len(refused) <= _LONG else refused[:_LONG] + "…", "")
    times = [one.opens for one in found]
    return WhyNot(
        "; ".join(one.why for one in found),
        "; ".join(dict.fromkeys(one.lifts for one in found)),
        # Time alone lifts it only where time is all that speaks against it.
        None if None in times else max(one for one in times if one is not None),
    )


def question_words(question: str) -> str:
    """A plan's question in a few words: ``2 licences: choose``; one that is not known as it is."""
    for name in ("owner", "licence"):
        if question.startswith(f"{name} differs: "):
            # Keys and values are strangers': how many values differ is told, and not which.
            listed = question.removeprefix(f"{name} differs: ").rpartition(": ")[0]
            values = {entry.rpartition(": ")[2].casefold() for entry in listed.split(", ")}
            return text(f"asks.{name}", count=max(2, len(values)))
    conflict = re.match(r"(?:tags|metadata|xmp)\.(?P<field>[^:]+): (?P<why>[^:]+): ", question)
    if conflict is None:
        return question
    field = conflict["field"]
    count = max(
        2, len(re.findall(r"(?:^|, )(?:'[^']*'|\"[^\"]*\") \(", question[conflict.end() :]))
    )
    if field in ("owner", "licence"):
        return text(f"asks.{field}", count=count)
    return text("asks.field", field=field, count=count)


def _protected(match: re.Match[str], _: _When) -> WhyNot:
    count, listed = match["count"], match["listed"]
    prefixes = list(dict.fromkeys(re.findall(r"\(protected prefix (.*?/)\)", listed)))
    if prefixes and listed.count("(protected prefix") == listed.count(" ("):
        prefix = ", ".join(prefixes)
        return WhyNot(
            text("why.protected", prefix=prefix, count=count), text("lift.protected", prefix=prefix)
        )
    held = "; ".join(dict.fromkeys(re.findall(r" \(([^()]*)\)", listed)))
    return WhyNot(text("why.held", count=count, why=held or "held"), text("lift.held"))


def _chosen(match: re.Match[str], _: _When) -> WhyNot:
    return WhyNot(text("why.chosen", key=match["key"], why=match["why"]), text("lift.chosen"))


def _many(match: re.Match[str], _: _When) -> WhyNot:
    return WhyNot(
        text("why.many", count=match["count"], cap=match["cap"]),
        text("lift.many"),
    )


def _above_cap(match: re.Match[str], _: _When) -> WhyNot:
    name = next(name for name in ("objects", "bytes", "share") if match[name])
    number, cap = match[name], match[f"{name}_cap"]
    if name == "bytes":
        number, cap = (human_bytes(int(one.replace(",", ""))) for one in (number, cap))
    why = text(f"why.cap.{name}", number=number, cap=cap)
    return WhyNot(why, text("lift.cap", cap=name))


def _young(match: re.Match[str], when: _When) -> WhyNot:
    hours = match["hours"]
    opens = when.newest and when.newest + timedelta(hours=float(hours))
    # Rounded up to the minute: at the minute that is told, it is open.
    opens = opens and opens.replace(second=0, microsecond=0) + timedelta(minutes=1)
    lifts = _from(opens, when) if opens else ""
    return WhyNot(text("why.young", hours=hours), lifts, opens)


def _embargo(match: re.Match[str], when: _When) -> WhyNot:
    days = [date.fromisoformat(day) for day in re.findall(r"\(until (\d{4}-\d\d-\d\d)\)", match[0])]
    if not days:
        return WhyNot(text("why.embargo"), "")
    opens = datetime.combine(max(days) + timedelta(days=1), time(), UTC)
    return WhyNot(text("why.embargo"), _from(opens, when), opens)


def _from(opens: datetime, when: _When) -> str:
    """A plan of before ``opens`` that is looked at later: the next scan plans the group anew."""
    if when.now is not None and opens <= when.now:
        return text("lift.scan")
    return text("lift.when", when=soon(opens, when.now))


def _before(match: re.Match[str], _: _When) -> WhyNot:
    said = text("why.before", what=match["what"], who=match["who"], date=match["date"])
    return WhyNot(said, text("lift.before"))


def _plain(why: str, lifts: str) -> Callable[[re.Match[str], _When], WhyNot]:
    return lambda _, __: WhyNot(text(why), text(lifts))


#: Where the next reason begins, or the end.
_NEXT = r"; the keeper |; \d+ members are |; younger than |; under embargo: |$"
_KNOWN: tuple[tuple[str, Callable[[re.Match[str], _When], WhyNot]], ...] = (
    (rf"(?P<count>\d+) assets may not be touched: (?P<listed>.*?)(?={_NEXT})", _protected),
    (r"(?P<chosen>.*) was chosen, but (?P<key>.*) may not be touched \((?P<why>.*?)\)", _chosen),
    (r"the keeper .* has no valid licence, but .* would go", _plain("why.licence", "lift.licence")),
    (r"the keeper .* has no release, but .* would go", _plain("why.release", "lift.release")),
    (r".* would go for .*, and (?:is a|are) camera raw", _plain("why.raw", "lift.raw")),
    (r"the keeper .* is under .*, and is not rewritten", _plain("why.sealed", "lift.sealed")),
    (r"'.*' is under .*, and is not written over", _plain("why.sealed", "lift.sealed")),
    (r"(?P<count>\d+) members are more than the (?P<cap>\d+) that caps\.group allows", _many),
    (
        r"above a cap by itself: (?:"
        r"(?P<objects>\d+) objects would be touched, the cap is (?P<objects_cap>\d+)"
        r"|(?P<bytes>[\d,]+) bytes would leave, the cap is (?P<bytes_cap>[\d,]+)"
        r"|(?P<share>[\d.]+%) of the collection would leave, the cap is (?P<share_cap>[\d.]+%))",
        _above_cap,
    ),
    (r"younger than (?P<hours>[\d.]+) h: ", _young),
    (r"under embargo: .*", _embargo),
    (
        r"(?P<what>rejected|undone) by (?P<who>.*) on (?P<date>\d{4}-\d\d-\d\d): asked again",
        _before,
    ),
    (r"the action \w+ needs a bucket; ", _plain("why.folder", "lift.folder")),
    (r".* were not compared at full size yet, scan again", _plain("why.unproven", "lift.scan")),
    (r".* could not be compared at full size: ", _plain("why.unreadable", "lift.unreadable")),
    (r".*: scan again$", _plain("why.moved", "lift.scan")),
)
