"""History: what each scan found, and of which versions of the catalog its report was made.

A report is made of tables that later scans change. The catalog keeps their old versions for
``DAM_DEDUP_CATALOG__KEEP_DAYS``; so long a report can be made again as it was.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.merging.journal import DONE, UNDONE, read_events
from tasks.merging.rules.plan_note import GroupNote, PlanNote
from tasks.merging.rules.plans import OperationKind
from tasks.records import Scan
from tasks.session import open_catalog, pa_table
from tasks.settings import Settings
from tasks.summary import Summary

#: The tables that a report is read from.
TABLES = ("assets", "groups", "neighbours", "pairs", "proofs", "thumbnails", "calibrations")

#: What is known of a scan of the past. ``bytes`` could be saved; ``realised`` were taken out of
#: the collection by merges until then and not brought back; null where an old scan kept no numbers.
PAST: dict[str, Any] = {
    "scan_id": pl.String,
    "kind": pl.String,
    "started": pl.Datetime("us", "UTC"),
    "finished": pl.Datetime("us", "UTC"),
    "source": pl.String,
    "where": pl.String,
    "scope": pl.String,
    "threshold": pl.Float64,
    "dry_run": pl.Boolean,
    "seen": pl.Int64,
    "scanned": pl.Int64,
    "failed": pl.Int64,
    "skipped": pl.Int64,
    "groups": pl.Int64,
    "duplicates": pl.Int64,
    "exact": pl.Int64,
    "near": pl.Int64,
    "new": pl.Int64,
    "changed": pl.Int64,
    "savings": pl.Int64,
    "realised": pl.Int64,
    "seconds": pl.Float64,
}
_COUNTED = (
    "seen",
    "scanned",
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


@dataclass(frozen=True, slots=True)
class KeptReport:
    """What was kept of a scan's report, beside the catalog's tables.

    Attributes:
        finished: when its summary was made.
        versions: of the program and its rules, as the report names them.
        plan: the merge plan as the report names it, without its links.
        tables: table to version.
    """

    finished: datetime
    versions: dict[str, str]
    plan: PlanNote | None
    tables: dict[str, int]


def keep_report(scan: Scan, summary: Summary, totals: dict[str, int]) -> None:
    """Write down what a report is made of, before it is delivered.

    Args:
        scan: the scan.
        summary: what is reported.
        totals: as the report counts them.
    """
    numbers = totals | {"seen": summary.coverage.seen, "scanned": summary.coverage.scanned}
    facts = {"versions": summary.versions, "plan": _plan_facts(summary.plan)}
    row = {
        "scan_id": scan.id,
        "scope": scan.scope,
        "threshold": scan.threshold,
        "started": scan.started,
        "finished": summary.finished,
        "totals": json.dumps(numbers),
        "provenance": json.dumps(facts),
        "plan_notes": _packed(summary.plan),
        "table_versions": json.dumps(summary.tables),
        "mailed": False,
    }
    catalog = open_catalog(scan.settings)
    with catalog.writing(scan.settings.catalog.busy_seconds):
        catalog.upsert("reports", pa_table([row], schema.REPORTS))


#: So many reports are looked through for what was refused: a week of them, one every two hours.
_MOST_REPORTS = 84


def keep_mailed(scan: Scan) -> None:
    """Write down that a scan was mailed: the next digest is due some time after it."""
    catalog = open_catalog(scan.settings)
    part = pa_table([{"scan_id": scan.id, "mailed": True}], schema.REPORTS)
    with catalog.writing(scan.settings.catalog.busy_seconds):
        catalog.upsert("reports", part.select(["scan_id", "mailed"]))


def read_kept(catalog: Catalog, scan_id: str) -> KeptReport | None:
    """What was kept of a scan's report; None for a scan by an older program."""
    columns = ["scan_id", "finished", "provenance", "plan_notes", "table_versions"]
    found = catalog.read("reports", columns, f"scan_id = {quote(scan_id)}")
    if found.is_empty():
        return None
    row = found.row(0, named=True)
    facts = json.loads(row["provenance"])
    return KeptReport(
        row["finished"],
        facts["versions"],
        _plan_note(facts["plan"], row["plan_notes"]),
        json.loads(row["table_versions"]),
    )


def last_mailed(catalog: Catalog, scan: Scan) -> datetime | None:
    """The start of the last scan of this scope and threshold that was mailed, before this one."""
    where = f"scope = {quote(scan.scope)} AND mailed"
    rows = catalog.read("reports", ["started", "threshold"], where)
    same = rows.filter(
        (pl.col("started") < scan.started) & ((pl.col("threshold") - scan.threshold).abs() < 1e-6)
    )
    return same["started"][-1] if same.height else None


def was_refused(catalog: Catalog, scan: Scan) -> set[str]:
    """The ids of groups that might not be decided on, by the reports since the last mail.

    Where none was mailed, by the last report before this scan.
    """
    columns = ["started", "scan_id", "threshold", "mailed"]
    rows = catalog.read("reports", columns, f"scope = {quote(scan.scope)}").filter(
        (pl.col("started") < scan.started) & ((pl.col("threshold") - scan.threshold).abs() < 1e-6)
    )
    mailed = rows.with_row_index().filter(pl.col("mailed"))["index"]
    since = rows[int(mailed[-1]) :] if len(mailed) else rows.tail(1)
    found: set[str] = set()
    for name in since["scan_id"].tail(_MOST_REPORTS):
        kept = read_kept(catalog, name)
        if kept is not None and kept.plan is not None:
            found |= {group for group, note in kept.plan.groups.items() if note.refused}
    return found


