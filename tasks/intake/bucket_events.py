"""Bucket events: look at the keys that S3 notifications name, and check just those.

A notification is a hint. Whether an object came, changed or went is asked of the bucket, so it
does not matter in which order events come, nor how often. Assets that no event names stay as the
last scan saw them.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.errors import AssetGoneError, ImageError, SettingsError, SourceError
from tasks.intake.alerts import Alert, save_alerts
from tasks.intake.analyze import Analyzer
from tasks.intake.blocklist import find_alerts, suspect_of
from tasks.intake.check import Checker
from tasks.intake.update import ReadObject, enter_object
from tasks.merging.journal import DONE, UNDONE
from tasks.queries.objects import is_wanted, look_at, own_places
from tasks.records import Analysis, Checked, CheckQuestion, asset_id, now
from tasks.requests import KeysRequest
from tasks.session import default_source, open_catalog, open_source, pa_table
from tasks.settings import Settings
from tasks.sources.base import Source
from tasks.sources.collection import is_collection
from tasks.sources.events import Change, ObjectEvent, events_of, is_older, latest

log = logging.getLogger(__name__)

#: Images that are analysed at once, where their bytes fit into memory together.
_BATCH = 32
_MOST_FINDINGS = 100


@dataclass(frozen=True, slots=True)
class KeyFound:
    """What a changed object matches."""

    key: str
    asset_id: str
    checked: Checked
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True)
class Followed:
    """What became of the events.

    Attributes:
        found: the new and changed images, each with its matches.
        removed: keys of assets that are gone.
        unreadable: key to why its image gives no picture; the next scan reports it.
        failed: key to why the storage did not show it: these events must be delivered again.
        refused: events of other buckets, by bucket.
        passed_over: why events were not followed, to how many: ``known``, ``older``, ``our own``,
            ``tags`` ...
    """

    found: tuple[KeyFound, ...] = ()
    removed: tuple[str, ...] = ()
    unreadable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)

    @property
    def handled(self) -> bool:
        """Whether every event was dealt with; if not, all must be delivered again."""
        return not self.failed and not self.refused


@dataclass(frozen=True, slots=True)
class _Site:
    settings: Settings
    catalog: Catalog
    source: Source
    uri: str
    passed: Counter[str]


def check_keys(request: KeysRequest, settings: Settings) -> Followed:
    """Bring the keys that a request names up to date, and say what they match.

    Raises:
        EventError: when something is no notification; nothing is done then.
        SettingsError: when the source is a ``gate://`` collection, which no bucket's events name.
    """
    with Follower(settings, request.source) as follower:
        return follower.follow(events_of(request.events), request.names)


class Follower:
    """Follows events of one source; a context manager that keeps the model from one to the next.

    Args:
        settings: with the catalog.
        source: empty: the default source.

    Raises:
        SettingsError: when the source is a ``gate://`` collection, which no bucket's events name.
    """

    def __init__(self, settings: Settings, source: str = "") -> None:
        catalog = open_catalog(settings)
        uri = source or default_source(catalog, settings)
        if is_collection(uri):
            raise SettingsError(f"{uri} has no objects that could change: use `dam-dedup ingest`")
        self._settings, self._uri = settings, uri
        self._source = open_source(uri, settings)
        self._analyzer = Analyzer(settings)
        self._checker = Checker(settings)

    def __enter__(self) -> Follower:
        self._analyzer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._analyzer.__exit__(*error)

    def follow(self, events: Sequence[ObjectEvent], keys: Sequence[str] = ()) -> Followed:
        """Bring the keys that events name, and those given, up to date; say what they match."""
        source = self._source
        site = _Site(self._settings, open_catalog(self._settings), source, self._uri, Counter())
        bucket = source.id.removeprefix("s3://")
        asked = [ObjectEvent(bucket, key, Change.CREATED, "asked") for key in keys]
        refused = Counter(event.bucket for event in events if event.bucket != bucket)
        if refused:
            log.warning("refused events of other buckets than %s: %s", bucket, dict(refused))
        # Events that are not about bytes are dropped before the last event of each key is taken,
        # so that a later change of tags does not hide the upload before it.
        ours = [event for event in events if event.bucket == bucket and _about_bytes(site, event)]
        wanted = _worth_a_look(site, latest([*ours, *asked]))
        done = _followed(site, wanted, self._analyzer, self._checker) if wanted else Followed()
        log.info(
            "follow: %d events, %d found, %d removed, passed over: %s",
            len(events),
            len(done.found),
            len(done.removed),
            dict(site.passed),
        )
        return replace(done, refused=dict(refused), passed_over=dict(sorted(site.passed.items())))


def _followed(
    site: _Site, wanted: Sequence[ObjectEvent], analyzer: Analyzer, checker: Checker
) -> Followed:
    failed: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    found: list[KeyFound] = []
    by_key = {event.key: event for event in wanted}
    present, gone = _look(site, list(by_key), failed)
    removed = _bury(site, gone)
    _note(site, [(by_key[key], "") for key in gone])
    fresh = [row for row in present if _is_news(site, row)]
    for batch in _batches(fresh, site.settings.limits.inflight_bytes):
        for row, analysis in _analysed(site, batch, analyzer, failed):
            key = row["key"]
            if isinstance(analysis, ImageError):
                unreadable[key] = f"{analysis.reason}: {analysis}"
            else:
                try:
                    found.append(_checked(site, row, analysis, checker))
                except SourceError as error:  # it changed again: its next event comes
                    failed[key] = str(error)
                    continue
            _note(site, [(by_key[key], row["etag"])])
    return Followed(tuple(found), tuple(removed), unreadable, failed)


# ---- which events count ----------------------------------------------------------------------


def _about_bytes(site: _Site, event: ObjectEvent) -> bool:
    if event.change is not Change.OTHER:
        return True
    site.passed["tags" if "Tag" in event.name else "nothing about bytes"] += 1
    return False


def _worth_a_look(site: _Site, events: Sequence[ObjectEvent]) -> list[ObjectEvent]:
    """The events to follow: of keys that are images of the source, and not older than the last."""
    own = own_places(site.settings, site.source)
    include, exclude = site.settings.source.include, site.settings.source.exclude
    candidates = []
    for event in events:
        if event.key.startswith(own):
            why = "our own"
        elif not event.key.startswith(site.source.prefix):
            why = "outside the prefix"
        elif not is_wanted(event.key, include, exclude) or event.key.lower().endswith(".xmp"):
            why = "left out"
        else:
            candidates.append(event)
            continue
        site.passed[why] += 1
    noted = _notes(site, candidates)
    ours = _written_by_us(site, candidates)
    kept = []
    for event in candidates:
        before = noted.get(event.key, ("", ""))[0]
        if event.sequencer and before and not is_older(before, event.sequencer):
            site.passed["older"] += 1
        elif event.etag and event.etag in ours.get(event.key, ()):
            site.passed["our own"] += 1
        else:
            kept.append(event)
    return kept


def _written_by_us(site: _Site, events: Sequence[ObjectEvent]) -> dict[str, set[str]]:
    """For each key, the ETags of what a merge or an undo wrote there."""
    written: dict[str, set[str]] = {}
    for part in _parts([event.key for event in events]):
        keys = ", ".join(quote(key) for key in part)
        words = f"{quote(DONE)}, {quote(UNDONE)}"
        rows = site.catalog.read(
            "journal", ["key", "detail"], f"event IN ({words}) AND key IN ({keys})"
        )
        for key, detail in rows.iter_rows():
            etag = str(json.loads(detail or "{}").get("etag", "")).strip('"')
            if etag:
                written.setdefault(key, set()).add(etag)
    return written


def _notes(site: _Site, events: Sequence[ObjectEvent]) -> dict[str, tuple[str, str]]:
    """For each key, the sequencer and the ETag of the event that was followed last."""
    ids = [asset_id(site.source.id, event.key) for event in events]
    rows = site.catalog.read_keys("last_events", ["asset_id", "key", "sequencer", "etag"], ids)
    return {row["key"]: (row["sequencer"], row["etag"]) for row in rows.iter_rows(named=True)}


def _note(site: _Site, done: Iterable[tuple[ObjectEvent, str]]) -> None:
    """Record the events that were followed, last of all: what is not recorded is followed again."""
    rows = [
        {
            "asset_id": asset_id(site.source.id, event.key),
            "source": site.source.id,
            "key": event.key,
            "sequencer": event.sequencer,
            "etag": etag,
            "at": now(),
        }
        for event, etag in done
    ]
    with site.catalog.writing(site.settings.catalog.busy_seconds):
        site.catalog.upsert("last_events", pa_table(rows, schema.LAST_EVENTS))


# ---- what is there ---------------------------------------------------------------------------


def _look(
    site: _Site, keys: list[str], failed: dict[str, str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The listings of the keys that are there, and the keys that are not."""

    def one(key: str) -> dict[str, Any] | SourceError:
        try:
            return look_at(site.source, key, site.settings)
        except SourceError as error:
            return error

    with ThreadPoolExecutor(min(site.source.workers, len(keys)), "look") as pool:
        looked = dict(zip(keys, pool.map(one, keys), strict=True))
    present, gone = [], []
    for key, row in looked.items():
        if isinstance(row, AssetGoneError):
            gone.append(key)
        elif isinstance(row, SourceError):
            failed[key] = str(row)
        else:
            present.append(row)
    return present, gone


