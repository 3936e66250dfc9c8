"""Proof on the originals: two pictures compared at full size along the fit found on thumbnails.

A thumbnail of 384 pixels does not show a digit of a page. Here the finer original is laid over the
coarser one, tile by tile, in the coarser one's pixels; each tile's shift is measured and the fit
made better by all of them, and then by all edges; then every tile is asked what is left of it. The
noise that bounds a difference is the pair's own, over all tiles, so that a tile that differs in all
its parts does not pass for a noisy one.

Memory: the two pictures, some 7 bytes for each pixel of the coarser one while colours are compared,
and for one tile at a time some twenty planes of 512 x 512 numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tasks.dedup.chroma import compare_colours
from tasks.dedup.differences import find_difference, is_page
from tasks.dedup.flow import flow_step
from tasks.dedup.laid import FILTERS, Filter, Matrix, Pixels, grey_of, is_smaller, lay
from tasks.dedup.placement import Affine
from tasks.dedup.residual import Floats, Mask, Residual, expected_energy, measure_residual
from tasks.dedup.tone import fit_curve, joined, slope_of, tones_of

_Box = tuple[int, int, int, int]

#: Side of a tile and of what is added to it for windows at its edge, pixels of the coarser picture,
#: and how far a tile's shift is looked for.
_TILE, _MARGIN, _REACH = 512, 16, 12.0
#: A tile's shift counts from this peak of its phase correlation.
_PEAK = 0.08
#: The fit is made better along edges in so many steps at the most, in each of which an edge counts
#: that lies off by no more than so many pixels: one that was itself moved, a bar by one pixel, must
#: not move the fit. It stands still when no corner moves by more than this from the second step on;
#: a step by more than the last is none. All in pixels.
_NEARER, _STILL, _TOO_FAR = (1.0, 0.4, 0.3), 0.1, 4.0
#: Of each tile so many windows are kept, the ones that stand out most.
_KEPT = 48
#: Energy of the rest in units of the pair's noise: up to the first the two are the same, from the
#: second they differ, between them nobody can tell. In the 29 fitting families, seed 52, copies had
#: 12.1 at the most (JPEG 60 beside filled dark shapes) and 8.9 else, pairs with another word,
#: number or fill 32 at the least; a bar that is one pixel of 1,000 longer has 15.
SAME, DIFFERS = 13.0, 24.0
#: Chroma that lies no further apart is the same, levels. In the 29 fitting families copies encoded
#: anew had 9 at the most and all others 17 (scans), 25 photographs as JPEG 20 had 12. Navy and
#: black lie 21 to 24 apart, a red dot and a green one of 12 pixels 69 and more.
_SAME_COLOURS = 20.0
#: Noise that is no noise any more: the fit does not hold, or the two were treated too differently.
_MOST_MISFIT, _MOST_NOISE = 0.34, 7.9
#: Twice a block of 8 pixels, and one more: as far as ringing reaches.
_BLOCK = 17
#: Side at which the tone curve over the whole is fitted first, and of how many pixels of the
#: coarser picture it is fitted once more where that was made smaller.
_WHOLE, _TOLD = 512, 30_000
#: The tone curve that changes nothing.
_AS_IT_IS: Floats = np.arange(256, dtype=np.float32)
#: The filter is told by what is left after a blur of so many pixels, where most pixels are steeper
#: than so many levels.
_SOFT, _INK = 0.9, 4.0
#: Shorter sides than this are no picture that can be proven.
_LEAST = 16


@dataclass(frozen=True, slots=True)
class Proof:
    """What two originals say of each other.

    Attributes:
        verdict: ``same``, ``differs``, ``reads`` (they differ, in ink in place of other ink on one
            plain ground, or on a page) or ``unknown``.
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
class _Pair:
    """Two pictures: the coarser one, whose pixels count, and the finer one, as it is laid over it.

    Attributes:
        fine: uint8 (h, w, 3).
        coarse: the same.
        curve: grey levels of the coarse one for each of 256 of the fine one.
        by: how the fine one is made smaller.
    """

    fine: Pixels
    coarse: Pixels
    curve: Floats
    by: Filter


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
    pair = _Pair(fine, coarse, _tone_curve(fine, coarse, onto), FILTERS[0])
    onto = _fitted(pair, _refined(pair, onto))
    pair = _as_made(pair, onto)
    found = _measured(pair, onto)
    if found is None:
        return _unknown()
    x, y, excess, noise, misfit, pixels = found
    colours = compare_colours(pair.fine, pair.coarse, onto)
    coloured = SAME * (colours.apart / _SAME_COLOURS) ** 2
    other_colour = coloured > excess
    if other_colour:
        (x, y), excess = colours.at, coloured
    point = np.array([x, y, 1.0])
    if swapped:
        point = np.linalg.inv(onto) @ point
    at = float(point[0] / right.shape[1]), float(point[1] / right.shape[0])
    verdict = "same" if excess <= SAME else "differs" if excess >= DIFFERS else "unknown"
    if misfit > _MOST_MISFIT or noise > _MOST_NOISE:
        verdict = "unknown"  # a fit that does not hold looks like a difference everywhere
    elif verdict == "differs" and not other_colour and _is_read(pair, onto, found):
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


