"""What a scan leaves on its run page in the Prefect UI."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows.order import Outcome
from reports.check import COLUMNS, check_markdown, check_rows, checked_data
from reports.check import headline as headline_of
from reports.page import headline, totals
from reports.run import code, group_rows, summary_markdown
from tasks.intake.check_request import question_of
from tasks.records import Checked, CheckRequest, Receipt
from tasks.settings import Settings

#: Rows of the table artifact: artifacts live in Prefect's database, so they stay small.
_ROWS = 200
#: Documents with a link of their own, and what each is for.
_LINKED = {
    "report.html": "The report with thumbnails",
    "groups.json": "All groups as data",
    "pairs.csv": "All pairs, for a spreadsheet",
    "history.json": "What the scans before found",
}


def publish(outcome: Outcome) -> dict[str, int]:
    """Summary, table of groups, a picture and links, as artifacts; returns the totals.

    The keys are stable, so that the UI shows their history from run to run.
    """
    summary = outcome.summary
    create_markdown_artifact(
        summary_markdown(summary, outcome.receipts, outcome.refused),
        key="scan-summary",
        description=headline(summary),
    )
    rows = group_rows(summary, _ROWS)
    create_table_artifact(
        rows,
        key="duplicate-groups",
        description=f"The first {len(rows)} of {summary.groups.height} groups",
    )
    for receipt in outcome.receipts:
        if receipt.name in _LINKED:
            create_link_artifact(
                _link(receipt),
                key=_key(receipt),
                link_text=code(receipt.place).strip("`"),
                description=_LINKED[receipt.name],
            )
        elif receipt.name == "overview.jpg" and _public(receipt):
            create_image_artifact(
                str(receipt.link),
                key="overview",
                description="The first groups: keeper left, duplicate right",
            )
    return totals(summary)


def _public(receipt: Receipt) -> bool:
    """Whether a browser that shows the run page can fetch it."""
    return urlsplit(receipt.link or "").scheme in ("http", "https")


def _link(receipt: Receipt) -> str:
    if receipt.link:
        return receipt.link
    return receipt.place if "://" in receipt.place else Path(receipt.place).as_uri()


def _key(receipt: Receipt) -> str:
    name = receipt.name.partition(".")[0]
    return f"{name}-in-bucket" if receipt.place.startswith("s3://") else f"{name}-file"


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
