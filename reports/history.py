"""``history.json``: what the scans of the same assets found, one after the other."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import polars as pl

from reports.page import totals
from tasks.records import Document, Summary

FORMAT_VERSION = 1
#: The latest scans that are listed.
_MOST = 500
#: Columns that are the same in all of them, or of no use to a reader.
_COMMON = ("scope", "dry_run", "source", "where")


def history_json(summary: Summary) -> Document:
    """The scans of the same source and filter until this one, the oldest first."""
    content = {
        "format": f"dam-dedup history {FORMAT_VERSION}",
        "collection": summary.collection,
        "source": summary.source,
        "where": summary.where,
        "scans": history_rows(summary),
    }
    body = json.dumps(content, indent=1, ensure_ascii=False).encode()
    return Document("history.json", "application/json", body)


def history_rows(summary: Summary) -> list[dict[str, Any]]:
    """One row a scan: its times, threshold, totals and seconds; this scan's is the last.

    ``savings`` could be saved then; ``realised`` were out of the collection then, by merges.
    """
    past = [] if summary.past is None else summary.past.drop(_COMMON).tail(_MOST - 1).to_dicts()
    return [plain(row) for row in [*past, _present(summary)]]


def with_trends(history: pl.DataFrame) -> pl.DataFrame:
    """A history with what changed against the scan before of the same assets and threshold.

    Args:
        history: the columns of ``tasks.reporting.history.PAST``.
    """
    same = ["scope", "threshold"]
    return history.with_columns(
        (pl.col(name) - pl.col(name).shift(1).over(same)).alias(f"{name}_by")
        for name in ("groups", "duplicates", "savings", "realised")
    )


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON has it."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
    }


def _present(summary: Summary) -> dict[str, Any]:
    counted = totals(summary)
    return {
        "scan_id": summary.scan_id,
        "kind": summary.kind.value,
        "started": summary.started,
        "finished": summary.finished,
        "threshold": summary.threshold,
        "seen": summary.coverage.seen,
        "scanned": summary.coverage.scanned,
        **{name: counted[name] for name in _TOTALS},
        "realised": summary.realised,
        "seconds": round(summary.seconds, 3),
    }


_TOTALS = (
    "failed",
    "skipped",
    "groups",
    "duplicates",
    "exact",
    "near",
    "new",
    "changed",
    "savings",
)
