"""Times as filter queries write them: ``2026``, ``2026-01-31``, ``NOW-7DAYS/DAY`` ..."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from tasks.errors import FilterError

_PART = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?")
_NOW = re.compile(r"NOW((?:[+-][0-9]{1,6}[A-Z]+|/[A-Z]+){0,10})")
_STEP = re.compile(r"([+-][0-9]+|/)([A-Z]+)")
_UNITS = ("year", "month", "day", "hour", "minute", "second")
_FIRST = {"month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0, "microsecond": 0}


def span_of(text: str, moment: datetime) -> tuple[str, str]:
    """Begin and end of a time, as ISO texts in UTC; a day lasts 24 hours, an instant no time.

    Args:
        text: a year, a month, a day, an ISO time, or ``NOW`` with steps (``-7DAYS``, ``/MONTH``).
        moment: what ``NOW`` means.

    Raises:
        FilterError: when it is none of these.
    """
    try:
        if part := _PART.fullmatch(text):
            given = [int(number) for number in part.groups() if number]
            first = datetime(*[*given, 1, 1][:3], tzinfo=UTC)  # type: ignore[misc, arg-type]
            return _written(first), _written(_moved(first, 1, _UNITS[len(given) - 1]))
        if steps := _NOW.fullmatch(text):
            instant = _stepped(moment, steps[1])
        else:
            read = datetime.fromisoformat(text)
            instant = read if read.tzinfo else read.replace(tzinfo=UTC)
        shown = _written(instant)
    except (ValueError, OverflowError):
        raise FilterError(
            f"{text[:80]!r} is no time; write 2026-01-31, 2026-01-31T12:00:00Z or NOW-7DAYS"
        ) from None
    return shown, shown


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _stepped(moment: datetime, steps: str) -> datetime:
    for sign, word in _STEP.findall(steps):
        unit = word.lower().removesuffix("s")
        if unit not in _UNITS:
            raise ValueError(word)
        if sign == "/":
            later = _UNITS[_UNITS.index(unit) + 1 :]
            names = [*later, "microsecond"]
            moment = moment.replace(**{name: _FIRST[name] for name in names})  # type: ignore[arg-type]
        else:
            moment = _moved(moment, int(sign), unit)
    return moment


def _moved(moment: datetime, count: int, unit: str) -> datetime:
    if unit not in ("year", "month"):
        return moment + timedelta(**{f"{unit}s": count})
    months = moment.year * 12 + moment.month - 1 + count * (12 if unit == "year" else 1)
    year, month = divmod(months, 12)
    day = moment.day
    while True:  # where a month has no 31st, the last day it has is meant
        try:
            return moment.replace(year=year, month=month + 1, day=day)
        except ValueError:
            if day <= 28:
                raise
            day -= 1
