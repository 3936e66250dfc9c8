"""Where one picture lies in another, worked out again from the evidence that is kept."""

from __future__ import annotations

import math

from tasks.dedup.evidence import Box, Evidence
from tasks.records import THUMBNAIL_SIDE

#: a, b, c, d, e, f as SVG writes them: x' = a x + c y + e, y' = b x + d y + f.
Affine = tuple[float, float, float, float, float, float]
IDENTITY: Affine = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)

_Point = tuple[float, float]
_CORNERS: tuple[_Point, ...] = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
#: Off by this share of a side is nothing that can be seen; by this, worth another beginning.
_EXACT, _POOR = 0.004, 0.008
#: A step that shows which way to go, the longest that is taken, and how many.
_STEP, _LONGEST, _ROUNDS = 1e-4, 0.1, 8
#: Where to begin: a turned picture has more than one shift that looks right from afar.
_WAYS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))
_STARTS = tuple((0.08 * x, 0.08 * y) for x, y in _WAYS)


def placement(evidence: Evidence, left: tuple[int, int], right: tuple[int, int]) -> Affine:
    """The map from left to right, both in 0..1 of their own width and height.

    The evidence keeps turn, scale and aspect, and the boxes in which the two meet, but no shift:
    it is the one under which the overlap has these boxes. (Of two pictures turned against each
    other that are cut at every side, only the share remains, and the map is a rough one.)
    Numbers, not arrays: a report has tens of thousands of pairs, a polygon a handful of corners.

    Args:
        evidence: right against left.
        left: width and height of the left picture.
        right: of the right one.
    """
    (wide_l, high_l), (wide_r, high_r) = _small(left), _small(right)
    turn, stretch = math.radians(evidence.rotation), math.sqrt(max(evidence.aspect, 1e-6))
    across, down = evidence.scale * stretch, evidence.scale / stretch
    a, b = across * math.cos(turn) * wide_l / wide_r, across * math.sin(turn) * wide_l / high_r
    c, d = -down * math.sin(turn) * high_l / wide_r, down * math.cos(turn) * high_l / high_r
    if evidence.mirrored:
        a, b = -a, -b
    # Exact where one picture lies inside the other, and where nothing is turned.
    (x, y), (u, v) = _centre(evidence.box_left), _centre(evidence.box_right)
    start: Affine = (a, b, c, d, u - a * x - c * y, v - b * x - d * y)
    known = (*evidence.box_right, *evidence.box_left, evidence.share_right)
    best, least = start, _error(_off(start, known))
    for right_by, down_by in _STARTS:
        if least < (_EXACT if (right_by, down_by) == (0, 0) else _POOR):
            break
        found, error = _fitted(_moved(start, right_by, down_by), known)
        if error < least:
            best, least = found, error
    return best


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


def _fitted(affine: Affine, known: tuple[float, ...]) -> tuple[Affine, float]:
    """The map with the shift that fits best from here (Gauss and Newton), and how far it is off."""
    best, least = affine, math.inf
    for _ in range(_ROUNDS):
        off = _off(affine, known)
        error = _error(off)
        if error < least:
            best, least = affine, error
        if error < _EXACT:
            break
        with_x, with_y = (
            [
                (after - before) / _STEP
                for after, before in zip(_off(_moved(affine, *step), known), off, strict=True)
            ]
            for step in ((_STEP, 0.0), (0.0, _STEP))
        )
        xx, yy, xy = _dot(with_x, with_x), _dot(with_y, with_y), _dot(with_x, with_y)
        x, y = _dot(with_x, off), _dot(with_y, off)
        area = xx * yy - xy * xy
        if area < 1e-9:
            break
        affine = _moved(affine, _held((xy * y - yy * x) / area), _held((xy * x - xx * y) / area))
    return best, least


def _off(affine: Affine, known: tuple[float, ...]) -> list[float]:
    """How far the overlap's boxes, in right and in left, and its share of right are off."""
    there = _overlap(affine)
    if len(there) < 3:
        return [1.0] * len(known)
    a, b, c, d, e, f = inverse(affine)
    here = [(a * x + c * y + e, b * x + d * y + f) for x, y in there]
    area = abs(sum(x * there[at - 1][1] - there[at - 1][0] * y for at, (x, y) in enumerate(there)))
    found = (*_box(there), *_box(here), area / 2)
    return [one - other for one, other in zip(found, known, strict=True)]


def _overlap(affine: Affine) -> list[_Point]:
    """What both show, as a polygon in right (Sutherland and Hodgman, 1974)."""
    a, b, c, d, e, f = affine
    polygon = [(a * x + c * y + e, b * x + d * y + f) for x, y in _CORNERS]
    for axis, limit, sign in ((0, 0.0, 1), (0, 1.0, -1), (1, 0.0, 1), (1, 1.0, -1)):
        kept: list[_Point] = []
        for at, point in enumerate(polygon):
            before = polygon[at - 1]
            now, then = sign * (point[axis] - limit), sign * (before[axis] - limit)
            if (now >= 0) != (then >= 0):
                part = then / (then - now)
                kept.append(
                    (
                        before[0] + part * (point[0] - before[0]),
                        before[1] + part * (point[1] - before[1]),
                    )
                )
            if now >= 0:
                kept.append(point)
        polygon = kept
    return polygon


def _moved(affine: Affine, x: float, y: float) -> Affine:
    return (*affine[:4], affine[4] + x, affine[5] + y)


def _small(size: tuple[int, int]) -> _Point:
    wide, high = max(size[0], 1), max(size[1], 1)
    less = min(1.0, THUMBNAIL_SIDE / max(wide, high))
    return wide * less, high * less


def _box(points: list[_Point]) -> Box:
    across, down = [x for x, _ in points], [y for _, y in points]
    return min(across), min(down), max(across), max(down)


def _centre(box: Box) -> _Point:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _held(step: float) -> float:
    return max(-_LONGEST, min(_LONGEST, step))


def _dot(one: list[float], other: list[float]) -> float:
    return sum(x * y for x, y in zip(one, other, strict=True))


def _error(off: list[float]) -> float:
    return max(abs(one) for one in off)
