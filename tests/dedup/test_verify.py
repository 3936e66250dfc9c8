"""Is it one picture? Scores and tiers of pairs of which it is known."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from deployments.bench.ladder import LADDER
from tasks.dedup.evidence import Evidence
from tasks.dedup.features import Features
from tasks.dedup.verify import (
    EXACT_SCORE,
    NEAR_SCORE,
    Verified,
    calibration,
    rule_id,
    tier_of,
    tiers_of,
    verify_pair,
)
from tasks.records import Tier

EDITS = {edit.name: edit for edit in LADDER}
EXACT = ["webp", "jpeg-q20", "scale-50", "scale-200"]
NEAR = ["crop-75", "border", "brighter", "greyscale", "text", "saturation"]
HARD = ["mirror", "rotate-90", "watermark", "screenshot"]
#: Photographs that scikit-image brings without a download.
PHOTOGRAPHS = ("coffee", "chelsea")


def photograph(name: str) -> Image.Image:
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(getattr(data, name)()[..., :3])


def both_ways(left: Features, right: Features) -> Verified:
    """The pair's answer, after a look that it does not depend on the order of its sides."""
    one, other = verify_pair(left, right), verify_pair(right, left)
    assert tier_of(one.score) is tier_of(other.score)
    assert one.score == pytest.approx(other.score, abs=0.05)
    return one


def at_best(left: Features, right: Features) -> float:
    """The better score of both orders of a pair that must not be called a copy."""
    return max(verify_pair(left, right).score, verify_pair(right, left).score)


@pytest.fixture
def edited(known) -> Callable[[Image.Image, str], Verified]:
    def ask(image: Image.Image, name: str) -> Verified:
        return both_ways(known(image), known(EDITS[name].bytes_of(image, random.Random(5))))

    return ask


@pytest.mark.parametrize(("name", "seed"), [(name, n % 2) for n, name in enumerate(EXACT)])
def test_encoded_anew_is_exact(photo, edited, name, seed):
    answer = edited(photo(seed), name)
    assert EXACT_SCORE <= answer.score < 1


@pytest.mark.parametrize(("name", "seed"), [(name, n % 3) for n, name in enumerate(NEAR + HARD)])
def test_edits_are_copies(photo, edited, name, seed):
    answer = edited(photo(seed), name)
    assert answer.score >= NEAR_SCORE
    assert name == "saturation" or answer.score < EXACT_SCORE
    assert answer.evidence.mirrored == (name == "mirror")
    assert (answer.evidence.saturation < 0.08) == (name == "greyscale")


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("jpeg-q20", "coffee"),
        ("crop-75", "chelsea"),
        ("rotate-90", "coffee"),
        ("watermark", "chelsea"),
    ],
)
def test_edits_of_photographs_are_copies(edited, name, which):
    assert edited(photograph(which), name).score >= (EXACT_SCORE if name in EXACT else NEAR_SCORE)


def test_greyscale_of_a_colourful_photograph(edited):
    assert edited(photograph("astronaut"), "greyscale").score >= NEAR_SCORE


def test_equal_bytes_are_exact(photo, known):
    assert both_ways(known(photo(0)), known(photo(0))).score >= EXACT_SCORE


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 2), (2, 0)])
def test_another_picture_is_none(photo, known, one, other):
    assert at_best(known(photo(one)), known(photo(other))) < 0.5


def test_other_photographs_are_none(known):
    one, other = map(photograph, PHOTOGRAPHS)
    assert at_best(known(one), known(other)) < 0.5


def shot(ground: Image.Image, figure: Image.Image, at: float) -> Image.Image:
    """A figure before a background, seen ``at`` pixels from the middle."""
    width, height = ground.size
    image = ground.transform(
        ground.size, Image.Transform.AFFINE, (0.85, 0, 0.075 * width + at / 3, 0, 0.85, 10)
    )
    mask = Image.new("L", ground.size, 0)
    ImageDraw.Draw(mask).ellipse((width * 0.28, height * 0.1, width * 0.72, height), fill=255)
    image.paste(figure, (round(at), 0), mask)
    return image


@pytest.mark.parametrize(("seed", "shift"), [(0, 9), (1, 24), (2, 40)])
def test_another_viewpoint_is_no_copy(photo, known, seed, shift):
    ground, figure = photo(seed), photo(seed + 10)
    pair = [known(shot(ground, figure, at)) for at in (-shift / 2, shift / 2)]
    assert at_best(*pair) < NEAR_SCORE


