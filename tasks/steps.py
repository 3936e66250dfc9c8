"""Stages as Prefect tasks: every retry and timeout on this one page.

Nothing here knows what a stage does. Results are never persisted or cached: what was done is known
from the catalog, so a task that runs again finds what is left to do. Tasks carry no tags: each tag
makes the server look for a concurrency limit at every task, which took 6 of the 15 seconds of an
idle scan. Decisions and merges are no tasks with retries: a replay is a new run that somebody
wants.
"""

from __future__ import annotations

import inspect
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from importlib import import_module
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote
from uuid import UUID

from prefect import get_client, runtime, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.blocks.system import Secret
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task
from prefect.utilities.urls import url_for
from pydantic import SecretStr

from tasks.errors import (
    AssetGoneError,
    CatalogBusyError,
    DamDedupError,
    DeliveryError,
    EngineError,
    MailError,
    SettingsError,
    TransientSourceError,
)
from tasks.progress import Progress
from tasks.settings import Settings, load_settings

log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

# PREFECT_LOGGING_EXTRA_LOGGERS gives our loggers the handler of the Prefect UI, but not its level.
for _name in ("tasks", "flows", "reports"):
    logging.getLogger(_name).setLevel(logging.INFO)


def worth_retrying(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether the error may pass by itself; a wrong setting, key or filter does not.

    A mail was tried as often as the settings say before it becomes an error, and an asset that
    somebody named and that is not there will not come: who asked for it waited 90 seconds.
    """
    error = state.result(raise_on_failure=False)
    kinds = (TransientSourceError, CatalogBusyError, DeliveryError, EngineError)
    passing = isinstance(error, kinds)
    passing = passing and not isinstance(error, (MailError, AssetGoneError))
    return passing or not isinstance(error, DamDedupError)


#: Hours after which a stage is given up; one, for those not named here.
_HOURS = {
    "sync_assets": 12,
    "embed_assets": 72,
    "propose_candidates": 72,
    "verify_candidates": 72,
    "prove_pairs": 72,
    "screen_assets": 12,
}
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


def worker_settings() -> Settings:
    """The worker's settings, its credentials loaded at run time.

    Raises:
        SettingsError: when they are wrong.
    """
    return with_credentials(load_settings())


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
                made = create_progress_artifact(percent, key="progress", description=text)
                self._artifact = made if isinstance(made, UUID) else None
            else:
                update_progress_artifact(self._artifact, percent, description=text)
        except Exception as error:
            log.debug("progress not shown: %s", error)

    def remove(self) -> None:
        """Take the artifact off the run's page, on which the result then stands alone."""
        self._thread.shutdown(wait=True)
        if self._artifact is not None:
            try:
                with get_client(sync_client=True) as client:
                    client.delete_artifact(self._artifact)
            except Exception as error:
                log.debug("progress not removed: %s", error)


@cache
def _bar_of(run: str) -> _Bar:
    """The one bar of a run, which shows one stage after the other."""
    log.debug("progress of the run %s", run)
    return _Bar()


def progress_bar() -> Progress:
    """Progress that shows on the run's page; all stages of a run have one bar."""
    return _bar_of(str(runtime.flow_run.id))


def remove_progress() -> None:
    """Take the progress off the run's page, when its result is shown."""
    _bar_of(str(runtime.flow_run.id)).remove()
    _bar_of.cache_clear()


def as_task(stage: Callable[P, R], /, *args: P.args, **options: P.kwargs) -> R:
    """Run a stage as a Prefect task; its ``progress``, if it has one, shows on the run's page.

    Raises:
        DamDedupError: what the stage raises, once it was tried as often as is worth it.
    """
    given = inspect.signature(stage).bind(*args, **options)
    if "progress" in inspect.signature(stage).parameters:
        given.arguments["progress"] = progress_bar()
    result: R = _task_of(stage)(*given.args, **given.kwargs)
    return result


@cache
def _task_of(stage: Callable[P, R]) -> Task[P, R]:
    hours = _HOURS.get(stage.__name__, 1)
    return task(
        retries=3,
        retry_delay_seconds=[2, 10, 60],
        retry_jitter_factor=0.5,
        retry_condition_fn=worth_retrying,
        timeout_seconds=hours * 3600,
        cache_policy=NO_CACHE,
        persist_result=False,
        log_prints=False,
    )(stage)


#: The deployment in whose form a plan is decided, after the collection's name.
DECIDING = "merge-plan/{}: decide on a merge plan"


def form_link(settings: Settings, plan_id: str) -> str | None:
    """The run form of the collection's merge deployment, filled in but for who decides what.

    ``parameters`` is JSON, URL-encoded once: that is how the second UI reads it.
    """
    name = DECIDING.format(settings.title)
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(name)
        base = url_for("deployment", obj_id=deployment.id)
    except Exception as error:  # the mail goes out without the form
        log.warning("no link to the form of %s: %r", name, error)
        return None
    if not base:
        return None
    if "/v2/" not in base:
        base = base.replace("/deployments/", "/v2/deployments/", 1)
    given = json.dumps({"request": {"plan_id": plan_id}}, separators=(",", ":"))
    return f"{base}/run?parameters={quote(given, safe='')}"
