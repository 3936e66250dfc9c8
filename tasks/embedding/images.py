"""Bytes to a :class:`~tasks.records.Picture`, in one decode.

Runs inside a decoder process that may be killed: nothing here needs to survive hostile bytes,
it only needs to say why. Rules and the files that taught them: docs/design.md, "Reading images".
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, ImageStat

from tasks.embedding.colours import layers_to_srgb, to_srgb
from tasks.embedding.detail import measure_detail
from tasks.embedding.grounds import alpha_note, flatten
from tasks.embedding.metadata import read_metadata
from tasks.embedding.sniff import PILLOW_FORMATS, sniff
from tasks.embedding.tagged import names_colours, tagged_profile
from tasks.embedding.tiff import (
    BITS,
    EXTRA_SAMPLES,
    PHOTOMETRIC,
    PLANES,
    SAMPLE_FORMAT,
    SAMPLES,
    Tags,
    Tiff,
    one,
    plane_files,
    read_tiff,
)
from tasks.embedding.xmp import parse_xmp
from tasks.errors import ImageError
from tasks.process.heap import keep_freed_memory
from tasks.records import THUMBNAIL_SIDE, Picture, as_text
from tasks.settings import LimitSettings

#: Raised when a change here could turn a failed file into a picture, or change the pixels:
#: failures of an older reader are tried again.
READER_VERSION = 2

_Used = TypeVar("_Used")

_EXIF_FIELDS = (
    "Make",
    "Model",
    "LensModel",
    "Software",
    "Artist",
    "Copyright",
    "ImageDescription",
    "DateTime",
    "DateTimeOriginal",
    "SubsecTimeOriginal",
    "ImageUniqueID",
)
#: The next marker that has a length or ends the picture: no stuffing, TEM, restart, SOI or fill. A
#: file of 4000 px has 10,000 stuffed bytes, which a loop in Python would take one by one.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
#: Other frames are decoded for their digest up to so many, and so many pixels in all: of longer
#: animations the bytes stand for them.
_MOST_FRAMES, _FRAME_PIXELS = 200, 64_000_000
#: Formats whose further frames are pages or pictures of their own.
_PAGED = {"tiff", "gif", "webp", "png", "avif", "heif"}
#: Modes that become RGB without a loss.
_SAME_AS_RGB = {"1", "L", "P"}
_HIGH_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}

#: A picture is averaged to so many times a thumbnail's size before anything is cut from it. After
#: 2.0, Pillow's manual says, the result is nearly that of resizing all pixels.
_GAP = 2.0
#: Pixels that are hashed at a time: they stay in the processor's cache.
_STRIP = 1 << 17

#: How the lines of a thumbnail's comment begin: what its file holds besides, and how fine it is.
BESIDES, DETAIL = "besides ", "detail "
#: And another comment, of transparency, see :func:`~tasks.embedding.grounds.alpha_note`.
SEE_THROUGH = b"alpha "

Image.MAX_IMAGE_PIXELS = None  # our own limit, checked before any pixel is decoded


def read_picture(data: bytes, limits: LimitSettings, side: int) -> Picture:
    """Decode an image and take everything from it that is ever needed.

    The pixels are made upright (EXIF orientation), 8-bit sRGB, over a plain background where they
    are transparent; the first frame stands for an animation. The model's input is the whole
    picture squeezed to a square, so that nothing at its border is lost.

    Args:
        data: the file.
        limits: what it may cost.
        side: width and height of the model's input.

    Raises:
        ImageError: with the reason.
    """
    keep_freed_memory()
    return _opened(data, limits, lambda image, name, tiff: _read(image, data, name, tiff, side))


def render_picture(data: bytes, limits: LimitSettings, side: int) -> bytes:
    """An image as people look at it: a JPEG file of the pixels that :func:`read_picture` judges.

    Upright, 8-bit sRGB, over a plain ground, the first frame; nothing of the file's metadata.

    Args:
        data: the file.
        limits: what it may cost.
        side: the most pixels of its longer side; a smaller picture keeps its size.

    Raises:
        ImageError: with the reason.
    """
    return _opened(data, limits, lambda image, name, tiff: _rendered(image, data, name, tiff, side))


def read_pixels(data: bytes, limits: LimitSettings) -> npt.NDArray[np.uint8]:
    """The picture at its full size, as :func:`read_picture` sees it: uint8 (h, w, 3), upright sRGB.

    Args:
        data: the file.
        limits: what it may cost.

    Raises:
        ImageError: with the reason.
    """
    return _opened(data, limits, lambda image, name, tiff: _pixels(image, data, name, tiff))


def _opened(
    data: bytes, limits: LimitSettings, use: Callable[[Image.Image, str, Tiff | None], _Used]
) -> _Used:
    """What a function makes of an image that was opened within its limits.

    Raises:
        ImageError: with the reason.
    """
    name = sniff(data[:512])
    if name is None or name not in PILLOW_FORMATS:
        raise ImageError(
            "format_not_supported", f"{name or 'unknown'} is not a format that is read"
        )
    if name == "jpeg" and _jpeg_scans(data) > limits.jpeg_scans:
        raise ImageError("too_many_scans", f"a JPEG of more than {limits.jpeg_scans} scans")
    if name == "heif":
        _register_heif()
    tiff = _checked_tiff(data) if name == "tiff" else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS[name]) as image:
                _check_size(image, limits)
                return use(image, name, tiff)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(
            "too_much_memory",
            f"needs more than {limits.memory_bytes // 1024**2} MiB to decode; "
            "raise DAM_DEDUP_LIMITS__MEMORY_BYTES to read it",
        ) from None
    except Exception as error:
        # Pillow's plug-ins raise OSError, ValueError, SyntaxError, NotImplementedError, EOFError,
        # struct.error ... whatever hostile bytes lead them to.
        text = str(error) or type(error).__name__
        reason = "truncated" if "truncated" in text.lower() else "cannot_decode"
        raise ImageError(reason, f"{type(error).__name__}: {text}"[:300]) from None


def _jpeg_scans(data: bytes) -> int:
    """Scans of the first picture; embedded previews and data after its end do not count.

    Markers: ITU-T T.81, annex B. Inside a scan 0xFF is followed by 0 or a restart marker.
    """
    at, scans = 2, 0
    while (found := _MARKER.search(data, at)) and found.start() + 4 <= len(data):
        at = found.start()
        marker = data[at + 1]
        if marker == 0xD9:
            break
        scans += marker == 0xDA
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return scans


def _check_size(image: Image.Image, limits: LimitSettings) -> None:
    width, height = image.size
    if width * height > limits.pixels:
        raise ImageError(
            "too_many_pixels",
            f"{width} x {height} is over {limits.pixels} pixels; raise DAM_DEDUP_LIMITS__PIXELS",
        )
    if max(width, height) > limits.side:
        raise ImageError("too_long_side", f"{width} x {height}: a side over {limits.side} pixels")


def _colours(image: Image.Image, data: bytes, name: str) -> dict[Any, Any]:
    """What the file says, its colours as they are named outside of a profile (gAMA, cICP) too."""
    info: dict[Any, Any] = dict(image.info)
    named = tagged_profile(data, name)
    if named and (not info.get("icc_profile") or (name == "png" and names_colours(data))):
        info["icc_profile"] = named
    return info


def _show_first(image: Image.Image) -> None:
    """Show the first frame.

    A Photoshop file shows its merged image as it is opened. Pillow counts its layers as frames from
    1 on, so that seeking frame 0 failed, and no file of two layers or more could be read.
    """
    if image.format != "PSD" and getattr(image, "is_animated", False):
        image.seek(0)


def _pixels(image: Image.Image, data: bytes, name: str, tiff: Tiff | None) -> npt.NDArray[np.uint8]:
    info = _colours(image, data, name)
    _show_first(image)
    image = _loaded(image, data, tiff)
    with contextlib.suppress(Exception):  # bad EXIF must not lose the picture
        image = ImageOps.exif_transpose(image)
    return np.asarray(_canonical(image, info, unsigned=_unsigned(tiff))[0], dtype=np.uint8)


def _rendered(image: Image.Image, data: bytes, name: str, tiff: Tiff | None, side: int) -> bytes:
    info = _colours(image, data, name)
    _show_first(image)
    if name == "jpeg":  # the decoder skips what would be thrown away: 24 megapixels in a third
        image.draft(image.mode, (side, side))
    image = _loaded(image, data, tiff)
    with contextlib.suppress(Exception):  # bad EXIF must not lose the picture
        image = ImageOps.exif_transpose(image)
    rgb, _, _ = _canonical(image, info, unsigned=_unsigned(tiff))
    scale = min(1.0, side / max(rgb.size))
    if scale < 1:
        rgb = _shrink(rgb, (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale))))
    buffer = io.BytesIO()
    # 4:4:4, because what is compared by eye may be a coloured line one pixel wide.
    rgb.save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


def _read(image: Image.Image, data: bytes, name: str, tiff: Tiff | None, side: int) -> Picture:
    mode = image.mode
    info = _colours(image, data, name)
    frames = int(getattr(image, "n_frames", 1)) if getattr(image, "is_animated", False) else 1
    _show_first(image)
    exif = _exif(image)
    if name == "png":
        image.load()  # a PNG's texts may follow its pixels
    metadata = read_metadata(image, data, _bytes(info.get("xmp") or image.info.get("xmp")))
    if metadata.holds:
        exif["Holds"] = "; ".join(metadata.holds)[:2000]
    quality = _jpeg_quality(getattr(image, "quantization", None)) if name == "jpeg" else None
    deep = _loses_depth(image, data, name)
    besides = _besides(data, name, tiff, frames)
    image = _loaded(image, data, tiff)
    with contextlib.suppress(Exception):  # bad EXIF must not lose the picture
        ImageOps.exif_transpose(image, in_place=True)  # else an upright one is copied, too
    rgb, content, note = _canonical(image, info, unsigned=_unsigned(tiff))
    if deep:
        # Pillow kept 8 of these bits: only equal bytes are known to be equal pixels.
        content = hashlib.blake2b(data, digest_size=16).hexdigest()
    if besides:
        content = hashlib.blake2b(f"{content} {besides}".encode(), digest_size=16).hexdigest()
    reduced = Reduced(rgb)
    flags = _flags(reduced, frames > 1 or besides.startswith("layers"))
    return Picture(
        sha256=hashlib.sha256(data).hexdigest(),
        content=content,
        phash=_hash_of(reduced),
        width=rgb.width,
        height=rgb.height,
        mode=mode,
        format=name,
        thumbnail=_thumbnail(reduced, besides, note),
        pixels=np.asarray(reduced.resize((side, side)), dtype=np.uint8),
        quality=quality,
        flags=flags,
        exif=exif,
        xmp=parse_xmp(_bytes(info.get("xmp"))),
        packet=metadata.packet,
    )


def _canonical(
    image: Image.Image, info: dict[Any, Any], *, unsigned: bool = False
) -> tuple[Image.Image, str, bytes]:
    """Upright 8-bit RGB, the digest of the pixels with all they hold, and a transparency's note.

    The digest covers what the RGB may hide: the depth of 16-bit and float samples, alpha, inks and
    colours outside of sRGB. Pictures that only look alike after reduction are so never called
    pixel-equal.
    """
    state = hashlib.blake2b(digest_size=16)
    if image.mode in _HIGH_MODES:
        samples = np.asarray(image)
        if unsigned and image.mode == "I":
            samples = samples.view(np.uint32)
        samples = samples.astype(samples.dtype.newbyteorder("<"))
        state.update(f"{image.size} {samples.dtype.str}".encode())
        state.update(np.ascontiguousarray(samples).data)
        grey = _eight_bit(samples)
        rgb = to_srgb(grey, info.get("icc_profile"))
        if rgb is not grey:
            state.update(_bytes(info.get("icc_profile")))
        return rgb, state.hexdigest(), b""
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in info:
        layered = image.convert("RGBA")
        if layered.getchannel("A").getextrema() != (255, 255):
            state.update(f"{image.size} RGBA".encode())
            _hash_pixels(state, layered)
            shown = layers_to_srgb(layered, info.get("icc_profile"))
            if shown is not layered:
                state.update(_bytes(info.get("icc_profile")))
            seen = flatten(shown)
            return seen.rgb, state.hexdigest(), alpha_note(seen)
        image = layered.convert("RGB")
    rgb = to_srgb(image, info.get("icc_profile"))
    if rgb is image or image.mode in _SAME_AS_RGB:
        state.update(f"{rgb.size} RGB".encode())
        _hash_pixels(state, rgb)
    else:
        state.update(f"{image.size} {image.mode}".encode())
        _hash_pixels(state, image)
        state.update(_bytes(info.get("icc_profile")))
    return rgb, state.hexdigest(), b""


def _hash_pixels(state: hashlib.blake2b, image: Image.Image) -> None:
    """Add all pixels, a few rows at a time: a copy of all of them would have to be made first."""
    rows = max(1, _STRIP // max(1, image.width))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(image.height, top + rows)))
        state.update(strip.tobytes())


def _checked_tiff(data: bytes) -> Tiff | None:
    """The structure of a TIFF.

    Raises:
        ImageError: where its first directory is not the picture.
    """
    tiff = read_tiff(data)
    if tiff is None:
        return None
    if tiff.is_raw:
        raise ImageError("raw", "a camera raw file; its embedded preview is not the picture")
    if tiff.shows_thumbnail:
        raise ImageError("thumbnail_first", "its first page is a small version of another one")
    return tiff


def _besides(data: bytes, name: str, tiff: Tiff | None, frames: int) -> str:
    """A digest of what the file holds and the first frame's pixels do not show; empty: nothing."""
    tags: Tags = tiff.pages[0] if tiff and tiff.pages else {}
    if any(kind == 0 for kind in tags.get(EXTRA_SAMPLES, ())):  # masks, spot inks, further bands
        return f"samples {_named(data)}"
    if name == "psd":
        return f"layers {_named(data)}" if _has_layers(data) else ""
    pages = tiff.real_pages if tiff else frames
    if name not in _PAGED or pages < 2:
        return ""
    return f"{pages} frames {_other_frames(data, name) or _named(data)}"


