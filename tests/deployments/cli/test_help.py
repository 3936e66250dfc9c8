"""The help teaches, and neither it nor a mistake loads what takes seconds."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from deployments.cli.help_pages import PANELS, renamed_options
from deployments.cli.main import app

HEAVY = {"torch", "lancedb", "polars", "prefect", "transformers", "cv2", "pyarrow", "boto3"}
#: Runs the program on the words given, and says at the end what it has loaded.
PROBE = """
import atexit, sys
atexit.register(lambda: print("LOADED", *sorted(sys.modules), file=sys.stderr))
sys.argv = ["dam-dedup", *sys.argv[1:]]
from deployments.cli.main import main
main()
"""


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that lead to it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(typer.main.get_command(app)))


def show_help(*words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--help"], prog_name="dam-dedup")
    assert done.exit_code == 0, done.output
    return done.stdout


def test_commands_are_grouped_by_what_a_person_wants() -> None:
    text = show_help()
    headings = [line.rstrip(":") for line in text.splitlines() if line[:1].isalpha()]
    assert [name for name in headings if name in PANELS] == list(PANELS)
    assert "Commands" not in headings, "a command without a panel"
    shown = {line.split()[0] for line in text.splitlines() if line[:2] == "  " and line[2:3] != " "}
    assert {words[0] for words in ALL} <= shown
    assert "..." not in text.replace("[ARGS]...", ""), "first sentences are wrapped, not cut"


@pytest.mark.parametrize("words", list(ALL), ids=" ".join)
def test_every_help_has_an_example_that_can_be_copied(words: tuple[str, ...]) -> None:
    lines = show_help(*words).splitlines()
    typed = ["ingest"] if words == ("ingest", "put") else list(words)
    examples = [line for line in lines if line.startswith("      ") and "dam-dedup" in line]
    assert any(f"dam-dedup {' '.join(typed)}" in line for line in examples), words
    written = [line.strip() for line in (ALL[words].help or "").splitlines()]
    assert all(line.strip() in written for line in examples), "an example was wrapped"


def loaded(*words: str, folder: Path, code: int, **variables: str) -> tuple[set[str], str]:
    """Top-level modules that a run has loaded, and what it said."""
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    said, _, modules = done.stderr.partition("LOADED ")
    return {name.split(".")[0] for name in modules.split()}, said


@pytest.mark.parametrize(
    "words", [(), ("scan",), ("plan", "make"), ("gate",), ("bench", "quality")]
)
def test_help_loads_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    modules, _ = loaded(*words, "--help", folder=tmp_path, code=0)
    assert not modules & (HEAVY | {"numpy", "rich"})


@pytest.mark.parametrize(
    ("words", "variables", "told"),
    [
        (("scan", "--nonsense"), {}, "--nonsense"),
        (("scan",), {}, "--source"),
        (("scan", "--source", ".", "--threshold", "7"), {}, "--threshold"),
        (("scan", "--source", ".", "--where", "colour = 1"), {}, "colour"),
        (("scan", "--source", ".", "--fq", "red"), {}, "red"),
        (("scan", "--source", ".", "--reference-where", "size >"), {}, "size >"),
        (("check", "a.jpg", "--where", "colour = 1"), {}, "colour"),
        (("policy", "check", "none.yaml"), {}, "none.yaml"),
        (("plan", "make", "--policy", "none.yaml"), {}, "none.yaml"),
        (("ingest", "k", "a.jpg", "--policy", "none.yaml"), {}, "none.yaml"),
        (("verdict", "none.csv", "--by", "anna"), {}, "none.csv"),
        (("history",), {"DAM_DEDUP_MATCH__THRESHOLD": "7"}, "DAM_DEDUP_MATCH__THRESHOLD"),
        (("merge", "latest"), {"DAM_DEDUP_TRESHOLD": "7"}, "DAM_DEDUP_TRESHOLD"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_told_before_anything_heavy_is_loaded(
    words: tuple[str, ...], variables: dict[str, str], told: str, tmp_path: Path
) -> None:
    modules, said = loaded(*words, folder=tmp_path, code=2, **variables)
    assert told in said
    assert "Traceback" not in said
    assert not modules & HEAVY


def test_a_file_that_is_not_there_is_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    modules, said = loaded("analyze", "none.jpg", folder=tmp_path, code=1)
    assert "cannot read 'none.jpg'" in said
    assert not modules & HEAVY


def test_the_version_is_told(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.stdout.startswith("dam-dedup ")
    assert not loaded("--version", folder=tmp_path, code=0)[0] & HEAVY


def test_an_old_option_is_read_with_a_warning_on_standard_error(tmp_path: Path) -> None:
    words = ("scan", "--source", ".", "--across", "colour = 1")
    _, said = loaded(*words, folder=tmp_path, code=2)
    warning, error = said.strip().splitlines()
    assert warning == (
        "dam-dedup: warning: --across is now called --reference-where; the old name goes with the "
        "next release"
    )
    assert "colour" in error, "its value was read"
    assert "--across" not in show_help("scan")


@pytest.mark.parametrize(
    ("words", "today"),
    [
        (["--across=size > 1"], ["--reference-where=size > 1"]),
        (["--across", "x", "--", "--across"], ["--reference-where", "x", "--", "--across"]),
        (["--where", "x"], ["--where", "x"]),
    ],
)
def test_old_options_become_those_of_today(words: list[str], today: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert renamed_options("scan", words) == today
        assert renamed_options("check", words) == words


def test_a_filter_of_the_reference_side_stands_once(tmp_path: Path) -> None:
    twice = ("--reference-where", "size > 1", "--reference-where", "size > 2")
    _, said = loaded("scan", "--source", ".", *twice, folder=tmp_path, code=2)
    assert "give it once" in said
