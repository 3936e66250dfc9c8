"""What each stage of a scan costs, beside its floor: the least that the same result can cost.

All is processor time (user and system, child processes too), because the clock of a machine that
does other work says nothing. Floors are measured in the same run, so that their ratios hold on any
machine: a picture's reading against Pillow's decoding alone, the model against its bare call on
numbers that are ready, a first look against its matrix product, lists against theirs.
"""

from __future__ import annotations

import io
import resource
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from flows.order import run_scan
from tasks.catalog.catalog import Catalog
from tasks.dedup.features import extract_features, use_one_thread
from tasks.dedup.first_look import MOST, NUMBERS, make_features, unpack, votes_for
from tasks.dedup.verify import SIMILAR_SCORE, try_to_verify
from tasks.embedding.base import Embedder
from tasks.embedding.images import read_picture
from tasks.errors import SettingsError
from tasks.progress import Progress, silent
from tasks.records import Kind, Picture
from tasks.requests import ScanRequest
from tasks.session import open_embedder
from tasks.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

#: Quality at which photographs are saved at each size.
_QUALITY = 90
#: Side of the matrices whose product tells what the machine can do.
_PEAK = 2048


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a scan.

    Attributes:
        step: what was done.
        per: what the times are of.
        count: how many of these were measured.
        ms: milliseconds of processor time of each.
        floor: what the floor is; empty where there is none.
        floor_ms: the same of the floor.
    """

    step: str
    per: str
    count: int
    ms: float
    floor: str = ""
    floor_ms: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the floor it costs."""
        return self.ms / self.floor_ms if self.floor_ms else None


@dataclass(frozen=True, slots=True)
class SpeedReport:
    """What was measured.

    Attributes:
        gflops: what one core multiplies, float32, in 10^9 operations a second of its time.
        steps: each step, with its floor.
        stages: processor seconds of each stage of a first full scan of the folder.
        table_bytes: bytes of the catalog's tables after it.
        scanned: how many pictures that scan read.
        peak_mb: most memory of this process, and of one child.
    """

    gflops: float
    steps: tuple[Step, ...]
    stages: dict[str, float]
    table_bytes: dict[str, int]
    scanned: int
    peak_mb: tuple[int, int]


