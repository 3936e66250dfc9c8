"""The stages as Prefect tasks: every retry and timeout on this one page.

The wrappers hold no logic. Results are never persisted or cached: what was done is known from the
catalog, so a task that runs again finds what is left to do. Tasks carry no tags: each tag makes
the server look for a concurrency limit at every task: 6 of the 15 seconds of an idle scan.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import replace
from email.message import EmailMessage
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

from prefect import get_client, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.blocks.system import Secret
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task
from prefect.utilities.urls import url_for
from pydantic import SecretStr

from tasks import stages
from tasks.errors import (
    CatalogBusyError,
    DamDedupError,
    DeliveryError,
    MailError,
    SettingsError,
    TransientSourceError,
)
from tasks.intake.bucket_events import Followed
from tasks.intake.screen import ScreenCounts
from tasks.merging.merge import MergeOutcome
from tasks.merging.quarantine import Quarantined
from tasks.merging.undo import UndoOutcome
from tasks.progress import Progress, silent
from tasks.records import (
    Checked,
    CheckRequest,
    Document,
    EmptyRequest,
    KeysRequest,
    MergeRequest,
    PlanNote,
    Receipt,
    Scan,
    ScanRequest,
    Space,
    Summary,
    UndoRequest,
    VerdictRequest,
)
from tasks.scan.embed import EmbedCounts
from tasks.scan.group import GroupCounts
from tasks.scan.sync import SyncCounts
from tasks.scan.verify import MatchCounts
from tasks.settings import Settings

log = logging.getLogger(__name__)
Stage = TypeVar("Stage", bound=Callable[..., Any])

# PREFECT_LOGGING_EXTRA_LOGGERS gives our loggers the handler of the Prefect UI, but not its level.
for _name in ("tasks", "flows", "reports"):
    logging.getLogger(_name).setLevel(logging.INFO)


def _worth_retrying(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether the error may pass by itself; a wrong setting, key or filter does not.

    A mail was tried as often as the settings say before it becomes an error.
    """
    error = state.result(raise_on_failure=False)
    passing = isinstance(error, (TransientSourceError, CatalogBusyError, DeliveryError))
    passing = passing and not isinstance(error, MailError)
    return passing or not isinstance(error, DamDedupError)


def _step(seconds: float) -> Callable[[Stage], Task[..., Any]]:
    return task(
        retries=3,
        retry_delay_seconds=[2, 10, 60],
        retry_jitter_factor=0.5,
        retry_condition_fn=_worth_retrying,
        timeout_seconds=seconds,
        cache_policy=NO_CACHE,
        persist_result=False,
        log_prints=False,
    )


HOUR = 3600.0


_KEYS = ("access_key_id", "secret_access_key")


def with_credentials(settings: Settings) -> Settings:
    """The settings, with the credentials of the Prefect blocks they name, loaded now.

    Raises:
        SettingsError: when there is no such block, or it holds something else.
    """
    settings = _with_mail_server(settings)
    name = settings.s3.credentials_block
    if not name:
        return settings
    try:
        value = Secret.load(name).get()  # type: ignore[union-attr]
        given = value if isinstance(value, dict) else json.loads(value)
        secrets = {key: SecretStr(given[key]) for key in _KEYS}
        if given.get("session_token"):
            secrets["session_token"] = SecretStr(given["session_token"])
    except Exception as error:
        raise SettingsError(
            f"DAM_DEDUP_S3__CREDENTIALS_BLOCK={name}: cannot use this Secret block ({error!r}); it "
            'must hold JSON: {"access_key_id": "...", "secret_access_key": "..."}'
        ) from None
    return settings.model_copy(update={"s3": settings.s3.model_copy(update=secrets)})


#: The block's words for how a connection is encrypted: ours, and the usual port.
_TLS = {"SSL": ("tls", 465), "STARTTLS": ("starttls", 587), "INSECURE": ("none", 25)}


