"""Where two originals have other colours, at a size at which a coloured dot of a table is seen.

The proof compares grey levels: a red dot and a green one of the same light are the same to it. Most
encodings keep colours at half the size, so cells of a few pixels tell all there is, and cheaply.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tasks.dedup.laid import Matrix, Pixels
from tasks.dedup.residual import Floats, Mask

#: Side of a cell, pixels of the coarser picture.
_CELL = 4
#: Fewer cells in common tell nothing.
_LEAST = 60
#: Cells of so many levels' rest take part in every round of the fit, which so many are drawn for.
_CALM, _FITTED = 4.0, 20_000
#: From so many levels of chroma on a cell is coloured; a picture of which less than this share is
#: coloured is grey, and of another colour it tells nothing.
_COLOURED, _GREY = 8.0, 1e-4


@dataclass(frozen=True, slots=True)
class Colours:
    """How far the colours of two originals lie apart, where they do most.

    Attributes:
        apart: levels of chroma (ITU-T T.871) beyond what a change of saturation or white balance
            over the whole picture explains, mean of 2 x 2 cells; 0 where one picture is grey.
        at: where, pixels of the coarser picture.
    """

    apart: float
    at: tuple[float, float]


def compare_colours(fine: Pixels, coarse: Pixels, onto: Matrix) -> Colours:
    """Compare the colours of two pictures that lie on one another.

    Args:
        fine: uint8 (h, w, 3), the finer picture.
        coarse: the same, the coarser one.
        onto: float64 (3, 3), pixels of the finer one to those of the coarser one.
    """
    nothing = Colours(0.0, (0.0, 0.0))
    size = coarse.shape[1] // _CELL, coarse.shape[0] // _CELL
    if min(size) < 2:
        return nothing
    under = _levels(cv2.resize(coarse, size, interpolation=cv2.INTER_AREA))
    over, mask = _cells(fine, coarse, onto, size)
    if mask.sum() < _LEAST or min(_coloured(over, mask), _coloured(under, mask)) < _GREY:
        return nothing
    explained = _explained(over, under, mask)
    ways = _beyond(explained, under), _beyond(under, explained)
    apart = cv2.blur(np.where(mask, np.maximum(*ways), 0).astype(np.float32), (2, 2))
    row, column = divmod(int(apart.argmax()), apart.shape[1])
    # The mean of 2 x 2 cells stands at the lower right one.
    at = column * coarse.shape[1] / size[0], row * coarse.shape[0] / size[1]
    return Colours(float(apart[row, column]), at)


def _coloured(cells: Floats, mask: Mask) -> float:
    """Share of the cells that are coloured."""
    return float((_chroma(cells)[mask] > _COLOURED).mean())


def _chroma(cells: Floats) -> Floats:
    return np.asarray(np.hypot(cells[..., 1], cells[..., 2]), dtype=np.float32)


def _levels(rgb: npt.NDArray[np.uint8]) -> Floats:
    """Light and chroma of each cell, float32 (h, w, 3); grey has the chroma 0."""
    levels = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2YCrCb).astype(np.float32)
    levels[..., 1:] -= 128
    return np.asarray(levels, dtype=np.float32)


def _cells(
    fine: Pixels, coarse: Pixels, onto: Matrix, size: tuple[int, int]
) -> tuple[Floats, Mask]:
    """The cells of the finer picture on those of the coarser one, and where both are.

    It is laid at twice the cells' number and averaged then, so that a cell of either holds the
    same: half a cell off, a thin stroke of colour has another cell's strength.
    """
    twice = 2 * size[0], 2 * size[1]
    laid, mask = _laid(fine, coarse, onto, twice)
    over = cv2.resize(laid, size, interpolation=cv2.INTER_AREA)
    both = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(over, dtype=np.float32), both > 0.99


def _laid(fine: Pixels, coarse: Pixels, onto: Matrix, size: tuple[int, int]) -> tuple[Floats, Mask]:
    """The finer picture on the coarser one, made so small, and where both are."""
    scale = float(np.sqrt(abs(np.linalg.det(onto[:2, :2])))) * size[0] / coarse.shape[1]
    less = tuple(max(2, round(side * scale)) for side in fine.shape[1::-1])
    small = _levels(cv2.resize(fine, less, interpolation=cv2.INTER_AREA))
    back = _scaled(fine.shape[1] / less[0], fine.shape[0] / less[1])
    there = _scaled(size[0] / coarse.shape[1], size[1] / coarse.shape[0])
    matrix = (there @ onto @ back)[:2]
    laid = cv2.warpAffine(small, matrix, size, flags=cv2.INTER_LINEAR)
    full = np.full(small.shape[:2], 255, np.uint8)
    mask = cv2.warpAffine(full, matrix, size, flags=cv2.INTER_NEAREST)
    mask = cv2.erode(mask, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(laid, dtype=np.float32), mask > 0


def _scaled(x: float, y: float) -> Matrix:
    """From pixel centres to those of a picture of another size, float64 (3, 3)."""
    return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1.0]])


def _explained(over: Floats, under: Floats, mask: Mask) -> Floats:
    """Chroma of the finer picture, with what over the whole brings it closest; (h, w, 2).

    That is one factor, and for each channel a shift that follows the light, as a white balance
    does. A shift of its own for the dark would explain any other colour of one thing on white.
    """
    coloured = np.maximum(_chroma(over), _chroma(under)) > _COLOURED
    # As many coloured cells as others: a page may have a few dots of colour.
    rows, columns = (
        np.concatenate(part)
        for part in zip(*(_some(mask & kind) for kind in (coloured, ~coloured)), strict=True)
    )
    a, b = over[rows, columns].astype(np.float64), under[rows, columns].astype(np.float64)
    count = len(a)
    design = np.zeros((2 * count, 3))
    design[:, 0] = a[:, 1:].T.ravel()
    design[:count, 1] = design[count:, 2] = a[:, 0] / 128
    wanted = b[:, 1:].T.ravel()
    # Where nothing tells otherwise the colours are as they were.
    before, ridge = np.array([1.0, 0, 0]), np.diag(np.full(3, 1e-3 * count))
    calm, solution = np.ones(2 * count, dtype=bool), before
    for _ in range(4):
        part = design[calm]
        solution = np.linalg.solve(part.T @ part + ridge, part.T @ wanted[calm] + ridge @ before)
        solution[0] = max(solution[0], 0.0)
        off = np.abs(wanted - design @ solution)
        calm = off <= max(float(np.quantile(off, 0.9)), _CALM)
    light = over[..., 0] / 128
    planes = [solution[0] * over[..., at] + solution[at] * light for at in (1, 2)]
    return np.stack(planes, axis=-1).astype(np.float32)


def _some(mask: Mask) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows and columns of so many cells at the most, evenly drawn."""
    rows, columns = np.nonzero(mask)
    step = max(1, 2 * len(rows) // _FITTED)
    return rows[::step], columns[::step]


def _beyond(one: Floats, two: Floats) -> Floats:
    """How far a cell's chroma lies outside of what the other picture has in it and around it."""
    around = np.ones((3, 3), np.uint8)
    outside = []
    for channel in (-2, -1):
        plane, value = one[..., channel], two[..., channel]
        low, high = cv2.erode(plane, around), cv2.dilate(plane, around)
        outside.append(np.maximum(np.maximum(value - high, low - value), 0))
    return np.asarray(np.hypot(*outside), dtype=np.float32)
