"""Families drawn after the rule was made: nothing was ever chosen on them, and nothing may be.

They measure whether the line between documents holds for layouts that nobody thought of, as frets
on strings, lines of a program or trees of a garden. Once a rule is changed because of one of them,
it belongs with those for fitting, and another takes its place here.
"""

from __future__ import annotations

import random

from PIL import Image

from deployments.bench.drawing import (
    SHADES,
    WORDS,
    Family,
    Spec,
    date,
    number,
    page,
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


def _tablature(spec: Spec, rng: random.Random) -> Image.Image:
    """Six strings as thin lines with the frets to be pressed on them, of which one is another."""
    image, draw = page((1240, 960), "#fcfcfa")
    write(draw, 420, 30, f"{rng.choice(WORDS).title()} waltz", 46)
    at, fret = spec["fret"]
    for system in range(4):
        top = 150 + 200 * system
        for string in range(6):
            draw.line((50, top + 24 * string, 1190, top + 24 * string), fill="#303030", width=1)
        for bar in range(5):
            draw.line((50 + 285 * bar, top, 50 + 285 * bar, top + 120), fill="#202020", width=2)
        for beat in range(16):
            x, y = 74 + 70 * beat, top + 24 * rng.randrange(6)
            text = str(rng.randint(0, 12))
            if 16 * system + beat == at:
                text = fret
            draw.rectangle((x - 2, y - 10, x + 12 * len(text) + 2, y + 10), fill="#fcfcfa")
            write(draw, x, y - 12, text, 20)
    return image


def _garden(spec: Spec, rng: random.Random) -> Image.Image:
    """Beds, paths and trees of a garden in thin lines with names; a tree or a name differs."""
    image, draw = page((1180, 900), "#fbfdf8")
    draw.rectangle((50, 50, 1130, 850), outline="#182018", width=10)
    for _ in range(7):
        x, y = rng.randint(90, 860), rng.randint(90, 660)
        wide, high = rng.randint(120, 230), rng.randint(80, 150)
        draw.rounded_rectangle((x, y, x + wide, y + high), 24, outline="#203020", width=2)
        write(draw, x + 20, y + 20, rng.choice(WORDS).title(), 24)
    trees = [(rng.randint(90, 1090), rng.randint(90, 810)) for _ in range(26)]
    at, away = spec["tree"]
    trees[at] = (trees[at][0], 90 + (trees[at][1] + away) % 700)
    for x, y in trees:
        draw.ellipse((x - 22, y - 22, x + 22, y + 22), outline="#101810", width=1)
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill="#101810")
    draw.line([(50, 500), (400, 470), (760, 560), (1130, 520)], fill="#303030", width=1)
    draw.line([(50, 530), (400, 500), (760, 590), (1130, 550)], fill="#303030", width=1)
    write(draw, 520, 800, f"{spec['name'].title()} garden", 30)
    return image


def _stacked(spec: Spec, rng: random.Random) -> Image.Image:
    """Stacked columns without gaps between them, one part of which is another's size."""
    image, draw = page((1000, 720))
    write(draw, 60, 20, f"{rng.choice(WORDS).title()} by {rng.choice(WORDS)}", 38)
    fills = rng.sample(SHADES, 5)
    at, by = spec["part"]
    for column in range(12):
        top, left = 640.0, 60 + 74 * column
        for part, fill in enumerate(fills):
            high = rng.uniform(40, 110) + (by if (column, part) == divmod(at, 5) else 0)
            draw.rectangle((left, top - high, left + 73, top - 1), fill=fill)
            top -= high
        write(draw, left + 10, 650, spec["label"] if column == 4 else f"Q{column}", 26)
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
    Family(
        "tablature", {"fret": lambda rng: (rng.randrange(64), str(rng.randint(0, 12)))}, _tablature
    ),
    Family(
        "garden",
        {"tree": lambda rng: (rng.randrange(26), rng.randint(60, 600)), "name": word},
        _garden,
    ),
    Family(
        "stacked",
        {"part": lambda rng: (rng.randrange(60), rng.choice((-30, -20, 20, 30))), "label": word},
        _stacked,
    ),
)