def _named(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _has_layers(data: bytes) -> bool:
    """Adobe, "Photoshop File Formats": the layer section follows colour modes and resources."""
    at = 26
    for _ in range(2):
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    layers = data[at + 8 : at + 10]  # after the lengths of the section and of its layer part
    return int.from_bytes(data[at + 4 : at + 8], "big") > 0 and layers != b"\0\0"


def _other_frames(data: bytes, name: str) -> str:
    """A digest of the frames after the first; empty where they are too many to decode."""
    state = hashlib.blake2b(digest_size=16)
    with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS[name]) as image:
        count = int(getattr(image, "n_frames", 1))
        if count > _MOST_FRAMES or count * image.width * image.height > _FRAME_PIXELS:
            return ""
        for number in range(1, count):
            image.seek(number)
            if image.width * image.height > _FRAME_PIXELS:
                return ""
            frame = image.convert("RGBA")
            state.update(f"{frame.size} {image.info.get('duration', '')}".encode())
            state.update(frame.tobytes())
    return state.hexdigest()


def _loaded(image: Image.Image, data: bytes, tiff: Tiff | None) -> Image.Image:
    """The decoded first frame; of TIFFs that Pillow misreads, read from their planes and samples.

    Pillow reads planes of 16 bits as if they were interleaved, takes white-is-zero of 16 bits for
    black-is-zero, and unsigned 32-bit samples for signed ones.
    """
    tags: Tags = tiff.pages[0] if tiff and tiff.pages else {}
    bits, planes = max(tags.get(BITS, (1,))), one(tags, PLANES, 1)
    if tiff and planes == 2 and bits > 8 and one(tags, SAMPLES, 1) >= 3:
        return _joined(data, tiff)
    image.load()
    if bits == 16 and one(tags, PHOTOMETRIC) == 0 and image.mode in _HIGH_MODES:
        samples = np.asarray(image)
        return _as_image(65535 - samples.astype(np.uint16), image)
    return image


