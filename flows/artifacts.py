"""What a scan leaves on its run page in the Prefect UI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows.order import Outcome
from reports.check import COLUMNS, check_markdown, check_rows, checked_data
from reports.check import headline as headline_of
from reports.page import headline, totals
from reports.run import summary_markdown
from tasks.ask import question_of
from tasks.records import Checked, CheckRequest, Receipt
from tasks.settings import Settings

#: Rows of the table artifact: artifacts live in Prefect's database, so they stay small.
_ROWS = 200


def publish(outcome: Outcome) -> dict[str, int]:
    """Summary, table of groups and links, as artifacts; returns the totals.

    The keys are stable, so that the UI shows their history from run to run.
    """
    summary = outcome.summary
    create_markdown_artifact(
        summary_markdown(summary, outcome.receipts),
        key="scan-summary",
        description=headline(summary),
    )
    columns = ["group_id", "state", "tier", "size", "savings", "score", "keeper"]
    rows = summary.groups.select(pl.col(columns)).head(_ROWS).to_dicts()
    create_table_artifact(rows, key="duplicate-groups", description=f"The first {len(rows)} groups")
    for receipt in outcome.receipts:
        if receipt.name == "report.html":
            create_link_artifact(
                _link(receipt),
                key=_key(receipt),
                link_text=receipt.place,
                description="The report with thumbnails",
            )
    return totals(summary)


def _link(receipt: Receipt) -> str:
    if receipt.link:
        return receipt.link
    return receipt.place if "://" in receipt.place else Path(receipt.place).as_uri()


def _key(receipt: Receipt) -> str:
    return "report-in-bucket" if receipt.place.startswith("s3://") else "report-file"


def publish_check(request: CheckRequest, checked: Checked, settings: Settings) -> dict[str, Any]:
    """What a check found, as markdown and a table; returns it as data."""
    question, name = question_of(request, settings), request.asset or request.url
    create_markdown_artifact(
        check_markdown(name, checked, question), key="check", description=headline_of(name, checked)
    )
    rows = check_rows(checked)[:_ROWS]
    create_table_artifact(
        rows, key="check-found", description=f"{len(rows)} of {checked.total} matches"
    )
    return checked_data(checked, question, COLUMNS)
