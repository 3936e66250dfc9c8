"""Does the right file stay? Originals and edits of them, the qualities of both drawn at random.

An original and its copy are saved in formats and qualities, and from sizes, that are drawn from the
same ranges, so that encoding gives nothing away: where an edit is not seen, the answer is a coin,
and "cannot tell" is right. Pairs are judged one by one, and groups of one original and several
edits are formed as a scan forms them.
"""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

import polars as pl
from PIL import Image, ImageDraw

from deployments.bench.keeper_edits import KINDS, Kind
from deployments.bench.noise import draw_noise
from deployments.bench.plant import find_photos, read_photo
from tasks.dedup.explain import explain_pair
from tasks.dedup.features import Features, extract_features, use_one_thread
from tasks.dedup.groups import group_matches
from tasks.dedup.keepers import find_copies
from tasks.dedup.origin import PictureFacts
from tasks.dedup.verify import NEAR_SCORE, verify_pair
from tasks.embedding.images import read_picture
from tasks.progress import Progress, silent
from tasks.records import Picture
from tasks.settings import LimitSettings

RIGHT, UNSURE, WRONG, MISSED = "right", "cannot tell", "wrong", "no match"
#: All files of a bench are equally old: time gives nothing away either.
_TIME = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class File:
    """One file as a catalog knows it.

    Attributes:
        name: what a key would be; drawn at random.
        kind: the edit; empty for the original.
        size: bytes.
    """

    name: str
    kind: str
    picture: Picture
    size: int

    @property
    def facts(self) -> PictureFacts:
        """As the words of a pair know a file."""
        one = self.picture
        return PictureFacts(one.width, one.height, self.size, one.format, one.quality)


@dataclass(frozen=True, slots=True)
class Answer:
    """One pair, or one group, and what was said of it."""

    kind: str
    decided: bool
    said: str
    reasons: str


@dataclass(frozen=True, slots=True)
class KindRow:
    """The answers of one kind, or of several."""

    kind: str
    asked: int
    right: int
    cannot_tell: int
    wrong: int
    no_match: int


def run_keepers(
    images: Path | None,
    *,
    seed: int = 0,
    pairs: int = 20,
    groups: int = 100,
    progress: Progress = silent,
) -> tuple[list[KindRow], list[Answer]]:
    """Ask which is the original, of pairs of each kind and of groups.

    Args:
        images: a folder of photographs, read with its subfolders; None: drawn pictures.
        seed: names the draw.
        pairs: of each kind, one original and one edit.
        groups: of one original and three to five edits of different kinds.
        progress: told after each pair and group.

    Returns:
        A row a kind, sums of the kinds that pixels decide and of the others, and the groups; and
        every answer.

    Raises:
        SettingsError: when there are no photographs.
    """
    photos: list[Path | None] = [None]
    if images is not None:
        photos = list(find_photos(images.expanduser()).values())
    rng = random.Random(f"{seed} keepers")  # noqa: S311 - must be repeatable, not secret
    jobs: list[tuple[Path | None, str, tuple[str, ...]]] = [
        (rng.choice(photos), f"{seed} {kind.name} {number}", (kind.name,))
        for kind in KINDS
        for number in range(pairs)
    ]
    for number in range(groups):
        drawn = rng.sample([kind.name for kind in KINDS if kind.decided], rng.randint(3, 5))
        jobs.append((rng.choice(photos), f"{seed} group {number}", tuple(drawn)))
    answers: list[Answer] = []
    # Started anew, not forked: a fork copies the locks that other threads hold, and waits for ever.
    workers = min(os.cpu_count() or 1, 4)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done, answer in enumerate(pool.map(_asked, jobs, chunksize=4), 1):
            answers += [answer] if answer is not None else []
            progress("keepers", done, len(jobs))
    return [*_rows(answers)], answers


def _asked(job: tuple[Path | None, str, tuple[str, ...]]) -> Answer | None:
    """The answer to one pair or group; None where the photograph cannot be read."""
    use_one_thread()
    path, name, kinds = job
    rng = random.Random(name)  # noqa: S311 - must be repeatable
    photo = read_photo(path) if path else draw_picture(rng)
    if photo is None:
        return None
    files = make_files(photo, [kind for kind in KINDS if kind.name in kinds], rng)
    if len(files) > 2:
        return judge_group(files)
    return judge_pair(files, next(kind for kind in KINDS if kind.name == kinds[0]))


def make_files(photo: Image.Image, kinds: Sequence[Kind], rng: random.Random) -> list[File]:
    """An original and an edit of each kind, in random order."""
    factor = rng.uniform(0.6, 1.0)  # of the photographs of one camera all had one size
    size = round(photo.width * factor), round(photo.height * factor)
    original = photo.resize(size, Image.Resampling.LANCZOS)
    coarser = any(kind.coarser for kind in kinds)
    made = [("", _encoded(original, rng, least=82 if coarser else 60))]
    made += [(kind.name, _copy(kind, original, rng)) for kind in kinds]
    rng.shuffle(made)
    return [_file(f"{rng.getrandbits(40):010x}", kind, data) for kind, data in made]


