"""S3 event notifications, in every envelope they come in, as plain events.

Notifications come at least once, in any order, and from anybody who can reach the queue or the
webhook. An event is a hint to look at a key, never a fact: what is there is asked of the bucket.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote_plus

from tasks.errors import EventError

#: The most bytes of one body. A queue's message has at most 1 MiB, and a batch of ten, wrapped and
#: escaped, stays below this.
MAX_BYTES = 32 * 1024**2
_MAX_EVENTS = 10_000
_MAX_DEPTH = 6
_MAX_KEY = 1024


class Change(StrEnum):
    """What became of an object."""

    CREATED = "created"
    REMOVED = "removed"
    OTHER = "other"  # tags, access, storage class: nothing about its bytes


#: EventBridge's names of what happened.
_BRIDGE = {
    "Object Created": Change.CREATED,
    "Object Deleted": Change.REMOVED,
    "Object Restore Completed": Change.CREATED,
}


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """One thing that happened to one object.

    Attributes:
        name: what happened, in the notification's own word.
        etag: without quotes; empty where the notification has none.
        sequencer: hex, comparable among events of one key; empty where there is none.
    """

    bucket: str
    key: str
    change: Change
    name: str
    etag: str = ""
    sequencer: str = ""


def parse_events(text: str | bytes) -> list[ObjectEvent]:
    """The events of a body: raw, wrapped by SNS, SQS or Lambda, of EventBridge, or a list of these.

    Several JSON values one after another, as a pipe writes them, are read as well. Test events and
    confirmations of subscriptions hold no event.

    Raises:
        EventError: when something in it is no notification; then no event of it is returned.
    """
    if len(text) > MAX_BYTES:
        raise EventError(f"the notification has over {MAX_BYTES // 1024**2} MiB")
    try:
        plain = text.decode() if isinstance(text, bytes) else text
        values = list(_values(plain.removeprefix("﻿")))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise EventError(f"the notification is no JSON: {error}"[:300]) from None
    if not values:
        raise EventError("the notification is empty")
    return events_of(values)


def parse_lines(text: str | bytes) -> tuple[list[ObjectEvent], list[str]]:
    """The events of a pipe or file, whose lines may each be wrong without the others being so.

    Nothing at all is no error: it is what ``aws sqs receive-message`` prints for an empty queue.

    Returns:
        The events, and of each line that holds no notification which it is and what is wrong.

    Raises:
        EventError: when it is one document of many lines, and wrong, or when it is too large.
    """
    if not text.strip():
        return [], []
    try:
        return parse_events(text), []
    except EventError:
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        lines = [(at, line) for at, line in enumerate(plain.splitlines(), 1) if line.strip()]
        if len(text) > MAX_BYTES or len(lines) < 2:
            raise
        found: list[ObjectEvent] = []
        wrong = []
        for number, line in lines:
            try:
                found += parse_events(line)
            except EventError as error:
                wrong.append(f"line {number}: {error}")
        if len(wrong) == len(lines):  # not lines at all, but a document that is broken
            raise
        return found, wrong


def events_of(value: Any) -> list[ObjectEvent]:
    """The events of a body as :func:`parse_events` reads them, from JSON that is parsed already."""
    found = []
    for event in _unwrapped(value, 0):
        found.append(event)
        if len(found) > _MAX_EVENTS:
            raise EventError(f"the notification holds over {_MAX_EVENTS} events")
    return found


def latest(events: Iterable[ObjectEvent]) -> list[ObjectEvent]:
    """The last event of each key: by sequencer or, where one has none, in the order they came."""
    last: dict[tuple[str, str], ObjectEvent] = {}
    for event in events:
        before = last.get((event.bucket, event.key))
        if before is None or not is_older(event.sequencer, before.sequencer):
            last[event.bucket, event.key] = event
    return list(last.values())


def is_older(one: str, other: str) -> bool:
    """Whether an event happened before another of the same key, by their sequencers.

    False where either has none: then the order is not known.
    """
    if not one or not other:
        return False
    size = max(len(one), len(other))  # the shorter is padded at its right, as S3 prescribes
    return one.upper().ljust(size, "0") < other.upper().ljust(size, "0")


def _values(text: str) -> Iterator[Any]:
    """One JSON value after another."""
    decoder, at = json.JSONDecoder(), 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return
        value, at = decoder.raw_decode(text, at)
        yield value


def _unwrapped(value: Any, depth: int) -> Iterator[ObjectEvent]:
    if depth > _MAX_DEPTH:
        raise EventError("the notification is wrapped too often")
    if isinstance(value, list):
        for entry in value:
            yield from _unwrapped(entry, depth + 1)
        return
    if not isinstance(value, dict):
        raise EventError(f"a notification is a JSON object, not a {type(value).__name__}")
    if isinstance(value.get("Records"), list):  # S3 itself, and Lambda's batches of SQS and SNS
        for record in value["Records"]:
            yield from _record(record, depth)
    elif isinstance(value.get("Messages"), list):  # as `aws sqs receive-message` prints
        yield from _unwrapped(value["Messages"], depth + 1)
    elif "detail-type" in value or "detail" in value:
        yield from _bridge(value)
    elif value.get("Event") == "s3:TestEvent":
        return
    elif value.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        return  # the link in it is never followed: anybody could have sent it
    elif value.get("Type") == "Notification":  # SNS
        yield from _unwrapped(_inner(value.get("Message")), depth + 1)
    elif "Body" in value or "body" in value:  # SQS
        yield from _unwrapped(_inner(value.get("Body", value.get("body"))), depth + 1)
    elif "s3" in value:
        yield from _record(value, depth)
    else:
        raise EventError(
            "this is no S3 notification: there is neither Records, Message, Body nor detail in it"
        )


def _record(record: Any, depth: int) -> Iterator[ObjectEvent]:
    if not isinstance(record, dict):
        raise EventError("a record of the notification is no object")
    if "s3" in record:
        inner = _part(record, "s3")
        kept = _part(inner, "object")
        name = _text(record, "eventName")
        # Keys of these records, and of no others, are URL-encoded.
        yield _event(
            _text(_part(inner, "bucket"), "name"),
            unquote_plus(_text(kept, "key")),
            name,
            _kind(name),
            _text(kept, "eTag", ""),
            _text(kept, "sequencer", ""),
        )
    elif isinstance(record.get("Sns"), dict):
        yield from _unwrapped(_inner(record["Sns"].get("Message")), depth + 1)
    else:
        yield from _unwrapped(record, depth + 1)


def _bridge(value: dict[str, Any]) -> Iterator[ObjectEvent]:
    if value.get("source") != "aws.s3":
        raise EventError(f"an event of {value.get('source')!r:.60}, not of aws.s3")
    name, detail = _text(value, "detail-type"), _part(value, "detail")
    if name == "Object Access Tier Changed" or "object" not in detail:
        return
    kept = _part(detail, "object")
    yield _event(
        _text(_part(detail, "bucket"), "name"),
        _text(kept, "key"),
        name,
        _BRIDGE.get(name, Change.OTHER),
        _text(kept, "etag", ""),
        _text(kept, "sequencer", ""),
    )


def _kind(name: str) -> Change:
    word = name.removeprefix("s3:").partition(":")
    if word[0] == "ObjectCreated" or word[::2] == ("ObjectRestore", "Completed"):
        return Change.CREATED
    if word[0] in ("ObjectRemoved", "LifecycleExpiration"):
        return Change.REMOVED
    return Change.OTHER


def _event(
    bucket: str, key: str, name: str, change: Change, etag: str, sequencer: str
) -> ObjectEvent:
    if not key or len(key.encode("utf-8", "replace")) > _MAX_KEY or "\x00" in key:
        raise EventError(f"no object has the key {key!r:.80}")
    if sequencer and not all(letter in "0123456789abcdefABCDEF" for letter in sequencer):
        sequencer = ""  # not S3's form, and how another store's are compared is not known
    return ObjectEvent(bucket, key, change, name[:100], etag.strip('"')[:200], sequencer[:200])


def _inner(text: Any) -> Any:
    """The JSON inside a message."""
    if isinstance(text, dict | list):
        return text
    if not isinstance(text, str):
        raise EventError("a message of the notification holds no text")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EventError(f"a message of the notification is no JSON: {error}"[:200]) from None


def _part(value: dict[str, Any], name: str) -> dict[str, Any]:
    part = value.get(name)
    if not isinstance(part, dict):
        raise EventError(f"the notification has no {name!r} where one belongs")
    return part


def _text(value: dict[str, Any], name: str, default: str | None = None) -> str:
    text = value.get(name, default)
    if text is None and default is not None:
        return default
    if not isinstance(text, str):
        raise EventError(f"the notification has no text {name!r} where one belongs")
    return text
