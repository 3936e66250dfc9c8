"""Which of two copies was first, by their pixels, on drawn pictures."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations

import numpy as np
import polars as pl
import pytest
import skimage.data
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from tasks.dedup.detail import read_detail
from tasks.dedup.explain import explain_pair
from tasks.dedup.features import extract_features, use_one_thread
from tasks.dedup.groups import group_matches
from tasks.dedup.origin import PictureFacts
from tasks.dedup.verify import verify_pair
from tasks.embedding.detail import measure_detail
from tasks.embedding.images import make_thumbnail

SIZE = (400, 300)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scaled(image: Image.Image, x: float, y: float | None = None) -> Image.Image:
    size = round(image.width * x), round(image.height * (y or x))
    return image.resize(size, Image.Resampling.BICUBIC)


def padded(image: Image.Image) -> Image.Image:
    ground = Image.new("RGB", (image.width, image.width), "white")
    ground.paste(image, (0, (image.width - image.height) // 2))
    return ground


def lettered(image: Image.Image) -> Image.Image:
    edited = image.copy()
    font = ImageFont.load_default(28)
    ImageDraw.Draw(edited).text((24, 40), "Autumn collection", "white", font=font)
    return edited


def stamped(image: Image.Image) -> Image.Image:
    edited = image.copy()
    ImageDraw.Draw(edited).rounded_rectangle((285, 250, 382, 288), 8, fill="#c81e1e")
    return edited


def captioned(image: Image.Image) -> Image.Image:
    edited = Image.new("RGB", (image.width, image.height + 44), "black")
    edited.paste(image)
    font = ImageFont.load_default(26)
    ImageDraw.Draw(edited).text((12, image.height + 6), "only today", "white", font=font)
    return edited


def screen(image: Image.Image) -> Image.Image:
    """A page with bars and lines of text; the picture stands in its middle, a little reduced."""
    page = Image.new("RGB", (500, 440), "#ffffff")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    draw.rectangle((0, 0, 500, 40), fill="#dee1e6")
    for line in range(5):
        draw.text((10, 60 + 70 * line), "Folder, size 38, in stock", "#202124", font=font)
    page.paste(scaled(image, 0.9), (115, 90))
    return page


EDITS = {
    "border": lambda image: ImageOps.expand(image, 16, "white"),
    "padding": padded,
    "caption": captioned,
    "screen": screen,
    "crop": lambda image: image.crop((56, 18, 375, 268)),
    "upscale": lambda image: scaled(image, 1.7),
    "half": lambda image: scaled(image, 0.5),
    "stretch": lambda image: scaled(image, 1.2, 1.0),
    "text": lettered,
    "logo": stamped,
    "turn": lambda image: image.rotate(3, Image.Resampling.BICUBIC, fillcolor="white"),
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "grey": lambda image: image.convert("L").convert("RGB"),
}
TRACELESS = {
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "mirrored": ImageOps.mirror,
    "quarter turn": lambda image: image.transpose(Image.Transpose.ROTATE_90),
}


@pytest.fixture(scope="module")
def original(photo) -> Image.Image:
    use_one_thread()
    return jpeg(photo(41, *SIZE), 85)


def facts(image: Image.Image) -> PictureFacts:
    """The same bytes and format for all: encoding gives nothing away."""
    return PictureFacts(image.width, image.height, 100_000, "webp")


def told(left: Image.Image, right: Image.Image):
    known = [extract_features(make_thumbnail(image)) for image in (left, right)]
    evidence = verify_pair(*known).evidence
    assert evidence is not None
    return explain_pair(evidence, facts(left), facts(right))


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_told_from_its_original(original, name):
    edited = jpeg(EDITS[name](original), 92)  # saved better than the original was
    said = told(original, edited)
    assert said.original == "left", said
    if name in ("border", "padding", "caption", "screen", "upscale"):
        assert "shows more of the picture" not in said.reasons
        assert not any("higher resolution" in reason for reason in said.reasons)


@pytest.mark.parametrize("name", TRACELESS)
def test_of_what_leaves_no_trace_nothing_is_told(original, name):
    quality = 95 if name in ("darker", "mirrored") else 70
    assert told(original, jpeg(TRACELESS[name](original), quality)).original == "either"


@pytest.mark.long
def test_a_group_keeps_the_original_of_all(original):
    """Three of the copies have more pixels than the original, and match one another too."""
    files = {"o": original} | {
        name[0] + name: jpeg(EDITS[name](original), 90)
        for name in ("border", "upscale", "text", "caption")
    }
    known = {name: extract_features(make_thumbnail(image)) for name, image in files.items()}
    rows = []
    for one, two in combinations(sorted(files), 2):
        answer = verify_pair(known[one], known[two])
        if answer.evidence is not None:
            rows.append((one, two, answer.score, answer.evidence.as_json()))
    columns = {"left": pl.String, "right": pl.String, "score": pl.Float64, "evidence": pl.String}
    assets = pl.DataFrame(
        [
            {
                "asset_id": name,
                "key": name,
                "source": "s",
                "content": name,
                "width": image.width,
                "height": image.height,
                "format": "jpeg",
                "size": image.width * image.height,
                "last_modified": datetime(2026, 1, 1, tzinfo=UTC),
            }
            for name, image in files.items()
        ]
    )
    matches = pl.DataFrame(rows, schema=columns, orient="row")
    members = group_matches(assets, matches)
    assert members["group_id"].n_unique() == 1
    assert members.filter(role="keeper")["asset_id"].to_list() == ["o"]
    assert members.height == len(files)
    blind = group_matches(assets, matches.drop("evidence"))
    assert blind.filter(role="keeper")["asset_id"].to_list() != ["o"]


def test_detail_tells_an_upscale_from_what_it_was_made_of(original):
    before, after = (
        read_detail(measure_detail(image)) for image in (original, scaled(original, 2.0))
    )
    assert (after.width, after.height) == (800, 600)
    for along in (0, 1):
        fine = before.along[along][-8:].mean() - after.along[along][-8:].mean()
        coarse = before.along[along][1:3].mean() - after.along[along][1:3].mean()
        assert fine > coarse + 2, "its finest quarter is empty"


def test_detail_is_of_the_content_alone(original):
    assert measure_detail(original) == measure_detail(original.copy())
    wide, high = (Image.fromarray(np.zeros(shape, np.uint8)) for shape in ((8, 900), (900, 8)))
    for image in (wide, high):
        assert read_detail(measure_detail(image)) is None, "too narrow to be measured"


@pytest.mark.parametrize(
    "text",
    ["", "1x1", "1x1 00", "axb " + "11" * 64, "0x9 " + "11" * 64, "9x9 " + "zz" * 64, "²x9 00"],
)
def test_detail_that_nobody_measured_is_none(text):
    assert read_detail(text) is None


def test_without_detail_a_larger_picture_is_not_taken_for_the_original(original):
    """Of files that an older release read, nothing tells an upscale from an original."""
    known = [
        replace(extract_features(make_thumbnail(image)), detail="")
        for image in (original, scaled(original, 2.0))
    ]
    evidence = verify_pair(*known).evidence
    assert evidence is not None
    assert (
        explain_pair(evidence, facts(original), facts(scaled(original, 2.0))).original == "either"
    )


def test_on_texture_everywhere_the_label_is_what_was_laid_over():
    """Grass is steeper than any label, and unlike what it is filled with: it is no ink for that."""
    grass = Image.fromarray(skimage.data.grass()).convert("RGB")
    marked = grass.copy()
    draw = ImageDraw.Draw(marked)
    draw.rectangle((358, 440, 496, 491), fill=(190, 30, 40))
    draw.text((366, 448), "AGENCY", "white", ImageFont.load_default(20))
    sides = [extract_features(make_thumbnail(one)) for one in (grass, jpeg(marked, 90))]
    evidence = verify_pair(*sides).evidence
    facts = [PictureFacts(512, 512, 400_000, "png"), PictureFacts(512, 512, 130_000, "jpeg", 90)]
    assert explain_pair(evidence, *facts).original == "left"


@pytest.mark.parametrize("pad", [4, 8])
@pytest.mark.parametrize("print_", ["brick", "gravel", "grass"])
def test_a_logo_in_a_plain_gap_of_a_print_is_what_was_laid_over(photo, print_, pad):
    """It is as steep as the print around it, and the gap is not; but the gap has no ink."""
    image = photo(50, *SIZE)
    image.paste(Image.fromarray(getattr(skimage.data, print_)()).crop((0, 0, 150, 90)), (230, 200))
    x, y = 260, 230
    gap = (x - pad, y - pad, x + 70 + pad, y + 32 + pad)
    ImageDraw.Draw(image).rectangle(gap, fill="#d8d2c4")
    image = jpeg(image, 88)
    edited = image.copy()
    draw = ImageDraw.Draw(edited)
    draw.ellipse((x, y, x + 32, y + 32), fill="#1e50c8", outline="white")
    draw.text((x + 8, y + 4), "N", fill="white", font=ImageFont.load_default(20))
    said = told(image, jpeg(edited, 92))
    assert said.original == "left", said


@pytest.mark.parametrize("share", [0.5, 0.7])
@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_what_was_reduced_and_sharpened_is_not_the_original(name, share):
    """It has more at its fine end than its original has there, and in the middle as well."""
    image = jpeg(scaled(Image.fromarray(getattr(skimage.data, name)()), 0.6), 85)
    small = scaled(image, share).filter(ImageFilter.UnsharpMask(1, 60, 2))
    assert told(image, jpeg(small, 90)).original != "right"


def test_a_part_of_grass_is_a_part_and_not_framed():
    """Two lines of grass are never alike, inside as little as across the edge of a part."""
    grass = Image.fromarray(skimage.data.grass()).convert("RGB").crop((0, 0, 384, 384))
    said = told(jpeg(grass, 80), jpeg(grass.crop((60, 50, 310, 330)), 90))
    assert said.original == "left"
    assert "shows more of the picture" in said.reasons
