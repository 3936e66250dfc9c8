"""Machine-readable documents: groups and alerts as JSON; pairs, members, coverage as tables."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import polars as pl

from reports.page import totals
from tasks.csv_cells import frame_csv
from tasks.records import Document, Summary

#: Raised whenever a field of groups.json changes its meaning or goes away.
FORMAT_VERSION = 1
#: Names the schema that ``schema/groups.schema.json`` is.
SCHEMA_ID = f"urn:dam-dedup:groups:{FORMAT_VERSION}"
#: Keys listed per reason inside groups.json; coverage.csv lists all.
_LISTED_KEYS = 1000


def groups_json(summary: Summary) -> Document:
    """All groups with their members, the coverage, and the versions that made them."""
    content = {
        "$schema": SCHEMA_ID,
        "format": f"dam-dedup groups {FORMAT_VERSION}",
        "version": FORMAT_VERSION,
        "scan": {
            "id": summary.scan_id,
            "kind": summary.kind.value,
            "collection": summary.collection,
            "source": summary.source,
            "where": summary.where,
            "across": summary.across,
            "threshold": summary.threshold,
            "dry_run": summary.dry_run,
            "started": summary.started.isoformat(),
            "finished": summary.finished.isoformat(),
            "seconds": summary.seconds,
            "stages": summary.stages,
        },
        "model": {
            "name": summary.space.model,
            "revision": summary.space.revision,
            "preprocessing": summary.space.preprocessing,
            "dim": summary.space.dim,
            "space": summary.space.id,
        },
        "versions": summary.versions,
        "calibrated": summary.calibrated,
        "plan": _plan(summary),
        "totals": totals(summary),
        "counts": summary.counts,
        "search": summary.search,
        "coverage": _coverage(summary),
        "groups": _groups(summary),
        "linked": summary.links.to_dicts(),
    }
    body = json.dumps(content, indent=1, ensure_ascii=False).encode()
    return Document("groups.json", "application/json", body)


def pairs_csv(summary: Summary) -> Document:
    """Every pair at or above the threshold, with its evidence.

    Columns: left, right (asset keys, left < right), score, tier, relation, changes (in words),
    original (which side looks like it), reasons, flipped, evidence (the measurements as JSON).
    A text that a spreadsheet would run has an apostrophe in front (``tasks.csv_cells``).
    """
    return Document("pairs.csv", "text/csv; charset=utf-8", frame_csv(summary.pairs))


def schema() -> dict[str, Any]:
    """The JSON Schema of groups.json."""
    text = files("reports").joinpath("schema/groups.schema.json").read_text("utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def tables(summary: Summary) -> list[Document]:
    """The data of pairs, members and coverage as Parquet, unescaped and with their types."""
    return [
        _parquet("pairs.parquet", summary.pairs),
        _parquet("members.parquet", summary.members),
        _parquet("coverage.parquet", summary.coverage.outcomes),
    ]


def alerts_json(summary: Summary) -> Document:
    """Every alert of the assets in scope: rule, pair and evidence, the latest first."""
    rows = [] if summary.alerts is None else summary.alerts.to_dicts()
    for row in rows:
        row["at"] = row["at"].isoformat()
        row["detail"] = json.loads(row["detail"])
        del row["sequence"]
    content = {
        "format": f"dam-dedup alerts {FORMAT_VERSION}",
        "scan": summary.scan_id,
        "note": "relation `resembles` is unverified: an entry's pixels are not kept",
        "alerts": rows,
    }
    body = json.dumps(content, indent=1, ensure_ascii=False).encode()
    return Document("alerts.json", "application/json", body)


def coverage_csv(summary: Summary) -> Document:
    """Every object that was skipped or failed, with the reason."""
    body = frame_csv(summary.coverage.outcomes)
    return Document("coverage.csv", "text/csv; charset=utf-8", body)


def _parquet(name: str, frame: pl.DataFrame) -> Document:
    body = io.BytesIO()
    frame.write_parquet(body)
    return Document(name, "application/vnd.apache.parquet", body.getvalue())


def _plan(summary: Summary) -> dict[str, Any] | None:
    """The plan without its links: who has one may decide."""
    if summary.plan is None:
        return None
    names = ("id", "policy", "acting", "asking", "refused", "approved", "bytes")
    return {name: getattr(summary.plan, name) for name in names}


def _coverage(summary: Summary) -> dict[str, Any]:
    coverage = summary.coverage
    keys = {
        f"{outcome}:{reason}": listed
        for outcome, reason, listed in coverage.outcomes.group_by("outcome", "reason")
        .agg(pl.col("key").sort().head(_LISTED_KEYS))
        .sort("outcome", "reason")
        .iter_rows()
    }
    return {
        "seen": coverage.seen,
        "scanned": coverage.scanned,
        "skipped": coverage.skipped,
        "failed": coverage.failed,
        "keys": keys,
    }


def _groups(summary: Summary) -> list[dict[str, Any]]:
    columns = [
        "key",
        "asset_id",
        "role",
        "tier",
        "score",
        "size",
        "width",
        "height",
        "format",
        "sha256",
        "label",
        "last_modified",
        "flags",
    ]
    frame = summary.members.select("group_id", pl.struct(columns).alias("member")).with_columns(
        pl.col("group_id")
    )
    nested = frame.group_by("group_id").agg(pl.col("member"))
    notes = summary.plan.groups if summary.plan else {}
    found = []
    for row in summary.groups.join(nested, on="group_id", maintain_order="left").iter_rows(
        named=True
    ):
        members = row.pop("member")
        for member in members:
            member["last_modified"] = member["last_modified"].isoformat()
        name = row.pop("group_id")
        note = asdict(notes[name]) if name in notes else None
        found.append({"id": name, **row, "proposal": note, "members": members})
    return found