def _joined(data: bytes, tiff: Tiff) -> Image.Image:
    """Three planes of 16 bits as an RGB of 8: the content's digest is that of the bytes."""
    files, tags = plane_files(data, tiff), tiff.pages[0]
    plain = one(tags, SAMPLE_FORMAT, 1) == 1 and max(tags[BITS]) == 16
    if files is None or one(tags, PHOTOMETRIC) != 2 or not plain:
        raise ImageError(
            "planes_not_supported", "planes of over 8 bits, other than RGB of 16 in strips"
        )
    parts = []
    for file in files[:3]:
        with Image.open(io.BytesIO(file), formats=("TIFF",)) as plane:
            samples = np.asarray(plane)
        parts.append((samples.astype(np.uint16) >> 8).astype(np.uint8))
    return Image.fromarray(np.dstack(parts), "RGB")


def _unsigned(tiff: Tiff | None) -> bool:
    """Whether samples are unsigned numbers of 32 bits."""
    tags: Tags = tiff.pages[0] if tiff and tiff.pages else {}
    return max(tags.get(BITS, (1,))) == 32 and one(tags, SAMPLE_FORMAT, 1) == 1


def _as_image(samples: npt.NDArray[np.uint16], like: Image.Image) -> Image.Image:
    made = Image.fromarray(samples)
    made.info = dict(like.info)
    return made


