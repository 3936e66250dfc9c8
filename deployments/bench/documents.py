"""Documents, designs and variants: different things that look alike, and true copies of each.

A collection of invoices, slides, charts and labels differs in a number, a word or a colour. All
pairs of a family are verified and proven, whatever an embedding would have proposed; what is called
``exact`` and is not is counted by itself, for a policy merges it without a question.
"""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from deployments.bench.drawing import Family
from deployments.bench.families import FAMILIES
from deployments.bench.later_families import LATER_FAMILIES
from deployments.bench.noise import draw_noise
from deployments.bench.pair_answers import Answer, answer_pair, read_known
from tasks.dedup.features import Features, use_one_thread
from tasks.dedup.verify import EXACT_SCORE, NEAR_SCORE
from tasks.progress import Progress, silent

#: Families that coefficients may be fitted to, that figures are reported on, and that were drawn
#: when the rule was done.
Kind = Literal["reporting", "fitting", "later"]
#: Copies that only encode anew: `exact` is the right answer for them, with the original.
ENCODED = ("jpeg-60", "webp-80", "half")


@dataclass(frozen=True, slots=True)
class Sheet:
    """One file of the collection.

    Attributes:
        family: its layout.
        thing: which of the family's different things it shows.
        changed: the field in which that differs from the family's first; empty for the first.
        copy: how it was made of the thing; empty for the thing's own file.
        data: the file.
    """

    family: str
    thing: int
    changed: str
    copy: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Compared:
    """One pair and its answer."""

    left: Sheet
    right: Sheet
    answer: Answer

    @property
    def score(self) -> float:
        """With the proof."""
        return self.answer.score

    @property
    def same(self) -> bool:
        """Whether the two show one thing."""
        return self.left.thing == self.right.thing


@dataclass(frozen=True, slots=True)
class FamilyRow:
    """What was found in one family, or in all.

    Attributes:
        family: its name.
        different: pairs of different things; ``wrong_exact`` and ``wrong_near`` are called copies.
        copies: a thing's own file with each of its copies; ``found`` are called copies.
        encoded: of these, copies that were only encoded anew; ``exact`` are called so.
        proven: pairs whose originals were compared, and of these ``taken_back`` as no copies.
        precision: share of the pairs called copies, edited copies with one another among them, that
            show one thing; None where there are none.
        recall: found of copies.
    """

    family: str
    different: int
    wrong_exact: int
    wrong_near: int
    copies: int
    found: int
    encoded: int
    exact: int
    proven: int
    taken_back: int
    precision: float | None
    recall: float | None


def run_documents(
    *, seed: int = 0, things: int = 4, families: Kind = "reporting", progress: Progress = silent
) -> tuple[list[FamilyRow], list[Compared]]:
    """Verify all pairs of every family.

    Args:
        seed: names the draw.
        things: different things of each family; each has up to eight files, and the pairs grow
            with the square of both.
        families: those for ``reporting``, for ``fitting``, or the ``later`` ones.
        progress: told after each family.

    Returns:
        A row a family and one for all together, and every pair.
    """
    use_one_thread()
    chosen = families_of(families)
    compared: list[Compared] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, family in enumerate(chosen, 1):
            sheets = make_sheets(family, seed, things)
            known = list(pool.map(read_known, [sheet.data for sheet in sheets]))
            answers = pool.map(answer_pair, combinations(known, 2))
            compared += [
                Compared(one, two, answer)
                for (one, two), answer in zip(combinations(sheets, 2), answers, strict=True)
            ]
            progress("documents", done, len(chosen))
    rows = [_row(family.name, _of(compared, family.name)) for family in chosen]
    return [*rows, _row("all", compared)], compared


def families_of(kind: Kind) -> list[Family]:
    """The families of one kind."""
    if kind == "later":
        return list(LATER_FAMILIES)
    return [family for family in FAMILIES if family.fitting == (kind == "fitting")]


