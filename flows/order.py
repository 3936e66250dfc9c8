"""The order of one scan, which reads like the sentence it is.

The same order runs as a Prefect flow (``tasks.steps``: every stage a task with its retries) and
without any Prefect server (``tasks.stages``: the stages themselves).
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol

from reports.mail import scan_mail
from reports.page import report_page
from reports.table import alerts_json, coverage_csv, groups_json, pairs_csv
from tasks.embed import EmbedCounts
from tasks.errors import DeliveryError
from tasks.group import GroupCounts
from tasks.match import MatchCounts
from tasks.progress import Progress, silent
from tasks.records import Document, PlanNote, Receipt, Scan, ScanRequest, Space, Summary
from tasks.screen import ScreenCounts
from tasks.settings import Settings
from tasks.sync import SyncCounts

log = logging.getLogger(__name__)


class Steps(Protocol):
    """The stages, as plain functions or as Prefect tasks."""

    def catalog_turn(  # noqa: D102
        self, request: ScanRequest, settings: Settings
    ) -> AbstractContextManager[None]: ...
    def begin_scan(self, request: ScanRequest, settings: Settings) -> Scan: ...  # noqa: D102
    def sync_assets(self, scan: Scan, progress: Progress) -> SyncCounts: ...  # noqa: D102
    def embed_assets(self, scan: Scan, progress: Progress) -> EmbedCounts: ...  # noqa: D102
    def match_assets(self, scan: Scan, space: Space, progress: Progress) -> MatchCounts: ...  # noqa: D102
    def group_assets(self, scan: Scan, space: Space, progress: Progress) -> GroupCounts: ...  # noqa: D102
    def screen_assets(self, scan: Scan, space: Space, progress: Progress) -> ScreenCounts: ...  # noqa: D102
    def plan_scan(self, scan: Scan, space: Space) -> PlanNote | None: ...  # noqa: D102
    def summarize_scan(self, scan: Scan, space: Space, counts: dict[str, int]) -> Summary: ...  # noqa: D102
    def deliver_documents(  # noqa: D102
        self, scan: Scan, documents: list[Document], folder: Path | None = None
    ) -> list[Receipt]: ...
    def send_mail(self, scan: Scan, mail: EmailMessage) -> None: ...  # noqa: D102
    def finish_scan(  # noqa: D102
        self, scan: Scan, space: Space, counts: dict[str, int], told: bool
    ) -> None: ...
    def fail_scan(self, scan: Scan, error: BaseException) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished scan leaves in the hands of whoever ran it."""

    scan: Scan
    summary: Summary
    receipts: list[Receipt]
    mailed: bool


def run_scan(
    steps: Steps,
    request: ScanRequest,
    settings: Settings,
    *,
    progress: Progress = silent,
    folder: Path | None = None,
) -> Outcome:
    """Begin, sync, embed, match, group, screen, plan, summarize, render, deliver, mail, finish.

    Scans of one catalog take turns: every stage must see the assets that its sync saw.
    """
    with steps.catalog_turn(request, settings):
        return _scan(steps, request, settings, progress, folder)


def _scan(
    steps: Steps,
    request: ScanRequest,
    settings: Settings,
    progress: Progress,
    folder: Path | None,
) -> Outcome:
    scan = steps.begin_scan(request, settings)
    try:
        synced = steps.sync_assets(scan, progress)
        embedded = steps.embed_assets(scan, progress)
        matched = steps.match_assets(scan, embedded.space, progress)
        grouped = steps.group_assets(scan, embedded.space, progress)
        screened = steps.screen_assets(scan, embedded.space, progress)
        plan = steps.plan_scan(scan, embedded.space)
        counts = count(synced, embedded, matched, grouped) | {"alerts_new": screened.alerts}
        summary = replace(steps.summarize_scan(scan, embedded.space, counts), plan=plan)
        documents = render(summary, settings.delivery.page_groups)
        receipts = steps.deliver_documents(scan, documents, folder)
        mails = [] if scan.dry_run else compose(summary, receipts, settings)
        mailed = [_send(steps, scan, mail) for mail in mails]
        steps.finish_scan(scan, embedded.space, counts, all(mailed))
    except Exception as error:
        steps.fail_scan(scan, error)
        raise
    return Outcome(scan, summary, receipts, bool(mailed) and all(mailed))


def _send(steps: Steps, scan: Scan, mail: EmailMessage) -> bool:
    """Send the mail; a mail server that is down must not lose the scan, whose report is kept."""
    try:
        steps.send_mail(scan, mail)
    except DeliveryError as error:
        log.error("the report is delivered, the mail is not: %s", error)
        return False
    return True


def count(
    synced: SyncCounts, embedded: EmbedCounts, matched: MatchCounts, grouped: GroupCounts
) -> dict[str, int]:
    """The stages' counts under one roof."""
    return {
        **asdict(synced),
        "read": embedded.read,
        "embedded": embedded.embedded,
        **asdict(matched),
        **{name: value for name, value in asdict(grouped).items() if name != "changed"},
        "groups_changed": grouped.changed,
    }


def render(summary: Summary, drawn: int) -> list[Document]:
    """Every document of a scan."""
    return [
        report_page(summary, drawn),
        groups_json(summary),
        pairs_csv(summary),
        coverage_csv(summary),
        alerts_json(summary),
    ]


def compose(summary: Summary, receipts: list[Receipt], settings: Settings) -> list[EmailMessage]:
    """The mails; none when there is nothing to say or nobody to tell.

    One to everybody, or where people decide on pages signed for them, one to each.
    """
    mail = settings.mail
    if not mail.to or (mail.when == "news" and not summary.has_news):
        return []
    if summary.plan and summary.plan.pages:
        return [scan_mail(summary, receipts, mail.sender, [person]) for person in mail.to]
    return [scan_mail(summary, receipts, mail.sender, mail.to)]
