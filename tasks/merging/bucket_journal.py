"""The journal of merges in the bucket itself, so that it outlives the catalog.

Below ``.dam-dedup/journal/<plan>/`` there is the plan, whole and with all that its objects were
before, and one object for each step that was about to be taken or was taken. Nothing is ever
rewritten. What a step intends is there before the first request of the step.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from tasks.catalog import schema
from tasks.errors import (
    AssetChangedError,
    AssetGoneError,
    MergeError,
    SourceError,
    StoreRefusedError,
)
from tasks.merging.rules.plans import Plan
from tasks.records import ObjectState
from tasks.session import pa_table
from tasks.sources.places import OUR_PREFIX
from tasks.sources.store import Store

log = logging.getLogger(__name__)

JOURNAL_PREFIX = f"{OUR_PREFIX}journal/"
_PLAN = "plan.json"
_JSON = "application/json"
#: What reading something raises that is not what a merge wrote, or that is not there any more.
NO_NOTE = (
    MergeError,
    StoreRefusedError,
    AssetChangedError,
    AssetGoneError,
    ValueError,
    KeyError,
    TypeError,
    RecursionError,
)
#: A plan of 5,000 groups has some 50 MB.
_MOST = 1024**3
#: No journal counts so far (older releases counted nanoseconds). What is written after a row of a
#: larger number would not fit into 64 bits.
_MOST_ROWS = 2**62


class BucketJournal:
    """Where one plan's steps are written.

    Args:
        store: the bucket.
        plan: the plan.
    """

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store = store
        self._plan = plan
        # Once: it is the digest of the whole plan, which may have some 50 MB.
        self._folder = f"{JOURNAL_PREFIX}{plan.id}/"

    def open(self, *, undoing: bool = False) -> None:
        """Keep the plan, unless it is there.

        Args:
            undoing: go on where something else lies in its place: what a merge took away must not
                stay away for that.

        Raises:
            SourceError: when it cannot be written, or something else lies in its place, from which
                nothing could be recovered; nothing may be done then.
        """
        key = self._key(_PLAN)
        body = self._plan.as_json().encode()
        found = self._store.state(key)
        if not found.exists:
            self._store.put(key, body, expected="", content_type=_JSON)
        elif not self._is_there(found, body):
            why = (
                f"{key!r} in s3://{self._store.bucket} is not the plan {self._plan.id}: look at "
                "it, and move it elsewhere"
            )
            if not undoing:
                raise SourceError(f"nothing was done: {why}")
            log.error("%s", why)

    def _is_there(self, found: ObjectState, body: bytes) -> bool:
        if found.size != len(body):
            return False
        # Of what was put in one part and without KMS the ETag tells; a plan may have some 50 MB.
        if found.etag.strip('"') == hashlib.md5(body, usedforsecurity=False).hexdigest():
            return True
        return self._store.read(found.key, found.etag, _MOST) == body

    def write(self, rows: Sequence[dict[str, Any]], *, required: bool) -> None:
        """Add the rows of one step.

        Args:
            rows: of the journal, as the catalog keeps them.
            required: whether the step must not be taken without. What is done already is told
                as well as it can be: from the intention alone it can be undone too.

        Raises:
            SourceError: when they cannot be written and are required.
        """
        if not rows:
            return
        first = rows[0]
        # The fence first: with it, the rows of several catalogs have one order.
        fence = self._store.lease.fence if self._store.lease is not None else 0
        number = f"{fence:010}-{first['sequence']:020}"
        name = f"{number}-{first['event']}-{secrets.token_hex(4)}.json"
        data = [{**row, "at": row["at"].isoformat()} for row in rows]
        try:
            self._store.put(
                self._key(name),
                json.dumps(data, ensure_ascii=False).encode(),
                expected="",
                content_type=_JSON,
            )
        except SourceError as error:
            if required:
                raise
            log.error("the bucket's journal lacks %s: %s", name, error)

    def steps(self) -> set[tuple[int, str]]:
        """Number and event of every step that is there; of another name, -1 and the name.

        Raises:
            SourceError: when the journal cannot be listed.
        """
        return {_step_of(name) for name in self._names()}

    def rows(self) -> list[dict[str, Any]]:
        """The rows of all steps, in order.

        Raises:
            MergeError: when one is not what a merge writes.
            SourceError: when one cannot be read.
        """
        known = _steps_of(self._plan)
        return [
            row
            for name in self._names()
            for row in _read_rows(self._store, self._plan, self._key(name), known)
        ]

    def _names(self) -> list[str]:
        """What is there beside the plan, in the order in which it was written."""
        start = len(self._folder)
        found = [key[start:] for key, _ in self._store.listed(self._folder)]
        return sorted(name for name in found if name != _PLAN)

    def last_of(self, *events: str) -> str:
        """Key of the last step that was one of some events; empty where there was none.

        Raises:
            SourceError: when the journal cannot be listed.
        """
        found = [name for name in self._names() if _step_of(name)[1] in events]
        return self._key(found[-1]) if found else ""

    def _key(self, name: str) -> str:
        return f"{self._folder}{name}"


@dataclass(frozen=True, slots=True)
class KeptPlan:
    """One plan with its steps, as the bucket's journal has them.

    Attributes:
        made: when it came into the bucket.
        rows: of the journal.
    """

    plan: Plan
    made: datetime
    rows: tuple[dict[str, Any], ...]


def _step_of(name: str) -> tuple[int, str]:
    """Number of the first row and event of a step, by the name that `BucketJournal.write` gave."""
    found = re.fullmatch(r"\d+-(\d+)-([a-z]+)-[0-9a-f]+\.json", name)
    return (int(found[1]), found[2]) if found else (-1, name)


def read_kept_plans(store: Store) -> Iterator[KeptPlan | str]:
    """Every plan of a bucket's journal, or what is wrong with it, in words.

    Raises:
        SourceError: when the bucket cannot be listed or read.
    """
    names: dict[str, dict[str, datetime]] = {}
    for key, made in store.listed(JOURNAL_PREFIX):
        plan_id, _, name = key.removeprefix(JOURNAL_PREFIX).partition("/")
        names.setdefault(plan_id, {})[name] = made
    for plan_id, found in sorted(names.items()):
        try:
            if _PLAN not in found:
                raise MergeError("its plan is not there")
            plan = read_kept_plan(store, plan_id)
            known = _steps_of(plan)
            rows = [
                row
                for name in sorted(found)
                if name != _PLAN
                for row in _read_rows(store, plan, f"{JOURNAL_PREFIX}{plan_id}/{name}", known)
            ]
        except (MergeError, ValueError, KeyError, TypeError, RecursionError) as error:
            yield f"plan {plan_id}: {error}"
            continue
        yield KeptPlan(plan, found[_PLAN], tuple(rows))


def find_kept_steps(store: Store, event: str) -> dict[str, list[str]]:
    """Of each plan in a bucket's journal that has steps of one event, the names of those.

    Raises:
        SourceError: when the bucket cannot be listed.
    """
    found: dict[str, list[str]] = {}
    for key, _ in store.listed(JOURNAL_PREFIX):
        plan_id, _, name = key.removeprefix(JOURNAL_PREFIX).partition("/")
        if _step_of(name)[1] == event:
            found.setdefault(plan_id, []).append(name)
    return found


def read_kept_steps(store: Store, plan: Plan, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The rows of some steps of a plan; what is not what a merge wrote is logged and left out.

    Raises:
        TransientSourceError: when the store does not answer.
    """
    known = _steps_of(plan)
    for name in names:
        try:
            yield from _read_rows(store, plan, f"{JOURNAL_PREFIX}{plan.id}/{name}", known)
        except NO_NOTE as error:
            log.error("plan %s in the bucket's journal: %s", plan.id, error)


