"""The order of one scan, which reads like the sentence it is.

A stage is a plain function in a file of its own below ``tasks/``. :func:`_scan` calls them in
order, and that is the only list of them. The runner decides how a stage is called: on the command
line as it is (:func:`directly`), in a flow as a Prefect task with retries
(:func:`tasks.steps.as_task`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from reports.history import history_json
from reports.mail import narrow, scan_mail
from reports.metrics import failed_samples, scan_samples
from reports.page import report_page, totals
from reports.picture import overview_picture
from reports.table import alerts_json, coverage_csv, groups_json, pairs_csv, tables
from reports.words import ENGLISH
from tasks.delivery.logs import logged_as
from tasks.errors import IncompleteScanError
from tasks.intake.screen import ScreenCounts, screen_assets
from tasks.merging.plan import plan_scan
from tasks.preflight import preflight
from tasks.progress import Progress, silent
from tasks.records import Document, Receipt, Scan, now
from tasks.reporting.deliver import deliver_documents, send_mail, send_numbers
from tasks.reporting.history import keep_mailed, keep_report
from tasks.reporting.summarize import summarize_scan
from tasks.requests import ScanRequest
from tasks.scan.begin import begin_scan, catalog_turn
from tasks.scan.embed import EmbedCounts, embed_assets
from tasks.scan.finish import fail_scan, finish_scan
from tasks.scan.group import GroupCounts, group_assets
from tasks.scan.missing import MissingCount, count_missing
from tasks.scan.propose import ProposeCounts, propose_candidates
from tasks.scan.prove import ProveCounts, prove_pairs
from tasks.scan.sync import SyncCounts, sync_assets
from tasks.scan.verify import VerifyCounts, verify_candidates
from tasks.settings import Settings
from tasks.summary import STAGE, Summary

log = logging.getLogger(__name__)


P = ParamSpec("P")
R = TypeVar("R")


class Runner(Protocol):
    """Runs a stage: as it is, or as a Prefect task with its retries."""

    def __call__(self, stage: Callable[P, R], /, *args: P.args, **options: P.kwargs) -> R:
        """Call the stage and return its result; its errors are raised as they are."""


def directly(stage: Callable[P, R], /, *args: P.args, **options: P.kwargs) -> R:
    """Run a stage here and now: the runner where there is no Prefect."""
    return stage(*args, **options)


def no_form(plan_id: str) -> str | None:  # noqa: ARG001
    """Give no link to a plan's form: the choice where there is no Prefect UI."""
    return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished scan returns to whoever ran it.

    Attributes:
        mailed: whether there were mails, and all went out.
        refused: addresses that got none, while others of the same mail did.
        failed: of each mail that nobody got, to whom it was and why it failed.
        incomplete: how many images the storage did not show, where these are too many. Then there
            are documents, but no plan and no mail, and the scan counts as failed.
    """

    scan: Scan
    summary: Summary
    receipts: list[Receipt]
    mailed: bool
    refused: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    incomplete: str = ""

    def check(self) -> None:
        """Fail where too much is missing, once whoever ran the scan has shown its report.

        Raises:
            IncompleteScanError: saying how much, and what to do.
        """
        if self.incomplete:
            raise IncompleteScanError(
                f"the storage did not show {self.incomplete} of {self.scan.source}, tried "
                f"{len(self.scan.settings.source.retry_pauses) + 1} times; the report of what was "
                f"read is kept (dam-dedup report {self.scan.id}), nothing was planned or mailed. "
                "See that the storage answers, then scan again: only what is missing is read. "
                "DAM_DEDUP_SOURCE__MISSING_SHARE is how much may be missing"
            )


def run_scan(
    request: ScanRequest,
    settings: Settings,
    *,
    run: Runner = directly,
    progress: Progress = silent,
    folder: Path | None = None,
    form_link: Callable[[str], str | None] = no_form,
) -> Outcome:
    """Run one scan from its first stage to its last; the order is that of the code below.

    Scans of one catalog take turns, because every stage must see the assets that the scan's own
    sync saw. Taking the turn is not a stage: it is held from before the first to after the last.
    What would only fail at the end is looked at before: policy, delivery, model.

    Args:
        request: what to scan.
        settings: with catalog, source and model.
        run: runs each stage.
        progress: told how far a stage is.
        folder: where documents go, instead of the scan's folder in that of the settings.
        form_link: from a plan's id, the link at which its form can be filled in.
    """
    with logged_as(collection=settings.collection):
        try:
            run(preflight, request, settings)
            with catalog_turn(request, settings):
                outcome = _scan(run, request, settings, progress, folder, form_link)
        except Exception:
            send_numbers(request, settings, failed_samples(now()))
            raise
        numbers = scan_samples(
            outcome.summary, unsent=len(outcome.failed), incomplete=bool(outcome.incomplete)
        )
        send_numbers(request, settings, numbers)
    return outcome


def _scan(
    run: Runner,
    request: ScanRequest,
    settings: Settings,
    progress: Progress,
    folder: Path | None,
    form_link: Callable[[str], str | None],
) -> Outcome:
    scan = run(begin_scan, request, settings)
    with logged_as(scan=scan.id):
        return _stages(run, scan, progress, folder, form_link)


def _stages(
    run: Runner,
    scan: Scan,
    progress: Progress,
    folder: Path | None,
    form_link: Callable[[str], str | None],
) -> Outcome:
    settings, clock = scan.settings, Clock()
    try:
        synced, embedded, missing = _read(run, scan, progress, clock)
        space = embedded.space
        lacking = str(missing) if missing.too_many else ""
        proposed = clock.lap("propose", run(propose_candidates, scan, space, progress))
        verified = clock.lap("verify", run(verify_candidates, scan, space, progress))
        proven = clock.lap("prove", run(prove_pairs, scan, space, progress))
        grouped = clock.lap("group", run(group_assets, scan, space, progress))
        screened = clock.lap("screen", run(screen_assets, scan, space, progress))
        # A file that is missing might be the one that should stay.
        plan = None if lacking else clock.lap("plan", run(plan_scan, scan, space))
        counts = count(synced, embedded, proposed, verified, proven, grouped, screened) | clock.laps
        counts |= {"missing": missing.missing} if lacking else {}
        if plan is not None:
            plan = replace(plan, form=form_link(plan.id))
        summary = run(summarize_scan, scan, space, counts, plan=plan)
        run(keep_report, scan, summary, totals(summary))
        documents = render(summary, settings.mail.language)
        receipts = run(deliver_documents, scan, documents, folder)
        post = tell(run, scan, [] if lacking else compose(summary, receipts, settings))
        told = post.whole and not postponed(summary, settings)
        run(finish_scan, scan, space, counts, told, lacking)
    except Exception as error:
        fail_scan(scan, error)
        raise
    mailed = post.sent > 0 and post.whole
    return Outcome(scan, summary, receipts, mailed, post.refused, post.failed, lacking)


def _read(
    run: Runner, scan: Scan, progress: Progress, clock: Clock
) -> tuple[SyncCounts, EmbedCounts, MissingCount]:
    """Sync and embed, and both again after growing pauses while the storage fails to show much.

    Both find for themselves what is left to do, so a further try reads only what is missing.
    """
    synced = clock.lap("sync", run(sync_assets, scan, progress))
    embedded = clock.lap("embed", run(embed_assets, scan, progress))
    missing = run(count_missing, scan)
    for pause in scan.settings.source.retry_pauses:
        if not missing.too_many:
            break
        log.warning("the storage did not show %s; trying again in %d s", missing, pause)
        time.sleep(pause)
        run(sync_assets, scan, progress)
        more = run(embed_assets, scan, progress)
        embedded = replace(
            more, read=embedded.read + more.read, embedded=embedded.embedded + more.embedded
        )
        missing = clock.lap("again", run(count_missing, scan))
    return synced, embedded, missing


class Clock:
    """Milliseconds by stage, as counts that are kept with the scan."""

    def __init__(self) -> None:
        self.laps: dict[str, int] = {}
        self._last = time.monotonic()

    def lap(self, stage: str, counts: R) -> R:
        """Note the time since the last lap as the stage's; returns the stage's counts unchanged."""
        now = time.monotonic()
        name = STAGE + stage  # a stage that is tried again has the time of all its tries
        self.laps[name] = self.laps.get(name, 0) + round((now - self._last) * 1000)
        self._last = now
        return counts


@dataclass(frozen=True, slots=True)
class Post:
    """What became of a scan's mails.

    Attributes:
        sent: how many went out.
        whole: whether all of them did; also where there was none.
        refused: addresses that were refused while others of the same mail were not.
        failed: of each mail that nobody got, to whom it was and why it failed.
    """

    sent: int
    whole: bool
    refused: tuple[str, ...]
    failed: tuple[str, ...] = ()


def tell(run: Runner, scan: Scan, mails: list[EmailMessage]) -> Post:
    """Send the mails; a mail server that is down must not lose the scan, whose report is kept."""
    sent, refused, failed = 0, list[str](), list[str]()
    for mail in [] if scan.dry_run else mails:
        try:
            refused += run(send_mail, scan, mail)
            sent += 1
        except Exception as error:  # whatever its type, the scan is done and its report is kept
            log.error("the report is delivered, the mail to %s is not: %s", mail["To"], error)
            failed.append(f"to {mail['To']}: {error}")
    whole = scan.dry_run or sent == len(mails)
    if sent and whole:
        run(keep_mailed, scan)
    return Post(sent, whole, tuple(refused), tuple(failed))


def count(
    synced: SyncCounts,
    embedded: EmbedCounts,
    proposed: ProposeCounts,
    verified: VerifyCounts,
    proven: ProveCounts,
    grouped: GroupCounts,
    screened: ScreenCounts,
) -> dict[str, int]:
    """The counts of all stages, as one mapping that is kept with the scan."""
    return {
        **asdict(synced),
        "read": embedded.read,
        "embedded": embedded.embedded,
        **asdict(proposed),
        **asdict(verified),
        **asdict(proven),
        **{name: value for name, value in asdict(grouped).items() if name != "changed"},
        "groups_changed": grouped.changed,
        "alerts_new": screened.alerts,
    }


def render(summary: Summary, language: str = ENGLISH) -> list[Document]:
    """Every document of a scan; the report in a language, for data files keep their terms."""
    picture = overview_picture(summary)
    return [
        report_page(summary, language=language),
        groups_json(summary),
        pairs_csv(summary),
        coverage_csv(summary),
        alerts_json(summary),
        *tables(summary),
        history_json(summary),
        *([picture] if picture else []),
    ]


def compose(summary: Summary, receipts: list[Receipt], settings: Settings) -> list[EmailMessage]:
    """The mails of a scan; none when there is no news, or nobody to tell.

    The owners get one mail about all groups. Where people decide on signed pages, each owner gets
    one, with a link of the owner's own. A reviewer gets one about the groups in that reviewer's
    part of the collection.
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
    # A schedule does not start to the second, so a digest that is due within five minutes goes out.
    due = summary.mailed + timedelta(hours=mail.digest_hours) - timedelta(minutes=5)
    return summary.has_news and summary.started < due
