"""Every ``dam-dedup`` line of the documentation is one that the program understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from deployments.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
#: A line of a block, or a span between backticks, that calls the program.
LINE = re.compile(r"^(?: {4}| *)(?:\$ )?([^`\n|]*?\bdam-dedup [^`\n]+)$")
SPAN = re.compile(r"`(dam-dedup(?: [^`\n]+)?)`")
#: Words of the pages that stand for any command.
ANY = {"COMMAND", "..."}


def lines_of(text: str) -> Iterator[str]:
    """The calls in a page: of its blocks, indented or fenced, and of its sentences."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            found = LINE.match(line)
            if found:
                yield found[1]
        else:
            yield from SPAN.findall(line)


def words_of(line: str) -> list[str] | None:
    """The words after ``dam-dedup``, to the end of its command; None where the line is no call."""
    shell = re.search(r"\$\((.+?)\)", line)  # eval "$(dam-dedup stack up)"
    call = re.match(r"(?:\S+/)?dam-dedup((?: .*)?)$", shell[1] if shell else line)
    if not call:
        return None
    words = shlex.split(call[1], comments=True)
    end = next((at for at, word in enumerate(words) if word in ("|", ">", "&&", ";")), None)
    words = words[:end]
    return None if words[:1] in ([], ["..."]) else words


CALLS = sorted(
    {
        (path.relative_to(ROOT).as_posix(), line)
        for path in PAGES
        for line in lines_of(path.read_text("utf-8"))
        if words_of(line)
    }
)


def understand(words: list[str]) -> None:
    """Read a command line as the program does, and run nothing.

    Raises:
        Exception: the program's own, when it would refuse the line.
    """
    command: Any = get_command(app)
    context: Any = typer.Context(command, info_name="dam-dedup")
    while hasattr(command, "commands"):
        if not words or {"-h", "--help"} & set(words):
            return  # the group is only named
        command.parse_args(context, list(words))
        rest = [*context._protected_args, *context.args]
        if not rest or rest[0] in ANY:
            return
        _, command, words = command.resolve_command(context, rest)
        context = typer.Context(command, info_name=command.name, parent=context)
    if not words or {"-h", "--help"} & set(words):
        return  # the command is only named
    try:
        command.parse_args(context, list(words))
    except Exception as error:
        if "does not exist" not in str(error) and "file or directory" not in str(error):
            raise


@pytest.mark.parametrize(("page", "line"), CALLS, ids=[f"{p}: {line}" for p, line in CALLS])
def test_a_line_is_understood(page: str, line: str) -> None:
    understand(words_of(line) or [])


def test_lines_are_found_and_wrong_ones_refused() -> None:
    assert len(CALLS) > 60
    assert len({page for page, _ in CALLS}) > 10
    for wrong in (
        ["scam"],
        ["scan", "--wheer", "x"],
        ["approve", "4f1c", "--buy", "x"],
        ["plan", "shwo"],
    ):
        with pytest.raises(typer.BadParameter.__mro__[1], match=r"scam|wheer|buy|shwo"):
            understand(wrong)
