"""Icons of 16 pixels and more: a few pixels tell one from another, never that nothing differs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tasks.dedup.verify import EXACT_SCORE, NEAR_SCORE, verify_pair


def icon(seed: int, side: int) -> Image.Image:
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (side * 8, side * 8), tuple(random.integers(180, 255, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for number in range(4):
        x, y = random.uniform(0, side * 5, 2)
        wide, high = random.uniform(side * 2, side * 5, 2)
        shape = draw.ellipse if number % 2 else draw.rectangle
        shape((x, y, x + wide, y + high), fill=tuple(random.integers(0, 255, 3).tolist()))
    return image.resize((side, side), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("side", [16, 24, 31])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_icon_and_its_larger_copy(known, side, seed):
    image = icon(seed, side)
    larger = image.resize((side * 2, side * 2), Image.Resampling.BICUBIC)
    answer = verify_pair(known(image), known(larger))
    assert NEAR_SCORE <= answer.score < EXACT_SCORE
    assert answer.evidence.scale == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("side", [16, 24])
def test_other_icons_are_others(known, side):
    icons = [known(icon(seed, side)) for seed in range(8)]
    pairs = [(one, two) for at, one in enumerate(icons) for two in icons[:at]]
    assert max(verify_pair(*pair).score for pair in pairs) < NEAR_SCORE
