"""Begin a scan: settle what will be scanned, and write the scan's row into the catalog."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

from tasks.catalog import schema
from tasks.catalog.filters import join_filters, render_filter
from tasks.catalog.fq import fq_to_sql
from tasks.errors import SettingsError
from tasks.queries.reviewers import share_sql
from tasks.queries.scans import record_scan
from tasks.records import Scan, digest, now
from tasks.requests import ScanRequest
from tasks.session import kept_open, open_catalog, open_source, pa_table
from tasks.settings import Settings

log = logging.getLogger(__name__)

#: What NOW means where a scope is named. A filter such as ``last_modified:[NOW-7DAYS TO *]`` must
#: name the same scope at every scan, so NOW is one fixed moment there: one whose day and year no
#: real filter is likely to contain, so that no filter without NOW gets the same name.
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
    with (
        open_catalog(settings).turn(settings.catalog.scan_wait_seconds),
        kept_open(settings),
    ):
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
            row = {"scan_id": scan.id, "reference_filter": across}
            catalog.upsert("cross_filters", pa_table([row], schema.CROSS_FILTERS))
        record_scan(catalog, scan, "running")
    log.info("scan %s: %s of %s%s", scan.id, scan.kind, scan.source, _filtered(scan))
    return scan


def read_filters(request: ScanRequest, moment: datetime) -> tuple[str, str]:
    """The filters of a request: the query side's and, of a cross-filter scan, the reference side's.

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
    """The filters as parts of a scope's name.

    A cross-filter scan has the same name whichever of its two filters is the reference side: the
    same pairs are compared.
    """
    where, across = (render_filter(text) for text in read_filters(request, _ANY_TIME))
    return ["across", *sorted([where, across])] if across else [where]


def _filtered(scan: Scan) -> str:
    shown = f" where {scan.where}" if scan.where else ""
    return shown + (f" across {scan.across}" if scan.across else "")
