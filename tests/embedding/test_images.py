"""Bytes to pictures: every format, every trap."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFilter

from tasks.embedding.images import perceptual_hash, read_pixels, render_picture
from tasks.errors import ImageError
from tasks.records import THUMBNAIL_SIDE
from tasks.settings import LimitSettings

LOSSLESS = ("PNG", "BMP", "TIFF", "GIF", "WEBP")
U64 = st.integers(0, 2**64 - 1)


def refused(read, data, **limits) -> str:
    with pytest.raises(ImageError) as caught:
        read(data, **limits)
    assert str(caught.value)
    return caught.value.reason


def psd(image: Image.Image) -> bytes:
    """A Photoshop file of nothing but its merged image."""
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, image.height, image.width, 8, 3)
    planes = b"".join(plane.tobytes() for plane in image.split())
    return head + bytes(12) + b"\0\0" + planes


def layered(image: Image.Image, layers: list[Image.Image]) -> bytes:
    """A Photoshop file with layers below its merged image (Adobe, "Photoshop File Formats")."""
    records = pixels = b""
    for layer in layers:
        planes = [b"\0\0" + plane.tobytes() for plane in layer.split()]
        records += struct.pack(">iiiiH", 0, 0, layer.height, layer.width, len(planes))
        records += b"".join(struct.pack(">hI", at, len(one)) for at, one in enumerate(planes))
        records += b"8BIMnorm" + bytes([255, 0, 0, 0]) + struct.pack(">I", 12)
        records += bytes(8) + b"\x03Sky"
        pixels += b"".join(planes)
    body = struct.pack(">h", len(layers)) + records + pixels
    body += bytes(len(body) % 2)
    section = struct.pack(">I", len(body)) + body + bytes(4)
    flat = psd(image)
    return flat[:34] + struct.pack(">I", len(section)) + section + flat[38:]


def png(samples: np.ndarray, colour: int) -> bytes:
    """A 16-bit PNG, which Pillow writes of one channel only."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def ramp(low: float, high: float, dtype: str) -> np.ndarray:
    y, x = np.mgrid[0:40, 0:60]
    return (low + (x + y) / 98 * (high - low)).astype(dtype)


def profile(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


# ---- formats ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "HEIF", "JPEG2000"]
)
def test_every_format_gives_the_same_picture(encode, read, scene, kind):
    picture = read(encode(scene, kind), into=16)
    assert picture.format == kind.lower()
    assert (picture.width, picture.height) == scene.size
    expected = np.asarray(scene.resize((16, 16), Image.Resampling.BICUBIC), dtype=int)
    assert np.abs(picture.pixels - expected).mean() < 6
    assert picture.flags == ()


def test_psd(read, scene):
    picture = read(psd(scene), into=16)
    assert picture.format == "psd"
    assert picture.content == read(psd(scene)).content
    expected = np.asarray(scene.resize((16, 16), Image.Resampling.BICUBIC), dtype=int)
    assert np.abs(picture.pixels - expected).max() <= 1


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_photoshop_file_with_layers_shows_its_merged_image(read, scene, layers):
    """Of two layers or more it could not be decoded at all: Pillow counts layers from 1 on."""
    below = [Image.new("RGB", scene.size, (40 * n, 9, 9)) for n in range(layers)]
    picture, flat = read(layered(scene, below), into=16), read(psd(scene), into=16)
    assert np.array_equal(picture.pixels, flat.pixels)
    assert picture.content != flat.content, "the layers are more than the merged image shows"
    assert picture.flags == ("multi_frame",), "a person is asked before they leave"
    data = layered(scene, below)
    assert np.array_equal(
        read_pixels(data, LimitSettings()), read_pixels(psd(scene), LimitSettings())
    )
    assert render_picture(data, LimitSettings(), 64) == render_picture(
        psd(scene), LimitSettings(), 64
    )


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "eps"),
        (b"%PDF-1.7\n", "pdf"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "video"),
        (b"P6 1 1 255 abc", "pnm"),
        (b"BLP2" + bytes(300), "unknown"),
        (b"", "unknown"),
    ],
)
def test_other_formats_are_refused_by_content(read, data, named):
    with pytest.raises(ImageError, match=named) as caught:
        read(data)
    assert caught.value.reason == "format_not_supported"


def test_a_plug_in_opens_its_own_format_only(read):
    # "BM" and then a PCX-like body: no other decoder gets a try.
    assert refused(read, b"BM" + bytes(200)) == "cannot_decode"


