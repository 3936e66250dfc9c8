"""How the help is laid out: commands under what a person wants, examples exactly as typed."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

FIND = "Find duplicates"
MERGE = "Decide and merge"
INTAKE = "What comes in"
HISTORY = "Look back"
OPERATE = "Set up and operate"
MEASURE = "Measure"
#: The order in which ``dam-dedup --help`` shows them.
PANELS = (FIND, MERGE, INTAKE, HISTORY, OPERATE, MEASURE)

#: Options that were renamed: command and old name to the new name. They are read, with a warning,
#: until the next release.
RENAMED_OPTIONS = {("scan", "--across"): "--reference-where"}

#: How an example begins; such paragraphs are shown line by line, never wrapped.
_PROGRAMS = ("dam-dedup ", "curl ", "aws ", "eval ", "PREFECT_API_URL=")


def renamed_options(command: str, words: Sequence[str]) -> list[str]:
    """The words of a command line with the options of today; each old one is warned of."""
    known = {old: new for (name, old), new in RENAMED_OPTIONS.items() if name == command}
    found: list[str] = []
    for at, word in enumerate(words):
        if word == "--":
            return [*found, *words[at:]]
        option, sign, value = word.partition("=")
        if option in known:
            warnings.warn(
                f"{option} is now called {known[option]}; the old name goes with the next release",
                FutureWarning,
                stacklevel=2,
            )
            word = known[option] + sign + value
        found.append(word)
    return found


def write_help(text: str, formatter: Any) -> None:
    """A docstring: paragraphs wrapped, examples as they stand."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines = paragraph.split("\n")
        formatter.write_paragraph()
        if lines[0].lstrip().startswith(_PROGRAMS):
            formatter.write("".join(f"      {line.strip()}\n" for line in lines))
            continue
        with formatter.indentation():
            formatter.write_text(paragraph)


class Command(TyperCommand):
    """A command whose examples are not wrapped, and whose old options are still read."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """The help above the options."""
        write_help(self.help or "", formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The command line, by today's names."""
        return super().parse_args(ctx, renamed_options(self.name or "", args))


class Group(TyperGroup):
    """A group that lists its commands under their panels."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """The help above the options."""
        write_help(self.help or "", formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Each panel with its commands; where no command has one, all under one heading."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in PANELS}
        for name, command in commands:
            if command is None or command.hidden:
                continue
            panel = getattr(command, "rich_help_panel", None)
            panel = panel if isinstance(panel, str) else "Commands"
            # More than any first sentence has: it is wrapped, not cut.
            row = (name, command.get_short_help_str(400))
            panels.setdefault(panel, []).append(row)
        for panel, rows in panels.items():
            if rows:
                with formatter.section(panel):
                    formatter.write_dl(rows)


def add(app: typer.Typer, panel: str, *commands: Any) -> None:
    """Add commands to the program, under a panel of its help."""
    for command in commands:
        app.command(cls=Command, rich_help_panel=panel)(command)
