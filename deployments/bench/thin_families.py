"""Families of thin strokes, for fitting: wires, curves, ruled lines, contours, hatching.

A stroke of one or two pixels has no flat top: every encoding and every resampling changes its
height, and a word of such strokes differs from another by little. How a proof lays one original
over the other was made on these. Staves and plans were drawn to measure it before, and missed.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from deployments.bench.drawing import (
    WORDS,
    Family,
    Spec,
    lines,
    number,
    one_value,
    page,
    word,
    write,
)


def _circuit(spec: Spec, rng: random.Random) -> Image.Image:
    """Thin wires with resistors and capacitors, of which one or a value differs."""
    image, draw = page((1240, 880))
    write(draw, 60, 30, f"{rng.choice(WORDS).title()} amplifier", 40)
    for row in range(5):
        y, thick = 180 + 140 * row, rng.choice((1, 2))
        draw.line((80, y, 1160, y), fill="#101010", width=thick)
        for column in range(6):
            x = 140 + 175 * column
            here = (row, column) == spec["part"]
            kind = rng.randrange(2) ^ here
            draw.rectangle((x, y - 22, x + 80, y + 22), fill="white")
            if kind:
                steps = [(x + 10 * n, y + (0, -16, 0, 16)[n % 4]) for n in range(9)]
                draw.line(steps, fill="#101010", width=thick)
            else:
                for at in (x + 36, x + 44):
                    draw.line((at, y - 22, at, y + 22), fill="#101010", width=thick)
                draw.line((x, y, x + 36, y), fill="#101010", width=thick)
                draw.line((x + 44, y, x + 80, y), fill="#101010", width=thick)
            value = spec["value"] if (row, column) == (2, 3) else str(rng.randint(1, 999))
            write(draw, x + 18, y - 58, value, 22)
            if row < 4 and rng.random() < 0.5:
                draw.line((x + 120, y, x + 120, y + 140), fill="#101010", width=thick)
    return image


def _graph(spec: Spec, rng: random.Random) -> Image.Image:
    """Four curves of one or two pixels over a grid, one of whose points lies elsewhere."""
    image, draw = page((1100, 700))
    for row in range(11):
        draw.line((80, 60 + 56 * row, 1040, 60 + 56 * row), fill="#b0b0b0", width=1)
    for column in range(13):
        draw.line((80 + 80 * column, 60, 80 + 80 * column, 620), fill="#b0b0b0", width=1)
        write(draw, 70 + 80 * column, 630, str(column), 20)
    at, value = spec["point"]
    for curve in range(4):
        values = [rng.randint(100, 520)]
        for _ in range(24):
            values.append(max(70, min(600, values[-1] + rng.randint(-70, 70))))
        if curve == 1:
            values[at] = 70 + 5 * value
        points = [(80 + 40 * n, y) for n, y in enumerate(values)]
        draw.line(
            points, fill=("#101010", "#b81e2a", "#2050b8", "#1e7a44")[curve], width=1 + curve % 2
        )
    write(draw, 90, 14, f"{spec['word'].title()}, litres", 30)
    return image


def _ruled(spec: Spec, rng: random.Random) -> Image.Image:
    """A sheet with ruled lines, a red margin and notes in small thin letters."""
    image, draw = page((1000, 1300), "#fdfdf8")
    for row in range(38):
        draw.line((0, 90 + 31 * row, 1000, 90 + 31 * row), fill="#90a8d0", width=1)
    draw.line((110, 0, 110, 1300), fill="#d06060", width=1)
    for row in range(1, 36, 2):
        text = " ".join(rng.choice(WORDS) for _ in range(6))
        if row == 17:
            text = f"{spec['word']} {spec['number']} {rng.choice(WORDS)}"
        write(draw, 130, 92 + 31 * (row - 1) + 8, text, 19, rng.choice(("#202060", "#404040")))
    return image


def _contours(spec: Spec, rng: random.Random) -> Image.Image:
    """Lines of equal height over a ground of hills; a spot height or a hill differs."""
    high, wide = 820, 1060
    y, x = np.mgrid[0:high, 0:wide].astype(np.float64)
    ground = x * 0.02
    for hill in range(9):
        at_x, at_y, size = rng.uniform(0, wide), rng.uniform(0, high), rng.uniform(80, 220)
        top = rng.uniform(20, 90)
        if hill == 4:
            at_x, at_y, size, top = 530 + 20 * int(spec["hill"]), 400, 120, 60
        ground = ground + top * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * size**2))
    slope = np.maximum(np.hypot(*np.gradient(ground)), 1e-3)
    # How far the nearest line of a multiple of 8 lies, in pixels; a line is 1.4 wide and soft.
    off = np.abs((ground / 8 + 0.5) % 1 - 0.5) * 8 / slope
    ink = np.clip(1.2 - off, 0, 1)[..., None]
    colours = np.array([253.0, 252.0, 246.0]) * (1 - ink) + np.array([150.0, 90.0, 40.0]) * ink
    image = Image.fromarray(np.rint(colours).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for spot in range(12):
        at = rng.uniform(40, wide - 90), rng.uniform(40, high - 50)
        write(draw, *at, spec["height"] if spot == 5 else str(rng.randint(100, 999)), 20)
    return image


def _section(spec: Spec, rng: random.Random) -> Image.Image:
    """A drawing of a part: hatched bodies, thin outlines and dimensions, of which one differs."""
    image, draw = page((1200, 840), rng.choice(("white", "#f6f8fb")))
    for part in range(6):
        left, top = 100 + 370 * (part % 3), 120 + 350 * (part // 3)
        wide, high = rng.randint(160, 260), rng.randint(120, 200)
        step = rng.choice((9, 12, 16))
        if part == 2:
            step = int(spec["step"])
        for start in range(left - high, left + wide, step):
            one, two = max(start, left), min(start + high, left + wide)
            draw.line((one, top + one - start, two, top + two - start), fill="#202020", width=1)
        draw.rectangle((left, top, left + wide, top + high), outline="#101010", width=2)
        y = top + high + 40
        draw.line((left, y, left + wide, y), fill="#303030", width=1)
        for end in (left, left + wide):
            draw.line((end, top + high + 6, end, y + 8), fill="#303030", width=1)
        size = spec["size"] if part == 4 else str(rng.randint(10, 400))
        write(draw, left + wide / 2 - 20, y - 28, size, 22)
        radius = rng.randint(14, 34)
        middle = left + wide / 2, top + high / 2
        box = [middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius]
        draw.ellipse(box, fill="white", outline="#101010", width=2)
    lines(draw, (100, 790, 900), 1, 18, rng)
    return image


def _stitched(spec: Spec, rng: random.Random) -> Image.Image:
    """Waves of thin light strokes on a dark sheet, as in an emblem or a banknote, and a number."""
    image, draw = page((1000, 700), rng.choice(("#14202e", "#2a1420")))
    for wave in range(26):
        high, long = rng.uniform(8, 26), rng.uniform(40, 130)
        shift = rng.uniform(0, 6)
        points = [
            (x, 60 + 22 * wave + high * math.sin(x / long + shift)) for x in range(40, 961, 4)
        ]
        draw.line(points, fill=rng.choice(("#e8e0c8", "#c8d8e8")), width=1)
    draw.rectangle((380, 300, 640, 390), fill="#14202e")
    write(draw, 410, 316, spec["number"], 44, "#f4f0e0")
    write(draw, 60, 640, f"Series {spec['series']}", 24, "#f4f0e0")
    return image


def _abacus(spec: Spec, rng: random.Random) -> Image.Image:
    """Beads on thin rods, one of which stands on another place of its rod."""
    image, draw = page((1280, 940), "#fcfbf6")
    write(draw, 420, 24, f"{rng.choice(WORDS).title()} accounts", 44)
    draw.rectangle((50, 110, 1230, 900), outline="#202020", width=2)
    at, moved = spec["bead"]
    for rod in range(14):
        y = 150 + 52 * rod
        draw.line((50, y, 1230, y), fill="#181818", width=rng.choice((1, 2)))
        for bead in range(12):
            place = rng.randint(0, 6) + (moved if 12 * rod + bead == at else 0)
            x = 80 + 95 * bead + 9 * place
            draw.ellipse((x - 11, y - 15, x + 11, y + 15), fill="#101010")
    return image


def _wiring(spec: Spec, rng: random.Random) -> Image.Image:
    """Ducts drawn as thick lines with names and lengths in small print beside them."""
    image, draw = page((1150, 830))
    for row in range(5):
        y = 90 + 160 * row
        for column in range(5):
            x = 60 + 210 * column
            if rng.random() < 0.8:
                draw.line((x, y, x + 210, y), fill="#202020", width=rng.choice((6, 8, 12)))
            if rng.random() < 0.6:
                draw.line((x, y, x, y + 160), fill="#202020", width=rng.choice((6, 8)))
            text = spec["long"] if (row, column) == (2, 2) else str(rng.randint(1, 90))
            write(draw, x + 24, y + 20, rng.choice(WORDS).title(), 28)
            write(draw, x + 24, y + 62, f"{text} cm", 24, "#404040")
            if 5 * row + column == int(spec["gap"]):
                draw.rectangle((x + 70, y - 8, x + 130, y + 8), fill="white")
    return image


def _staff(spec: Spec, rng: random.Random) -> Image.Image:
    """Staves with notes, of which one stands on another line."""
    image, draw = page((1300, 900), "#fdfcf8")
    write(draw, 460, 30, f"{rng.choice(WORDS).title()} march", 50)
    heights = [rng.randint(0, 8) for _ in range(60)]
    at, moved = spec["note"]
    heights[at] = (heights[at] + moved) % 9
    for stave in range(4):
        top = 170 + 180 * stave
        for line in range(5):
            draw.line((60, top + 20 * line, 1240, top + 20 * line), fill="#202020", width=2)
        for note in range(15):
            x, y = 110 + 75 * note, top + 80 - 10 * heights[15 * stave + note]
            draw.ellipse((x - 13, y - 9, x + 13, y + 9), fill="#101010")
            draw.line((x + 12, y, x + 12, y - 62), fill="#101010", width=3)
    return image


def _plan(spec: Spec, rng: random.Random) -> Image.Image:
    """Rooms of a floor with their names and areas; a door or an area differs."""
    image, draw = page((1100, 860))
    draw.rectangle((60, 60, 1040, 800), outline="#202020", width=12)
    ys = [60, rng.randint(280, 340), rng.randint(520, 600), 800]
    for band, (top, low) in enumerate(pairwise(ys)):
        xs = [60, rng.randint(320, 420), rng.randint(640, 760), 1040]
        for room, (left, right) in enumerate(pairwise(xs)):
            draw.rectangle((left, top, right, low), outline="#202020", width=8)
            area = spec["area"] if (band, room) == (1, 1) else str(rng.randint(6, 40))
            write(draw, left + 30, top + 40, rng.choice(WORDS).title(), 30)
            write(draw, left + 30, top + 84, f"{area} m2", 26, "#404040")
            if band == int(spec["door"]) and room < 2:
                draw.rectangle((right - 6, low - 110, right + 6, low - 40), fill="white")
    return image


THIN_FAMILIES: tuple[Family, ...] = (
    Family(
        "circuit",
        {
            "part": lambda rng: (rng.randrange(5), rng.randrange(6)),
            "value": number(1, 999),
        },
        _circuit,
        fitting=True,
    ),
    Family("graph", {"point": one_value(25), "word": word}, _graph, fitting=True),
    Family("ruled", {"word": word, "number": number(10, 999)}, _ruled, fitting=True),
    Family("contours", {"hill": number(0, 9), "height": number(100, 999)}, _contours, fitting=True),
    Family("section", {"size": number(10, 400), "step": number(7, 22)}, _section, fitting=True),
    Family(
        "stitched",
        {"number": number(1000, 9999), "series": number(10, 99)},
        _stitched,
        fitting=True,
    ),
    Family(
        "abacus",
        {"bead": lambda rng: (rng.randrange(168), rng.choice((-2, -1, 1, 2)))},
        _abacus,
        fitting=True,
    ),
    Family("wiring", {"long": number(1, 90), "gap": number(0, 24)}, _wiring, fitting=True),
    Family(
        "staff",
        {"note": lambda rng: (rng.randrange(60), rng.randint(1, 8))},
        _staff,
        fitting=True,
    ),
    Family("plan", {"area": number(6, 40), "door": number(0, 2)}, _plan, fitting=True),
)
