"""The ladder: edits that are planted on photographs, from a new encoding to a third of the picture.

Levels are degrees of difficulty, not tiers. ``exact`` edits only encode anew; ``near`` ones are
what an agency or an editor does in passing; ``hard`` ones leave little of the picture, or turn it.
Every edit draws its parameters from the generator it is given, so a seed gives the same files.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Make = Callable[[Image.Image, random.Random], Image.Image]
_BICUBIC = Image.Resampling.BICUBIC


@dataclass(frozen=True, slots=True)
class Edit:
    """One kind of edit.

    Attributes:
        name: as it stands in file names and tables.
        level: ``exact``, ``near`` or ``hard``.
        make: the edited picture of a picture.
        quality: the JPEG quality it is saved with; None: drawn from 75..95.
        suffix: the file format.
    """

    name: str
    level: str
    make: Make
    quality: int | None = None
    suffix: str = "jpg"

    def bytes_of(self, image: Image.Image, rng: random.Random) -> bytes:
        """The edited picture as a file."""
        edited = self.make(image.convert("RGB"), rng)
        buffer = io.BytesIO()
        quality = self.quality or rng.randint(75, 95)
        kind = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[self.suffix]
        options = {} if kind == "PNG" else {"quality": quality}
        edited.save(buffer, kind, **options)
        return buffer.getvalue()


def _same(image: Image.Image, rng: random.Random) -> Image.Image:
    return image


def _scaled(factor: float) -> Make:
    def make(image: Image.Image, rng: random.Random) -> Image.Image:
        size = max(8, round(image.width * factor)), max(8, round(image.height * factor))
        return image.resize(size, Image.Resampling.LANCZOS)

    return make


def _cropped(side: float) -> Make:
    """A window of ``side`` of each dimension, anywhere."""

    def make(image: Image.Image, rng: random.Random) -> Image.Image:
        width, height = round(image.width * side), round(image.height * side)
        x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
        return image.crop((x, y, x + width, y + height))

    return make


def _stretched(low: float, high: float) -> Make:
    def make(image: Image.Image, rng: random.Random) -> Image.Image:
        factor = rng.uniform(low, high)
        if rng.random() < 0.5:
            return image.resize((round(image.width * factor), image.height), _BICUBIC)
        return image.resize((image.width, round(image.height * factor)), _BICUBIC)

    return make


def _bordered(image: Image.Image, rng: random.Random) -> Image.Image:
    colour = rng.choice(["white", "black", "#c8b090"])
    return ImageOps.expand(image, round(min(image.size) * rng.uniform(0.03, 0.1)), colour)


def _letterboxed(image: Image.Image, rng: random.Random) -> Image.Image:
    """Padded to a square, as shops want it."""
    side = max(image.size)
    if image.width == image.height:
        side = round(side * 1.25)
    ground = Image.new("RGB", (side, side), rng.choice(["white", "black"]))
    ground.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return ground


def _enhanced(kind: type, low: float, high: float) -> Make:
    def make(image: Image.Image, rng: random.Random) -> Image.Image:
        edited: Image.Image = kind(image).enhance(rng.uniform(low, high))
        return edited

    return make


def _gamma(image: Image.Image, rng: random.Random) -> Image.Image:
    gamma = rng.choice([rng.uniform(0.6, 0.8), rng.uniform(1.3, 1.7)])
    return image.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)


def _grey(image: Image.Image, rng: random.Random) -> Image.Image:
    return image.convert("L").convert("RGB")


def _sepia(image: Image.Image, rng: random.Random) -> Image.Image:
    return ImageOps.colorize(image.convert("L"), "#1e1408", "#fff2d8")


def _warmed(image: Image.Image, rng: random.Random) -> Image.Image:
    """Another white balance."""
    gain = rng.uniform(1.06, 1.15)
    red, green, blue = image.split()
    pair = (red, blue) if rng.random() < 0.5 else (blue, red)
    up = pair[0].point(lambda value: min(255, round(value * gain)))
    down = pair[1].point(lambda value: round(value / gain))
    channels = (up, green, down) if pair[0] is red else (down, green, up)
    return Image.merge("RGB", channels)


def _blurred(image: Image.Image, rng: random.Random) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(image.size) / 320 * rng.uniform(0.8, 1.6)))


def _sharpened(image: Image.Image, rng: random.Random) -> Image.Image:
    return image.filter(ImageFilter.UnsharpMask(2, rng.randint(80, 180), 2))


def _noisy(image: Image.Image, rng: random.Random) -> Image.Image:
    state = rng.randbytes(image.width * image.height)
    noise = Image.frombytes("L", image.size, state).point(lambda value: 128 + (value - 128) // 6)
    return ImageChops.add(image, Image.merge("RGB", [noise] * 3), scale=1.0, offset=-128)


def _rotated(low: float, high: float, *, expand: bool) -> Make:
    def make(image: Image.Image, rng: random.Random) -> Image.Image:
        angle = rng.uniform(low, high) * rng.choice([-1, 1])
        fill = rng.choice(["white", "black"])
        return image.rotate(angle, _BICUBIC, expand=expand, fillcolor=fill)

    return make


def _turned(how: Image.Transpose) -> Make:
    def make(image: Image.Image, rng: random.Random) -> Image.Image:
        return image.transpose(how)

    return make


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(8, size))


def _captioned(image: Image.Image, rng: random.Random) -> Image.Image:
    """A line of text over the picture."""
    edited = image.copy()
    text = rng.choice(["SUMMER SALE", "New arrivals", "Photo: North Agency / 2024", "50% OFF"])
    size = min(image.size) * rng.uniform(0.06, 0.11)
    place = image.width * 0.05, rng.choice([0.05, 0.8]) * image.height
    ImageDraw.Draw(edited).text(
        place, text, fill=rng.choice(["white", "black", "#d01030"]), font=_font(size)
    )
    return edited


def _logo(image: Image.Image, rng: random.Random) -> Image.Image:
    edited = image.copy()
    width, height = image.size
    wide, high = width * rng.uniform(0.15, 0.28), height * rng.uniform(0.08, 0.14)
    x = rng.choice([0.03 * width, 0.97 * width - wide])
    y = rng.choice([0.03 * height, 0.97 * height - high])
    draw = ImageDraw.Draw(edited)
    draw.rounded_rectangle(
        (x, y, x + wide, y + high), high / 4, fill=rng.choice(["#c81e1e", "#1e50c8", "white"])
    )
    draw.text((x + wide / 8, y + high / 4), "AGENCY", fill="#202020", font=_font(high / 2))
    return edited


def _watermarked(image: Image.Image, rng: random.Random) -> Image.Image:
    """A stock agency's lines of half-transparent text."""
    layer = Image.new("L", image.size, 0)
    draw, font = ImageDraw.Draw(layer), _font(min(image.size) / 12)
    for row in range(4):
        for column in range(3):
            place = (column + row % 2 / 2 - 0.4) * image.width / 2.5, (row + 0.3) * image.height / 4
            draw.text(place, "preview", fill=90, font=font)
    return Image.composite(Image.new("RGB", image.size, "white"), image, layer)


