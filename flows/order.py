"""The order of one scan, which reads like the sentence it is.

The same order runs as a Prefect flow (``tasks.steps``: every stage a task with its retries) and
without any Prefect server (``tasks.stages``: the stages themselves).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol

from reports.mail import scan_mail
from reports.page import report_page
from reports.table import coverage_csv, groups_json, pairs_csv
from tasks.embed import EmbedCounts
from tasks.group import GroupCounts
from tasks.match import MatchCounts
from tasks.progress import Progress, silent
from tasks.records import Document, Receipt, Scan, ScanRequest, Space, Summary
from tasks.settings import Settings
from tasks.sync import SyncCounts


class Steps(Protocol):
    """The stages, as plain functions or as Prefect tasks."""

    def begin_scan(self, request: ScanRequest, settings: Settings) -> Scan: ...  # noqa: D102
    def sync_assets(self, scan: Scan, progress: Progress) -> SyncCounts: ...  # noqa: D102
    def embed_assets(self, scan: Scan, progress: Progress) -> EmbedCounts: ...  # noqa: D102
    def match_assets(self, scan: Scan, space: Space, progress: Progress) -> MatchCounts: ...  # noqa: D102
    def group_assets(self, scan: Scan, space: Space, progress: Progress) -> GroupCounts: ...  # noqa: D102
    def summarize_scan(self, scan: Scan, space: Space, counts: dict[str, int]) -> Summary: ...  # noqa: D102
    def deliver_documents(  # noqa: D102
        self, scan: Scan, documents: list[Document], folder: Path | None = None
    ) -> list[Receipt]: ...
    def send_mail(self, scan: Scan, mail: EmailMessage | None) -> bool: ...  # noqa: D102
    def finish_scan(self, scan: Scan, space: Space, counts: dict[str, int]) -> None: ...  # noqa: D102
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
    """Begin, sync, embed, match, group, summarize, render, deliver, mail, finish."""
    scan = steps.begin_scan(request, settings)
    try:
        synced = steps.sync_assets(scan, progress)
        embedded = steps.embed_assets(scan, progress)
        matched = steps.match_assets(scan, embedded.space, progress)
        grouped = steps.group_assets(scan, embedded.space, progress)
        counts = count(synced, embedded, matched, grouped)
        summary = steps.summarize_scan(scan, embedded.space, counts)
        documents = render(summary, settings.delivery.page_groups)
        receipts = steps.deliver_documents(scan, documents, folder)
        mailed = steps.send_mail(scan, compose(summary, receipts, settings))
        steps.finish_scan(scan, embedded.space, counts)
    except Exception as error:
        steps.fail_scan(scan, error)
        raise
    return Outcome(scan, summary, receipts, mailed)


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
    ]


def compose(summary: Summary, receipts: list[Receipt], settings: Settings) -> EmailMessage | None:
    """The mail, or None when there is nothing to say or nobody to tell."""
    mail = settings.mail
    if not mail.to or (mail.when == "news" and not summary.has_news):
        return None
    return scan_mail(summary, receipts, mail.sender, mail.to)
