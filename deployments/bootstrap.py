"""Make a Prefect server ready: work pools, deployments, alarms. May be run again at any time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.changes import plan_changes, titles_gone
from deployments.collection_file import (
    POOL,
    Collection,
    file_here,
    only_collection,
    read_collections,
)
from deployments.deploying import carry_out
from deployments.wanted import PROJECT, pools_of, wanted_deployments
from tasks.errors import DamDedupError
from tasks.settings import load_settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

__all__ = [
    "POOL",
    "PROJECT",
    "BootstrapError",
    "Choices",
    "api_url",
    "bootstrap",
    "collections_of",
    "pause_schedules",
    "reach",
    "server",
]

#: The deployment that looks at a worker's setup.
CHECK = "check the setup"
#: How long a server may take to answer; beyond it nobody waits for a message any more.
ANSWER_SECONDS = 3.0


class BootstrapError(DamDedupError):
    """The Prefect server cannot be made ready."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a deploy may do.

    Attributes:
        file: of the collections; none: ``collections.yaml`` in this folder, if there is one.
        dry_run: only say what would be done.
        reset_schedules: take schedules, pauses and parameters from the file, whatever was changed
            in the UI.
        adopt: take over what another folder or a newer release deployed.
        prune: remove deployments and alarms of collections that are no longer there.
        check: start a run of ``check the setup`` on each work pool afterwards.
    """

    file: Path | None = None
    dry_run: bool = False
    reset_schedules: bool = False
    adopt: bool = False
    prune: bool = False
    check: bool = False


def bootstrap(
    say: Callable[[str], None] = lambda _: None, *, wait: float = 0, choices: Choices | None = None
) -> list[str]:
    """Bring the server of ``PREFECT_API_URL`` up to date: work pools, deployments, alarms.

    Args:
        say: is told what was done.
        wait: seconds to wait for a server that does not answer yet.
        choices: what may be done; default: what takes nothing from anybody.

    Returns:
        A line for each deployment and alarm: created, changed, renamed, left alone or left over.

    Raises:
        BootstrapError: when the server does not answer or refuses.
        DeployError: when something there belongs to others.
        SettingsError: when the collections are wrong.
    """
    api = api_url()
    if not api:
        raise BootstrapError(
            "PREFECT_API_URL is not set; start a server (prefect server start) and set it, or use "
            'the local stack: eval "$(dam-dedup stack up)"'
        )
    from deployments.alarms import bring_up_alarms  # and with it the flows: seconds

    chosen = choices or Choices()
    collections, filed = collections_of(chosen.file)
    reach(api, wait)
    wanted = wanted_deployments(collections, filed=filed)
    with server(api) as client, _refusals(client):
        changes = plan_changes(client, wanted, reset=chosen.reset_schedules, adopt=chosen.adopt)
        if not chosen.dry_run:
            for pool in pools_of(wanted):
                _create_pool(client, pool)
                say(f"work pool {pool} is ready")
            carry_out(client, changes, prune=chosen.prune)
            _limit_queues(client, collections if filed else ())
        with _of_server(api):
            alarms = bring_up_alarms(
                collections,
                gone=titles_gone(changes),
                dry_run=chosen.dry_run,
                prune=chosen.prune,
            )
        if chosen.check and not chosen.dry_run:
            for name in sorted({one.full_name for one in wanted if one.job == CHECK}):
                found = client.read_deployment_by_name(name)
                run = client.create_flow_run_from_deployment(found.id)
                say(f"{name} is looked at by its worker: run {run.name}")
    told = [
        replace(change, state="removed") if chosen.prune and change.wanted is None else change
        for change in changes
    ]
    return [*(line for change in told for line in change.lines()), *alarms]


def collections_of(file: Path | None) -> tuple[tuple[Collection, ...], bool]:
    """The collections, and whether a file names them.

    Raises:
        SettingsError: when the file or the settings are wrong.
    """
    path = file or file_here()
    if file or path.is_file():
        return read_collections(path), True
    return (only_collection(load_settings()),), False


def _limit_queues(client: SyncPrefectClient, collections: Sequence[Collection]) -> None:
    """Let no collection take more of a pool than its caps say."""
    for one in collections:
        for pool in {one.pools.scans, one.pools.others}:
            queue = client.read_work_queue_by_name(one.name, work_pool_name=pool)
            if queue.concurrency_limit != one.caps.runs:
                client.update_work_queue(queue.id, concurrency_limit=one.caps.runs)


def pause_schedules() -> None:
    """Let no schedule start a run; on-demand runs go on. For the demo, and for tests that count."""
    api = api_url()
    if api:
        with server(api) as client:
            for deployment in client.read_deployments():
                client.pause_deployment(deployment.id)


def api_url() -> str | None:
    """The server's API as the environment says now, else as Prefect's profile says.

    Prefect's own settings are those of the moment it was imported, which takes a second or two:
    it is not asked where the environment says it.
    """
    if given := os.environ.get("PREFECT_API_URL"):
        return given.rstrip("/")
    from prefect.settings import PREFECT_API_URL

    url: str | None = PREFECT_API_URL.value()
    return url


@contextmanager
def server(api: str) -> Iterator[SyncPrefectClient]:
    """Prefect's own client: with the key or login it is configured with, patient with the server.

    A server on SQLite answers 503 while another transaction writes; its clients are to ask again.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        yield client


def reach(api: str, wait: float = 0) -> None:
    """Make sure that a Prefect server answers; Prefect's own client would ask for minutes.

    Args:
        api: its address.
        wait: seconds in which it may still be starting.

    Raises:
        BootstrapError: saying which address does not answer, why, and what to do. Without waiting
            it comes within ``ANSWER_SECONDS``.
    """
    import httpx

    deadline = time.monotonic() + wait
    while True:
        try:
            answer = httpx.get(f"{api}/health", timeout=ANSWER_SECONDS)
            if answer.is_success:
                return
            why = f"it answers HTTP {answer.status_code} to {answer.request.url}"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = str(error) or type(error).__name__
        if time.monotonic() >= deadline:
            raise BootstrapError(
                f"no Prefect server at {api}: {why}; start it (prefect server start), or correct "
                "PREFECT_API_URL, which ends in /api"
            )
        time.sleep(1)


@contextmanager
def _refusals(client: SyncPrefectClient) -> Iterator[None]:
    """Turn what the server refuses into a message that says what to do."""
    from httpx import HTTPError, HTTPStatusError

    try:
        yield
    except HTTPStatusError as error:
        raise BootstrapError(
            f"{client.api_url} refuses {error.request.method} {error.request.url.path}: HTTP "
            f"{error.response.status_code} {error.response.text[:300]}; where the server asks for "
            "a login, set PREFECT_API_AUTH_STRING or PREFECT_API_KEY"
        ) from error
    except HTTPError as error:
        raise BootstrapError(f"{client.api_url}: {error or type(error).__name__}") from error


@contextmanager
def _of_server(api: str) -> Iterator[None]:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api}):
        yield


def _create_pool(client: SyncPrefectClient, name: str) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        with suppress(ObjectAlreadyExists):  # somebody else was faster
            client.create_work_pool(
                WorkPoolCreate(
                    name=name,
                    type="process",
                    description="Runs dam-dedup's flows, each in a process of its own",
                    base_job_template=ProcessWorker.get_default_base_job_template(),
                )
            )
