"""The console command, killed for good at any moment, taken up again, and undone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.merging.conftest import png

GROUPS = 8


@pytest.fixture
def command(site: Any, tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts ``dam-dedup`` with the bucket's and the catalog's settings."""
    root = str(Path(__file__).parents[2])
    env = os.environ | {
        "PYTHONPATH": root,
        "AWS_ACCESS_KEY_ID": site.s3.key,
        "AWS_SECRET_ACCESS_KEY": site.s3.secret,
        "DAM_DEDUP_S3__ENDPOINT_URL": site.s3.endpoint,
        "DAM_DEDUP_S3__PATH_STYLE": "true",
        "DAM_DEDUP_S3__REGION": "us-east-1",
        "DAM_DEDUP_CATALOG__URI": site.settings.catalog.uri,
    }

    def start(*words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", *words],
            env=env,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    return start


def kill_amid(site: Any, process: subprocess.Popen[bytes], wait: float) -> bool:
    """Kill a process some time after its first write to the bucket; whether it was still there."""
    before = site.keys(ours=True)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if site.keys(ours=True) != before:  # the probe, or the merge itself
            time.sleep(wait)
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def kill_and_take_up(site: Any, command: Any, rounds: int, seed: int) -> int:
    """Merge and undo, each killed amid its work and taken up again; how many were killed.

    After every kill all bytes are still there, and after every undo the bucket is as it was.
    """
    draw = random.Random(seed)
    for number in range(GROUPS):
        body, kind = png(number), {"ContentType": "image/png"}
        site.put(f"k/{number}.png", body, {"owner": "n"}, {"shot": "7"}, **kind)
        site.put(f"d/{number}.png", body, {"word": "s"}, {"client": "a"}, **kind)
    before = site.snapshot()
    killed = 0
    for number in range(rounds):
        site.list()
        plan = site.plan("replace" if number % 2 else "quarantine", again=True)
        site.approve(plan)
        killed += kill_amid(site, command("merge", plan.id, "--by", "anna"), draw.uniform(0.1, 1.5))
        bodies = {thing[0] for thing in site.snapshot(ours=True).values()}
        assert {thing[0] for thing in before.values()} <= bodies
        outcome = site.merge(plan)
        assert outcome.complete, outcome
        assert {one.state for one in outcome.groups} <= {"merged", "already merged"}
        leaving = {key for group in plan.groups for key in group.duplicates}
        assert len(leaving) == GROUPS
        assert not leaving & set(site.keys())
        killed += kill_amid(site, command("undo", plan.id, "--by", "anna"), draw.uniform(0.1, 1.5))
        assert {one.state for one in site.undo(plan.id)} <= {"undone"}
        assert site.snapshot() == before
        assert not [key for key in site.keys(ours=True) if key.startswith(".dam-dedup/quarantine/")]
    return killed


@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_and_taken_up_again(site: Any, command: Any) -> None:
    assert kill_and_take_up(site, command, 2, 1), "no process was still at work when it was killed"


@pytest.mark.soak
@pytest.mark.timeout(24 * 3600)
def test_killed_a_thousand_times(site: Any, command: Any) -> None:
    """SOAK_ROUNDS of two kills, for both kinds of buckets."""
    rounds = int(os.environ.get("SOAK_ROUNDS", "250"))
    killed = kill_and_take_up(site, command, rounds, 2)
    print(f"{killed} of {2 * rounds} processes were at work when they were killed")  # noqa: T201
    assert killed > rounds / 2
