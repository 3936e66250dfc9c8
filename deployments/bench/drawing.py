"""What the drawn families share: words, names and colours, fields that may differ, and pens."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

Spec = dict[str, Any]
Field = Callable[[random.Random], Any]

WORDS = (
    "north",
    "river",
    "stone",
    "amber",
    "copper",
    "lantern",
    "orchard",
    "meadow",
    "harbour",
    "canvas",
    "pepper",
    "cotton",
    "marble",
    "walnut",
    "saddle",
    "ribbon",
    "candle",
    "violet",
    "anchor",
    "basket",
    "timber",
    "falcon",
    "garnet",
    "hazel",
    "ivory",
    "juniper",
    "kettle",
    "linen",
    "magnet",
    "nickel",
    "olive",
    "pebble",
    "quartz",
    "rubber",
    "silver",
    "thistle",
    "umber",
    "velvet",
    "willow",
    "zinc",
    "market",
    "season",
    "delivery",
    "contract",
    "engine",
    "report",
    "visitor",
    "supplier",
    "payment",
    "notice",
    "archive",
)
NAMES = ("Ada", "Boris", "Chidi", "Dalia", "Emre", "Freya", "Goran", "Hanna", "Ivo", "Jasmin")
LAST = ("Keller", "Lindt", "Moreau", "Novak", "Okafor", "Petrov", "Quist", "Rossi", "Sato", "Tan")
#: Common colours of goods, neutral ones among them.
SHADES = (
    "#1c1c1e",
    "#3a3a3e",
    "#96969a",
    "#f2f2f0",
    "#18204a",
    "#b81e2a",
    "#2050b8",
    "#1e7a44",
    "#d8c8ac",
    "#ee9ab0",
    "#6a1428",
    "#e0a020",
)


@dataclass(frozen=True, slots=True)
class Family:
    """One layout.

    Attributes:
        name: as it stands in tables.
        fields: how the value of each field that may differ is drawn.
        draw: the picture of some values; the generator draws what all pictures have in common.
        fitting: whether coefficients may be fitted to it; the others are for reporting.
        colours: whether colour is what differs, so that a grey copy decides nothing.
    """

    name: str
    fields: Mapping[str, Field]
    draw: Callable[[Spec, random.Random], Image.Image]
    fitting: bool = False
    colours: bool = False

    def things(self, seed: str, count: int) -> list[tuple[str, Image.Image]]:
        """Pictures of one layout: the first, and others that differ from it in one field each.

        Args:
            seed: names the draw; the same seed gives the same pictures.
            count: how many, the first among them.

        Returns:
            The field that differs (empty for the first) and the picture, RGB or RGBA.
        """
        rng = random.Random(f"{self.name} {seed}")  # noqa: S311 - must be repeatable
        first = {name: draw(rng) for name, draw in self.fields.items()}
        specs, names = [("", first)], list(self.fields)
        rng.shuffle(names)
        while len(specs) < count:
            name = names[(len(specs) - 1) % len(names)]
            other = first | {name: self.fields[name](rng)}
            if all(other != spec for _, spec in specs):
                specs.append((name, other))
        ground = f"{self.name} {seed} ground"
        return [(name, self.draw(spec, random.Random(ground))) for name, spec in specs]  # noqa: S311


def number(low: int, high: int) -> Field:
    """A whole number between two, both among them."""
    return lambda rng: str(rng.randint(low, high))


def money(rng: random.Random) -> str:
    """A sum such as 1,204.50."""
    return f"{rng.randint(20, 9000):,}.{rng.randint(0, 99):02d}"


def word(rng: random.Random) -> str:
    """One of the words."""
    return rng.choice(WORDS)


def person(rng: random.Random) -> str:
    """A first and a last name."""
    return f"{rng.choice(NAMES)} {rng.choice(LAST)}"


def shade(rng: random.Random) -> str:
    """One of the colours."""
    return rng.choice(SHADES)


def date(rng: random.Random) -> str:
    """A day in 2025, as it stands in letters."""
    return f"{rng.randint(1, 28)} {rng.choice(('March', 'May', 'August', 'October'))} 2025"


def one_value(count: int) -> Field:
    """One of several bars, and its value."""
    return lambda rng: (rng.randrange(count), rng.randint(10, 95))


def page(size: tuple[int, int], ground: str = "white") -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty page of one colour, and its pen."""
    image = Image.new("RGB", size, ground)
    return image, ImageDraw.Draw(image)


def write(
    draw: ImageDraw.ImageDraw, x: float, y: float, text: str, size: float, fill: str = "#181818"
) -> None:
    """Text with its upper left corner at x, y, in the font that Pillow brings."""
    draw.text((x, y), text, fill=fill, font=ImageFont.load_default(size))


def lines(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int], count: int, size: int, rng: random.Random
) -> int:
    """So many lines of words from x, y, each so wide; where the next would begin."""
    x, y, wide = box
    font = ImageFont.load_default(size)
    for _ in range(count):
        text = rng.choice(WORDS)
        while draw.textlength(text, font=font) < wide * 0.85:
            text += " " + rng.choice(WORDS)
        draw.text((x, y), text, fill="#181818", font=font)
        y += round(size * 1.4)
    return y
