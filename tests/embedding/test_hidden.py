"""What a file holds and its first picture does not show: pages, masks, layers, depth, grounds."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, ImageFont

from tasks.dedup.features import extract_features
from tasks.dedup.verify import EXACT_SCORE, NEAR_SCORE, verify_pair
from tasks.errors import ImageError
from tasks.records import Picture

Read = Callable[..., Picture]


def tiff(
    tags: dict[int, tuple[int, tuple[int, ...]]], strips: list[bytes], order: str = "<"
) -> bytes:
    """A TIFF of one directory: type and values of each tag; strips are added."""
    body, places = b"", []
    for strip in strips:
        places.append(8 + len(body))
        body += strip + b"\0" * (len(strip) % 2)
    tags = tags | {273: (4, tuple(places)), 279: (4, tuple(len(strip) for strip in strips))}
    at = 8 + len(body)
    outside, entries, blobs = at + 2 + 12 * len(tags) + 4, b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            packed, blobs = struct.pack(f"{order}I", outside + len(blobs)), blobs + packed
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + blobs


def layout(
    width: int, height: int, bits: int, samples: int, light: int
) -> dict[int, tuple[int, tuple[int, ...]]]:
    """Size, depth and kind of an uncompressed TIFF."""
    return {
        256: (4, (width,)),
        257: (4, (height,)),
        258: (3, (bits,) * samples),
        259: (3, (1,)),
        262: (3, (light,)),
        277: (3, (samples,)),
        278: (4, (height,)),
    }


@pytest.fixture
def levels(scene: Image.Image) -> np.ndarray:
    return np.asarray(scene)


def mean(picture: Picture) -> float:
    return float(np.asarray(Image.open(io.BytesIO(picture.thumbnail)), np.float32).mean())


def apart(picture: Picture, wanted: np.ndarray) -> float:
    """Mean difference of a thumbnail from what it should show."""
    shown = np.asarray(Image.open(io.BytesIO(picture.thumbnail)).convert("RGB"), np.float32)
    return float(np.abs(shown - wanted.astype(np.float32)).mean())


@pytest.mark.parametrize("order", ["<", ">"])
def test_planes_of_sixteen_bits_are_read_plane_by_plane(read: Read, levels, order):
    planes = [(levels[..., c].astype(f"{order}u2") * 257).tobytes() for c in range(3)]
    data = tiff(layout(60, 40, 16, 3, 2) | {284: (3, (2,))}, planes, order)
    assert apart(read(data), levels) < 4


def test_white_is_zero_of_sixteen_bits_is_turned_over(read: Read, levels):
    grey = levels[..., 0]
    data = tiff(layout(60, 40, 16, 1, 0), [(65535 - grey.astype("<u2") * 257).tobytes()])
    assert apart(read(data), np.dstack([grey] * 3)) < 4


def test_unsigned_samples_of_32_bits_do_not_wrap(read: Read, levels):
    grey = levels[..., 0]
    data = tiff(layout(60, 40, 32, 1, 1), [(grey.astype("<u4") * 16843009).tobytes()])
    assert apart(read(data), np.dstack([grey] * 3)) < 6


def with_mask(levels: np.ndarray, mask: int) -> bytes:
    """An RGB with a fourth sample that is no alpha: a saved selection."""
    samples = np.dstack([levels, np.full(levels.shape[:2], mask, np.uint8)])
    return tiff(layout(60, 40, 8, 4, 2) | {338: (3, (0,))}, [samples.tobytes()])


def test_extra_samples_belong_to_the_content(read: Read, levels):
    plain = tiff(layout(60, 40, 8, 3, 2), [levels.tobytes()])
    contents = {read(data).content for data in (plain, with_mask(levels, 1), with_mask(levels, 9))}
    assert len(contents) == 3


def camera(kind: str) -> bytes:
    """A thumbnail in front, as cameras write it; what else says that it is raw, by kind."""
    tags = layout(16, 10, 8, 3, 2) | {254: (4, (1,))}
    if kind == "dng":
        tags |= {50706: (4, (1,))}
    elif kind == "sensor":
        tags |= {262: (3, (32803,)), 277: (3, (1,)), 258: (3, (8,))}
    return tiff(tags, [bytes(16 * 10 * 3)])


@pytest.mark.parametrize(
    ("kind", "reason"), [("dng", "raw"), ("sensor", "raw"), ("thumbnail", "thumbnail_first")]
)
def test_a_thumbnail_in_front_is_not_taken_for_the_picture(read: Read, kind, reason):
    with pytest.raises(ImageError) as caught:
        read(camera(kind))
    assert caught.value.reason == reason


def raw_with_inner(make: bytes) -> bytes:
    """A thumbnail in front, and the sensor's data in a directory below it (SubIFDs)."""
    inner = tiff(layout(32, 20, 16, 1, 32803), [bytes(32 * 20 * 2)])
    start = struct.unpack("<I", inner[4:8])[0]
    outer = tiff(layout(16, 10, 8, 3, 2) | {254: (4, (1,)), 330: (4, (0,))}, [bytes(480)])
    base = len(outer)
    # The inner file lies behind the outer one; only the photometric tag of its directory is read.
    return (
        outer.replace(
            struct.pack("<HHII", 330, 4, 1, 0), struct.pack("<HHII", 330, 4, 1, base + start)
        )
        + inner
    )


