"""The benchmark of a whole machine: every rate has its floor, and the lists are right."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deployments.bench.command import bench_app
from deployments.bench.varied import read_files, vary, vary_one
from tasks.errors import SettingsError


@pytest.mark.long
def test_every_rate_has_its_floor(library, monkeypatch, tmp_path):
    for seed in range(4):
        library.add(f"sub/{seed}.png", seed)
    monkeypatch.setenv("DAM_DEDUP_EMBEDDING__MODEL", str(library.model))
    monkeypatch.setenv("DAM_DEDUP_EMBEDDING__POOLING", "cls")
    monkeypatch.setenv("DAM_DEDUP_EMBEDDING__DEVICE", "cpu")
    monkeypatch.setenv("DAM_DEDUP_EMBEDDING__DECODERS", "2")
    place = tmp_path / "work"
    place.mkdir()
    options = ["--pictures", "24", "--side", "96", "--pairs", "30", "--vectors", "600"]
    options += ["--workers", "1", "--workers", "2", "--dim", "32", "--work", str(place)]
    found = CliRunner().invoke(
        bench_app, ["machine", "--images", str(library.folder), *options, "--json"]
    )
    assert found.exit_code == 0, found.output
    rates = {rate["what"].partition(",")[0]: rate for rate in json.loads(found.stdout)}
    assert list(rates) == [
        "matrix product",
        "exact lists of 600 x 32",
        "model alone",
        "decoders alone",
        "embed stage",
        "verification",
    ]
    slower = min(rates["model alone"]["rate"], rates["decoders alone"]["rate"])
    assert rates["embed stage"]["floor_rate"] == slower
    assert rates["verification"]["what"] == "verification, 2 processes"
    lists = rates["exact lists of 600 x 32"]
    assert "0 of 100 lists off" in lists["floor"]
    assert lists["ratio"] == pytest.approx(lists["rate"] / lists["floor_rate"])
    assert not any(place.iterdir()), "it leaves nothing behind"


def test_files_of_one_photograph_differ_and_are_drawn_again(tmp_path):
    levels = np.random.default_rng(1).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "one.png")
    made = [tmp_path / f"{number}.jpg" for number in range(2)]
    for number, path in enumerate(made):
        vary_one((number, str(tmp_path / "one.png"), 80, str(path)))
    first = made[0].read_bytes()
    with Image.open(made[0]) as one, Image.open(made[1]) as two:
        assert max(one.size) == max(two.size) == 80
        assert np.asarray(one).tobytes() != np.asarray(two).tobytes()
    vary_one((0, str(tmp_path / "one.png"), 80, str(made[0])))
    assert made[0].read_bytes() == first
    assert read_files([str(path) for path in made]) == 2


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no photographs"):
        vary(tmp_path, tmp_path / "into", 3, 64)