def _badge(image: Image.Image, rng: random.Random) -> Image.Image:
    """A shop's banner over a fifth to a quarter of the picture."""
    edited = image.copy()
    width, height = image.size
    share = rng.uniform(0.2, 0.27)
    draw = ImageDraw.Draw(edited)
    top = rng.choice([0.0, height * (1 - share)])
    draw.rectangle((0, top, width, top + height * share), fill=rng.choice(["#f4c010", "#101010"]))
    draw.text(
        (width * 0.06, top + height * share * 0.3),
        "ONLY TODAY  -30%",
        fill="#e02020",
        font=_font(height * share * 0.4),
    )
    return edited


def _meme(image: Image.Image, rng: random.Random) -> Image.Image:
    """A white bar with text above, and text over the lower edge."""
    bar = round(image.height * rng.uniform(0.18, 0.25))
    edited = Image.new("RGB", (image.width, image.height + bar), "white")
    edited.paste(image, (0, bar))
    draw, font = ImageDraw.Draw(edited), _font(bar * 0.4)
    draw.text((image.width * 0.04, bar * 0.25), "when it is Monday", fill="black", font=font)
    draw.text((image.width * 0.1, edited.height - bar * 0.7), "again", fill="white", font=font)
    return edited


def _screenshot(image: Image.Image, rng: random.Random) -> Image.Image:
    """Shown in a program's window: bars, a side panel, text, the picture scaled down."""
    width, height = round(image.width * 1.6), round(image.height * 1.5)
    dark = rng.random() < 0.5
    ground, panel, ink = (
        ("#1e1e1e", "#303030", "#dddddd") if dark else ("#ffffff", "#e4e6ea", "#222222")
    )
    screen = Image.new("RGB", (width, height), ground)
    draw, font = ImageDraw.Draw(screen), _font(height / 36)
    draw.rectangle((0, 0, width, height * 0.08), fill=panel)
    draw.rectangle((0, 0, width * 0.16, height), fill=panel)
    for line in range(9):
        draw.text(
            (width * 0.02, height * (0.12 + 0.06 * line)),
            "Folder " + "abc" * (line % 3 + 1),
            fill=ink,
            font=font,
        )
    draw.text((width * 0.2, height * 0.025), "Library > 2024 > selection", fill=ink, font=font)
    scale = rng.uniform(0.85, 1.1)
    shown = image.resize((round(image.width * scale), round(image.height * scale)), _BICUBIC)
    screen.paste(shown, (round(width * 0.2), round(height * 0.12)))
    return screen