def test_sensor_data_below_the_first_directory_make_a_raw(read: Read):
    with pytest.raises(ImageError) as caught:
        read(raw_with_inner(b"NIKON"))
    assert caught.value.reason == "raw"


def pages(kind: str, *images: Image.Image) -> bytes:
    buffer = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    images[0].save(buffer, kind, save_all=True, append_images=list(images[1:]), **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_further_pages_and_frames_belong_to_the_content(read: Read, scene, kind):
    other, third = scene.rotate(180), scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    files = [pages(kind, scene, other), pages(kind, scene, third), pages(kind, scene)]
    assert len({read(data).content for data in files}) == 3
    assert read(files[0]).content == read(pages(kind, scene, other)).content


def test_one_first_page_is_a_question_and_not_exact(read: Read, photo):
    cover, one, other = photo("coffee"), photo("chelsea"), photo("astronaut")
    found = [extract_features(read(pages("TIFF", cover, page)).thumbnail) for page in (one, other)]
    answer = verify_pair(*found)
    assert answer.evidence.besides
    assert NEAR_SCORE <= answer.score < EXACT_SCORE
    alone = extract_features(read(pages("TIFF", cover)).thumbnail)
    assert verify_pair(alone, alone).score >= EXACT_SCORE


def offer(text: str) -> Image.Image:
    """White lettering beside one coloured bar, on transparency."""
    image = Image.new("RGBA", (600, 600), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((40, 440, 560, 560), fill=(20, 110, 60, 255))
    draw.text((60, 470), "members", (15, 15, 15, 255), ImageFont.load_default(60))
    draw.text((50, 120), text, (255, 255, 255, 255), ImageFont.load_default(110))
    return image


def test_white_lettering_on_transparency_is_seen(read: Read, encode):
    found = [extract_features(read(encode(offer(text))).thumbnail) for text in ("two", "nine")]
    assert verify_pair(*found).score < NEAR_SCORE
    assert verify_pair(found[0], found[0]).score >= NEAR_SCORE


def test_a_cut_out_stays_on_white(read: Read, encode, photo):
    """A photograph's highlights are no lettering: its ground stays the usual one."""
    cut = photo("coffee").resize((300, 200)).convert("RGBA")
    mask = Image.new("L", cut.size, 0)
    ImageDraw.Draw(mask).ellipse((60, 20, 240, 180), fill=255)
    cut.putalpha(mask)
    shown = Image.open(io.BytesIO(read(encode(cut)).thumbnail))
    assert min(shown.getpixel((5, 5))) > 250


def test_a_profile_counts_by_what_it_does(read: Read, encode, scene):
    """One that calls itself sRGB and swaps nothing changes nothing, whatever its name."""
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read(encode(scene, icc_profile=plain)).content == read(encode(scene)).content


def shaded(photo: Image.Image, shade: tuple[int, int, int, int]) -> Image.Image:
    """A picture on transparency above a bar of one shade."""
    layered = Image.new("RGBA", (360, 360), (0, 0, 0, 0))
    layered.paste(photo.resize((300, 200)), (30, 20))
    ImageDraw.Draw(layered).rectangle((30, 240, 330, 340), fill=shade)
    return layered


def test_transparent_pictures_are_compared_on_a_dark_ground_too(read: Read, encode, photo):
    """Black of half opacity and an opaque grey are equal on white only."""
    veil, solid = (
        shaded(photo("coffee"), (0, 0, 0, 128)),
        shaded(photo("coffee"), (127,) * 3 + (255,)),
    )
    on_white = [flatten_on(image, "white") for image in (veil, solid)]
    assert np.abs(np.subtract(*(np.asarray(image, int) for image in on_white))).max() <= 1
    one, two = (extract_features(read(encode(image)).thumbnail) for image in (veil, solid))
    answer = verify_pair(one, two)
    assert answer.score < NEAR_SCORE
    assert answer.evidence.see_through > 0.1
    small = extract_features(read(encode(veil.resize((180, 180)))).thumbnail)
    assert verify_pair(one, small).score >= NEAR_SCORE


def flatten_on(image: Image.Image, ground: str) -> Image.Image:
    under = Image.new("RGBA", image.size, ground)
    return Image.alpha_composite(under, image).convert("RGB")


def test_a_transparent_picture_and_its_flat_copy_are_near(read: Read, encode, photo):
    """The cut-out is worth more than what was made of it: no rule may merge them by themselves."""
    layered = shaded(photo("coffee"), (20, 110, 60, 255))
    pair = [
        extract_features(read(encode(image)).thumbnail)
        for image in (layered, flatten_on(layered, "white"))
    ]
    answer = verify_pair(*pair)
    assert NEAR_SCORE <= answer.score < EXACT_SCORE
    assert answer.evidence.see_through > 0.1


def test_transparency_of_a_mirrored_picture_is_mirrored_too(read: Read, encode, photo):
    cut = photo("coffee").resize((300, 200)).convert("RGBA")
    cut.putalpha(Image.linear_gradient("L").rotate(90).resize(cut.size))
    one, two = (
        extract_features(read(encode(image)).thumbnail)
        for image in (cut, cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    )
    answer = verify_pair(one, two)
    assert answer.evidence.mirrored
    assert answer.evidence.see_through < 0.01
    assert answer.score >= NEAR_SCORE
