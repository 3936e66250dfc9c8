"""Two Dask workers and a real S3 server end with the catalog that one process makes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tasks.queries.proof_shards as proof_shards
import tasks.queries.reading_shards as reading_shards
import tasks.queries.scan_verifier as verifier
from flows.order import Outcome, run_scan
from tasks.errors import EngineError, SettingsError
from tasks.records import Kind
from tasks.requests import ScanRequest
from tasks.session import open_catalog, open_engine
from tasks.settings import load_settings
from tests.conftest import Library, blobs

pytest.importorskip("distributed")
ROOT = Path(__file__).resolve().parents[2]
#: Columns that tell when, or in which scan: they differ between two scans of one process, too.
WHEN = {"scan_id", "member_id", "at", "started", "finished", "counts", "state"}
TABLES = ["assets", "thumbnails", "features", "packets", "neighbours", "pairs", "proofs", "groups"]


class Cluster:
    """A scheduler and its workers, each a process."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._file = place / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start(
            "scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1"
        )
        deadline = time.monotonic() + 60
        while not self._file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)

        self.address: str = json.loads(self._file.read_text())["address"]

    def work(self) -> subprocess.Popen[bytes]:
        return self._start(
            "worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"
        )

    def _start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
        process = subprocess.Popen(
            [*command, "--scheduler-file", str(self._file)],
            cwd=self._place,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=(self._place / f"{kind}.log").open("ab"),
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    started = Cluster(tmp_path)
    yield started
    started.end()


@pytest.fixture
def scan(
    s3: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Scans one bucket of pictures, two thirds of them copies, into a catalog of its own."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DAM_DEDUP_")]:
        monkeypatch.delenv(name)
    library = Library(tmp_path, tiny_model)
    bucket = s3.bucket()
    for seed in range(4):
        library.write(f"p{seed}.png", blobs(seed).resize((480, 360)))
        library.write(f"p{seed}.jpg", blobs(seed).resize((480, 360)), quality=70)
        library.write(f"p{seed} small.jpg", blobs(seed).resize((240, 180)), quality=80)
    (library.folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    for path in library.folder.iterdir():
        s3.client.upload_file(str(path), bucket, path.name)
    monkeypatch.setattr(verifier, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(verifier, "_TASK", 2)
    monkeypatch.setattr(verifier, "_CHUNK", 4)
    monkeypatch.setattr(reading_shards, "_IMAGES", 2)
    monkeypatch.setattr(proof_shards, "_PAIRS", 2)

    def run(catalog: str, address: str | None = None, progress: Any = None) -> Outcome:
        engine = {"kind": "dask", "address": address, "wait_seconds": 3} if address else {}
        settings = load_settings(
            catalog={"uri": str(tmp_path / catalog)},
            delivery={"folder": tmp_path / "reports"},
            embedding={
                "model": str(tiny_model),
                "pooling": "cls",
                "device": "cpu",
                "decoders": 1,
            },
            engine=engine,
        ).model_copy(update={"s3": s3.settings})
        request = ScanRequest(kind=Kind.FULL, source=f"s3://{bucket}")
        return run_scan(request, settings, **({"progress": progress} if progress else {}))

    return run


def rows_of(outcome: Outcome) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables that a scan fills, each table sorted by its key."""
    catalog = open_catalog(outcome.scan.settings)
    found = {}
    for name in [*TABLES, f"vectors_{outcome.summary.space.id}"]:
        columns = [one for one in catalog.table(name).schema.names if one not in WHEN]
        rows = pl.DataFrame(pl.from_arrow(catalog.read_arrow(name, columns)))
        found[name] = sorted(rows.rows(), key=str)
    return found


def equal(one: Outcome, other: Outcome) -> None:
    rows, others = rows_of(one), rows_of(other)
    assert len(rows["assets"]) == 13
    assert len(rows["proofs"]) > 2
    for name, found in rows.items():
        assert found == others[name], name


@pytest.mark.long
def test_two_workers_make_the_catalog_of_one_process_though_two_are_killed(
    scan, cluster, monkeypatch
):
    alone = scan("alone")
    workers = [cluster.work(), cluster.work()]
    equal(scan("together", cluster.address), alone)

    killed = []

    def kill(stage: str) -> None:
        if stage not in killed:
            killed.append(stage)
            worker = workers.pop(0)
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
            workers.append(cluster.work())

    real = verifier.read_verified

    def read(*answer: Any) -> Any:
        kill("verify")
        return real(*answer)

    monkeypatch.setattr(verifier, "read_verified", read)

    def progress(stage: str, done: int, total: int | None) -> None:
        if stage == "embed" and done:
            kill("embed")

    equal(scan("killed", cluster.address, progress), alone)
    assert killed == ["embed", "verify"]


@pytest.mark.long
def test_a_scheduler_that_dies_costs_the_remainder_of_the_scan(scan, cluster):
    cluster.work()

    def progress(stage: str, done: int, total: int | None) -> None:
        if stage == "embed" and done == 5:
            cluster.scheduler.kill()

    with pytest.raises(EngineError, match=r"is gone|no worker"):
        scan("broken", cluster.address, progress)
    kept = scan("broken")
    assert 0 < kept.summary.counts["read"] < 12, "what was read before is still there"
    equal(kept, scan("alone"))


def test_an_engine_without_its_scheduler_says_which_setting_is_meant(monkeypatch):
    monkeypatch.setattr("tasks.engine.cluster._CONNECT_SECONDS", 0.5)
    with pytest.raises(SettingsError, match="address"):
        load_settings(engine={"kind": "dask"})
    settings = load_settings(engine={"kind": "dask", "address": "tcp://127.0.0.1:9"})
    with pytest.raises(EngineError, match="ENGINE__ADDRESS"), open_engine(settings):
        pass
