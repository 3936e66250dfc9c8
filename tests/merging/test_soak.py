"""Merges at length: two catalogs at once, wrong clocks, stopped and killed processes, full disks.

Each prints what it did and how often. Nothing may be lost in any of it: every picture has a live
file, and every byte is somewhere.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.catalog import lease
from tasks.catalog.catalog import Catalog
from tasks.errors import DamDedupError
from tasks.merging import journal, merge, undo
from tasks.records import now
from tasks.session import open_catalog
from tests.merging.conftest import KINDS, other_catalog, png
from tests.merging.frugal import frugally
from tests.merging.soak_child import POLICY, work

pytestmark = [pytest.mark.soak, pytest.mark.timeout(24 * 3600)]


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    frugally(monkeypatch)
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.2)


def amount(name: str, usual: int) -> int:
    """How often: ``SOAK_<name>``, or the usual number."""
    return int(os.environ.get(f"SOAK_{name}", str(usual)))


def ahead(skews: threading.local) -> float:
    return float(getattr(skews, "seconds", 0.0))


@pytest.fixture
def skews(monkeypatch: pytest.MonkeyPatch) -> threading.local:
    """``seconds`` by which a thread's clock is ahead of the others'."""
    found = threading.local()

    class Skewed:
        def __getattr__(self, name: str) -> Any:
            return getattr(time, name)

        def time(self) -> float:
            return time.time() + ahead(found)

    monkeypatch.setattr(lease, "time", Skewed())
    for module in (journal, merge, undo):
        monkeypatch.setattr(module, "now", lambda: now() + timedelta(seconds=ahead(found)))
    return found


def fill(site: Any, numbers: range, prefixes: str = "ab") -> None:
    for number in numbers:
        for prefix in prefixes:
            site.put(
                f"{prefix}/{number}.png", png(number), {}, {"n": prefix}, ContentType="image/png"
            )


def digests(site: Any, *, ours: bool = False) -> set[str]:
    return {thing[0] for thing in site.snapshot(ours=ours).values()}


def sums(numbers: range) -> set[str]:
    return {hashlib.sha256(png(number)).hexdigest() for number in numbers}


@pytest.mark.parametrize("kind", KINDS)
def test_double_merges_with_wrong_clocks(
    make_bare_site: Any, tmp_path: Path, skews: threading.local, kind: str
) -> None:
    """Two catalogs with opposite keepers merge the same pairs at once; one clock is wrong."""
    rounds, pairs, seed = amount("ROUNDS", 20), amount("PAIRS", 25), amount("SEED", 1)
    draw = random.Random(seed)
    told: Counter[str] = Counter()
    for number in range(rounds):
        site = make_bare_site(kind)
        other = other_catalog(site, tmp_path / f"other{number}")
        fill(site, range(pairs))
        plans = []
        for where, keepers in ((site, '"a/"'), (other, '"b/"')):
            where.list()
            action = "delete" if kind == "versioned" else "quarantine"
            plan = where.plan(policy=POLICY % (keepers, action))
            where.approve(plan)
            plans.append((where, plan))
        skew = draw.choice([-1, 1]) * draw.choice([1, 30, 90, 3600, 86_400])

        def run(
            where: Any, plan: Any, seconds: float, order: list[str], told: Counter[str] = told
        ) -> None:
            skews.seconds = seconds
            for start in range(0, len(order), 5):
                try:
                    done = where.merge(plan, groups=order[start : start + 5])
                except DamDedupError as error:
                    told[f"refused: {str(error)[:40]}"] += 1
                else:
                    for one in done.groups:
                        told[one.state] += 1

        threads = []
        for at, (where, plan) in enumerate(plans):
            order = [group.group_id for group in plan.groups]
            draw.shuffle(order)
            threads.append(threading.Thread(target=run, args=(where, plan, at * skew, order)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert digests(site) == sums(range(pairs)), f"round {number}, seed {seed}: lost"
        told["pairs"] += pairs
        told["skewed rounds"] += 1
        print(f"round {number}: {dict(told)}", flush=True)  # noqa: T201
    assert told["merged"] >= rounds * pairs * 0.9


# ---- processes of their own ------------------------------------------------------------------


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Any]]:
    """Starts a stage in a process that is forked off one where all is imported."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.merging.soak_child"])
    begun: list[Any] = []

    def start(stage: str, site: Any, plan_id: str = "", policy: str = "", term: float = 90) -> Any:
        process = context.Process(
            target=work, args=(stage, site.settings, site.bucket, plan_id, policy, term)
        )
        process.start()
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.is_alive():
            process.kill()


