"""A closer look at a pair that would be called a copy: what differs at one place, and where.

Only such pairs are looked at so: of a hundred candidates most are refused before.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from tasks.dedup.align import Matrix
from tasks.dedup.compare import make_frame, to_frame
from tasks.dedup.differences import find_difference, is_page
from tasks.dedup.evidence import Evidence
from tasks.dedup.features import Features
from tasks.dedup.recolour import recoloured
from tasks.dedup.residual import measure_residual
from tasks.dedup.see_through import see_through
from tasks.dedup.sharpness import uneven_sharpness
from tasks.dedup.windows import Floats
from tasks.records import THUMBNAIL_SIDE


def look_closer(left: Features, right: Features, evidence: Evidence, matrix: Matrix) -> Evidence:
    """The evidence with what the places of the pictures say, one by one.

    Args:
        left: as it was aligned: mirrored where the evidence says so.
        right: the other.
        evidence: of the pair.
        matrix: float64 (2, 3), the refined fit, pixels of left to pixels of right.
    """
    evidence = replace(
        evidence,
        besides=left.besides != right.besides,
        see_through=see_through(left, right, matrix),
        both_transparent=left.alpha is not None and right.alpha is not None,
    )
    frame = make_frame(left, right, matrix, THUMBNAIL_SIDE)
    if frame is None:
        return evidence
    one, two = _grey(frame.left), _grey(frame.right)
    page = is_page(one, frame.mask) and is_page(two, frame.mask)
    variant = max(
        recoloured(frame.left, frame.right, frame.mask),
        recoloured(frame.right, frame.left, frame.mask),
    )
    evidence = replace(
        evidence,
        page=page,
        recoloured=variant,
        uneven=uneven_sharpness(one, two, frame.mask),
    )
    residual = measure_residual(one, two, frame.mask)
    if residual is None:
        return evidence
    evidence = replace(evidence, excess=float(residual.excess.max()))
    found = find_difference(one, two, residual)
    if found is None:
        return evidence
    return replace(
        evidence,
        differs=found.kind,
        differs_at=_in_right(found.at, left, right, matrix),
        differs_share=found.area,
        plain=found.plain,
    )


def _in_right(
    at: tuple[float, float], left: Features, right: Features, matrix: Matrix
) -> tuple[float, float]:
    """A point of the frame as shares of the right picture's width and height."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    coarse = right if scale <= 1 else left
    point = np.linalg.inv(to_frame(coarse, THUMBNAIL_SIDE)) @ np.array([*at, 1.0])
    if scale > 1:
        point = np.array([*(matrix @ point), 1.0])
    wide, high = right.size
    return (
        float(np.clip(point[0] / wide, 0, 1)),
        float(np.clip(point[1] / high, 0, 1)),
    )


def _grey(rgb: npt.NDArray[np.uint8]) -> Floats:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.float32)
