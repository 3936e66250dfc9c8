"""What a policy that merges every ``exact`` pair would merge: of what differs, nothing may be.

The smallest policy quarantines what is exact without a question. So the pairs that it acts on are
counted by themselves, over documents, photographs, photographs in one template, and bursts; every
one of them was proven on its originals, as in a scan.
"""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from deployments.bench.drawing import Family
from deployments.bench.families import FAMILIES
from deployments.bench.later_families import LATER_FAMILIES
from deployments.bench.pair_answers import Answer, Known, answer_pair, read_known
from deployments.bench.plant import find_photos, read_photo
from deployments.bench.templates import TEMPLATES
from tasks.dedup.features import use_one_thread
from tasks.dedup.verify import EXACT_SCORE
from tasks.errors import SettingsError
from tasks.merging.rules.bursts import taken_apart, time_taken
from tasks.progress import Progress, silent

#: Each photograph is saved in these ways: kind, quality, and side of what it was.
_SAVED = (
    ("PNG", 0, 1.0),
    ("JPEG", 95, 1.0),
    ("JPEG", 85, 1.0),
    ("JPEG", 75, 1.0),
    ("WEBP", 90, 1.0),
    ("WEBP", 80, 1.0),
    ("JPEG", 90, 0.8),
)
#: Everything else, of which all pairs are compared, in these.
_SAVED_FEW = (_SAVED[0], _SAVED[2], _SAVED[5])
#: Photographs are also compared with so many others that look most like them when very small.
_LOOKALIKES = 5
#: Photographs whose files are held at once.
_AT_ONCE = 25
#: Frames of a burst, and how much of the picture's side the thing takes that moves.
_FRAMES, _THING = 4, (0.04, 0.12)
_EXIF_IFD, _TIME_TAKEN = 0x8769, 0x9003


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """What the policy would do with one kind of pictures.

    Attributes:
        kind: of pictures.
        files: how many.
        different: pairs of files that show different things.
        claimed: how many of them the thumbnails call exact.
        asked: how many it asks about, because EXIF says that they are two shots.
        merged: how many it merges: wrong.
        same: pairs of one thing's files.
        exact: how many of them it merges, all proven on originals.
        proven: pairs of all whose originals were compared.
        bytes: size of the files of those pairs.
    """

    kind: str
    files: int
    different: int
    claimed: int
    asked: int
    merged: int
    same: int
    exact: int
    proven: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Merged:
    """A pair that would be merged and differs."""

    kind: str
    left: str
    right: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class _File:
    thing: str
    name: str
    known: Known