def _tone_curve(fine: Pixels, coarse: Pixels, onto: Matrix) -> Floats:
    """Grey levels of the coarse picture for each of 256 of the fine one, from both made small."""
    less = min(1.0, _WHOLE / max(coarse.shape[:2]))
    size = max(2, round(coarse.shape[1] * less)), max(2, round(coarse.shape[0] * less))
    under = grey_of(cv2.resize(coarse, size, interpolation=cv2.INTER_AREA).astype(np.uint8))
    x, y = size[0] / coarse.shape[1], size[1] / coarse.shape[0]
    to_small = np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1.0]])
    laid = lay(fine, to_small @ onto, (0, 0, *size), "BOX")
    if laid is None or laid[1].sum() < 100:
        return _AS_IT_IS
    return fit_curve(tones_of(laid[0], under, laid[1]))


def _boxes(coarse: Pixels) -> Iterator[_Box]:
    """x0, y0, x1, y1 of each tile, its margin with it."""
    high, wide = coarse.shape[:2]
    for y in range(0, high, _TILE):
        for x in range(0, wide, _TILE):
            box = (
                max(0, x - _MARGIN),
                max(0, y - _MARGIN),
                min(wide, x + _TILE + _MARGIN),
                min(high, y + _TILE + _MARGIN),
            )
            if min(box[2] - box[0], box[3] - box[1]) >= _LEAST:
                yield box


def _tile(pair: _Pair, onto: Matrix, box: _Box) -> tuple[Floats, Floats, Mask] | None:
    """The fine picture, the coarse one, where both are; None where they do not meet."""
    laid = lay(pair.fine, onto, box, pair.by)
    if laid is None or laid[1].sum() < 400:
        return None
    under = grey_of(pair.coarse[box[1] : box[3], box[0] : box[2]])
    return _toned(laid[0], pair.curve), under, laid[1]


def _toned(grey: Floats, curve: Floats) -> Floats:
    """A picture with a tone curve."""
    return np.interp(grey.ravel(), _AS_IT_IS, curve).reshape(grey.shape).astype(np.float32)


def _tiles(pair: _Pair, onto: Matrix) -> Iterator[tuple[int, int, Floats, Floats, Mask]]:
    """x, y, the fine picture, the coarse one, where both are: of each tile where they meet."""
    for box in _boxes(pair.coarse):
        tile = _tile(pair, onto, box)
        if tile is not None:
            yield box[0], box[1], *tile


