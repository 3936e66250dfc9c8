"""Edits whose direction is asked: which of two files was made of the other.

Each kind is an edit that people and programs make, and says whether pixels can tell its direction.
A picture that was made brighter, mirrored or turned by a quarter holds nothing that says which of
the two was first; a border, a caption or an upscale does.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Make = Callable[[Image.Image, random.Random], Image.Image]
_KERNELS = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BILINEAR)
_WORDS = (
    "Autumn collection",
    "NEW IN",
    "Photo: M. Keller",
    "only this week",
    "Shop 14 / aisle 3",
    "draft, do not publish",
)
_GROUNDS = ("white", "black", "#c8b090", "#2b3a55", "#f2f2f0", "#7a1f2b")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of edit.

    Attributes:
        name: as it stands in tables.
        decided: whether pixels tell which of the two was made of the other.
        make: the edited picture of a picture.
        coarser: whether the copy is saved with a lower quality than the original had; else both
            qualities are drawn from the same range.
    """

    name: str
    decided: bool
    make: Make
    coarser: bool = False


def _same(image: Image.Image, _rng: random.Random) -> Image.Image:
    return image


def _cropped(image: Image.Image, rng: random.Random) -> Image.Image:
    """A window of half to nine tenths of each side, anywhere."""
    width, height = (round(side * rng.uniform(0.55, 0.92)) for side in image.size)
    x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((x, y, x + width, y + height))


def _scaled(low: float, high: float) -> Make:
    def make(image: Image.Image, rng: random.Random) -> Image.Image:
        factor = rng.uniform(low, high)
        size = round(image.width * factor), round(image.height * factor)
        scaled = image.resize(size, rng.choice(_KERNELS))
        # Programs that make small pictures for the web sharpen them a little.
        sharpened = factor < 1 and rng.random() < 0.25
        return scaled.filter(ImageFilter.UnsharpMask(1, 60, 2)) if sharpened else scaled

    return make


def _blurred(image: Image.Image, rng: random.Random) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(image.size) / 320 * rng.uniform(0.9, 2.0)))


def _grey(image: Image.Image, _rng: random.Random) -> Image.Image:
    return image.convert("L").convert("RGB")


