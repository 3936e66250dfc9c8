"""Colours of a profile to sRGB, by what the profile does and not by what it is called."""

from __future__ import annotations

import contextlib
import io
from functools import cache, lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

#: A profile that moves none of the probe's colours by more levels than this is sRGB.
_SAME = 2
_PROFILED = {"RGB", "CMYK", "L", "LAB"}


def to_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """The picture as 8-bit sRGB; itself where it is that already.

    A profile that is broken, or made for another kind of colours, is passed over.
    """
    if profile and isinstance(profile, bytes) and image.mode in _PROFILED:
        with contextlib.suppress(Exception):
            if not _is_srgb(profile, image.mode):
                source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
                changed = ImageCms.profileToProfile(image, source, _srgb(), outputMode="RGB")
                if changed is not None:
                    return changed
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=64)
def _is_srgb(profile: bytes, mode: str) -> bool:
    """Whether a profile leaves colours (or greys) where they are."""
    if mode not in {"RGB", "L"}:
        return False
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    if mode == "L":
        probe = Image.fromarray(steps[None, :])
    else:
        grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
        probe = Image.fromarray(grid.reshape(16, 256, 3))
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    changed = ImageCms.profileToProfile(probe, source, _srgb(), outputMode="RGB")
    if changed is None:
        return True
    before = np.asarray(probe.convert("RGB"), dtype=np.int16)
    return bool(np.abs(np.asarray(changed, dtype=np.int16) - before).max() <= _SAME)


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
