"""Proof on the originals: two pictures compared at full size along the fit found on thumbnails.

A thumbnail of 384 pixels does not show a digit of a page. Here the finer original is laid over the
coarser one, tile by tile, in the coarser one's pixels; each tile's shift is measured and the fit
made better by all of them; then every tile is asked what is left of it. The noise that bounds a
difference is the pair's own, over all tiles, so that a tile that differs in all its parts does not
pass for a noisy one.

Memory: the two pictures, and for one tile at a time some twenty planes of 512 x 512 numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from tasks.dedup.differences import find_difference
from tasks.dedup.placement import Affine
from tasks.dedup.residual import Floats, Mask, Residual, expected_energy, measure_residual

Pixels = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]

#: Side of a tile and of what is added to it for windows at its edge, pixels of the coarser picture,
#: and how far a tile's shift is looked for.
_TILE, _MARGIN, _REACH = 512, 16, 12.0
#: A tile's shift counts from this peak of its phase correlation.
_PEAK = 0.08
#: Of each tile so many windows are kept, the ones that stand out most.
_KEPT = 48
#: Energy of the rest in units of the pair's noise: up to the first the two are the same, from the
#: second they differ, between them nobody can tell. Of fitting families, copies had 7 at the most
#: (of 11, a place at a tile's edge left out), 12 pairs with another word or number 33 at the least.
SAME, DIFFERS = 12.0, 24.0
#: Noise that is no noise any more: the fit does not hold, or the two were treated too differently.
_MOST_MISFIT, _MOST_NOISE = 0.34, 7.9
#: Twice a block of 8 pixels, and one more: as far as ringing reaches.
_BLOCK = 17
#: Side at which the tone curve over the whole is fitted, and its knots.
_WHOLE = 512
#: A pixel is flat below this steepness, levels a pixel; flat tones that take so much of the picture
#: and lie so many levels apart tell the tone curve, and all else counts for so much of one of them.
_FLAT, _TONE, _APART, _ELSE = 1.0, 0.001, 48.0, 0.05
#: Shorter sides than this are no picture that can be proven.
_LEAST = 16


@dataclass(frozen=True, slots=True)
class Proof:
    """What two originals say of each other.

    Attributes:
        verdict: ``same``, ``differs``, ``reads`` (they differ, in lettering in place of other
            lettering on one plain ground) or ``unknown``.
        at: centre of what differs most, 0..1 of the right picture's width and height.
        excess: energy of the rest there, in units of the pair's own noise.
        noise: of flat ground, grey levels.
        misfit: of edges, pixels of the coarser picture.
        pixels: pixels of the coarser picture that were compared.
    """

    verdict: str
    at: tuple[float, float]
    excess: float
    noise: float
    misfit: float
    pixels: int


@dataclass(frozen=True, slots=True)
class _Window:
    """A place that may stand out: x, y in the coarse picture, energy of its rest, steepness."""

    x: float
    y: float
    energy: float
    steep: float


def prove(left: Pixels, right: Pixels, fit: Affine) -> Proof:
    """Compare two originals at the coarser one's full size.

    Args:
        left: uint8 (h, w, 3), RGB, upright.
        right: the same.
        fit: left to right, both in 0..1 of their own sides; of a mirrored pair it mirrors.
    """
    if min(*left.shape[:2], *right.shape[:2]) < _LEAST:
        return _unknown()
    matrix = _in_pixels(fit, left, right)
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if not 0.01 < scale < 100:
        return _unknown()
    swapped = scale > 1  # the coarser picture is the one whose pixels count
    fine, coarse = (right, left) if swapped else (left, right)
    onto: Matrix = np.asarray(np.linalg.inv(matrix), dtype=np.float64) if swapped else matrix
    curve = _tone_curve(fine, coarse, onto)
    for _ in range(2):
        onto = _refined(fine, coarse, onto, curve)
    found = _measured(fine, coarse, onto, curve)
    if found is None:
        return _unknown()
    x, y, excess, noise, misfit, pixels = found
    point = np.array([x, y, 1.0])
    if swapped:
        point = np.linalg.inv(onto) @ point
    at = float(point[0] / right.shape[1]), float(point[1] / right.shape[0])
    verdict = "same" if excess <= SAME else "differs" if excess >= DIFFERS else "unknown"
    if misfit > _MOST_MISFIT or noise > _MOST_NOISE:
        verdict = "unknown"  # a fit that does not hold looks like a difference everywhere
    elif verdict == "differs" and _is_read(fine, coarse, onto, curve, found):
        verdict = "reads"
    return Proof(verdict, at, excess, noise, misfit, pixels)


def _unknown() -> Proof:
    return Proof("unknown", (0.5, 0.5), 0.0, 0.0, 0.0, 0)


def _in_pixels(fit: Affine, left: Pixels, right: Pixels) -> Matrix:
    """The fit between pixel centres, float64 (3, 3)."""
    a, b, c, d, e, f = fit
    there = np.array([[a, c, e], [b, d, f], [0, 0, 1.0]])
    (high, wide), (high_r, wide_r) = left.shape[:2], right.shape[:2]
    to_unit = np.array([[1 / wide, 0, 0.5 / wide], [0, 1 / high, 0.5 / high], [0, 0, 1.0]])
    to_right = np.array([[wide_r, 0, -0.5], [0, high_r, -0.5], [0, 0, 1.0]])
    return np.asarray(to_right @ there @ to_unit)


def _grey(rgb: Pixels) -> Floats:
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    return np.asarray(grey, dtype=np.float32)


def _laid(fine: Pixels, onto: Matrix, box: tuple[int, int, int, int]) -> tuple[Floats, Mask] | None:
    """The part of the fine picture that lies in a box of the coarse one, in its pixels.

    Args:
        fine: the finer picture.
        onto: its pixels to those of the coarser one.
        box: x0, y0, x1, y1 in the coarser one.
    """
    x0, y0, x1, y1 = box
    corners = np.array([[x0, y0, 1], [x1, y0, 1], [x1, y1, 1], [x0, y1, 1.0]]).T
    back = np.linalg.inv(onto) @ corners
    low = np.maximum(np.floor(back[:2].min(axis=1)).astype(int) - 8, 0)
    high = np.ceil(back[:2].max(axis=1)).astype(int) + 8
    part = fine[low[1] : max(high[1], 0), low[0] : max(high[0], 0)]
    if min(part.shape[:2]) < 2:
        return None
    grey = _grey(part)
    here = onto @ np.array([[1, 0, low[0]], [0, 1, low[1]], [0, 0, 1.0]])
    scale = float(np.sqrt(abs(np.linalg.det(here[:2, :2]))))
    if scale < 0.8:  # averaged, not sampled: else what is fine turns into noise
        size = tuple(max(2, round(side * scale)) for side in grey.shape[::-1])
        x, y = grey.shape[1] / size[0], grey.shape[0] / size[1]
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
        here = here @ np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1.0]])
    here = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1.0]]) @ here
    size = x1 - x0, y1 - y0
    laid = cv2.warpAffine(grey, here[:2], size, flags=cv2.INTER_LINEAR)
    full = np.full(grey.shape, 255, np.uint8)
    mask = cv2.warpAffine(full, here[:2], size, flags=cv2.INTER_NEAREST)
    mask = cv2.erode(mask, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(laid, dtype=np.float32), mask > 0


def _tone_curve(fine: Pixels, coarse: Pixels, onto: Matrix) -> Floats:
    """Grey levels of the coarse picture for each of 256 of the fine one: a parabola at the most."""
    less = min(1.0, _WHOLE / max(coarse.shape[:2]))
    size = max(2, round(coarse.shape[1] * less)), max(2, round(coarse.shape[0] * less))
    under = _grey(cv2.resize(coarse, size, interpolation=cv2.INTER_AREA).astype(np.uint8))
    x, y = size[0] / coarse.shape[1], size[1] / coarse.shape[0]
    to_small = np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1.0]])
    levels = np.arange(256, dtype=np.float32)
    laid = _laid(fine, to_small @ onto, (0, 0, *size))
    if laid is None or laid[1].sum() < 100:
        return levels
    soft, other = (cv2.GaussianBlur(grey, (0, 0), 2.0) for grey in (laid[0], under))
    one, two = soft[laid[1]], other[laid[1]]
    weight = _tellers(one, np.maximum(_slope(soft), _slope(other))[laid[1]])

    def terms(grey: Floats) -> Floats:
        tone = grey / 128 - 1
        return np.stack([np.ones_like(tone), tone, tone**2], axis=1)

    design, wanted = terms(one), two - one
    calm = np.ones(len(one), dtype=bool)
    solution = np.zeros(3, np.float32)
    ridge = np.diag(np.full(3, 1e-3 * float(weight.sum()), np.float32))
    for _ in range(4):
        part = design[calm] * weight[calm][:, None]
        solution = np.linalg.solve(part.T @ design[calm] + ridge, part.T @ wanted[calm])
        off = np.abs(wanted - design @ solution)
        calm = off <= max(float(np.quantile(off, 0.8)), 4.0)
    return np.asarray(levels + terms(levels) @ solution, dtype=np.float32)


def _tellers(tones: Floats, steep: Floats) -> Floats:
    """How much each pixel counts for the tone curve.

    Lettering that was made smaller is lighter or darker by its filter alone. Flat areas are not, so
    where there are two of different tones they tell, each for as much.
    """
    flat = steep < _FLAT
    steps = (tones / 16).astype(np.intp)
    counts = np.bincount(steps[flat], minlength=17).astype(np.float64)
    known = counts > _TONE * len(tones)
    if not known.any() or np.ptp(np.flatnonzero(known)) * 16 < _APART:
        return np.ones_like(tones)
    told = flat & known[steps]
    weight = np.full(len(tones), _ELSE / max(1, int((~told).sum())))
    weight[told] = 1 / counts[steps[told]]
    return np.asarray(weight * len(tones) / weight.sum(), dtype=np.float32)


def _slope(grey: Floats) -> Floats:
    """How steep a picture is, levels a pixel."""
    x, y = (cv2.Sobel(grey, cv2.CV_32F, *way, ksize=3, scale=1 / 8) for way in ((1, 0), (0, 1)))
    return np.asarray(np.hypot(x, y), dtype=np.float32)


def _tiles(
    fine: Pixels, coarse: Pixels, onto: Matrix, curve: Floats
) -> Iterator[tuple[int, int, Floats, Floats, Mask]]:
    """x, y, the fine picture, the coarse one, where both are: of each tile where they meet."""
    high, wide = coarse.shape[:2]
    levels = np.arange(256, dtype=np.float32)
    for y in range(0, high, _TILE):
        for x in range(0, wide, _TILE):
            box = (
                max(0, x - _MARGIN),
                max(0, y - _MARGIN),
                min(wide, x + _TILE + _MARGIN),
                min(high, y + _TILE + _MARGIN),
            )
            if min(box[2] - box[0], box[3] - box[1]) < _LEAST:
                continue
            laid = _laid(fine, onto, box)
            if laid is None or laid[1].sum() < 400:
                continue
            one = np.interp(laid[0].ravel(), levels, curve).reshape(laid[0].shape)
            under = _grey(coarse[box[1] : box[3], box[0] : box[2]])
            yield box[0], box[1], one.astype(np.float32), under, laid[1]


def _refined(fine: Pixels, coarse: Pixels, onto: Matrix, curve: Floats) -> Matrix:
    """The fit made better by the shifts of all tiles that have enough to tell theirs."""
    places, shifts = [], []
    for x, y, one, two, mask in _tiles(fine, coarse, onto, curve):
        window = cv2.createHanningWindow((one.shape[1], one.shape[0]), cv2.CV_32F)
        middle = float(two[mask].mean())
        a, b = (np.where(mask, grey - middle, 0).astype(np.float32) for grey in (one, two))
        (dx, dy), peak = cv2.phaseCorrelate(a, b, window)
        if peak > _PEAK and max(abs(dx), abs(dy)) < _REACH:
            places.append((x + one.shape[1] / 2, y + one.shape[0] / 2, 1.0))
            shifts.append((dx, dy))
    if not places:
        return onto
    ground, moved = np.array(places), np.array(shifts)
    step = np.eye(3)
    off = np.linalg.norm(moved - np.median(moved, axis=0), axis=1)
    calm = off <= np.quantile(off, 0.7) + 1.0
    if calm.sum() >= 6:
        solution = np.linalg.lstsq(ground[calm], moved[calm], rcond=None)[0]
        step[:2] += solution.T
    else:
        step[:2, 2] += np.median(moved, axis=0)
    return np.asarray(step @ onto)


def _measured(
    fine: Pixels, coarse: Pixels, onto: Matrix, curve: Floats
) -> tuple[float, float, float, float, float, int] | None:
    """x, y and excess of what stands out most, the pair's noise and misfit, pixels compared."""
    windows: list[_Window] = []
    noises, misfits, pixels = [], [], 0
    for x, y, one, two, mask in _tiles(fine, coarse, onto, curve):
        residual = measure_residual(one, two, mask, toned=False)
        if residual is None:
            continue
        pixels += int(residual.mask.sum())
        inked = int((residual.steep_right > 4).sum())
        if inked > 200:
            misfits.append((residual.misfit, inked))
        noises.append(residual.noise)
        energy, steep = residual.energy**2, _surroundings(residual)
        own = residual.mask & _without_margin(one.shape, x, y, coarse)
        standing = np.where(own, energy / expected_energy(steep), 0).ravel()
        for at in np.argpartition(standing, -_KEPT)[-_KEPT:]:
            row, column = divmod(int(at), one.shape[1])
            place = float(energy[row, column]), float(steep[row, column])
            windows.append(_Window(x + column, y + row, *place))
    if not windows:
        return None
    noise = float(np.median(noises))
    # Weighted by ink: a tile that is nearly empty says little of how well edges fit.
    misfit = _weighted_median(misfits) if misfits else 0.0
    best = max(windows, key=lambda w: w.energy / expected_energy(w.steep, noise, misfit))
    excess = best.energy / expected_energy(best.steep, noise, misfit)
    return best.x, best.y, float(excess), noise, misfit, pixels


