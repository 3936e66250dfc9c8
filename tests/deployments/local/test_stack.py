"""The local stack for real: SeaweedFS, Prefect server and worker, mail sink."""

from __future__ import annotations

import email
import email.policy
import json
import os
import smtplib
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import httpx
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from deployments.local import services, stack
from deployments.local.processes import MARK, free_ports, launch, marked, stop
from deployments.local.stack import StackError, StackState, down, export_lines, status, up

pytestmark = pytest.mark.e2e

NAP = """
import json, os, subprocess, time
from prefect import flow

@flow
def nap(out: str):
    child = subprocess.Popen(["sleep", "900"], start_new_session=True)
    with open(out + ".part", "w") as file:
        json.dump({"pids": [os.getpid(), child.pid], "env": dict(os.environ)}, file)
    os.replace(out + ".part", out)
    time.sleep(900)
"""
CALLER = {
    "AWS_PROFILE": "no-such-profile",
    "AWS_SESSION_TOKEN": "of-the-caller",
    "PREFECT_API_URL": "http://192.0.2.1/api",
    "DAM_DEDUP_MAIL__USERNAME": "of-the-caller",
    "DAM_DEDUP_COLLECTION": "kept",
}


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """A caller whose own variables must not reach the services; with a flow to run."""
    modules = tmp_path_factory.mktemp("modules")
    (modules / "nap.py").write_text(NAP)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CALLER.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", str(modules), prepend=os.pathsep)
        yield patch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, caller: object) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("stack a b") / "it's here"  # to be quoted
    yield folder
    down(folder)
    assert remains(folder) == []
    children = psutil.Process().children()
    assert not [child for child in children if child.status() == psutil.STATUS_ZOMBIE]


@pytest.fixture
def state(folder: Path) -> StackState:
    return up(folder, say=print)


