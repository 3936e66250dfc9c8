"""Shards on an engine: the same catalog as one process makes, whoever dies meanwhile."""

from __future__ import annotations

import io
import itertools
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pyarrow as pa
import pytest

import tasks.queries.scan_verifier as verifier
from tasks.dedup.feature_cache import FeatureCache
from tasks.engine.shards import Engine
from tasks.errors import EngineError
from tasks.queries.verify_processes import Task, answer_pair
from tasks.queries.verify_shards import read_verified, verify_shard
from tests.conftest import blobs


def number(shard: int) -> pa.Table:
    return pa.table({"n": [shard]})


class LostError(Exception):
    pass


def fails_on_three(shard: int) -> pa.Table:
    if shard == 3:
        raise LostError("its worker died")
    return number(shard)


def test_shards_are_answered_in_order_and_drawn_as_they_are_needed():
    drawn: list[int] = []
    gate = threading.Event()

    def slow(shard: int) -> pa.Table:
        if shard == 0:
            gate.wait(20)
        return number(shard)

    def shards():
        for shard in range(20):
            drawn.append(shard)
            if shard == 4:
                gate.set()  # the fifth is drawn before the first is answered, the sixth is not
            yield shard

    with ThreadPoolExecutor(2) as pool:
        found = []
        for shard, table in Engine("here", pool, lambda: 2).run(slow, shards()):
            assert len(drawn) <= shard + 6
            found.append(table["n"][0].as_py())
    assert found == list(range(20))


def test_a_shard_that_kills_its_workers_is_lost_alone():
    with ThreadPoolExecutor(2) as pool:
        found = dict(
            Engine("here", pool, lambda: 2, lost=(LostError,)).run(fails_on_three, range(6))
        )
    assert [shard for shard, table in found.items() if table is None] == [3]


def test_what_a_job_raises_is_raised():
    with ThreadPoolExecutor(1) as pool, pytest.raises(LostError):
        list(Engine("here", pool, lambda: 1).run(fails_on_three, range(6)))


class Silent(Executor):
    """An executor whose work never ends, or whose scheduler is gone."""

    def __init__(self, gone: bool) -> None:
        self._gone = gone

    def submit(self, *_, **__):
        future: Future = Future()
        if self._gone:
            future.cancel()
            future.set_running_or_notify_cancel()
        return future


@pytest.mark.parametrize(("gone", "says"), [(True, "is gone"), (False, "no worker")])
def test_an_engine_that_is_gone_is_an_error_that_says_what_to_do(gone, says, monkeypatch):
    monkeypatch.setattr("tasks.engine.shards._LOOK_SECONDS", 0.05)
    engine = Engine("the cluster", Silent(gone), lambda: 0, patience=0.1)
    with pytest.raises(EngineError, match=says):
        list(engine.run(number, range(3)))


def test_a_shard_of_pairs_has_the_answers_of_one_process():
    def jpeg(seed: int, width: int = 160) -> bytes:
        buffer = io.BytesIO()
        blobs(seed).resize((width, width * 3 // 4)).save(buffer, "JPEG")
        return buffer.getvalue()

    jpegs = {"a": jpeg(0), "b": jpeg(0, 120), "c": jpeg(1)}
    pairs = [*itertools.combinations(jpegs, 2), ("a", "unknown")]
    cache = FeatureCache(10)
    expected = [answer_pair(cache, jpegs, *pair) for pair in pairs]
    assert expected[-1] is None
    assert max(one[0] for one in expected[:-1]) >= 0.7
    assert read_verified(verify_shard(Task(pairs, jpegs)), len(pairs)) == expected
    assert read_verified(None, 2) == [None, None]


def test_a_scan_verifies_by_shards_what_it_verifies_itself(library, monkeypatch):
    for seed in range(4):
        library.add(f"p{seed}.png", seed)
        library.add(f"p{seed}.jpg", seed, quality=60)
    usual = library.scan()
    monkeypatch.setattr(verifier, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(verifier, "_TASK", 3)
    monkeypatch.setattr(verifier, "_CHUNK", 8)
    shards: list[Task] = []

    def counted(task: Task) -> pa.Table:
        shards.append(task)
        return verify_shard(task)

    monkeypatch.setattr(verifier, "verify_shard", counted)
    with ThreadPoolExecutor(2) as pool:
        from contextlib import nullcontext

        engine = Engine("here", pool, lambda: 2)
        monkeypatch.setattr("tasks.scan.verify.open_engine", lambda _: nullcontext(engine))
        again = library.scan(catalog="fresh")
    assert len(shards) > 1
    assert again.summary.counts["verified"] == usual.summary.counts["verified"] > 0
    assert again.summary.pairs.equals(usual.summary.pairs)
