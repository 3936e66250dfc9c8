"""Machine-readable documents: groups.json, pairs.csv, coverage.csv."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from tasks.records import Document, Summary

#: Raised whenever a field of groups.json changes its meaning or goes away.
FORMAT_VERSION = 1
#: Keys listed per reason inside groups.json; coverage.csv lists all.
_LISTED_KEYS = 1000


def groups_json(summary: Summary) -> Document:
    """All groups with their members, the coverage, and the versions that made them."""
    content = {
        "format": f"dam-dedup groups {FORMAT_VERSION}",
        "scan": {
            "id": summary.scan_id,
            "kind": summary.kind.value,
            "collection": summary.collection,
            "source": summary.source,
            "where": summary.where,
            "threshold": summary.threshold,
            "dry_run": summary.dry_run,
            "started": summary.started.isoformat(),
            "finished": summary.finished.isoformat(),
        },
        "model": {
            "name": summary.space.model,
            "revision": summary.space.revision,
            "preprocessing": summary.space.preprocessing,
            "dim": summary.space.dim,
            "space": summary.space.id,
        },
        "versions": summary.versions,
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
    """
    return Document("pairs.csv", "text/csv; charset=utf-8", _csv(summary.pairs))


def coverage_csv(summary: Summary) -> Document:
    """Every object that was skipped or failed, with the reason."""
    return Document("coverage.csv", "text/csv; charset=utf-8", _csv(summary.coverage.outcomes))


def _csv(frame: pl.DataFrame) -> bytes:
    return frame.write_csv().encode()


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
    columns = ["key", "asset_id", "role", "tier", "score", "size", "width", "height", "format",
               "sha256", "label", "last_modified", "flags"]  # fmt: skip
    frame = summary.members.select("group_id", pl.struct(columns).alias("member")).with_columns(
        pl.col("group_id")
    )
    nested = frame.group_by("group_id").agg(pl.col("member"))
    found = []
    for row in summary.groups.join(nested, on="group_id", maintain_order="left").iter_rows(
        named=True
    ):
        members = row.pop("member")
        for member in members:
            member["last_modified"] = member["last_modified"].isoformat()
        found.append({"id": row.pop("group_id"), **row, "members": members})
    return found
