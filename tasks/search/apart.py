"""Which rows may be neighbours in a cross-filter scan: those on different sides."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch


class Apart:
    """Which pairs of rows are on one side of a cross-filter scan; without sides, no pair is."""

    def __init__(self, sides: npt.NDArray[np.uint8] | None, device: str) -> None:
        self._sides = sides
        if sides is not None:
            self._facing = sides // 2 + sides % 2 * 2  # 1 has pairs with 2, 2 with 1, 3 with both
            self._mine = torch.from_numpy(sides).to(device)
            self._theirs = torch.from_numpy(self._facing).to(device)

    def wholly(self, first: int, end: int, start: int, stop: int) -> bool:
        """Whether no row of one block may have a pair with any row of the other."""
        if self._sides is None:
            return False
        mine = np.bitwise_or.reduce(self._sides[first:end])
        return not mine & np.bitwise_or.reduce(self._facing[start:stop])

    def bar(self, scores: torch.Tensor, first: int, start: int) -> None:
        """Set the scores of pairs on one side below every cosine."""
        if self._sides is not None:
            rows, columns = scores.shape
            mine = self._mine[first : first + rows, None]
            theirs = self._theirs[None, start : start + columns]
            scores.masked_fill_((mine & theirs) == 0, -2.0)
