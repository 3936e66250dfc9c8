"""What spares merges at length the work that is the same in each of thousands."""

from __future__ import annotations

import threading
from typing import Any

import boto3
import pytest
from botocore.useragent import UserAgentString

from tasks.merging import merge, quarantine, undo
from tasks.settings import S3Settings
from tasks.sources import s3
from tasks.sources.capabilities import Capabilities


def frugally(patch: pytest.MonkeyPatch) -> None:
    """Spare a merge of a few groups half of its time, by a profile of eight pairs of pictures.

    The store is known, and is not probed before each merge (30 %); sessions of boto3 are kept
    (12 %), clients are not, for each store has its own; and no request words its user agent anew
    (9 %).
    """
    real = s3.session_for
    known: dict[str, boto3.Session] = {}
    lock = threading.Lock()

    def session_for(settings: S3Settings) -> Any:
        name = settings.model_dump_json()
        with lock:
            if name not in known:
                known[name] = real(settings)
        return Locked(known[name], lock)

    patch.setattr(s3, "session_for", session_for)
    patch.setattr(UserAgentString, "to_string", lambda _: "dam-dedup-test")
    for module in (merge, undo, quarantine):
        patch.setattr(module, "probe", trusted)
    patch.setattr(merge, "_SETTLED", 0.0)  # nobody uploads here


def trusted(store: Any) -> Capabilities:
    """What a probe says of a store that keeps to everything."""
    return Capabilities(*[True] * 7)


class Locked:
    """A session that makes one client at a time, for boto3's may not be shared by threads."""

    def __init__(self, session: boto3.Session, lock: threading.Lock) -> None:
        self._session, self._lock = session, lock

    def client(self, *args: Any, **options: Any) -> Any:
        with self._lock:
            return self._session.client(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
