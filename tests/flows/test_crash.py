"""A scan that is killed loses nothing that was written, and the next one ends like no other."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.catalog.catalog import Catalog

IMAGES = 90
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photo-like pictures, every third with a smaller copy."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(7)
    for number in range(IMAGES):
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((400, 300), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:03}.jpg", quality=90)
        if number % 3 == 0:
            image.resize((200, 150)).save(folder / f"{number:03}-copy.jpg", quality=70)
    return folder


def start(pictures: Path, work: Path, before: str = "") -> subprocess.Popen[str]:
    """A scan in a process group of its own; ``before`` is run in it first."""
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("DAM_DEDUP_")},
        "DAM_DEDUP_MATCH__BLOCK_ROWS": "16",
        "DAM_DEDUP_EMBEDDING__BATCH_SIZE": "4",
        "DAM_DEDUP_EMBEDDING__DECODERS": "1",
    }
    command = [
        sys.executable,
        "-c",
        f"{before}\nfrom deployments.cli.main import main\nmain()",
        "scan",
        "--kind",
        "incremental",
        "--json",
        "--source",
        str(pictures),
        "--catalog",
        str(work / "c"),
        "--out",
        str(work / "o"),
    ]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> dict[str, dict[str, int]]:
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    result: dict[str, dict[str, int]] = json.loads(out)
    return result


def kill_when(process: subprocess.Popen[str], work: Path, table: str, fewer_than: int) -> int:
    """SIGKILL the scan as soon as a table has rows; how many it has then."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        rows = count(work, table)
        if rows:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            rows = count(work, table)
            assert 0 < rows < fewer_than, "killed too late to prove anything"
            return rows
        time.sleep(0.02)
    raise AssertionError(f"the scan ended (exit {process.poll()}) before {table} had rows")


def count(work: Path, table: str) -> int:
    found = list((work / "c").glob(f"{table}*.lance"))
    return Catalog(str(work / "c")).count(found[0].stem) if found else 0


def results(work: Path) -> tuple[list[dict[str, object]], list[list[str]]]:
    groups = json.loads((work / "o" / "groups.json").read_text())
    with (work / "o" / "pairs.csv").open() as file:
        return groups["groups"], list(csv.reader(file))


def test_killed_scans_end_like_an_undisturbed_one(pictures: Path, tmp_path: Path) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    whole = finish(start(pictures, calm))
    total = whole["counts"]["embedded"]
    assert total == IMAGES + IMAGES // 3
    expected = results(calm)

    kept = kill_when(start(pictures, killed), killed, "vectors_", total)
    pairs = count(calm, "pairs")
    assert pairs == whole["counts"]["verified"]
    verified = kill_when(start(pictures, killed), killed, "pairs", pairs)
    assert count(killed, "vectors_") == total
    proofs = count(calm, "proofs")
    assert proofs == whole["counts"]["proven"] == IMAGES // 3
    often = "import tasks.scan.prove as prove\nprove._WRITE_ROWS = 2"
    proven = kill_when(start(pictures, killed, often), killed, "proofs", proofs)
    last = finish(start(pictures, killed))

    assert last["counts"]["embedded"] == 0, "the second scan had embedded the rest"
    assert last["counts"]["compared"] == 0, "... and looked up all lists"
    assert 0 < verified < pairs == count(killed, "pairs")
    assert last["counts"]["verified"] == 0, "the third scan had verified the rest"
    assert last["counts"]["proven"] == proofs - proven
    assert count(killed, "proofs") == proofs
    assert kept > 0
    assert results(killed) == expected
    assert not Catalog(str(killed / "c")).duplicate_keys()

    again = finish(start(pictures, calm))["counts"]
    idle = ("added", "changed", "removed", "embedded", "compared", "verified", "proven")
    assert {again[name] for name in idle} == {0}
    groups, listed = results(calm)
    assert listed == expected[1]
    assert groups == [{**group, "state": "known"} for group in expected[0]]
