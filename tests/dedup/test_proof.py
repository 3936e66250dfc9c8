"""Proof on the originals: what a thumbnail cannot show, at full size."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from tasks.dedup.chroma import compare_colours
from tasks.dedup.placement import IDENTITY, Affine
from tasks.dedup.proof import prove

#: The left picture without its margins of a twentieth: 0..1 of it to 0..1 of the crop.
CROP: Affine = (1 / 0.9, 0.0, 0.0, 1 / 0.9, -0.05 / 0.9, -0.05 / 0.9)


def ledger(entry: str = "4187") -> Image.Image:
    """A page of small numbers, too small to be read at 384 pixels; one of them may be another."""
    page = Image.new("RGB", (1000, 1000), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(22)
    numbers = np.random.default_rng(5).integers(1000, 9999, (24, 7))
    for row in range(24):
        for column in range(7):
            text = entry if (row, column) == (15, 5) else str(numbers[row, column])
            draw.text((110 + 118 * column, 110 + 33 * row), text, "#202020", font)
    return page


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def saved(image: Image.Image, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return pixels(Image.open(buffer))


EDITS: dict[str, Callable[[Image.Image], np.ndarray]] = {
    "jpeg": lambda page: saved(page, 70),
    "half": lambda page: saved(page.resize((500, 500), Image.Resampling.LANCZOS), 85),
    "darker": lambda page: pixels(page.point([round(20 + v * 0.8) for v in range(256)] * 3)),
}


@pytest.mark.parametrize("name", sorted(EDITS))
def test_a_copy_is_proven_the_same(name):
    for turned in (False, True):
        sides = [pixels(ledger()), EDITS[name](ledger())]
        found = prove(*(sides[::-1] if turned else sides), IDENTITY)
        assert found.verdict == "same", found


def test_lettering_that_was_made_smaller_bends_no_tone_of_a_filled_area():
    """By its filter it is lighter or darker than before; the bar beside it is not."""
    page = ledger()
    ImageDraw.Draw(page).rectangle((110, 30, 320, 80), fill="#e0a020")
    assert prove(pixels(page), EDITS["half"](page), IDENTITY).verdict == "same"


@pytest.mark.parametrize("name", sorted(EDITS))
@pytest.mark.parametrize("entry", ["4137", "4781"])
def test_one_digit_of_many_is_found_in_its_place(name, entry):
    found = prove(pixels(ledger()), EDITS[name](ledger(entry)), IDENTITY)
    assert found.verdict == "reads"
    place = (110 + 118 * 5 + 24) / 1000, (110 + 33 * 15 + 12) / 1000
    assert found.at == pytest.approx(place, abs=0.03)


def test_a_crop_is_compared_where_both_are_and_a_rough_fit_is_made_better():
    page = ledger()
    cut = pixels(page.crop((50, 50, 950, 950)))
    rough = (*CROP[:4], CROP[4] + 0.002, CROP[5] - 0.0015)
    assert prove(pixels(page), cut, rough).verdict == "same"
    other = pixels(ledger("9962").crop((50, 50, 950, 950)))
    assert prove(pixels(page), other, rough).verdict == "reads"


def test_what_is_laid_over_a_photograph_is_not_read_in_place_of_something(photo):
    picture = photo(8, 640, 480)
    captioned = picture.copy()
    ImageDraw.Draw(captioned).text((60, 60), "North", "white", ImageFont.load_default(20))
    found = prove(pixels(picture), pixels(captioned), IDENTITY)
    assert found.verdict == "differs"


def test_a_mark_on_bare_paper_has_replaced_nothing():
    stamped = ledger()
    ImageDraw.Draw(stamped).text((400, 940), "COPY", "#202020", ImageFont.load_default(40))
    assert prove(pixels(ledger()), pixels(stamped), IDENTITY).verdict == "differs"


def test_a_fit_that_does_not_hold_proves_nothing():
    page = pixels(ledger())
    far = (0.5, 0.0, 0.0, 0.5, 0.2, 0.2)
    assert prove(page, page, far).verdict == "unknown"
    assert prove(page[:8, :8], page, IDENTITY).verdict == "unknown"


def test_tiles_of_any_size_lie_where_they_are():
    """By OpenCV's measure a tile of 404 pixels lies half a pixel from itself."""
    page = Image.new("RGB", (544, 404), "white")
    draw = ImageDraw.Draw(page)
    draw.rectangle((60, 60, 484, 344), outline="#202020", width=12)
    draw.rectangle((60, 60, 272, 202), outline="#202020", width=8)
    draw.text((100, 100), "Kitchen 14 m2", "#181818", ImageFont.load_default(30))
    buffer = io.BytesIO()
    page.save(buffer, "WEBP", quality=80)
    found = prove(pixels(page), pixels(Image.open(buffer)), IDENTITY)
    assert found.verdict == "same"
    assert found.misfit < 0.08


