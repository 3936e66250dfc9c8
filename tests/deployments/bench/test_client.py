"""bench client: each picture is entered once and asked for twice."""

from __future__ import annotations

import pytest

from deployments.bench.client import run_client
from tasks.settings import load_settings
from tests.conftest import blobs

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_what_is_there_twice_is_found_both_times(library, tmp_path, monkeypatch):
    for seed in range(4):
        library.write(f"p{seed}.jpg", blobs(seed))
    library.write("again.jpg", blobs(2), quality=60)
    for name, value in (
        ("MODEL", str(library.model)),
        ("POOLING", "cls"),
        ("DEVICE", "cpu"),
        ("DECODERS", "1"),
    ):
        monkeypatch.setenv(f"DAM_DEDUP_EMBEDDING__{name}", value)
    work = tmp_path / "work"
    work.mkdir()
    said = []
    report = run_client(
        load_settings(),
        sorted(library.folder.glob("*.jpg")),
        work,
        lambda stage, done, total: said.append((stage, done, total)),
    )
    names = ["index", "scan, first", "scan, again"]
    assert [(one.name, one.pictures) for one in report.rounds] == [(name, 5) for name in names]
    assert report.found == 2
    assert all(one.server > 0 and one.seconds > 0 for one in report.rounds)
    assert said[-1] == ("scan, again", 5, 5)
