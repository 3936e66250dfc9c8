"""What a member's fields say of the rights in it. Dates that cannot be read are never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from tasks.merging.rules.plans import Member
from tasks.merging.rules.policy import Policy, field_value

_NO = {"no", "false", "off", "0"}


@dataclass(frozen=True, slots=True)
class Licence:
    """A member's licence.

    Attributes:
        valid: it is in force now.
        until: when it expires; None: never, or nobody knows.
        unreadable: the expiry as written, if it is no date.
        release: a release is on file.
        words: for people: ``valid licence until 2031-01-01``, ``expired 2020-05-01``, ``none`` ...
    """

    valid: bool
    until: datetime | None
    unreadable: str
    release: bool
    words: str


def read_licence(member: Member, policy: Policy, now: datetime) -> Licence:
    """A member's licence: valid with an expiry to come, or with none where a licence is named."""
    named = text_of(member, policy.rights.licence)
    expires = text_of(member, policy.rights.expires)
    release = is_yes(text_of(member, policy.rights.release))
    until, unreadable = None, ""
    if expires:
        until = last_moment(expires)
        if until is None:
            unreadable = expires
    if unreadable:
        valid, words = False, "unreadable expiry"
    elif until is None:
        valid, words = bool(named), "valid licence" if named else "none"
    else:
        valid = until > now
        day = until.date().isoformat()
        words = f"valid licence until {day}" if valid else f"expired {day}"
    return Licence(valid, until, unreadable, release, words + (", released" if release else ""))


def last_moment(text: str) -> datetime | None:
    """The moment an ISO 8601 date or time names; of a date alone its last one. UTC without a zone.

    Returns:
        None for what is no such date.
    """
    try:
        return datetime.combine(date.fromisoformat(text), time.max, UTC)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def untouchable(member: Member, policy: Policy) -> str:
    """Why a member can only be the keeper, or nothing.

    A hold without a value holds too: a tag may be a mere marker, and a hold overlooked costs more
    than one too many.
    """
    why = []
    if member.held:
        why.append(member.held)
    elif policy.rights.hold is not None:
        hold = field_value(member, policy.rights.hold)
        if hold is not None and hold.strip().lower() not in _NO:
            why.append(f"{policy.rights.hold} {hold.strip()}".strip())
    prefix = policy.protects(member.key)
    if prefix is not None:
        why.append(f"protected prefix {prefix}")
    return ", ".join(why)


def text_of(member: Member, path: str | None) -> str:
    """A field's value without blanks around it; empty where there is none."""
    return (field_value(member, path) or "").strip() if path else ""


def is_yes(text: str) -> bool:
    """Whether a field's value affirms it."""
    return bool(text) and text.lower() not in _NO
