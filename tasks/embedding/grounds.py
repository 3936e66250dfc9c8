"""Transparent pictures over a ground on which all that is visible of them shows.

White lettering vanishes on white, black lettering on black: on the wrong ground two offers become
one picture. So the ground is chosen by what would vanish on it. What is half transparent looks like
something opaque on any one ground, so the transparency is kept beside the picture.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

#: Grounds, the usual one first; the last ones are for pictures that hold white, black and grey.
_GROUNDS = ((255, 255, 255), (128, 128, 128), (0, 0, 0), (96, 160, 96), (176, 120, 208))
#: A visible pixel whose channels are within so many levels of the ground, on average, vanishes.
_NEAR = 24
#: So much of the rim may vanish: a highlight at the edge of a cut-out is no lettering.
_MAY_VANISH = 0.08
#: What is nearer than this to transparency is the rim, pixels: all of a letter, little of a thing.
_RIM = 4
#: Long side at which the ground is chosen: more detail decides nothing.
_LOOKED_AT = 512
#: Long side at which transparency is kept: half a thumbnail's.
ALPHA_SIDE = 192


@dataclass(frozen=True, slots=True)
class Seen:
    """A transparent picture as it is shown.

    Attributes:
        rgb: over a ground on which nothing of it vanishes.
        ground: that ground.
        alpha: how opaque it is, mode ``L``.
    """

    rgb: Image.Image
    ground: tuple[int, int, int]
    alpha: Image.Image


def flatten(layered: Image.Image) -> Seen:
    """An RGBA picture over the first ground on which nothing of it vanishes."""
    ground = choose_ground(layered)
    under = Image.new("RGBA", layered.size, (*ground, 255))
    rgb = Image.alpha_composite(under, layered).convert("RGB")
    return Seen(rgb, ground, layered.getchannel("A"))


def alpha_note(seen: Seen) -> bytes:
    """Ground and transparency for a thumbnail's comment: from both, any other ground follows.

    Three bytes of the ground, then a PNG of at most :data:`ALPHA_SIDE` pixels a side, which is
    always shorter than the 65,533 bytes that a comment may have.
    """
    scale = min(1.0, ALPHA_SIDE / max(seen.alpha.size))
    size = max(1, round(seen.alpha.width * scale)), max(1, round(seen.alpha.height * scale))
    buffer = io.BytesIO()
    seen.alpha.resize(size, Image.Resampling.BOX).save(buffer, "PNG")
    return bytes(seen.ground) + buffer.getvalue()


def choose_ground(layered: Image.Image) -> tuple[int, int, int]:
    """The ground for an RGBA picture: white, unless something of it would vanish there."""
    small = layered
    if max(layered.size) > _LOOKED_AT:
        step = -(-max(layered.size) // _LOOKED_AT)
        small = layered.reduce(step)
    clear = small.getchannel("A").point(lambda alpha: 0 if alpha > 127 else 255)
    near = np.asarray(clear.filter(ImageFilter.MaxFilter(2 * _RIM + 1))) > 0
    rim = near & ~(np.asarray(clear) > 0)
    visible = np.asarray(small)[rim][:, :3].astype(np.int16)
    if not len(visible):
        return _GROUNDS[1]
    lost = [
        float((np.abs(visible - np.array(ground, np.int16)).mean(axis=1) <= _NEAR).mean())
        for ground in _GROUNDS
    ]
    for ground, share in zip(_GROUNDS, lost, strict=True):
        if share <= _MAY_VANISH:
            return ground
    return _GROUNDS[int(np.argmin(lost))]
