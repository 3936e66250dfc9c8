"""Where one picture lies in another: a robust affine fit to matching features.

Each matching feature carries a position, a scale and an angle, and so proposes a whole similarity
by itself (Schmid and Mohr 1997; Lowe 2004, section 7.3). All proposals are tried instead of random
samples: no luck is involved, the same pair always gives the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.dedup.features import Features

#: Lowe's ratio, on distances; wide, because the geometry sorts out the rest.
_RATIO = 0.85
#: A proposal's tolerance in pixels, and beyond that per pixel of distance from its feature.
_NEAR_TOLERANCE, _FAR_TOLERANCE = 6.0, 0.12
#: Tolerances of the refits; the last decides who is an inlier.
_REFITS = (8.0, 5.0, 3.5, 3.0)
#: With so many inliers the mirrored picture is not tried: few things are symmetric to the pixel.
_SURELY = 60
#: A feature so many pixels off the fit is not merely imprecise.
_ELSEWHERE = 5.0
#: Fewer features agree on something by chance. Of 2,800 copies and other shots of a scene, those
#: hardest to see among them, all had 6 and more; of pairs with nothing in common 5 in 6 have fewer.
_LEAST_VOTES = 5
#: Proposals that are looked at, the best first, and different ones that are refitted.
_PROPOSALS, _TRIED = 40, 5

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the left picture, mirrored first if ``mirrored``, maps into the right one.

    Attributes:
        matrix: float64 (2, 3), pixels of left to pixels of right.
        mirrored: whether left was mirrored left to right before.
        inliers: matching features that agree.
        matches: matching features in all.
        residual: root mean square of the inliers' errors, pixels of right.
        others: features that agree on another motion than this one: something else moved.
    """

    matrix: Matrix
    mirrored: bool
    inliers: int
    matches: int
    residual: float
    others: int


def align_either(left: Features, right: Features) -> tuple[Features, Alignment] | None:
    """The better of the fits of left as it is and mirrored, with left as it was aligned."""
    plain = align(left, right, mirrored=False)
    if plain and plain.inliers >= _SURELY:
        return left, plain
    turned = left.mirrored()
    mirror = align(turned, right, mirrored=True)
    if mirror and (plain is None or mirror.inliers > plain.inliers):
        return turned, mirror
    return (left, plain) if plain else None


def align(left: Features, right: Features, *, mirrored: bool) -> Alignment | None:
    """The best fit, or None where hardly any features agree.

    Args:
        left: features, of the mirrored picture where ``mirrored``.
        right: features.
        mirrored: noted in the result.
    """
    a, b = _mutual_matches(left.descriptors, right.descriptors)
    if len(a) < _LEAST_VOTES:
        return None
    source, target = left.points[a], right.points[b]
    votes = _votes(source, target)
    best: tuple[Matrix, npt.NDArray[np.bool_], float] | None = None
    counts = votes.sum(axis=1)
    if counts.max() < _LEAST_VOTES:
        return None
    order = np.argsort(-counts, kind="stable")[:_PROPOSALS]
    alike = votes[order].astype(np.float32) @ votes[order].T.astype(np.float32)
    tried: list[int] = []
    for at, proposal in enumerate(order):
        if counts[proposal] < _LEAST_VOTES or len(tried) == _TRIED:
            break
        if any(alike[at, before] > 0.7 * counts[proposal] for before in tried):
            continue  # the same fit, proposed by another of its features
        tried.append(at)
        fitted = _refit(source, target, votes[proposal])
        if fitted and (best is None or fitted[1].sum() > best[1].sum()):
            best = fitted
        if best is not None and best[1].sum() > 0.5 * len(a):
            break  # nothing else can have more
    if best is None:
        return None
    matrix, inliers, residual = best
    return Alignment(
        matrix,
        mirrored,
        int(inliers.sum()),
        len(a),
        residual,
        _others(matrix, source, target, votes),
    )


def _others(matrix: Matrix, source: Floats, target: Floats, votes: npt.NDArray[np.bool_]) -> int:
    """The most features that agree with one another, and clearly not with the fit."""
    mapped = source[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    far = np.linalg.norm(mapped - target[:, :2], axis=1) > _ELSEWHERE
    if far.sum() < 4:
        return 0
    return int((votes[far][:, far]).sum(axis=1).max())


def _mutual_matches(
    left: Floats, right: Floats
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    if len(left) < 2 or len(right) < 2:
        none = np.zeros(0, np.intp)
        return none, none
    similarity = left @ right.T
    best = similarity.argmax(axis=1)
    rows = np.arange(len(left))
    first = similarity[rows, best]
    similarity[rows, best] = -1.0
    second = similarity.max(axis=1)
    # Unit vectors: squared distance is 2 - 2 x similarity.
    clear = np.flatnonzero((1.0 - first) < _RATIO**2 * (1.0 - second))
    similarity[rows, best] = first
    back = similarity[:, best[clear]].argmax(axis=0)  # of few: whole columns are slow to read
    keep = clear[back == clear]
    return keep, best[keep]


def _votes(source: Floats, target: Floats) -> npt.NDArray[np.bool_]:
    """(n, n): does feature j agree with the similarity that feature i proposes?"""
    scale = target[:, 2] / np.maximum(source[:, 2], 1e-3)
    turn = target[:, 3] - source[:, 3]
    p = source[:, 0] + 1j * source[:, 1]
    q = target[:, 0] + 1j * target[:, 1]
    z = scale * np.exp(1j * turn)
    offsets = p[None, :] - p[:, None]
    error = np.abs(q[None, :] - q[:, None] - z[:, None] * offsets)
    tolerance = _NEAR_TOLERANCE + _FAR_TOLERANCE * np.abs(offsets) * scale[:, None]
    return np.asarray(error < tolerance)


def _refit(
    source: Floats, target: Floats, agreeing: npt.NDArray[np.bool_]
) -> tuple[Matrix, npt.NDArray[np.bool_], float] | None:
    """Least squares on the agreeing features, again with less and less tolerance."""
    ones = np.column_stack([source[:, :2], np.ones(len(source))]).astype(np.float64)
    wanted = target[:, :2].astype(np.float64)
    for tolerance in _REFITS:
        if len(np.unique(wanted[agreeing].round(), axis=0)) < 4:
            return None
        solution, _, rank, _ = np.linalg.lstsq(ones[agreeing], wanted[agreeing], rcond=None)
        if rank < 3:
            return None
        error = np.linalg.norm(ones @ solution - wanted, axis=1)
        agreeing = error < tolerance
    # One point may carry two features (two orientations): it is one witness.
    _, witnesses = np.unique(wanted.round(), axis=0, return_index=True)
    once = np.zeros(len(wanted), dtype=bool)
    once[witnesses] = True
    once &= agreeing
    if once.sum() < 4:
        return None
    return np.asarray(solution.T), np.asarray(once), float(np.sqrt(np.mean(error[once] ** 2)))