# ---- upright ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(encode, read, scene, kind, orientation):
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # stored turned to the left, shown turned to the right
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = scene.transpose(turns[orientation]) if orientation in turns else scene
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read(encode(stored, kind, exif=exif.tobytes()), into=16)
    assert (picture.width, picture.height) == scene.size
    expected = np.asarray(scene.resize((16, 16), Image.Resampling.BICUBIC), dtype=int)
    assert np.abs(picture.pixels - expected).mean() < 6


def test_orientation_of_16_bit_grey(encode, read):
    samples = ramp(0, 60000, "uint16")
    samples[:20, :30] = 0
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read(encode(Image.fromarray(np.rot90(samples).copy()), exif=exif.tobytes()))
    assert turned.content == read(encode(Image.fromarray(samples))).content


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0" * 50])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_bad_exif_does_not_lose_the_picture(encode, read, scene, kind, exif):
    assert read(encode(scene, kind, exif=exif)).content == read(encode(scene, kind)).content


def test_exif_and_xmp_are_kept(encode, read, scene):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x8769] = (
        "Maker\0",
        "Model 1",
        {
            0x9003: "2026:01:02 03:04:05",
            0x9291: "25",
        },
    )
    xmp = b"<x xmlns:p='p' p:DocumentID='xmp.did:7'/>"
    picture = read(encode(scene, "JPEG", exif=exif.tobytes(), xmp=xmp))
    assert picture.exif == {
        "Make": "Maker",
        "Model": "Model 1",
        "DateTimeOriginal": "2026:01:02 03:04:05",
        "SubsecTimeOriginal": "25",
        "Holds": "XMP that cannot be read (it has no rdf:RDF)",
    }
    assert picture.xmp == {"document_id": "xmp.did:7"}


# ---- depth -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 65535, "uint16"), (30000, 65535, "uint16"), (300, 4095, "uint16")],
    ids=["16", "16 bright", "12 in 16"],
)
def test_16_bit_grey_keeps_its_contrast(encode, read, kind, low, high, dtype):
    one = read(encode(Image.fromarray(ramp(low, high, dtype)), kind))
    other = read(encode(Image.fromarray(ramp(high, low, dtype)), kind))
    assert "flat" not in one.flags
    assert np.ptp(one.pixels) > 100
    assert one.content != other.content
    assert not np.array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 5), (0, 1e6)])
def test_float_tiff_keeps_its_contrast(encode, read, low, high):
    one = read(encode(Image.fromarray(ramp(low, high, "float32")), "TIFF"))
    other = read(encode(Image.fromarray(ramp(high, low, "float32")), "TIFF"))
    assert np.ptp(one.pixels) > 200
    assert one.content != other.content
    assert not np.array_equal(one.pixels, other.pixels)


def test_float_tiff_with_nan_and_infinity(encode, read):
    samples = ramp(0, 1, "float32")
    samples[0, :3] = np.nan, np.inf, -np.inf
    assert np.ptp(read(encode(Image.fromarray(samples), "TIFF")).pixels) > 200


def test_16_bit_grey_counts_to_the_last_bit(encode, read):
    samples = ramp(0, 65000, "uint16") & 0xFF00
    one = read(encode(Image.fromarray(samples)))
    other = read(encode(Image.fromarray(samples | 1)))
    assert one.content != other.content
    assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 1


def test_16_bit_grey_is_equal_in_every_container(encode, read):
    samples = ramp(0, 65000, "uint16")
    contents = {
        read(encode(Image.fromarray(samples), "PNG")).content,
        read(encode(Image.fromarray(samples), "TIFF")).content,
        read(encode(Image.fromarray(samples.astype(">u2")), "TIFF")).content,
    }
    assert len(contents) == 1


@pytest.mark.parametrize("colour", [2, 4, 6], ids=["RGB", "grey and alpha", "RGBA"])
def test_deep_colour_that_pillow_cuts_to_8_bits_is_never_pixel_equal(read, colour):
    channels = {2: 3, 4: 2, 6: 4}[colour]
    samples = np.repeat(ramp(0, 65000, "uint16")[:, :, None] & 0xFF00, channels, axis=2)
    one, other = read(png(samples, colour)), read(png(samples | 1, colour))
    assert one.content != other.content
    assert np.array_equal(one.pixels, other.pixels)


