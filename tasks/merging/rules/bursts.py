"""Shots of one moment: pictures that look the same, whose cameras wrote different times. Pure.

On a tripod two frames of a burst may differ in nothing that pixels show. EXIF's DateTimeOriginal is
the time a picture was taken; a copy has its original's, so files whose times differ are two shots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import combinations

from tasks.merging.rules.plans import Member

_EXIF_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")
#: Clocks are corrected by whole quarters of an hour, which is what time zones differ by.
_ZONE, _MOST_ZONES = timedelta(minutes=15), timedelta(hours=26)
#: Of a group so many different shots are compared: a question names only a few of them.
_MOST_SHOTS = 200


def time_taken(exif: Mapping[str, str]) -> str:
    """When a picture was taken, as EXIF says it: ``2026:01:02 03:04:05.67``; empty: it does not."""
    said = _EXIF_TIME.fullmatch(exif.get("DateTimeOriginal", "").strip())
    if said is None or int(said[1]) == 0:
        return ""
    fraction = exif.get("SubsecTimeOriginal", "").strip()
    return f"{said[0]}.{fraction}" if fraction.isdecimal() else said[0]


def taken_apart(one: str, other: str) -> timedelta | None:
    """How far apart two pictures were taken; None where they were not, or nobody can tell.

    Args:
        one: as :func:`time_taken` gives it. Fractions count where both have some.
        other: likewise.
    """
    if "." not in one or "." not in other:
        one, other = one.partition(".")[0], other.partition(".")[0]
    first, second = _moment(one), _moment(other)
    if first is None or second is None or first == second:
        return None
    apart = abs(first - second)
    if apart <= _MOST_ZONES and not apart % _ZONE:
        return None
    return apart


def ask_about_bursts(members: list[Member]) -> list[str]:
    """Questions about members whose times differ; equal pixels are one shot, whatever is said."""
    found: dict[str, timedelta] = {}
    told = {(member.taken, member.content): member for member in members if member.taken}
    for one, other in combinations(list(told.values())[:_MOST_SHOTS], 2):
        apart = None if one.content == other.content else taken_apart(one.taken, other.taken)
        if apart is not None:
            for member in (one, other):
                found[member.key] = min(apart, found.get(member.key, apart))
    if not found:
        return []
    shown = ", ".join(sorted(found)[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    return [f"{shown} were taken {in_words(min(found.values()))} apart: are they one shot?"]


def in_words(apart: timedelta) -> str:
    """``0.3 s``, ``4 min``, ``2 h``, ``3 days``."""
    seconds = apart.total_seconds()
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _moment(text: str) -> datetime | None:
    whole, _, fraction = text.partition(".")
    try:
        moment = datetime.strptime(whole, "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    return moment + timedelta(seconds=float(f"0.{fraction or 0}"))
