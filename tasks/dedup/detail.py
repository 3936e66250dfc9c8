"""Which of two pictures was resampled: it has lost at the fine end of what both can show.

Whoever reduces, enlarges, turns or blurs a picture passes it through a filter that takes from the
finest it can hold. An enlarged picture lacks what its origin has just below the origin's finest
frequency; a reduced one lacks there what its origin has. So both are compared at the frequencies
just below the finest of the coarser one, relative to the coarse ones, along rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.dedup.evidence import Evidence

#: As the reader of pictures writes it: bands, steps a doubling, the logarithm at 0.
_BANDS, _STEPS, _LOWEST = 32, 6.0, -14.0
#: Where power is compared and where it is set equal, as shares of the coarser one's finest. A blur
#: already takes from the middle, where compression and resampling leave nearly all.
_FINE, _MIDDLE = np.linspace(0.65, 0.95, 8), np.linspace(0.3, 0.6, 8)
_COARSE = np.linspace(0.05, 0.2, 8)
_CENTRES = (np.arange(_BANDS) + 0.5) / _BANDS
#: Power below which there is noise and no detail, a logarithm: rounding to levels alone has -3.6.
_NOISE = 0.0
#: Spectra are of whole pictures: of two that share less than this they are of different things.
_SHARE = 0.95
#: Turned further than this from a quarter turn, rows are no rows, degrees.
_TURNED = 7.0

Bands = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Detail:
    """A picture's full size, and the logarithm of its power by fineness.

    Attributes:
        along: float64 (2, 32): rows, columns.
    """

    width: int
    height: int
    along: Bands


def read_detail(text: str) -> Detail | None:
    """What the reader of pictures wrote; None where it is none, or of too small a picture."""
    size, _, data = text.partition(" ")
    wide, _, high = size.partition("x")
    if not (wide.isdigit() and high.isdigit() and len(data) == 4 * _BANDS):
        return None
    try:
        levels = np.frombuffer(bytes.fromhex(data), np.uint8).reshape(2, _BANDS)
    except ValueError:
        return None
    if not levels.any(axis=1).all() or int(wide) < 1 or int(high) < 1:
        return None
    return Detail(int(wide), int(high), levels / _STEPS + _LOWEST)


def compare_detail(
    left: Detail | None, right: Detail | None, evidence: Evidence
) -> tuple[float, float, float] | None:
    """How much right has lost against left at the fine end: along left's rows, along its columns.

    Returns:
        These two, and the mean loss in the middle of both: base-two logarithms of power, positive
        where right has less; None where the two cannot be compared so.
    """
    if left is None or right is None or min(evidence.share_left, evidence.share_right) < _SHARE:
        return None
    quarters = round(evidence.rotation / 90)
    if abs(evidence.rotation - 90 * quarters) > _TURNED:
        return None
    swapped = quarters % 2 == 1
    across, down = (1, 0) if swapped else (0, 1)
    wide, high = (right.height, right.width) if swapped else (right.width, right.height)
    # Of equal contents the sizes tell the scale; where a little is cut off, the shares correct it.
    more = float(np.sqrt(evidence.share_left / evidence.share_right))
    rows = _lost(left.along[0], right.along[across], wide * more / left.width)
    columns = _lost(left.along[1], right.along[down], high * more / left.height)
    return rows[0], columns[0], (rows[1] + columns[1]) / 2


def _lost(left: Bands, right: Bands, scale: float) -> tuple[float, float]:
    """The loss at the fine end and in the middle; ``scale``: right's pixels for one of left's."""
    of_left, of_right = (1.0, 1 / scale) if scale >= 1 else (scale, 1.0)

    def levels(at: Bands) -> tuple[Bands, Bands]:
        return (
            np.interp(at * of_left, _CENTRES, left),
            np.interp(at * of_right, _CENTRES, right),
        )

    one, two = levels(_COARSE)
    equal = float((one - two).mean())

    def loss(at: Bands) -> float:
        one, two = levels(at)
        if max(one.mean(), two.mean()) < _NOISE:
            return 0.0  # soft light and gradients: neither has anything so fine
        return float((one - two).mean()) - equal

    return loss(_FINE), loss(_MIDDLE)