def _loses_depth(image: Image.Image, data: bytes, name: str) -> bool:
    """Whether the file holds more than 8 bits a sample, and Pillow is about to drop the rest."""
    if image.mode in _HIGH_MODES:
        return False
    if name == "png":
        return data[24] > 8  # the header chunk is always the first
    if name == "tiff":
        return bool(max(getattr(image, "tag_v2", {}).get(BITS, (1,))) > 8)
    if name == "heif":
        return int(image.info.get("bit_depth", 8)) > 8
    if name == "avif":  # AV1 in ISOBMFF, "AV1 Codec Configuration Box": high_bitdepth
        return bool(_at(data, b"av1C", 6) & 0x40)
    if name == "jpeg2000":  # ITU-T T.800, A.5.1: Ssiz of the first component, less one
        return _at(data, b"\xff\x4f\xff\x51", 42) & 0x7F > 7
    return False


def _at(data: bytes, marker: bytes, offset: int) -> int:
    start = data.find(marker)
    return data[start + offset] if 0 <= start < len(data) - offset else 0


def _eight_bit(samples: npt.NDArray[Any]) -> Image.Image:
    """Scale 16-bit, 32-bit and float samples to 8 bits by the depth they use.

    ``convert("RGB")`` clips them instead, and makes strangers equally white.
    """
    values = samples.astype(np.float64)
    finite = np.isfinite(values)
    values = np.where(finite, values, 0.0)
    low, high = float(values.min()), float(values.max())
    if np.issubdtype(samples.dtype, np.floating):
        low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    else:
        depths: tuple[int, ...] = (8, 10, 12, 16)
        if samples.dtype == np.uint32:
            depths += (24, 32)
        if high > 255 and not np.any(samples % 257):
            depths = depths[3:]  # eight bits written as sixteen: 0xABAB
        depth = next((bits for bits in depths if high < 2**bits), None)
        low, high = (0.0, float(2**depth - 1)) if low >= 0 and depth else (low, high)
    scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8), "L").convert("RGB")


