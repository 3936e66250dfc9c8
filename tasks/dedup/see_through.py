"""Transparent pictures, compared on a light and on a dark ground.

A half transparent black and an opaque grey are one picture on white and two on black. The thumbnail
shows one ground; with it the transparency is kept, from which the picture on any other follows.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from tasks.dedup.align import Matrix
from tasks.dedup.compare import make_frame
from tasks.dedup.evidence import Evidence
from tasks.dedup.features import Features, Pixels

#: Long side at which it is compared: that at which it is kept.
_SIDE = 192
#: Two pixels are differently transparent from this, 0..255. What is narrower than three pixels is
#: the rim of a cut-out, which every other size draws anew.
_OTHERWISE, _RIM = 40, 3
#: From this share of the area on two transparent pictures are two.
_ANOTHER = 0.001


def on_one_ground(left: Features, right: Features) -> Features:
    """The left picture on the right one's ground, where both are transparent."""
    if left.alpha is None or right.alpha is None or left.ground == right.ground:
        return left
    return replace(left, rgb=_on(left, right.ground), ground=right.ground)


def see_through(left: Features, right: Features, matrix: Matrix) -> float:
    """Share of the common area, 0..1, that is more transparent in one picture than in the other.

    What shows on one ground is compared elsewhere. With equal transparency it is equal on all.

    Args:
        left: as it was aligned.
        right: the other.
        matrix: float64 (2, 3), pixels of left to pixels of right.
    """
    if left.alpha is None and right.alpha is None:
        return 0.0
    frame = make_frame(_opacity(left), _opacity(right), matrix, _SIDE)
    if frame is None:
        return 0.0
    one, two = (side[..., 0].astype(np.int16) for side in (frame.left, frame.right))
    apart = ((np.abs(one - two) > _OTHERWISE) & frame.mask).astype(np.uint8)
    solid = cv2.morphologyEx(apart, cv2.MORPH_OPEN, np.ones((_RIM, _RIM), np.uint8))
    return float(solid.sum() / frame.mask.sum())


def looks_otherwise(evidence: Evidence) -> bool:
    """Whether two transparent pictures differ on a white or a black ground."""
    return evidence.both_transparent and evidence.see_through > _ANOTHER


def _on(side: Features, ground: tuple[int, int, int]) -> Pixels:
    """A picture on another ground: what shows through is exchanged."""
    if side.alpha is None:
        return side.rgb
    alpha = cv2.resize(np.ascontiguousarray(side.alpha), side.size, interpolation=cv2.INTER_LINEAR)
    clear = (255 - alpha.astype(np.float32))[..., None] / 255
    step = np.array(ground, np.float32) - np.array(side.ground, np.float32)
    shown: Pixels = np.clip(np.rint(side.rgb + clear * step), 0, 255).astype(np.uint8)
    return shown


def _opacity(side: Features) -> Features:
    """The transparency as a picture."""
    alpha = side.alpha
    if alpha is None:
        alpha = np.full(side.rgb.shape[:2], 255, np.uint8)
    alpha = cv2.resize(np.ascontiguousarray(alpha), side.size, interpolation=cv2.INTER_LINEAR)
    return replace(side, rgb=np.dstack([alpha] * 3))