def _is_news(site: _Site, row: dict[str, Any]) -> bool:
    """Whether to read and check an object: an image, in a state that was not followed before."""
    if row["skipped"]:
        site.passed[str(row["skipped"])] += 1
        return False
    where = f"asset_id = {quote(row['asset_id'])} AND removed_at IS NULL"
    columns = ["asset_id", "revision", "read_revision"]
    known = site.catalog.read("assets", columns, where)
    noted = site.catalog.read_keys("last_events", ["asset_id", "etag"], [row["asset_id"]])
    read = known.filter(
        (pl.col("revision") == row["revision"]) & (pl.col("read_revision") == row["revision"])
    )
    if read.height and noted.height and noted["etag"][0] == row["etag"]:
        site.passed["known"] += 1
        return False
    return True


def _bury(site: _Site, gone: Sequence[str]) -> list[str]:
    """Mark assets that are gone as removed; returns the keys of those that were not before."""
    removed = []
    with site.catalog.writing(site.settings.catalog.busy_seconds):
        for part in _parts([asset_id(site.source.id, key) for key in gone]):
            listed = ", ".join(quote(name) for name in part)
            live = site.catalog.read(
                "assets", ["key", "asset_id"], f"asset_id IN ({listed}) AND removed_at IS NULL"
            )
            rows = [{"asset_id": name, "removed_at": now()} for name in live["asset_id"]]
            site.catalog.upsert("assets", pa_table(rows, schema.TOMBSTONE))
            removed += live["key"].to_list()
    if len(removed) < len(gone):
        site.passed["known"] += len(gone) - len(removed)
    return removed


