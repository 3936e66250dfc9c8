"""The structure of a TIFF file: what stands in its directories, without decoding a pixel.

Camera raw files (NEF, ARW, PEF, CR2, 3FR, DNG) are TIFFs whose first directory is a thumbnail or a
preview; a reader that takes the first directory takes that for the picture. Sources: Adobe, "TIFF
Revision 6.0", 1992; TIFF/EP, ISO 12234-2; the BigTIFF design of AWare Systems, 2007.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

Tags = Mapping[int, tuple[int, ...]]

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIPS, SAMPLES, STRIP_SIZES, PLANES = 273, 277, 279, 284
SUB_IFDS, EXTRA_SAMPLES, SAMPLE_FORMAT = 330, 338, 339
_MAKE, _DNG_VERSION = 271, 50706
#: Colour filter array and linear raw: what a sensor saw, before it was made a picture.
_SENSOR = {32803, 34892}
#: Compressions of sensor data: Sony ARW, Nikon NEF, Pentax PEF, Samsung SRW.
_RAW_COMPRESSIONS = {32767, 34713, 65535, 32769, 32770}
#: A directory that is not a picture of its own: a smaller version of another, or a mask of one.
_REDUCED, _MASK = 1, 4
#: Directories and entries that are looked at; a file with more is judged by these.
_MOST_DIRECTORIES, _MOST_ENTRIES, _MOST_VALUES = 64, 512, 65_536
#: Bytes of a value of each type; None where it is no whole number and of no use here.
_SIZES = {1: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {
    1: "B",
    3: "H",
    4: "I",
    6: "b",
    7: "B",
    8: "h",
    9: "i",
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}


@dataclass(frozen=True, slots=True)
class Tiff:
    """The directories of a file.

    Attributes:
        order: ``<`` or ``>``, as :mod:`struct` writes byte orders.
        big: whether it is a BigTIFF.
        pages: tags of the directories of the main chain, whole numbers only, in their order.
        inner: tags of the directories below them (SubIFDs).
    """

    order: str
    big: bool
    pages: tuple[Tags, ...]
    inner: tuple[Tags, ...]

    @property
    def is_raw(self) -> bool:
        """Whether it is a camera raw file, whose first directory is not the picture."""
        if not self.pages:
            return False
        first, every = self.pages[0], self.pages + self.inner
        if _DNG_VERSION in first:
            return True
        sensor = any(
            one(tags, PHOTOMETRIC) in _SENSOR or one(tags, COMPRESSION) in _RAW_COMPRESSIONS
            for tags in every
        )
        reduced = bool(one(first, SUBFILE, 0) & _REDUCED)
        return sensor or (reduced and _MAKE in first and len(every) > 1)

    @property
    def shows_thumbnail(self) -> bool:
        """Whether the first directory is a smaller version of another one in the file."""
        return bool(self.pages) and bool(one(self.pages[0], SUBFILE, 0) & _REDUCED)

    @property
    def real_pages(self) -> int:
        """Pages that are pictures of their own: no thumbnails, pyramid levels or masks."""
        return sum(not one(tags, SUBFILE, 0) & _REDUCED for tags in self.pages)


def one(tags: Tags, tag: int, default: int = -1) -> int:
    """The first value of a tag."""
    values = tags.get(tag)
    return values[0] if values else default


def read_tiff(data: bytes) -> Tiff | None:
    """The directories of a file; None where there is no header that can be read.

    A directory that is cut off or damaged ends its chain: what was read before it counts.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    if not order or len(data) < 16:
        return None
    big = struct.unpack(f"{order}H", data[2:4])[0] == 43
    start = struct.unpack(f"{order}Q", data[8:16]) if big else struct.unpack(f"{order}I", data[4:8])
    seen: set[int] = set()
    pages = _chain(data, order, big, start[0], seen)
    inner = []
    for tags in pages:
        for offset in tags.get(SUB_IFDS, ()):
            inner += _chain(data, order, big, offset, seen)
    return Tiff(order, big, tuple(pages), tuple(inner))


