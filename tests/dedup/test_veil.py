"""Tiled watermarks, and black beside coloured cloth: what explains a pair, and what does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tasks.dedup.explain import PictureFacts, explain_pair
from tasks.dedup.recolour import recoloured
from tasks.dedup.verify import EXACT_SCORE, NEAR_SCORE, RECOLOURED, verify_pair

ALL = np.ones((240, 320), dtype=bool)


def watermarked(image: Image.Image, opacity: float, text: str = "NORDA") -> Image.Image:
    """A word in white, turned and repeated all over the picture."""
    layer = Image.new("RGBA", image.size, (255, 255, 255, 0))
    draw, font = ImageDraw.Draw(layer), ImageFont.load_default(22)
    wide = draw.textlength(text, font=font)
    for row, y in enumerate(range(-240, 480, 52)):
        for x in range(-320, 640, round(wide * 1.5)):
            place = (x + row % 2 * wide * 0.7, y)
            draw.text(place, text, font=font, fill=(255, 255, 255, round(255 * opacity)))
    return Image.alpha_composite(image.convert("RGBA"), layer.rotate(30)).convert("RGB")


@pytest.mark.parametrize("opacity", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("turned", [False, True])
def test_a_tiled_watermark_leaves_a_copy(photo, known, opacity, turned):
    sides = [known(photo(5)), known(watermarked(photo(5), opacity))]
    answer = verify_pair(*(sides[::-1] if turned else sides))
    assert NEAR_SCORE <= answer.score < EXACT_SCORE


def test_a_half_size_preview_under_a_watermark_is_a_copy(photo, known):
    preview = watermarked(photo(6), 0.6).resize((200, 150))
    answer = verify_pair(known(photo(6)), known(preview))
    assert answer.score >= NEAR_SCORE
    assert answer.evidence.scale == pytest.approx(200 / 320, rel=0.02)


def test_two_watermarks_over_one_picture_leave_two_copies(photo, known):
    one = watermarked(photo(5), 0.5)
    other = watermarked(photo(5).transpose(Image.Transpose.ROTATE_180), 0.7, "studio")
    answer = verify_pair(known(one), known(other.transpose(Image.Transpose.ROTATE_180)))
    assert answer.score >= NEAR_SCORE


def test_the_picture_without_the_watermark_is_the_original(photo, known):
    facts = PictureFacts(320, 240, 50_000, "jpeg", 88)
    answer = verify_pair(known(photo(5)), known(watermarked(photo(5), 0.7)))
    told = explain_pair(answer.evidence, facts, facts)
    assert (told.original, told.reasons) == ("left", ("without the watermark",))
    assert "watermark" in told.changes


def test_at_night_white_strokes_lie_over_the_picture_that_has_them(known):
    """There a white veil taken off one side looks like a black one that lies over the other."""
    rng = np.random.default_rng(1)
    sky = np.linspace(8, 46, 240)[:, None] + rng.normal(0, 2, (240, 320))
    night = np.dstack([sky, sky, 1.2 * sky])
    down, across = np.mgrid[:240, :320]
    for x, y, size in rng.integers((0, 120, 3), (320, 240, 14), (14, 3)):
        glow = np.exp(-((across - x) ** 2 + (down - y) ** 2) / size**2)
        night += glow[..., None] * rng.integers(60, 255, 3)
    bare = Image.fromarray(np.clip(night, 0, 255).astype(np.uint8))
    veiled = known(watermarked(bare, 0.4))
    for turned, sides in (("right", (known(bare), veiled)), ("left", (veiled, known(bare)))):
        answer = verify_pair(*sides)
        assert answer.score >= NEAR_SCORE
        assert answer.evidence.veiled == turned


def test_another_picture_under_the_same_watermark_is_another(photo, known):
    for opacity in (0.5, 0.7):
        one, other = (known(watermarked(photo(seed), opacity)) for seed in (5, 7))
        assert verify_pair(one, other).score < NEAR_SCORE
        assert verify_pair(known(photo(7)), one).score < NEAR_SCORE


def test_cloth_in_another_colourway_is_under_no_veil(known: Callable):
    """A motif all over the cloth that is of another colour is another product."""
    ways = []
    for motif in ("#c04030", "#f0e8e0"):
        cloth = Image.new("RGB", (320, 240), "#203050")
        draw = ImageDraw.Draw(cloth)
        for row in range(9):
            for column in range(12):
                x, y = column * 28 + row % 2 * 14, row * 28
                draw.ellipse((x, y, x + 10, y + 10), fill=motif)
                draw.line((x, y + 14, x + 16, y + 20), fill=motif, width=3)
        ways.append(known(cloth))
    assert verify_pair(*ways).score < NEAR_SCORE


def shirt(colour: tuple[int, int, int]) -> np.ndarray:
    image = Image.new("RGB", (320, 240), "white")
    draw = ImageDraw.Draw(image)
    draw.polygon([(60, 40), (260, 40), (230, 210), (90, 210)], fill=colour)
    folds = tuple(round(value * 0.8) for value in colour)
    for x in range(100, 220, 24):
        draw.line((x, 60, x - 8, 200), fill=folds, width=5)
    return np.asarray(image)


@pytest.mark.parametrize("black", [(28, 28, 30), (31, 29, 28), (20, 20, 20)])
@pytest.mark.parametrize("dark", [(24, 30, 66), (60, 18, 24), (16, 44, 26)])
def test_black_is_no_dark_colour_made_grey(black, dark):
    assert recoloured(shirt(black), shirt(dark), ALL) > RECOLOURED
    assert recoloured(shirt(dark), shirt(black), ALL) > RECOLOURED


@pytest.mark.parametrize("way", ["luma", "mean", "lightness"])
@pytest.mark.parametrize("colour", [(24, 30, 66), (190, 30, 40), (30, 130, 70)])
def test_what_was_made_grey_is_no_variant(way, colour):
    coloured = shirt(colour).astype(np.float64)
    grey = {
        "luma": coloured @ [0.299, 0.587, 0.114],
        "mean": coloured.mean(axis=2),
        "lightness": (coloured.max(axis=2) + coloured.min(axis=2)) / 2,
    }[way]
    made = np.dstack([np.rint(grey).astype(np.uint8)] * 3)
    assert recoloured(shirt(colour), made, ALL) < RECOLOURED