@cache
def _register_heif() -> None:
    import pi_heif

    pi_heif.register_heif_opener()


def _shrink(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


class Reduced:
    """A picture averaged once to twice its thumbnail's size; what is small is cut from that.

    Thumbnail, model's input, hash and flags would each go through all pixels again: at 2000 pixels
    they took 41 ms together, where decoding takes 11.

    Args:
        rgb: the picture, kept as ``whole``.
    """

    def __init__(self, rgb: Image.Image) -> None:
        self.whole = rgb
        scale = min(1.0, THUMBNAIL_SIDE / max(rgb.size))
        self.thumbnail = max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale))
        sides = zip(rgb.size, self.thumbnail, strict=True)
        across, down = (max(1, int(full / small / _GAP)) for full, small in sides)
        self._image = rgb if across == down == 1 else rgb.reduce((across, down))
        # The last row and column may be the average of fewer pixels than the others.
        self._box = (0.0, 0.0, rgb.width / across, rgb.height / down)

    def resize(
        self, size: tuple[int, int], by: Image.Resampling = Image.Resampling.BICUBIC
    ) -> Image.Image:
        """The whole picture at another size."""
        return self._resized(size, by, None)

    def grey(self, size: tuple[int, int]) -> Image.Image:
        """The whole picture in grey, by Lanczos' filter."""
        return self._resized(size, Image.Resampling.LANCZOS, "L")

    def _resized(
        self, size: tuple[int, int], by: Image.Resampling, mode: str | None
    ) -> Image.Image:
        image, box = self._image, self._box
        sides = zip(box[2:], self.whole.size, size, strict=True)
        if any(have < full and have < _GAP * wanted for have, full, wanted in sides):
            # A model that looks at more pixels than a thumbnail has, or a narrow strip.
            image, box = self.whole, (0.0, 0.0, float(self.whole.width), float(self.whole.height))
        if mode:
            image = image.convert(mode)
        return image.resize(size, by, box, reducing_gap=3.0)


