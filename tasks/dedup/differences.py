"""What differs at one place of two pictures, and whether a person would read it.

A number, a word, a bar, a module on a page makes another document. A logo, a watermark or a caption
that was laid over a photograph leaves a copy of it. The line between the two runs by what is under
the ink: on a page most of the area is of a few tones and all ink stands on few grounds, or all of
it is even fills.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tasks.dedup.residual import Floats, Mask, Residual
from tasks.dedup.tone import slope_of

#: Energy of the rest, in units of the pair's own noise, that no copy reaches. Of seven families of
#: pages 250 copies had 14.7 at the most, of pairs with another number, word or mark none less than
#: 22; 88 copies of photographs that were only encoded anew had 9. What lies between is decided by
#: the originals: no page is called a copy before its proof.
DIFFERS = 18.0
#: Of a place that stands out, all that is above this share of the bar belongs to it.
_AROUND = 0.25
#: Steepness from which a place is inked, levels a pixel. In 42 pairs of the fitting families that
#: differ in letters either side has 6.3 and more; folds of cloth under a caption have 3 to 5.
_INKED = 5.5
#: A page: ink on its three commonest grounds, and area in its three commonest tones. Of the fitting
#: families' copies none has less than 0.92 and 0.84; of 120 copies of photographs none has as much
#: as both bars.
_ON_PAPER, _FEW_TONES = 0.9, 0.7
#: Paper is smooth: away from ink half of it is less steep than this, levels a pixel. Of 126 files
#: of the fitting families, scans among them, none has more than 0.02; of 65 photographs of clothes,
#: edits among them, that pass the bars above, none has less than 0.37. Ink reaches so many pixels.
_GRAIN, _BARE = 0.2, 9
#: The ground of a place: pixels so near to ink, and tones in bins so wide.
_REACH, _BIN = 15, 4
#: Share of what is around ink that its ground takes, at least.
_GROUND = 0.3
#: Even fills: so much of what is away from ink has no grain, and around so much of the ink the
#: window is, by the share of a ground, less steep than this, levels a pixel, or of a common tone.
#: In the families of filled areas 0.9 and more of the ink is (JPEG 60, scans, crops and windows
#: among them), of 200 photographs none. Of 119 whose ground was clipped to white 56 are pages by
#: the other bars, and 8 more by these.
_FILLED, _EDGED, _EVEN = 0.7, 0.88, 0.5
#: Ground that two pictures share around a place: its tone in either varies by so many levels. Under
#: the fitting families' letters it varies by 0 to 2 where no other lines stand beside them, cloth
#: of one colour by 3 to 5.
_PLAIN = 3.0


@dataclass(frozen=True, slots=True)
class Difference:
    """The place where two pictures differ the most.

    Attributes:
        kind: ``ink`` (both have ink there, and not the same), ``left`` or ``right`` (only that one
            has ink there), ``tone`` (neither has: a filled area of another tone).
        at: its centre in the frame, pixels: across, down.
        area: share of the common area that differs so.
        excess: energy of the rest there, in units of the pair's noise.
        plain: whether both have one tone around it.
    """

    kind: str
    at: tuple[float, float]
    area: float
    excess: float
    plain: bool


def find_difference(left: Floats, right: Floats, residual: Residual) -> Difference | None:
    """The place that stands out most, or None where nothing does.

    Args:
        left: float32 (h, w), grey levels, as :func:`measure_residual` was given it.
        right: the other.
        residual: what it found.
    """
    excess = residual.excess
    peak = float(excess.max())
    if peak <= DIFFERS:
        return None
    every = (excess > _AROUND * DIFFERS).astype(np.uint8)
    _, labels = cv2.connectedComponents(every)
    standing = np.unique(labels[excess > DIFFERS])
    differing = np.isin(labels, standing)
    there = labels == labels[np.unravel_index(int(excess.argmax()), excess.shape)]
    rows, columns = np.nonzero(there)
    ink_left = float(residual.steep_left[there].mean()) > _INKED
    ink_right = float(residual.steep_right[there].mean()) > _INKED
    kind = {(True, True): "ink", (True, False): "left", (False, True): "right"}.get(
        (ink_left, ink_right), "tone"
    )
    return Difference(
        kind=kind,
        at=(float(columns.mean()), float(rows.mean())),
        area=float(differing.sum() / max(1, residual.mask.sum())),
        excess=peak,
        plain=_plain(left, there, residual.mask) and _plain(right, there, residual.mask),
    )


def _plain(grey: Floats, there: Mask, mask: Mask) -> bool:
    """Whether the ground around a place has one tone; other ink beside it does not count."""
    near = cv2.dilate(there.astype(np.uint8), np.ones((19, 19), np.uint8)) > 0
    touching = cv2.dilate(there.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    ring = grey[near & ~touching & mask]
    if len(ring) < 30:
        return False
    middle = float(np.median(ring))
    # That the ground shows between letters, and not under a label laid over it, is no sign at this
    # size: of a word in a bubble of a chat as little of it is left as under a label.
    return float(np.quantile(np.abs(ring - middle), 0.6)) < _PLAIN


def is_page(grey: Floats, mask: Mask) -> bool:
    """Whether a picture is ink on paper: a document, a slide, a chart, a flat design."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 0.9)
    steep = slope_of(smooth)
    ink = mask & (steep > 4)
    if ink.sum() < 50:
        return False
    bare = steep[mask & ~(cv2.dilate(ink.astype(np.uint8), np.ones((_BARE, _BARE), np.uint8)) > 0)]
    if len(bare) and float((bare > _GRAIN).mean()) < 1 - _FILLED:
        # Nothing but even fills, however many: paint charts, maps, seats, patchwork.
        even = _share((steep < _EVEN) | _common(smooth, mask), mask)
        if float((even[ink] > _GROUND).mean()) > _EDGED:
            return True
    if _commonest(smooth[mask]) < _FEW_TONES:
        return False
    if len(bare) and float(np.median(bare)) > _GRAIN:
        return False  # cloth, skin or a wall: a plain ground, and no paper
    around = np.ones((_REACH, _REACH), np.uint8)
    # What lies beyond the common area is no ground of its ink.
    if any(
        _commonest(spread(np.where(mask, smooth, beyond), around)[ink]) > _ON_PAPER
        for spread, beyond in ((cv2.dilate, np.float32(0)), (cv2.erode, np.float32(255)))
    ):
        return True
    # So a page is known that has light ink on dark ground beside dark ink on light.
    grounds = _share(_common(smooth, mask), mask)
    return float((grounds[ink] > _GROUND).mean()) > _ON_PAPER


