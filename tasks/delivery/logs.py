"""Which scan a line of the log is about, and logs as JSON for who collects them by machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

#: The ids of the work that this process is at. They are not a context variable: a stage's threads
#: and those of libraries log too, and one process does one scan at a time.
_ids: dict[str, str] = {}


@contextmanager
def logged_as(**ids: str) -> Iterator[None]:
    """Let every line that is logged meanwhile bear these ids, as ``scan`` and ``collection``.

    Args:
        **ids: name and value of each; those of an outer call stay, or come back afterwards.
    """
    before = dict(_ids)
    _ids.update(ids)
    try:
        yield
    finally:
        _ids.clear()
        _ids.update(before)


class Ids(logging.Filter):
    """Writes the ids of :func:`logged_as` into each record of the handler it is added to."""

    def filter(self, record: logging.LogRecord) -> Literal[True]:
        """Add what the record does not have itself; nothing is held back."""
        for name, value in _ids.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class JsonLines(JsonFormatter):
    """One JSON object a line: time (UTC), level, logger, message, ids, and what callers added."""

    def __init__(self) -> None:
        super().__init__(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
            json_ensure_ascii=False,
        )


def log_as_json() -> None:
    """Give the handlers that are there already, those of the root logger, JSON for their form."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(Ids())
        handler.setFormatter(JsonLines())