def _with_mail_server(settings: Settings) -> Settings:
    name = settings.mail.server_block
    if not name:
        return settings
    try:
        found = import_module("prefect_email").EmailServerCredentials.load(name)
        tls, port = _TLS[str(getattr(found.smtp_type, "name", found.smtp_type)).upper()]
        given: dict[str, Any] = {
            "host": str(getattr(found.smtp_server, "value", found.smtp_server)),
            "port": int(found.smtp_port or port),
            "tls": tls,
            "username": found.username,
            "password": found.password,
        }
    except ModuleNotFoundError:
        raise SettingsError(
            f"DAM_DEDUP_MAIL__SERVER_BLOCK={name} needs the package prefect-email, which is not "
            "installed here: pip install prefect-email, or set DAM_DEDUP_MAIL__HOST and the others"
        ) from None
    except Exception as error:
        raise SettingsError(
            f"DAM_DEDUP_MAIL__SERVER_BLOCK={name}: cannot use this block ({error!r}); it must be "
            "an EmailServerCredentials block"
        ) from None
    return settings.model_copy(update={"mail": settings.mail.model_copy(update=given)})


class _Bar:
    """Progress as an artifact on the run page, updated every two seconds at most.

    Updates go out from a thread of their own and are dropped while one is under way: a Prefect
    server that is slow for a while must not slow the scan.
    """

    def __init__(self) -> None:
        self._artifact: UUID | None = None
        self._told = 0.0
        self._thread = ThreadPoolExecutor(1, "progress")
        self._under_way: Future[None] | None = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if not total or (time.monotonic() - self._told < 2 and done < total):
            return
        self._told = time.monotonic()
        text = f"{stage}: {done:,} of {total:,}"
        log.info(text)
        if self._under_way is None or self._under_way.done() or done == total:
            run = copy_context().run  # artifacts find their run through the context
            self._under_way = self._thread.submit(run, self._show, 100.0 * done / total, text)

    def _show(self, percent: float, text: str) -> None:
        try:
            if self._artifact is None:
                key = f"progress-{text.split(':')[0]}"
                made = create_progress_artifact(percent, key=key, description=text)
                self._artifact = made if isinstance(made, UUID) else None
            else:
                update_progress_artifact(self._artifact, percent, description=text)
        except Exception as error:
            log.debug("progress not shown: %s", error)


def catalog_turn(request: ScanRequest, settings: Settings) -> AbstractContextManager[None]:
    """Wait for other scans of the catalog; no task, for it must last as long as the flow."""
    return stages.catalog_turn(request, settings)


@_step(HOUR)
def begin_scan(request: ScanRequest, settings: Settings) -> Scan:
    """Settle what will be scanned."""
    return stages.begin_scan(request, settings)


@_step(12 * HOUR)
def sync_assets(scan: Scan, progress: Progress = silent) -> SyncCounts:  # noqa: ARG001
    """Bring the assets up to date with the source."""
    return stages.sync_assets(scan, _Bar())


@_step(72 * HOUR)
def embed_assets(scan: Scan, progress: Progress = silent) -> EmbedCounts:  # noqa: ARG001
    """Read and embed what is new."""
    return stages.embed_assets(scan, _Bar())


@_step(72 * HOUR)
def match_assets(scan: Scan, space: Space, progress: Progress = silent) -> MatchCounts:  # noqa: ARG001
    """Compare what must be compared."""
    return stages.match_assets(scan, space, _Bar())


@_step(HOUR)
def group_assets(scan: Scan, space: Space, progress: Progress = silent) -> GroupCounts:  # noqa: ARG001
    """Group the matches."""
    return stages.group_assets(scan, space, _Bar())


@_step(12 * HOUR)
def screen_assets(scan: Scan, space: Space, progress: Progress = silent) -> ScreenCounts:  # noqa: ARG001
    """Hold what is new against the blocklist and the policy's pairs."""
    return stages.screen_assets(scan, space, _Bar())