def _copy(kind: Kind, original: Image.Image, rng: random.Random) -> bytes:
    edited = kind.make(original, rng)
    if kind.coarser:
        return _saved(edited, "WEBP" if kind.name == "webp" else "JPEG", rng.randint(20, 55))
    return _encoded(edited, rng)


def _encoded(image: Image.Image, rng: random.Random, least: int = 60) -> bytes:
    kind = rng.choices(["JPEG", "WEBP", "PNG"], [6, 2, 2])[0]
    return _saved(image, kind, rng.randint(least, 95))


def _saved(image: Image.Image, kind: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({} if kind == "PNG" else {"quality": quality}))
    return buffer.getvalue()


def _file(name: str, kind: str, data: bytes) -> File:
    return File(name, kind, read_picture(data, LimitSettings(), 32), len(data))


def judge_pair(files: Sequence[File], kind: Kind) -> Answer:
    """Which of two files is the original."""
    left, right = files
    verified = verify_pair(_features(left), _features(right))
    if verified.evidence is None or verified.score < NEAR_SCORE:
        return Answer(kind.name, kind.decided, MISSED, "")
    told = explain_pair(verified.evidence, left.facts, right.facts)
    named = {"left": left, "right": right}.get(told.original)
    said = UNSURE if named is None else WRONG if named.kind else RIGHT
    return Answer(kind.name, kind.decided, said, "; ".join((told.changes, *told.reasons)))


def judge_group(files: Sequence[File]) -> Answer:
    """Which file of a group stays; copies that do not match the keeper are left aside."""
    features = {file.name: _features(file) for file in files}
    rows = []
    for one, two in combinations(sorted(files, key=lambda file: file.name), 2):
        verified = verify_pair(features[one.name], features[two.name])
        if verified.evidence is not None and verified.score >= NEAR_SCORE:
            rows.append((one.name, two.name, verified.score, verified.evidence.as_json()))
    columns = {"left": pl.String, "right": pl.String, "score": pl.Float64, "evidence": pl.String}
    matches = pl.DataFrame(rows, schema=columns, orient="row")
    members = group_matches(_assets(files), matches)
    truth = next(file.name for file in files if not file.kind)
    mine = members.filter(asset_id=truth)["group_id"].to_list()
    kinds = ", ".join(sorted(file.kind for file in files if file.kind))
    if not mine:
        return Answer("groups", True, MISSED, kinds)
    group = members.filter(pl.col("group_id") == mine[0])["asset_id"].to_list()
    keeper = next(file for file in files if file.name == group[0])
    unsure = set(group) - find_copies(_assets(files), matches) != {keeper.name}
    said = UNSURE if unsure else WRONG if keeper.kind else RIGHT
    return Answer("groups", True, said, f"{keeper.kind or 'original'} of {kinds}")


def _assets(files: Sequence[File]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "asset_id": file.name,
                "key": file.name,
                "source": "bench",
                "content": file.name,
                "width": file.picture.width,
                "height": file.picture.height,
                "format": file.picture.format,
                "quality": file.picture.quality,
                "size": file.size,
                "last_modified": _TIME,
            }
            for file in files
        ]
    )


def _features(file: File) -> Features:
    return extract_features(file.picture.thumbnail)


def _is_of(kind: str, answer: Answer) -> bool:
    return answer.kind == kind


def _rows(answers: Sequence[Answer]) -> Iterable[KindRow]:
    for kind in KINDS:
        yield _row(kind.name, answers, partial(_is_of, kind.name))
    pairs: Callable[[Answer], bool] = lambda one: one.kind != "groups"  # noqa: E731
    yield _row("pixels decide", answers, lambda one: pairs(one) and one.decided)
    yield _row("pixels do not", answers, lambda one: pairs(one) and not one.decided)
    yield _row("all pairs", answers, pairs)
    yield _row("groups", answers, lambda one: not pairs(one))


def _row(name: str, answers: Sequence[Answer], which: Callable[[Answer], bool]) -> KindRow:
    said = [one.said for one in answers if which(one)]
    return KindRow(name, len(said), *(said.count(word) for word in (RIGHT, UNSURE, WRONG, MISSED)))


def draw_picture(rng: random.Random) -> Image.Image:
    """A picture of its own: soft light, things of many colours, and grain at every scale."""
    width, height = rng.choice([(960, 720), (720, 960), (900, 900)])
    light = Image.frombytes("RGB", (6, 5), rng.randbytes(90))
    image = light.resize((width, height), Image.Resampling.BICUBIC)
    for cells in (24, 96, 384):
        wide, high = cells, cells * height // width
        grain = Image.frombytes("L", (wide, high), rng.randbytes(wide * high))
        layer = grain.resize((width, height), Image.Resampling.BICUBIC).convert("RGB")
        image = Image.blend(image, layer, 0.16)
    draw = ImageDraw.Draw(image)
    for _ in range(24):
        x, y = rng.uniform(-0.1, 0.95) * width, rng.uniform(-0.1, 0.95) * height
        box = (x, y, x + rng.uniform(0.03, 0.3) * width, y + rng.uniform(0.03, 0.3) * height)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape(box, fill=f"#{rng.randrange(1 << 24):06x}")
    noise = draw_noise((width, height), 24, rng)
    return Image.blend(image, noise, 0.12)
