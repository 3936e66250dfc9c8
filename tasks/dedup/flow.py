"""A fit made better by what is left along edges: one least squares step over all tiles of a pair.

A tile's phase correlation is off by a tenth of a pixel and more where it has a few long edges, or a
part of it is not shared; edges of full contrast then leave 20 times the noise. Here every steep
pixel says how far it lies off along its own slope, and one affine step is fitted to all of them
(Lucas and Kanade 1981, An Iterative Image Registration Technique; the six numbers as in Bergen et
al. 1992, Hierarchical Model-Based Motion Estimation).
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from tasks.dedup.residual import Floats, Mask, slopes_of

#: Pixels count that are as steep as this, levels a pixel.
_STEEP = 4.0
#: What blur and slopes of a pixel see of its neighbours: where a picture ends they see its end.
_AROUND = np.ones((7, 7), np.uint8)
#: Of each tile so many steep pixels are taken at the most, evenly: a step has six numbers.
_TAKEN = 20_000
#: Blur before slopes are taken, pixels, and the slope whose pixels count half: from there on each
#: counts by how far it lies off, below by how many levels.
_SOFT, _HALF = 0.8, 5.0
#: So many steep pixels tell a step.
_LEAST = 200

#: x and y of a tile in the picture, the one and the other picture there, and where they count.
Tile = tuple[int, int, Floats, Floats, Mask]


def flow_step(
    tiles: Iterable[Tile], size: tuple[int, int], far: float = 1.0
) -> npt.NDArray[np.float64]:
    """The affine step that lays the first picture of all tiles better over the second.

    Args:
        tiles: of one pair; the two lie on one another up to about a pixel.
        size: width and height of the second picture, pixels.
        far: pixels that lie further off along their slope do not count: they differ.

    Returns:
        float64 (3, 3), pixels to pixels, to be applied after the fit; the identity where too few
        steep pixels agree.
    """
    unit = 2 / max(size)
    to_unit = np.array([[unit, 0, -size[0] * unit / 2], [0, unit, -size[1] * unit / 2], [0, 0, 1]])
    normal, right, count = np.zeros((6, 6)), np.zeros(6), 0
    for x, y, one, two, mask in tiles:
        middle = np.asarray(cv2.GaussianBlur((one + two) / 2, (0, 0), _SOFT), dtype=np.float32)
        rest = cv2.GaussianBlur(two - one, (0, 0), _SOFT)
        across, down = slopes_of(middle)
        steep = across**2 + down**2
        inside = cv2.erode(
            mask.astype(np.uint8), _AROUND, borderType=cv2.BORDER_CONSTANT, borderValue=1
        )
        rows, columns = np.nonzero((inside > 0) & (steep > _STEEP**2) & (rest**2 < far**2 * steep))
        if not len(rows):
            continue
        every = max(1, len(rows) // _TAKEN)
        rows, columns = rows[::every], columns[::every]
        here = rows, columns
        count += len(rows)
        place = to_unit @ np.stack([columns + x, rows + y, np.ones(len(rows))])
        moved = np.concatenate([across[here] * place, down[here] * place])
        weighted = moved / (steep[here] + _HALF**2)
        normal += weighted @ moved.T
        right -= weighted @ rest[here]
    if count < _LEAST:
        return np.eye(3)
    # What no edge tells, such as a shift along stripes, stays as it is.
    step = np.linalg.lstsq(normal, right, rcond=1e-4)[0].reshape(2, 3)
    whole = np.eye(3)
    whole[:2] += step @ to_unit
    return whole