def _is_read(
    fine: Pixels,
    coarse: Pixels,
    onto: Matrix,
    curve: Floats,
    found: tuple[float, float, float, float, float, int],
) -> bool:
    """Whether both have ink on one plain ground where they differ most, and not the same ink."""
    at_x, at_y, _, noise, misfit, _ = found
    for x, y, one, two, mask in _tiles(fine, coarse, onto, curve):
        own = _without_margin(one.shape, x, y, coarse)
        row, column = round(at_y) - y, round(at_x) - x
        if not (0 <= row < own.shape[0] and 0 <= column < own.shape[1] and own[row, column]):
            continue
        residual = measure_residual(one, two, mask, toned=False)
        if residual is None:
            return False
        expected = expected_energy(_surroundings(residual), noise, misfit)
        excess = np.where(own & residual.mask, residual.energy**2 / expected, 0)
        place = find_difference(one, two, replace(residual, excess=excess.astype(np.float32)))
        return place is not None and place.kind == "ink" and place.plain
    return False


def _surroundings(residual: Residual) -> Floats:
    """Squared steepness of both, and of what is around: a JPEG's block rings as far as it reaches.

    What an edge lets expect, its surroundings do.
    """
    steep = (residual.steep_left**2 + residual.steep_right**2) / 2
    return np.asarray(steep + cv2.blur(steep, (_BLOCK, _BLOCK)), dtype=np.float32)


def _without_margin(shape: tuple[int, ...], x: int, y: int, coarse: Pixels) -> Mask:
    """Where a tile is not cut off: its margin is another tile's inside, unless the picture ends."""
    height, width = shape[:2]
    own = np.ones((height, width), dtype=bool)
    less = _MARGIN - 4
    own[: less if y else 0] = False
    own[:, : less if x else 0] = False
    if y + height < coarse.shape[0]:
        own[-less:] = False
    if x + width < coarse.shape[1]:
        own[:, -less:] = False
    return own


def _weighted_median(values: list[tuple[float, int]]) -> float:
    ordered = sorted(values)
    half, before = sum(weight for _, weight in ordered) / 2, 0
    for value, weight in ordered:
        before += weight
        if before >= half:
            return value
    return ordered[-1][0]
