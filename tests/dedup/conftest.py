"""Pictures with as much detail as photographs have, and what is known of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tasks.dedup.features import Features, extract_features, use_one_thread

Photo = Callable[..., Image.Image]


@cache
def _photo(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    random = np.random.default_rng(seed)
    field = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 60), (12, 30), (40, 16), (110, 9)):
        shape = max(2, cells * height // width), cells
        grey = random.normal(size=(*shape, 1))
        noise = (grey + 0.4 * random.normal(size=(*shape, 3))) * 20 + 128
        small = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
        grown = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        field += (grown - 128) / 20 * strength
    image = Image.fromarray(np.clip(field * 0.6 + 128, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(28):
        x, y = random.uniform(0, width), random.uniform(0, height)
        wide, high = random.uniform(6, 45, 2)
        colour = tuple(int(value) for value in random.integers(20, 236, 3))
        corners = [(x + a * wide, y + b * high) for a, b in random.uniform(-0.6, 0.6, (4, 2))]
        if random.random() < 0.4:
            draw.ellipse((x - wide / 2, y - high / 2, x + wide / 2, y + high / 2), fill=colour)
        else:
            draw.polygon(corners, fill=colour)
    return image


@pytest.fixture(scope="session")
def photo() -> Photo:
    """A picture (seed, width, height) like no other seed's."""
    return _photo


_features = cache(extract_features)


def _known(image: Image.Image | bytes) -> Features:
    """As a scan sees a file: a thumbnail of at most 384 pixels, saved as JPEG."""
    picture = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else image
    small = picture.convert("RGB")
    small.thumbnail((384, 384), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return _features(buffer.getvalue())


@pytest.fixture(scope="session")
def known() -> Callable[[Image.Image | bytes], Features]:
    """Features of a picture or of a file."""
    use_one_thread()
    return _known
