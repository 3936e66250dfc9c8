"""Colours named by numbers: gAMA, cHRM and cICP of a PNG; profiles on palettes and cut-outs."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms

from tasks.embedding.tagged import tagged_profile
from tasks.records import Picture

Read = Callable[..., Picture]


def tagged(png: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with further chunks behind its header."""
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return png[:33] + body + png[33:]


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def shown(picture: Picture) -> np.ndarray:
    return picture.pixels[16, 16].astype(int)


@pytest.fixture(scope="module")
def grey(encode) -> bytes:
    return encode(Image.new("RGB", (64, 64), (128, 128, 128)))


def test_linear_light_is_shown_lighter(read: Read, grey):
    """Half of the light is 188 of 255 in sRGB."""
    assert shown(read(tagged(grey, gamma(1.0))))[0] == pytest.approx(188, abs=1)


@pytest.mark.parametrize("chunk", [gamma(0.45455), gamma(0), (b"sRGB", b"\0")])
def test_the_usual_gamma_means_srgb(read: Read, grey, chunk):
    assert read(tagged(grey, chunk)).content == read(grey).content


def test_srgb_counts_before_gamma(read: Read, grey):
    assert read(tagged(grey, (b"sRGB", b"\0"), gamma(1.0))).content == read(grey).content


def test_linear_grey_of_sixteen_bits(read: Read, encode):
    data = encode(Image.fromarray(np.full((64, 64), 0x8080, np.uint16)))
    assert shown(read(tagged(data, gamma(1.0))))[1] == pytest.approx(188, abs=1)


@pytest.mark.parametrize(
    ("numbers", "colour"),
    [
        ((1, 13), (200, 80, 40)),  # sRGB itself
        ((12, 13), (217, 69, 17)),  # Display P3: the same numbers are a stronger colour
        ((1, 8), (229, 151, 110)),  # linear light
    ],
)
def test_code_points_are_honoured(read: Read, encode, numbers, colour):
    data = encode(Image.new("RGB", (64, 64), (200, 80, 40)))
    found = shown(read(tagged(data, (b"cICP", bytes([*numbers, 0, 1])))))
    assert np.abs(found - colour).max() <= 2


def test_pq_white_of_paper_is_white(read: Read, encode):
    """203 nits are 58 % of the PQ signal; what is brighter is white as well."""
    picture = Image.new("RGB", (64, 64), (148, 148, 148))
    data = tagged(encode(picture), (b"cICP", bytes([9, 16, 0, 1])))
    assert shown(read(data)).min() >= 250
    dark = encode(Image.new("RGB", (64, 64), (60, 60, 60)))
    assert shown(read(tagged(dark, (b"cICP", bytes([9, 16, 0, 1]))))).max() < 60


def test_code_points_count_before_a_profile(read: Read, encode):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encode(Image.new("RGB", (64, 64), (128, 128, 128)), icc_profile=srgb)
    assert shown(read(tagged(data, (b"cICP", bytes([1, 8, 0, 1])))))[0] == pytest.approx(188, abs=1)


@pytest.mark.parametrize("chunk", [b"\0" * 32, b"\xff" * 32])
def test_broken_chromaticities_do_not_lose_the_picture(read: Read, grey, chunk):
    assert shown(read(tagged(grey, (b"cHRM", chunk), gamma(0.45455)))).size == 3


def linear_profile(encode) -> bytes:
    made = tagged_profile(tagged(encode(Image.new("RGB", (8, 8))), gamma(1.0)), "png")
    assert made
    return made


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "PA", "L"])
def test_profiles_apply_to_palettes_cut_outs_and_greys(read: Read, encode, mode):
    plain = Image.new("RGB", (64, 64), (128, 128, 128))
    image = (
        plain.convert("RGBA")
        if mode in {"RGBA", "PA"}
        else plain.convert("L" if mode == "L" else "RGB")
    )
    if mode in {"RGBA", "PA"}:
        image.paste((0, 0, 0, 0), (0, 0, 64, 4))
    if mode in {"P", "PA"}:
        image = image.quantize(4)
    found = read(encode(image, icc_profile=linear_profile(encode)))
    assert shown(found)[0] == pytest.approx(188, abs=2)
    assert found.content != read(encode(image)).content


def test_dark_sixteen_bits_are_their_own_eight_bit_rendition(read: Read, encode, scene):
    """A frame taken two stops under: its brightest value says nothing of its depth."""
    dark = np.asarray(scene.convert("L"), np.uint16) // 5
    deep = read(encode(Image.fromarray(dark * 257)))
    flat = read(encode(Image.fromarray(dark.astype(np.uint8))))
    noisy = read(encode(Image.fromarray(dark * 257 + 100)))
    for one in (deep, noisy):
        assert np.abs(one.pixels.astype(int) - flat.pixels).max() <= 1


def test_a_thumbnail_that_holds_a_profile_says_what_it_shows(read: Read, encode):
    data = encode(Image.new("RGB", (64, 64), (128, 128, 128)), icc_profile=linear_profile(encode))
    thumbnail = Image.open(io.BytesIO(read(data).thumbnail))
    assert thumbnail.getpixel((32, 32))[0] == pytest.approx(188, abs=2)
