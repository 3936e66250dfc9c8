"""What the benchmark of the light table reads from a browser's trace."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.bench.zoom import figures

PAGE, WORKER = 1, 2


def task(name: str, start: float, spent: float, thread: int = PAGE, took: float = 0) -> Any:
    """An event of a trace; times in milliseconds."""
    times = {"ts": 1000 * start, "dur": 1000 * (took or spent), "tdur": 1000 * spent}
    return {"ph": "X", "name": name, "pid": 7, "tid": thread, **times}


def test_only_frames_that_draw_pictures_are_counted() -> None:
    names = {PAGE: "CrRendererMain", WORKER: "Compositor"}
    trace: list[Any] = [
        {"ph": "M", "name": "thread_name", "pid": 7, "tid": tid, "args": {"name": name}}
        for tid, name in names.items()
    ]
    for frame, draws in enumerate((True, False, True, True)):
        start = 20.0 * frame
        # A task that waited for a processor took longer than it worked.
        trace += [
            task("RunTask", start, 4 + frame if draws else 1, took=12),
            task("FireAnimationFrame", start + 1, 2 if draws else 0.5),
            task("FunctionCall", start + 1.5, 1 if draws else 0.1),
            task("Paint", start + 4, 1 if draws else 0),
            task("RunTask", start + 14, 0.5),
            task("RunTask", start + 5, 3 if draws else 9, WORKER),
        ]
        trace += [{"ph": "R", "name": "painted", "ts": 1000 * (start + 2)}] if draws else []
    # The frame at 20 ms was missed once on the way to 53.3 ms.
    found = figures("fit", "wheel", [0, 16.7, 50.1, 66.8], trace)
    assert (found.frames, found.dropped, found.painted) == (3, 1, 3)
    assert found.in_time == pytest.approx(2 / 3)
    assert found.main == pytest.approx(6.5), "of 4.5, 6.5 and 7.5: each with the task after it"
    assert found.kinds["script"] == pytest.approx(2), "a call within a frame is counted once"
    assert found.kinds["paint"] == pytest.approx(1)
    assert found.others == pytest.approx(3)
