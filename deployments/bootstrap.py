"""Make a Prefect server ready: work pool, automation, deployments. May be run again at any time."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx

from tasks.errors import DamDedupError

PROJECT = Path(__file__).resolve().parents[1]
POOL = "dam-dedup"
_ZOMBIES = "dam-dedup: crash runs whose worker died"


class BootstrapError(DamDedupError):
    """The Prefect server cannot be made ready."""


def bootstrap(say: Callable[[str], None] = lambda _: None) -> list[str]:
    """Create what is missing on the server of ``PREFECT_API_URL``; names of the deployments.

    Raises:
        BootstrapError: when the server does not answer or refuses.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    api = api_url()
    if not api:
        raise BootstrapError(
            "PREFECT_API_URL is not set; start a server (prefect server start) and set it, or use "
            'the local stack: eval "$(dam-dedup stack up)"'
        )
    _wait_for(api)
    with server(api) as client:
        _create_pool(client)
    say(f"work pool {POOL} is ready")
    _deploy(api, say)
    with temporary_settings({PREFECT_API_URL: api}):
        _automate()
    with server(api) as client:
        flows = {f["id"]: f["name"] for f in _filter(client, "flows")}
        return sorted(f"{flows[d['flow_id']]}/{d['name']}" for d in _filter(client, "deployments"))


def pause_schedules() -> None:
    """Let no schedule start a run; on-demand runs go on. For the demo, and for tests that count."""
    api = api_url()
    if api:
        with server(api) as client:
            for deployment in _filter(client, "deployments"):
                client.post(f"/deployments/{deployment['id']}/pause_deployment").raise_for_status()


def api_url() -> str | None:
    """The server's API as the environment says now, else as Prefect's profile says.

    Prefect's own settings are those of the moment it was imported.
    """
    from prefect.settings import PREFECT_API_URL

    return os.environ.get("PREFECT_API_URL") or PREFECT_API_URL.value()


def server(api: str) -> httpx.Client:
    """A client of the server, with the key or the login that Prefect is configured with."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY

    key, login = PREFECT_API_KEY.value(), PREFECT_API_AUTH_STRING.value()
    headers = {}
    if key:
        headers["Authorization"] = f"Bearer {key.get_secret_value()}"
    elif login:
        encoded = base64.b64encode(login.get_secret_value().encode()).decode()
        headers["Authorization"] = f"Basic {encoded}"
    return httpx.Client(base_url=api, headers=headers, timeout=30)


def _wait_for(api: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            httpx.get(f"{api}/health", timeout=5).raise_for_status()
            return
        except httpx.HTTPError as error:
            if time.monotonic() > deadline:
                raise BootstrapError(
                    f"the Prefect server {api} does not answer: {error}; check PREFECT_API_URL"
                ) from error
            time.sleep(1)


def _create_pool(client: httpx.Client) -> None:
    from prefect.workers.process import ProcessWorker

    answer = client.get(f"/work_pools/{POOL}")
    if answer.status_code == 404:
        answer = client.post(
            "/work_pools/",
            json={
                "name": POOL,
                "type": "process",
                "description": "Runs dam-dedup's flows, each in a process of its own",
                "base_job_template": ProcessWorker.get_default_base_job_template(),
            },
        )
    if answer.is_error and answer.status_code != 409:  # 409: somebody else was faster
        raise BootstrapError(
            f"cannot create the work pool {POOL} on {client.base_url}: HTTP {answer.status_code} "
            f"{answer.text[:300]}; where the server asks for a login, set PREFECT_API_AUTH_STRING "
            "or PREFECT_API_KEY"
        )


def _deploy(api: str, say: Callable[[str], None]) -> None:
    # Entrypoints are relative to the working directory, not to the file.
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy",
         "--prefect-file", "deployments/prefect.yaml", "--all"],
        cwd=PROJECT,
        env={"DAM_DEDUP_HOME": str(PROJECT), **os.environ, "PREFECT_API_URL": api},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
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

    ends = {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed")}
    wanted = Automation(
        name=_ZOMBIES,
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ends},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            match_related={"prefect.resource.id": ["prefect.tag.dam-dedup"]},  # no one else's
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=120),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="No heartbeat for 120 s: its worker died"
            )
        ],
    )

    async def create_once() -> None:
        try:
            await Automation.aread(name=_ZOMBIES)
        except ValueError:
            await wanted.acreate()

    asyncio.run(create_once())


def _filter(client: httpx.Client, what: str) -> list[dict[str, str]]:
    answer = client.post(f"/{what}/filter", json={"limit": 200})
    answer.raise_for_status()
    found: list[dict[str, str]] = answer.json()
    return found
