"""Families of filled areas, for fitting: paint charts, heat maps, regions, patchwork, seats.

Ink is little of them, and the paper shows between the fills or not at all. What makes a page is
that all its tones are even; how one is known was made on these. Paint charts and seats were drawn
to measure it before, and 8 and 178 pairs of them were called copies.
"""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw

from deployments.bench.drawing import (
    SHADES,
    WORDS,
    Family,
    Spec,
    number,
    page,
    shade,
    word,
    write,
)


def _another(colour: str, old: str) -> str:
    """A colour, or a further one where it is the old one: things of a family are never equal."""
    return colour if colour != old else "#40c0c0"


def _swatches(spec: Spec, rng: random.Random) -> Image.Image:
    """A card of paints, one of which is another colour."""
    image, draw = page((960, 720), "#fafafa")
    write(draw, 60, 30, f"{rng.choice(WORDS).title()} paints", 44)
    at = rng.randrange(12)
    for which in range(12):
        x, y = 60 + 216 * (which % 4), 120 + 190 * (which // 4)
        colour = spec["colour"] if which == at else rng.choice(SHADES)
        draw.rectangle((x, y, x + 190, y + 130), fill=colour, outline="#909090")
        write(draw, x, y + 138, f"No. {which + 1}", 22)
    return image


def _heat(spec: Spec, rng: random.Random) -> Image.Image:
    """Hours by days, each filled by how much it was, one of them otherwise."""
    image, draw = page((1000, 760))
    write(draw, 50, 24, f"{spec['word'].title()} by hour", 36)
    low, high = (np.array([rng.randrange(256) for _ in range(3)]) for _ in range(2))
    for row in range(8):
        write(draw, 40, 118 + 74 * row, f"{8 + row}:00", 22)
        for column in range(10):
            share = rng.random()
            if (row, column) == spec["cell"][0]:
                share = (share + spec["cell"][1]) % 1
            fill = tuple(int(one) for one in low + share * (high - low))
            x, y = 130 + 82 * column, 100 + 74 * row
            draw.rectangle((x, y, x + 78, y + 70), fill=fill)
    return image


def _regions(spec: Spec, rng: random.Random) -> Image.Image:
    """A map of regions, each of a flat colour, with their names; one filled otherwise."""
    wide, high = 1000, 800
    points = np.array([(rng.randrange(wide), rng.randrange(high)) for _ in range(24)])
    across, down = np.meshgrid(np.arange(wide), np.arange(high))
    apart = [(across - x) ** 2 + (down - y) ** 2 for x, y in points]
    nearest = np.argmin(apart, axis=0)
    fills = [rng.choice(SHADES) for _ in points]
    at = int(spec["region"])
    fills[at] = _another(spec["colour"], fills[at])
    colours = np.array([tuple(bytes.fromhex(fill[1:])) for fill in fills], np.uint8)
    pixels = colours[nearest]
    border = np.zeros(nearest.shape, np.bool_)
    for axis in (0, 1):
        border |= nearest != np.roll(nearest, 2, axis)
    pixels[border] = 255
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for x, y in points:
        write(draw, min(int(x), wide - 120), int(y), rng.choice(WORDS).title(), 22, "white")
    return image


def _patchwork(spec: Spec, rng: random.Random) -> Image.Image:
    """Patches of two triangles each, edge to edge; one of them is of another colour."""
    image, draw = page((900, 900))
    for row in range(6):
        for column in range(6):
            x, y = 150 * column, 150 * row
            one, two = rng.choice(SHADES), rng.choice(SHADES)
            if 6 * row + column == int(spec["patch"]):
                one = _another(spec["colour"], one)
            draw.rectangle((x, y, x + 149, y + 149), fill=two)
            corner = (x + 149, y) if rng.random() < 0.5 else (x, y + 149)
            draw.polygon(((x, y), corner, (x + 149, y + 149)), fill=one)
    return image


def _hall(spec: Spec, rng: random.Random) -> Image.Image:
    """Seats of a hall by their price, of which one is another's, or a price is."""
    image, draw = page((1080, 860), rng.choice(("#ffffff", "#f6f4ee")))
    write(draw, 40, 20, f"{rng.choice(WORDS).title()} hall, seats", 36)
    prices = rng.sample(SHADES, 4)
    taken, changed = int(spec["seat"]), spec["colour"]
    for row in range(12):
        for seat in range(20):
            x, y = 50 + 49 * seat, 100 + 50 * row
            fill = prices[min(3, row // 3 + (abs(seat - 9.5) > 7))]
            if 20 * row + seat == taken:
                fill = _another(changed, fill)
            draw.rounded_rectangle((x, y, x + 40, y + 38), 9, fill=fill)
    for at, fill in enumerate(prices):
        draw.rectangle((60 + 250 * at, 740, 100 + 250 * at, 770), fill=fill)
        amount = spec["price"] if at == 1 else str(20 + 13 * at)
        write(draw, 112 + 250 * at, 738, f"{amount} EUR", 28)
    return image


FILLED_FAMILIES: tuple[Family, ...] = (
    Family("swatches", {"colour": shade}, _swatches, colours=True, fitting=True),
    Family(
        "heat",
        {
            "cell": lambda rng: ((rng.randrange(8), rng.randrange(10)), rng.uniform(0.3, 0.7)),
            "word": word,
        },
        _heat,
        colours=True,
        fitting=True,
    ),
    Family(
        "regions",
        {"region": number(0, 23), "colour": shade},
        _regions,
        colours=True,
        fitting=True,
    ),
    Family(
        "patchwork",
        {"patch": number(0, 35), "colour": shade},
        _patchwork,
        colours=True,
        fitting=True,
    ),
    Family(
        "hall",
        {"seat": number(0, 239), "colour": shade, "price": number(20, 99)},
        _hall,
        colours=True,
        fitting=True,
    ),
)
