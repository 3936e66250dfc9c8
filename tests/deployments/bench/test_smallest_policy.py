"""``dam-dedup bench policy``: what is drawn, and what is counted as merged."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from deployments.bench import smallest_policy
from deployments.bench.pair_answers import Answer
from deployments.cli.main import app
from tests.conftest import blobs

RUN = CliRunner()


@pytest.fixture
def photographs(tmp_path):
    for seed in range(8):
        blobs(seed).save(tmp_path / f"{seed}.png")
    return tmp_path


@pytest.mark.long
def test_what_is_called_exact_is_merged_unless_its_times_ask(photographs, monkeypatch):
    """Every pair gets one answer: then all that differs is merged, but for frames with a time."""
    monkeypatch.setattr(smallest_policy, "answer_pair", lambda _: Answer(0.96, 0.97, "same"))
    monkeypatch.setattr(smallest_policy, "TEMPLATES", smallest_policy.TEMPLATES[:1])
    command = ["bench", "policy", "--images", str(photographs), "--photographs", "8"]
    found = RUN.invoke(app, [*command, "--things", "0", "--json"])
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    rows = {row["kind"]: row for row in said["rows"]}
    assert list(rows) == ["documents", "photographs", "templates", "bursts", "all"]
    assert rows["photographs"]["files"] == 8 * 7
    assert rows["photographs"]["same"] == rows["photographs"]["exact"] == 8 * 21
    assert rows["photographs"]["merged"] == rows["photographs"]["different"] > 0
    bursts = rows["bursts"]
    # Of one photograph: six pairs of four frames, saved in three ways, and in two with a time.
    assert (bursts["merged"], bursts["asked"]) == (6 * 9, 6 * 4)
    assert bursts["different"] == 6 * 9 + 6 * 4
    assert rows["all"]["merged"] == sum(row["merged"] for row in said["rows"][:-1])
    assert len(said["merged"]) == rows["all"]["merged"]
