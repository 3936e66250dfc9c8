"""The state machine of merges (machine.py), short, at length, and for hours."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tasks.settings import Settings
from tests.merging.conftest import KINDS
from tests.merging.machine import Merges
from tests.merging.world import BODIES, KEYS, STEPS, watched

STEPS_EACH = 40  # of an example; some end early
Counts = dict[str, int]
BOTH_KINDS = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def run_machine(
    s3: Any, kind: str, monkeypatch: pytest.MonkeyPatch, make_bare_site: Any
) -> Callable[[int, int], Counts]:
    """Runs so many examples of a seed; gives how often each thing happened."""

    def make() -> tuple[Any, str, Settings, str]:
        site = make_bare_site(kind)
        return s3.client, site.bucket, site.settings, kind

    def run(number: int, examples: int) -> Counts:
        machine = seed(number)(type("Machine", (Merges,), {"make": staticmethod(make)}))
        STEPS.clear()
        try:
            with watched(monkeypatch, s3.settings):
                run_state_machine_as_test(
                    machine,
                    settings=settings(
                        max_examples=examples,
                        stateful_step_count=STEPS_EACH,
                        deadline=None,
                        suppress_health_check=list(HealthCheck),
                        database=None,
                        # No shorter example: to find one would take an hour.
                        phases=[Phase.generate],
                        report_multiple_bugs=False,
                    ),
                )
        finally:
            told = json.dumps(STEPS, indent=1, sort_keys=True, ensure_ascii=False)
            print(told)  # noqa: T201
        # Which steps follow which differs from run to run: names and times are part of what
        # happens.
        return {
            "steps": STEPS["steps"],
            "killed": sum(times for name, times in STEPS.items() if name.startswith("killed")),
            "undone": sum(times for name, times in STEPS.items() if name.startswith("undo")),
        }

    return run


@BOTH_KINDS
@pytest.mark.timeout(1200)  # against a hang, on a machine that is busy with other things
def test_nothing_is_lost_in_a_few_steps(run_machine: Any, kind: str) -> None:
    # A step on a bucket with versions takes three times as long. So few steps may hold no kill, and
    # of one example no undo: those at length do.
    done = run_machine(0, 1 if kind == "versioned" else 3)
    assert done["steps"] > 0
    assert kind == "versioned" or done["undone"] > 0


@pytest.mark.long
@pytest.mark.parametrize("how", ["hold", "retain", "upload held"])
def test_what_is_held_is_never_touched(
    s3: Any, monkeypatch: pytest.MonkeyPatch, make_bare_site: Any, how: str
) -> None:
    """Held before the plan, held between plan and merge, and held between merge and undo.

    The machine's own rule comes too seldom for a few steps: here its rules are called in turn.
    """
    site = make_bare_site("locked")
    made = s3.client, site.bucket, site.settings, "locked"
    machine = type("Machine", (Merges,), {"make": staticmethod(lambda: made)})()

    def check() -> None:
        machine.nothing_is_lost()
        machine.every_picture_has_a_live_file()
        machine.what_is_held_stays()

    STEPS.clear()
    with watched(monkeypatch, s3.settings):
        machine.fill([BODIES[0]] * 4)
        for action, key in (("delete", KEYS[0]), ("quarantine", KEYS[3])):
            machine.hold(key, how)
            machine.one_round(action, None, None)
            check()
            plan = machine.ready("replace")
            machine.hold(KEYS[1], how)
            machine.merge_now("merge", plan)
            check()
            machine.undo(0, "plan", 0, None)
            check()
            machine.hold(KEYS[2], "release")
        machine.undo_everything()
        check()
        assert machine.held
    assert STEPS[f"{how} outside"] >= 4
    assert STEPS["  group replace refused"] > 0
    print(json.dumps(STEPS, indent=1, sort_keys=True))  # noqa: T201


# At most 240 steps, each of some 0.3 seconds of processor time. By hand, until it has passed more
# often than once: which steps follow differs from run to run.
@pytest.mark.soak
@pytest.mark.timeout(2700)  # against a hang
@BOTH_KINDS
def test_nothing_is_ever_lost(run_machine: Any) -> None:
    done = run_machine(1, 6)  # examples of 40 steps; about half end early
    assert done["steps"] >= 80
    assert done["undone"] > 5


@pytest.mark.soak
@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize("number", range(100, 110))
@pytest.mark.parametrize("kind", [*KINDS, "locked"])
def test_nothing_is_lost_in_many_thousand_steps(run_machine: Any, number: int) -> None:
    """SOAK_EXAMPLES of 40 steps for each of ten seeds and both kinds of buckets: 20,000 or more."""
    done = run_machine(number, int(os.environ.get("SOAK_EXAMPLES", "50")))
    assert done["killed"] > 20
    assert done["undone"] > 40
