"""Which of two pictures has something laid over it, where the two differ in places.

Under a caption, a logo or a plate the original goes on as its surroundings let expect; ink does not
follow from what is around it. So the place is filled in from its surroundings in both pictures, and
the one that is further from its own filling has the ink. Source of the filling: Telea, "An image
inpainting technique based on the fast marching method", 2004. And what was laid over a picture ends
where the two cease to differ: along that line its picture has an edge, and the original only what
it has anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tasks.dedup.align import Matrix
from tasks.dedup.compare import make_frame
from tasks.dedup.features import Features
from tasks.dedup.tone import slope_of

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

#: Long side of the frame in which places are looked for, pixels.
_FRAME = 256
#: Levels by which a place differs, beyond what an edge's misfit explains (a share of its
#: steepness), once the tones of the whole are alike.
_BAR, _EDGE = 20.0, 0.8
#: Places smaller than this, pixels of the frame, are encoding; the share of the area from which and
#: up to which they are something laid over a picture.
_SPECK, _LEAST, _MOST = 8, 0.008, 0.45
#: Around a place, pixels; how steep the ground is there, against the steeper of the two places, for
#: it to be all texture; and what the filling counts there: of 80 labels on grass, gravel and brick
#: 66 lean right, 6 wrong, without it 61 and 6; on 400 photographs it halves the wrong ones.
_AROUND, _BUSY, _FILLING = np.ones((25, 25), np.uint8), 0.5, 0.7
#: Above this share of the area the filling is made at half the size, for it takes long.
_LARGE = 0.05
#: What becomes one place, and the line around a place, pixels outward and inward.
_CLOSED, _OUT, _IN = (np.ones((side, side), np.uint8) for side in (7, 5, 3))
#: Smaller than the least share, down to this, a place tells by its edge if that leans so far: what
#: encoding and blur leave of that size leans less. A clipped light may lean as far (`origin.py`).
_TINY, _EDGED = 0.004, 1.2


@dataclass(frozen=True, slots=True)
class Overlay:
    """What lies over one of two pictures.

    Attributes:
        share: of the common area that differs.
        lean: how much further right is from its filling than left, how much steeper, and how much
            steeper along the place's edge, logarithms of base two, summed: positive where the ink
            is right's, negative where it is left's. Of 400 lines of text and logos on photographs
            91 in a hundred have more than 0.3, one in a hundred less than -0.3.
    """

    share: float
    lean: float


def find_overlay(left: Features, right: Features, matrix: Matrix) -> Overlay:
    """Where two aligned pictures differ, and which of them has the ink.

    Args:
        left: as it was aligned.
        right: the other.
        matrix: float64 (2, 3), pixels of left to pixels of right.
    """
    frame = make_frame(left, right, matrix, _FRAME)
    if frame is None:
        return Overlay(0.0, 0.0)
    differs = _differing(frame.left, frame.right, frame.mask)
    share = float(differs.sum() / max(1, frame.mask.sum()))
    if not _TINY <= share <= _MOST:
        return Overlay(share, 0.0)
    slopes = [_steepness(side.astype(np.float32)) for side in (frame.left, frame.right)]
    border = _edge_of(differs, frame.mask)
    edges = [float(slope[border].mean()) if border.any() else 0.0 for slope in slopes]
    edge = _times(edges[1], edges[0])
    if share < _LEAST:
        return Overlay(share, edge if abs(edge) > _EDGED else 0.0)
    flat, steep = (float(slope[differs].mean()) for slope in slopes)
    one, two = (_unlike_filling(side, differs, share) for side in (frame.left, frame.right))
    unlike = float(np.log2((two + 1.0) / (one + 1.0))) + _times(steep, flat)
    ring = (cv2.dilate(differs.astype(np.uint8), _AROUND) > 0) & ~differs & frame.mask
    ground = float(np.mean([slope[ring].mean() for slope in slopes])) if ring.any() else 0.0
    if ground <= _BUSY * max(flat, steep):
        return Overlay(share, unlike + edge)
    # Nothing is steeper than grass or gravel, and no filling is like it: the original goes on as
    # it is around the place, and what was laid over it does not.
    busy = [abs(_times(inside, ground)) for inside in (flat, steep)]
    along = [abs(_times(line, ground)) for line in edges]
    return Overlay(share, busy[1] - busy[0] + along[1] - along[0] + _FILLING * unlike)


def _edge_of(differs: Mask, mask: Mask) -> Mask:
    """The line along which two pictures cease to differ; places were grown by two pixels."""
    whole = cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_CLOSE, _CLOSED)
    core = cv2.erode(whole, _OUT)
    line: Mask = (cv2.dilate(core, _OUT) > 0) & (cv2.erode(core, _IN) == 0) & mask
    return line


def _times(one: float, two: float) -> float:
    """How much steeper one is than two, a logarithm of base two."""
    return float(np.log2((one + 0.5) / (two + 0.5)))


def _differing(left: Pixels, right: Pixels, mask: Mask) -> Mask:
    """Where no tone curve of the whole explains one picture by the other, in neither direction.

    In both, because a picture that was made brighter has lost what is white now: it cannot tell
    what was there.
    """
    one, two = (cv2.GaussianBlur(side, (0, 0), 0.7).astype(np.float32) for side in (left, right))
    # Colour by colour: numpy takes six times as long for rows of three numbers.
    ones, twos = (np.ascontiguousarray(side.reshape(-1, 3).T) for side in (one, two))
    flat = mask.ravel()
    apart = np.minimum(_apart(ones, twos, flat), _apart(twos, ones, flat)).reshape(mask.shape)
    steep = np.maximum(_steepness(one), _steepness(two))
    found = (apart - _EDGE * steep > _BAR) & mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8))
    large = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= _SPECK)
    kept = np.isin(labels, large[large > 0]).astype(np.uint8)
    grown = np.asarray(cv2.dilate(kept, np.ones((5, 5), np.uint8)), np.uint8)
    return (grown > 0) & mask


def _apart(one: Floats, two: Floats, mask: Mask) -> Floats:
    """How far the second picture is from the first in the second's tones, levels.

    The tones are a mix of the first one's channels and a curve of each, fitted twice: the second
    time without the places that differ most.

    Args:
        one: float32 (3, n), red, green and blue.
        two: the same pixels of the other picture.
        mask: bool (n,), which of them both pictures have.

    Returns:
        float32 (n,).
    """
    terms = _terms(one)
    apart = np.zeros(mask.shape, np.float32)
    calm = mask
    for _ in range(2):
        known = np.flatnonzero(calm)[::11]
        solution = np.linalg.lstsq(terms[:, known].T, two[:, known].T, rcond=None)[0]
        toned = solution.T @ terms
        np.clip(toned, 0, 255, out=toned)
        apart = np.abs(np.subtract(toned, two, out=toned), out=toned).max(axis=0)
        calm = mask & (apart <= max(_BAR / 2, float(np.quantile(apart[mask][::5], 0.7))))
    return np.asarray(apart, dtype=np.float32)


def _terms(rgb: Floats) -> Floats:
    """What tones are fitted by: one, the channels, their squares, the cube of grey; (8, n)."""
    terms = np.ones((8, rgb.shape[1]), np.float32)
    unit = np.subtract(rgb / 128, 1, out=terms[1:4])
    np.multiply(unit, unit, out=terms[4:7])
    grey = _grey(unit)
    np.multiply(grey * grey, grey, out=terms[7])
    return terms


def _grey(planes: Floats) -> Floats:
    """The mean of three channels (3, ...)."""
    return np.asarray((planes[0] + planes[1] + planes[2]) / 3, dtype=np.float32)


def _steepness(rgb: Floats) -> Floats:
    return slope_of(_grey(np.moveaxis(rgb, 2, 0)))


def _unlike_filling(rgb: Pixels, place: Mask, share: float) -> float:
    """Root mean square distance of a place from what its surroundings let expect, levels."""
    where = place.astype(np.uint8)
    if share > _LARGE:
        half = rgb.shape[1] // 2, rgb.shape[0] // 2
        rgb = np.asarray(cv2.resize(rgb, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        where = cv2.resize(where, half, interpolation=cv2.INTER_NEAREST)
    filled = cv2.inpaint(rgb, where, 3, cv2.INPAINT_TELEA)
    apart = rgb[where > 0].astype(np.float32) - filled[where > 0]
    return float(np.sqrt((apart**2).mean())) if len(apart) else 0.0
