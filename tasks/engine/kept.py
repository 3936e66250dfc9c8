"""What a worker's thread keeps from one shard to the next, because it is costly to make."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(threading.local, Generic[T]):
    """One thing for each thread, made when first wanted, and anew when another is wanted."""

    def __init__(self) -> None:
        self._wanted: Hashable = None
        self._thing: T | None = None
        self._stack = ExitStack()

    def of(self, wanted: Hashable, make: Callable[[ExitStack], T]) -> T:
        """The thing of this name.

        Args:
            wanted: names it; what was kept under another name is closed.
            make: makes it; what must be closed with it goes on the stack.
        """
        if self._thing is None or self._wanted != wanted:
            self._thing = None
            self._stack.close()
            self._thing, self._wanted = make(self._stack), wanted
        return self._thing
