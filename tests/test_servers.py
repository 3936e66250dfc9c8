"""The servers that a test run shares: started once, and again for who comes late."""

from __future__ import annotations

from pathlib import Path

from tests.servers import shared


def test_who_comes_after_the_last_has_left_starts_anew(tmp_path: Path) -> None:
    """A worker that first needs the server when the others are done finds their folder."""
    folder, started, stopped = tmp_path / "server", [], []

    def start() -> dict[str, int]:
        (folder / "data").mkdir(parents=True)
        started.append(1)
        return {"port": len(started)}

    for _ in range(2):
        with shared(folder, start, lambda: stopped.append(1)) as told:
            assert told == {"port": len(started)}
    assert (len(started), len(stopped)) == (2, 2)


def test_one_start_serves_all_that_overlap(tmp_path: Path) -> None:
    folder, started, stopped = tmp_path / "server", [], []

    def start() -> dict[str, int]:
        started.append(1)
        return {"port": 1}

    with (
        shared(folder, start, lambda: stopped.append(1)),
        shared(folder, start, lambda: stopped.append(1)),
    ):
        pass
    assert len(started) == 1
