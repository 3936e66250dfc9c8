"""How a stage tells how far it is; whoever listens decides how to show it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called now and then by long stages."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` (None: unknown) units of a stage are finished."""


def silent(stage: str, done: int, total: int | None) -> None:
    """Tell nobody."""
