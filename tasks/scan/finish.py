"""Finish a scan: check the catalog, tidy it, and close the scan's row."""

from __future__ import annotations

import contextlib
import logging

from tasks.errors import CatalogError
from tasks.queries.scans import INCOMPLETE, UNTOLD, record_scan
from tasks.records import Kind, Scan, Space, now
from tasks.session import open_catalog

log = logging.getLogger(__name__)


def finish_scan(
    scan: Scan, space: Space, counts: dict[str, int], told: bool, missing: str = ""
) -> None:
    """Close a scan; a full one also compacts every table and rebuilds its indexes.

    Args:
        scan: the scan.
        space: where its vectors are.
        counts: what the stages counted.
        told: whether everybody who was to be told of its news was.
        missing: how many images the storage did not show, where these are too many: then the scan
            is closed as incomplete, and no later scan counts its news against it.

    Raises:
        CatalogError: when a key stands twice in a table, which two writers at once can cause.
    """
    catalog = open_catalog(scan.settings)
    with catalog.writing(scan.settings.catalog.busy_seconds):
        days = scan.settings.catalog.keep_days
        catalog.tidy(rebuild=scan.kind is Kind.FULL, keep_days=days)
        surplus = catalog.duplicate_keys(written=scan.kind is not Kind.FULL)
        if surplus:
            raise CatalogError(
                f"the catalog {catalog.uri} has rows with the same key: {surplus}; another writer "
                "must have worked without the lease. Scan into a new catalog"
            )
        state = f"{INCOMPLETE}: {missing}" if missing else "finished" if told else UNTOLD
        record_scan(catalog, scan, state, finished=now(), space=space.id, counts=counts)
    log.info("scan %s finished in %.1f s", scan.id, (now() - scan.started).total_seconds())


def fail_scan(scan: Scan, error: BaseException) -> None:
    """Record that a scan failed; what it wrote stays, and the next scan goes on from it."""
    # What broke the scan may break this write too. The scan's own error is the one to show.
    with contextlib.suppress(Exception):
        catalog = open_catalog(scan.settings)
        with catalog.writing(wait=5):
            record_scan(catalog, scan, f"failed: {type(error).__name__}", finished=now())
