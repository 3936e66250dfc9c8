"""One server for all workers of a test run: the first starts it, the last to leave stops it.

Each pytest-xdist worker is a process of its own with session fixtures of its own, so a session
fixture alone would start one server a worker.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock


def session_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of this run share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@contextmanager
def shared(
    folder: Path, start: Callable[[], dict[str, Any]], stop: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """Give what ``start`` told, be it called here or in another worker.

    Args:
        folder: the server's own; its users are noted beside it. It is empty when ``start`` is
            called: a worker that comes after the last one left starts anew.
        start: starts the server; what it gives must survive JSON.
        stop: stops the server, from whichever process leaves last.

    A worker that died no longer counts as a user.
    """
    notes, lock = folder.with_suffix(".users"), FileLock(folder.with_suffix(".lock"))
    with lock:
        known = json.loads(notes.read_text()) if notes.exists() else {"users": []}
        known["users"] = [pid for pid in known["users"] if psutil.pid_exists(pid)]
        if not known["users"]:
            shutil.rmtree(folder, ignore_errors=True)
            known["told"] = start()
        known["users"].append(os.getpid())
        notes.write_text(json.dumps(known))
    try:
        yield known["told"]
    finally:
        with lock:
            users = json.loads(notes.read_text())["users"]
            left = [pid for pid in users if pid != os.getpid() and psutil.pid_exists(pid)]
            notes.write_text(json.dumps(known | {"users": left}))
            if not left:
                stop()
