"""The comparison of two originals as a decoder process runs it: pictures in, JSON out.

A file of its own, because a decoder process imports it, and should not pay for polars.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.dedup.features import use_one_thread
from tasks.dedup.proof import prove

#: What is boxed around the place that differs most, pixels of the coarser picture each way.
_AROUND = 24


def compare_originals(
    left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8], fit: Sequence[float]
) -> dict[str, Any]:
    """The verdict on two originals, with the box of what differs most.

    Args:
        left: uint8 (h, w, 3), RGB, upright.
        right: the same.
        fit: six numbers, left to right, both in 0..1 of their own sides.
    """
    use_one_thread()
    a, b, c, d, e, f = fit
    found = prove(left, right, (a, b, c, d, e, f))
    scale = max(right.shape[1] / left.shape[1], 1.0)
    half = [min(0.5, _AROUND * scale / side) for side in right.shape[1::-1]]
    (x, y), (wide, high) = found.at, half
    box = [x - wide, y - high, x + wide, y + high]
    return {
        "verdict": found.verdict,
        "box": [round(min(1.0, max(0.0, float(one))), 4) for one in box],
        "excess": float(found.excess),
    }
