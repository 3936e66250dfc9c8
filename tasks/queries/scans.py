"""The row of a scan in the catalog."""

from __future__ import annotations

import json
from datetime import datetime

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.records import Scan
from tasks.session import pa_table

#: State of a scan whose mail failed or waits for the next digest. The next scan's news include its.
UNTOLD = "finished, not told"
#: How the state of a scan begins that the storage did not show enough of. It has a report, but no
#: scan counts its news against it.
INCOMPLETE = "incomplete"


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
