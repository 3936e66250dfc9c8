"""Families drawn after the rule was made: nothing was ever chosen on them, and nothing may be.

They measure whether the line between documents holds for layouts that nobody thought of, as notes
on a staff, lines of a program or rooms of a plan. Once a rule is changed because of one of them, it
belongs with those for fitting, and another takes its place here.
"""

from __future__ import annotations

import random
from itertools import pairwise

from PIL import Image

from deployments.bench.drawing import (
    SHADES,
    WORDS,
    Family,
    Spec,
    date,
    number,
    page,
    shade,
    word,
    write,
)


def _calendar(spec: Spec, rng: random.Random) -> Image.Image:
    """A month's sheet with a few marked days, one of them another day."""
    image, draw = page((1120, 900))
    write(draw, 60, 30, f"{spec['month']} 2026", 56)
    marked = {rng.randint(1, 30): rng.choice(SHADES[4:8]) for _ in range(3)}
    marked[int(spec["day"])] = "#e0a020"
    for day in range(35):
        x, y = 60 + 144 * (day % 7), 140 + 144 * (day // 7)
        draw.rectangle((x, y, x + 136, y + 136), outline="#b0b0b0", width=2)
        if day < 31:
            write(draw, x + 10, y + 6, str(day + 1), 30)
        if day in marked:
            draw.rectangle((x + 12, y + 84, x + 124, y + 120), fill=marked[day])
    return image


def _ticket(spec: Spec, rng: random.Random) -> Image.Image:
    image, draw = page((1200, 480), rng.choice(("#f4ead8", "#e4eef4", "#fbfbfb")))
    draw.rectangle((0, 0, 880, 90), fill=rng.choice(SHADES[4:8]))
    write(draw, 40, 18, f"{rng.choice(WORDS).title()} hall presents", 44, "white")
    write(draw, 40, 130, f"The {rng.choice(WORDS)} {rng.choice(WORDS)}", 60)
    write(draw, 40, 230, spec["date"], 34)
    write(draw, 40, 330, f"Row {spec['row']}   Seat {spec['seat']}", 48)
    for y in range(10, 480, 24):
        draw.line((900, y, 900, y + 12), fill="#707070", width=4)
    write(draw, 930, 60, f"Row {spec['row']}", 30)
    write(draw, 930, 120, f"Seat {spec['seat']}", 30)
    write(draw, 930, 400, f"{rng.randint(10**5, 10**6)}", 26, "#505050")
    return image


def _listing(spec: Spec, rng: random.Random) -> Image.Image:
    """Lines of a program in an editor, light on dark, of which one name or number differs."""
    image, draw = page((1100, 940), "#1e1e2a")
    for row in range(24):
        write(draw, 20, 24 + 37 * row, str(row + 1), 24, "#6a6a80")
        indent = rng.choice((0, 1, 2)) * 44
        name, value = rng.choice(WORDS), str(rng.randint(0, 999))
        if row == 8:
            name = spec["name"]
        if row == 15:
            value = spec["value"]
        colour = rng.choice(("#c8d8f0", "#9cdcaa", "#e8b878"))
        write(draw, 90 + indent, 24 + 37 * row, f"{name}_{rng.choice(WORDS)} = {value}", 25, colour)
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


LATER_FAMILIES: tuple[Family, ...] = (
    Family(
        "calendar",
        {
            "month": lambda rng: rng.choice(("January", "March", "May", "July", "August")),
            "day": number(0, 30),
        },
        _calendar,
    ),
    Family("ticket", {"row": number(1, 40), "seat": number(1, 60), "date": date}, _ticket),
    Family("listing", {"name": word, "value": number(0, 999)}, _listing),
    Family("staff", {"note": lambda rng: (rng.randrange(60), rng.randint(1, 8))}, _staff),
    Family("plan", {"area": number(6, 40), "door": number(0, 2)}, _plan),
    Family("swatches", {"colour": shade}, _swatches, colours=True),
)
