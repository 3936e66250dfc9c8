"""Make a Prefect server ready: work pool, automation, deployments. May be run again at any time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import DamDedupError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

PROJECT = Path(__file__).resolve().parents[1]
POOL = "dam-dedup"
#: How long a server may take to answer; beyond it nobody waits for a message any more.
ANSWER_SECONDS = 3.0
_ZOMBIES = "dam-dedup: crash runs whose worker died"


class BootstrapError(DamDedupError):
    """The Prefect server cannot be made ready."""


def bootstrap(say: Callable[[str], None] = lambda _: None, *, wait: float = 0) -> list[str]:
    """Create what is missing on the server of ``PREFECT_API_URL``; names of the deployments.

    Args:
        say: is told what was done.
        wait: seconds to wait for a server that does not answer yet.

    Raises:
        BootstrapError: when the server does not answer or refuses.
    """
    api = api_url()
    if not api:
        raise BootstrapError(
            "PREFECT_API_URL is not set; start a server (prefect server start) and set it, or use "
            'the local stack: eval "$(dam-dedup stack up)"'
        )
    reach(api, wait)

    from prefect.settings import PREFECT_API_URL, temporary_settings

    with server(api) as client:
        _create_pool(client)
    say(f"work pool {POOL} is ready")
    _deploy(api, say)
    with temporary_settings({PREFECT_API_URL: api}):
        _automate()
    with server(api) as client:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        return sorted(f"{flows[d.flow_id]}/{d.name}" for d in client.read_deployments())


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


def _create_pool(client: SyncPrefectClient) -> None:
    from httpx import HTTPStatusError
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    wanted = WorkPoolCreate(
        name=POOL,
        type="process",
        description="Runs dam-dedup's flows, each in a process of its own",
        base_job_template=ProcessWorker.get_default_base_job_template(),
    )
    try:
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            with suppress(ObjectAlreadyExists):  # somebody else was faster
                client.create_work_pool(wanted)
    except HTTPStatusError as error:
        raise BootstrapError(
            f"cannot create the work pool {POOL} on {client.api_url}: HTTP "
            f"{error.response.status_code} {error.response.text[:300]}; where the server asks for "
            "a login, set PREFECT_API_AUTH_STRING or PREFECT_API_KEY"
        ) from error


def _deploy(api: str, say: Callable[[str], None]) -> None:
    # Entrypoints are relative to the working directory, not to the file.
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "prefect",
            "--no-prompt",
            "deploy",
            "--prefect-file",
            "deployments/prefect.yaml",
            "--all",
        ],
        cwd=PROJECT,
        env={"DAM_DEDUP_HOME": str(PROJECT), **os.environ, "PREFECT_API_URL": api},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BootstrapError(f"prefect deploy failed:\n{done.stdout}\n{done.stderr}")
    say("deployments are up to date")


def _automate() -> None:
    """Runs whose worker was killed with them would stay "Running" for ever.

    Source: Prefect's documentation, "Detect zombie flows".
    """
    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    from flows.merge import ASKING

    # A suspended run has no process, and waits for a person's answer for days.
    ends = {
        f"prefect.flow-run.{end}"
        for end in ("Completed", "Failed", "Cancelled", "Crashed", "Suspended")
    }
    trigger = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.heartbeat", ASKING, *ends},
        match={"prefect.resource.id": ["prefect.flow-run.*"]},
        match_related={"prefect.resource.id": ["prefect.tag.dam-dedup"]},  # no one else's
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=120),
    )
    wanted = Automation(
        name=_ZOMBIES,
        trigger=trigger,
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="No heartbeat for 120 s: its worker died"
            )
        ],
    )

    async def bring_up_to_date() -> None:
        try:
            there = await Automation.aread(name=_ZOMBIES)
        except ValueError:
            await wanted.acreate()
            return
        if getattr(there.trigger, "expect", None) != trigger.expect:
            there.trigger = trigger  # of an older release; whether it is enabled stays
            await there.aupdate()

    asyncio.run(bring_up_to_date())