def _common(grey: Floats, mask: Mask) -> Mask:
    """Where a picture has one of its three commonest tones."""
    bins = np.clip(grey / _BIN, 0, 63).astype(np.intp)
    counts = np.bincount(bins[mask], minlength=64).astype(np.float64)
    ground = np.zeros(64, np.bool_)
    for _ in range(3):
        at = int(np.convolve(counts, np.ones(5), "same").argmax())
        ground[max(0, at - 2) : at + 3] = True
        counts[ground] = 0
    return np.asarray(ground[bins], dtype=np.bool_)


def _share(which: Mask, mask: Mask) -> Floats:
    """Share of the window around each pixel, as far as it lies in the mask."""
    share = cv2.blur((which & mask).astype(np.float32), (_REACH, _REACH))
    inside = cv2.blur(mask.astype(np.float32), (_REACH, _REACH))
    return np.asarray(share / np.maximum(inside, 1e-3), dtype=np.float32)


def _commonest(values: Floats) -> float:
    """Share of the values that lie in the three commonest tones."""
    counts, found = _tones(values), 0.0
    for _ in range(3):
        at = int(counts.argmax())
        found += float(counts[at])
        counts[max(0, at - 5) : at + 6] = 0
    return found / max(1, len(values))


def _tones(values: Floats) -> npt.NDArray[np.float64]:
    """How many values lie within two bins of each bin of grey."""
    bins = np.clip(values / _BIN, 0, 63).astype(np.intp)
    return np.convolve(np.bincount(bins, minlength=64).astype(np.float64), np.ones(5), "same")
