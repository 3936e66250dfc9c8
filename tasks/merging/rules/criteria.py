"""What each keeper criterion compares, and how it is said."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.dedup.names import marked_copies
from tasks.merging.rules.plans import Member
from tasks.merging.rules.policy import Criterion, Policy
from tasks.merging.rules.rights import read_licence

_LOSSLESS = {"tiff", "png", "bmp", "psd"}
_MOST = 3

#: Smaller is better.
Rank = tuple[float, ...]
#: Of the better one and those it beats.
Words = Callable[[Member, Sequence[Member]], str]


@dataclass(frozen=True, slots=True)
class Measure:
    """One criterion, ready to compare the members of a group.

    Attributes:
        rank: of a member; the smallest wins.
        words: why a member wins against others, with figures.
    """

    rank: Callable[[Member], Rank]
    words: Words


#: What is in an archive was only restored for a while: of members that are equal but for their age,
#: one that can always be read stays.
READABLE = Measure(lambda member: (member.archived,), lambda _best, _others: "not in an archive")


def named_as_copies(keys: Iterable[str]) -> Measure:
    """Whether a member's name is another one's with a mark behind it: ``beach (copy).jpg``."""
    marked = marked_copies(keys)
    return Measure(
        lambda member: (member.key in marked,), lambda _best, _others: "not named as a copy"
    )


def measure(criterion: Criterion, policy: Policy, now: datetime) -> Measure:
    """The measure of a criterion."""
    if criterion.name == "licence":
        return _licence(policy, now)
    if criterion.name in _LISTED:
        return _LISTED[criterion.name](criterion.values)
    return _PLAIN[criterion.name]


def _compared(label: str, figure: Callable[[Member], str]) -> Words:
    """``label (figure against the others' figures)``."""

    def words(best: Member, others: Sequence[Member]) -> str:
        return f"{label} ({figure(best)} against {several(figure(other) for other in others)})"

    return words


def _alone(words: Callable[[Member], str]) -> Words:
    """Words that need no figures of the others."""
    return lambda best, _others: words(best)


def several(figures: Iterable[str]) -> str:
    """Distinct figures in their order, the first few of them."""
    distinct = list(dict.fromkeys(figures))
    more = f" and {len(distinct) - _MOST} more" if len(distinct) > _MOST else ""
    return ", ".join(distinct[:_MOST]) + more


def _licence(policy: Policy, now: datetime) -> Measure:
    def rank(member: Member) -> Rank:
        licence = read_licence(member, policy, now)
        until = licence.until.timestamp() if licence.until else math.inf
        # An expiry that has passed, or that nobody can read, is worth nothing.
        return (-licence.valid, -licence.release, -until if licence.valid else 0)

    def words(best: Member, others: Sequence[Member]) -> str:
        theirs = several(read_licence(other, policy, now).words for other in others)
        who = "the other" if len(others) == 1 else "the others"
        return f"{read_licence(best, policy, now).words} ({who}: {theirs})"

    return Measure(rank, words)


def _prefix(values: Sequence[str]) -> Measure:
    def place(member: Member) -> int:
        return _first(member.key.startswith(value) for value in values)

    return Measure(
        lambda member: (place(member),),
        _alone(lambda best: f"in the preferred prefix {values[place(best)]}"),
    )


def _format(values: Sequence[str]) -> Measure:
    return Measure(
        lambda member: (_first(member.format == value for value in values),),
        _compared("preferred format", lambda member: member.format),
    )


def _tags(values: Sequence[str]) -> Measure:
    def carries(member: Member, value: str) -> bool:
        name, equals, wanted = value.partition("=")
        if name not in member.tags:
            return False
        given = member.tags[name].strip()
        # A mere marker has no value; "approved: no" says that it is not.
        return given == wanted.strip() if equals else given.lower() not in ("no", "false")

    def place(member: Member) -> int:
        return _first(carries(member, value) for value in values)

    return Measure(
        lambda member: (place(member),), _alone(lambda best: f"tagged {values[place(best)]}")
    )


def _first(hits: Iterable[bool]) -> int:
    """Index of the first hit; beyond the last where there is none."""
    count = 0
    for hit in hits:
        if hit:
            break
        count += 1
    return count


def _quality(member: Member) -> float:
    if member.quality is not None:
        return member.quality
    return 101 if member.format in _LOSSLESS else -1


def _quality_shown(member: Member) -> str:
    if member.quality is not None:
        return str(member.quality)
    return "lossless" if member.format in _LOSSLESS else "unknown"


def completeness(member: Member) -> int:
    """How many fields hold anything."""
    rooms = (member.tags, member.metadata, member.xmp)
    return sum(1 for room in rooms for value in room.values() if value.strip())


def _dated(label: str, best: Member, others: Sequence[Member]) -> str:
    days = {other.last_modified.date() for other in others}
    same_day = best.last_modified.date() in days

    def shown(member: Member) -> str:
        moment = member.last_modified.astimezone(UTC).replace(tzinfo=None)
        return f"{moment.isoformat(sep=' ')} UTC" if same_day else moment.date().isoformat()

    return _compared(label, shown)(best, others)


_LISTED: dict[str, Callable[[Sequence[str]], Measure]] = {
    "prefix": _prefix,
    "format": _format,
    "tags": _tags,
}
_PLAIN: dict[str, Measure] = {
    "original": Measure(
        lambda member: (-member.original,), _alone(lambda _: "original by the pixels' evidence")
    ),
    "resolution": Measure(
        lambda member: (-member.width * member.height,),
        _compared("larger", lambda member: f"{member.width}x{member.height}"),
    ),
    "quality": Measure(
        lambda member: (-_quality(member),), _compared("better quality", _quality_shown)
    ),
    "metadata": Measure(
        lambda member: (-completeness(member),),
        _compared("more fields filled in", lambda member: str(completeness(member))),
    ),
    "oldest": Measure(
        lambda member: (member.last_modified.timestamp(),),
        lambda best, others: _dated("older", best, others),
    ),
    "newest": Measure(
        lambda member: (-member.last_modified.timestamp(),),
        lambda best, others: _dated("newer", best, others),
    ),
    "size": Measure(
        lambda member: (-member.size,),
        _compared("more bytes", lambda member: f"{member.size:,}"),
    ),
    "sidecar": Measure(
        lambda member: (0 if member.sidecar else 1,),
        _alone(lambda best: f"has a sidecar ({best.sidecar})"),
    ),
}
