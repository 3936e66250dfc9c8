"""What differs at one place: a number on a page, a logo on a photograph, another colour, focus."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from deployments.bench.filled_families import FILLED_FAMILIES
from tasks.dedup.differences import is_page
from tasks.dedup.evidence import Evidence
from tasks.dedup.explain import explain_pair
from tasks.dedup.features import Features
from tasks.dedup.origin import PictureFacts
from tasks.dedup.proof import prove
from tasks.dedup.verify import (
    EXACT_SCORE,
    NEAR_SCORE,
    SIMILAR_SCORE,
    reads_differently,
    verify_pair,
)

Known = Callable[..., Features]
FILE = PictureFacts(800, 1000, 90_000, "png")


def timetable(platform: str = "7", time: str = "14:05") -> Image.Image:
    """A page of departures, of which the one at the upper right can be told apart."""
    page = Image.new("RGB", (800, 1000), "white")
    draw = ImageDraw.Draw(page)
    draw.text((60, 50), "Departures", "black", ImageFont.load_default(64))
    for row in range(14):
        y = 170 + 56 * row
        town = ("Arden", "Bolton", "Corby", "Derby", "Exeter")[row % 5] + f" {row % 3 + 1}"
        draw.text((60, y), town, "#202020", ImageFont.load_default(34))
        there = (time, platform) if row == 2 else (f"{9 + row // 2}:{10 + 3 * row}", str(row % 4))
        draw.text((480, y), there[0], "#202020", ImageFont.load_default(34))
        draw.text((680, y), there[1], "#202020", ImageFont.load_default(34))
    return page


def gauge(level: int) -> Image.Image:
    """A tank that is filled to a level: no letters, one filled area."""
    image = Image.new("RGB", (600, 600), "#f4f4f4")
    draw = ImageDraw.Draw(image)
    draw.rectangle((150, 80, 450, 520), outline="#303030", width=8)
    draw.rectangle((160, 510 - level, 440, 510), fill="#3070b0")
    for mark in range(9):
        draw.line((455, 90 + 50 * mark, 500, 90 + 50 * mark), fill="#303030", width=5)
        draw.text((510, 75 + 50 * mark), str(80 - 10 * mark), "#303030", ImageFont.load_default(26))
    return image


def encoded(image: Image.Image, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def words(evidence: Evidence) -> str:
    return explain_pair(evidence, FILE, FILE).changes


@pytest.mark.parametrize("other", [timetable("9"), timetable(time="14:25")], ids=["digit", "time"])
@pytest.mark.parametrize("quality", [None, 60])
def test_another_number_on_a_page_is_another_document(known: Known, other, quality):
    file = encoded(other, quality=quality) if quality else other
    answer = verify_pair(known(timetable()), known(file))
    assert SIMILAR_SCORE <= answer.score < NEAR_SCORE
    assert reads_differently(answer.evidence)
    assert answer.evidence.differs_at == pytest.approx((0.76, 0.3), abs=0.12)
    assert "differs in lettering at the upper right" in words(answer.evidence)


def test_light_letters_beside_dark_ones_make_a_page_too():
    """A page has more than one ground, and ink that is darker than one and lighter than another."""
    page = Image.new("L", (384, 240), 246)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    draw.rectangle((0, 0, 384, 120), fill=50)
    for row in range(12):
        text = "the early train from the north is late today"[row:] + f" {row * 37}"
        ink = (245, 225, 205, 185, 165, 145, 40, 65, 90, 115, 140, 165)[row]
        draw.text((20, 8 + 19 * row), text, ink, font)
    assert is_page(np.asarray(page, np.float32), np.ones((240, 384), np.bool_))


def paints(last: str = "#2050b8") -> Image.Image:
    """A chart that is nearly all paints, of more tones than paper has; the last one may differ."""
    chart = Image.new("RGB", (960, 720), "#fafafa")
    draw = ImageDraw.Draw(chart)
    fills = (
        "#1c1c1e #3a3a3e #96969a #b81e2a #1e7a44 #d8c8ac #ee9ab0 #6a1428 #e0a020 #506040 #c06030"
    )
    for at, fill in enumerate([*fills.split(), last]):
        x, y = 10 + 238 * (at % 4), 10 + 236 * (at // 4)
        draw.rectangle((x, y, x + 226, y + 196), fill=fill)
        draw.text((x, y + 198), f"No. {at + 1}", "#303030", ImageFont.load_default(24))
    return chart


@pytest.mark.parametrize("quality", [None, 60])
def test_a_page_may_be_nearly_all_filled(known: Known, quality):
    grey = Image.open(io.BytesIO(encoded(paints(), quality=quality))) if quality else paints()
    grey = np.asarray(grey.resize((384, 288)).convert("L"), np.float32)
    everywhere = np.ones(grey.shape, np.bool_)
    assert is_page(grey, everywhere)
    grain = np.random.default_rng(1).normal(0, 3, grey.shape)
    assert not is_page((grey + grain).astype(np.float32), everywhere), "cloth is no paper"


def test_a_chart_with_another_paint_is_another_chart(known: Known):
    """Whether cropped or in a window: what is left of the paper is no matter."""
    crop = paints().crop((38, 29, 922, 691))
    framed = Image.new("RGB", (1248, 828), "#f0f1f4")
    framed.paste(paints("#96969a").resize((864, 648)), (312, 99))
    own = Image.new("RGB", (1248, 828), "#f0f1f4")
    own.paste(paints().resize((864, 648)), (312, 99))
    assert verify_pair(known(crop), known(own)).score >= NEAR_SCORE
    assert verify_pair(known(crop), known(framed)).score < NEAR_SCORE


def parcel() -> Image.Image:
    """A label most of whose ink are the bars of a code, along which every place looks alike."""
    label = Image.new("RGB", (800, 1000), "white")
    draw, x = ImageDraw.Draw(label), 110
    draw.rectangle((50, 50, 750, 950), outline="black", width=5)
    draw.text((90, 90), "Odile Brand", "black", ImageFont.load_default(46))
    draw.text((90, 160), "14 Chapel row", "black", ImageFont.load_default(40))
    draw.line((50, 300, 750, 300), fill="black", width=5)
    for wide in np.random.default_rng(0).choice([4, 8, 12], (60, 2)):
        if x < 680:
            draw.rectangle((x, 330, x + int(wide[0]) - 1, 860), fill="black")
        x += int(wide.sum())
    draw.text((250, 880), "731 442 907", "black", ImageFont.load_default(40))
    return label


def test_a_bar_code_off_a_scanner_is_a_copy(known: Known):
    """Flow along the bars is chance, and no parallax."""
    whole = parcel()
    turned = whole.rotate(0.9, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    answer = verify_pair(known(whole), known(turned))
    assert answer.score >= NEAR_SCORE
    assert answer.evidence.parallax < 0.5


def test_another_level_of_a_gauge_is_another_picture(known: Known):
    assert verify_pair(known(gauge(150)), known(gauge(230))).score < NEAR_SCORE


@pytest.mark.parametrize("edit", ["jpeg", "half", "grey", "soft", "crop"])
def test_a_page_encoded_anew_stays_a_copy(known: Known, edit):
    page = timetable()
    copy = {
        "jpeg": encoded(page, quality=50),
        "half": page.resize((400, 500), Image.Resampling.LANCZOS),
        "grey": page.convert("L").convert("RGB"),
        "soft": page.filter(ImageFilter.GaussianBlur(1.5)),
        "crop": page.crop((20, 20, 780, 980)),
    }[edit]
    answer = verify_pair(known(page), known(copy))
    assert answer.score >= NEAR_SCORE
    assert not answer.evidence.differs


def test_small_print_is_not_called_exact_unread(known: Known):
    """At 384 pixels no one can say that all of the small print is the same."""
    answer = verify_pair(known(timetable()), known(encoded(timetable(), quality=90)))
    assert answer.evidence.page
    assert NEAR_SCORE <= answer.score < EXACT_SCORE


@pytest.mark.parametrize("size", [18, 40])
def test_a_caption_on_a_photograph_leaves_a_copy_that_is_not_exact(known: Known, photo, size):
    captioned = photo(4).copy()
    ImageDraw.Draw(captioned).text((20, 20), "North", "white", ImageFont.load_default(size))
    answer = verify_pair(known(photo(4)), known(captioned))
    assert NEAR_SCORE <= answer.score < EXACT_SCORE
    assert answer.evidence.differs


def test_a_spot_that_was_retouched_is_not_exact(known: Known, photo):
    spotted = photo(5).copy()
    ImageDraw.Draw(spotted).ellipse((200, 100, 210, 110), fill="#406080")
    answer = verify_pair(known(photo(5)), known(spotted))
    assert NEAR_SCORE <= answer.score < EXACT_SCORE
    assert answer.evidence.differs_at == pytest.approx((205 / 320, 105 / 240), abs=0.03)


def lamp(colour: tuple[int, int, int]) -> Image.Image:
    """A shaded thing on white, in a colour."""
    image = Image.new("RGB", (700, 700), "white")
    draw = ImageDraw.Draw(image)
    draw.polygon([(250, 120), (450, 120), (560, 400), (140, 400)], fill=colour)
    draw.rectangle((330, 400, 370, 600), fill="#b0a090")
    draw.ellipse((230, 580, 470, 650), fill="#b0a090")
    for x in range(220, 480, 40):
        draw.line((x, 140, x - 20, 390), fill=tuple(int(c * 0.75) for c in colour), width=6)
    return image


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((30, 30, 32), (180, 40, 40)),
        ((30, 30, 32), (150, 150, 150)),
        ((180, 40, 40), (110, 22, 28)),
    ],
    ids=["black and red", "black and grey", "red and dark red"],
)
def test_another_colour_on_a_ground_that_stayed_is_a_variant(known: Known, one, other):
    answer = verify_pair(known(lamp(one)), known(lamp(other)))
    assert answer.score < NEAR_SCORE


@pytest.mark.parametrize(
    ("one", "other"),
    [((96, 22, 40), (60, 60, 64)), ((30, 30, 32), (100, 100, 104))],
    ids=["wine and grey", "black and grey"],
)
def test_another_colour_is_a_variant_when_a_scanner_darkened_the_paper(known: Known, one, other):
    """A ground that moved a little explains another colour no more than one that stayed."""
    veil = Image.new("RGB", (700, 700), (128, 128, 128))
    scanned = Image.blend(lamp(other), veil, 0.09)
    assert verify_pair(known(lamp(one)), known(scanned)).score < NEAR_SCORE
    copy = Image.blend(lamp(one), veil, 0.09)
    assert verify_pair(known(lamp(one)), known(copy)).score >= NEAR_SCORE


def test_a_darker_exposure_of_ground_and_thing_is_a_copy(known: Known):
    darker = lamp((180, 40, 40)).point([round(v * 0.7) for v in range(256)] * 3)
    assert verify_pair(known(lamp((180, 40, 40))), known(darker)).score >= NEAR_SCORE


def refocused(image: Image.Image, *, top: bool) -> Image.Image:
    """Sharp in one half, soft in the other, with a soft border between them."""
    ramp = np.clip((np.arange(image.height) / image.height - 0.3) * 640, 0, 255)
    ramp = ramp if top else ramp[::-1]
    mask = np.repeat(ramp.astype(np.uint8)[:, None], image.width, axis=1)
    soft = image.filter(ImageFilter.GaussianBlur(1.6))
    return Image.composite(soft, image, Image.fromarray(mask))


def test_another_plane_of_focus_is_not_exact(known: Known, photo):
    one, other = (refocused(photo(6), top=top) for top in (True, False))
    answer = verify_pair(known(one), known(other))
    assert answer.evidence.uneven > 0.05
    assert answer.score < EXACT_SCORE
    assert "sharp in other parts" in words(answer.evidence)


def test_a_copy_that_is_softer_everywhere_is_evenly_so(known: Known, photo):
    soft = photo(6).filter(ImageFilter.GaussianBlur(1.0))
    assert verify_pair(known(photo(6)), known(soft)).evidence.uneven < 0.01


@pytest.mark.parametrize("size", [(384, 10), (10, 384), (384, 4)])
def test_a_narrow_pair_leaves_other_pairs_answers_alone(known: Known, photo, size):
    pair = known(photo(7)), known(photo(7).crop((20, 10, 300, 230)))
    before = verify_pair(*pair)
    strip = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    narrow = known(Image.fromarray(strip))
    verify_pair(narrow, narrow)
    assert verify_pair(*pair) == before


def seats(taken: int, colour: str = "#1c1c1e") -> Image.Image:
    """Rows of seats in the colour of their price, one of them taken; every row is like the next."""
    hall = Image.new("RGB", (1080, 860), "white")
    draw = ImageDraw.Draw(hall)
    draw.text((40, 20), "Canvas hall", "black", ImageFont.load_default(40))
    for row in range(12):
        for seat in range(20):
            x, y = 50 + 49 * seat, 100 + 50 * row
            fill = ("#e0a020", "#2050b8", "#ee9ab0")[(row // 4 + (abs(seat - 9.5) > 7)) % 3]
            fill = colour if 20 * row + seat == taken else fill
            draw.rounded_rectangle((x, y, x + 40, y + 38), 9, fill=fill)
    return hall


@pytest.mark.parametrize("other", [1, 2], ids=["seat", "colour"])
def test_a_seat_that_is_taken_is_no_watermark(known: Known, other):
    """Small fills in rows: what differs is a tone of the page, and no veil over all of it."""
    hall = next(family for family in FILLED_FAMILIES if family.name == "hall")
    pictures = [image for _, image in hall.things("9219", 3)]
    small = pictures[0].resize((540, 430), Image.Resampling.LANCZOS)
    answer = verify_pair(
        known(encoded(small, quality=80)), known(encoded(pictures[other], quality=60))
    )
    assert answer.score < NEAR_SCORE
    assert not answer.evidence.veil
    same = verify_pair(known(encoded(small, quality=80)), known(pictures[0]))
    assert same.score >= NEAR_SCORE


def test_fills_too_small_for_a_thumbnail_are_read_on_the_originals():
    """In a window a seat has eleven pixels on a thumbnail; at full size it is a filled area."""
    framed = Image.new("RGB", (1404, 989), "#f0f1f4")
    framed.paste(seats(77).resize((972, 774)), (351, 119))
    fit = (972 / 1404, 0.0, 0.0, 774 / 989, 351 / 1404, 119 / 989)
    own, other = np.asarray(seats(77)), np.asarray(seats(41))
    assert prove(own, np.asarray(framed), fit).verdict == "same"
    assert prove(other, np.asarray(framed), fit).verdict == "reads"
