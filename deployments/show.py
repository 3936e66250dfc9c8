"""What the command line shows: progress bars while work goes on, the result in plain words."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flows.order import Outcome
from reports.page import headline, totals
from reports.words import counted, reason_words
from tasks.progress import Progress as Tell
from tasks.progress import silent


@contextlib.contextmanager
def progress_bars() -> Iterator[Tell]:
    """Bars on standard error while it is a terminal; silence when it is piped."""
    if not sys.stderr.isatty():
        yield silent
        return
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<6}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    known: dict[str, TaskID] = {}

    def tell(stage: str, done: int, total: int | None) -> None:
        if stage not in known:
            known[stage] = bars.add_task(stage, total=total)
        bars.update(known[stage], completed=done, total=total)

    with bars:
        yield tell


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
    for outcome_name, reasons in (
        ("skipped", summary.coverage.skipped),
        ("failed", summary.coverage.failed),
    ):
        for reason, number in reasons.items():
            typer.echo(f"  {outcome_name}: {counted(number, 'object')}: {reason_words(reason)}")
    for place in places.values():
        typer.echo(f"  {place}")
