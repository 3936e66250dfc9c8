"""Images and manifests: what of them can be held against the code without a container engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.bootstrap import POOL
from tasks.settings import Settings

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "deployments" / "container"
BASE = ROOT / "deployments" / "kubernetes" / "base"
COMPOSE = yaml.safe_load((CONTAINER / "compose.yaml").read_text("utf-8"))
OURS = {
    name: service
    for name, service in COMPOSE["services"].items()
    if "dam-dedup" in service["image"]
}
MANIFESTS = [
    document
    for path in sorted(BASE.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text("utf-8"))
]
PODS = {
    one["metadata"]["name"]: one["spec"]["template"]["spec"]
    for one in MANIFESTS
    if one["kind"] == "Deployment"
}


@pytest.fixture
def answering():
    """A server that answers each path with the status it names; the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path.strip("/")))
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def health(url: str) -> int:
    script = str(CONTAINER / "healthcheck.py")
    environment = {"http_proxy": "http://127.0.0.1:9"}  # nobody is there
    command = [sys.executable, "-I", script, url]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


@pytest.mark.parametrize(("path", "code"), [("200", 0), ("503", 1), ("404", 1)])
def test_the_health_check_tells_well_from_ill(answering, path, code):
    assert health(f"{answering}/{path}") == code


def test_the_health_check_of_a_service_that_is_not_there_fails():
    assert health("http://127.0.0.1:9/health") == 1


def test_first_bucket_copies_a_folder_once(s3, tmp_path):
    from deployments.container.first_bucket import fill

    (tmp_path / "shoes").mkdir()
    (tmp_path / "shoes" / "a b.jpg").write_bytes(b"one")
    (tmp_path / "c.jpg").write_bytes(b"two")
    bucket = f"{s3.bucket()}-first"
    assert fill(s3.client, bucket, tmp_path) == 2
    assert fill(s3.client, bucket, tmp_path) == 0


def test_images_copy_every_package_of_the_project():
    text = (CONTAINER / "Dockerfile").read_text("utf-8")
    kept = (ROOT / ".dockerignore").read_text("utf-8").split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for package in {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}:
        assert text.count(f"COPY {package} {package}") == 2  # one for each target
        assert f"!{package}" in kept


def test_images_never_run_as_root():
    text = (CONTAINER / "Dockerfile").read_text("utf-8")
    runtime = text.split("AS runtime")[1]
    assert re.findall(r"^USER (.+)$", runtime, re.MULTILINE) == ["10001:10001"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_services_are_locked_down(name):
    service = OURS[name]
    merged = {**service}
    assert merged["read_only"] is True
    assert merged["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in merged["security_opt"]
    assert any(mount.startswith("/tmp") for mount in merged["tmpfs"])


def test_only_the_proxy_can_be_reached_from_other_machines():
    open_to_all = {
        name
        for name, service in COMPOSE["services"].items()
        for port in service.get("ports", [])
        if not port.startswith("127.0.0.1:")
    }
    assert open_to_all == {"proxy"}


def test_no_secret_has_a_default():
    wanted = re.findall(r"^(\w+)=(.*)$", (CONTAINER / "env.example").read_text("utf-8"), re.M)
    text = (CONTAINER / "compose.yaml").read_text("utf-8")
    for name, value in wanted:
        assert value == ""
        assert f"${{{name}:?" in text
        assert f"${{{name}:-" not in text


def variables() -> set[str]:
    """Every DAM_DEDUP_ variable that a manifest sets."""
    composed = {key for one in OURS.values() for key in one.get("environment", {})}
    mapped = {key for one in MANIFESTS if one["kind"] == "ConfigMap" for key in one["data"]}
    image = re.findall(r"DAM_DEDUP_\w+", (CONTAINER / "Dockerfile").read_text("utf-8"))
    return {key for key in composed | mapped | set(image) if key.startswith("DAM_DEDUP_")}


@pytest.mark.parametrize("name", sorted(variables() - {"DAM_DEDUP_HOME"}))
def test_every_setting_of_the_manifests_exists(name):
    part, _, field = name.removeprefix("DAM_DEDUP_").lower().partition("__")
    model: Any = Settings.model_fields[part]
    assert not field or field in model.annotation.model_fields


@pytest.mark.parametrize("name", sorted(PODS))
def test_pods_are_locked_down_and_probed(name):
    pod = PODS[name]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {
        "/tmp",
        "/var/lib/dam-dedup",
    }
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()


def test_a_pod_of_the_work_pool_is_the_worker_s():
    """A flow run's own pod is locked down as the worker's is, and has the same settings."""
    template = json.loads((BASE.parent / "job-template.json").read_text("utf-8"))
    manifest = template["job_configuration"]["job_manifest"]
    pod, worker = manifest["spec"]["template"]["spec"], PODS["worker"]
    for key in ("securityContext", "automountServiceAccountToken", "volumes"):
        assert pod[key] == worker[key]
    for key in ("securityContext", "volumeMounts", "envFrom"):
        assert pod["containers"][0][key] == worker["containers"][0][key]
    assert template["variables"]["properties"]["service_account_name"]["default"] == "worker"


def test_workers_take_the_pool_that_deploy_makes():
    commands = [COMPOSE["services"]["worker"]["command"], PODS["worker"]["containers"][0]["args"]]
    for command in commands:
        assert command[command.index("--pool") + 1] == POOL
        assert "--with-healthcheck" in command
