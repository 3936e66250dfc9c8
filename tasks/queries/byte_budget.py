"""Bounds how many bytes of downloads are held in memory at once."""

from __future__ import annotations

import threading


class ByteBudget:
    """Lets a download start when its bytes and those under way fit; a single one always starts."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._spent = 0
        self._free = threading.Condition()

    def spend(self, amount: int) -> _Spending:
        """Hold so many bytes while a with block lasts."""
        return _Spending(self, amount)

    def take(self, amount: int) -> None:
        """Wait until so many bytes fit, and hold them."""
        with self._free:
            self._free.wait_for(lambda: self._spent == 0 or self._spent + amount <= self._size)
            self._spent += amount

    def give(self, amount: int) -> None:
        """Hold so many bytes no longer."""
        with self._free:
            self._spent -= amount
            self._free.notify_all()


class _Spending:
    def __init__(self, budget: ByteBudget, amount: int) -> None:
        self._budget, self._amount = budget, amount

    def __enter__(self) -> None:
        self._budget.take(self._amount)

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._amount)
