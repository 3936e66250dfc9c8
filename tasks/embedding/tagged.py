"""Colours that a file names by numbers instead of a profile: PNG's cICP, gAMA and cHRM, and nclx.

Such numbers are made a small ICC profile here, so that one way leads from any colours to sRGB.
Sources: PNG (Third Edition), W3C 2025, 11.3.2 (which of the chunks wins); ITU-T H.273, tables 2
and 3 (primaries and curves by number); ICC.1:2022 (matrix profiles); SMPTE ST 2084 and ITU-R
BT.2100 (PQ and HLG).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Chromaticities = tuple[float, ...]

_D65 = (0.3127, 0.3290)
#: White, red, green and blue, x and y of each, by H.273's number.
_PRIMARIES: dict[int, Chromaticities] = {
    1: (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    5: (*_D65, 0.640, 0.330, 0.290, 0.600, 0.150, 0.060),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
#: A file's gamma this near to 1 / 2.2 is what programs write that mean sRGB.
_USUAL_GAMMA, _NEAR_GAMMA = 1 / 2.2, 0.02
#: Entries of a profile's curve: PQ is steep.
_ENTRIES = 4096
#: Luminance that PQ's white is shown at, and that of a picture's paper (ITU-R BT.2408), in nits.
_PQ_PEAK, _PAPER = 10_000.0, 203.0
#: HLG's linear light at 75 % signal, which is its paper.
_HLG_PAPER = 0.265
#: Bradford's cone responses, for white that is not the profile's D50 (ICC.1:2022, annex E).
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D50 = np.array([0.9642, 1.0, 0.8249])


def tagged_profile(data: bytes, name: str) -> bytes | None:
    """The ICC profile that a file's colour tags amount to; None where they say nothing, or sRGB.

    Args:
        data: the file.
        name: its format, as :func:`~tasks.embedding.sniff.sniff` names it.
    """
    if name == "png":
        chunks = dict(_png_chunks(data))
        if len(chunks.get(b"cICP", b"")) == 4:
            return _by_number(*chunks[b"cICP"][:2])
        if b"iCCP" in chunks or b"sRGB" in chunks:
            return None
        return _by_gamma(chunks)
    if name in {"avif", "heif"}:
        at = data.find(b"colrnclx")
        if 0 <= at < len(data) - 12:
            primaries, curve = struct.unpack(">HH", data[at + 8 : at + 12])
            # Stills that name television's curve mean sRGB's.
            return _by_number(primaries, 13 if curve in (1, 2, 6, 14, 15) else curve)
    return None


def names_colours(data: bytes) -> bool:
    """Whether a PNG has a cICP chunk, which counts before an embedded profile."""
    return any(kind == b"cICP" for kind, _ in _png_chunks(data))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of the chunks before the pixels."""
    at = 8
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind == b"IDAT":
            return
        yield kind, data[at + 8 : at + 8 + size] if size <= 64 else b""
        at += 12 + size


def _by_gamma(chunks: dict[bytes, bytes]) -> bytes | None:
    """Of gAMA and cHRM, both in hundred-thousandths."""
    gamma = int.from_bytes(chunks.get(b"gAMA", b""), "big") / 100_000
    corners = _PRIMARIES[1]
    if len(chunks.get(b"cHRM", b"")) == 32:
        corners = tuple(value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"]))
    usual = not 0.01 < gamma < 10 or abs(gamma - _USUAL_GAMMA) < _NEAR_GAMMA
    same = all(abs(a - b) < 0.005 for a, b in zip(corners, _PRIMARIES[1], strict=True))
    if usual and same:
        return None
    return _profile(corners, "srgb" if usual else f"power {1 / gamma:.6f}")


def _by_number(primaries: int, curve: int) -> bytes | None:
    """Of H.273's code points; what is unspecified, or not known here, counts as sRGB's."""
    names = {1: "709", 6: "709", 14: "709", 15: "709", 4: "power 2.2", 5: "power 2.8"}
    named = (names | {8: "power 1", 16: "pq", 18: "hlg"}).get(curve, "srgb")
    corners = _PRIMARIES.get(primaries, _PRIMARIES[1])
    if named == "srgb" and corners == _PRIMARIES[1]:
        return None
    return _profile(corners, named)


def _curve(named: str) -> Floats:
    """Linear light, 0..1 at the white of paper, of every entry of the signal."""
    signal = np.linspace(0, 1, _ENTRIES)
    if named.startswith("power"):
        return signal ** float(named.split()[1])
    return np.clip(_CURVES[named](signal), 0, 1)


def _pq(signal: Floats) -> Floats:
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    root = signal ** (1 / m2)
    light = (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return np.asarray(light * _PQ_PEAK / _PAPER)


def _hlg(signal: Floats) -> Floats:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return np.asarray(light / _HLG_PAPER)


_CURVES: dict[str, Callable[[Floats], Floats]] = {
    "srgb": lambda s: np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4),
    "709": lambda s: np.where(s < 0.081, s / 4.5, ((s + 0.099) / 1.099) ** (1 / 0.45)),
    "pq": _pq,
    "hlg": _hlg,
}


@lru_cache(maxsize=64)
def _profile(corners: Chromaticities, named: str) -> bytes | None:
    """A matrix profile; None where the chromaticities are none."""
    try:
        columns = _to_d50(corners)
    except (np.linalg.LinAlgError, ZeroDivisionError, FloatingPointError):
        return None
    if not np.isfinite(columns).all():
        return None
    curve = b"curv" + struct.pack(">4xI", _ENTRIES)
    curve += np.rint(_curve(named) * 65535).astype(">u2").tobytes()
    bodies = {
        b"desc": b"desc" + struct.pack(">4xI", 7) + b"tagged\0" + bytes(4 + 4 + 2 + 1 + 67),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz(_D50),
        **{b"%cXYZ" % letter: _xyz(columns[:, at]) for at, letter in enumerate(b"rgb")},
        **{b"%cTRC" % letter: curve for letter in b"rgb"},
    }
    table, blob = b"", b""
    start = 128 + 4 + 12 * len(bodies)
    for tag, body in bodies.items():
        table += tag + struct.pack(">II", start + len(blob), len(body))
        blob += body + bytes(-len(body) % 4)
    head = struct.pack(
        ">I4sI4s4s4s12s4s",
        start + len(blob),
        bytes(4),
        0x02400000,
        b"mntr",
        b"RGB ",
        b"XYZ ",
        bytes(12),
        b"acsp",
    )
    head = head.ljust(68, b"\0") + _xyz(_D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(bodies)) + table + blob


def _xyz(values: Floats) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(v) * 65536) for v in values))


def _to_d50(corners: Chromaticities) -> Floats:
    """XYZ of each primary at full drive, in columns, its white adapted to D50."""
    white, *primaries = ((corners[at], corners[at + 1]) for at in range(0, 8, 2))
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    seen = np.array([white[0] / white[1], 1.0, (1 - white[0] - white[1]) / white[1]])
    columns = columns * np.linalg.solve(columns, seen)
    cones = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ seen))
    return np.asarray(np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD @ columns)