def test_deep_heif_is_never_pixel_equal_by_its_8_bits(read):
    import pillow_heif

    samples = np.full((40, 60, 3), 40_000, dtype="<u2")
    files = []
    for metadata in (b"", b"Exif\0\0"):
        buffer = io.BytesIO()
        image = pillow_heif.from_bytes("RGB;16", (60, 40), samples.tobytes())
        image.save(buffer, exif=metadata or None)
        files.append(buffer.getvalue())
    one, other = (read(data) for data in files)
    assert np.array_equal(one.pixels, other.pixels)
    assert one.content != other.content


def test_8_bit_jpeg2000_is_pixel_equal_to_png(encode, read, scene):
    assert read(encode(scene, "JPEG2000")).content == read(encode(scene)).content


def test_16_bit_jpeg2000_of_one_channel_keeps_its_depth(encode, read):
    samples = ramp(0, 65000, "uint16")
    data = encode(Image.fromarray(samples), "JPEG2000")
    assert read(data).content == read(encode(Image.fromarray(samples))).content


# ---- alpha and colour ------------------------------------------------------------------------


def logo(colour: tuple[int, int, int], *, outside: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    layer = Image.new("RGBA", (64, 64), (*outside, 0))
    layer.paste((*colour, 255), (16, 16, 48, 48))
    return layer


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (128, 128, 128), (255, 230, 250)])
def test_a_logo_on_transparency_stays_visible(encode, read, colour):
    picture = read(encode(logo(colour)))
    assert "flat" not in picture.flags
    assert np.ptp(picture.pixels.astype(int).sum(axis=2)) > 250


