"""What the commands of scans print: a result, and the list of scans."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reports.history import plain, with_trends
from reports.page import headline, totals
from reports.words import counted, human_bytes, moment, proof_words, reason_words, shown_key

if TYPE_CHECKING:
    from flows.order import Outcome


def show_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """The result on standard output: for people, or one JSON object."""
    summary = outcome.summary
    places = {receipt.name: receipt.place for receipt in outcome.receipts}
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "scan": summary.scan_id,
                    "kind": summary.kind.value,
                    "source": summary.source,
                    "where": summary.where,
                    "across": summary.across,
                    "threshold": summary.threshold,
                    "seconds": round((summary.finished - summary.started).total_seconds(), 2),
                    "counts": summary.counts,
                    "totals": totals(summary),
                    "coverage": {
                        "seen": summary.coverage.seen,
                        "scanned": summary.coverage.scanned,
                        "skipped": summary.coverage.skipped,
                        "failed": summary.coverage.failed,
                    },
                    "documents": places,
                    "mailed": outcome.mailed,
                    "refused": list(outcome.refused),
                    "lost": list(summary.lost),
                }
            )
        )
        return
    counts = summary.counts
    typer.echo(headline(summary))
    typer.echo(
        f"  {counts['added']:,} added, {counts['changed']:,} changed, "
        f"{counts['removed']:,} removed; "
        f"{counts['embedded']:,} embedded, {counts['compared']:,} compared, "
        f"{(summary.finished - summary.started).total_seconds():.1f} s"
    )
    unanswered = counts.get("unanswered", 0)  # scans of before did not count them
    if unanswered:
        typer.echo(
            f"  {counted(unanswered, 'pair')} could not be compared: duplicates among them are not "
            "found; the next scan tries again"
        )
    for line in proof_words(counts):
        typer.echo(f"  {line}")
    for outcome_name, reasons in (
        ("skipped", summary.coverage.skipped),
        ("failed", summary.coverage.failed),
    ):
        for reason, number in reasons.items():
            typer.echo(f"  {outcome_name}: {counted(number, 'object')}: {reason_words(reason)}")
    for place in places.values():
        typer.echo(f"  {place}")


def warn_lost(scan_id: str, lost: Sequence[str]) -> None:
    """Say on standard error why a report is not the one that was delivered then."""
    if lost:
        typer.echo(
            f"the report of {scan_id} cannot be made exactly as it was: {'; '.join(lost)}", err=True
        )


def show_history(history: pl.DataFrame, unfinished: pl.DataFrame, *, as_json: bool) -> None:
    """The scans, the oldest first: a table for people, or JSON.

    Args:
        history: the finished scans, the columns of ``tasks.reporting.history.PAST``.
        unfinished: the others, with a column ``state``; they count nothing, so that the scan after
            one of them is compared with the last that finished.
        as_json: JSON instead of a table.
    """
    finished = with_trends(history).with_columns(pl.lit("finished").alias("state"))
    rows = pl.concat([finished, unfinished], how="diagonal").sort("started")
    if as_json:
        typer.echo(json.dumps([plain(row) for row in rows.to_dicts()], indent=1))
        return
    if rows.is_empty():
        typer.echo("no scan yet; run `dam-dedup scan`")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in _HISTORY:
        table.add_column(name, justify="left" if name in _WORDS else "right")
    place: tuple[str, str, float] | None = None
    for row in rows.iter_rows(named=True):
        if place != (place := (row["source"], row["where"], row["threshold"])):
            where = f" where {shown_key(row['where'])}" if row["where"] else ""
            title = f"{shown_key(row['source'])}{where}, threshold {row['threshold']:g}"
            table.add_row(escape(title), style="dim", end_section=False)
        table.add_row(*_history_cells(row))
    # As wide as it needs: piped, it must not be folded to 80 columns.
    Console(width=None if sys.stdout.isatty() else 400, highlight=False).print(table)


_HISTORY = (
    "scan",
    "kind",
    "state",
    "finished",
    "groups",
    "duplicates",
    "new",
    "changed",
    "could be saved",
    "saved by merges",
)


#: Columns of text, which stand at the left.
_WORDS = ("scan", "kind", "state")


def _history_cells(row: dict[str, Any]) -> list[str]:
    def moved(name: str) -> str:
        by = row[f"{name}_by"]
        return f" ({by:+,})" if by else ""

    def number(name: str) -> str:
        return "-" if row[name] is None else f"{row[name]:,}"

    savings = "-" if row["savings"] is None else human_bytes(row["savings"])
    return [
        row["scan_id"],
        row["kind"] + (", dry run" if row["dry_run"] else ""),
        row["state"],
        moment(row["finished"]) if row["finished"] else "-",
        number("groups") + moved("groups"),
        number("duplicates") + moved("duplicates"),
        number("new"),
        number("changed"),
        savings,
        "-" if row["realised"] is None else human_bytes(row["realised"]),
    ]
