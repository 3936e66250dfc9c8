"""bench gate: a real server is asked, and every request is accounted for."""

from __future__ import annotations

import pytest

from deployments.bench.serving import run_gate
from tasks.progress import silent
from tasks.settings import load_settings

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(900)]


def test_every_request_is_accounted_for(library, tmp_path, monkeypatch):
    for seed in range(6):
        library.add(f"p{seed}.jpg", seed)
    for name, value in (
        ("MODEL", str(library.model)),
        ("POOLING", "cls"),
        ("DEVICE", "cpu"),
        ("DECODERS", "1"),
    ):
        monkeypatch.setenv(f"DAM_DEDUP_EMBEDDING__{name}", value)
    monkeypatch.setenv("DAM_DEDUP_GATE__REQUEST_SECONDS", "300")
    work = tmp_path / "work"
    work.mkdir()
    report = run_gate(
        load_settings(),
        library.folder,
        assets=100,
        clients=[1, 2],
        requests=2,
        soak=3,
        work=work,
        seed=0,
        progress=silent,
    )
    assert (report.assets, report.photographs) == (100, 6)
    rounds = [(one.asked, one.clients, one.requests) for one in report.rounds]
    assert rounds[:4] == [("upload", 1, 2), ("upload", 2, 2), ("id", 1, 2), ("id", 2, 2)]
    assert sum(total for asked, _, total in rounds if asked == "mixed") == 3
    assert report.answers == {"200": 11}
    assert not any(one.errors or one.refused for one in report.rounds)
    assert all(0 < one.p50 <= one.p95 <= one.p99 for one in report.rounds)
    assert len(report.memory) == len(report.rounds) + 1
    assert min(report.memory) > 10_000_000
