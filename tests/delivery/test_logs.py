"""Logs as JSON: of the command line, and of Prefect's processes by its own configuration."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tasks.delivery.logs import Ids, JsonLines, logged_as
from tests.conftest import Library

ROOT = Path(__file__).parents[2]
FLOW = """
import logging, sys, threading
from prefect import flow
from tasks.delivery.logs import logged_as

@flow
def f():
    with logged_as(scan="s-1", collection="shoes"):
        thread = threading.Thread(target=logging.getLogger("tasks.scan").warning, args=("Grüße",))
        thread.start(); thread.join()
        logging.getLogger("prefect.flow_runs").error("with a run", extra={"flow_run_name": "r"})
import prefect.logging.configuration as c
assert c.PROCESS_LOGGING_CONFIG["handlers"]["console"]["formatter"] == "json"
f.fn()
"""


def test_a_line_bears_the_ids_of_the_scan_it_belongs_to() -> None:
    lines: list[dict[str, object]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(self.format(record)))

    handler, logger = Keep(), logging.getLogger("tests.logs")
    handler.addFilter(Ids())
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    try:
        with logged_as(collection="shoes"):
            with logged_as(scan="s-1"):
                logger.warning("%d images", 3)
            logger.warning("after it")
        logger.warning("outside", extra={"more": 1})
        try:
            raise ValueError("why")
        except ValueError:
            logger.exception("failed")
    finally:
        logger.removeHandler(handler)
    assert (lines[0]["message"], lines[0]["scan"], lines[0]["collection"]) == (
        "3 images",
        "s-1",
        "shoes",
    )
    assert (lines[0]["level"], lines[0]["logger"]) == ("WARNING", "tests.logs")
    assert str(lines[0]["time"]).endswith("+00:00")
    assert "scan" not in lines[1]
    assert lines[1]["collection"] == "shoes"
    assert "collection" not in lines[2]
    assert lines[2]["more"] == 1
    assert "ValueError: why" in str(lines[3]["exc_info"])


@pytest.mark.long
def test_the_command_line_logs_json_where_it_is_told(library: Library) -> None:
    library.add("a.png", 1)
    variables = {
        "DAM_DEDUP_LOGS__FORMAT": "json",
        "DAM_DEDUP_COLLECTION": "shoes",
        "DAM_DEDUP_EMBEDDING__MODEL": str(library.model),
        "DAM_DEDUP_EMBEDDING__POOLING": "cls",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", "deployments.cli", "-v", "scan", "--source", str(library.folder)],
        env={**os.environ, **variables},
        cwd=library.place,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    (scan,) = {line["scan"] for line in lines if "scan" in line}
    assert any(f"scan {scan} finished" in line["message"] for line in lines)
    assert {line["collection"] for line in lines if line["logger"].startswith("tasks.")} == {
        "shoes"
    }


@pytest.mark.long
def test_prefects_processes_log_json_by_our_file() -> None:
    variables = {
        "PREFECT_LOGGING_SETTINGS_PATH": str(ROOT / "deployments" / "logging.yaml"),
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", FLOW],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    ours, run = [json.loads(line) for line in done.stderr.splitlines()]
    assert (ours["message"], ours["scan"], ours["collection"]) == ("Grüße", "s-1", "shoes")
    assert (run["message"], run["flow_run_name"], run["scan"]) == ("with a run", "r", "s-1")


@pytest.mark.parametrize("part", ["handlers", "loggers"])
def test_our_file_has_all_that_prefects_has(part: str) -> None:
    import prefect.logging.configuration as theirs

    own = yaml.safe_load((ROOT / "deployments" / "logging.yaml").read_text("utf-8"))
    known = yaml.safe_load(theirs.DEFAULT_LOGGING_SETTINGS_PATH.read_text("utf-8"))
    assert own[part].keys() == known[part].keys()
    if part == "loggers":
        assert own[part] == known[part]
