"""Families of document-like pictures, each drawn from a few fields of which one can be changed.

A family is a layout. Two pictures of one family that differ in one field (a number, a word, a bar,
a module, a colour) are two different things, however much of them is equal. Half of the families
are for fitting and half for reporting, so that no figure is measured on what it was fitted to.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

Spec = dict[str, Any]
Field = Callable[[random.Random], Any]

_WORDS = (
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
_NAMES = ("Ada", "Boris", "Chidi", "Dalia", "Emre", "Freya", "Goran", "Hanna", "Ivo", "Jasmin")
_LAST = ("Keller", "Lindt", "Moreau", "Novak", "Okafor", "Petrov", "Quist", "Rossi", "Sato", "Tan")
#: Common colours of goods, neutral ones among them.
_SHADES = (
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


def _number(low: int, high: int) -> Field:
    return lambda rng: str(rng.randint(low, high))


def _money(rng: random.Random) -> str:
    return f"{rng.randint(20, 9000):,}.{rng.randint(0, 99):02d}"


def _word(rng: random.Random) -> str:
    return rng.choice(_WORDS)


def _person(rng: random.Random) -> str:
    return f"{rng.choice(_NAMES)} {rng.choice(_LAST)}"


def _shade(rng: random.Random) -> str:
    return rng.choice(_SHADES)


def _date(rng: random.Random) -> str:
    return f"{rng.randint(1, 28)} {rng.choice(('March', 'May', 'August', 'October'))} 2025"


def _values(count: int) -> Field:
    return lambda rng: tuple(rng.randint(8, 95) for _ in range(count))


def _one_value(count: int) -> Field:
    """One of several bars, and its value."""
    return lambda rng: (rng.randrange(count), rng.randint(10, 95))


def _page(size: tuple[int, int], ground: str = "white") -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", size, ground)
    return image, ImageDraw.Draw(image)


def _write(
    draw: ImageDraw.ImageDraw, x: float, y: float, text: str, size: float, fill: str = "#181818"
) -> None:
    draw.text((x, y), text, fill=fill, font=ImageFont.load_default(size))


def _lines(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int], count: int, size: int, rng: random.Random
) -> int:
    """So many lines of words from x, y, each so wide; where the next would begin."""
    x, y, wide = box
    font = ImageFont.load_default(size)
    for _ in range(count):
        text = rng.choice(_WORDS)
        while draw.textlength(text, font=font) < wide * 0.85:
            text += " " + rng.choice(_WORDS)
        draw.text((x, y), text, fill="#181818", font=font)
        y += round(size * 1.4)
    return y


def _invoice(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = _page((1160, 1640))
    draw.rectangle((90, 90, 300, 170), fill=rng.choice(_SHADES))
    _write(draw, 740, 90, "Invoice", 54)
    for row, text in enumerate((f"Number {spec['number']}", f"Date {spec['date']}")):
        _write(draw, 740, 170 + 40 * row, text, 28)
    _write(draw, 90, 260, spec["customer"], 28)
    y = _lines(draw, (90, 400, 980), 7, 24, rng) + 40
    for row in range(6):
        _write(draw, 90, y, f"{row + 1}  {rng.choice(_WORDS)} {rng.choice(_WORDS)}", 24)
        price = spec["price"] if row == 3 else _money(rng)
        _write(draw, 900, y, price, 24)
        y += 48
    draw.line((90, y, 1070, y), fill="#181818", width=3)
    _write(draw, 700, y + 20, f"Total EUR {spec['total']}", 30)
    return image


def _slide(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = _page((1280, 720), "#f7f5ef")
    draw.rectangle((0, 0, 1280, 110), fill=rng.choice(_SHADES[4:8]))
    _write(draw, 70, 30, f"The {spec['title']} plan", 48, "white")
    points = [f"{rng.choice(_WORDS)} and {rng.choice(_WORDS)}" for _ in range(5)]
    points[2] = spec["point"] + " first"
    for row, text in enumerate(points):
        draw.ellipse((80, 190 + 84 * row, 96, 206 + 84 * row), fill="#303030")
        _write(draw, 120, 176 + 84 * row, text, 36)
    _write(draw, 1000, 600, spec["share"] + " %", 56, "#b81e2a")
    return image


def _chart(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = _page((960, 640))
    _write(draw, 80, 40, f"Visitors, {rng.choice(_WORDS)} hall", 36)
    bars = [rng.randint(20, 90) for _ in range(8)]
    bars[spec["bar"][0]] = spec["bar"][1]
    fill = rng.choice(_SHADES[4:8])
    for row in range(6):
        draw.line((80, 560 - 85 * row, 900, 560 - 85 * row), fill="#c8c8c8", width=2)
    for at, value in enumerate(bars):
        draw.rectangle((110 + 98 * at, 560 - value * 4.2, 168 + 98 * at, 560), fill=fill)
    _write(draw, 80, 580, f"Week {spec['week']}", 26)
    return image


def _badge(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = _page((620, 900), "#fbfbfb")
    draw.rectangle((0, 0, 620, 170), fill=rng.choice(_SHADES[4:8]))
    _write(draw, 60, 50, "Open Trade Fair", 52, "white")
    _write(draw, 60, 330, spec["person"], 64)
    _write(draw, 60, 430, f"{spec['firm'].title()} Works", 40, "#505050")
    _write(draw, 60, 780, f"Pass {spec['serial']}", 34)
    return image


def _chat(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = _page((700, 1240), "#e8e2da")
    draw.rectangle((0, 0, 700, 110), fill="#2a5a50")
    _write(draw, 60, 34, spec["name"], 38, "white")
    texts = [f"the {rng.choice(_WORDS)} {rng.choice(_WORDS)} please" for _ in range(8)]
    texts[3] = f"meet me at the {spec['place']}"
    for row, text in enumerate(texts):
        wide = draw.textlength(text, font=ImageFont.load_default(30)) + 44
        x, y = (36 if row % 2 else 664 - wide), 160 + 120 * row
        draw.rounded_rectangle((x, y, x + wide, y + 74), 18, fill="white" if row % 2 else "#dcf4c8")
        _write(draw, x + 22, y + 16, text, 30)
    return image


def _code(spec: Spec, _: random.Random) -> Image.Image:
    """A square code of 29 x 29 modules with finder squares, its content random modules."""
    image, draw = _page((440, 440))
    bits = random.Random(spec["content"])  # noqa: S311 - must be repeatable
    for row in range(29):
        for column in range(29):
            if bits.random() < 0.5:
                x, y = 46 + 12 * column, 46 + 12 * row
                draw.rectangle((x, y, x + 11, y + 11), fill="black")
    for x, y in ((46, 46), (310, 46), (46, 310)):
        for grow, fill in ((12, "white"), (0, "black"), (-12, "white"), (-24, "black")):
            draw.rectangle((x - grow, y - grow, x + 83 + grow, y + 83 + grow), fill=fill)
    return image


def _overlay(spec: Spec, rng: random.Random) -> Image.Image:
    """White lettering beside one coloured bar on transparency, as an editor lays over a photo."""
    image = Image.new("RGBA", (1000, 1000), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((60, 740, 940, 930), fill=rng.choice(_SHADES[4:8]))
    _write(draw, 90, 790, f"{rng.choice(_WORDS).title()} sale", 80, "#181818")
    _write(draw, 90, 160, f"-{spec['share']} %", 180, "white")
    _write(draw, 90, 440, f"on every {spec['goods']}", 84, "white")
    return image


def _goods(spec: Spec, rng: random.Random) -> Image.Image:
    """A shaded mug on a plain ground, in one of several colours."""
    image, draw = _page((760, 760), rng.choice(("#ffffff", "#f4f2ee")))
    draw.ellipse((500, 260, 700, 520), outline=spec["colour"], width=44)
    draw.rectangle((170, 200, 570, 600), fill=spec["colour"])
    draw.ellipse((170, 540, 570, 660), fill=spec["colour"])
    shade = Image.linear_gradient("L").rotate(90).resize((400, 460)).point(lambda v: v // 3)
    image.paste(Image.new("RGB", (400, 460), "black"), (170, 200), shade)
    draw.ellipse((170, 150, 570, 260), fill="#8a8a8a", outline=spec["colour"], width=18)
    return image


def _table(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = _page((1300, 860))
    wanted_row, wanted_column, value = spec["cell"]
    for row in range(17):
        draw.line((60, 60 + 44 * row, 1240, 60 + 44 * row), fill="#a8a8a8", width=2)
        for column in range(7):
            text = str(rng.randint(1000, 99999))
            if (row, column) == (wanted_row, wanted_column):
                text = value
            if row < 16:
                _write(draw, 72 + 168 * column, 68 + 44 * row, text, 26)
    return image


def _certificate(spec: Spec, _: random.Random) -> Image.Image:
    image, draw = _page((1400, 990), "#fdf9ee")
    draw.rectangle((60, 60, 1340, 930), outline="#a08030", width=14)
    draw.rectangle((90, 90, 1310, 900), outline="#a08030", width=3)
    _write(draw, 380, 160, "Certificate", 110, "#604810")
    _write(draw, 460, 400, spec["person"], 72)
    _write(draw, 330, 540, f"has passed the course in {spec['course']} work", 40)
    _write(draw, 180, 780, spec["date"], 34)
    _write(draw, 1000, 780, f"No. {spec['number']}", 34)
    return image


def _label(spec: Spec, rng: random.Random) -> Image.Image:
    """A parcel label with a bar code made of random bars."""
    image, draw = _page((800, 1000))
    draw.rectangle((50, 50, 750, 950), outline="black", width=5)
    _write(draw, 90, 90, spec["person"], 46)
    _write(draw, 90, 160, f"{rng.choice(_WORDS).title()} street {spec['house']}", 40)
    draw.line((50, 300, 750, 300), fill="black", width=5)
    bits, x = random.Random(spec["code"]), 110  # noqa: S311 - must be repeatable
    while x < 680:
        wide = bits.choice((4, 8, 12))
        draw.rectangle((x, 360, x + wide - 1, 700), fill="black")
        x += wide + bits.choice((4, 8, 12))
    _write(draw, 250, 730, spec["code"], 40)
    return image


def _receipt(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = _page((460, 1040), "#fbfaf6")
    _write(draw, 120, 50, f"{rng.choice(_WORDS).title()} store", 34)
    for row in range(9):
        _write(draw, 40, 140 + 50 * row, rng.choice(_WORDS), 24)
        _write(draw, 330, 140 + 50 * row, spec["price"] if row == 5 else _money(rng), 24)
    _write(draw, 40, 660, f"Total  {spec['total']}", 36)
    _write(draw, 40, 780, f"Slip {spec['slip']}  {spec['date']}", 22)
    return image


def _letter(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = _page((1200, 1600), "#fffefa")
    _write(draw, 120, 120, f"Dear {spec['person']},", 34)
    y = _lines(draw, (120, 220, 960), 12, 26, rng)
    _write(draw, 120, y + 10, f"We expect the {spec['word']} on {spec['date']}.", 26)
    _lines(draw, (120, y + 60, 960), 10, 26, rng)
    return image


def _menu(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = _page((900, 1300), "#28221e")
    _write(draw, 110, 90, f"{rng.choice(_WORDS).title()} kitchen", 64, "#f0d8a0")
    for row in range(11):
        dish = spec["dish"] if row == 4 else rng.choice(_WORDS)
        price = spec["price"] if row == 7 else str(rng.randint(4, 39))
        _write(draw, 110, 240 + 84 * row, f"{dish} with {rng.choice(_WORDS)}", 34, "#f6f0e4")
        _write(draw, 720, 240 + 84 * row, price, 34, "#f6f0e4")
    return image


def _poster(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = _page((840, 1180), rng.choice(_SHADES[4:8]))
    for _ in range(14):
        x, y, r = rng.randint(0, 840), rng.randint(500, 1180), rng.randint(20, 130)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=rng.choice(_SHADES))
    _write(draw, 70, 90, f"{spec['word'].title()}", 120, "white")
    _write(draw, 70, 260, spec["date"], 60, "white")
    _write(draw, 70, 350, f"Hall {spec['hall']}", 60, "white")
    return image


def _sign(spec: Spec, _: random.Random) -> Image.Image:
    image, draw = _page((900, 700), "#1a4a8a")
    draw.rounded_rectangle((30, 30, 870, 670), 40, outline="white", width=12)
    _write(draw, 100, 110, spec["place"].title(), 90, "white")
    _write(draw, 100, 260, f"Gate {spec['gate']}", 90, "white")
    points = (
        [(640, 500), (760, 560), (640, 620)]
        if spec["way"]
        else [(240, 500), (120, 560), (240, 620)]
    )
    draw.polygon(points, fill="white")
    draw.rectangle((240, 540, 640, 580), fill="white")
    return image


def _plot(spec: Spec, rng: random.Random) -> Image.Image:
    """A line over time, and one of its points elsewhere."""
    image, draw = _page((1000, 620))
    values = [rng.randint(80, 480)]
    for _ in range(29):
        values.append(max(60, min(540, values[-1] + rng.randint(-60, 60))))
    at, value = spec["point"]
    values[at] = 60 + 5 * value
    draw.line([(60 + 30 * n, 580 - v) for n, v in enumerate(values)], fill="#b83020", width=4)
    draw.line((60, 580, 960, 580), fill="#404040", width=3)
    _write(draw, 80, 30, f"{spec['word'].title()}, kilograms", 32)
    return image


def _form(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = _page((1100, 1450))
    _write(draw, 90, 80, f"Request for {rng.choice(_WORDS)}", 44)
    for row in range(9):
        _write(draw, 90, 200 + 120 * row, rng.choice(_WORDS).title(), 24, "#505050")
        draw.rectangle((90, 236 + 120 * row, 760, 290 + 120 * row), outline="#808080", width=2)
        text = spec["person"] if row == 1 else spec["number"] if row == 4 else rng.choice(_WORDS)
        _write(draw, 104, 244 + 120 * row, text, 30)
        draw.rectangle((880, 240 + 120 * row, 920, 280 + 120 * row), outline="#404040", width=3)
        if row == spec["box"]:
            draw.line((884, 244 + 120 * row, 916, 276 + 120 * row), fill="#181818", width=6)
            draw.line((916, 244 + 120 * row, 884, 276 + 120 * row), fill="#181818", width=6)
    return image


def _bottle(spec: Spec, rng: random.Random) -> Image.Image:
    """A shaded bottle on a plain ground, in one of several colours."""
    image, draw = _page((560, 860), rng.choice(("#ffffff", "#ececec")))
    draw.rounded_rectangle((180, 240, 380, 800), 50, fill=spec["colour"])
    draw.rectangle((235, 90, 325, 260), fill=spec["colour"])
    shade = Image.linear_gradient("L").rotate(90).resize((200, 560)).point(lambda v: v // 3)
    image.paste(Image.new("RGB", (200, 560), "black"), (180, 240), shade)
    draw.rectangle((180, 440, 380, 620), fill="#e8e0d0")
    _write(draw, 200, 500, "Source", 44)
    return image


FAMILIES: tuple[Family, ...] = (
    Family(
        "invoice",
        {
            "number": _number(10000, 99999),
            "date": _date,
            "customer": _person,
            "price": _money,
            "total": _money,
        },
        _invoice,
    ),
    Family("slide", {"title": _word, "point": _word, "share": _number(10, 99)}, _slide),
    Family("chart", {"bar": _one_value(8), "week": _number(10, 52)}, _chart),
    Family("badge", {"person": _person, "firm": _word, "serial": _number(1000, 9999)}, _badge),
    Family("chat", {"name": _person, "place": _word}, _chat),
    Family("code", {"content": _number(0, 10**6)}, _code),
    Family("overlay", {"share": _number(10, 80), "goods": _word}, _overlay),
    Family("goods", {"colour": _shade}, _goods, colours=True),
    Family(
        "table",
        {"cell": lambda rng: (rng.randrange(16), rng.randrange(7), str(rng.randint(1000, 99999)))},
        _table,
    ),
    Family(
        "certificate",
        {"person": _person, "course": _word, "date": _date, "number": _number(100, 999)},
        _certificate,
    ),
    Family(
        "label", {"person": _person, "house": _number(1, 99), "code": _number(10**8, 10**9)}, _label
    ),
    Family(
        "receipt",
        {"price": _money, "total": _money, "slip": _number(1000, 9999), "date": _date},
        _receipt,
        fitting=True,
    ),
    Family("letter", {"person": _person, "word": _word, "date": _date}, _letter, fitting=True),
    Family("menu", {"dish": _word, "price": _number(4, 39)}, _menu, fitting=True),
    Family("poster", {"word": _word, "date": _date, "hall": _number(1, 9)}, _poster, fitting=True),
    Family(
        "sign",
        {"place": _word, "gate": _number(1, 9), "way": lambda rng: rng.random() < 0.5},
        _sign,
        fitting=True,
    ),
    Family("plot", {"point": _one_value(30), "word": _word}, _plot, fitting=True),
    Family(
        "form",
        {"person": _person, "number": _number(100, 9999), "box": lambda rng: rng.randrange(9)},
        _form,
        fitting=True,
    ),
    Family("bottle", {"colour": _shade}, _bottle, fitting=True, colours=True),
)