def _as_made(pair: _Pair, onto: Matrix) -> _Pair:
    """The pair with the filter by which the coarse one was made smaller, and its tone curve.

    The curve fitted on both made small served to find the fit. Strokes that are thin there are
    lighter or darker by how they were made small, which bends the curve of a page that has little
    else: by 10 levels of its black in a sheet of staves. So it is fitted once more, at full size.
    """
    made = replace(pair, by=_filter_of(pair, onto), curve=_AS_IT_IS)
    step = max(1, pair.coarse.shape[0] * pair.coarse.shape[1] // _TOLD)
    parts = [tones_of(one, two, mask, step) for _, _, one, two, mask in _tiles(made, onto)]
    return replace(made, curve=fit_curve(joined(parts))) if parts else pair


def _filter_of(pair: _Pair, onto: Matrix) -> Filter:
    """The filter that leaves least where there is most ink, each with the curve that goes with it.

    By another filter than the one that made the coarse picture thin strokes are lighter or darker.
    """
    if not is_smaller(onto):
        return pair.by

    def ink(box: _Box) -> int:
        part = pair.coarse[box[1] : box[3], box[0] : box[2]]
        return int((slope_of(grey_of(part)) > _INK).sum())

    rests: dict[Filter, float] = {}
    for box in sorted(_boxes(pair.coarse), key=ink, reverse=True):
        for by in FILTERS:
            tile = _tile(replace(pair, by=by, curve=_AS_IT_IS), onto, box)
            if tile is not None:
                one, two, mask = tile
                told = tones_of(one, two, mask, max(1, mask.size // _TOLD))
                rest = np.abs(cv2.GaussianBlur(_toned(one, fit_curve(told)) - two, (0, 0), _SOFT))
                rests[by] = float(rest[mask].mean())
        if rests:
            return min(rests, key=lambda by: rests[by])
    return pair.by


def _refined(pair: _Pair, onto: Matrix) -> Matrix:
    """The fit made better by the shifts of all tiles that have enough to tell theirs."""
    places, shifts = [], []
    for x, y, one, two, mask in _tiles(pair, onto):
        dx, dy, peak = _shift(one, two, mask)
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


def _fitted(pair: _Pair, onto: Matrix) -> Matrix:
    """The fit made better along the edges of all tiles, until it stands still."""
    high, wide = pair.coarse.shape[:2]
    corners = np.array([(0, 0, 1), (wide, 0, 1), (0, high, 1), (wide, high, 1.0)]).T
    for done, far in enumerate(_NEARER):
        own = (
            (x, y, one, two, mask & _without_margin(one.shape, x, y, pair.coarse))
            for x, y, one, two, mask in _tiles(pair, onto)
        )
        step = flow_step(own, (wide, high), far)
        moved = float(np.abs((step @ corners - corners)[:2]).max())
        if moved > _TOO_FAR:
            break  # no fit for all of it
        onto = np.asarray(step @ onto)
        if done and moved < _STILL:
            break
    return onto


def _shift(one: Floats, two: Floats, mask: Mask) -> tuple[float, float, float]:
    """How far two tiles lie apart, pixels, and the peak of their phase correlation.

    OpenCV pads a tile to a size that its transform likes, and where that is odd it names a shift of
    half a pixel for a tile and itself. So tiles are padded here, to even sizes that it likes.
    """
    high, wide = one.shape
    below, beside = (2 * cv2.getOptimalDFTSize((side + 1) // 2) - side for side in (high, wide))
    middle = float(two[mask].mean())
    planes = [np.where(mask, grey - middle, 0).astype(np.float32) for grey in (one, two)]
    planes.append(cv2.createHanningWindow((wide, high), cv2.CV_32F))
    a, b, window = (np.pad(plane, ((0, below), (0, beside))) for plane in planes)
    (dx, dy), peak = cv2.phaseCorrelate(a, b, window)
    return dx, dy, peak


def _measured(pair: _Pair, onto: Matrix) -> tuple[float, float, float, float, float, int] | None:
    """x, y and excess of what stands out most, the pair's noise and misfit, pixels compared."""
    windows: list[_Window] = []
    noises, misfits, pixels = [], [], 0
    for x, y, one, two, mask in _tiles(pair, onto):
        residual = measure_residual(one, two, mask, toned=False)
        if residual is None:
            continue
        pixels += int(residual.mask.sum())
        inked = int((residual.steep_right > 4).sum())
        if inked > 200:
            misfits.append((residual.misfit, inked))
        noises.append(residual.noise)
        energy, steep = residual.energy**2, _surroundings(residual)
        own = residual.mask & _without_margin(one.shape, x, y, pair.coarse)
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
    pair: _Pair, onto: Matrix, found: tuple[float, float, float, float, float, int]
) -> bool:
    """Whether both have ink where they differ most, not the same, and on a plain ground or a page.

    Fills that are too small on a thumbnail to be a page's are none too small here.
    """
    at_x, at_y, _, noise, misfit, _ = found
    for x, y, one, two, mask in _tiles(pair, onto):
        own = _without_margin(one.shape, x, y, pair.coarse)
        row, column = round(at_y) - y, round(at_x) - x
        if not (0 <= row < own.shape[0] and 0 <= column < own.shape[1] and own[row, column]):
            continue
        residual = measure_residual(one, two, mask, toned=False)
        if residual is None:
            return False
        expected = expected_energy(_surroundings(residual), noise, misfit)
        excess = np.where(own & residual.mask, residual.energy**2 / expected, 0)
        place = find_difference(one, two, replace(residual, excess=excess.astype(np.float32)))
        if place is None or place.kind != "ink":
            return False
        return place.plain or (is_page(one, mask) and is_page(two, mask))
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
