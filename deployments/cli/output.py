"""What every command prints with: JSON, words of strangers, tables, progress, and a true ending."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import typer

if TYPE_CHECKING:
    from tasks.progress import Progress as Tell


def print_json(data: Any) -> None:
    """One JSON value on standard output."""
    typer.echo(json.dumps(data, indent=1, default=str))


def say(text: str) -> None:
    """Print words in which keys, names and reasons of strangers stand: no control characters."""
    from reports.words import shown_key

    typer.echo(shown_key(text))


def warn(text: str) -> None:
    """Print a line on standard error."""
    typer.echo(text, err=True)


@contextlib.contextmanager
def progress_bars() -> Iterator[Tell]:
    """Bars on standard error while it is a terminal; silence when it is piped."""
    from tasks.progress import silent

    if not sys.stderr.isatty():
        yield silent
        return
    from rich import progress
    from rich.console import Console

    bars = progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description:<6}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    known: dict[str, progress.TaskID] = {}

    def tell(stage: str, done: int, total: int | None) -> None:
        if stage not in known:
            known[stage] = bars.add_task(stage, total=total)
        bars.update(known[stage], completed=done, total=total)

    with bars:
        yield tell


Result = TypeVar("Result")


class Output:
    """Standard output that remembers why it took no more (full disk, closed pipe).

    So a full output can be told from a full disk that the work itself met.

    Attributes:
        error: what it failed with; None while it takes all.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write as the stream does."""
        return self._remembering(lambda: self._stream.write(text))

    def flush(self) -> None:
        """Flush as the stream does."""
        self._remembering(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _remembering(self, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except OSError as error:
            self.error = error
            raise

    def abandon(self) -> None:
        """Let what could not be written go, so that the interpreter does not try again at exit."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
