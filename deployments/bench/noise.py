"""Noise that the same seed draws again.

Pillow's ``effect_noise`` draws from the C library's ``rand``, whose state is the whole process's:
what it draws depends on everything that was drawn before.
"""

from __future__ import annotations

import random

import numpy as np
from PIL import Image


def draw_noise(size: tuple[int, int], spread: float, rng: random.Random) -> Image.Image:
    """Normal noise around middle grey.

    Args:
        size: width and height in pixels.
        spread: standard deviation, of 255.
        rng: what the noise depends on alone.

    Returns:
        A grey picture, as RGB.
    """
    width, height = size
    drawn = np.random.default_rng(rng.getrandbits(64)).normal(128, spread, (height, width))
    return Image.fromarray(np.clip(np.rint(drawn), 0, 255).astype(np.uint8)).convert("RGB")
