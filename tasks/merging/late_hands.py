"""What somebody was at whose lease ran out, so that nothing relies on it while it may still come.

No store can check a lease's fence before it deletes. A request that its sender checked in time may
be held up on its way, and reach the bucket when somebody else holds the lease. What it can still
hit is known: a holder writes into its lease which group it is at before it begins. Whoever takes
such a lease over notes the group's objects below ``.dam-dedup/late/``, under its own fence. For an
hour nobody removes a copy of any of them, by whatever plan: the late request may remove the one
that was to stay. The very group may be carried on or undone at once, for that does the same.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from tasks.errors import MergeError, SourceError
from tasks.merging.bucket_journal import read_kept_plan
from tasks.merging.rules.plans import PlannedGroup
from tasks.records import ObjectState
from tasks.sources.places import OUR_PREFIX
from tasks.sources.store import Store

if TYPE_CHECKING:
    from tasks.catalog.lease import S3Lease

log = logging.getLogger(__name__)

LATE_PREFIX = f"{OUR_PREFIX}late/"
#: How long a request may be on its way: AWS refuses a signature that is older than 15 minutes.
GRACE = timedelta(hours=1)
_MOST = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class LateHand:
    """One group that somebody was at who may still send something.

    Attributes:
        work: ``PLAN/GROUP``.
        keys: all objects that the group is about.
        until: from when on nothing can come any more, by the store's clock.
    """

    work: str
    keys: frozenset[str]
    until: datetime


def note_late_hand(store: Store, lease: S3Lease) -> None:
    """Keep what the holder before was at, where it did not come to its end.

    Raises:
        SourceError: when it cannot be written; nothing may be done then.
    """
    if not lease.cut_off:
        return
    plan_id, _, group_id = lease.cut_off.partition("/")
    keys: set[str] = set()
    try:
        group = read_kept_plan(store, plan_id).group(group_id)
    except (MergeError, ValueError, KeyError, TypeError) as error:
        log.error("what %s was about is not known: %s", lease.cut_off, error)
        group = None
    if group is not None:
        keys = group_keys(group)
    log.warning("%s was cut off; its %d objects rest for an hour", lease.cut_off, len(keys))
    body = json.dumps({"work": lease.cut_off, "keys": sorted(keys)}, ensure_ascii=False)
    store.put(f"{LATE_PREFIX}{lease.fence:010}.json", body.encode(), expected="")
    store.announce("")


def late_hands(store: Store) -> tuple[LateHand, ...]:
    """All groups about which something may still come.

    Raises:
        SourceError: when that cannot be read, or something else lies there.
    """
    found = []
    clock = _store_clock(store)
    for key, made in store.listed(LATE_PREFIX):
        until = made + GRACE
        state = store.state(key)
        hand = _read_note(store, state, until)
        if until > clock:
            found.append(hand)
        else:
            store.delete(state)
    return tuple(found)


def _read_note(store: Store, state: ObjectState, until: datetime) -> LateHand:
    """One note. Nothing but a note of ours is ever removed here.

    Raises:
        SourceError: when it is none.
    """
    data = store.read(state.key, state.etag, _MOST)
    try:
        said: dict[str, Any] = json.loads(data)
        return LateHand(str(said["work"]), frozenset(map(str, said["keys"])), until)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(
            f"{state.key!r} in s3://{store.bucket} is no note of a merge ({error}): look at it, "
            "and move it elsewhere"
        ) from error


def why_too_early(hands: Sequence[LateHand], plan_id: str, group: PlannedGroup) -> str:
    """Why a group has to rest for now; nothing where it need not."""
    mine = f"{plan_id}/{group.group_id}"
    for hand in hands:
        both = hand.keys & group_keys(group)
        if both and hand.work != mine:
            return (
                f"a merge of {sorted(both)[0]!r} by somebody else stood still, and may go on: "
                f"nothing is done to it before {hand.until:%H:%M} UTC"
            )
    return ""


def group_keys(group: PlannedGroup) -> set[str]:
    """Keys of all objects that a group is about."""
    return {state.key for state in group.states} | {one.key for one in group.operations}


def _store_clock(store: Store) -> datetime:
    """What time it is for the store: its own times are never compared with our clock."""
    answer = store.client.list_objects_v2(Bucket=store.bucket, Prefix=LATE_PREFIX, MaxKeys=1)
    told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not told:
        raise SourceError(f"the store of s3://{store.bucket} does not tell its time")
    return parsedate_to_datetime(told).astimezone(UTC)
