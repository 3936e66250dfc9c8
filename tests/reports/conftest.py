"""A small summary, made by hand."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from PIL import Image

from tasks.records import Coverage, Kind, Space, Summary

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
#: Keys that strangers may give their files.
HOSTILE = [
    "<script>alert(1)</script>.jpg",
    "\"><img src=x onerror=alert(1)> '.jpg",
    "line\nbreak\r\nBcc: victim@example.com\r\n\r\nbody.jpg",
    "turned \u202egpj.exe",
    "{{ 7*7 }} {% raw %} ${x}.jpg",
    "=HYPERLINK(\"http://example.com\"),'comma'.jpg",
    "caf\u00e9 \u65e5\u672c \U0001f4f7.jpg",
    "tab\tnul\x00 sep\u2028end\ufeff.jpg",
]

#: What the pairs of the summaries say; the second as the catalog keeps it.
CHANGES = "cropped to 80 %; brighter by 0.3 stops"
EVIDENCE = '{"method":"features","inliers":40}'


def jpeg(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), level).save(buffer, "JPEG")
    return buffer.getvalue()


def member(group: str, key: str, role: str, tier: str, score: float, **facts: Any) -> dict:
    return {
        "group_id": group,
        "asset_id": f"id-{group}-{key}",
        "role": role,
        "tier": tier,
        "score": score,
        "key": key,
        "content": f"c0ffee-{group}-{role}",
        "sha256": "ab" * 32,
        "size": 1500,
        "width": 40,
        "height": 30,
        "format": "jpeg",
        "label": None,
        "last_modified": NOON,
        "flags": [],
    } | facts


_MEMBER = {
    "group_id": pl.String,
    "asset_id": pl.String,
    "role": pl.String,
    "tier": pl.String,
    "score": pl.Float64,
    "key": pl.String,
    "content": pl.String,
    "sha256": pl.String,
    "size": pl.Int64,
    "width": pl.Int32,
    "height": pl.Int32,
    "format": pl.String,
    "label": pl.String,
    "last_modified": pl.Datetime("us", "UTC"),
    "flags": pl.List(pl.String),
}
_GROUP = {
    "group_id": pl.String,
    "state": pl.String,
    "tier": pl.String,
    "size": pl.UInt32,
    "bytes": pl.Int64,
    "savings": pl.Int64,
    "score": pl.Float64,
    "keeper": pl.String,
}
_PAIR = {
    "left": pl.String,
    "right": pl.String,
    "score": pl.Float64,
    "tier": pl.String,
    "relation": pl.String,
    "changes": pl.String,
    "original": pl.String,
    "reasons": pl.String,
    "flipped": pl.Boolean,
    "evidence": pl.String,
}
_LINK = {"left": pl.String, "right": pl.String, "reason": pl.String}
_OUTCOME = {"key": pl.String, "outcome": pl.String, "reason": pl.String, "message": pl.String}


@pytest.fixture
def hostile() -> list[str]:
    return HOSTILE


@pytest.fixture
def make_summary() -> Callable[..., Summary]:
    """A summary of groups of a keeper and duplicates; ``keys`` name one group's members each."""

    def make(
        *keys: list[str],
        tiers: tuple[str, ...] = ("near",),
        skipped: tuple[str, ...] = ("notes.txt",),
        failed: tuple[str, ...] = ("cut.jpg",),
        label: str | None = None,
        **changes: Any,
    ) -> Summary:
        members, groups, pairs, thumbnails = [], [], [], {}
        for number, names in enumerate(keys):
            name, tier = f"g{number:04}", tiers[number % len(tiers)]
            kept, *copies = names
            found = [member(name, kept, "keeper", "exact", 1.0, label=label)]
            found += [member(name, key, "duplicate", tier, 0.91, label=label) for key in copies]
            members += found
            thumbnails |= {row["content"]: jpeg(number % 256) for row in found[:2]}
            groups.append(
                (name, "new", tier, len(names), 1500 * len(names), 1500 * len(copies), 0.91, kept)
            )
            pairs += [
                (
                    min(kept, key),
                    max(kept, key),
                    0.91,
                    tier,
                    "duplicate",
                    CHANGES,
                    "left" if kept < key else "right",
                    "larger",
                    kept > key,
                    EVIDENCE,
                )
                for key in copies
            ]
        outcomes = [(key, "skipped", "not_an_image", "") for key in skipped]
        outcomes += [(key, "failed", "truncated", "file is truncated") for key in failed]
        coverage = Coverage(
            seen=len(members) + 3 + len(outcomes),
            scanned=len(members) + 3,
            skipped={"not_an_image": len(skipped)} if skipped else {},
            failed={"truncated": len(failed)} if failed else {},
            outcomes=pl.DataFrame(outcomes, schema=_OUTCOME, orient="row"),
        )
        values: dict[str, Any] = {
            "scan_id": "20261122T120000-abcdef",
            "kind": Kind.FULL,
            "collection": "catalogue",
            "source": "s3://assets/photos",
            "where": "",
            "threshold": 0.7,
            "dry_run": False,
            "started": NOON,
            "finished": NOON,
            "coverage": coverage,
            "counts": {"seen": coverage.seen, "read": 3},
            "space": Space("model", "revision", "squeeze", 8),
            "versions": {"dam-dedup": "0.1"},
            "groups": pl.DataFrame(groups, schema=_GROUP, orient="row"),
            "members": pl.DataFrame(members, schema=_MEMBER),
            "pairs": pl.DataFrame(pairs, schema=_PAIR, orient="row"),
            "links": pl.DataFrame(schema=_LINK),
            "thumbnails": thumbnails,
        }
        return Summary(**(values | changes))

    return make
