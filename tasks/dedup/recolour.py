"""Another colour of one thing on a ground that stayed: a variant, and no change of tone.

A tone or colour change explains a pair only when it explains ground and thing alike. Exposure, a
white balance and contrast move the ground as well; a black and a red shirt on one white ground
differ in the shirt alone, though one straight line of tone leads from either to the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tasks.dedup.windows import Floats, Mask

#: Cells so wide, pixels, and so much of one must lie in both pictures.
_CELL, _INSIDE = 6, 0.7
#: The ground: at least this share of the cells, each of this spread at the most, and within so many
#: levels of its commonest colour.
_GROUND, _FLAT, _LIKE = 0.15, 5.0, 12.0
#: The ground stayed where no channel moved by more levels than this. By so many more, all channels
#: alike, a scanner or a slight exposure moves it.
_STAYED, _SHIFTED = 6.0, 24.0
#: The thing moved where its luminance did by more levels than this, and half of its own spread.
#: Ways to make a picture grey differ by more: of pure colours, by 40 levels and more.
_MOVED, _MOVED_GREY = 12.0, 24.0
#: No cell of a grey picture has more chroma.
_GREY = 8.0
#: A thing has colour from this chroma on; a picture that was made grey has at most this.
_COLOURED, _NO_COLOUR = 16.0, 1.5
#: Weights of the channels of grey: ITU-R BT.601 and BT.709, and their mean. The tone of what was
#: made grey by one of them, by lightness or in linear light is off by at most so many levels.
_WAYS, _OFF = ((0.299, 0.587, 0.114), (0.2126, 0.7152, 0.0722), (1 / 3, 1 / 3, 1 / 3)), 2.5
#: A row of which so much changed is a band that was laid across the picture, and no thing.
_ACROSS = 0.85
#: Other exposures than these are another colour: 1.3 stops, and a gamma of a picture made for
#: another kind of screen (1.8 for 2.2, with a reserve).
_MOST_GAIN, _MOST_GAMMA = 2.5, 2.0
#: Of the thing an exposure may leave so much unexplained.
_EXCEPTED = 0.06
#: A thing takes so much of the area.
_THING = 0.02


def recoloured(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8], mask: Mask) -> float:
    """Share of the thing whose luminance changed on a ground that did not.

    Args:
        left: uint8 (h, w, 3), RGB, laid over the right picture.
        right: the same.
        mask: bool (h, w), where both are.

    Returns:
        0..1; 0 where there is no common ground, or the ground changed as well.
    """
    height, width = mask.shape
    size = max(2, width // _CELL), max(2, height // _CELL)
    inside = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > _INSIDE
    one, spread_one = _cells(left, size)
    two, spread_two = _cells(right, size)
    flat = inside & (spread_one < _FLAT) & (spread_two < _FLAT)
    if flat.sum() < 12:
        return 0.0
    commonest = _commonest(one[flat])
    ground = flat & (np.abs(one - commonest).max(axis=-1) < _LIKE)
    if ground.sum() < _GROUND * inside.sum():
        return 0.0
    moved = np.median(two[ground] - one[ground], axis=0)
    cells = _Cells(one, two, np.maximum(spread_one, spread_two), inside, ground, commonest)
    if np.abs(moved).max() <= _STAYED:
        return _changed(cells)
    if np.abs(moved).max() > _SHIFTED or np.ptp(moved) > _STAYED:
        return 0.0
    return min(
        _changed(replace(cells, one=toned, commonest=np.median(toned[ground], axis=0)))
        for toned in _shifted(one, commonest, commonest + moved)
    )


@dataclass(frozen=True, slots=True)
class _Cells:
    """Two pictures in cells.

    Attributes:
        one: float32 (h, w, 3), mean RGB of the left picture's cells.
        two: of the right one's.
        spread: float32 (h, w), of the luminance, the larger of both.
        inside: bool (h, w), where both are.
        ground: where both have their ground.
        commonest: float32 (3,), its colour in the left one.
    """

    one: Floats
    two: Floats
    spread: Floats
    inside: Mask
    ground: Mask
    commonest: Floats


def _shifted(one: Floats, here: Floats, there: Floats) -> Iterator[Floats]:
    """The cells under each change of tone that brings the ground to where it is in the other.

    A gain, a loss of contrast about the middle grey, which mixing in a grey veil is too, a gamma,
    and an offset.

    Args:
        one: float32 (h, w, 3).
        here: float32 (3,), the ground's colour in them.
        there: what it is to become.
    """
    a, b = np.clip(here, 4.0, 251.0), np.clip(there, 4.0, 251.0)
    yield np.asarray(np.clip(one * (b / a), 0, 255), dtype=np.float32)
    if np.abs(a - 128).min() > _SHIFTED:
        contrast = (b - 128) / (a - 128)
        yield np.asarray(np.clip(128 + (one - 128) * contrast, 0, 255), dtype=np.float32)
    gamma = np.log(b / 255) / np.log(a / 255)
    yield np.asarray(255 * (np.maximum(one, 1.0) / 255) ** gamma, dtype=np.float32)
    yield np.asarray(np.clip(one + (there - here), 0, 255), dtype=np.float32)


def _changed(cells: _Cells) -> float:
    """Share of the thing that has another tone, of two pictures with one ground."""
    one, two, inside, ground = cells.one, cells.two, cells.inside, cells.ground
    commonest = cells.commonest
    apart = np.abs(one - commonest).max(axis=-1) >= _LIKE
    thing = inside & (apart | (np.abs(two - commonest).max(axis=-1) >= _LIKE))
    if thing.sum() < _THING * inside.sum():
        return 0.0
    chroma = _chroma(one[inside]), _chroma(two[inside])
    grey = min(chroma) < _GREY <= max(chroma)  # of two grey pictures neither was made grey
    limit = (_MOVED_GREY if grey else _MOVED) + cells.spread / 2
    painted = _painted(one[thing], two[thing]) if grey else None
    if painted is not None:
        return float(painted)
    light = np.array([0.299, 0.587, 0.114], np.float32)
    changed = thing & (np.abs((two - one) @ light) > limit)
    across = changed.sum(axis=1) > _ACROSS * np.maximum(inside.sum(axis=1), 1)
    thing = thing & ~across[:, None]
    if thing.sum() < _THING * inside.sum():
        return 0.0
    shares = [float(changed[thing].mean())]
    for a, b in ((one, two), (two, one)):
        for toned in _exposed(a, b, thing):
            if np.abs(np.median(toned[ground] - b[ground], axis=0)).max() <= _STAYED:
                off = np.abs(toned - b).max(axis=-1) > limit
                share = float(off[thing].mean())
                # Exposure explains all of a thing, or it is none: the coffee in a black mug, and
                # its handle's shine, have the tone that they have in a grey one.
                shares += [share] if share <= _EXCEPTED else []
    return min(shares)


def _painted(one: Floats, two: Floats) -> bool | None:
    """Whether a coloured thing and a grey one are two, and not one that was made grey.

    Whatever makes a picture grey leaves no colour at all, and a tone that follows from the colours
    by one of a few known ways. Black cloth is nearly grey, and of a tone of its own. None where
    neither has a colour to lose.

    Args:
        one: float32 (n, 3), RGB of the thing's cells.
        two: the same in the other picture.
    """
    plain, coloured = sorted((one, two), key=_chroma)
    if float(np.median(np.ptp(coloured, axis=1))) < _COLOURED:
        return None
    if _chroma(plain) > _NO_COLOUR:
        return True
    tone = plain.mean(axis=1)
    ways: list[npt.NDArray[Any]] = [coloured @ np.array(weights, np.float32) for weights in _WAYS]
    ways.append((coloured.max(axis=1) + coloured.min(axis=1)) / 2)
    linear = (coloured / 255) ** 2.2 @ np.array(_WAYS[1], np.float32)
    ways.append(255 * linear ** (1 / 2.2))
    return min(abs(float(np.median(tone - way))) for way in ways) > _OFF


def _exposed(one: Floats, two: Floats, thing: Mask) -> Iterator[Floats]:
    """The colours of one under the gain, and the gamma, that bring its thing to that of two.

    Both leave one end of the scale where it is, and a gain clips the other: so a white or a black
    ground stays though the whole picture was exposed otherwise.
    """
    a, b = (np.clip(cells[thing], 4.0, 251.0) for cells in (one, two))
    gain = float(np.median(b.mean(axis=-1) / a.mean(axis=-1)))
    if 1 / _MOST_GAIN < gain < _MOST_GAIN:
        yield np.asarray(np.minimum(one * gain, 255), dtype=np.float32)
    gamma = float(np.median(np.log(b / 255) / np.log(a / 255)))
    if 1 / _MOST_GAMMA < gamma < _MOST_GAMMA:
        yield np.asarray(255 * (one / 255) ** gamma, dtype=np.float32)


def _cells(rgb: npt.NDArray[np.uint8], size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Mean colour (h, w, 3) and spread of the luminance (h, w) of each cell."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    mean = cv2.resize(rgb.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    level = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    square = cv2.resize(grey * grey, size, interpolation=cv2.INTER_AREA)
    return (
        np.asarray(mean, dtype=np.float32),
        np.sqrt(np.maximum(square - level * level, 0)).astype(np.float32),
    )


def _commonest(colours: Floats) -> Floats:
    """The mean of the fullest cube of 32 levels a side."""
    cubes = (colours // 32).astype(np.intp)
    numbers = cubes[:, 0] * 64 + cubes[:, 1] * 8 + cubes[:, 2]
    fullest = int(np.bincount(numbers).argmax())
    return np.asarray(np.median(colours[numbers == fullest], axis=0), dtype=np.float32)


def _chroma(colours: Floats) -> float:
    """The most that the channels of nearly all cells lie apart."""
    return float(np.quantile(colours.max(axis=1) - colours.min(axis=1), 0.98))
