"""Shards on an engine: the same catalog as one process makes, whoever dies meanwhile."""

from __future__ import annotations

import io
import itertools
import sys
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext

import polars as pl
import pyarrow as pa
import pytest

import tasks.queries.scan_verifier as verifier
from tasks.dedup.feature_cache import FeatureCache
from tasks.engine.shards import Engine
from tasks.errors import EngineError, SettingsError
from tasks.queries.verify_processes import Task, answer_pair
from tasks.queries.verify_shards import read_verified, verify_shard
from tasks.session import engine_facts, open_catalog, open_engine
from tasks.settings import load_settings
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


def test_a_scheduler_that_cannot_be_asked_for_its_workers_is_gone():
    def workers() -> int:
        raise OSError("timed out")

    with ThreadPoolExecutor(1) as pool, pytest.raises(EngineError, match=r"is gone.*scan again"):
        list(Engine("the cluster", pool, workers).run(number, range(3)))


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


def test_a_scan_by_shards_ends_as_one_by_itself(library, monkeypatch):
    for seed in range(4):
        library.write(f"p{seed}.png", blobs(seed).resize((480, 360)))
        library.write(f"p{seed}.jpg", blobs(seed).resize((480, 360)), quality=70)
    library.write("p0 again.png", blobs(0).resize((480, 360)))
    library.write("broken.jpg", b"\xff\xd8\xff\xe0 no picture")
    usual = library.scan()
    monkeypatch.setattr(verifier, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(verifier, "_TASK", 3)
    monkeypatch.setattr(verifier, "_CHUNK", 8)
    monkeypatch.setattr("tasks.queries.reading_shards._IMAGES", 3)
    monkeypatch.setattr("tasks.queries.proof_shards._PAIRS", 2)
    jobs: list[str] = []
    run = Engine.run

    def counted(engine, job, shards):
        for answer in run(engine, job, shards):
            jobs.append(job.__name__)
            yield answer

    monkeypatch.setattr(Engine, "run", counted)
    with ThreadPoolExecutor(2) as pool:
        engine = Engine("here", pool, lambda: 2)
        for stage in ("embed", "verify", "prove"):
            monkeypatch.setattr(f"tasks.scan.{stage}.open_engine", lambda _: nullcontext(engine))
        again = library.scan(catalog="fresh")
    assert {job: jobs.count(job) > 1 for job in jobs} == dict.fromkeys(
        ["read_shard", "verify_shard", "prove_shard"], True
    )
    for name in ("read", "embedded", "verified", "proven"):
        assert again.summary.counts[name] == usual.summary.counts[name] > 0, name
    assert again.summary.pairs.equals(usual.summary.pairs)
    assert rows_of(again) == rows_of(usual)


def rows_of(outcome) -> dict[str, list]:
    """What was learned of the pictures and of their pairs, each table sorted.

    How much two originals differ is left out: here they are compared by threads of one process, and
    OpenCV's sums differ in their last digits by how many threads there are. In decoder processes
    they do not (test_cluster.py).
    """
    apart = {"at", "excess", "box"}
    catalog = open_catalog(outcome.scan.settings)
    tables = ["assets", "thumbnails", "features", "packets", "neighbours", "pairs", "proofs"]
    found = {}
    for name in [*tables, f"vectors_{outcome.summary.space.id}"]:
        columns = [one for one in catalog.table(name).schema.names if one not in apart]
        rows = pl.DataFrame(pl.from_arrow(catalog.read_arrow(name, columns))).rows()
        assert rows, name
        found[name] = sorted(rows, key=str)
    return found


class Cluster:
    """A Dask client as far as it is used, of two workers."""

    KilledWorker = LostError

    def __init__(self, facts: str) -> None:
        self.facts = facts
        self.asked: dict[str, object] = {}

    def Client(self, address, **_):  # noqa: N802
        self.asked["address"] = address
        return self

    def run(self, job, **_):
        return {"tcp://10.0.0.1:1": job(), "tcp://10.0.0.2:1": self.facts}

    def get_executor(self, **options):
        self.asked |= options
        return ThreadPoolExecutor(1)

    def nthreads(self):
        return {"tcp://10.0.0.1:1": 1, "tcp://10.0.0.2:1": 1}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_a_worker_of_another_release_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", Cluster("dam-dedup 0.0.1"))
    settings = load_settings(engine={"kind": "dask", "address": "tcp://here:8786"})
    other = r"tcp://10\.0\.0\.2:1 has 'dam-dedup 0\.0\.1'"
    with pytest.raises(EngineError, match=other), open_engine(settings):
        pass


def test_shards_ask_for_a_gpu_where_the_settings_do(monkeypatch):
    cluster = Cluster(engine_facts())
    monkeypatch.setitem(sys.modules, "distributed", cluster)
    chosen = {"kind": "dask", "address": "tcp://here:8786", "gpu": True}
    with open_engine(load_settings(engine=chosen)) as engine:
        [(_, table)] = engine.run(number, [7])
    assert table == number(7)
    assert cluster.asked["address"] == "tcp://here:8786"
    assert cluster.asked["resources"] == {"GPU": 1}


def test_without_the_extra_the_message_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    settings = load_settings(engine={"kind": "dask", "address": "tcp://here:8786"})
    with pytest.raises(SettingsError, match=r"dam-dedup\[cluster\]"), open_engine(settings):
        pass


def test_by_default_there_is_no_engine():
    with open_engine(load_settings()) as engine:
        assert engine is None
