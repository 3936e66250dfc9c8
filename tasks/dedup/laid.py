"""One picture laid over a part of another, in the other's pixels.

Where that makes it smaller, how it is made smaller matters: a copy of half the size has strokes of
another height by a Lanczos filter than by averages, and on thin strokes that is more than a digit
changes. So the filter is one of those that programs use, the one that the pair shows.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.dedup.residual import Floats, Mask

Pixels = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]
#: How programs make a picture smaller: averages, and three smooth kernels, by Pillow's names.
Filter = Literal["BOX", "BILINEAR", "BICUBIC", "LANCZOS"]
FILTERS: tuple[Filter, ...] = ("LANCZOS", "BICUBIC", "BILINEAR", "BOX")

#: From this scale on a picture is sampled as it is, not made smaller first.
_SAMPLED = 0.97
#: Pixels around a part that a filter may reach, in pixels of the smaller picture.
_REACH = 4


def grey_of(rgb: Pixels) -> Floats:
    """Grey levels of RGB, float32 (h, w)."""
    return np.asarray(_grey(rgb), dtype=np.float32)


def is_smaller(onto: Matrix) -> bool:
    """Whether a picture is made smaller when it is laid over another."""
    return float(np.sqrt(np.prod(_pitch(onto)))) > 1 / _SAMPLED


def lay(
    fine: Pixels, onto: Matrix, box: tuple[int, int, int, int], by: Filter
) -> tuple[Floats, Mask] | None:
    """The part of the finer picture that lies in a box of the coarser one, in its pixels.

    Args:
        fine: uint8 (h, w, 3), the finer picture.
        onto: float64 (3, 3), its pixels to those of the coarser one.
        box: x0, y0, x1, y1 in the coarser one.
        by: the filter by which it is made smaller, if it is.

    Returns:
        Its grey levels, float32 (h, w) of the box, and where it is; None where it is not there.
    """
    x0, y0, x1, y1 = box
    pitch = _pitch(onto)
    around = np.ceil(_REACH * np.maximum(pitch, 2)).astype(int)
    corners = np.array([[x0, y0, 1], [x1, y0, 1], [x1, y1, 1], [x0, y1, 1.0]]).T
    back = np.linalg.inv(onto) @ corners
    low = np.maximum(np.floor(back[:2].min(axis=1)).astype(int) - around, 0)
    high = np.ceil(back[:2].max(axis=1)).astype(int) + around
    part = fine[low[1] : max(high[1], 0), low[0] : max(high[0], 0)]
    if min(part.shape[:2]) < 2:
        return None
    grey = _grey(part)
    here = onto @ np.array([[1, 0, low[0]], [0, 1, low[1]], [0, 0, 1.0]])
    if is_smaller(onto):
        # On the coarser picture's own grid where the fit does not turn: nothing is sampled twice.
        middle = np.linalg.inv(here) @ np.array([(x0 + x1) // 2, (y0 + y1) // 2, 1.0])
        found = _reduced(grey, pitch, middle[:2], by)
        if found is None:
            return None
        grey, start = found
        first = start + pitch / 2 - 0.5
        here = here @ np.array([[pitch[0], 0, first[0]], [0, pitch[1], first[1]], [0, 0, 1.0]])
    here = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1.0]]) @ here
    size = x1 - x0, y1 - y0
    laid = cv2.warpAffine(grey.astype(np.float32), here[:2], size, flags=cv2.INTER_LINEAR)
    full = np.full(grey.shape, 255, np.uint8)
    mask = cv2.warpAffine(full, here[:2], size, flags=cv2.INTER_NEAREST)
    mask = cv2.erode(mask, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(laid, dtype=np.float32), mask > 0


def _pitch(onto: Matrix) -> Matrix:
    """Pixels of the finer picture to one of the coarser, across and down it."""
    return np.asarray(1 / np.linalg.norm(onto[:2, :2], axis=0), dtype=np.float64)


def _grey(rgb: Pixels) -> Pixels:
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    return np.asarray(grey, dtype=np.uint8)


def _reduced(
    grey: Pixels, pitch: Matrix, middle: Matrix, by: Filter
) -> tuple[Pixels, Matrix] | None:
    """A picture made smaller, and where its first pixel begins.

    Args:
        grey: the picture.
        pitch: across and down, its pixels to one of the smaller one.
        middle: of its pixels the one, x and y, that one of the smaller picture's lies upon.
        by: the filter.
    """
    sides = np.array(grey.shape[::-1], dtype=np.float64)
    start = np.mod(middle + 0.5 - pitch / 2, pitch)
    start = np.where(pitch - start < 1e-3 * pitch, 0, start)
    count = np.floor((sides - start) / pitch + 1e-3).astype(int)
    if count.min() < 2:
        return None
    end = np.minimum(start + count * pitch, sides)
    box = (float(start[0]), float(start[1]), float(end[0]), float(end[1]))
    size = int(count[0]), int(count[1])
    small = Image.fromarray(grey).resize(size, Image.Resampling[by], box=box)
    return np.asarray(small, dtype=np.uint8), start
