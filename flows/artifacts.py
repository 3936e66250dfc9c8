"""What a scan leaves on its run page in the Prefect UI."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows.order import Outcome
from reports.page import headline, totals
from reports.run import summary_markdown
from tasks.records import Receipt

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