def run_speed(
    images: Path,
    settings: Settings,
    *,
    sizes: Sequence[int] = (640, 2000, 4000),
    pictures: int = 24,
    scan: bool = True,
    progress: Progress = silent,
) -> SpeedReport:
    """Measure every step on photographs of a folder, and a first full scan of all of it.

    Args:
        images: photographs, with subfolders; only read.
        settings: model and limits; catalog and documents go to a temporary folder.
        sizes: long sides in pixels at which reading is measured, enlarged where need be.
        pictures: how many photographs the single steps are measured on.
        scan: whether the folder is scanned too.
        progress: told which step is at work.

    Raises:
        SettingsError: when there are fewer than two photographs.
    """
    chosen = _photographs(images, pictures)
    use_one_thread()
    embedder = open_embedder(settings)
    progress("read", 0, 4)
    steps = [_reading(chosen, size, settings, embedder.side) for size in sizes]
    # As they are, for the parts of the embed stage.
    files = [_jpeg(image, max(image.size)) for image in chosen]
    read = [read_picture(data, settings.limits, embedder.side) for data in files]
    own = _ms(lambda: [read_picture(d, settings.limits, embedder.side) for d in files], len(files))
    progress("model", 1, 4)
    model = _model(embedder, np.stack([one.pixels for one in read]))
    progress("pairs", 2, 4)
    pairs = _pairs(read, [_edited(one, settings, embedder.side) for one in chosen])
    steps += [model, *pairs]
    progress("scan", 3, 4)
    stages, table_bytes, scanned = _scan(images, settings) if scan else ({}, {}, 0)
    if scanned:
        parts = own + model.ms + pairs[0].ms
        stage = stages["embed_assets"] * 1000 / scanned
        floor = "reading, features and model alone"
        steps.append(Step("embed stage", "picture", scanned, stage, floor, parts))
    peak = [
        resource.getrusage(who).ru_maxrss // 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return SpeedReport(_gflops(), tuple(steps), stages, table_bytes, scanned, (peak[0], peak[1]))


def _cpu() -> float:
    """Processor seconds of this process and of its children that have ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def _ms(work: Callable[[], object], count: int, times: int = 2) -> float:
    """Milliseconds of processor time of each of ``count``; the first time only warms up."""
    work()
    begun = _cpu()
    for _ in range(times):
        work()
    return (_cpu() - begun) * 1000 / times / max(1, count)


def _photographs(folder: Path, most: int) -> list[Image.Image]:
    """Photographs from all of the folder, evenly."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    found: list[Image.Image] = []
    for path in paths[:: max(1, len(paths) // most)][:most]:
        try:
            with Image.open(path) as image:
                found.append(image.convert("RGB"))
        except (OSError, ValueError):
            continue
    if len(found) < 2:
        raise SettingsError(f"{folder}: fewer than two photographs can be read")
    return found


def _jpeg(image: Image.Image, side: int) -> bytes:
    scale = side / max(image.size)
    sized = image.resize([max(1, round(n * scale)) for n in image.size], Image.Resampling.BICUBIC)
    out = io.BytesIO()
    sized.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def _edited(image: Image.Image, settings: Settings, side: int) -> Picture:
    """A copy: a little cut away, and saved anew."""
    width, height = image.size
    cut = image.crop((width // 20, height // 20, width, height))
    return read_picture(_jpeg(cut, max(image.size)), settings.limits, side)


def _reading(images: list[Image.Image], size: int, settings: Settings, side: int) -> Step:
    files = [_jpeg(image, size) for image in images[: max(2, 24 * 640 // size)]]

    def decode() -> None:
        for data in files:
            Image.open(io.BytesIO(data)).load()

    def read() -> None:
        for data in files:
            read_picture(data, settings.limits, side)

    return Step(
        f"read a JPEG of {size} px",
        "picture",
        len(files),
        _ms(read, len(files)),
        "Pillow decodes it",
        _ms(decode, len(files)),
    )


def _model(embedder: Embedder, pixels: npt.NDArray[np.uint8]) -> Step:
    count = len(pixels)
    name = f"embed, {embedder.space.model} on {embedder.device}"
    return Step(name, "picture", count, _ms(lambda: embedder.embed(pixels), count))


def _pairs(read: list[Picture], copies: list[Picture]) -> list[Step]:
    """Features, the first look at strangers, and the verification of strangers and of copies."""
    jpegs = [one.thumbnail for one in read]
    records = unpack([make_features(jpeg) for jpeg in jpegs])
    full = [extract_features(jpeg) for jpeg in jpegs]
    edited = [extract_features(one.thumbnail) for one in copies]
    strangers = [(a, b) for a in range(len(full)) for b in range(a)][: 4 * len(full)]
    found = [try_to_verify(one, two) for one, two in zip(full, edited, strict=True)]
    kept = [at for at, one in enumerate(found) if one and one.score >= SIMILAR_SCORE]

    def product() -> None:
        one = np.ones((MOST, NUMBERS), np.float32)
        for _ in strangers:
            np.matmul(one, one.T)

    def look() -> None:
        for at in range(len(records)):
            votes_for(records[at], records)

    def alone(work: Callable[[Any], Any], its: Sequence[Any]) -> float:
        return _ms(lambda: [work(one) for one in its], len(its), times=1)

    count = len(jpegs)
    return [
        Step("compact features", "picture", count, alone(make_features, jpegs)),
        Step("full features", "picture", count, alone(extract_features, jpegs)),
        Step(
            "first look",
            "pair",
            count * count,
            _ms(look, count * count),
            "its matrix product",
            _ms(product, len(strangers)),
        ),
        Step(
            "verify strangers in full",
            "pair",
            len(strangers),
            alone(lambda pair: try_to_verify(full[pair[0]], full[pair[1]]), strangers),
        ),
        Step(
            "verify copies",
            "pair",
            len(kept),
            alone(lambda at: try_to_verify(full[at], edited[at]), kept),
        ),
    ]


def _gflops() -> float:
    square = np.ones((_PEAK, _PEAK), np.float32)
    return 2 * _PEAK**3 / (_ms(lambda: square @ square, 1) / 1000) / 1e9


def _scan(images: Path, settings: Settings) -> tuple[dict[str, float], dict[str, int], int]:
    """Processor seconds by stage of a first full scan, bytes by table, and pictures read."""
    stages: dict[str, float] = {}

    def run(stage: Callable[P, R], /, *args: P.args, **options: P.kwargs) -> R:
        begun = _cpu()
        result = stage(*args, **options)
        stages[stage.__name__] = stages.get(stage.__name__, 0.0) + _cpu() - begun
        return result

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        catalog = settings.catalog.model_copy(update={"uri": str(place / "catalog")})
        delivery = settings.delivery.model_copy(update={"folder": place / "reports"})
        delivery = delivery.model_copy(update={"bucket": None})
        mail = settings.mail.model_copy(update={"to": [], "reviewers": {}})
        here = settings.model_copy(update={"catalog": catalog, "delivery": delivery, "mail": mail})
        run_scan(ScanRequest(kind=Kind.FULL, source=str(images)), here, run=run)
        scanned = Catalog(catalog.uri).count("assets", "content IS NOT NULL")
        return stages, bytes_by_table(Path(catalog.uri)), scanned


def bytes_by_table(catalog: Path) -> dict[str, int]:
    """Bytes of each table of a catalog in a folder, the largest first."""
    found = {
        table.stem: sum(path.stat().st_size for path in table.rglob("*") if path.is_file())
        for table in catalog.glob("*.lance")
    }
    return dict(sorted(found.items(), key=lambda one: -one[1]))
