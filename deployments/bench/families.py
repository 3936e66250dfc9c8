"""Families of document-like pictures, each drawn from a few fields of which one can be changed.

A family is a layout. Two pictures of one family that differ in one field (a number, a word, a bar,
a module, a colour) are two different things, however much of them is equal. Families are for
fitting or for reporting, so that no figure is measured on what it was fitted to. One whose wrong
pairs were looked at is for fitting from then on.
"""

from __future__ import annotations

import random

from PIL import Image, ImageDraw, ImageFont

from deployments.bench.drawing import (
    SHADES,
    WORDS,
    Family,
    Spec,
    date,
    lines,
    money,
    number,
    one_value,
    page,
    person,
    shade,
    word,
    write,
)
from deployments.bench.filled_families import FILLED_FAMILIES
from deployments.bench.thin_families import THIN_FAMILIES


def _invoice(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = page((1160, 1640))
    draw.rectangle((90, 90, 300, 170), fill=rng.choice(SHADES))
    write(draw, 740, 90, "Invoice", 54)
    for row, text in enumerate((f"Number {spec['number']}", f"Date {spec['date']}")):
        write(draw, 740, 170 + 40 * row, text, 28)
    write(draw, 90, 260, spec["customer"], 28)
    y = lines(draw, (90, 400, 980), 7, 24, rng) + 40
    for row in range(6):
        write(draw, 90, y, f"{row + 1}  {rng.choice(WORDS)} {rng.choice(WORDS)}", 24)
        price = spec["price"] if row == 3 else money(rng)
        write(draw, 900, y, price, 24)
        y += 48
    draw.line((90, y, 1070, y), fill="#181818", width=3)
    write(draw, 700, y + 20, f"Total EUR {spec['total']}", 30)
    return image


def _slide(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = page((1280, 720), "#f7f5ef")
    draw.rectangle((0, 0, 1280, 110), fill=rng.choice(SHADES[4:8]))
    write(draw, 70, 30, f"The {spec['title']} plan", 48, "white")
    points = [f"{rng.choice(WORDS)} and {rng.choice(WORDS)}" for _ in range(5)]
    points[2] = spec["point"] + " first"
    for row, text in enumerate(points):
        draw.ellipse((80, 190 + 84 * row, 96, 206 + 84 * row), fill="#303030")
        write(draw, 120, 176 + 84 * row, text, 36)
    write(draw, 1000, 600, spec["share"] + " %", 56, "#b81e2a")
    return image


def _chart(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = page((960, 640))
    write(draw, 80, 40, f"Visitors, {rng.choice(WORDS)} hall", 36)
    bars = [rng.randint(20, 90) for _ in range(8)]
    bars[spec["bar"][0]] = spec["bar"][1]
    fill = rng.choice(SHADES[4:8])
    for row in range(6):
        draw.line((80, 560 - 85 * row, 900, 560 - 85 * row), fill="#c8c8c8", width=2)
    for at, value in enumerate(bars):
        draw.rectangle((110 + 98 * at, 560 - value * 4.2, 168 + 98 * at, 560), fill=fill)
    write(draw, 80, 580, f"Week {spec['week']}", 26)
    return image


def _badge(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = page((620, 900), "#fbfbfb")
    draw.rectangle((0, 0, 620, 170), fill=rng.choice(SHADES[4:8]))
    write(draw, 60, 50, "Open Trade Fair", 52, "white")
    write(draw, 60, 330, spec["person"], 64)
    write(draw, 60, 430, f"{spec['firm'].title()} Works", 40, "#505050")
    write(draw, 60, 780, f"Pass {spec['serial']}", 34)
    return image


def _chat(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = page((700, 1240), "#e8e2da")
    draw.rectangle((0, 0, 700, 110), fill="#2a5a50")
    write(draw, 60, 34, spec["name"], 38, "white")
    texts = [f"the {rng.choice(WORDS)} {rng.choice(WORDS)} please" for _ in range(8)]
    texts[3] = f"meet me at the {spec['place']}"
    for row, text in enumerate(texts):
        wide = draw.textlength(text, font=ImageFont.load_default(30)) + 44
        x, y = (36 if row % 2 else 664 - wide), 160 + 120 * row
        draw.rounded_rectangle((x, y, x + wide, y + 74), 18, fill="white" if row % 2 else "#dcf4c8")
        write(draw, x + 22, y + 16, text, 30)
    return image


def _code(spec: Spec, _: random.Random) -> Image.Image:
    """A square code of 29 x 29 modules with finder squares, its content random modules."""
    image, draw = page((440, 440))
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
    draw.rectangle((60, 740, 940, 930), fill=rng.choice(SHADES[4:8]))
    write(draw, 90, 790, f"{rng.choice(WORDS).title()} sale", 80, "#181818")
    write(draw, 90, 160, f"-{spec['share']} %", 180, "white")
    write(draw, 90, 440, f"on every {spec['goods']}", 84, "white")
    return image


def _goods(spec: Spec, rng: random.Random) -> Image.Image:
    """A shaded mug on a plain ground, in one of several colours."""
    image, draw = page((760, 760), rng.choice(("#ffffff", "#f4f2ee")))
    draw.ellipse((500, 260, 700, 520), outline=spec["colour"], width=44)
    draw.rectangle((170, 200, 570, 600), fill=spec["colour"])
    draw.ellipse((170, 540, 570, 660), fill=spec["colour"])
    shade = Image.linear_gradient("L").rotate(90).resize((400, 460)).point(lambda v: v // 3)
    image.paste(Image.new("RGB", (400, 460), "black"), (170, 200), shade)
    draw.ellipse((170, 150, 570, 260), fill="#8a8a8a", outline=spec["colour"], width=18)
    return image


def _table(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = page((1300, 860))
    wanted_row, wanted_column, value = spec["cell"]
    for row in range(17):
        draw.line((60, 60 + 44 * row, 1240, 60 + 44 * row), fill="#a8a8a8", width=2)
        for column in range(7):
            text = str(rng.randint(1000, 99999))
            if (row, column) == (wanted_row, wanted_column):
                text = value
            if row < 16:
                write(draw, 72 + 168 * column, 68 + 44 * row, text, 26)
    return image


def _certificate(spec: Spec, _: random.Random) -> Image.Image:
    image, draw = page((1400, 990), "#fdf9ee")
    draw.rectangle((60, 60, 1340, 930), outline="#a08030", width=14)
    draw.rectangle((90, 90, 1310, 900), outline="#a08030", width=3)
    write(draw, 380, 160, "Certificate", 110, "#604810")
    write(draw, 460, 400, spec["person"], 72)
    write(draw, 330, 540, f"has passed the course in {spec['course']} work", 40)
    write(draw, 180, 780, spec["date"], 34)
    write(draw, 1000, 780, f"No. {spec['number']}", 34)
    return image


def _label(spec: Spec, rng: random.Random) -> Image.Image:
    """A parcel label with a bar code made of random bars."""
    image, draw = page((800, 1000))
    draw.rectangle((50, 50, 750, 950), outline="black", width=5)
    write(draw, 90, 90, spec["person"], 46)
    write(draw, 90, 160, f"{rng.choice(WORDS).title()} street {spec['house']}", 40)
    draw.line((50, 300, 750, 300), fill="black", width=5)
    bits, x = random.Random(spec["code"]), 110  # noqa: S311 - must be repeatable
    while x < 680:
        wide = bits.choice((4, 8, 12))
        draw.rectangle((x, 360, x + wide - 1, 700), fill="black")
        x += wide + bits.choice((4, 8, 12))
    write(draw, 250, 730, spec["code"], 40)
    return image


def _receipt(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = page((460, 1040), "#fbfaf6")
    write(draw, 120, 50, f"{rng.choice(WORDS).title()} store", 34)
    for row in range(9):
        write(draw, 40, 140 + 50 * row, rng.choice(WORDS), 24)
        write(draw, 330, 140 + 50 * row, spec["price"] if row == 5 else money(rng), 24)
    write(draw, 40, 660, f"Total  {spec['total']}", 36)
    write(draw, 40, 780, f"Slip {spec['slip']}  {spec['date']}", 22)
    return image


def _letter(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = page((1200, 1600), "#fffefa")
    write(draw, 120, 120, f"Dear {spec['person']},", 34)
    y = lines(draw, (120, 220, 960), 12, 26, rng)
    write(draw, 120, y + 10, f"We expect the {spec['word']} on {spec['date']}.", 26)
    lines(draw, (120, y + 60, 960), 10, 26, rng)
    return image


def _menu(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = page((900, 1300), "#28221e")
    write(draw, 110, 90, f"{rng.choice(WORDS).title()} kitchen", 64, "#f0d8a0")
    for row in range(11):
        dish = spec["dish"] if row == 4 else rng.choice(WORDS)
        price = spec["price"] if row == 7 else str(rng.randint(4, 39))
        write(draw, 110, 240 + 84 * row, f"{dish} with {rng.choice(WORDS)}", 34, "#f6f0e4")
        write(draw, 720, 240 + 84 * row, price, 34, "#f6f0e4")
    return image


def _poster(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = page((840, 1180), rng.choice(SHADES[4:8]))
    for _ in range(14):
        x, y, r = rng.randint(0, 840), rng.randint(500, 1180), rng.randint(20, 130)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=rng.choice(SHADES))
    write(draw, 70, 90, f"{spec['word'].title()}", 120, "white")
    write(draw, 70, 260, spec["date"], 60, "white")
    write(draw, 70, 350, f"Hall {spec['hall']}", 60, "white")
    return image


def _sign(spec: Spec, _: random.Random) -> Image.Image:
    image, draw = page((900, 700), "#1a4a8a")
    draw.rounded_rectangle((30, 30, 870, 670), 40, outline="white", width=12)
    write(draw, 100, 110, spec["place"].title(), 90, "white")
    write(draw, 100, 260, f"Gate {spec['gate']}", 90, "white")
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
    image, draw = page((1000, 620))
    values = [rng.randint(80, 480)]
    for _ in range(29):
        values.append(max(60, min(540, values[-1] + rng.randint(-60, 60))))
    at, value = spec["point"]
    values[at] = 60 + 5 * value
    draw.line([(60 + 30 * n, 580 - v) for n, v in enumerate(values)], fill="#b83020", width=4)
    draw.line((60, 580, 960, 580), fill="#404040", width=3)
    write(draw, 80, 30, f"{spec['word'].title()}, kilograms", 32)
    return image


def _form(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = page((1100, 1450))
    write(draw, 90, 80, f"Request for {rng.choice(WORDS)}", 44)
    for row in range(9):
        write(draw, 90, 200 + 120 * row, rng.choice(WORDS).title(), 24, "#505050")
        draw.rectangle((90, 236 + 120 * row, 760, 290 + 120 * row), outline="#808080", width=2)
        text = spec["person"] if row == 1 else spec["number"] if row == 4 else rng.choice(WORDS)
        write(draw, 104, 244 + 120 * row, text, 30)
        draw.rectangle((880, 240 + 120 * row, 920, 280 + 120 * row), outline="#404040", width=3)
        if row == spec["box"]:
            draw.line((884, 244 + 120 * row, 916, 276 + 120 * row), fill="#181818", width=6)
            draw.line((916, 244 + 120 * row, 884, 276 + 120 * row), fill="#181818", width=6)
    return image


def _bottle(spec: Spec, rng: random.Random) -> Image.Image:
    """A shaded bottle on a plain ground, in one of several colours."""
    image, draw = page((560, 860), rng.choice(("#ffffff", "#ececec")))
    draw.rounded_rectangle((180, 240, 380, 800), 50, fill=spec["colour"])
    draw.rectangle((235, 90, 325, 260), fill=spec["colour"])
    shade = Image.linear_gradient("L").rotate(90).resize((200, 560)).point(lambda v: v // 3)
    image.paste(Image.new("RGB", (200, 560), "black"), (180, 240), shade)
    draw.rectangle((180, 440, 380, 620), fill="#e8e0d0")
    write(draw, 200, 500, "Source", 44)
    return image


def _timetable(spec: Spec, rng: random.Random) -> Image.Image:
    """A board of departures, light on dark, in which a time or a platform differs."""
    image, draw = page((1280, 800), "#101820")
    write(draw, 50, 30, f"Departures {rng.choice(WORDS).title()}", 52, "#f4c430")
    for row in range(10):
        hour = f"{rng.randint(5, 23):02d}:{rng.randint(0, 59):02d}"
        track = str(rng.randint(1, 24))
        name = f"{rng.choice(WORDS)} {rng.choice(WORDS)}".title()
        if row == 3:
            hour = spec["time"]
        if row == 6:
            track = spec["track"]
        for x, text in ((50, hour), (260, name), (1120, track)):
            write(draw, x, 130 + 64 * row, text, 36, "#f2f2f2")
    return image


FAMILIES: tuple[Family, ...] = (
    Family(
        "invoice",
        {
            "number": number(10000, 99999),
            "date": date,
            "customer": person,
            "price": money,
            "total": money,
        },
        _invoice,
        fitting=True,
    ),
    Family("slide", {"title": word, "point": word, "share": number(10, 99)}, _slide),
    Family("chart", {"bar": one_value(8), "week": number(10, 52)}, _chart, fitting=True),
    Family("badge", {"person": person, "firm": word, "serial": number(1000, 9999)}, _badge),
    Family("chat", {"name": person, "place": word}, _chat, fitting=True),
    Family("code", {"content": number(0, 10**6)}, _code),
    Family("overlay", {"share": number(10, 80), "goods": word}, _overlay),
    Family("goods", {"colour": shade}, _goods, colours=True, fitting=True),
    Family(
        "table",
        {"cell": lambda rng: (rng.randrange(16), rng.randrange(7), str(rng.randint(1000, 99999)))},
        _table,
    ),
    Family(
        "certificate",
        {"person": person, "course": word, "date": date, "number": number(100, 999)},
        _certificate,
        fitting=True,
    ),
    Family(
        "label",
        {"person": person, "house": number(1, 99), "code": number(10**8, 10**9)},
        _label,
        fitting=True,
    ),
    Family(
        "receipt",
        {"price": money, "total": money, "slip": number(1000, 9999), "date": date},
        _receipt,
        fitting=True,
    ),
    Family("letter", {"person": person, "word": word, "date": date}, _letter, fitting=True),
    Family("menu", {"dish": word, "price": number(4, 39)}, _menu, fitting=True),
    Family("poster", {"word": word, "date": date, "hall": number(1, 9)}, _poster, fitting=True),
    Family(
        "sign",
        {"place": word, "gate": number(1, 9), "way": lambda rng: rng.random() < 0.5},
        _sign,
        fitting=True,
    ),
    Family("plot", {"point": one_value(30), "word": word}, _plot, fitting=True),
    Family(
        "form",
        {"person": person, "number": number(100, 9999), "box": lambda rng: rng.randrange(9)},
        _form,
        fitting=True,
    ),
    Family("bottle", {"colour": shade}, _bottle, fitting=True, colours=True),
    Family(
        "timetable",
        {
            "time": lambda rng: f"{rng.randint(5, 23):02d}:{rng.randint(0, 59):02d}",
            "track": number(1, 24),
        },
        _timetable,
        fitting=True,
    ),
    *THIN_FAMILIES,
    *FILLED_FAMILIES,
)