def _batches(rows: Sequence[dict[str, Any]], most: int) -> Iterator[list[dict[str, Any]]]:
    """The rows in batches whose bytes fit into memory; a larger row is a batch of its own."""
    batch: list[dict[str, Any]] = []
    for row in rows:
        size = sum(one["size"] for one in batch) + row["size"]
        if batch and (len(batch) == _BATCH or size > most):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _analysed(
    site: _Site, batch: Sequence[dict[str, Any]], analyzer: Analyzer, failed: dict[str, str]
) -> Iterator[tuple[dict[str, Any], Analysis | ImageError]]:
    limit = site.settings.limits.bytes
    files: list[tuple[dict[str, Any], bytes]] = []
    for row in batch:
        if row["size"] > limit:
            yield row, ImageError("too_many_bytes", "raise DAM_DEDUP_LIMITS__BYTES")
            continue
        try:
            files.append((row, site.source.read(row["key"], row["etag"], limit)))
        except SourceError as error:
            failed[row["key"]] = str(error)
    found = analyzer.analyze([data for _, data in files])
    yield from zip((row for row, _ in files), found, strict=True)


def _checked(site: _Site, row: dict[str, Any], analysis: Analysis, checker: Checker) -> KeyFound:
    key = row["key"]
    entered = enter_object(site.settings, ReadObject(row, analysis))
    with site.catalog.writing(site.settings.catalog.busy_seconds):
        suspect = suspect_of(analysis, key, site.source.id)
        alerts = find_alerts(site.catalog, [suspect], analysis.space.id)
        save_alerts(site.catalog, alerts, channel="event")
    question = CheckQuestion(
        source=site.uri, threshold=site.settings.match.threshold, limit=_MOST_FINDINGS
    )
    return KeyFound(key, entered, checker.check_asset(entered, question), tuple(alerts))


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), 500):
        yield names[start : start + 500]
