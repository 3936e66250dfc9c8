"""Many different files of a few photographs: cropped, brightened, enlarged and made to differ.

And what a decoder does with them. Processes that are started anew import this, so it is light.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.dedup.features import use_one_thread
from tasks.dedup.first_look import make_features
from tasks.embedding.images import read_picture
from tasks.errors import SettingsError
from tasks.settings import LimitSettings

#: Quality of the files, and the spread of their noise, of 255, in squares of so many pixels.
_QUALITY, _SPREAD, _GRAIN = 88, 5, 4
_ENDINGS = {".jpg", ".jpeg", ".png", ".webp"}


def vary(images: Path, into: Path, count: int, side: int) -> None:
    """Make so many JPEG files of a long side in pixels; the same call makes the same files.

    Raises:
        SettingsError: when the folder holds no photographs.
    """
    found = sorted(path for path in images.rglob("*") if path.suffix.lower() in _ENDINGS)
    if not found:
        raise SettingsError(f"{images}: no photographs")
    into.mkdir(parents=True)
    jobs = [
        (number, str(found[number % len(found)]), side, str(into / f"{number:07}.jpg"))
        for number in range(count)
    ]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        list(pool.map(vary_one, jobs, chunksize=16))


def vary_one(job: tuple[int, str, int, str]) -> None:
    """Make one file: (number, photograph, side, where to)."""
    number, source, side, target = job
    rng = random.Random(number)  # noqa: S311 - must be repeatable
    with Image.open(source) as image:
        whole = image.convert("RGB")
    share = rng.uniform(0.55, 0.95)
    width, height = (max(1, int(length * share)) for length in whole.size)
    left, top = rng.randint(0, whole.width - width), rng.randint(0, whole.height - height)
    cut = whole.crop((left, top, left + width, top + height))
    scale = side / max(cut.size)
    sized = cut.resize([max(1, round(length * scale)) for length in cut.size])
    levels = np.asarray(sized, np.float32) * rng.uniform(0.7, 1.3) + rng.randint(-20, 20)
    rows, columns = (-(-length // _GRAIN) for length in levels.shape[:2])
    noise = np.random.default_rng(number).normal(0, _SPREAD, (rows, columns))
    grain = noise.repeat(_GRAIN, 0).repeat(_GRAIN, 1)[: levels.shape[0], : levels.shape[1], None]
    drawn = np.clip(levels + grain, 0, 255).astype(np.uint8)
    Image.fromarray(drawn).save(target, "JPEG", quality=_QUALITY)


def read_files(paths: list[str]) -> int:
    """Read pictures and make their features, as a decoder process does; returns how many."""
    use_one_thread()
    limits = LimitSettings()
    for path in paths:
        make_features(read_picture(Path(path).read_bytes(), limits, 224).thumbnail)
    return len(paths)
