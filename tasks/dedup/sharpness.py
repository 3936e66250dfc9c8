"""Where one picture is sharp and the other is not, in one part of the picture only.

A copy is softer or sharper than its original everywhere alike. Frames of a focus stack, a portrait
whose background was blurred, or a smoothed face differ from place to place.
"""

from __future__ import annotations

import cv2
import numpy as np

from tasks.dedup.windows import Floats, Mask

#: Detail between these two scales, pixels: finer is a JPEG's, coarser no blur takes away.
_FINE, _COARSE = 0.8, 1.6
#: The window in which detail is summed, as a share of the frame's long side.
_WINDOW = 10 / 384
#: Less detail than this, grey levels, says nothing.
_LEAST = 2.5
#: Detail of one side against the other, over what the whole picture has: so many times is another
#: sharpness there.
_TIMES = 1.3


def uneven_sharpness(left: Floats, right: Floats, mask: Mask) -> float:
    """Share of the detailed area where the ratio of detail is not the whole picture's.

    Args:
        left: float32 (h, w), grey levels, laid over the right picture.
        right: the same.
        mask: bool (h, w), where both are.

    Returns:
        0..1; the smaller one of both senses, sharper left and sharper right, does not count.
    """
    inside = cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    one, two = _detail(left, inside), _detail(right, inside)
    detailed = inside & (np.maximum(one, two) > _LEAST)
    if detailed.sum() < 400:
        return 0.0
    ratio = np.log(np.maximum(two, 0.5) / np.maximum(one, 0.5))
    apart = ratio[detailed] - np.median(ratio[detailed])
    limit = np.log(_TIMES)
    return float(max((apart > limit).mean(), (apart < -limit).mean()))


def _detail(grey: Floats, inside: Mask) -> Floats:
    """Root mean square of the band of detail in the window around each pixel."""
    band = cv2.GaussianBlur(grey, (0, 0), _FINE) - cv2.GaussianBlur(grey, (0, 0), _COARSE)
    sigma = _WINDOW * max(grey.shape)
    share = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), sigma)
    energy = cv2.GaussianBlur(np.where(inside, band * band, 0), (0, 0), sigma)
    return np.asarray(np.sqrt(energy / np.maximum(share, 1e-3)), dtype=np.float32)
