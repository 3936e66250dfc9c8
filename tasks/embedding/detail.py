"""How much detail a picture has at each fineness: what a thumbnail no longer shows.

A picture that was enlarged has nothing finer than what it was made of, and a blurred one less than
its neighbour. Both is seen in the spectrum of the full picture and nowhere else, so it is measured
when the pixels are at hand, in strips, and kept with the thumbnail.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

#: Bands of equal width from nothing to the finest that pixels can hold (Nyquist's frequency).
BANDS = 32
#: Strips across a picture, lines of each, and samples of a window along them.
_STRIPS, _LINES, _WINDOW = 12, 6, 256
#: Steps of a byte for each doubling of power, and the power that 0 stands for, as a logarithm.
_STEPS, _LOWEST = 6.0, -14.0

#: A picture of so many pixels is made grey as a whole: 24 strips of it would cost more.
_WHOLE = 1 << 20

Floats = npt.NDArray[np.float32]


def measure_detail(rgb: Image.Image) -> str:
    """The picture's size and the power of its brightness along rows and columns, as text.

    The power is the mean periodogram of windows (Welch, "The use of fast Fourier transform for the
    estimation of power spectra", 1967), with a Hann window.

    Returns:
        ``1200x800`` and, after a space, two bands of 32 bytes in hex: along rows, along columns. A
        byte is six times the base-two logarithm of the power, counted from 2 to the power of -14;
        all are 0 along a side that is too short to measure.
    """
    width, height = rgb.size
    if width * height <= _WHOLE:
        grey = np.asarray(rgb.convert("L"), dtype=np.float32)
        rows = [grey[at : at + _LINES] for at in _starts(height)]
        columns = [grey[:, at : at + _LINES] for at in _starts(width)]
    else:
        rows = [_grey(rgb, (0, at, width, min(height, at + _LINES))) for at in _starts(height)]
        columns = [_grey(rgb, (at, 0, min(width, at + _LINES), height)) for at in _starts(width)]
    bands = _bands(np.concatenate(rows)) + _bands(np.concatenate([one.T for one in columns]))
    return f"{width}x{height} {bands.hex()}"


def _starts(length: int) -> list[int]:
    """Where strips begin, evenly spread over the side that they are cut from."""
    at = np.linspace(0, length - min(_LINES, length), _STRIPS + 2)
    return [int(start) for start in np.unique(at.round().astype(int)[1:-1])]


def _grey(rgb: Image.Image, box: tuple[int, int, int, int]) -> Floats:
    return np.asarray(rgb.crop(box).convert("L"), dtype=np.float32)


def _bands(lines: Floats) -> bytes:
    """Power along the lines, float32 (n, length), in bands."""
    length = lines.shape[1]
    size = min(_WINDOW, length)
    if size < BANDS:
        return bytes(BANDS)
    count = min(8, max(1, round(2 * length / size) - 1))
    starts = np.linspace(0, length - size, count).round().astype(int)
    window = np.hanning(size + 2)[1:-1].astype(np.float32)
    window /= np.sqrt((window**2).sum())
    power = np.zeros(size // 2 + 1)
    for start in starts:
        part = lines[:, start : start + size]
        part = (part - part.mean(axis=1, keepdims=True)) * window
        power += (np.abs(np.fft.rfft(part, axis=1)) ** 2).mean(axis=0)
    power /= len(starts)
    at = np.arange(1, len(power)) / (len(power) - 1)
    band = np.minimum((at * BANDS).astype(int), BANDS - 1)
    sums = np.bincount(band, power[1:], BANDS)
    mean = sums / np.maximum(np.bincount(band, minlength=BANDS), 1)
    level = (np.log2(mean + 2.0**_LOWEST) - _LOWEST) * _STEPS
    return bytes(np.clip(np.rint(level), 0, 255).astype(np.uint8))