def run_policy(
    images: Path,
    *,
    seed: int = 0,
    photographs: int = 60,
    things: int = 2,
    progress: Progress = silent,
) -> tuple[list[PolicyRow], list[Merged]]:
    """Count what the policy would merge, over all kinds of pictures.

    Args:
        images: a folder of photographs, read with its subfolders.
        seed: names the draw.
        photographs: how many are drawn; a sixth of them are made into bursts, and six at the most
            put into the templates.
        things: different things of each family of documents; 0: no documents.
        progress: told after each batch.

    Returns:
        A row a kind and one for all, and the pairs that were merged and differ.

    Raises:
        SettingsError: when there are too few photographs.
    """
    use_one_thread()
    photos = _draw(images, seed, photographs)
    families = [*FAMILIES, *LATER_FAMILIES] if things else []
    bursts = photos[: photographs // 6]
    kinds: dict[str, tuple[int, Iterator[_Batch]]] = {
        "documents": (len(families), _documents(families, seed, things)),
        "photographs": (len(range(0, photographs, _AT_ONCE)) + 1, _photographs(photos)),
        "templates": (sum(len(shares) for *_, shares in TEMPLATES), _templates(photos[:7], seed)),
        "bursts": (2 * len(bursts), _bursts(bursts, seed)),
    }
    rows, wrong = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for kind, (total, batches) in kinds.items():
            counted = []
            for done, batch in enumerate(batches, 1):
                row, merged = _answer(kind, batch, pool)
                counted.append(row)
                wrong += merged
                progress(kind, done, total)
            rows.append(_total(kind, counted))
    return [*rows, _total("all", rows)], wrong


@dataclass(frozen=True, slots=True)
class _Picture:
    """One thing; with the time it was taken, where it tells one."""

    thing: str
    image: Image.Image
    taken: str = ""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Pictures that are saved in some ways, and which pairs of the files are compared."""

    pictures: Sequence[_Picture]
    ways: Sequence[tuple[str, int, float]] = _SAVED_FEW
    pairs: Literal["all", "own", "alike"] = "all"


def _answer(kind: str, batch: _Batch, pool: Executor) -> tuple[PolicyRow, list[Merged]]:
    saved = [one for picture in batch.pictures for one in _save(picture, batch.ways)]
    known = pool.map(read_known, [data for _, _, data in saved])
    files = [_File(thing, name, one) for (thing, name, _), one in zip(saved, known, strict=True)]
    pairs = list(_pairs(files, batch.pairs))
    answers = pool.map(answer_pair, [(one.known, two.known) for one, two in pairs])
    row, wrong = _count(kind, files, pairs, list(answers))
    # Those that look alike were counted with their own files before.
    return (row if batch.pairs != "alike" else replace(row, files=0)), wrong


def _draw(images: Path, seed: int, count: int) -> list[_Picture]:
    paths = list(find_photos(images.expanduser()).items())
    random.Random(f"{seed} policy").shuffle(paths)  # noqa: S311 - must be repeatable
    found: list[_Picture] = []
    for key, path in paths:
        if len(found) == count:
            break
        photo = read_photo(path)
        if photo is not None:
            found.append(_Picture(key, photo))
    if len(found) < count or count < 7:
        raise SettingsError(
            f"--images {images}: {len(found)} photographs can be read, and {max(count, 7)} are "
            "needed: --photographs says how many, 7 at least"
        )
    return found


def _documents(families: Sequence[Family], seed: int, things: int) -> Iterator[_Batch]:
    for family in families:
        drawn = enumerate(family.things(f"{seed} policy", things))
        yield _Batch([_Picture(f"{family.name} {number}", image) for number, (_, image) in drawn])


def _photographs(photos: Sequence[_Picture]) -> Iterator[_Batch]:
    """Each one's own files, few at once since all are held; then which look most alike."""
    for first in range(0, len(photos), _AT_ONCE):
        yield _Batch(photos[first : first + _AT_ONCE], _SAVED, "own")
    yield _Batch(photos, _SAVED[:1], "alike")


def _templates(photos: Sequence[_Picture], seed: int) -> Iterator[_Batch]:
    *filled, pattern = photos
    for name, make, shares in TEMPLATES:
        for share in shares:
            rng = random.Random(f"{seed} {name} {share}")  # noqa: S311 - must be repeatable
            yield _Batch(
                [
                    _Picture(
                        f"{name} {share} {one.thing}", make(one.image, share, pattern.image, rng)
                    )
                    for one in filled
                ]
            )


def _bursts(photos: Sequence[_Picture], seed: int) -> Iterator[_Batch]:
    """Of each photograph frames in which a thing moved, and frames that only their times tell."""
    for number, photo in enumerate(photos):
        other = photos[(number + 1) % len(photos)]
        rng = random.Random(f"{seed} burst {photo.thing}")  # noqa: S311 - must be repeatable
        yield _Batch(
            [
                _Picture(f"{photo.thing} moved {at}", _frame(photo.image, other.image, rng))
                for at in range(_FRAMES)
            ]
        )
        yield _Batch(
            [
                _Picture(
                    f"{photo.thing} still {at}",
                    _frame(photo.image, None, rng),
                    f"2025:05:04 10:20:{30 + at:02d}",
                )
                for at in range(_FRAMES)
            ]
        )


def _frame(image: Image.Image, thing: Image.Image | None, rng: random.Random) -> Image.Image:
    """The next shot: the camera hardly moved, the sensor's noise is another; perhaps a thing."""
    whole = image.copy()
    if thing is not None:
        side = max(10, round(min(image.size) * rng.uniform(*_THING)))
        round_ = Image.new("L", (side, side))
        round_.paste(255, (2, 2, side - 2, side - 2))
        round_ = round_.filter(ImageFilter.GaussianBlur(1))
        at = rng.randint(0, image.width - side), rng.randint(0, image.height - side)
        whole.paste(thing.resize((side, side)), at, round_)
    shift = rng.uniform(-1, 1), rng.uniform(-1, 1)
    moved = whole.transform(
        whole.size,
        Image.Transform.AFFINE,
        (1, 0, shift[0], 0, 1, shift[1]),
        Image.Resampling.BICUBIC,
    ).crop((2, 2, whole.width - 2, whole.height - 2))
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 2.0, (*moved.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(moved) + noise, 0, 255).astype(np.uint8))