def test_alpha_is_part_of_the_content(encode, read):
    solid = logo((200, 0, 0))
    faint = solid.copy()
    faint.putalpha(solid.getchannel("A").point(lambda alpha: alpha // 2))
    contents = {read(encode(image)).content for image in (solid, faint, solid.convert("RGB"))}
    assert len(contents) == 3
    hidden = logo((200, 0, 0), outside=(9, 9, 9))
    assert read(encode(hidden)).content != read(encode(solid)).content


def test_opaque_alpha_is_no_alpha(encode, read, scene):
    assert read(encode(scene.convert("RGBA"))).content == read(encode(scene)).content


def test_palette_and_1_bit_equal_their_colours(encode, read, scene):
    few = scene.quantize(16)
    assert read(encode(few)).content == read(encode(few.convert("RGB"))).content
    bits = scene.convert("1")
    assert read(encode(bits)).content == read(encode(bits.convert("RGB"))).content
    assert read(encode(bits, "TIFF")).content == read(encode(bits)).content


def test_transparent_palette_equals_its_layers(encode, read):
    few = logo((250, 250, 250)).quantize(4)
    read_few = read(encode(few))
    assert read_few.content == read(encode(few.convert("RGBA"))).content
    assert "flat" not in read_few.flags
    keyed = Image.new("P", (64, 64), 0)
    keyed.putpalette([255, 255, 255, 254, 254, 254])
    keyed.paste(1, (16, 16, 48, 48))
    assert "flat" not in read(encode(keyed, "GIF", transparency=0)).flags


def test_grey_with_alpha(encode, read):
    picture = read(encode(logo((255, 255, 255)).convert("LA")))
    assert picture.mode == "LA"
    assert "flat" not in picture.flags


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(encode, read, scene, kind):
    picture = read(encode(scene.convert("CMYK"), kind), into=16)
    expected = np.asarray(scene.resize((16, 16), Image.Resampling.BICUBIC), dtype=int)
    assert picture.mode == "CMYK"
    assert np.abs(picture.pixels - expected).mean() < 12


def test_inks_that_look_alike_are_not_equal_pixels(encode, read):
    rich = Image.new("CMYK", (64, 64), (255, 255, 255, 255))
    plain = Image.new("CMYK", (64, 64), (0, 0, 0, 255))
    assert np.array_equal(read(encode(rich, "TIFF")).pixels, read(encode(plain, "TIFF")).pixels)
    assert read(encode(rich, "TIFF")).content != read(encode(plain, "TIFF")).content


@pytest.mark.parametrize("mode", ["CMYK", "RGB"])
def test_a_broken_or_foreign_profile_does_not_lose_the_picture(encode, read, scene, mode):
    image = scene.convert(mode)
    for icc in (b"not a profile", profile("LAB"), profile("sRGB")):
        picture = read(encode(image, "TIFF", icc_profile=icc))
        assert np.array_equal(picture.pixels, read(encode(image, "TIFF")).pixels)


def test_a_lab_profile_is_applied(encode, read, scene):
    lab = ImageCms.profileToProfile(
        scene, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    picture = read(encode(lab, "TIFF", icc_profile=profile("LAB")), into=16)
    expected = np.asarray(scene.resize((16, 16), Image.Resampling.BICUBIC), dtype=int)
    assert np.abs(picture.pixels - expected).mean() < 6


def swapped_profile() -> bytes:
    """sRGB with its red and blue exchanged: a profile whose effect nobody can miss."""
    data = profile("sRGB").replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ")
    data = data.replace(b"?XYZ", b"bXYZ")
    # The description must not say sRGB; both spellings of the text have the same length.
    return data.replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))


def test_an_rgb_profile_is_applied_and_is_part_of_the_content(encode, read):
    red = Image.new("RGB", (64, 64), (250, 10, 10))
    shown = read(encode(red, icc_profile=swapped_profile()))
    assert shown.pixels[0, 0, 2] > 200 > 60 > shown.pixels[0, 0, 0]
    assert shown.content != read(encode(red)).content
    layered = read(encode(red.convert("RGBA"), icc_profile=swapped_profile()))
    assert layered.content == shown.content


# ---- frames ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_stands_for_all(encode, read, kind):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    picture = read(data)
    assert tuple(picture.pixels[5, 5]) == (255, 0, 0)
    assert picture.flags == ("flat", "multi_frame")


# ---- content ---------------------------------------------------------------------------------


def test_equal_pixels_have_equal_content_in_every_lossless_format(encode, read, scene):
    few = scene.quantize(64).convert("RGB")
    options = {"WEBP": {"lossless": True}}
    pictures = [read(encode(few, kind, **options.get(kind, {}))) for kind in LOSSLESS]
    assert len({picture.content for picture in pictures}) == 1
    assert len({picture.sha256 for picture in pictures}) == len(LOSSLESS)


def test_a_lossy_copy_has_other_content(encode, read, scene):
    assert read(encode(scene, "JPEG")).content != read(encode(scene, "PNG")).content


def test_one_pixel_changes_the_content(encode, read, scene):
    touched = scene.copy()
    touched.putpixel((59, 39), (1, 2, 3))
    assert read(encode(touched)).content != read(encode(scene)).content


def test_the_shape_is_part_of_the_content(encode, read):
    wide, high = Image.new("RGB", (80, 40)), Image.new("RGB", (40, 80))
    assert read(encode(wide)).content != read(encode(high)).content


# ---- flags and thumbnails --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "flags"),
    [
        ((64, 64), ("flat",)),
        ((31, 64), ("flat", "tiny")),
        ((32, 640), ("flat",)),
        ((32, 641), ("flat", "aspect")),
        ((1, 1), ("flat", "tiny")),
        ((2000, 1), ("flat", "tiny", "aspect")),
    ],
)
def test_flags(encode, read, size, flags):
    assert read(encode(Image.new("RGB", size, "teal"))).flags == flags


def test_a_faint_texture_is_not_flat(encode, read):
    noise = np.random.default_rng(1).integers(0, 200, (64, 64, 3)).astype(np.uint8)
    assert read(encode(Image.fromarray(noise))).flags == ()


@pytest.mark.parametrize(
    ("size", "shown"),
    [((1000, 500), (384, 192)), ((100, 50), (100, 50)), ((3, 2000), (1, 384)), ((1, 1), (1, 1))],
)
def test_thumbnails_are_small_jpegs(encode, read, size, shown):
    thumbnail = read(encode(Image.new("RGB", size, "teal"))).thumbnail
    with Image.open(io.BytesIO(thumbnail), formats=["JPEG"]) as image:
        image.load()
        assert image.size == shown
        assert max(image.size) <= THUMBNAIL_SIDE


# ---- limits ----------------------------------------------------------------------------------


def test_pixels_are_counted_before_they_are_decoded(encode, read):
    data = encode(Image.new("1", (20_000, 7_000)))
    assert refused(read, data) == "too_many_pixels"
    with pytest.raises(ImageError, match="DAM_DEDUP_LIMITS__PIXELS"):
        read(data)
    assert refused(read, encode(Image.new("L", (11, 10))), pixels=109) == "too_many_pixels"
    assert read(encode(Image.new("L", (11, 10))), pixels=110).width == 11


