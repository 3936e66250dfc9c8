"""The tone curve between two pictures that lie on one another: a parabola at the most."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tasks.dedup.residual import Floats, Mask, slopes_of

#: Both are smoothed by this before their tones are compared, pixels.
_SMOOTH = 2.0
#: A pixel is flat below this steepness, levels a pixel; flat tones that take so much of the picture
#: and lie so many levels apart tell the tone curve, and all else counts for so much of one of them.
_FLAT, _TONE, _APART, _ELSE = 1.0, 0.001, 48.0, 0.05


@dataclass(frozen=True, slots=True)
class Tones:
    """Places of two pictures: what either has there, grey levels, and how steep it is; all (n,)."""

    one: Floats
    two: Floats
    steep: Floats


def tones_of(one: Floats, two: Floats, mask: Mask, step: int = 1) -> Tones:
    """The tones of two pictures where both are.

    Args:
        one: float32 (h, w), grey levels.
        two: the same.
        mask: bool (h, w).
        step: every so many of the places.
    """
    soft, other = (cv2.GaussianBlur(grey, (0, 0), _SMOOTH) for grey in (one, two))
    steep = np.maximum(slope_of(soft), slope_of(other))
    return Tones(soft[mask][::step], other[mask][::step], steep[mask][::step])


def joined(parts: list[Tones]) -> Tones:
    """Places of several parts as those of one."""
    return Tones(
        np.concatenate([part.one for part in parts]),
        np.concatenate([part.two for part in parts]),
        np.concatenate([part.steep for part in parts]),
    )


def fit_curve(tones: Tones) -> Floats:
    """Grey levels of the second picture for each of 256 of the first, float32 (256,)."""
    levels = np.arange(256, dtype=np.float32)
    weight = _tellers(tones.one, tones.steep)

    def terms(grey: Floats) -> Floats:
        tone = grey / 128 - 1
        return np.stack([np.ones_like(tone), tone, tone**2], axis=1)

    design, wanted = terms(tones.one), tones.two - tones.one
    calm = np.ones(len(wanted), dtype=bool)
    solution = np.zeros(3, np.float32)
    ridge = np.diag(np.full(3, 1e-3 * float(weight.sum()), np.float32))
    for _ in range(4):
        part = design[calm] * weight[calm][:, None]
        solution = np.linalg.solve(part.T @ design[calm] + ridge, part.T @ wanted[calm])
        off = np.abs(wanted - design @ solution)
        calm = off <= max(float(np.quantile(off, 0.8)), 4.0)
    return np.asarray(levels + terms(levels) @ solution, dtype=np.float32)


def slope_of(grey: Floats) -> Floats:
    """How steep a picture is, levels a pixel."""
    return np.asarray(np.hypot(*slopes_of(grey)), dtype=np.float32)


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
