"""Different photographs in one template, a banner, a page, a frame: none is a copy of another.

A campaign puts one banner on thousands of pictures. Whoever calls those copies of one another makes
a group of thousands, which is what people fear most; so it is measured by itself, all against all,
whatever an embedding would have proposed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from deployments.bench.plant import find_photos, read_photo
from tasks.dedup.features import Features, extract_features, use_one_thread
from tasks.dedup.verify import NEAR_SCORE, SIMILAR_SCORE, verify_pair
from tasks.embedding.images import make_thumbnail
from tasks.errors import SettingsError
from tasks.progress import Progress, silent
from tasks.records import THUMBNAIL_SIDE

#: Above or below a picture (share of what comes of it), over a corner, or around it.
_ADDED, _CORNER, _AROUND = (0.15, 0.25, 0.35, 0.45, 0.6), (0.05, 0.1, 0.2), (0.15, 0.3, 0.5)
_LINES = (
    "Sizes 36 to 44, all colours, in stock",
    "Free delivery, and thirty days to return",
    "www.example.com/winter",
    "Only as long as there are some left",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One template.

    Attributes:
        template: its name.
        share: of the area that it takes.
        pairs: pairs of different photographs in it, all of them.
        near: how many of them are called copies: wrong.
        similar: how many are reported apart.
        own: photographs compared with themselves in the template.
        found: how many of those are called copies: right.
    """

    template: str
    share: float
    pairs: int
    near: int
    similar: int
    own: int
    found: int


Make = Callable[[Image.Image, float, Image.Image, random.Random], Image.Image]


def run_templates(
    images: Path, *, seed: int = 0, pictures: int = 40, progress: Progress = silent
) -> list[Row]:
    """Put photographs into every template, and verify all pairs of each.

    Args:
        images: a folder of photographs, read with its subfolders.
        seed: names the draw.
        pictures: how many photographs; pairs grow with its square.
        progress: told after each template.

    Raises:
        SettingsError: when there are too few photographs.
    """
    use_one_thread()
    photos, pattern = _draw(images, seed, pictures)
    jobs = [(name, make, share) for name, make, shares in TEMPLATES for share in shares]
    rows = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        plain = list(pool.map(_features, photos))
        for number, (name, make, share) in enumerate(jobs):
            rng = random.Random(f"{seed} {name} {share}")  # noqa: S311 - must be repeatable
            filled = [make(photo, share, pattern, rng) for photo in photos]
            known = list(pool.map(_features, filled))
            scores = list(pool.map(_score, combinations(known, 2)))
            own = list(pool.map(_score, zip(plain, known, strict=True)))
            rows.append(
                Row(
                    template=name,
                    share=share,
                    pairs=len(scores),
                    near=sum(score >= NEAR_SCORE for score in scores),
                    similar=sum(SIMILAR_SCORE <= score < NEAR_SCORE for score in scores),
                    own=len(own),
                    found=sum(score >= NEAR_SCORE for score in own),
                )
            )
            progress("templates", number + 1, len(jobs))
    return rows


def _draw(images: Path, seed: int, pictures: int) -> tuple[list[Image.Image], Image.Image]:
    """The photographs, reduced, and one more for the templates that need a picture."""
    paths = list(find_photos(images.expanduser()).values())
    random.Random(f"{seed} templates").shuffle(paths)  # noqa: S311 - must be repeatable
    photos: list[Image.Image] = []
    for path in paths:
        if len(photos) > pictures:
            break
        photo = read_photo(path)
        if photo is not None:
            photo.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            photos.append(photo)
    if len(photos) <= pictures:
        raise SettingsError(
            f"--images {images}: {len(photos)} photographs can be read, and --pictures {pictures} "
            "needs one more than that"
        )
    return photos[:-1], photos[-1]


def _features(image: Image.Image) -> Features:
    """As a scan sees a file: its thumbnail."""
    return extract_features(make_thumbnail(image))


def _score(pair: tuple[Features, Features]) -> float:
    return verify_pair(*pair).score


def _banner(
    image: Image.Image, share: float, pattern: Image.Image, rng: random.Random
) -> Image.Image:
    """A line of large letters on black, above or below."""
    whole, bar = _room(image, share, "#111111", top=rng.random() < 0.5)
    draw = ImageDraw.Draw(whole)
    draw.text(
        (12, bar[0] + 8), "ONLY TODAY  -30%", "#e02020", ImageFont.load_default(min(28, bar[1] / 2))
    )
    return whole


def _page(
    image: Image.Image, share: float, pattern: Image.Image, rng: random.Random
) -> Image.Image:
    """Lines of small print on white, above."""
    whole, bar = _room(image, share, "#ffffff", top=True)
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(12)
    for line in range(max(1, bar[1] // 16)):
        draw.text((10, bar[0] + 16 * line), _LINES[line % 4][line // 4 :], "#202020", font)
    return whole


def _strip(
    image: Image.Image, share: float, pattern: Image.Image, rng: random.Random
) -> Image.Image:
    """A strip of a photograph, above."""
    whole, bar = _room(image, share, "#ffffff", top=True)
    whole.paste(pattern.resize((image.width, bar[1])), (0, bar[0]))
    return whole


def _corner(
    image: Image.Image, share: float, pattern: Image.Image, rng: random.Random
) -> Image.Image:
    """A small picture over the lower right corner, as a logo or a presenter's face."""
    side = round((image.width * image.height * share) ** 0.5)
    whole = image.copy()
    whole.paste(pattern.resize((side, side)), (image.width - side - 4, image.height - side - 4))
    return whole


def _frame(
    image: Image.Image, share: float, pattern: Image.Image, rng: random.Random
) -> Image.Image:
    """A photograph around a photograph."""
    whole = pattern.resize(image.size)
    inner = image.resize(tuple(round(side * (1 - share) ** 0.5) for side in image.size))
    whole.paste(inner, ((whole.width - inner.width) // 2, (whole.height - inner.height) // 2))
    return whole


def _room(
    image: Image.Image, share: float, ground: str, *, top: bool
) -> tuple[Image.Image, tuple[int, int]]:
    """A picture with room above or below, and where that begins and how high it is."""
    bar = round(image.height * share / (1 - share))
    whole = Image.new("RGB", (image.width, image.height + bar), ground)
    whole.paste(image, (0, bar if top else 0))
    return whole, (0 if top else image.height, bar)


#: Name, how it is made, and the shares of the area it is measured with.
TEMPLATES: tuple[tuple[str, Make, tuple[float, ...]], ...] = (
    ("banner", _banner, _ADDED),
    ("page", _page, _ADDED),
    ("strip", _strip, _ADDED),
    ("corner", _corner, _CORNER),
    ("frame", _frame, _AROUND),
)