def make_thumbnail(rgb: Image.Image, besides: str = "", note: bytes = b"") -> bytes:
    """A JPEG file of at most :data:`THUMBNAIL_SIDE` pixels a side: what pairs are verified on.

    Args:
        rgb: the picture.
        besides: digest of what the file holds and the picture does not show (further pages, masks,
            layers); it stands in the JPEG's comment, so that it is compared as well, and so does
            how fine the picture is (:mod:`tasks.embedding.detail`).
        note: ground and transparency of a picture that is not opaque, which stand in a second one.
    """
    return _thumbnail(Reduced(rgb), besides, note)


def _thumbnail(reduced: Reduced, besides: str, note: bytes) -> bytes:
    buffer = io.BytesIO()
    lines = [BESIDES + besides] if besides else []
    comment = "\n".join([*lines, DETAIL + measure_detail(reduced.whole)]).encode()
    reduced.resize(reduced.thumbnail).save(buffer, "JPEG", quality=80, comment=comment)
    if not note:
        return buffer.getvalue()
    body = SEE_THROUGH + note
    second = b"\xff\xfe" + (len(body) + 2).to_bytes(2, "big") + body
    return buffer.getvalue()[:2] + second + buffer.getvalue()[2:]


def _flags(reduced: Reduced, animated: bool) -> tuple[str, ...]:
    flags = []
    width, height = reduced.whole.size
    if max(ImageStat.Stat(reduced.resize((64, 64), Image.Resampling.BILINEAR)).stddev) < 2.0:
        flags.append("flat")
    if min(width, height) < 32:
        flags.append("tiny")
    if max(width, height) > 20 * min(width, height):
        flags.append("aspect")
    if animated:
        flags.append("multi_frame")
    return tuple(flags)


def _exif(image: Image.Image) -> dict[str, str]:
    try:
        exif = image.getexif()
        values = {ExifTags.TAGS.get(tag, str(tag)): value for tag, value in exif.items()}
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        values |= {ExifTags.TAGS.get(tag, str(tag)): value for tag, value in inner.items()}
    except Exception:  # bad EXIF must not lose the picture
        return {}
    kept = {name: values[name] for name in _EXIF_FIELDS if name in values}
    return {
        name: value.replace("\x00", "").strip()[:500]
        for name, value in as_text(kept).items()
        if value.replace("\x00", "").strip()
    }


#: Sum of the luminance quantisation table that ITU-T T.81 suggests (annex K.1).
_TABLE_SUM = 3685


def _jpeg_quality(tables: Any) -> int | None:
    """The IJG library's quality whose luminance table is as coarse as this one, 1..100.

    It scales the suggested table by 5000 / quality below 50 and by 200 - 2 x quality above
    (jcparam.c); other encoders' tables give the quality of the same coarseness.
    """
    if not isinstance(tables, dict) or len(tables.get(0, ())) != 64:
        return None
    scale = 100 * sum(tables[0]) / _TABLE_SUM
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return int(min(100, max(1, round(quality))))


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else b""


def perceptual_hash(rgb: Image.Image) -> int:
    """64-bit pHash: signs of the 8 x 8 lowest DCT frequencies against their median.

    Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010),
    with the usual 32 x 32 luminance input.
    """
    return _hash_of(Reduced(rgb))


def _hash_of(reduced: Reduced) -> int:
    grey = reduced.grey((32, 32))
    low = _dct() @ np.asarray(grey, dtype=np.float64) @ _dct().T
    bits = (low > np.median(low)).ravel()
    return int(np.packbits(bits).view(">u8")[0])


@cache
def _dct() -> npt.NDArray[np.float64]:
    """The 8 lowest rows of the orthonormal 32-point DCT-II."""
    k, n = np.arange(8)[:, None], np.arange(32)[None, :]
    rows = np.cos(np.pi * k * (2 * n + 1) / 64) * np.sqrt(2 / 32)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows)


def shrink(jpeg: bytes, side: int) -> bytes:
    """A thumbnail made smaller yet, as WebP: for pages that hold thousands."""
    with Image.open(io.BytesIO(jpeg)) as image:
        image.draft("RGB", (side, side))  # the decoder skips what would be thrown away
        image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=50, method=2)
    return buffer.getvalue()