def test_stopped_for_longer_than_the_term(
    make_bare_site: Any, tmp_path: Path, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge stands still anywhere; meanwhile another catalog merges the other way round."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.05)
    stops, seed = amount("STOPS", 50), amount("SEED", 1)
    draw = random.Random(seed)
    told: Counter[str] = Counter()
    for number in range(stops):
        site = make_bare_site("plain")
        other = other_catalog(site, tmp_path / f"other{number}")
        fill(site, range(3))
        plans = []
        for where, keepers in ((site, '"a/"'), (other, '"b/"')):
            where.list()
            plan = where.plan(policy=POLICY % (keepers, "quarantine"))
            where.approve(plan)
            plans.append(plan)
        before = site.keys(ours=True)
        process = start("merge", site, plans[0].id, term=1.0)
        while process.is_alive() and site.keys(ours=True) == before:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 1.0))
        stopped = process.is_alive()
        if stopped:
            os.kill(process.pid, signal.SIGSTOP)
        try:
            for one in other.merge(plans[1]).groups:
                told[f"other {one.state}"] += 1
            live = digests(site)
        finally:
            if stopped:
                os.kill(process.pid, signal.SIGCONT)
        process.join()
        told["stopped" if stopped else "too late"] += 1
        assert live == sums(range(3)), f"stop {number}, seed {seed}"
        assert digests(site) == sums(range(3)), f"stop {number}, seed {seed}: a late hand"
        print(f"stop {number}: {dict(told)}", flush=True)  # noqa: T201
    assert told["stopped"] > stops / 2


def test_killed_at_every_stage(make_bare_site: Any, start: Any) -> None:
    """SIGKILL at a random moment of creation, scan, plan, merge and undo, and taken up again."""
    rounds, seed = amount("KILL_ROUNDS", 60), amount("SEED", 1)
    draw = random.Random(seed)
    told: Counter[str] = Counter()
    takes = dict.fromkeys(("create", "scan", "plan", "merge", "undo"), 0.5)
    policy = POLICY % ('"a/"', "quarantine")
    for number in range(rounds):
        site = make_bare_site("plain")
        fill(site, range(4))
        before = site.snapshot()
        plan: Any = None
        for stage in takes:
            process = start(stage, site, plan.id if plan else "", policy)
            begun = time.monotonic()
            process.join(draw.uniform(0, 1.2 * takes[stage]))
            if process.is_alive():
                process.kill()
                told[f"killed {stage}"] += 1
            else:
                takes[stage] = 0.7 * takes[stage] + 0.3 * (time.monotonic() - begun)
            process.join()
            if told[f"killed {stage}"] * 2 > number + 2:  # most were: let it come further
                takes[stage] *= 1.2
            assert {thing[0] for thing in before.values()} <= digests(site, ours=True)
            plan = take_up(site, stage, plan, policy)
        assert site.snapshot() == before, f"round {number}, seed {seed}"
        told["kills"] = sum(count for name, count in told.items() if name.startswith("killed "))
        print(f"round {number}: {dict(told)}", flush=True)  # noqa: T201
    assert told["kills"] > rounds


def take_up(site: Any, stage: str, plan: Any, policy: str) -> Any:
    """Do a stage to its end after somebody was killed in it; gives the plan from then on."""
    catalog = open_catalog(site.settings)
    if stage == "create":
        for name in ("plans", "journal", "decisions", "verdicts", "groups", "scans"):
            catalog.count(name)
    elif stage == "scan":
        site.list()
    elif stage == "plan":
        plan = site.plan(policy=policy)
        site.approve(plan)
    elif stage == "merge":
        assert site.merge(plan).complete
    elif stage == "undo":
        assert {one.state for one in site.undo(plan.id)} <= {"undone"}
    return plan


# ---- a full disk -----------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MB."""
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, check=False).returncode:
        pytest.skip("no file system can be mounted here: it needs to be root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def stuff(place: Path) -> None:
    """Fill a file system to its last byte."""
    with (place / "ballast").open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


def test_the_disk_is_full_at_any_write(
    make_bare_site: Any, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each write of creation, scan, plan, decision, merge and undo in turn."""
    upsert, make = Catalog.upsert, Catalog._make
    policy = POLICY % ('"a/"', "quarantine")
    writes = [0, -1]  # so far, and the one at which the disk is full
    told: Counter[str] = Counter()

    def counted(real: Any) -> Any:
        def write(self: Catalog, name: str, *args: Any, **options: Any) -> Any:
            if writes[0] == writes[1]:
                stuff(small)
                told[f"full at {name}"] += 1
            writes[0] += 1
            return real(self, name, *args, **options)

        return write

    monkeypatch.setattr(Catalog, "upsert", counted(upsert))
    monkeypatch.setattr(Catalog, "_make", counted(make))
    at, last = amount("FULL_FROM", 0), amount("FULL_TO", 10_000)
    while True:
        site = make_bare_site("plain")
        catalog = site.settings.catalog.model_copy(update={"uri": str(small / "catalog")})
        site.settings = site.settings.model_copy(update={"catalog": catalog})
        fill(site, range(2))
        before = site.snapshot()
        writes[:] = [0, at]
        plan: Any = None
        for stage in ("create", "scan", "plan", "merge", "undo"):
            try:
                plan = take_up(site, stage, plan, policy)
            except (DamDedupError, AssertionError) as error:  # a merge that is not complete
                told[f"{stage}: {type(error).__name__}"] += 1
            except RuntimeError as error:
                raise AssertionError(f"write {at}, {stage}: not one of ours: {error}") from error
            if (small / "ballast").exists():
                (small / "ballast").unlink()
                assert {thing[0] for thing in before.values()} <= digests(site, ours=True)
                plan = take_up(site, stage, plan, policy)
        assert site.snapshot() == before, f"write {at}"
        shutil.rmtree(small / "catalog")
        print(f"write {at} of {writes[0]}: {dict(told)}", flush=True)  # noqa: T201
        at += 1
        if at >= min(writes[0], last):
            break
    assert writes[0] > 20