def _collage(image: Image.Image, rng: random.Random) -> Image.Image:
    """One of four tiles; the others are made up."""
    width, height = image.size
    sheet = Image.new("RGB", (2 * width + 12, 2 * height + 12), "white")
    spots = [(0, 0), (width + 12, 0), (0, height + 12), (width + 12, height + 12)]
    chosen = rng.randrange(4)
    for number, spot in enumerate(spots):
        tile = image if number == chosen else _made_up(image.size, rng)
        sheet.paste(tile, spot)
    return sheet


def _made_up(size: tuple[int, int], rng: random.Random) -> Image.Image:
    grid = Image.frombytes("RGB", (5, 5), rng.randbytes(75))
    tile = grid.resize(size, _BICUBIC)
    draw = ImageDraw.Draw(tile)
    for _ in range(6):
        x, y = rng.uniform(0, 0.8) * size[0], rng.uniform(0, 0.8) * size[1]
        box = (x, y, x + rng.uniform(0.05, 0.3) * size[0], y + rng.uniform(0.05, 0.3) * size[1])
        draw.ellipse(box, fill=f"#{rng.randrange(1 << 24):06x}", outline="black")
    return tile


def _after(*steps: Make) -> Make:
    def make(image: Image.Image, rng: random.Random) -> Image.Image:
        for step in steps:
            image = step(image, rng)
        return image

    return make


def _darkened() -> Make:
    return _enhanced(ImageEnhance.Brightness, 0.5, 0.75)


def _brightened() -> Make:
    return _enhanced(ImageEnhance.Brightness, 1.2, 1.5)


LADDER: tuple[Edit, ...] = (
    Edit("png", "exact", _same, suffix="png"),
    Edit("webp", "exact", _same, 70, "webp"),
    Edit("jpeg-q85", "exact", _same, 85),
    Edit("jpeg-q50", "exact", _same, 50),
    Edit("jpeg-q20", "exact", _same, 20),
    Edit("scale-75", "exact", _scaled(0.75)),
    Edit("scale-50", "exact", _scaled(0.5)),
    Edit("scale-30", "exact", _scaled(0.3)),
    Edit("scale-200", "exact", _scaled(2.0)),
    Edit("scale-60-q40", "exact", _scaled(0.6), 40),
    Edit("crop-95", "near", _cropped(0.95)),
    Edit("crop-85", "near", _cropped(0.85)),
    Edit("crop-75", "near", _cropped(0.75)),
    Edit("aspect", "near", _stretched(1.06, 1.18)),
    Edit("border", "near", _bordered),
    Edit("letterbox", "near", _letterboxed),
    Edit("brighter", "near", _brightened()),
    Edit("darker", "near", _darkened()),
    Edit("contrast", "near", _enhanced(ImageEnhance.Contrast, 0.6, 1.5)),
    Edit("gamma", "near", _gamma),
    Edit("saturation", "near", _enhanced(ImageEnhance.Color, 0.3, 1.8)),
    Edit("greyscale", "near", _grey),
    Edit("sepia", "near", _sepia),
    Edit("white-balance", "near", _warmed),
    Edit("blur", "near", _blurred),
    Edit("sharpen", "near", _sharpened),
    Edit("noise", "near", _noisy),
    Edit("rotate-3", "near", _rotated(1.0, 4.0, expand=False)),
    Edit("text", "near", _captioned),
    Edit("logo", "near", _logo),
    Edit("mirror", "hard", _turned(Image.Transpose.FLIP_LEFT_RIGHT)),
    Edit("flip", "hard", _turned(Image.Transpose.FLIP_TOP_BOTTOM)),
    Edit("rotate-90", "hard", _turned(Image.Transpose.ROTATE_90)),
    Edit("rotate-180", "hard", _turned(Image.Transpose.ROTATE_180)),
    Edit("rotate-270", "hard", _turned(Image.Transpose.ROTATE_270)),
    Edit("rotate-12", "hard", _rotated(8.0, 15.0, expand=True)),
    Edit("crop-60", "hard", _cropped(0.6)),
    Edit("crop-45", "hard", _cropped(0.45)),
    Edit("aspect-40", "hard", _stretched(1.3, 1.45)),
    Edit("watermark", "hard", _watermarked),
    Edit("banner", "hard", _badge),
    Edit("meme", "hard", _meme),
    Edit("screenshot", "hard", _screenshot),
    Edit("collage", "hard", _collage),
    Edit("mirror-crop-70", "hard", _after(_turned(Image.Transpose.FLIP_LEFT_RIGHT), _cropped(0.7))),
    Edit("crop-dark-logo", "hard", _after(_cropped(0.75), _darkened(), _logo)),
    Edit("tiny-q25", "hard", _scaled(0.25), 25),
    Edit("grey-crop-text", "hard", _after(_grey, _cropped(0.7), _captioned)),
)
