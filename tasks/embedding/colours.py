"""Colours of a profile to sRGB, by what the profile does and not by what it is called."""

from __future__ import annotations

import contextlib
import io
from functools import cache, lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageCms

#: A profile that moves none of the probe's colours by more levels than this is sRGB.
_SAME = 2
_PROFILED = {"RGB", "CMYK", "L", "LAB"}


def to_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """The picture as 8-bit sRGB; itself where it is that already.

    A profile that is broken, or made for another kind of colours, is passed over. Colours of a
    palette are those of its entries, and a profile for greys counts for the grey of a picture that
    was made RGB on the way.
    """
    if profile and isinstance(profile, bytes):
        if image.mode in {"P", "1"} or (image.mode == "L" and profile[16:20] == b"RGB "):
            image = image.convert("RGB")
        if profile[16:20] == b"GRAY" and image.mode == "RGB" and is_grey(image):
            image = image.convert("L")
    if profile and isinstance(profile, bytes) and image.mode in _PROFILED:
        with contextlib.suppress(Exception):
            if not _is_srgb(profile, image.mode):
                source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
                changed = ImageCms.profileToProfile(image, source, _srgb(), outputMode="RGB")
                if changed is not None:
                    return changed
    return image if image.mode == "RGB" else image.convert("RGB")


def layers_to_srgb(layered: Image.Image, profile: Any) -> Image.Image:
    """The same of an RGBA picture, whose transparency stays."""
    if not (profile and isinstance(profile, bytes)):
        return layered
    before = layered.convert("RGB")
    after = to_srgb(before, profile)
    if after is before:
        return layered
    after.putalpha(layered.getchannel("A"))
    return after


def is_grey(image: Image.Image) -> bool:
    """Whether all channels of an RGB picture are equal everywhere."""
    red, green, blue = image.split()
    apart = (ImageChops.difference(red, other).getextrema() for other in (green, blue))
    return all(most == 0 for _, most in apart)


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
