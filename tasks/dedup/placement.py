"""Where one picture lies in another, worked out again from the evidence that is kept."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tasks.dedup.evidence import Evidence
from tasks.records import THUMBNAIL_SIDE

#: a, b, c, d, e, f as SVG writes them: x' = a x + c y + e, y' = b x + d y + f.
Affine = tuple[float, float, float, float, float, float]
IDENTITY: Affine = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)

#: Off by this share of a side is nothing that can be seen; a step that shows which way to go.
_EXACT, _STEP, _ROUNDS = 0.004, 1e-4, 8
#: Where to begin: a turned picture has more than one shift that looks right from afar.
_STARTS = (
    np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1], [1, -1], [-1, 1]]) * 0.08
)
_Points = npt.NDArray[np.float64]


def placement(evidence: Evidence, left: tuple[int, int], right: tuple[int, int]) -> Affine:
    """The map from left to right, both in 0..1 of their own width and height.

    The evidence keeps turn, scale and aspect, and the boxes in which the two meet, but no shift:
    it is the one under which the overlap has these boxes.

    Args:
        evidence: right against left.
        left: width and height of the left picture.
        right: of the right one.
    """
    size_l, size_r = _small(left), _small(right)
    turn = math.radians(evidence.rotation)
    wide = evidence.scale * math.sqrt(max(evidence.aspect, 1e-6))
    high = evidence.scale / math.sqrt(max(evidence.aspect, 1e-6))
    linear = np.array(
        [[wide * math.cos(turn), -high * math.sin(turn)],
         [wide * math.sin(turn), high * math.cos(turn)]]
    )  # fmt: skip
    linear = linear * size_l / size_r[:, None]  # from 0..1 to 0..1
    if evidence.mirrored:
        linear[:, 0] *= -1
    box_l, box_r = np.array(evidence.box_left), np.array(evidence.box_right)
    shift = _fitted(linear, np.concatenate([box_r, box_l, [evidence.share_right]]))
    (a, c), (b, d) = linear.tolist()
    e, f = shift.tolist()
    return a, b, c, d, e, f


def _fitted(linear: _Points, known: _Points) -> _Points:
    """The shift under which the overlap has these boxes, in right and in left, and this share."""
    # Exact where one picture lies inside the other, and where nothing is turned.
    start = _centre(known[:4]) - linear @ _centre(known[4:8])
    best, least = start, float(np.abs(_off(linear, start, known)).max())
    for nudge in _STARTS:
        if least < _EXACT:
            break
        shift = start + nudge
        for _ in range(_ROUNDS):
            off = _off(linear, shift, known)
            error = float(np.abs(off).max())
            if error < least:
                best, least = shift, error
            if error < _EXACT:
                break
            slopes = np.stack(
                [(_off(linear, shift + step, known) - off) / _STEP for step in np.eye(2) * _STEP],
                axis=1,
            )
            shift = shift - np.clip(np.linalg.pinv(slopes) @ off, -0.1, 0.1)  # Gauss and Newton
    return best


def _off(linear: _Points, shift: _Points, known: _Points) -> _Points:
    there, here = _overlap(linear, shift)
    if not len(there):
        return np.ones(len(known))
    x, y = there[:, 0], there[:, 1]
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return np.concatenate([_box(there), _box(here), [area]]) - known


def inverse(affine: Affine) -> Affine:
    """The way back; of a map that can be gone back."""
    a, b, c, d, e, f = affine
    area = a * d - b * c
    if abs(area) < 1e-9:
        return IDENTITY
    return (
        d / area,
        -b / area,
        -c / area,
        a / area,
        (c * f - d * e) / area,
        (b * e - a * f) / area,
    )


def _small(size: tuple[int, int]) -> _Points:
    wide, high = max(size[0], 1), max(size[1], 1)
    return np.array([wide, high]) * min(1.0, THUMBNAIL_SIDE / max(wide, high))


def _overlap(linear: _Points, shift: _Points) -> tuple[_Points, _Points]:
    """What both show: as a polygon in right, and the same in left."""
    corners = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    there = corners @ linear.T + shift
    for axis, limit, sign in ((0, 0.0, 1), (0, 1.0, -1), (1, 0.0, 1), (1, 1.0, -1)):
        there = _cut(there, axis, limit, sign)
        if len(there) < 3:
            return np.empty((0, 2)), np.empty((0, 2))
    return there, (there - shift) @ np.linalg.pinv(linear).T


def _cut(polygon: _Points, axis: int, limit: float, sign: int) -> _Points:
    kept: list[_Points] = []
    depth = sign * (polygon[:, axis] - limit)
    for now, point in enumerate(polygon):
        after = (now + 1) % len(polygon)
        if depth[now] >= 0:
            kept.append(point)
        if (depth[now] >= 0) != (depth[after] >= 0):
            part = depth[now] / (depth[now] - depth[after])
            kept.append(point + part * (polygon[after] - point))
    return np.array(kept).reshape(-1, 2)


def _box(points: _Points) -> _Points:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _centre(box: _Points) -> _Points:
    return (box[:2] + box[2:]) / 2
