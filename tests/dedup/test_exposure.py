"""Exposure and cloth: what clips, stays white or is plain, and is neither ink, variant nor page."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tasks.dedup.differences import DIFFERS, find_difference, is_page
from tasks.dedup.recolour import recoloured
from tasks.dedup.residual import measure_residual
from tasks.dedup.verify import NEAR_SCORE, RECOLOURED, calibration, verify_pair

ALL = np.ones((240, 320), dtype=bool)


def exposed(image: Image.Image, gain: float) -> Image.Image:
    return image.point([min(255, round(value * gain)) for value in range(256)] * 3)


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), np.float32)


def shirt(colour: int, ground: int = 254, grain: float = 0.0) -> Image.Image:
    """A thing of one grey on a ground of another, both with some grain."""
    image = Image.new("L", (320, 240), ground)
    ImageDraw.Draw(image).polygon([(60, 40), (260, 40), (230, 210), (90, 210)], fill=colour)
    noise = np.random.default_rng(3).normal(size=(240, 320)) * grain
    levels = np.clip(np.asarray(image, np.float32) + noise, 0, 255)
    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize("turned", [False, True])
def test_what_clipping_took_is_no_difference(photo, turned):
    light = exposed(photo(4).convert("L").convert("RGB"), 1.1)
    sides = [grey(light), grey(exposed(light, 1.5))]
    residual = measure_residual(*(sides[::-1] if turned else sides), ALL)
    assert residual.excess.max() <= DIFFERS


@pytest.mark.parametrize("turned", [False, True])
def test_ink_on_a_clipped_place_is_a_difference(turned):
    plain = shirt(90, grain=2.0)
    inked = exposed(plain, 1.3)
    ImageDraw.Draw(inked).text((10, 5), "North", "black", ImageFont.load_default(24))
    sides = [grey(plain), grey(inked)]
    residual = measure_residual(*(sides[::-1] if turned else sides), ALL)
    row, column = np.unravel_index(residual.excess.argmax(), residual.excess.shape)
    assert residual.excess.max() > 2 * DIFFERS
    assert (row < 40, column < 90) == (True, True)


@pytest.mark.parametrize("gain", [1.25, 1.6])
def test_a_lighter_exposure_leaves_a_white_ground_white_and_is_no_variant(gain):
    one, other = shirt(110), exposed(shirt(110), gain)
    sides = np.asarray(one), np.asarray(other)
    assert recoloured(*sides, ALL) < RECOLOURED
    assert recoloured(*sides[::-1], ALL) < RECOLOURED


def test_a_thing_of_another_colour_on_white_is_a_variant():
    sides = np.asarray(shirt(30)), np.asarray(shirt(150))
    assert recoloured(*sides, ALL) > RECOLOURED


def test_a_darker_thing_whose_inside_kept_its_tone_is_a_variant():
    """A black mug and a grey one hold the same tea."""
    ways = []
    for colour in (23, 48):
        image = shirt(colour)
        ImageDraw.Draw(image).ellipse((120, 45, 220, 75), fill="#8c8c8c")
        ways.append(np.asarray(image))
    assert recoloured(*ways, ALL) > RECOLOURED
    assert recoloured(*ways[::-1], ALL) > RECOLOURED


def test_a_band_across_a_picture_is_no_thing():
    banner = shirt(110).copy()
    ImageDraw.Draw(banner).rectangle((0, 170, 320, 240), fill="#101010")
    assert recoloured(np.asarray(shirt(110)), np.asarray(banner), ALL) < RECOLOURED


def test_cloth_on_a_plain_ground_is_no_page():
    assert is_page(grey(shirt(60, 210)), ALL), "flat: drawn"
    assert not is_page(grey(shirt(60, 210, grain=4.0)), ALL)


def test_a_caption_over_folds_of_cloth_is_ink_of_one_side_only():
    folds = np.tile(128 + 19 * np.sin(np.arange(320) * np.pi / 10), (240, 1)).astype(np.uint8)
    cloth = Image.fromarray(folds).convert("RGB")
    captioned = cloth.copy()
    ImageDraw.Draw(captioned).text((60, 100), "SALE", "black", ImageFont.load_default(30))
    sides = grey(cloth), grey(captioned)
    found = find_difference(*sides, measure_residual(*sides, ALL))
    assert found.kind == "right"


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("gain", [1.5, 2.0])
def test_what_clips_in_one_channel_is_no_other_colour(known, turned, gain):
    """Skin and orange lose their red first: a stop more, and half of it has another hue."""
    random = np.random.default_rng(7)
    image = Image.new("RGB", (320, 240), (60, 44, 34))
    draw = ImageDraw.Draw(image)
    for _ in range(160):
        x, y = random.uniform(0, 320), random.uniform(0, 240)
        light = random.uniform(0.3, 1.0)
        colour = tuple(round(light * value) for value in (235, 140, 60))
        draw.ellipse((x, y, x + random.uniform(8, 40), y + random.uniform(8, 40)), fill=colour)
    # Grain, as a photograph has: without it this is a flat design, which nobody exposes anew.
    grain = random.normal(0, 2, (240, 320, 1))
    image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
    sides = [known(image), known(exposed(image, gain))]
    answer = verify_pair(*(sides[::-1] if turned else sides))
    assert answer.score >= NEAR_SCORE
    assert answer.evidence.hue_error < calibration().hue_error


@pytest.mark.parametrize("colours", [("#ff0000", "#ffff00"), ("#ff0000", "#0000c8")])
def test_another_pure_colour_is_no_exposure(known, photo, colours):
    ways = []
    for colour in colours:
        image = photo(8).point(lambda value: value // 2 + 60)
        ImageDraw.Draw(image).ellipse((60, 30, 260, 210), fill=colour)
        ways.append(known(image))
    assert verify_pair(*ways).score < NEAR_SCORE


@pytest.mark.parametrize("size", [24, 26, 28, 30])
def test_one_word_in_a_bubble_is_another_message(known, size):
    """A word of small letters covers its ground as a label does: it is read all the same."""
    font = ImageFont.load_default(size)
    said = []
    for word in ("five", "nine"):
        image = Image.new("RGB", (720, 1280), "#e8e2d8")
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 0, 720, 110), fill="#205060")
        texts = [
            "Are you coming?",
            "Yes, by train",
            f"I am there at {word}",
            "Good",
            "With the papers",
        ]
        for row, text in enumerate(texts):
            wide, top = int(draw.textlength(text, font=font)) + 40, 150 + 90 * row
            left = 690 - wide if row % 2 else 30
            draw.rounded_rectangle((left, top, left + wide, top + 64), 16, fill="#ffffff")
            draw.text((left + 20, top + 14), text, "#141414", font)
        said.append(known(image))
    assert verify_pair(*said).score < NEAR_SCORE
