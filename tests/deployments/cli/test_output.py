"""Where output can go no further, the program says so, or keeps still."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def settings(*words: str, folder: Path, output: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deployments.cli", "settings", *words],
        cwd=folder,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("words", [(), ("--json",), ("--effective",)])
def test_a_full_output_is_told(words: tuple[str, ...], tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = settings(*words, folder=tmp_path, output=full.fileno())
    assert done.returncode == 1
    assert done.stderr == "dam-dedup: cannot write the output: No space left on device\n"


def test_a_closed_pipe_is_no_error_to_talk_about(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = settings(folder=tmp_path, output=writer)
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == ""
