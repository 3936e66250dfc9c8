"""Alerts: pictures found where they should not be, kept once for each pair of what matches."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.records import digest, now
from tasks.session import pa_table

#: Kinds of alert: a match with a blocklist entry, or between the two sides of an alert pair.
BLOCKLIST, PAIR = "blocklist", "pair"

COLUMNS = [
    "sequence",
    "alert_id",
    "kind",
    "rule",
    "entry_id",
    "reason",
    "left_source",
    "left",
    "left_content",
    "right_source",
    "right",
    "right_content",
    "relation",
    "score",
    "evidence",
    "detail",
    "channel",
    "scan_id",
    "at",
]


@dataclass(frozen=True, slots=True)
class Alert:
    """One picture that was found where it should not be.

    Attributes:
        kind: ``blocklist`` or ``pair``.
        rule: of the blocklist entry, or the name of the policy's pair.
        entry_id: of the blocklist; empty for a pair.
        reason: why the entry is on the list; empty for a pair.
        left: the key of what came in.
        right: what it matches: the entry's name, or an asset's key.
        relation: ``equal bytes``, ``equal pixels``, ``verified``, or ``resembles``: near by hash
            and by vector, but nobody looked at pixels, since those of an entry are not kept.
        evidence: why it matches, in words.
        detail: the measurements.
    """

    kind: str
    rule: str
    entry_id: str
    reason: str
    left_source: str
    left: str
    left_content: str
    right_source: str
    right: str
    right_content: str
    relation: str
    score: float
    evidence: str
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The same for the same rule, content and counterpart, so that an alert is kept once."""
        return digest(self.kind, self.rule, self.entry_id, self.left_content, self.right_content)

    @property
    def certain(self) -> bool:
        """Whether bytes or pixels were compared, and not only hash and vector."""
        return self.relation != "resembles"

    def as_text(self) -> str:
        """The alert in one line, for people."""
        held = f"blocklist entry {self.entry_id[:12]} ({self.right})"
        other = held if self.kind == BLOCKLIST else f"{self.right_source}/{self.right}"
        why = f": {self.reason}" if self.reason else ""
        return (
            f"{self.rule}: {self.left_source}/{self.left} against {other}: {self.relation}, "
            f"{self.evidence}{why}"
        )


def save_alerts(
    catalog: Catalog, alerts: Iterable[Alert], *, channel: str, scan_id: str = ""
) -> list[Alert]:
    """Keep alerts; returns those that are new. Needs the writer's lease."""
    wanted = {alert.id: alert for alert in alerts}
    known = set(catalog.read_keys("alerts", ["alert_id"], wanted)["alert_id"]) if wanted else set()
    new = [alert for name, alert in sorted(wanted.items()) if name not in known]
    started, at = time.time_ns(), now()
    rows = [
        _row(alert) | {"sequence": started + n, "channel": channel, "scan_id": scan_id, "at": at}
        for n, alert in enumerate(new)
    ]
    catalog.upsert("alerts", pa_table(rows, schema.ALERTS), only_new=True)
    return new


def read_alerts(catalog: Catalog, contents: Sequence[str] | None = None) -> pl.DataFrame:
    """All alerts in the order in which they came; of some contents, or of all."""
    found = catalog.read("alerts", COLUMNS)
    if contents is not None:
        found = found.filter(pl.col("left_content").is_in(list(contents)))
    return found.with_columns(pl.col("score").cast(pl.Float64).round(4))


def alert_of(row: dict[str, Any]) -> Alert:
    """An alert from a row of :func:`read_alerts`."""
    names = Alert.__slots__
    return Alert(
        **{name: row[name] for name in names if name != "detail"}, detail=json.loads(row["detail"])
    )


def _row(alert: Alert) -> dict[str, Any]:
    row = {name: getattr(alert, name) for name in Alert.__slots__}
    return row | {"alert_id": alert.id, "detail": json.dumps(alert.detail, sort_keys=True)}