def remains(folder: Path) -> list[str]:
    """All processes that show this folder in their command, directory or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            shown = [*process.cmdline(), process.cwd(), process.environ().get(MARK, "")]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(folder) in text for text in shown):
            found.append(f"{process.pid} {shown}")
    return found


def s3(state: StackState, **other: str) -> Any:
    keys = {
        "aws_access_key_id": state.env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": state.env["AWS_SECRET_ACCESS_KEY"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE", raising=False)
        patch.delenv("AWS_SESSION_TOKEN", raising=False)
        return boto3.client(
            "s3",
            endpoint_url=state.env["AWS_ENDPOINT_URL_S3"],
            region_name=state.env["AWS_DEFAULT_REGION"],
            config=Config(retries={"total_max_attempts": 1}),
            **{**keys, **other},
        )


def api(state: StackState) -> httpx.Client:
    return services._api(state.env)  # asks again when the server is busy


def eventually(ask: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < until, "in vain"
        time.sleep(0.2)


def run_nap(state: StackState, out: Path) -> dict[str, Any]:
    """Start a flow run that goes on for ever; return its pids and environment."""
    with api(state) as client:
        flow = client.post("/flows/", json={"name": "nap"}).raise_for_status().json()
        wanted = {
            "name": "nap",
            "flow_id": flow["id"],
            "entrypoint": "nap.nap",
            "work_pool_name": stack.POOL,
        }
        deployment = client.post("/deployments/", json=wanted).raise_for_status().json()
        start = f"/deployments/{deployment['id']}/create_flow_run"
        client.post(start, json={"parameters": {"out": str(out)}}).raise_for_status()
    eventually(out.exists)
    found: dict[str, Any] = json.loads(out.read_text())
    assert all(psutil.pid_exists(pid) for pid in found["pids"])
    return found


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Code"]


@pytest.mark.long
def test_everything_runs_on_the_loopback_address_only(state: StackState) -> None:
    assert [(s.name, s.alive) for s in status(state.dir)] == [
        ("s3", True),
        ("smtp", True),
        ("prefect", True),
        ("worker", True),
    ]
    for service in state.services:
        process = service.process()
        assert process is not None
        listening = [
            c.laddr.ip
            for member in (process, *process.children(recursive=True))
            for c in member.net_connections(kind="tcp")
            if c.status == psutil.CONN_LISTEN
        ]
        assert set(listening) <= {"127.0.0.1"}  # the worker has a port for its flow runs


@pytest.mark.long
def test_keys_are_private(state: StackState) -> None:
    for name in ("stack.json", "identity.json"):
        assert stat.S_IMODE((state.dir / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(state.dir.stat().st_mode) == 0o700
    secret = state.env["AWS_SECRET_ACCESS_KEY"]
    for log in (state.dir / "logs").iterdir():
        assert secret not in log.read_text(errors="replace")


@pytest.mark.long
def test_export_lines_survive_a_shell(state: StackState) -> None:
    script = "\n".join([*export_lines(state), "env -0"])
    shown = subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout
    got = dict(line.split("=", 1) for line in shown.decode().split("\0") if line)
    assert {name: got[name] for name in state.env} == state.env
    assert got["DAM_DEDUP_STACK_MAIL_DIR"] == str(state.dir / "mail")


@pytest.mark.long
def test_s3_is_strict(state: StackState) -> None:
    client = s3(state)
    assert client.list_buckets()["Buckets"] == []  # the probe cleaned up
    with pytest.raises(ClientError) as missing:
        client.put_object(Bucket="never-made", Key="k", Body=b"")
    assert code(missing) == "NoSuchBucket"
    with pytest.raises(ClientError) as stranger:
        s3(state, aws_secret_access_key="wrong").list_buckets()
    assert code(stranger) == "SignatureDoesNotMatch"
    client.create_bucket(Bucket="full")
    client.put_object(Bucket="full", Key="k", Body=b"v")
    with pytest.raises(ClientError) as kept:
        client.delete_bucket(Bucket="full")
    assert code(kept) == "BucketNotEmpty"


@pytest.mark.long
def test_a_small_disk_has_room_for_many_buckets(state: StackState) -> None:
    """As many as a large one: each takes a volume, and its size on the disk is what it holds."""
    port = json.loads((state.dir / "identity.json").read_text())["ports"]["master"]
    answer = httpx.get(f"http://{services.HOST}:{port}/dir/status", trust_env=False)
    assert answer.raise_for_status().json()["Topology"]["Max"] >= 10_000


@pytest.mark.long
def test_mails_become_files_in_order_of_arrival(state: StackState) -> None:
    mails = Path(state.env["DAM_DEDUP_STACK_MAIL_DIR"])
    before = len(list(mails.glob("*.eml")))
    host, port = state.env["DAM_DEDUP_MAIL__HOST"], int(state.env["DAM_DEDUP_MAIL__PORT"])
    with smtplib.SMTP(host, port, local_hostname="localhost", timeout=10) as server:
        for number in range(3):
            mail = EmailMessage()
            mail["Subject"], mail["From"] = f"Grüße {number}", "a@example.org"
            mail["To"], mail["Bcc"] = "b@example.org", "hidden@example.org"
            mail.set_content(".\nä line\n")
            server.send_message(mail)
    assert {p.suffix for p in mails.iterdir()} == {".eml"}
    files = sorted(mails.iterdir())[before:]
    read = [email.message_from_bytes(f.read_bytes(), policy=email.policy.default) for f in files]
    assert [m["Subject"] for m in read] == [f"Grüße {n}" for n in range(3)]
    assert read[0]["X-RcptTo"] == "b@example.org, hidden@example.org"
    assert read[0].get_content() == ".\r\nä line\r\n"  # the bytes as they came


@pytest.mark.long
def test_up_twice_changes_nothing(state: StackState) -> None:
    assert up(state.dir) == state


def test_a_busy_server_is_asked_again() -> None:
    asked = []

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(503 if len(asked) < 3 else 200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with services._api({"PREFECT_API_URL": f"http://127.0.0.1:{server.server_port}"}) as client:
            assert client.post("/", json={"once": "more"}).status_code == 200
        server.shutdown()
    assert asked == [b'{"once":"more"}'] * 3


@pytest.mark.long
def test_foreign_pages_may_not_call_the_api(state: StackState) -> None:
    with api(state) as client:
        for origin, allowed in (("http://evil.example", False), ("ours", True)):
            own = state.env["PREFECT_UI_URL"].removesuffix("/v2")
            origin = own if origin == "ours" else origin
            asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            answer = client.options("/flow_runs/filter", headers=asked)
            assert (answer.headers.get("access-control-allow-origin") == origin) == allowed


@pytest.mark.long
def test_killed_services_heal_and_no_flow_run_stays(state: StackState, tmp_path: Path) -> None:
    if "kept-bucket" not in {b["Name"] for b in s3(state).list_buckets()["Buckets"]}:
        s3(state).create_bucket(Bucket="kept-bucket")
    s3(state).put_object(Bucket="kept-bucket", Key="k", Body=b"v" * 100_000)
    nap = run_nap(state, tmp_path / "nap.json")

    for name, value in state.env.items():
        assert nap["env"][name].lower() == value.lower()  # Prefect writes False for false
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN", "DAM_DEDUP_MAIL__USERNAME"} & set(nap["env"])
    assert nap["env"]["DAM_DEDUP_COLLECTION"] == "kept"
    assert nap["env"]["DAM_DEDUP_HOME"] == str(services.PROJECT)

    for name in ("worker", "s3"):
        service = state.service(name)
        assert service is not None
        psutil.Process(service.pid).kill()
    eventually(lambda: [s.name for s in status(state.dir) if s.alive] == ["smtp", "prefect"])
    assert not any(map(gone, nap["pids"]))  # orphans, of a parent that is gone

    healed = up(state.dir, say=print)
    assert all(map(gone, nap["pids"]))
    with api(healed) as client:
        runs = client.post("/flow_runs/filter", json={}).raise_for_status().json()
    assert [run["state"]["type"] for run in runs] == ["CRASHED"]  # else Running for ever
    assert healed.env == state.env
    assert all(s.alive for s in status(state.dir))
    assert s3(healed).get_object(Bucket="kept-bucket", Key="k")["Body"].read() == b"v" * 100_000


@pytest.mark.long
def test_two_stacks_side_by_side(state: StackState, tmp_path: Path) -> None:
    other = up(tmp_path / "other", worker=False)
    try:
        assert {s.name for s in other.services} == {"s3", "smtp", "prefect"}
        assert not {s.port for s in other.services} & {s.port for s in state.services}
        s3(other).create_bucket(Bucket="only-there")
        assert "only-there" not in {b["Name"] for b in s3(state).list_buckets()["Buckets"]}
    finally:
        down(tmp_path / "other")
    assert remains(tmp_path / "other") == []
    assert all(s.alive for s in status(state.dir))


@pytest.mark.long
def test_other_ports_are_taken_when_ours_are_gone_and_the_data_stays(tmp_path: Path) -> None:
    """Only the S3 server: the ports choose themselves the same way for all."""

    def start() -> tuple[StackState, dict[str, int]]:
        keys, ports = stack._identity(tmp_path)
        env = services.exports(tmp_path, keys, ports)
        command = services.server_commands(tmp_path, ports)["s3"]
        (tmp_path / "s3").mkdir(exist_ok=True)
        (tmp_path / "s3" / "mini.options").unlink(missing_ok=True)
        service = launch(
            "s3",
            command,
            folder=tmp_path,
            env=services.inside(env),
            cwd=tmp_path,
            port=ports["s3"],
        )
        stack._await(service, env, time.monotonic() + 60, print)
        return StackState((service,), env, tmp_path), ports

    first, ports = start()
    s3(first).create_bucket(Bucket="photos")
    s3(first).put_object(Bucket="photos", Key="k", Body=b"v" * 100_000)
    down(tmp_path)
    blocker = launch(
        "blocker",
        ["python3", "-m", "http.server", "--bind", "127.0.0.1", str(ports["filer"])],
        folder=tmp_path / "elsewhere",
        env=os.environ,
        cwd=tmp_path,
        port=ports["filer"],
    )
    try:
        eventually(blocker.listens)
        second, others = start()
        assert not set(others.values()) & set(ports.values())
        assert second.env["AWS_ACCESS_KEY_ID"] == first.env["AWS_ACCESS_KEY_ID"]
        assert s3(second).get_object(Bucket="photos", Key="k")["Body"].read() == b"v" * 100_000
    finally:
        down(tmp_path)
        stranger = blocker.process()
        assert stranger is not None  # it is not of this folder
        stop([stranger])
    assert not marked(tmp_path)


def test_a_failed_start_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "weed"
    broken.write_text("#!/bin/sh\necho 'disk is full'\nexit 3\n")
    broken.chmod(0o700)
    monkeypatch.setattr(services, "_weed", lambda: str(broken))
    with pytest.raises(StackError, match=r"(?s)s3 is not ready: it has stopped.*disk is full"):
        up(tmp_path / "it")
    assert remains(tmp_path / "it") == []
    assert status(tmp_path / "it") == []


def test_a_recycled_pid_is_left_alone(tmp_path: Path) -> None:
    me = {"name": "s3", "pid": os.getpid(), "create_time": 1.0, "port": 1, "log": "x"}
    record = {"services": [me], "env": {}, "dir": str(tmp_path)}
    (tmp_path / "stack.json").write_text(json.dumps(record))
    down(tmp_path)  # else pytest would end here
    assert not (tmp_path / "stack.json").exists()


def test_ports_are_distinct_and_wanted_ones_are_kept() -> None:
    ports = free_ports(services.PORTS, {})
    assert len(set(ports.values())) == len(services.PORTS)
    assert free_ports(services.PORTS, ports) == ports


@pytest.mark.long
def test_down_leaves_no_process_and_may_be_repeated(state: StackState, tmp_path: Path) -> None:
    nap = run_nap(state, tmp_path / "nap.json")
    down(state.dir, say=print)
    assert all(map(gone, nap["pids"]))
    assert remains(state.dir) == []
    assert status(state.dir) == []
    assert not (state.dir / "stack.json").exists()
    down(state.dir)
    down(tmp_path / "never was")
    assert not (tmp_path / "never was").exists()
