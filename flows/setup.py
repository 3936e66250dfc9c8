"""The flow that looks at a worker: is everything there that the collection's runs need?"""

from __future__ import annotations

import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prefect import flow, get_client, runtime
from prefect.artifacts import create_table_artifact

from flows.artifacts import key_of
from flows.telling import run_name
from tasks.errors import DamDedupError, SettingsError
from tasks.preflight import LOOKS
from tasks.settings import Settings
from tasks.steps import worker_settings


@flow(name="check-setup", flow_run_name=run_name, persist_result=False)
def check_setup() -> list[dict[str, str]]:
    """Look at policy, mail, source, catalog, delivery, model and versions, on this worker.

    Nothing is left behind. The run fails when something that is configured cannot be used.
    """
    settings = worker_settings()
    rows = [*_versions(settings), *(_looked(look, settings) for look in LOOKS)]
    bad = [row for row in rows if row["state"] == "bad"]
    create_table_artifact(
        rows,
        key=key_of(settings, "setup"),
        description=f"{socket.gethostname()}: "
        + (f"{len(bad)} of {len(rows)} cannot be used" if bad else "all is there"),
    )
    if bad:
        words = "; ".join(f"{row['name']}: {row['found']} ({row['remedy']})" for row in bad)
        raise SettingsError(f"on the worker {socket.gethostname()}: {words}")
    return rows


def _looked(look: Any, settings: Settings) -> dict[str, str]:
    row = {"name": look.name, "state": "good", "found": "", "remedy": ""}
    try:
        found = look.at(settings)
    except DamDedupError as error:
        return row | {"state": "bad", "found": str(error), "remedy": look.remedy}
    except Exception as error:  # what breaks one look must not hide the others
        told = str(DamDedupError(f"{type(error).__name__}: {error}"))
        return row | {"state": "bad", "found": told, "remedy": "this look itself failed"}
    if not found:
        return row | {"state": "unset", "found": look.unset[0], "remedy": look.unset[1]}
    return row | {"found": found}


def _versions(settings: Settings) -> list[dict[str, str]]:
    """This worker's releases against those of the deployment and of the server."""
    ours, prefect = version("dam-dedup"), version("prefect")
    with get_client(sync_client=True) as client:
        server = client.api_version()
    deployed = str(runtime.deployment.version or ours)
    found = [
        {
            "name": "collection",
            "state": "good",
            "found": f"{settings.collection}, on {socket.gethostname()} in {Path.cwd()}",
            "remedy": "",
        }
    ]
    for name, here, there, of, remedy in (
        ("release", ours, deployed, "deployed", "install one release on workers, deploy from it"),
        ("prefect", prefect, server, "the server's", "install the server's version on the worker"),
    ):
        same = here == there
        found.append(
            {
                "name": name,
                "state": "good" if same else "bad",
                "found": here if same else f"{here} here, {there} is {of}",
                "remedy": "" if same else remedy,
            }
        )
    return found