def _chain(data: bytes, order: str, big: bool, at: int, seen: set[int]) -> list[Tags]:
    found: list[Tags] = []
    while at and at not in seen and len(seen) < _MOST_DIRECTORIES:
        seen.add(at)
        try:
            tags, at = _directory(data, order, big, at)
        except (struct.error, IndexError):
            break
        found.append(tags)
    return found


def _directory(data: bytes, order: str, big: bool, at: int) -> tuple[Tags, int]:
    """The whole numbers of one directory, and where the next one begins."""
    head, entry, room, offset = ("Q", 20, 8, "Q") if big else ("H", 12, 4, "I")
    (count,) = struct.unpack_from(order + head, data, at)
    at += struct.calcsize(order + head)
    tags: dict[int, tuple[int, ...]] = {}
    for place in range(at, at + entry * min(count, _MOST_ENTRIES), entry):
        tag, kind, number = struct.unpack_from(f"{order}HH{offset}", data, place)
        size = _SIZES.get(kind)
        if size is None:
            if kind == 2:  # a text: only that it is there matters (the camera's make)
                tags[tag] = (0,)
            continue
        number = min(number, _MOST_VALUES)
        where = place + entry - room
        if size * number > room:
            (where,) = struct.unpack_from(order + offset, data, where)
        tags[tag] = struct.unpack_from(f"{order}{number}{_CODES[kind]}", data, where)
    (after,) = struct.unpack_from(order + offset, data, at + entry * count)
    return tags, after


def plane_files(data: bytes, tiff: Tiff) -> list[bytes] | None:
    """One grey TIFF for each colour plane of a file that stores its planes apart.

    The new directory stands behind the old bytes and points into them, so that whatever decodes
    strips decodes these. None where the planes are in tiles or the file is no such one.
    """
    tags = tiff.pages[0] if tiff.pages else {}
    samples = one(tags, SAMPLES, 1)
    strips, sizes = tags.get(STRIPS, ()), tags.get(STRIP_SIZES, ())
    if tiff.big or one(tags, PLANES) != 2 or samples < 2:
        return None
    if not strips or len(strips) % samples or len(strips) != len(sizes):
        return None
    each = len(strips) // samples
    files = []
    for plane in range(samples):
        part = slice(plane * each, (plane + 1) * each)
        kept = {tag: tags[tag] for tag in (WIDTH, HEIGHT, COMPRESSION, 278, 317) if tag in tags} | {
            BITS: (tags[BITS][0],),
            PHOTOMETRIC: (1,),
            SAMPLES: (1,),
            PLANES: (1,),
            STRIPS: strips[part],
            STRIP_SIZES: sizes[part],
        }
        if SAMPLE_FORMAT in tags:
            kept[SAMPLE_FORMAT] = (tags[SAMPLE_FORMAT][0],)
        files.append(_with_directory(data, tiff.order, kept))
    return files


def _with_directory(data: bytes, order: str, tags: Tags) -> bytes:
    """The file with these tags (as 32-bit numbers) as its only directory."""
    at = len(data) + len(data) % 2
    outside = at + 2 + 12 * len(tags) + 4
    entries, blobs = b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if tag not in (STRIPS, STRIP_SIZES):
            packed = struct.pack(f"{order}HH", values[0] & 0xFFFF, 0)
            if values[0] > 0xFFFF:
                packed = struct.pack(f"{order}I", values[0])
            kind = 3 if values[0] <= 0xFFFF else 4
            entries += struct.pack(f"{order}HHI", tag, kind, 1) + packed
            continue
        if len(packed) > 4:
            place = struct.pack(f"{order}I", outside + len(blobs))
            blobs += packed
        else:
            place = packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + place
    head = data[:4] + struct.pack(f"{order}I", at) + data[8:] + b"\0" * (len(data) % 2)
    count = struct.pack(f"{order}H", len(tags))
    return head + count + entries + struct.pack(f"{order}I", 0) + blobs
