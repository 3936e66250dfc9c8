"""Where two pictures differ once encoding, scaling, blur and one change of tone are taken away.

Under an alignment the rest of a copy is small and everywhere alike: noise on flat ground, and near
edges a part of their steepness, from resampling, compression and what is left of the misfit. How
much, the pair itself says. A place that stands out of its own pair's noise has ink, a bar, a
module or a tone that the other picture lacks. Source of the joint fit of motion and tone: Lucas and
Kanade, "An iterative image registration technique", 1981; with gain and bias, Negahdaripour, 1998.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]
_Steep = TypeVar("_Steep", float, Floats)

#: Both are smoothed by this first, pixels: the grain of a JPEG's blocks is no content.
_SMOOTH = 0.9
#: The window in which a rest is summed, and the one over which a misfit may change, pixels.
_WINDOW, _WARP = 2.0, 20.0
#: Pixels that make the joint fit, its rounds, and the share of them that count in each.
_FITTED, _ROUNDS, _CALM = 12_000, 3, 0.8
#: An edge's rest before the fit, as a share of its steepness; and rests in units of what is
#: expected that count in any case.
_EDGE, _SURELY_CALM = 0.25, 2.5
#: Levels from which and up to which a smoothed pixel may be one that was clipped.
_WHITE, _BLACK = 250.0, 5.0
#: Steepness from which a pixel is inked, grey levels a pixel.
_STEEP = 4.0
#: The noise of flat ground, grey levels: at least and at most; and that of an edge, as a share of
#: its steepness, which is a misfit in pixels.
_LEAST_NOISE, _MOST_NOISE = 1.2, 8.0
_LEAST_MISFIT, _MOST_MISFIT = 0.06, 0.35
#: Of the inked windows the noisiest fifth may be what differs: the others tell the pair's noise.
_QUIET = 0.8


@dataclass(frozen=True, slots=True)
class Residual:
    """What is left of a pair, pixel by pixel; all (h, w).

    Attributes:
        excess: float32, energy of the rest in the window, in units of what the pair's noise lets
            expect: 1 is noise.
        energy: float32, root mean square of the rest, grey levels of the right picture.
        steep_left: float32, steepness of the left picture in the window, levels a pixel.
        steep_right: the same of the right one.
        mask: where both pictures are.
        noise: of flat ground, grey levels.
        misfit: of edges, pixels.
    """

    excess: Floats
    energy: Floats
    steep_left: Floats
    steep_right: Floats
    mask: Mask
    noise: float
    misfit: float


def measure_residual(
    left: Floats, right: Floats, mask: Mask, *, toned: bool = True
) -> Residual | None:
    """What a motion, a tone curve and a blur over the whole leave of a pair.

    Args:
        left: float32 (h, w), grey levels, laid over the right picture.
        right: the same.
        mask: bool (h, w), where both are.
        toned: whether a tone curve is fitted; not where this is a part of a picture, whose tone
            curve is known from the whole.

    Returns:
        None where too little is in common to tell the noise.
    """
    one, two = (cv2.GaussianBlur(grey, (0, 0), _SMOOTH) for grey in (left, right))
    inside = cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    if inside.sum() < 400:
        return None
    fitted = _explained(one, two, inside, toned=toned)
    rest = two - fitted
    every = rest - _warped(fitted, rest, inside)
    rest = _unclipped(every, one, two)
    slope_one, slope_two = _steepness(fitted), _steepness(two)
    energy = _window(rest * rest, inside)
    steep_left, steep_right = _window(slope_one, inside), _window(slope_two, inside)
    steep = np.asarray((steep_left + steep_right) / 2, dtype=np.float32)
    # The noise is that of all: paper is white, and half of an edge's noise lies on the white side.
    noise, misfit = _noise(_window(every * every, inside), steep, inside)
    excess = energy / expected_energy(steep, noise, misfit)
    return Residual(
        excess=np.where(inside, excess, 0).astype(np.float32),
        energy=np.sqrt(energy).astype(np.float32),
        steep_left=np.sqrt(steep_left).astype(np.float32),
        steep_right=np.sqrt(steep_right).astype(np.float32),
        mask=inside,
        noise=noise,
        misfit=misfit,
    )


def _explained(one: Floats, two: Floats, inside: Mask, *, toned: bool) -> Floats:
    """The left picture with the tone, blur and affine motion that bring it closest to the right."""
    height, width = one.shape
    across, down = slopes_of(one)
    rows, columns = np.nonzero(inside)
    step = max(1, len(rows) // _FITTED)
    rows, columns = rows[::step], columns[::step]
    x = (np.arange(width, dtype=np.float32) - width / 2) / width
    y = (np.arange(height, dtype=np.float32) - height / 2) / height

    def terms(a: Floats, gx: Floats, gy: Floats, lap: Floats, x: Floats, y: Floats) -> Floats:
        tone = a / 128 - 1
        return np.stack(
            [np.ones_like(a), tone, tone**2, lap, gx, gx * x, gx * y, gy, gy * x, gy * y]
        )

    blurred = cv2.Laplacian(one, cv2.CV_32F)
    if not toned:
        rows, columns = _with_ink(np.hypot(across, down), inside)
    at = rows, columns
    design = terms(one[at], across[at], down[at], blurred[at], x[columns], y[rows]).T
    wanted, steep = two[at] - one[at], np.hypot(across[at], down[at])
    inked = (steep > _STEEP) & (not toned)
    # An edge may be off by a part of its steepness: it tells less of the tone than flat areas do.
    weight = 1 / np.sqrt(_LEAST_NOISE**2 + (_EDGE * steep) ** 2)
    if not toned:
        design[:, :3] = 0
    design = np.asarray(design * weight[:, None], dtype=np.float32)
    wanted = np.asarray(wanted * weight, dtype=np.float32)
    calm = np.ones(len(wanted), dtype=bool)
    solution = np.zeros(design.shape[1], np.float32)
    ridge = np.diag(np.full(design.shape[1], 1e-3 * len(wanted), np.float32))
    for _ in range(_ROUNDS):
        part = design[calm]
        solved = np.linalg.solve(part.T @ part + ridge, part.T @ wanted[calm])
        solution = np.asarray(solved, dtype=np.float32)
        off = wanted - design @ solution
        within = _unclipped(off, one[at], two[at]) == off
        off = np.abs(off)
        # Never only the ground of a page: one tone tells no tone curve, and no edge no shift.
        bar = np.full(len(off), _SURELY_CALM, np.float32)
        for kind in (inked, ~inked):
            if (kind & within).any():
                usual = float(np.quantile(off[kind & within], _CALM))
                bar[kind] = max(usual, _SURELY_CALM)
        calm = off <= bar
        # A clipped pixel tells how far the curve goes at least, not where it goes.
        calm &= within | (off <= _SURELY_CALM)
    level, tone, square, soft, *moved = (float(value) for value in solution)
    light = one / 128 - 1
    shift_x = moved[0] + moved[1] * x + moved[2] * y[:, None]
    shift_y = moved[3] + moved[4] * x + moved[5] * y[:, None]
    change = level + (tone + square * light) * light + soft * blurred
    change = change + shift_x * across + shift_y * down
    return np.asarray(one + change, dtype=np.float32)


def _with_ink(steep: Floats, inside: Mask) -> tuple[Rows, Rows]:
    """Rows and columns of pixels for the fit of a tile: as many inked ones as others.

    A tile may hold two letters at its edge. Of pixels drawn evenly they would be a few dozen, and a
    fit to the bare ground beside them knows no blur.
    """
    found = []
    for kind in (inside & (steep > _STEEP), inside & (steep <= _STEEP)):
        rows, columns = np.nonzero(kind)
        step = max(1, 2 * len(rows) // _FITTED)
        found.append((rows[::step], columns[::step]))
    rows, columns = (np.concatenate(part) for part in zip(*found, strict=True))
    return rows, columns


def _unclipped(rest: Floats, one: Floats, two: Floats) -> Floats:
    """The rest without what clipping to black or white took from either picture.

    Where the right one is white the fit may be lighter than it, and where the left one is, the
    right may be lighter than the fit; of black the same holds the other way round. What is darker
    than a white place, or lighter than a black one, is no clipping and stays.
    """
    lighter = (two <= _BLACK) | (one >= _WHITE)
    darker = (two >= _WHITE) | (one <= _BLACK)
    rest = np.where(lighter, np.minimum(rest, 0), rest)
    return np.asarray(np.where(darker, np.maximum(rest, 0), rest), dtype=np.float32)


def _warped(of: Floats, rest: Floats, inside: Mask) -> Floats:
    """What a displacement that changes slowly over the picture explains of the rest."""
    across, down = slopes_of(of)

    size = rest.shape[1], rest.shape[0]
    small = max(2, size[0] // 8), max(2, size[1] // 8)

    def broad(values: Floats) -> Floats:
        reduced = cv2.resize(np.where(inside, values, 0), small, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(cv2.GaussianBlur(reduced, (0, 0), _WARP / 8), size))

    xx, xy, yy = broad(across * across), broad(across * down), broad(down * down)
    xr, yr = broad(across * rest), broad(down * rest)
    firm = 0.05 * (xx + yy) + 1.0
    xx, yy = xx + firm, yy + firm
    whole = xx * yy - xy * xy
    dx, dy = (yy * xr - xy * yr) / whole, (xx * yr - xy * xr) / whole
    return np.asarray(np.clip(dx, -1, 1) * across + np.clip(dy, -1, 1) * down, dtype=np.float32)


def expected_energy(
    steep: _Steep, noise: float = _LEAST_NOISE, misfit: float = _LEAST_MISFIT
) -> _Steep:
    """Energy of the rest that noise lets expect where edges have such a squared steepness."""
    return max(noise, _LEAST_NOISE) ** 2 + max(misfit, _LEAST_MISFIT) ** 2 * steep


def _noise(energy: Floats, steep: Floats, inside: Mask) -> tuple[float, float]:
    """Noise of flat ground in grey levels, and the misfit of edges in pixels."""
    inked = inside & (steep > _STEEP**2)
    flat = inside & ~inked
    ground = float(np.quantile(energy[flat], _QUIET)) if flat.sum() >= 100 else _LEAST_NOISE**2
    noise = float(np.clip(np.sqrt(ground), _LEAST_NOISE, _MOST_NOISE))
    if inked.sum() < 100:
        return noise, _LEAST_MISFIT
    off = np.maximum(energy[inked] - noise**2, 0) / steep[inked]
    misfit = float(np.sqrt(np.quantile(off, _QUIET)))
    return noise, float(np.clip(misfit, _LEAST_MISFIT, _MOST_MISFIT))


def slopes_of(grey: Floats) -> tuple[Floats, Floats]:
    """How steep a picture is across and down, levels a pixel, both float32 (h, w)."""
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    return np.asarray(across, dtype=np.float32), np.asarray(down, dtype=np.float32)


def _steepness(grey: Floats) -> Floats:
    across, down = slopes_of(grey)
    return across * across + down * down


def _window(values: Floats, inside: Mask) -> Floats:
    """Weighted mean around each pixel, of what is inside."""
    share = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), _WINDOW)
    summed = cv2.GaussianBlur(np.where(inside, values, 0), (0, 0), _WINDOW)
    return np.asarray(summed / np.maximum(share, 1e-3), dtype=np.float32)
