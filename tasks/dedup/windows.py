"""Two pictures laid over one another, window by window: which texture and tone, and whether alike.

Local correlation sees texture only; the sky and a wall have none. There the tone tells: what both
pictures share says which grey of the one stands for which grey of the other, whatever was done to
brightness and contrast, and where that does not hold the two show something else.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

#: Window, as a share of the frame's long side.
_WINDOW = 17 / 384
#: A window agrees above this correlation, and shows something else below that.
_AGREES, _UNLIKE = 0.8, 0.5
#: Local contrast, in units of 1/50 of the picture's, and in grey levels, that counts as texture.
_TEXTURE, _NOISE = 5.0, 1.5
#: Beyond these grey levels a window may be clipped.
_DARK, _BRIGHT = 6.0, 249.0
#: Steps of the tone curve, and how many windows make one: 10, and 1 in 500.
_TONES, _TONE_COUNT, _TONE_SHARE = 32, 10, 0.002
#: Tones so many levels outside of the curve are not judged.
_BEYOND = 12.0
#: Another tone is this far off the curve, in standard deviations of the picture, of 10 levels at
#: least.
_TONE_APART, _FLAT = 0.3, 10.0


@dataclass(frozen=True, slots=True)
class Windows:
    """What the window around each pixel says; all (h, w).

    Attributes:
        correlation: float32, of the two windows.
        textured: where either has texture that could correlate, nothing clipped.
        left_textured: where the left one has.
        right_textured: where the right one has.
        left: float32, mean grey of the left window.
        right: of the right one.
        mask: where both pictures are.
    """

    correlation: Floats
    textured: Mask
    left_textured: Mask
    right_textured: Mask
    left: Floats
    right: Floats
    mask: Mask

    @property
    def agree(self) -> Mask:
        """Where the texture is the same."""
        return self.textured & (self.correlation > _AGREES)

    @property
    def unlike(self) -> Mask:
        """Where the texture, if there is any, is something else's."""
        return self.correlation <= _UNLIKE


def measure_windows(left: Floats, right: Floats, mask: Mask) -> Windows:
    """Correlation, texture and mean of each window inside the mask.

    Args:
        left: float32 (h, w), grey.
        right: the same, laid over it.
        mask: bool (h, w), where both are.
    """
    side = max(5, round(_WINDOW * max(left.shape)) | 1)
    weight = mask.astype(np.float32)

    def mean(values: Floats) -> Floats:
        return np.asarray(cv2.blur(values, (side, side)), dtype=np.float32)

    share = np.maximum(mean(weight), 1e-3)
    one, two = left * weight, right * weight
    a: Floats = np.asarray(mean(one) / share, dtype=np.float32)
    b: Floats = np.asarray(mean(two) / share, dtype=np.float32)
    spread_a = np.sqrt(np.maximum(mean(one * one) / share - a * a, 1e-2))
    spread_b = np.sqrt(np.maximum(mean(two * two) / share - b * b, 1e-2))
    correlation = (mean(one * two) / share - a * b) / (spread_a * spread_b)
    contrast = 50 / max(float(one[mask].std()), 1.0), 50 / max(float(two[mask].std()), 1.0)
    in_a, in_b = spread_a * contrast[0] > _TEXTURE, spread_b * contrast[1] > _TEXTURE
    clipped = (np.maximum(a, b) > _BRIGHT) | (np.minimum(a, b) < _DARK)
    noise = np.maximum(spread_a, spread_b) <= _NOISE
    return Windows(
        correlation=correlation,
        textured=mask & (in_a | in_b) & ~noise & ~clipped,
        left_textured=mask & in_a & (spread_a > _NOISE),
        right_textured=mask & in_b & (spread_b > _NOISE),
        left=a,
        right=b,
        mask=mask,
    )


def other_tone(windows: Windows) -> Mask:
    """Where the mean grey is not what the agreeing windows let expect of the other picture.

    Only windows that do not agree are looked at.
    """
    agree = windows.agree
    found = np.zeros_like(agree)
    if agree.sum() < 100:
        return found
    asked = windows.mask & ~agree
    left, right = _Side(windows.left, agree, asked), _Side(windows.right, agree, asked)
    spreads = [float(side[windows.mask].std()) for side in (windows.left, windows.right)]
    found[asked] = _off_curve(left, right, spreads[1]) | _off_curve(right, left, spreads[0])
    return found


class _Side:
    """Mean grey of one picture's windows: of those that agree, and of those asked about."""

    __slots__ = ("agreeing", "asked")

    def __init__(self, means: Floats, agree: Mask, asked: Mask) -> None:
        self.agreeing, self.asked = means[agree], means[asked]


def _off_curve(of: _Side, there: _Side, spread: float) -> Mask:
    """Which asked windows are far off the curve that the agreeing ones make, bool (n,)."""
    x, y = of.agreeing, there.agreeing
    step = np.clip(x * (_TONES / 256), 0, _TONES - 1).astype(np.intp)
    count = np.bincount(step, minlength=_TONES)
    known = count >= max(_TONE_COUNT, _TONE_SHARE * len(x))
    if known.sum() < 2:
        return np.zeros(len(of.asked), np.bool_)
    tones = np.bincount(step, x, _TONES)[known] / count[known]
    expected = np.interp(of.asked, tones, np.bincount(step, y, _TONES)[known] / count[known])
    inside = (of.asked > tones[0] - _BEYOND) & (of.asked < tones[-1] + _BEYOND)
    far = np.abs(expected - there.asked) > _TONE_APART * max(spread, _FLAT)
    return np.asarray(far & inside, dtype=np.bool_)
