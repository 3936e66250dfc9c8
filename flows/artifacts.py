"""What a scan leaves on its run page in the Prefect UI."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.order import Outcome
from reports.check import COLUMNS, check_markdown, check_rows, checked_data
from reports.check import headline as headline_of
from reports.page import headline, totals
from reports.run import group_rows, summary_markdown
from reports.words import link_end
from tasks.intake.check_request import question_of
from tasks.records import Checked, Receipt
from tasks.requests import CheckRequest
from tasks.settings import Settings

#: Rows of the table artifact: artifacts live in Prefect's database, so they stay small.
_ROWS = 200
#: Documents with a link of their own, and what each is for.
_LINKED = {
    "report.html": "The report with thumbnails",
    "groups.json": "All groups as data",
    "pairs.csv": "All pairs, for a spreadsheet",
    "history.json": "What the scans before found",
    "overview.jpg": "A picture of the first groups",
}


def publish(outcome: Outcome) -> dict[str, int]:
    """Summary, table of groups and links, as artifacts; returns the totals.

    The keys carry the collection and are stable, so that the UI shows their history from run to
    run, and two collections do not share one.
    """
    summary, settings = outcome.summary, outcome.scan.settings
    unsent = "THE MAIL WAS NOT SENT. " if outcome.failed else ""
    create_markdown_artifact(
        summary_markdown(summary, outcome.receipts, outcome.refused, outcome.failed),
        key=key_of(settings, "summary"),
        description=unsent + headline(summary),
    )
    rows = group_rows(summary, _ROWS)
    create_table_artifact(
        rows,
        key=key_of(settings, "groups"),
        description=f"The first {len(rows)} of {summary.groups.height} groups",
    )
    links = [
        f"- [{_LINKED[receipt.name]}]({receipt.link})"
        for receipt in outcome.receipts
        if receipt.name in _LINKED and _public(receipt)
    ]
    if links:
        ends = {link_end(receipt) for receipt in outcome.receipts if _public(receipt)} - {""}
        links += [f"\n{one}" for one in sorted(ends)]
        create_markdown_artifact(
            "\n".join(links), key=key_of(settings, "links"), description="The documents"
        )
    return totals(summary)


def key_of(settings: Settings, what: str) -> str:
    """An artifact's key: only small letters, digits and dashes are allowed in it."""
    name = re.sub(r"[^a-z0-9]+", "-", settings.collection.lower()).strip("-") or "collection"
    return f"{name}-{what}"


def _public(receipt: Receipt) -> bool:
    """Whether a browser that shows the run page can fetch it; a worker's folder it cannot."""
    return urlsplit(receipt.link or "").scheme in ("http", "https")


def publish_check(request: CheckRequest, checked: Checked, settings: Settings) -> dict[str, Any]:
    """What a check found, as markdown and a table; returns it as data."""
    question, name = question_of(request, settings), request.asset or request.url
    create_markdown_artifact(
        check_markdown(name, checked, question),
        key=key_of(settings, "check"),
        description=headline_of(name, checked),
    )
    rows = check_rows(checked)[:_ROWS]
    create_table_artifact(
        rows,
        key=key_of(settings, "check-found"),
        description=f"{len(rows)} of {checked.total} matches",
    )
    return checked_data(checked, question, COLUMNS)
