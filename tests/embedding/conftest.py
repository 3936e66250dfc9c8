"""Pictures made on the spot."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.embedding.images import read_picture
from tasks.records import Picture
from tasks.settings import LimitSettings

Encode = Callable[..., bytes]
Read = Callable[..., Picture]


@pytest.fixture(scope="session")
def encode() -> Encode:
    """An image as the bytes of a file."""

    def to_bytes(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
        if kind == "HEIF":
            import pillow_heif

            pillow_heif.register_heif_opener()
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return to_bytes


@pytest.fixture(scope="session")
def read() -> Read:
    """A file's bytes as a picture, with limits given by name."""

    def to_picture(data: bytes, into: int = 32, **limits: Any) -> Picture:
        return read_picture(data, LimitSettings(**limits), into)

    return to_picture


@pytest.fixture(scope="session")
def photo() -> Callable[[str], Image.Image]:
    """A photograph of scikit-image's package, as RGB."""

    def load(name: str) -> Image.Image:
        with (files("skimage") / "data" / f"{name}.png").open("rb") as file:
            return Image.open(file).convert("RGB")

    return load


@pytest.fixture(scope="session")
def scene() -> Image.Image:
    """60 x 40, its four corners unlike each other and smooth, so that lossy formats keep it."""
    y, x = np.mgrid[0:40, 0:60]
    return Image.fromarray(np.stack([x * 4, y * 6, 255 - x * 2 - y * 3], 2).astype(np.uint8))
