"""The benchmark of speed: every step has its figures, and the floor is the same work's."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from deployments.bench.command import bench_app
from deployments.bench.speed import bytes_by_table


@pytest.fixture
def photographs(library, monkeypatch):
    for seed in range(4):
        library.add(f"sub/{seed}.png", seed)
    monkeypatch.setenv("DAM_DEDUP_EMBEDDING__MODEL", str(library.model))
    monkeypatch.setenv("DAM_DEDUP_EMBEDDING__POOLING", "cls")
    monkeypatch.setenv("DAM_DEDUP_EMBEDDING__DECODERS", "1")
    return library


def run(photographs, *options: str) -> str:
    found = CliRunner().invoke(
        bench_app, ["speed", "--images", str(photographs.folder), "--sizes", "160", *options]
    )
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.mark.long
def test_every_step_and_stage_has_its_figures(photographs):
    found = json.loads(run(photographs, "--pictures", "3", "--json"))
    steps = {step["step"].partition(",")[0]: step for step in found["steps"]}
    assert list(steps) == [
        "read a JPEG of 160 px",
        "embed",
        "compact features",
        "full features",
        "first look",
        "verify strangers in full",
        "verify copies",
        "embed stage",
    ]
    for step in steps.values():
        assert step["ms"] > 0
        if step["floor"]:
            assert step["ratio"] == pytest.approx(step["ms"] / step["floor_ms"])
    assert found["scanned"] == 4
    assert found["stages"]["verify_candidates"] > 0
    assert {"assets", "thumbnails", "features"} <= found["table_bytes"].keys()
    assert not (photographs.place / "var").exists(), "it leaves nothing behind"


def test_bytes_are_counted_by_table(tmp_path):
    for name, size in (("a.lance/data/x", 3), ("a.lance/_versions/y", 4), ("b.lance/x", 9)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "other").write_bytes(b"no table")
    assert bytes_by_table(tmp_path) == {"b": 9, "a": 7}
