"""EXIF as XMP: every tag that says something of the picture, as the property that says the same.

Sources: XMP specification part 2 (tiff: and exif: namespaces), CIPA DC-010 "Exif metadata for XMP"
(exifEX:), and the Metadata Working Group's guidelines 2.0 for the fields that IPTC and XMP have as
well (description, creator, rights, dates). Runs in the decoder processes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any
from xml.etree.ElementTree import Element

from PIL import ExifTags, Image

from tasks.xmp.forms import alt, bag, seq, structure
from tasks.xmp.packet import DC, EXIF, EXIF_EX, OURS, PHOTOSHOP, TIFF, XMP
from tasks.xmp.properties import simple

#: Tags of the layout of one file's samples, pages and blocks, and pointers: they describe the file.
_LAYOUT = frozenset(
    (
        *range(254, 267),  # sizes, compression, colours
        271,  # maker and model are read by name
        *range(272, 285),  # strips, samples, resolution
        *range(286, 307),  # page positions, software, the file's own date
        *range(317, 348),  # colour maps, tiles, inks, samples, JPEG tables
        *range(512, 533),  # old JPEG, YCbCr
        700,  # XMP
        *range(18247, 18250),  # Windows' copies of the rating
        33723,  # IPTC
        34377,  # Photoshop
        34665,  # pointer: Exif
        34675,  # ICC profile
        34853,  # pointer: positions
        37724,  # Photoshop's layers
        40965,  # pointer: interoperability
        50341,  # PrintIM
        *range(50706, 51180),  # DNG
        59932,  # padding
        59933,
    )
)
#: Of the Exif directory: versions and sizes of one file, and parts of what is read by name.
_OF_FILE = frozenset(
    {
        "ExifVersion",
        "FlashPixVersion",
        "FlashpixVersion",
        "ColorSpace",
        "ComponentsConfiguration",
        "CompressedBitsPerPixel",
        "ExifImageWidth",
        "ExifImageHeight",
        "ExifInteroperabilityOffset",
        "MakerNote",
        "SubsecTime",
        "OffsetTime",
        "SubsecTimeOriginal",
        "SubsecTimeDigitized",
        "OffsetTimeOriginal",
        "OffsetTimeDigitized",
        "DateTimeOriginal",
        "DateTimeDigitized",
    }
)
#: Properties of CIPA DC-010's own namespace.
_IN_EXIF_EX = frozenset(
    {
        "PhotographicSensitivity",
        "SensitivityType",
        "StandardOutputSensitivity",
        "RecommendedExposureIndex",
        "ISOSpeed",
        "ISOSpeedLatitudeyyy",
        "ISOSpeedLatitudezzz",
        "CameraOwnerName",
        "BodySerialNumber",
        "LensSpecification",
        "LensMake",
        "LensModel",
        "LensSerialNumber",
        "Gamma",
        "CompositeImage",
    }
)
_LISTS = {"ISOSpeedRatings", "SubjectArea", "SubjectLocation", "LensSpecification"}
#: Texts in UTF-16 that Windows writes, and the fields they are of.
_WINDOWS = {
    0x9C9B: "title",
    0x9C9C: "comment",
    0x9C9D: "creator",
    0x9C9E: "keywords",
    0x9C9F: "subject",
}
_CODES = {b"ASCII\0\0\0": "ascii", b"UNICODE\0": "utf-16", b"JIS\0\0\0\0\0": "iso2022_jp"}
_WHEN = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)")
_ZONE = re.compile(r"[+-]\d\d:\d\d")
#: Bytes of a value that no property has a place for, up to which it is kept as they are.
_MOST_BYTES = 2048


def exif_properties(image: Image.Image) -> tuple[list[Element], list[str]]:
    """What a file's EXIF says, as XMP properties, and what it holds that cannot be said so.

    A directory or value that is broken says nothing; the rest is read.
    """
    found: list[Element] = []
    holds: list[str] = []
    with contextlib.suppress(Exception):
        exif = image.getexif()
        first = dict(exif.items())
        found += _guarded(_first_directory(first, holds))
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        found += _guarded(_exif_directory(inner, holds))
        found += _guarded(_positions(exif.get_ifd(ExifTags.IFD.GPSInfo)))
        if note := inner.get(ExifTags.Base.MakerNote):
            mark = hashlib.blake2b(_raw(note), digest_size=4).hexdigest()
            holds.append(f"a camera maker's note ({len(_raw(note))} bytes, {mark})")
    return found, holds


def _guarded(parts: Iterable[Element | None]) -> list[Element]:
    return [element for element in parts if element is not None]


# ---- the first directory ---------------------------------------------------------------------


def _first_directory(tags: Mapping[int, Any], holds: list[str]) -> Iterator[Element | None]:
    base = ExifTags.Base
    yield _text(TIFF + "Make", tags.get(base.Make))
    yield _text(TIFF + "Model", tags.get(base.Model))
    yield _alt(DC + "description", tags.get(base.ImageDescription))
    yield _alt(DC + "rights", tags.get(base.Copyright))
    names = [name.strip() for name in words(tags.get(base.Artist)).split(";") if name.strip()]
    yield seq(DC + "creator", names) if names else None
    rating = tags.get(base.Rating)
    yield simple(XMP + "Rating", str(rating)) if isinstance(rating, int) else None
    told = {kind: _windows_text(tags.get(tag)) for tag, kind in _WINDOWS.items()}
    yield _alt(DC + "title", told["title"])
    yield _text(OURS + "XPSubject", told["subject"])
    yield _text(OURS + "XPComment", told["comment"])
    if told["creator"] and not names:
        yield seq(DC + "creator", _split(told["creator"]))
    if told["keywords"]:
        yield bag(DC + "subject", _split(told["keywords"]))
    known = {*_LAYOUT, *_WINDOWS, base.ImageDescription, base.Copyright, base.Artist, base.Rating}
    yield from _others(tags, known, holds)


def _others(tags: Mapping[int, Any], known: set[int], holds: list[str]) -> Iterator[Element | None]:
    """Tags that no standard maps: texts and numbers under our own name, the rest is told."""
    private = []
    for tag, value in tags.items():
        if tag in known:
            continue
        name = ExifTags.TAGS.get(tag, "")
        if name.isidentifier() and (element := _plain(OURS + name, value)) is not None:
            yield element
        elif value not in (None, "", b"", ()):
            private.append(name or f"0x{tag:04x}")
    if private:
        more = f" and {len(private) - 8} more" if len(private) > 8 else ""
        holds.append(f"EXIF tags {', '.join(private[:8])}{more}")


# ---- the Exif directory ----------------------------------------------------------------------


def _exif_directory(tags: Mapping[int, Any], holds: list[str]) -> Iterator[Element | None]:
    base = ExifTags.Base
    taken = _moment(
        tags.get(base.DateTimeOriginal), tags.get(0x9291), tags.get(base.OffsetTimeOriginal)
    )
    if taken:
        yield simple(EXIF + "DateTimeOriginal", taken)
        yield simple(PHOTOSHOP + "DateCreated", taken)
    made = _moment(
        tags.get(base.DateTimeDigitized), tags.get(0x9292), tags.get(base.OffsetTimeDigitized)
    )
    yield simple(XMP + "CreateDate", made) if made else None
    unknown: dict[int, Any] = {}
    for tag, value in tags.items():
        name = ExifTags.TAGS.get(tag, "")
        if name in _OF_FILE or tag == ExifTags.Base.ExifInteroperabilityOffset:
            continue
        if tag == ExifTags.Base.UserComment:
            yield _alt(EXIF + "UserComment", _coded(_raw(value)))
        elif tag == ExifTags.Base.Flash and isinstance(value, int):
            yield _flash(value)
        elif not name:
            unknown[tag] = value
        else:
            space = EXIF_EX if name in _IN_EXIF_EX else EXIF
            yield _listed(space + name, value) if name in _LISTS else _plain(space + name, value)
    yield from _others(unknown, set(), holds)


def _flash(value: int) -> Element:
    """Exif 2.32, 4.6.5, tag Flash: one bit, two, two, one, one."""
    return structure(
        EXIF + "Flash",
        {
            EXIF + "Fired": str(bool(value & 1)),
            EXIF + "Return": str(value >> 1 & 3),
            EXIF + "Mode": str(value >> 3 & 3),
            EXIF + "Function": str(bool(value >> 5 & 1)),
            EXIF + "RedEyeMode": str(bool(value >> 6 & 1)),
        },
    )


def _moment(value: Any, fraction: Any, zone: Any) -> str:
    """A date and time as ISO 8601; nothing for zeros and blanks, which say nothing."""
    when = _WHEN.fullmatch(words(value))
    if when is None or when[1] == "0000":
        return ""
    part = words(fraction)
    fine = f".{part}" if part.isascii() and part.isdigit() and part.strip("0") else ""
    offset = words(zone)
    return (
        f"{when[1]}-{when[2]}-{when[3]}T{when[4]}{fine}{offset if _ZONE.fullmatch(offset) else ''}"
    )


# ---- positions -------------------------------------------------------------------------------


def _positions(tags: Mapping[int, Any]) -> Iterator[Element | None]:
    gps = ExifTags.GPS
    for name, ref in (
        ("GPSLatitude", gps.GPSLatitudeRef),
        ("GPSLongitude", gps.GPSLongitudeRef),
        ("GPSDestLatitude", gps.GPSDestLatitudeRef),
        ("GPSDestLongitude", gps.GPSDestLongitudeRef),
    ):
        with contextlib.suppress(Exception):
            yield simple(EXIF + name, _degrees(tags[gps[name]], words(tags[ref])))
    with contextlib.suppress(Exception):
        hours, minutes, seconds = (int(part) for part in tags[gps.GPSTimeStamp])
        day = words(tags[gps.GPSDateStamp]).replace(":", "-")
        if re.fullmatch(r"\d{4}-\d\d-\d\d", day):
            yield simple(EXIF + "GPSTimeStamp", f"{day}T{hours:02}:{minutes:02}:{seconds:02}Z")
    done = {gps.GPSVersionID, gps.GPSTimeStamp, gps.GPSDateStamp}
    done |= {tag for tag in gps if tag.name.removesuffix("Ref").endswith(("tude", "titude"))}
    done -= {gps.GPSAltitude, gps.GPSAltitudeRef}
    coded = {gps.GPSProcessingMethod, gps.GPSAreaInformation}
    for tag, value in tags.items():
        name = ExifTags.GPSTAGS.get(tag, "")
        if tag in done or not name:
            continue
        if tag in coded:
            yield _text(EXIF + name, _coded(_raw(value)))
        elif tag == gps.GPSAltitudeRef:
            yield simple(EXIF + name, str(_raw(value)[0] if isinstance(value, bytes) else value))
        else:
            yield _plain(EXIF + name, value)


def _degrees(parts: Any, where: str) -> str:
    """XMP specification part 2, GPSCoordinate: ``DDD,MM.mmk``."""
    degrees, minutes, seconds = (Fraction(int(p.numerator), int(p.denominator)) for p in parts)
    total = (degrees * 60 + minutes) + seconds / 60
    if where not in ("N", "S", "E", "W"):
        raise ValueError(where)
    whole = int(total // 60)
    text = f"{float(total - whole * 60):.8f}".rstrip("0")
    return f"{whole},{text}{'0' if text.endswith('.') else ''}{where}"


# ---- values ----------------------------------------------------------------------------------


def words(value: Any) -> str:
    """A text of EXIF: ASCII by the standard, UTF-8 in practice, else Latin-1."""
    if isinstance(value, str):
        try:
            value = value.encode("latin-1")
        except UnicodeEncodeError:
            return value.replace("\0", "").strip()
    if not isinstance(value, bytes):
        return ""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return text.replace("\0", "").strip()


def _text(name: str, value: Any) -> Element | None:
    text = words(value)
    return simple(name, text) if text else None


def _alt(name: str, value: Any) -> Element | None:
    text = words(value)
    return alt(name, text) if text else None


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def _plain(name: str, value: Any) -> Element | None:
    """A text, number or ratio; short bytes that mean nothing to us as base64; else nothing."""
    if isinstance(value, tuple | list):
        return _listed(name, value)
    if isinstance(value, bytes):
        if len(value) == 1:
            return simple(name, str(value[0]))
        if 0 < len(value) <= _MOST_BYTES:
            return simple(name, base64.b64encode(value).decode())
        return None
    text = _one(value)
    return simple(name, text) if text else None


def _listed(name: str, value: Any) -> Element | None:
    parts = value if isinstance(value, tuple | list) else (value,)
    texts = [text for text in map(_one, parts) if text]
    return seq(name, texts) if texts and len(texts) <= 64 else None


def _one(value: Any) -> str:
    if isinstance(value, str):
        return words(value)
    if isinstance(value, int):
        return str(int(value))
    numerator, denominator = getattr(value, "numerator", None), getattr(value, "denominator", None)
    if numerator is not None and denominator is not None:
        return f"{int(numerator)}/{int(denominator)}"
    return str(value) if isinstance(value, float) else ""


def _raw(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("latin-1", "replace")


def _coded(data: bytes) -> str:
    """Exif 2.32, UserComment: eight bytes name the code of what follows."""
    code = _CODES.get(data[:8])
    if code is None:
        return words(data[8:] if data[:8] == bytes(8) else data)
    with contextlib.suppress(UnicodeDecodeError):
        if code == "utf-16" and data[8:10] not in (b"\xff\xfe", b"\xfe\xff"):
            little = data[9:40:2].count(0) >= data[8:40:2].count(0)
            code = "utf-16-le" if little else "utf-16-be"
        return data[8:].decode(code).replace("\0", "").strip()
    return ""


def _windows_text(value: Any) -> str:
    data = bytes(value) if isinstance(value, bytes | tuple) else b""
    return data.decode("utf-16-le", "ignore").replace("\0", "").strip()