def _save(
    picture: _Picture, ways: Sequence[tuple[str, int, float]]
) -> Iterator[tuple[str, str, bytes]]:
    """Thing, name and bytes of each file of a picture."""
    for kind, quality, side in ways:
        image = picture.image
        if (image.mode == "RGBA" and kind == "JPEG") or (picture.taken and kind == "PNG"):
            continue  # a camera writes no PNG, and Pillow no EXIF without further tags into one
        if side < 1:
            size = round(image.width * side), round(image.height * side)
            image = image.resize(size, Image.Resampling.LANCZOS)
        options: dict[str, object] = {"quality": quality} if quality else {}
        if picture.taken:
            exif = Image.Exif()
            exif.get_ifd(_EXIF_IFD)[_TIME_TAKEN] = picture.taken
            options["exif"] = exif
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        yield picture.thing, f"{picture.thing} {kind} {quality} {side}", buffer.getvalue()


def _pairs(
    files: Sequence[_File], which: Literal["all", "own", "alike"]
) -> Iterator[tuple[_File, _File]]:
    """Pairs to compare: all, each thing's own, or those of things that look most alike."""
    if which == "all":
        yield from combinations(files, 2)
        return
    things: dict[str, list[_File]] = {}
    for file in files:
        things.setdefault(file.thing, []).append(file)
    if which == "own":
        for own in things.values():
            yield from combinations(own, 2)
        return
    firsts = [own[0] for own in things.values()]
    coarse = np.stack([one.known.features.coarse.ravel() for one in firsts])
    coarse /= np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-6)
    alike = coarse @ coarse.T
    np.fill_diagonal(alike, -1)
    seen = set()
    for at, row in enumerate(alike):
        for other in np.argsort(-row)[:_LOOKALIKES]:
            pair = min(at, int(other)), max(at, int(other))
            if pair not in seen:
                seen.add(pair)
                yield firsts[pair[0]], firsts[pair[1]]


def _count(
    kind: str,
    files: Sequence[_File],
    pairs: Sequence[tuple[_File, _File]],
    answers: Sequence[Answer],
) -> tuple[PolicyRow, list[Merged]]:
    wrong, asked, claimed = [], 0, 0
    for (one, two), answer in zip(pairs, answers, strict=True):
        if one.thing == two.thing:
            continue
        claimed += answer.claim >= EXACT_SCORE
        if answer.score < EXACT_SCORE:
            continue
        if taken_apart(time_taken(one.known.exif), time_taken(two.known.exif)) is None:
            wrong.append(Merged(kind, one.name, two.name, answer))
        else:
            asked += 1
    own = [one.thing == two.thing for one, two in pairs]
    exact = [answer.score >= EXACT_SCORE for answer in answers]
    sizes = [len(one.known.data) + len(two.known.data) for one, two in pairs]
    proven = [bool(answer.proof) for answer in answers]
    return PolicyRow(
        kind=kind,
        files=len(files),
        different=own.count(False),
        claimed=claimed,
        asked=asked,
        merged=len(wrong),
        same=sum(own),
        exact=sum(
            both and sure and known for both, sure, known in zip(own, exact, proven, strict=True)
        ),
        proven=sum(proven),
        bytes=sum(size for size, known in zip(sizes, proven, strict=True) if known),
    ), wrong


def _total(kind: str, rows: Iterable[PolicyRow]) -> PolicyRow:
    listed = list(rows)
    names = [name for name in PolicyRow.__slots__ if name != "kind"]
    return PolicyRow(kind, **{name: sum(getattr(row, name) for row in listed) for name in names})