def staves(moved: int = 0) -> Image.Image:
    """Notes on staves: thin black strokes and small blots, and one note may stand elsewhere."""
    page = Image.new("RGB", (1300, 900), "#fdfcf8")
    draw = ImageDraw.Draw(page)
    heights = np.random.default_rng(3).integers(0, 8, (4, 15))
    heights[2, 7] += moved
    for stave in range(4):
        top = 170 + 180 * stave
        for line in range(5):
            draw.line((60, top + 20 * line, 1240, top + 20 * line), fill="#202020", width=2)
        for note in range(15):
            x, y = 110 + 75 * note, top + 80 - 10 * int(heights[stave, note])
            draw.ellipse((x - 13, y - 9, x + 13, y + 9), fill="#101010")
            draw.line((x + 12, y, x + 12, y - 62), fill="#101010", width=3)
    return page


def test_thin_strokes_bend_no_tone_of_a_blot():
    """Made small, by a fit that is half a pixel off, they are lighter; blots are not."""
    rough: Affine = (1.001, 0.0, 0.0, 1.001, -0.0005, -0.0005)
    found = prove(pixels(staves()), saved(staves(), 85), rough)
    assert found.verdict == "same"
    assert found.excess < 4
    assert prove(pixels(staves()), saved(staves(1), 85), rough).verdict in ("reads", "differs")


def sheet(entry: str) -> Image.Image:
    """Small print on thin ruled lines."""
    page = Image.new("RGB", (1000, 500), "#fdfdf8")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(17)
    numbers = np.random.default_rng(5).integers(1000, 9999, (13, 11))
    for row in range(13):
        draw.line((0, 42 + 33 * row, 1000, 42 + 33 * row), fill="#90a8d0", width=1)
        for column in range(11):
            text = entry if (row, column) == (7, 5) else str(numbers[row, column])
            draw.text((60 + 80 * column, 47 + 33 * row), text, "#303050", font)
    return page


@pytest.mark.parametrize("by", ["BOX", "BILINEAR", "BICUBIC", "LANCZOS"])
def test_small_print_is_read_in_a_copy_made_smaller_by_any_filter(by):
    """By another filter strokes are of another height, which is as much as a digit changes."""

    def smaller(entry: str) -> np.ndarray:
        return saved(sheet(entry).resize((500, 250), Image.Resampling[by]), 80)

    assert prove(pixels(sheet("4187")), smaller("4187"), IDENTITY).verdict == "same"
    for other in ("4781", "4137"):
        for sides in (
            (pixels(sheet("4187")), smaller(other)),
            (smaller(other), pixels(sheet("4187"))),
        ):
            assert prove(*sides, IDENTITY).verdict in ("reads", "differs")


def orders(colour: str, size: int) -> Image.Image:
    """Orders with a coloured dot each, of which one may have another colour of the same light."""
    page = Image.new("RGB", (1000, 1000), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(22)
    for row in range(20):
        draw.text((90, 90 + 40 * row), f"Order {4187 + 31 * row}, line {row}", "#202020", font)
        fill = colour if row == 7 else ("#d03030", "#2e8b2e")[row % 2]
        draw.ellipse((600, 95 + 40 * row, 600 + size, 95 + 40 * row + size), fill=fill)
    return page


@pytest.mark.parametrize("size", [12, 26])
@pytest.mark.parametrize("other", ["#2e8228", "#3c60d0"])
def test_a_dot_of_another_colour_and_the_same_light_is_another_page(size, other):
    """Red for overdue, green for paid: in grey levels the two are one."""
    red = orders("#d03030", size)
    for second in (pixels(orders(other, size)), saved(orders(other, size), 60)):
        for sides in ((pixels(red), second), (second, pixels(red))):
            found = prove(*sides, IDENTITY)
            assert found.verdict == "differs"
            assert abs(found.at[0] - 0.6) < 0.04
            assert abs(found.at[1] - 0.38) < 0.04


@pytest.mark.parametrize("size", [12, 26])
def test_a_navy_dot_is_not_proven_to_be_a_black_one(size):
    """They lie little further apart than colours off a scanner do: nobody can tell."""
    navy, black = orders("#18204a", size), orders("#1c1c1e", size)
    for second in (pixels(black), saved(black, 75)):
        assert prove(pixels(navy), second, IDENTITY).verdict != "same"


def test_a_pixel_off_the_grid_of_cells_changes_no_colour():
    """Thin coloured strokes lie in other cells of a crop, and are as coloured there."""
    page = orders("#d03030", 26)
    draw = ImageDraw.Draw(page)
    for row in range(20):
        draw.line((700, 90 + 41 * row, 900, 90 + 41 * row), fill="#e0a020", width=3)
    for off in range(1, 4):
        crop = pixels(page.crop((off, off, 1000, 1000)))
        onto = np.array([[1, 0, -off], [0, 1, -off], [0, 0, 1.0]])
        assert compare_colours(pixels(page), crop, onto).apart < 8


def test_colours_that_changed_over_the_whole_explain_themselves():
    """Encoded, weaker, without any, or under another light: no place has another colour."""
    page = orders("#d03030", 26)
    weaker = pixels(ImageEnhance.Color(page).enhance(0.6))
    warmer = (pixels(page) * np.array([1.0, 0.96, 0.88])).astype(np.uint8)
    for other in (saved(page, 60), pixels(page.convert("L")), weaker, warmer):
        assert compare_colours(pixels(page), other, np.eye(3)).apart < 12
    blue = pixels(orders("#3c60d0", 26))
    assert compare_colours(weaker, blue, np.eye(3)).apart > 48, "of these one has"