def make_sheets(family: Family, seed: int, things: int) -> list[Sheet]:
    """The files of one family: each thing's own, and its copies."""
    sheets = []
    for number, (changed, image) in enumerate(family.things(str(seed), things)):
        rng = random.Random(f"{seed} {family.name} {number}")  # noqa: S311 - must be repeatable
        sheets.append(Sheet(family.name, number, changed, "", _saved(image, "PNG")))
        for name, make in COPIES.items():
            if image.mode == "RGBA" and name not in _KEEP_ALPHA:
                continue
            if name == "grey" and family.colours:
                continue
            sheets.append(Sheet(family.name, number, changed, name, make(image, rng)))
    return sheets


def features_of(data: bytes) -> Features:
    """As a scan sees a file: its thumbnail."""
    return read_known(data).features


def _of(compared: Iterable[Compared], family: str) -> list[Compared]:
    return [pair for pair in compared if pair.left.family == family]


def _row(name: str, pairs: list[Compared]) -> FamilyRow:
    different = [pair for pair in pairs if not pair.same]
    copies = [pair for pair in pairs if pair.same and not pair.left.copy]
    encoded = [pair for pair in copies if pair.right.copy in ENCODED]
    called = [pair for pair in pairs if pair.score >= NEAR_SCORE]
    found = sum(pair.score >= NEAR_SCORE for pair in copies)
    return FamilyRow(
        family=name,
        different=len(different),
        wrong_exact=sum(pair.score >= EXACT_SCORE for pair in different),
        wrong_near=sum(NEAR_SCORE <= pair.score < EXACT_SCORE for pair in different),
        copies=len(copies),
        found=found,
        encoded=len(encoded),
        exact=sum(pair.score >= EXACT_SCORE for pair in encoded),
        proven=sum(pair.answer.proof != "" for pair in pairs),
        taken_back=sum(pair.answer.claim >= NEAR_SCORE > pair.score for pair in pairs),
        precision=sum(pair.same for pair in called) / len(called) if called else None,
        recall=found / len(copies) if copies else None,
    )


def _saved(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _half(image: Image.Image, _: random.Random) -> bytes:
    small = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    return _saved(small, "PNG") if image.mode == "RGBA" else _saved(small, "JPEG", quality=80)


def _cropped(image: Image.Image, _: random.Random) -> bytes:
    """Less its margins, which hold nothing."""
    x, y = round(image.width * 0.04), round(image.height * 0.04)
    return _saved(image.crop((x, y, image.width - x, image.height - y)), "PNG")


def _framed(image: Image.Image, _: random.Random) -> bytes:
    """Shown in a program's window, with a bar and a list of folders."""
    wide, high = round(image.width * 1.3), round(image.height * 1.15)
    screen = Image.new("RGB", (wide, high), "#f0f1f4")
    draw, font = ImageDraw.Draw(screen), ImageFont.load_default(max(12, high // 50))
    draw.rectangle((0, 0, wide, round(high * 0.06)), fill="#404650")
    for row in range(8):
        draw.text((wide * 0.02, high * (0.1 + 0.05 * row)), f"Folder {row}", "#303030", font=font)
    size = round(image.width * 0.9), round(image.height * 0.9)
    shown = image.resize(size, Image.Resampling.BICUBIC)
    screen.paste(shown, (round(wide * 0.25), round(high * 0.12)))
    return _saved(screen, "PNG")


def _scanned(image: Image.Image, rng: random.Random) -> bytes:
    """Off a scanner's glass: turned by a degree, soft, noisy, paper not quite white."""
    turned = image.rotate(
        rng.uniform(0.5, 1.0), Image.Resampling.BICUBIC, expand=True, fillcolor="white"
    )
    soft = turned.filter(ImageFilter.GaussianBlur(1.0))
    noise = draw_noise(soft.size, 8, rng)
    return _saved(Image.blend(soft, noise, 0.08), "JPEG", quality=75)


#: How copies are made, by name.
COPIES: dict[str, Callable[[Image.Image, random.Random], bytes]] = {
    "jpeg-60": lambda image, _: _saved(image, "JPEG", quality=60),
    "webp-80": lambda image, _: _saved(image, "WEBP", quality=80),
    "half": _half,
    "grey": lambda image, _: _saved(image.convert("L"), "PNG"),
    "crop": _cropped,
    "framed": _framed,
    "scan": _scanned,
}
_KEEP_ALPHA = {"webp-80", "half", "crop"}