def test_a_long_side(encode, read):
    data = encode(Image.new("L", (101, 2)))
    assert refused(read, data, side=100) == "too_long_side"


def test_jpeg_scans_are_counted(encode, read, scene):
    data = encode(scene, "JPEG", progressive=True)
    scans = data.count(b"\xff\xda")
    assert scans > 3
    assert read(data, jpeg_scans=scans).width == 60
    assert refused(read, data, jpeg_scans=scans - 1) == "too_many_scans"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000"])
def test_a_cut_file_gives_a_reason(encode, read, kind):
    noise = np.random.default_rng(1).integers(0, 255, (90, 90, 3)).astype(np.uint8)
    data = encode(Image.fromarray(noise), kind)
    for share in (0.1, 0.5, 0.9):
        assert refused(read, data[: int(len(data) * share)]) in {"truncated", "cannot_decode"}


def test_a_cut_jpeg_is_called_truncated(encode, read, scene):
    data = encode(scene, "JPEG")
    assert refused(read, data[: len(data) // 2]) == "truncated"


@given(
    data=st.binary(max_size=300),
    head=st.sampled_from([b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0"]),
)
def test_hostile_bytes_only_ever_raise_image_errors(read, data, head):
    try:
        outcome = read(head + data).format
    except ImageError as error:
        outcome = error.reason
    reasons = {"truncated", "cannot_decode", "too_many_pixels", "too_long_side"}
    assert outcome in reasons | {"gif", "bmp"}


# ---- perceptual hash -------------------------------------------------------------------------


def test_phash_survives_scaling_and_recompression(encode, photo):
    image = photo("astronaut")
    known = perceptual_hash(image)
    small = image.resize((200, 200), Image.Resampling.LANCZOS)
    poor = Image.open(io.BytesIO(encode(image, "JPEG", quality=20)))
    soft = image.filter(ImageFilter.GaussianBlur(2))
    assert max((known ^ perceptual_hash(copy)).bit_count() for copy in (small, poor, soft)) <= 6


def test_phash_tells_pictures_apart(photo):
    hashes = [perceptual_hash(photo(name)) for name in ("astronaut", "coffee", "chelsea")]
    distances = [(a ^ b).bit_count() for a in hashes for b in hashes if a < b]
    assert len(distances) == 3
    assert min(distances) > 16


def test_phash_is_64_bits_wide(photo):
    hashes = [perceptual_hash(photo(name)) for name in ("astronaut", "coffee", "chelsea", "brick")]
    assert max(hashes) >= 2**60
    assert all(0 <= value < 2**64 for value in hashes)


def test_what_follows_a_jpeg_is_not_counted_as_its_scans(encode, scene, read):
    # Phones append videos and depth maps; chance alone puts the marker into them.
    data = encode(scene, "JPEG") + b"\xff\xda\x00\x08" * 500
    assert read(data).format == "jpeg"
    many = encode(scene, "JPEG", progressive=True)
    scan = many[many.rindex(b"\xff\xda") : -2]
    assert refused(read, many[:-2] + scan * 200 + many[-2:]) == "too_many_scans"


@pytest.mark.parametrize(
    ("size", "side"), [((3000, 40), 224), ((40, 3000), 224), ((2000, 1500), 512), ((320, 240), 224)]
)
def test_the_models_input_has_all_that_it_can_hold(read, encode, photo, size, side):
    picture = photo("coffee").resize(size)
    whole = picture.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
    seen = read(encode(picture, "BMP"), into=side).pixels
    assert np.abs(seen.astype(int) - np.asarray(whole)).max() <= 1


@pytest.mark.parametrize("size", [(2000, 1333), (3900, 2600)])
def test_a_thumbnail_is_that_of_all_pixels(read, encode, photo, size):
    picture = photo("coffee").resize(size)
    found = Image.open(io.BytesIO(read(encode(picture, "BMP")).thumbnail))
    exact = picture.resize(found.size, Image.Resampling.BICUBIC)
    exact = Image.open(io.BytesIO(encode(exact, "JPEG", quality=80)))
    assert max(found.size) == THUMBNAIL_SIDE
    assert np.abs(np.asarray(found, int) - np.asarray(exact)).mean() < 1.5
