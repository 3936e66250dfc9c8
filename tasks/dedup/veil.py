"""A pattern of one colour and one opacity that was laid over all of a picture: a tiled watermark.

Between its strokes the picture is as it was, and under them it shows through: what it became there
is one straight line of what it was. So the strokes can be found, the veil taken off, and what is
left compared as any other pair. Another picture under the same veil stays another picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tasks.dedup.features import Pixels
from tasks.dedup.windows import Floats, Mask

#: Colours that watermarks have.
_INKS = (255.0, 0.0, 128.0)
#: Opacities that are looked for, and how far one pixel's may lie from the veil's.
_LEAST, _MOST, _WITHIN = 0.12, 0.9, 0.1
#: An opacity is told where ink and picture lie so many levels apart, and the two pictures so many.
_TOLD, _CHANGED = 60.0, 10.0
#: The strokes take at least and at most so much of the picture, in so many of 4 x 4 parts of it.
_FEW, _MANY, _PARTS = 0.02, 0.6, 13
#: Under so many pixels of strokes the picture varies by so many levels, and of that so much shows
#: through, as a correlation (thin white strokes of 70 % let 0.3 and more through, beside a JPEG's
#: noise): a motif that was painted in another colour is of one tone itself.
_ENOUGH, _VARIED, _SHOWS = 200, 15.0, 0.25
#: So much of the picture is either as it was or veiled.
_EXPLAINED = 0.75
#: Strokes wider than this share of the long side are no lettering but a thing.
_STROKE = 0.09


@dataclass(frozen=True, slots=True)
class Veil:
    """A veil that lies over one picture of a pair.

    Attributes:
        clean: uint8 (h, w, 3), that picture without it.
        share: of the area that lies under it.
    """

    clean: Pixels
    share: float


def take_off(bare: Pixels, veiled: Pixels, mask: Mask) -> Veil | None:
    """The second picture without the veil that tells it from the first; None: there is none.

    Args:
        bare: uint8 (h, w, 3), laid over the other.
        veiled: the same.
        mask: bool (h, w), where both are.
    """
    one, two = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) for rgb in (bare, veiled))
    best: tuple[int, float, float, Mask] | None = None
    for ink in _INKS:
        opacity = _opacity(one, two, mask, ink)
        if opacity is None:
            continue
        under = one + opacity * (ink - one)
        strokes = mask & (np.abs(two - under) < np.abs(two - one))
        strokes = cv2.medianBlur(strokes.astype(np.uint8), 3) > 0
        explained = np.minimum(np.abs(two - under), np.abs(two - one))
        good = int((explained[mask] < _CHANGED).sum())
        if best is None or good > best[0]:
            best = good, ink, opacity, strokes
    if best is None:
        return None
    good, ink, opacity, strokes = best
    if good < _EXPLAINED * mask.sum():
        return None
    if not _is_pattern(strokes, mask) or not _shows_through(one, two, strokes):
        return None
    rim = _rim(strokes)
    if _edges(one, rim) > _edges(two, rim):
        return None  # white on the dark side of one looks like black on the light side of the other
    lifted = (veiled.astype(np.float32) - opacity * ink) / (1 - opacity)
    clean = np.where(strokes[..., None], np.clip(lifted, 0, 255), veiled).astype(np.uint8)
    clean = cv2.inpaint(np.ascontiguousarray(clean), rim, 2, cv2.INPAINT_TELEA)
    return Veil(np.asarray(clean, dtype=np.uint8), float(strokes.sum() / max(1, mask.sum())))


def _rim(strokes: Mask) -> Pixels:
    """uint8, not 0 where strokes begin and end."""
    square = np.ones((3, 3), np.uint8)
    wide = cv2.dilate(strokes.astype(np.uint8), square)
    return np.asarray(wide - cv2.erode(strokes.astype(np.uint8), square), dtype=np.uint8)


def _edges(grey: Floats, rim: Pixels) -> float:
    """How steep a picture is along the rim of strokes: much, where they lie over it."""
    x, y = (cv2.Sobel(grey, cv2.CV_32F, *way) for way in ((1, 0), (0, 1)))
    return float(np.hypot(x, y)[rim > 0].mean())


def _opacity(one: Floats, two: Floats, mask: Mask, ink: float) -> float | None:
    """The commonest opacity of ink between two pictures, where there is one."""
    apart = ink - one
    told = mask & (np.abs(apart) > _TOLD) & (np.abs(two - one) > _CHANGED)
    if told.sum() < _FEW / 2 * mask.sum():
        return None
    values = (two - one)[told] / apart[told]
    values = values[(values > _LEAST) & (values < _MOST)]
    if not len(values):
        return None
    counts, edges = np.histogram(values, bins=40, range=(_LEAST, _MOST))
    smooth = np.convolve(counts, [1, 2, 1], "same")
    at = int(smooth.argmax())
    middle = float(edges[at] + edges[at + 1]) / 2
    near = values[np.abs(values - middle) < _WITHIN]
    return float(np.median(near)) if len(near) else None


def _is_pattern(strokes: Mask, mask: Mask) -> bool:
    """Whether it is thin and all over the picture."""
    share = float(strokes.sum() / max(1, mask.sum()))
    if not _FEW < share < _MANY:
        return False
    side = max(3, round(_STROKE * max(mask.shape)))
    thick = cv2.morphologyEx(strokes.astype(np.uint8), cv2.MORPH_OPEN, np.ones((side, side)))
    if thick.any():
        return False
    parts = cv2.resize(strokes.astype(np.float32), (4, 4), interpolation=cv2.INTER_AREA)
    return int((parts > _FEW / 2).sum()) >= _PARTS


def _shows_through(one: Floats, two: Floats, strokes: Mask) -> bool:
    """Whether the picture under the strokes is that beside them."""
    a, b = one[strokes], two[strokes]
    if len(a) < _ENOUGH or float(a.std()) < _VARIED or float(b.std()) < 1.0:
        return False
    return float(np.corrcoef(a, b)[0, 1]) > _SHOWS
