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

ROUNDS, GROUPS = 2, 8


def png(seed: int) -> bytes:
    """Bytes that pass for a picture; each seed its own."""
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(7) + bytes(f"picture {seed}", "ascii")


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


@pytest.mark.timeout(600)
def test_killed_and_taken_up_again(site: Any, command: Any, versioned: bool) -> None:
    draw = random.Random(1)
    for seed in range(GROUPS):
        site.put(f"k/{seed}.png", png(seed), {"owner": "n"}, {"shot": "7"}, ContentType="image/png")
        site.put(
            f"d/{seed}.png", png(seed), {"word": "s"}, {"client": "a"}, ContentType="image/png"
        )
    before = site.snapshot()
    killed = 0
    for number in range(ROUNDS):
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
    assert killed, "no process was still at work when it was killed"
