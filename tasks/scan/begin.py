"""Begin a scan: settle what will be scanned, and write it down."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.catalog.filters import join_filters, render_filter
from tasks.catalog.fq import fq_to_sql
from tasks.errors import SettingsError
from tasks.queries.reviewers import share_sql
from tasks.records import Scan, ScanRequest, digest, now
from tasks.session import open_catalog, open_source, pa_table
from tasks.settings import Settings

log = logging.getLogger(__name__)

#: What NOW means in a scope's name: the last seven days are one scope, however often scanned.
#: Some moment that no filter names, nor the day or year it lies in.
_ANY_TIME = datetime(1969, 7, 20, 20, 17, 40, 1, tzinfo=UTC)


@contextlib.contextmanager
def catalog_turn(request: ScanRequest, settings: Settings) -> Iterator[None]:
    """Hold the catalog for one scan; a wrong filter is refused before any waiting.

    Raises:
        FilterError: when the filter is wrong.
        CatalogBusyError: when another scan goes on for too long.
    """
    read_filters(request, now())
    _scope(request)
    for share in settings.mail.reviewers.values():
        share_sql(share)
    with open_catalog(settings).turn(settings.catalog.turn_seconds):
        yield


def begin_scan(request: ScanRequest, settings: Settings) -> Scan:
    """The scan that a request asks for, checked before any work is done.

    Raises:
        SettingsError: when no source is given.
        FilterError: when the filter is wrong.
        SourceError: when the source cannot be reached.
        CatalogError: when the catalog cannot be opened.
    """
    uri = request.source or settings.source.uri
    if not uri:
        raise SettingsError(
            "no source: set DAM_DEDUP_SOURCE__URI to s3://bucket/prefix or a folder, or give one "
            "with the request (--source)"
        )
    if request.mode:
        match = settings.match.model_copy(update={"mode": request.mode})
        settings = settings.model_copy(update={"match": match})
    started = now()
    source = open_source(uri, settings)
    where, across = read_filters(request, started)
    scan = Scan(
        id=f"{started:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
        kind=request.kind,
        source=f"{source.id}/{source.prefix}" if source.prefix else source.id,
        where=where,
        across=across,
        scope=digest(source.id, source.prefix, *_scope(request)),
        threshold=request.threshold or settings.match.threshold,
        dry_run=request.dry_run,
        refresh_metadata=request.refresh_metadata,
        started=started,
        settings=settings,
    )
    catalog = open_catalog(settings)
    with catalog.writing(settings.catalog.busy_seconds):
        if across:
            row = {"scan_id": scan.id, "across": across}
            catalog.upsert("across", pa_table([row], schema.ACROSS))
        record_scan(catalog, scan, "running")
    log.info("scan %s: %s of %s%s", scan.id, scan.kind, scan.source, _filtered(scan))
    return scan


def read_filters(request: ScanRequest, moment: datetime) -> tuple[str, str]:
    """The filters of a request: of its assets, and of the other side, if there is one.

    Args:
        request: the request.
        moment: what NOW means in its filter queries.

    Raises:
        FilterError: when one is wrong.
    """
    return (
        join_filters(request.where, fq_to_sql(request.fq, moment)),
        join_filters(request.across),
    )


def _scope(request: ScanRequest) -> list[str]:
    """What names a scope beside its place; two sides have one name, whichever is called which."""
    where, across = (render_filter(text) for text in read_filters(request, _ANY_TIME))
    return ["across", *sorted([where, across])] if across else [where]


def record_scan(
    catalog: Catalog,
    scan: Scan,
    state: str,
    *,
    finished: datetime | None = None,
    space: str | None = None,
    counts: dict[str, int] | None = None,
) -> None:
    """Write the scan's row."""
    row = {
        "scan_id": scan.id,
        "kind": scan.kind.value,
        "source": scan.source,
        "where": scan.where,
        "scope": scan.scope,
        "threshold": scan.threshold,
        "dry_run": scan.dry_run,
        "state": state,
        "started": scan.started,
        "finished": finished,
        "space": space,
        "counts": json.dumps(counts or {}),
    }
    catalog.upsert("scans", pa_table([row], schema.SCANS))


def _filtered(scan: Scan) -> str:
    shown = f" where {scan.where}" if scan.where else ""
    return shown + (f" across {scan.across}" if scan.across else "")
