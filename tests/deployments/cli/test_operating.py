"""The commands of whoever runs it: settings, and deploy where no server answers."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments import bootstrap
from deployments.cli.main import app

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without settings, in a folder without ``.env``."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("DAM_DEDUP_")]:
        monkeypatch.delenv(name)
    return monkeypatch


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def test_the_example_is_what_the_settings_say() -> None:
    assert (ROOT / ".env.example").read_text() == run("settings")


def test_what_is_in_force_and_where_it_came_from(env: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(
        "DAM_DEDUP_CATALOG__URI=of-the-file\nDAM_DEDUP_MAIL__HOST=of-the-file\n"
        "DAM_DEDUP_CATALOG__TURN_SECONDS=5\n"
    )
    env.setenv("DAM_DEDUP_MAIL__HOST", "of-the-environment")
    env.setenv("DAM_DEDUP_MAIL__PASSWORD", "hunter2")
    env.setenv("DAM_DEDUP_GATE__API_KEYS", '["hunter3"]')
    env.setenv("DAM_DEDUP_LIMITS", '{"pixels": 7}')
    with pytest.warns(FutureWarning, match="SCAN_WAIT_SECONDS"):
        told = run("settings", "--effective", "--json")
    rows = {row["name"].removeprefix("DAM_DEDUP_"): row for row in json.loads(told)}
    found = {name: (row["value"], row["origin"]) for name, row in rows.items()}
    assert found["CATALOG__URI"] == ("of-the-file", ".env")
    assert found["MAIL__HOST"] == ("of-the-environment", "environment")
    assert found["LIMITS__PIXELS"] == ("7", "environment, as DAM_DEDUP_LIMITS")
    assert found["CATALOG__SCAN_WAIT_SECONDS"] == (
        "5.0",
        ".env, as DAM_DEDUP_CATALOG__TURN_SECONDS",
    )
    assert found["MATCH__THRESHOLD"] == ("0.7", "default")
    assert found["MAIL__PASSWORD"] == ("**********", "environment")
    assert found["GATE__API_KEYS"] == ("**********", "environment")
    assert "hunter" not in told
    with pytest.warns(FutureWarning):
        lines = run("settings", "--effective").splitlines()
    assert "DAM_DEDUP_MAIL__HOST=of-the-environment    # environment" in lines
    assert lines.index("# defaults") < lines.index("DAM_DEDUP_MATCH__THRESHOLD=0.7")
    assert all("#" in line for line in lines[: lines.index("# defaults") - 1])


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/api"


def test_deploy_says_at_once_that_no_server_answers(env: pytest.MonkeyPatch, silent: str) -> None:
    assert bootstrap.ANSWER_SECONDS < 5
    env.setattr(bootstrap, "ANSWER_SECONDS", 0.2)
    env.setattr(bootstrap.time, "sleep", lambda _: pytest.fail("it waits"))
    env.setenv("PREFECT_API_URL", silent)
    with pytest.raises(bootstrap.BootstrapError, match=f"no Prefect server at {silent}.*start it"):
        CliRunner().invoke(app, ["deploy"], catch_exceptions=False)


def test_deploy_waits_for_a_server_that_is_starting(env: pytest.MonkeyPatch, silent: str) -> None:
    slept = []
    env.setattr(bootstrap, "ANSWER_SECONDS", 0.05)
    env.setattr(bootstrap.time, "sleep", slept.append)
    with pytest.raises(bootstrap.BootstrapError):
        bootstrap.reach(silent, wait=0.3)
    assert slept


def test_an_address_that_is_no_prefect_api_is_told(env: pytest.MonkeyPatch) -> None:
    with pytest.raises(bootstrap.BootstrapError, match="ends in /api"):
        bootstrap.reach("no-address")