def with_object(ground: Image.Image, figure: Image.Image, x: float, y: float) -> Image.Image:
    width, height = ground.size
    size = round(width * 0.3), round(height * 0.36)
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).ellipse((0, 0, *size), fill=255)
    image = ground.copy()
    image.paste(figure.resize(size), (round(x * width), round(y * height)), mask)
    return image


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("places", [((0.1, 0.3), (0.55, 0.4)), ((0.3, 0.3), (0.324, 0.3))])
def test_a_moved_object_is_no_copy(photo, known, seed, places):
    ground, figure = photo(seed), photo(seed + 10)
    pair = [known(with_object(ground, figure, *place)) for place in places]
    assert at_best(*pair) < NEAR_SCORE


def recoloured(image: Image.Image, hue: int) -> Image.Image:
    """The middle of the picture in one colour, its light and shade kept."""
    hsv = np.asarray(image.convert("HSV")).copy()
    height, width = hsv.shape[:2]
    part = hsv[height // 5 : -height // 10, width * 3 // 10 : width * 7 // 10]
    part[..., 0] = hue
    part[..., 1] = np.maximum(part[..., 1], 140)
    return Image.fromarray(hsv, "HSV").convert("RGB")


def garment(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """A shirt on white, with the picture's texture."""
    width, height = image.size
    cloth = np.asarray(image.convert("L"), np.float32)[..., None] / 255 * 0.6 + 0.5
    shirt = Image.fromarray(np.clip(cloth * colour, 0, 255).astype(np.uint8))
    outline = [
        (0.2, 0.2),
        (0.4, 0.1),
        (0.6, 0.1),
        (0.8, 0.2),
        (0.75, 0.45),
        (0.66, 0.4),
        (0.66, 0.95),
        (0.34, 0.95),
        (0.34, 0.4),
        (0.25, 0.45),
    ]
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).polygon([(x * width, y * height) for x, y in outline], fill=255)
    page = Image.new("RGB", image.size, (240, 240, 238))
    page.paste(shirt, (0, 0), mask)
    return page


@pytest.mark.parametrize("seed", range(3))
def test_another_colour_of_a_part_is_no_copy(photo, known, seed):
    pair = known(recoloured(photo(seed), 0)), known(recoloured(photo(seed), 150))
    assert at_best(*pair) < NEAR_SCORE


@pytest.mark.parametrize(
    ("seed", "colour"), [(0, (60, 80, 180)), (1, (70, 150, 80))], ids=["blue", "green"]
)
def test_another_colour_of_a_garment_on_white_is_no_copy(photo, known, seed, colour):
    pair = known(garment(photo(seed), (180, 60, 60))), known(garment(photo(seed), colour))
    assert at_best(*pair) < NEAR_SCORE


def page(seed: int) -> Image.Image:
    words = ["lorem", "ipsum", "dolor", "sit", "amet", "elit", "sed", "do", "tempor", "ut", "magna"]
    rng = random.Random(seed)
    image = Image.new("RGB", (300, 384), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(11)
    draw.text((20, 14), "North Agency: terms", fill="black", font=ImageFont.load_default(16))
    for line in range(23):
        text = " ".join(rng.choice(words) for _ in range(12))[:44]
        draw.text((20, 44 + 14 * line), text, fill="black", font=font)
    return image


@pytest.mark.parametrize("seed", range(2))
def test_other_text_in_one_layout_is_no_copy(known, seed):
    pair = known(page(seed)), known(page(seed + 10))
    assert at_best(*pair) < NEAR_SCORE


def test_a_page_scaled_down_is_a_copy(known):
    assert both_ways(known(page(0)), known(page(0).resize((225, 288)))).score >= NEAR_SCORE


@pytest.mark.parametrize("colour", ["#c81e1e", "black", "white", "#7f7f7f"])
def test_equal_flat_colours_are_exact(known, colour):
    one, other = (Image.new("RGB", size, colour) for size in ((300, 200), (150, 100)))
    answer = both_ways(known(one), known(other))
    assert answer.score >= EXACT_SCORE
    assert answer.evidence is None


@pytest.mark.parametrize(
    ("one", "other", "size"),
    [
        ("#c81e1e", "#b81e1e", (300, 200)),
        ("black", "white", (300, 200)),
        ("#c81e1e", "#c81e1e", (200, 200)),  # of another shape
    ],
)
def test_other_flat_pictures_are_none(known, one, other, size):
    pair = known(Image.new("RGB", (300, 200), one)), known(Image.new("RGB", size, other))
    assert both_ways(*pair).score == 0


@pytest.mark.parametrize("name", ["crop-75", "screenshot", "mirror"])
def test_a_pair_has_one_score(photo, known, name):
    def ask() -> Verified:
        copy = EDITS[name].bytes_of(photo(0), random.Random(5))
        return verify_pair(known(photo(0)), known(copy))

    assert ask() == ask()


def test_the_geometry_of_a_crop_is_known(photo, known):
    image = photo(0)
    answer = both_ways(known(image), known(image.crop((80, 60, 272, 204))))
    found = answer.evidence
    assert found.box_left == pytest.approx((0.25, 0.25, 0.85, 0.85), abs=0.01)
    assert found.box_right == pytest.approx((0, 0, 1, 1), abs=0.01)
    assert found.share_left == pytest.approx(0.36, abs=0.01)
    assert found.share_right == pytest.approx(1, abs=0.01)
    assert found.scale == pytest.approx(1, abs=0.01)


def on_ground(photo: Callable[..., Image.Image], thing: Image.Image) -> Image.Image:
    """A thing that takes a fifth of the area, before the ground of all of them."""
    ground, mask = photo(1).copy(), Image.new("L", (320, 240))
    ImageDraw.Draw(mask).ellipse((91, 70, 229, 210), fill=255)
    ground.paste(thing, (0, 0), mask)
    return ground


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_another_thing_on_the_same_ground_is_no_copy(photo, known, seed):
    one = known(on_ground(photo, photo(seed)))
    two = known(on_ground(photo, photo(seed + 10)))
    answer = verify_pair(one, two)
    assert answer.evidence.replaced > 0.13
    assert 0.5 <= answer.score < NEAR_SCORE, "the same scene, and told apart from copies"


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_another_picture_in_the_same_template_is_no_copy(photo, known, seed):
    filled = []
    for of in (seed, seed + 10):
        template = photo(1).copy()
        template.paste(photo(of).crop((90, 60, 230, 190)), (90, 60))
        filled.append(known(template))
    assert verify_pair(*filled).score < NEAR_SCORE


def with_banner(image: Image.Image, *, top: bool) -> Image.Image:
    """Above or below a picture, a third of what comes of it: letters on black."""
    wide, high = image.size
    whole = Image.new("RGB", (wide, high * 3 // 2), "#111111")
    whole.paste(image, (0, high // 2 if top else 0))
    font = ImageFont.load_default(high // 8)
    letters = ImageDraw.Draw(whole)
    letters.text((12, 12 if top else high + 12), "ONLY TODAY -30%", fill="#e03030", font=font)
    return whole


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_one_banner_on_two_pictures_is_no_copy(photo, known, seed):
    one = known(with_banner(photo(seed), top=True))
    two = known(with_banner(photo(seed + 10), top=False))
    answer = verify_pair(one, two)
    assert answer.evidence.ink > 0.25
    assert max(answer.evidence.share_left, answer.evidence.share_right) == pytest.approx(
        1 / 3, abs=0.04
    )
    assert answer.score < NEAR_SCORE
    assert verify_pair(one, known(photo(seed))).score >= NEAR_SCORE, "of its own picture it is one"


def on_page(picture: Image.Image) -> Image.Image:
    """A page that is half text and half picture; the picture is a thing on a plain ground."""
    page = Image.new("RGB", (320, 400), "white")
    font, write = ImageFont.load_default(13), ImageDraw.Draw(page)
    for line in range(12):
        write.text(
            (8, 6 + 16 * line), "Sizes 36 to 44, all colours, in stock"[line:], "black", font
        )
    page.paste(picture.resize((320, 200)), (0, 200))
    return page


def plain(photo: Callable[..., Image.Image], seed: int, ground: str, at: int) -> Image.Image:
    """A thing that takes a tenth of a picture without other texture."""
    picture = Image.new("RGB", (320, 240), ground)
    picture.paste(photo(seed).crop((0, 0, 90, 100)), (at, 70))
    return picture


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_another_plain_picture_on_the_same_page_is_no_copy(photo, known, seed):
    one = known(on_page(plain(photo, seed, "#e8dccc", 40)))
    two = known(on_page(plain(photo, seed + 10, "#a0b0c0", 170)))
    answer = verify_pair(one, two)
    assert answer.evidence.replaced < 0.13, "else the older measure tells"
    assert answer.evidence.changed > 0.29
    assert 0.5 <= answer.score < NEAR_SCORE


@pytest.mark.parametrize("seed", [0, 1])
def test_a_plain_band_over_a_third_leaves_a_copy(photo, known, seed):
    image = photo(seed).copy()
    ImageDraw.Draw(image).rectangle((0, 164, 320, 240), fill="#202020")
    answer = verify_pair(known(photo(seed)), known(image))
    assert answer.evidence.changed > 0.29
    assert answer.score >= NEAR_SCORE, "one side has nothing of its own there"


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_what_is_laid_over_leaves_a_copy(photo, known, seed):
    one = known(on_ground(photo, photo(seed)))
    two = known(on_ground(photo, Image.new("RGB", (320, 240), "#c02020")))
    answer = verify_pair(one, two)
    assert answer.evidence.replaced < 0.13
    assert answer.score >= NEAR_SCORE


@pytest.mark.parametrize("place", [(0.1, 0.1), (0.75, 0.8)])
def test_what_covers_is_found_in_its_place(photo, known, place):
    image = photo(1).copy()
    x, y = place[0] * 320, place[1] * 240
    ImageDraw.Draw(image).rectangle((x, y, x + 50, y + 36), fill="#202020")
    found = verify_pair(known(photo(1)), known(image)).evidence
    assert found.covered == pytest.approx(50 * 36 / 320 / 240, rel=1)
    assert found.covered_at == pytest.approx(((x + 25) / 320, (y + 18) / 240), abs=0.04)


def test_evidence_survives_storage(photo, known):
    copy = known(EDITS["crop-dark-logo"].bytes_of(photo(0), random.Random(1)))
    found = verify_pair(known(photo(0)), copy).evidence
    text = found.as_json()
    assert Evidence.from_json(text).as_json() == text
    again = Evidence.from_json(text)
    for name in Evidence.__dataclass_fields__:
        value = getattr(found, name)
        rounded = value if isinstance(value, (str, bool)) else pytest.approx(value, abs=5e-5)
        assert getattr(again, name) == rounded, name
    assert isinstance(again.box_left, tuple)


def test_evidence_of_before_is_read(photo, known):
    written = json.loads(verify_pair(known(photo(0)), known(photo(0))).evidence.as_json())
    del written["replaced"]
    assert Evidence.from_json(json.dumps(written)).replaced == 0


@given(low=st.floats(0, 1), high=st.floats(0, 1))
def test_tiers_rise_with_the_score(low, high):
    order = [Tier.SIMILAR, Tier.NEAR, Tier.EXACT]
    low, high = sorted((low, high))
    assert order.index(tier_of(low)) <= order.index(tier_of(high))


@pytest.mark.parametrize(
    ("measured", "same", "tier"),
    [
        (0.2, True, Tier.EXACT),
        (0.999, False, Tier.EXACT),
        (float(np.float32(0.95)), False, Tier.EXACT),
        (0.949, False, Tier.NEAR),
        (float(np.float32(0.7)), False, Tier.NEAR),
        (0.69, False, Tier.SIMILAR),
        (0.5, False, Tier.SIMILAR),
    ],
)
def test_tiers(measured, same, tier):
    assert tier_of(measured, same_pixels=same) is tier


def test_tiers_of_many():
    assert tiers_of([0.999, 0.7, 0.5, 0.49, 0.0]) == ["exact", "near", "similar", "", ""]
    assert tiers_of([0.2, 0.2], [True, False]) == ["exact", ""]
    assert tiers_of([]) == []


def test_another_calibration_is_another_rule(monkeypatch):
    known = calibration()
    before = rule_id()
    other = type(known)("other", known.copy, known.copy_at, known.exact, known.near, 9.0)
    monkeypatch.setattr("tasks.dedup.verify.calibration", lambda: other)
    assert rule_id() != before


def test_a_tiny_view_that_only_overlaps_is_no_copy(photo, known):
    """Two views of one scene, one of them in 90 pixels: no parallax can be seen there."""
    scene = photo(3, 400, 300)
    left = scene.crop((0, 0, 320, 240))
    right = scene.crop((60, 40, 380, 280)).resize((90, 68))
    assert at_best(known(left), known(right)) < NEAR_SCORE
    whole = left.resize((90, 68))
    assert at_best(known(left), known(whole)) >= NEAR_SCORE
