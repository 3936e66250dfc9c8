"""What lies around a picture inside another one: more of the picture, or a frame.

The picture that was cut out of another goes on across its own edge; where it was put into a frame,
a page or a screen, it breaks there on all sides. So the lines just outside of the edge are compared
with those just inside, and those with lines further in.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tasks.dedup.align import Matrix

#: Points along each edge, and how far from it the lines lie, pixels of the host: outside, inside
#: and, for comparison, further in.
_POINTS = 96
_OUTER, _INNER, _DEEPER = (2.0, 3.0), (-2.0, -3.0), (-6.0, -7.0)
#: Fewer points with room outside say nothing of an edge.
_LEAST = 10

#: Levels by which a line must vary for its likeness to tell anything; correlations above and below
#: which a picture goes on across an edge, or breaks there.
_ROUGH, _GOES_ON, _BREAKS = 3.0, 0.6, 0.4
#: At a break colours step by so many levels, and by so many times what is usual further in.
_STEP, _STEEPER = 8.0, 1.3
#: Grass and gravel are like little two lines away, inside as across the edge: there it goes on
#: where it is this rough, nearly as rough as inside, steps no further than this, and is alike.
_GRAIN, _AS_ROUGH, _AS_STEEP, _AT_ALL = 8.0, 0.8, 1.2, 0.05
#: A picture goes on where so much of the edges does, as a share of those where it breaks.
_SOME = 0.35

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


def look_around(host: Pixels, guest: tuple[int, int], into: Matrix) -> float:
    """What the host shows around the guest.

    Args:
        host: uint8 (height, width, 3).
        guest: width and height of the picture that lies in it.
        into: float64 (2, 3), pixels of the guest to pixels of the host.

    Returns:
        -1 (the picture goes on across every edge) to 1 (it breaks at every edge); 0 where the host
        shows nothing around it, or nothing that tells.
    """
    edges = [(_verdict(lines), len(lines[0])) for lines in _edge_lines(host, guest, into)]
    every = sum(length for _, length in edges)
    goes_on = sum(length for verdict, length in edges if verdict < 0)
    breaks = sum(length for verdict, length in edges if verdict > 0)
    if every == 0:
        return 0.0
    # What was cut out may have been cut along a thing; what was framed goes on nowhere.
    return -goes_on / every if goes_on >= _SOME * breaks and goes_on else breaks / every


def _edge_lines(
    host: Pixels, guest: tuple[int, int], into: Matrix
) -> list[tuple[Floats, Floats, Floats]]:
    """Lines outside, inside and further inside of each edge that has room around it."""
    wide, high = guest
    corners = np.array(
        [[-0.5, -0.5], [wide - 0.5, -0.5], [wide - 0.5, high - 0.5], [-0.5, high - 0.5]]
    )
    there = corners @ into[:, :2].T + into[:, 2]
    middle = there.mean(axis=0)
    along = np.linspace(0.02, 0.98, _POINTS)[:, None]
    height, width = host.shape[:2]
    found = []
    for number in range(4):
        one, two = there[number], there[(number + 1) % 4]
        points = one + along * (two - one)
        normal = np.array([two[1] - one[1], one[0] - two[0]])
        normal = normal / max(float(np.linalg.norm(normal)), 1e-9)
        if normal @ (one - middle) < 0:
            normal = -normal
        far = points + 4.0 * normal
        near = points - 8.0 * normal
        room = np.ones(len(points), bool)
        for place in (far, near):
            room &= (place[:, 0] >= 0) & (place[:, 0] <= width - 1)
            room &= (place[:, 1] >= 0) & (place[:, 1] <= height - 1)
        if room.sum() < _LEAST:
            continue
        outer, inner, deeper = (
            _line(host, points[room], normal, offsets) for offsets in (_OUTER, _INNER, _DEEPER)
        )
        found.append((outer, inner, deeper))
    return found


def _line(host: Pixels, points: Matrix, normal: Matrix, offsets: tuple[float, ...]) -> Floats:
    """Mean colours of some lines beside points, float32 (n, 3)."""
    total: Floats = np.zeros((len(points), 3), np.float32)
    for offset in offsets:
        x, y = (points + offset * normal).astype(np.float32).T
        total += cv2.remap(host, x[None], y[None], cv2.INTER_LINEAR)[0].astype(np.float32)
    mean: Floats = (total / len(offsets)).astype(np.float32)
    return mean


def _verdict(lines: tuple[Floats, Floats, Floats]) -> int:
    """Of one edge: -1 where the picture goes on across it, 1 where it breaks, 0 where none shows.

    In 90 framed copies of clothes no edge had a correlation above 0.52, and in 20 crops each had
    one with more than 0.7. Of 1,791 edges of frames, pages and screens none counts as grain.
    """
    outer, inner, deeper = lines
    rough, within = (float(line.std(axis=0).mean()) for line in (outer, inner))
    alike = _correlation(outer, inner)
    if rough > _ROUGH and alike > _GOES_ON:
        return -1
    step, usual = (float(np.abs(inner - other).mean()) for other in (outer, deeper))
    grain = rough > max(_GRAIN, _AS_ROUGH * within) and alike > _AT_ALL
    if grain and step < _AS_STEEP * usual:
        return -1
    breaks = alike < _BREAKS or rough <= _ROUGH
    return 1 if breaks and step > _STEP and step > _STEEPER * usual else 0


def _correlation(one: Floats, two: Floats) -> float:
    a, b = one - one.mean(axis=0), two - two.mean(axis=0)
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-3))
