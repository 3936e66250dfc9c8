"""The order of one scan, which reads like the sentence it is.

The same order runs as a Prefect flow (``tasks.steps``: every stage a task with its retries) and
without any Prefect server (``tasks.stages``: the stages themselves).
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol

from reports.history import history_json
from reports.mail import narrow, scan_mail
from reports.page import report_page, totals
from reports.picture import overview_picture
from reports.table import alerts_json, coverage_csv, groups_json, pairs_csv, tables
from tasks.errors import DeliveryError
from tasks.intake.screen import ScreenCounts
from tasks.progress import Progress, silent
from tasks.records import (
    STAGE,
    Document,
    PlanNote,
    Receipt,
    Scan,
    ScanRequest,
    Space,
    Summary,
)
from tasks.scan.embed import EmbedCounts
from tasks.scan.group import GroupCounts
from tasks.scan.sync import SyncCounts
from tasks.scan.verify import MatchCounts
from tasks.settings import Settings

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
    def keep_report(  # noqa: D102
        self, scan: Scan, summary: Summary, totals: dict[str, int]
    ) -> None: ...
    def send_mail(self, scan: Scan, mail: EmailMessage) -> list[str]: ...  # noqa: D102
    def keep_mailed(self, scan: Scan) -> None: ...  # noqa: D102
    def finish_scan(  # noqa: D102
        self, scan: Scan, space: Space, counts: dict[str, int], told: bool
    ) -> None: ...
    def fail_scan(self, scan: Scan, error: BaseException) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished scan leaves in the hands of whoever ran it.

    Attributes:
        mailed: whether there were mails, and all went out.
        refused: addresses that got none, while others of the same mail did.
    """

    scan: Scan
    summary: Summary
    receipts: list[Receipt]
    mailed: bool
    refused: tuple[str, ...] = ()


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
    clock = Clock()
    try:
        synced = steps.sync_assets(scan, progress)
        clock.lap("sync")
        embedded = steps.embed_assets(scan, progress)
        clock.lap("embed")
        matched = steps.match_assets(scan, embedded.space, progress)
        clock.lap("match")
        grouped = steps.group_assets(scan, embedded.space, progress)
        clock.lap("group")
        screened = steps.screen_assets(scan, embedded.space, progress)
        clock.lap("screen")
        plan = steps.plan_scan(scan, embedded.space)
        clock.lap("plan")
        counts = count(synced, embedded, matched, grouped) | clock.laps
        counts |= {"alerts_new": screened.alerts}
        summary = replace(steps.summarize_scan(scan, embedded.space, counts), plan=plan)
        steps.keep_report(scan, summary, totals(summary))
        documents = render(summary)
        receipts = steps.deliver_documents(scan, documents, folder)
        post = tell(steps, scan, compose(summary, receipts, settings))
        told = post.whole and not postponed(summary, settings)
        steps.finish_scan(scan, embedded.space, counts, told)
    except Exception as error:
        steps.fail_scan(scan, error)
        raise
    return Outcome(scan, summary, receipts, post.sent > 0 and post.whole, post.refused)


class Clock:
    """Seconds by stage, as counts that are kept with the scan."""

    def __init__(self) -> None:
        self.laps: dict[str, int] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        """The stage ended now, and began when the one before it ended."""
        now = time.monotonic()
        self.laps[STAGE + stage] = round((now - self._last) * 1000)
        self._last = now


@dataclass(frozen=True, slots=True)
class Post:
    """What became of a scan's mails.

    Attributes:
        sent: how many went out.
        whole: whether all of them did; also where there was none.
        refused: addresses that were refused while others of the same mail were not.
    """

    sent: int
    whole: bool
    refused: tuple[str, ...]


def tell(steps: Steps, scan: Scan, mails: list[EmailMessage]) -> Post:
    """Send the mails; a mail server that is down must not lose the scan, whose report is kept."""
    sent, refused = 0, list[str]()
    for mail in [] if scan.dry_run else mails:
        try:
            refused += steps.send_mail(scan, mail)
            sent += 1
        except DeliveryError as error:
            log.error("the report is delivered, the mail to %s is not: %s", mail["To"], error)
    whole = scan.dry_run or sent == len(mails)
    if sent and whole:
        steps.keep_mailed(scan)
    return Post(sent, whole, tuple(refused))


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


def render(summary: Summary) -> list[Document]:
    """Every document of a scan."""
    picture = overview_picture(summary)
    return [
        report_page(summary),
        groups_json(summary),
        pairs_csv(summary),
        coverage_csv(summary),
        alerts_json(summary),
        *tables(summary),
        history_json(summary),
        *([picture] if picture else []),
    ]


def compose(summary: Summary, receipts: list[Receipt], settings: Settings) -> list[EmailMessage]:
    """The mails; none when there is nothing to say or nobody to tell.

    The owners get one about everything, or where people decide on pages signed for them, one
    each. A reviewer gets one about the groups of that reviewer's part.
    """
    mail = settings.mail
    if postponed(summary, settings):
        return []
    letters = []
    if mail.when == "always" or summary.has_news:
        pages = summary.plan.pages if summary.plan else {}
        to = [[person] for person in mail.to] if pages else [mail.to] if mail.to else []
        letters += [scan_mail(summary, receipts, mail, people) for people in to]
    for person in mail.reviewers:
        mine = narrow(summary, person)
        if mine.has_news or (mail.when == "always" and mine.groups.height):
            letters.append(scan_mail(mine, [], mail, [person], part=True))
    return letters


def postponed(summary: Summary, settings: Settings) -> bool:
    """Whether there is news that waits for the next digest."""
    mail = settings.mail
    if mail.when != "digest" or summary.mailed is None or not (mail.to or mail.reviewers):
        return False
    # A schedule does not start to the second: what is due within minutes is due.
    due = summary.mailed + timedelta(hours=mail.digest_hours) - timedelta(minutes=5)
    return summary.has_news and summary.started < due