def read_kept_plan(store: Store, plan_id: str) -> Plan:
    """One plan of a bucket's journal.

    Raises:
        MergeError: when it was changed, or is about another bucket.
        ValueError: when it is no plan.
        SourceError: when it cannot be read.
    """
    plan = Plan.from_json(_read(store, f"{JOURNAL_PREFIX}{plan_id}/{_PLAN}").decode())
    if plan.id != plan_id:
        raise MergeError("its plan was changed")
    if urlsplit(plan.source).netloc != store.bucket:
        # Whoever writes into one bucket must not have objects of another one removed or put back.
        raise MergeError(f"its plan is about {plan.source}, and not about this bucket")
    return plan


_Steps = dict[tuple[str, int], tuple[str, str]]


def _steps_of(plan: Plan) -> _Steps:
    """Kind and key of each operation, by group and number; -1 is the whole group."""
    known = {
        (group.group_id, number): (operation.kind.value, operation.key)
        for group in plan.groups
        for number, operation in enumerate(group.operations)
    }
    return known | {(group.group_id, -1): ("group", group.keeper) for group in plan.groups}


def _read_rows(store: Store, plan: Plan, key: str, known: _Steps) -> list[dict[str, Any]]:
    """The rows of one step, each about an operation of this plan, or about one of its groups.

    Raises:
        MergeError: when they are not what a merge writes; it names the object.
        SourceError: when they cannot be read.
    """
    data = _read(store, key)
    try:
        rows = [{**row, "at": datetime.fromisoformat(row["at"])} for row in json.loads(data)]
        for row in rows:
            step = known[row["group_id"], row["number"]]
            mine = row["plan_id"] == plan.id and step == (row["kind"], row["key"])
            mine = mine and 0 <= row["sequence"] < _MOST_ROWS
            if not mine or not isinstance(json.loads(row["detail"]), dict):
                raise ValueError("a row of no step of this plan")
        pa_table(rows, schema.JOURNAL)
    except (ArithmeticError, AttributeError, LookupError, RecursionError) as error:
        raise MergeError(f"{key!r} is not what a merge wrote ({error!r}): look at it") from error
    except (TypeError, ValueError) as error:
        raise MergeError(f"{key!r} is not what a merge wrote ({error}): look at it") from error
    return rows


def _read(store: Store, key: str) -> bytes:
    return store.read(key, store.state(key).etag, _MOST)