def _bordered(image: Image.Image, rng: random.Random) -> Image.Image:
    """A frame of one colour, sometimes with a thin line of another inside."""
    wide = round(min(image.size) * rng.uniform(0.03, 0.12))
    edited = image
    if rng.random() < 0.3:
        edited = ImageOps.expand(edited, max(2, wide // 4), rng.choice(_GROUNDS))
    return ImageOps.expand(edited, wide, rng.choice(_GROUNDS))


def _padded(image: Image.Image, rng: random.Random) -> Image.Image:
    """Laid on a ground of another shape: a square, a banner, a portrait page."""
    shape = rng.choice([1.0, 1.91, 0.8, 1.5])
    wide = max(image.width, round(image.height * shape))
    high = max(image.height, round(wide / shape))
    if wide < image.width * 1.06 and high < image.height * 1.06:
        wide = round(image.width * 1.3)
    ground = Image.new("RGB", (wide, high), rng.choice(_GROUNDS))
    ground.paste(image, ((wide - image.width) // 2, (high - image.height) // 2))
    return ground


def _browser(image: Image.Image, rng: random.Random) -> Image.Image:
    """A browser's window: tabs, an address, a page with lines of text around the picture."""
    dark = rng.random() < 0.5
    page, bar, ink = (
        ("#202124", "#35363a", "#e8eaed") if dark else ("#ffffff", "#dee1e6", "#202124")
    )
    width, height = round(image.width * rng.uniform(1.25, 1.9)), round(image.height * 1.6)
    screen = Image.new("RGB", (width, height), page)
    draw = ImageDraw.Draw(screen)
    high = max(12, height // 18)
    draw.rectangle((0, 0, width, 2 * high), fill=bar)
    small, text = _font(high * 0.55), _font(high * 0.7)
    draw.rounded_rectangle((width * 0.02, 2, width * 0.4, high), 4, fill=page)
    draw.text((width * 0.04, 4), "Summer lookbook", ink, font=small)
    draw.rounded_rectangle((width * 0.12, high * 1.1, width * 0.9, high * 1.9), 6, fill=page)
    draw.text((width * 0.15, high * 1.2), "https://example.com/item/20814", ink, font=small)
    at = round((width - image.width) * rng.uniform(0.1, 0.9)), round(high * 3)
    for line in range(30):
        y = high * 3.2 + line * high * 1.2
        draw.text((width * 0.02, y), rng.choice(_WORDS) + ", size 38", ink, font=text)
        draw.text((width * 0.55, y), rng.choice(_WORDS), ink, font=text)
    screen.paste(image, at)
    return screen


def _phone(image: Image.Image, rng: random.Random) -> Image.Image:
    """A phone's screen: the picture across its whole width, bars and buttons above and below."""
    dark = rng.random() < 0.6
    ground, ink = ("#000000", "#ffffff") if dark else ("#ffffff", "#111111")
    width = image.width
    height = max(round(width * rng.uniform(1.8, 2.2)), round(image.height * 1.3))
    screen = Image.new("RGB", (width, height), ground)
    draw, font = ImageDraw.Draw(screen), _font(width / 16)
    draw.text((width * 0.05, height * 0.01), "9:41", ink, font=font)
    draw.rectangle((width * 0.86, height * 0.015, width * 0.95, height * 0.03), fill=ink)
    draw.text((width * 0.05, height * 0.06), "< Album  today", ink, font=font)
    for place in range(4):
        x = width * (0.12 + 0.25 * place)
        draw.ellipse((x, height * 0.93, x + width / 14, height * 0.93 + width / 14), outline=ink)
    screen.paste(image, (0, (height - image.height) // 2))
    return screen


def _screenshot(image: Image.Image, rng: random.Random) -> Image.Image:
    """A browser's or a phone's screen that shows the picture, at the screen's size."""
    shown = _scaled(0.75, 1.0)(image, rng)
    return (_browser if rng.random() < 0.5 else _phone)(shown, rng)


def _lettered(image: Image.Image, rng: random.Random) -> Image.Image:
    """A line or two of text over the picture."""
    edited = image.copy()
    draw, font = ImageDraw.Draw(edited), _font(min(image.size) * rng.uniform(0.06, 0.12))
    colour = rng.choice(["white", "black", "#d01030", "#ffd400"])
    top = rng.uniform(0.05, 0.75) * image.height
    for line in range(rng.randint(1, 2)):
        y = top + line * font.size * 1.2 if hasattr(font, "size") else top
        draw.text((image.width * 0.05, y), rng.choice(_WORDS), colour, font=font)
    return edited


def _captioned(image: Image.Image, rng: random.Random) -> Image.Image:
    """A bar of text below or above the picture."""
    bar = round(image.height * rng.uniform(0.1, 0.22))
    ground, ink = rng.choice([("white", "black"), ("black", "white"), ("#1d3557", "#f1faee")])
    below = rng.random() < 0.6
    edited = Image.new("RGB", (image.width, image.height + bar), ground)
    edited.paste(image, (0, 0 if below else bar))
    place = image.width * 0.04, (image.height if below else 0) + bar * 0.25
    ImageDraw.Draw(edited).text(place, rng.choice(_WORDS), ink, font=_font(bar * 0.45))
    return edited


def _stamped(image: Image.Image, rng: random.Random) -> Image.Image:
    """A logo in a corner: a coloured plate, a disc or bare letters."""
    edited = image.copy()
    width, height = image.size
    wide, high = width * rng.uniform(0.14, 0.28), height * rng.uniform(0.08, 0.15)
    x = rng.choice([0.03 * width, 0.97 * width - wide])
    y = rng.choice([0.03 * height, 0.97 * height - high])
    draw = ImageDraw.Draw(edited)
    shape, fill = (
        rng.randrange(3),
        rng.choice(["#c81e1e", "#1e50c8", "white", "#0f8a5f", "#222222"]),
    )
    if shape == 0:
        draw.rounded_rectangle((x, y, x + wide, y + high), high / 4, fill=fill)
        draw.text((x + wide / 8, y + high / 4), "NORTH", fill="#f0f0e0", font=_font(high / 2))
    elif shape == 1:
        side = min(wide, high) * 1.3
        draw.ellipse((x, y, x + side, y + side), fill=fill, outline="white", width=2)
        draw.text((x + side / 4, y + side / 5), "N", fill="#f0f0e0", font=_font(side / 2))
    else:
        draw.text((x, y), "north", fill=fill, font=_font(high * 0.9))
    return edited


def _turned_slightly(image: Image.Image, rng: random.Random) -> Image.Image:
    """By one to five degrees: corners filled, the frame grown, or cut to what is inside."""
    angle = rng.uniform(1, 5) * rng.choice([-1, 1])
    how, fill = rng.randrange(3), rng.choice(["white", "black"])
    if how < 2:
        return image.rotate(angle, rng.choice(_KERNELS[::2]), expand=how == 1, fillcolor=fill)
    turned = image.rotate(angle, rng.choice(_KERNELS[::2]))
    x, y = (round(0.1 * abs(angle) / 5 * side) + 1 for side in image.size)
    return turned.crop((x, y, image.width - x, image.height - y))


def _stretched(image: Image.Image, rng: random.Random) -> Image.Image:
    factor = rng.choice([rng.uniform(0.75, 0.93), rng.uniform(1.07, 1.3)])
    size = (round(image.width * factor), image.height)
    if rng.random() < 0.5:
        size = (image.width, round(image.height * factor))
    return image.resize(size, rng.choice(_KERNELS))


def _enhanced(kind: type, *ranges: tuple[float, float]) -> Make:
    def make(image: Image.Image, rng: random.Random) -> Image.Image:
        edited: Image.Image = kind(image).enhance(rng.uniform(*rng.choice(ranges)))
        return edited

    return make


def _gamma(image: Image.Image, rng: random.Random) -> Image.Image:
    gamma = rng.choice([rng.uniform(0.6, 0.8), rng.uniform(1.3, 1.7)])
    return image.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)


def _mirrored(image: Image.Image, _rng: random.Random) -> Image.Image:
    return ImageOps.mirror(image)


def _quarter(image: Image.Image, rng: random.Random) -> Image.Image:
    turn = rng.choice([Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270])
    return image.transpose(turn)


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(8, size))


KINDS: tuple[Kind, ...] = (
    Kind("crop", True, _cropped),
    Kind("resize", True, _scaled(0.4, 0.8)),
    Kind("blur", True, _blurred),
    Kind("jpeg", True, _same, coarser=True),
    Kind("webp", True, _same, coarser=True),
    Kind("grey", True, _grey),
    Kind("border", True, _bordered),
    Kind("padding", True, _padded),
    Kind("screenshot", True, _screenshot),
    Kind("upscale", True, _scaled(1.25, 2.5)),
    Kind("text", True, _lettered),
    Kind("caption", True, _captioned),
    Kind("logo", True, _stamped),
    Kind("turn", True, _turned_slightly),
    Kind("stretch", False, _stretched),
    Kind("brightness", False, _enhanced(ImageEnhance.Brightness, (0.55, 0.8), (1.2, 1.5))),
    Kind("gamma", False, _gamma),
    Kind("saturation", False, _enhanced(ImageEnhance.Color, (0.4, 0.75), (1.3, 1.8))),
    Kind("mirror", False, _mirrored),
    Kind("quarter turn", False, _quarter),
)
