"""Verification in processes: the answers of threads, and one that dies costs its task alone."""

from __future__ import annotations

import io
import itertools
import os
import signal

import pytest
from PIL import Image

import tasks.queries.scan_verifier as verifier
from tasks.dedup.feature_cache import FeatureCache
from tasks.dedup.features import pack_local
from tasks.queries.verify_processes import Task, VerifyProcesses, answer_pair
from tests.conftest import blobs


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def jpegs() -> dict[str, bytes]:
    made = {f"{seed}": jpeg(blobs(seed)) for seed in range(3)}
    return made | {"0 small": jpeg(blobs(0).resize((120, 90)))}


def test_processes_answer_as_threads_do_and_outlive_one_that_dies(jpegs):
    pairs = list(itertools.combinations(sorted(jpegs), 2))
    cache = FeatureCache(10)
    expected = [answer_pair(cache, jpegs, *pair) for pair in pairs]
    assert max(score for score, _ in expected) >= 0.7
    with VerifyProcesses(1, 100) as processes:
        [found] = processes.verify([Task(pairs, jpegs)])
        assert found == expected
        [blind] = processes.verify([Task([("0", "unknown")], jpegs)])
        assert blind == [None], "a pair without a thumbnail has no answer"
        process = processes._idle.get()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        processes._idle.put(process)
        first, second = processes.verify([Task(pairs, jpegs), Task(pairs, jpegs)])
        assert first == [None] * len(pairs)
        assert second == expected, "another process took its place"


def test_features_are_looked_for_once_and_handed_to_whoever_needs_them(jpegs):
    pairs = list(itertools.combinations(sorted(jpegs), 2))
    expected = [answer_pair(FeatureCache(10), jpegs, *pair) for pair in pairs]
    with VerifyProcesses(2, 100) as processes:
        local = processes.describe(jpegs | {"broken": b"no picture"})
        assert local == {name: pack_local(jpeg) for name, jpeg in jpegs.items()}
        copy = ("0", "0 small")
        others = dict(zip(local, reversed(local.values()), strict=True))
        [answers] = processes.verify([Task([copy], jpegs, others)])
        assert answers[0] != expected[pairs.index(copy)], "it uses what it is handed"
    with VerifyProcesses(2, 100) as processes:
        [answers] = processes.verify([Task(pairs, jpegs, local)])
        assert answers == expected


def test_a_process_that_dies_of_a_picture_leaves_its_pairs_to_the_others(jpegs, caplog):
    with VerifyProcesses(1, 100) as processes:
        processes.describe({"0": jpegs["0"]})
        process = processes._idle.get()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        processes._idle.put(process)
        assert set(processes.describe({"0": jpegs["0"], "1": jpegs["1"]})) == {"0"}
        assert "1 pictures" in caplog.text
        assert set(processes.describe(jpegs)) == set(jpegs)


@pytest.mark.long
def test_a_scan_by_processes_ends_as_one_by_threads(library, monkeypatch):
    for seed in range(4):
        library.add(f"p{seed}.png", seed)
        library.add(f"p{seed}.jpg", seed, quality=60)
    monkeypatch.setenv("DAM_DEDUP_MATCH__WORKERS", "2")
    usual = library.scan()
    monkeypatch.setattr(verifier, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(verifier, "_TASK", 3)
    monkeypatch.setattr(verifier, "_CHUNK", 8)

    def by_threads(*_):
        raise AssertionError("not by threads")

    monkeypatch.setattr(verifier.ScanVerifier, "_by_threads", by_threads)
    again = library.scan(catalog="fresh")
    assert again.summary.counts["verified"] == usual.summary.counts["verified"] > 0
    assert again.summary.pairs.equals(usual.summary.pairs)
