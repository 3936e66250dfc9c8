"""The doctor names what is missing and what to do; it never dies of what it finds."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from deployments.doctor import examine


@pytest.fixture
def healthy(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one object, a catalog's place, a model; no mail, no Prefect."""
    for name in [n for n in os.environ if n.startswith(("DAM_DEDUP_", "AWS_", "PREFECT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", "")  # whatever the profile of the tester says
    monkeypatch.setenv("DAM_DEDUP_CATALOG__URI", str(tmp_path / "catalog"))
    monkeypatch.setenv("DAM_DEDUP_EMBEDDING__MODEL", str(tiny_model))
    monkeypatch.setenv("DAM_DEDUP_EMBEDDING__POOLING", "cls")
    monkeypatch.setenv("DAM_DEDUP_EMBEDDING__DEVICE", "cpu")
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.jpg").write_bytes(b"read, not decoded")
    monkeypatch.setenv("DAM_DEDUP_SOURCE__URI", str(source))
    return tmp_path


def doctor(expected: int) -> dict[str, dict[str, Any]]:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == expected, done.output
    return {finding["name"]: finding for finding in json.loads(done.stdout)}


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_what_is_optional_and_unset_is_no_illness(healthy: Path) -> None:
    found = doctor(0)
    assert {name: finding["state"] for name, finding in found.items()} == {
        "settings": "good",
        "source": "good",
        "policy": "unset",
        "catalog": "good",
        "delivery": "good",
        "model": "good",
        "mail": "unset",
        "prefect": "unset",
    }
    assert "1 objects listed" in found["source"]["detail"]
    assert all(found[name]["remedy"] for name in ("mail", "prefect", "policy"))
    assert "none yet" in found["catalog"]["detail"]
    assert not (healthy / "catalog").exists(), "it looks, and makes nothing"
    assert not (healthy / "var").exists()


@pytest.mark.parametrize(
    ("variable", "value", "name", "said"),
    [
        ("DAM_DEDUP_SOURCE__URI", "/nowhere/at/all", "source", "/nowhere/at/all"),
        ("DAM_DEDUP_EMBEDDING__MODEL", "/nowhere/model", "model", "/nowhere/model"),
        ("DAM_DEDUP_MATCH__NEIGHBOURS", "many", "settings", "neighbours"),
        ("DAM_DEDUP_CATALOG__URI", "/proc/catalog", "catalog", "/proc/catalog"),
        ("DAM_DEDUP_DELIVERY__FOLDER", "/proc/reports", "delivery", "/proc/reports"),
        ("DAM_DEDUP_MERGE__POLICY", "/nowhere/policy.yaml", "policy", "/nowhere/policy.yaml"),
    ],
)
def test_what_is_ill_is_named_with_its_remedy(
    healthy: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, name: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    found = doctor(1)
    assert [n for n, finding in found.items() if finding["state"] == "bad"] == [name]
    assert said in found[name]["detail"].lower()
    assert found[name]["remedy"]


def test_servers_that_do_not_answer_are_named(
    healthy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = f"http://127.0.0.1:{unused_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", api)
    monkeypatch.setenv("DAM_DEDUP_MAIL__TO", "admin@example.test")
    monkeypatch.setenv("DAM_DEDUP_MAIL__HOST", "127.0.0.1")
    monkeypatch.setenv("DAM_DEDUP_MAIL__PORT", str(unused_port()))
    found = doctor(1)
    assert {n for n, finding in found.items() if finding["state"] == "bad"} == {"mail", "prefect"}
    assert api in found["prefect"]["detail"]
    assert "DAM_DEDUP_MAIL__HOST" in found["mail"]["remedy"]


def test_a_server_that_is_out_of_reach_is_told_before_a_model_is_loaded(
    healthy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = f"http://127.0.0.1:{unused_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", api)
    monkeypatch.setattr("tasks.preflight.open_embedder", lambda _: pytest.fail("loaded"))
    monkeypatch.setattr("tasks.preflight.open_catalog", lambda _: pytest.fail("opened"))
    found = examine(None, None)
    assert next(found).name == "settings"
    prefect = next(found)
    assert (prefect.name, prefect.state) == ("prefect", "bad")
    assert f"no Prefect server at {api}" in prefect.detail
    assert "prefect server start" in prefect.detail


def test_what_breaks_a_check_is_told_without_memory_addresses(
    healthy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"cannot use {object()!r} here")

    monkeypatch.setattr("tasks.preflight.open_source", broken)
    found = doctor(1)
    assert found["source"]["detail"] == "RuntimeError: cannot use here"
