"""What a file holds besides its pixels and the few fields that are read: named, not copied.

A merge takes fields over to the keeper's sidecar. What it does not take over leaves with the file,
so it must be known and asked about. Everything here runs in the decoder processes, on strangers'
bytes, and a broken block is no block.
"""

from __future__ import annotations

import contextlib
from typing import Any

from PIL import ExifTags, Image, IptcImagePlugin

from tasks.embedding.xmp import other_properties

#: Google's and Samsung's marks of a photo with a video behind it.
_MOTION = (b"MotionPhoto", b"MicroVideo", b"MotionPhoto_Data")
#: Names of properties that are told, the first of them.
_MOST_NAMES = 12


def held_blocks(image: Image.Image, data: bytes, xmp: bytes) -> dict[str, str]:
    """Where it was taken, and which blocks of metadata and further content a file holds.

    Args:
        image: opened, its pixels loaded or not.
        data: the whole file.
        xmp: its embedded packet, or nothing.

    Returns:
        ``GPSPosition`` as decimal degrees, and ``Holds``: ``IPTC; XMP: City, Regions; a video``.
        Both only where there is something to tell.
    """
    found = {}
    if position := _position(image):
        found["GPSPosition"] = position
    holds = []
    with contextlib.suppress(Exception):
        if IptcImagePlugin.getiptcinfo(image):  # type: ignore[arg-type]
            holds.append("IPTC")
    if names := other_properties(xmp):
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        holds.append(f"XMP: {', '.join(names[:_MOST_NAMES])}{more}")
    if any(mark in xmp for mark in _MOTION[:2]) or _MOTION[2] in data[-65536:]:
        holds.append("a video")
    if holds:
        found["Holds"] = "; ".join(holds)[:500]
    return found


def _position(image: Image.Image) -> str:
    with contextlib.suppress(Exception):
        gps: dict[int, Any] = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        latitude = _degrees(gps[ExifTags.GPS.GPSLatitude], gps[ExifTags.GPS.GPSLatitudeRef], "S")
        longitude = _degrees(gps[ExifTags.GPS.GPSLongitude], gps[ExifTags.GPS.GPSLongitudeRef], "W")
        return f"{latitude:.6f}, {longitude:.6f}"
    return ""


def _degrees(parts: Any, where: str, negative: str) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    return (degrees + minutes / 60 + seconds / 3600) * (-1 if where == negative else 1)