def read_history(settings: Settings) -> pl.DataFrame:
    """Every finished scan of the catalog, the oldest first: the columns of :data:`PAST`."""
    return past_scans(open_catalog(settings))


def read_unfinished(settings: Settings) -> pl.DataFrame:
    """The scans that did not finish, the oldest first.

    Returns:
        scan_id, kind, started, finished (null while it runs, and where its process was killed),
        source, where, scope, threshold, dry_run, and state: ``failed: KIND OF ERROR``, or
        ``running`` for one that runs or was killed.
    """
    columns = [name for name in PAST if name in schema.SCANS.names]
    found = open_catalog(settings).read(
        "scans", [*columns, "state"], "NOT starts_with(state, 'finished')"
    )
    return found.with_columns(pl.col("threshold").cast(pl.Float64).round(6)).cast(
        {name: PAST[name] for name in columns}
    )


def past_scans(catalog: Catalog, before: Scan | None = None) -> pl.DataFrame:
    """The finished scans, the oldest first.

    Args:
        catalog: where they are.
        before: only those before this one that compared the same assets, dry runs left out.
    """
    where = "starts_with(state, 'finished')"
    if before is not None:
        where += f" AND NOT dry_run AND scope = {quote(before.scope)}"
    columns = [
        "started",
        "scan_id",
        "kind",
        "finished",
        "source",
        "where",
        "scope",
        "threshold",
        "dry_run",
        "counts",
    ]
    scans = catalog.read("scans", columns, where)
    if before is not None:
        scans = scans.filter(pl.col("started") < before.started)
    kept = dict(catalog.read("reports", ["scan_id", "totals"]).iter_rows())
    ended = dict(catalog.read("reports", ["scan_id", "finished"]).iter_rows())
    merges = _merges(catalog)
    rows = [
        _past(row, kept.get(row["scan_id"]), ended.get(row["scan_id"]), merges)
        for row in scans.iter_rows(named=True)
    ]
    return pl.DataFrame(rows, schema=PAST, orient="row")


def realised_bytes(catalog: Catalog, at: datetime) -> int:
    """Bytes that merges had taken out of the collection at a time, and not brought back."""
    return _realised(_merges(catalog), at)


def _past(
    row: dict[str, Any], totals: str | None, ended: datetime | None, merges: pl.DataFrame
) -> list[Any]:
    finished = ended or row["finished"]
    counts = json.loads(row["counts"])
    counted = json.loads(totals) if totals else _old_totals(counts)
    known = (
        row
        | counted
        | {
            "finished": finished,
            "threshold": round(row["threshold"], 6),  # float32 in the table
            "realised": _realised(merges, finished),
            "seconds": round((finished - row["started"]).total_seconds(), 3),
        }
    )
    return [known.get(name) for name in PAST]


def _old_totals(counts: dict[str, int]) -> dict[str, int | None]:
    """Of a scan whose totals were not kept, what its stages counted."""
    known = dict.fromkeys(_COUNTED) | {"seen": counts.get("seen"), "groups": counts.get("groups")}
    if "members" in counts:
        known["duplicates"] = counts["members"] - counts["groups"]
    return known | {"new": counts.get("new"), "changed": counts.get("groups_changed")}


def _merges(catalog: Catalog) -> pl.DataFrame:
    """What deletes of merge plans did, in order: plan, group, number, event, bytes, at."""
    return (
        read_events(catalog)
        .filter(
            (pl.col("number") >= 0)
            & (pl.col("kind") == OperationKind.DELETE.value)
            & pl.col("event").is_in([DONE, UNDONE])
        )
        .sort("sequence")
        .select("plan_id", "group_id", "number", "event", "bytes", "at")
    )


def _realised(merges: pl.DataFrame, at: datetime) -> int:
    ends = (
        merges.filter(pl.col("at") <= at)
        .group_by("plan_id", "group_id", "number", maintain_order=True)
        .last()
    )
    return int(ends.filter(pl.col("event") == DONE)["bytes"].sum())


def _plan_facts(plan: PlanNote | None) -> dict[str, Any] | None:
    if plan is None:
        return None
    facts = asdict(plan)
    for name in (
        "pages",
        "pages_until",
        "form",
        "groups",
    ):  # who has a link may decide: none is kept
        del facts[name]
    return facts


def _packed(plan: PlanNote | None) -> bytes:
    """What a plan says of each group: much the same of most, so it packs well."""
    notes = {name: asdict(note) for name, note in plan.groups.items()} if plan else {}
    return zlib.compress(json.dumps(notes).encode())


def _plan_note(facts: dict[str, Any] | None, packed: bytes) -> PlanNote | None:
    if facts is None:
        return None
    groups = {
        name: GroupNote(**note | {key: tuple(note[key]) for key in ("questions", "approvers")})
        for name, note in json.loads(zlib.decompress(packed)).items()
    }
    return PlanNote(**facts, groups=groups)