@_step(HOUR)
def summarize_scan(scan: Scan, space: Space, counts: dict[str, int]) -> Summary:
    """Read back what a report needs."""
    return stages.summarize_scan(scan, space, counts)


@_step(HOUR)
def keep_report(scan: Scan, summary: Summary, totals: dict[str, int]) -> None:
    """Write down what the report is made of."""
    stages.keep_report(scan, summary, totals)


@_step(HOUR)
def deliver_documents(
    scan: Scan, documents: list[Document], folder: Path | None = None
) -> list[Receipt]:
    """Put the documents where people find them."""
    return stages.deliver_documents(scan, documents, folder)


@_step(HOUR)
def send_mail(scan: Scan, mail: EmailMessage) -> list[str]:
    """Send a mail; says to whom it could not be sent."""
    return stages.send_mail(scan, mail)


@_step(HOUR)
def keep_mailed(scan: Scan) -> None:
    """Write down that the scan was mailed."""
    stages.keep_mailed(scan)


@_step(HOUR)
def finish_scan(scan: Scan, space: Space, counts: dict[str, int], told: bool) -> None:
    """Check and tidy the catalog, close the scan."""
    stages.finish_scan(scan, space, counts, told)


def fail_scan(scan: Scan, error: BaseException) -> None:
    """Write down that the scan failed."""
    stages.fail_scan(scan, error)


@_step(HOUR)
def plan_scan(scan: Scan, space: Space) -> PlanNote | None:
    """Plan the merges that the policy asks for, with the links by which people decide."""
    note = stages.plan_scan(scan, space)
    return None if note is None else replace(note, form=_form_link(note.id))


@_step(HOUR)
def check_image(request: CheckRequest, settings: Settings) -> Checked:
    """Compare one image with what is there."""
    return stages.check_image(request, settings)


# Decisions and merges are no tasks with retries: a replay is a new run that somebody wants.


def decide_and_merge(request: MergeRequest, settings: Settings) -> MergeOutcome:
    """Record a decision and carry out what is approved."""
    return stages.decide_and_merge(request, settings, progress=_Bar())


def merge_approved(settings: Settings) -> list[MergeOutcome]:
    """Carry out all that is approved."""
    return stages.merge_approved(settings, by="schedule", progress=_Bar())


def undo_merge(request: UndoRequest, settings: Settings) -> list[UndoOutcome]:
    """Put back what a merge did."""
    return stages.undo_merge(
        settings, request.target, by=request.undone_by, dry_run=request.dry_run, progress=_Bar()
    )


def empty_quarantine(request: EmptyRequest, settings: Settings) -> list[Quarantined]:
    """Remove for good what has been in quarantine long enough."""
    return stages.empty_quarantine(
        settings,
        by=request.emptied_by,
        plan_id=request.plan_id,
        early=request.early,
        dry_run=request.dry_run,
        progress=_Bar(),
    )


def give_verdict(request: VerdictRequest, settings: Settings) -> int:
    """Record a person's word on a pair."""
    return stages.give_verdict(settings, request)


def check_keys(request: KeysRequest, settings: Settings) -> Followed:
    """Check the keys that a bucket says have changed; what fails is delivered again."""
    return stages.check_keys(request, settings)


_FORM = "merge-plan/on-demand"


def _form_link(plan_id: str) -> str | None:
    """The run form of the merge deployment, filled in but for who decides what.

    ``parameters`` is JSON, URL-encoded once: that is how the second UI reads it.
    """
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(_FORM)
        base = url_for("deployment", obj_id=deployment.id)
    except Exception as error:  # the mail goes out without this door
        log.warning("no link to the form of %s: %r", _FORM, error)
        return None
    if not base:
        return None
    if "/v2/" not in base:
        base = base.replace("/deployments/", "/v2/deployments/", 1)
    given = json.dumps({"request": {"plan_id": plan_id}}, separators=(",", ":"))
    return f"{base}/run?parameters={quote(given, safe='')}"
