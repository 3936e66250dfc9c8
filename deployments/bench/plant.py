"""A collection with known duplicates: photographs as they are, and edited copies of some."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from PIL import Image, ImageOps

from deployments.bench.ladder import LADDER, Edit
from tasks.embedding.sniff import PILLOW_FORMATS, sniff
from tasks.errors import SettingsError
from tasks.records import digest

#: Files beside the pictures that are none: the truth, and what it was made of.
TRUTH, RECIPE = "truth.csv", "plant.json"

#: Of a smaller picture a third of a third is left: nothing that could be recognised.
_SMALLEST_SIDE = 64
_HEAD_BYTES = 64


@dataclass(frozen=True, slots=True)
class _Planted:
    """A row of the truth."""

    file: str
    group: str
    edit: str = ""
    level: str = ""


def plant(images: Path, into: Path, seed: int, sources: int, edits: int) -> Path:
    """Lay out the photographs, edited copies of some of them, and the truth.

    Every original is a group of its own with the copies made of it: two copies of one picture that
    were there before are counted as wrong when they are found. The same call with the same
    photographs leaves what is there alone, so that a measurement can be repeated cheaply.

    Args:
        images: a folder of photographs, read with its subfolders.
        into: where to; gets ``originals/``, ``edits/`` and ``truth.csv``.
        seed: names the draw of sources, edits and their parameters.
        sources: how many photographs get edited copies; fewer when there are fewer.
        edits: how many each gets, of different kinds.

    Returns:
        The truth: file (relative to ``into``), group, edit, level; the last two are empty for
        originals.

    Raises:
        SettingsError: when there are no photographs, or ``into`` holds something else.
    """
    if not 1 <= edits <= len(LADDER):
        raise SettingsError(f"--edits {edits}: there are 1 to {len(LADDER)} kinds of edits")
    if sources < 1:
        raise SettingsError(f"--sources {sources}: at least one photograph must be edited")
    images, into = images.expanduser().resolve(), into.expanduser().resolve()
    if into.is_relative_to(images):
        raise SettingsError(f"{into} lies inside {images}: the copies would be taken for originals")
    photos = find_photos(images)
    recipe = {"seed": seed, "sources": sources, "edits": edits, "photos": _fingerprint(photos)}
    if into.exists() and any(into.iterdir()):
        if _recipe(into) == recipe:
            return into / TRUTH
        raise SettingsError(f"{into} holds another collection; choose or empty another --work")
    rows = [_lay(path, into, key) for key, path in photos.items()]
    rows += _edited(photos, into, seed, sources, edits)
    _write_truth(into / TRUTH, rows)
    (into / RECIPE).write_text(json.dumps(recipe))  # last: what was cut off is not taken up again
    return into / TRUTH


def read_truth(path: Path) -> pl.DataFrame:
    """file, group, edit, level; the last two are null where the table has none.

    Raises:
        SettingsError: when it is no such table.
    """
    try:
        table = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SettingsError(f"--truth {path}: {error}") from None
    missing = [name for name in ("file", "group") if name not in table.columns]
    if missing:
        raise SettingsError(f"--truth {path}: no column {' and '.join(missing)}; it needs both")
    table = table.drop_nulls(["file", "group"])
    if table.is_empty() or table["file"].n_unique() < table.height:
        raise SettingsError(f"--truth {path}: every file must be named once, and one at least")
    for name in ("edit", "level"):
        if name not in table.columns:
            table = table.with_columns(pl.lit(None, pl.String).alias(name))
    return table.select("file", "group", "edit", "level")


def find_photos(images: Path) -> dict[str, Path]:
    """Key to path of all pictures in a folder, in order; what is none is left out.

    Raises:
        SettingsError: when there are none.
    """
    if not images.is_dir():
        raise SettingsError(f"--images {images}: no such folder")
    found = {}
    for path in sorted(images.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                kind = sniff(file.read(_HEAD_BYTES))
            if kind in PILLOW_FORMATS:
                found[path.relative_to(images).as_posix()] = path
    if not found:
        raise SettingsError(f"--images {images}: no pictures in it")
    return found


def _fingerprint(photos: dict[str, Path]) -> str:
    sizes = [f"{key} {path.stat().st_size}" for key, path in photos.items()]
    return digest(*sizes)


def _recipe(into: Path) -> object:
    try:
        return json.loads((into / RECIPE).read_text())
    except (OSError, ValueError):
        return None


def _lay(path: Path, into: Path, key: str) -> _Planted:
    """Link a photograph, or copy it where the folders are on different disks."""
    place = into / "originals" / key
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, place)
    except OSError:
        shutil.copy2(path, place)
    return _Planted(_key(f"originals/{key}"), _key(key))


def _edited(
    photos: dict[str, Path], into: Path, seed: int, sources: int, edits: int
) -> list[_Planted]:
    rng = random.Random(f"{seed} sources")  # noqa: S311 - must be repeatable, not secret
    shuffled = list(photos)
    rng.shuffle(shuffled)
    used: Counter[str] = Counter()
    stems: Counter[str] = Counter()
    rows: list[_Planted] = []
    (into / "edits").mkdir(parents=True, exist_ok=True)
    chosen = 0
    for key in shuffled:
        if chosen == sources:
            break
        image = read_photo(photos[key])
        if image is None:
            continue
        chosen += 1
        stem = photos[key].stem
        stems[stem] += 1
        if stems[stem] > 1:  # of another folder
            stem = f"{stem}-{stems[stem]}"
        for edit in _deal(used, edits, rng):
            # A generator of its own: one edit's files do not change with another's code.
            own = random.Random(f"{seed} {key} {edit.name}")  # noqa: S311
            name = f"edits/{stem}__{edit.name}.{edit.suffix}"
            (into / name).write_bytes(edit.bytes_of(image, own))
            rows.append(_Planted(_key(name), _key(key), edit.name, edit.level))
    if not rows:
        raise SettingsError(f"no picture can be read that is {_SMALLEST_SIDE} pixels wide and high")
    return rows


def _deal(used: Counter[str], edits: int, rng: random.Random) -> list[Edit]:
    """The kinds used least so far, chance deciding among equals: all are used equally often."""
    ranked = sorted(LADDER, key=lambda edit: (used[edit.name], rng.random()))
    used.update(edit.name for edit in ranked[:edits])
    return ranked[:edits]


def read_photo(path: Path) -> Image.Image | None:
    """The upright picture; None when it cannot be read or is too small."""
    import pi_heif

    pi_heif.register_heif_opener()
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return upright if min(upright.size) >= _SMALLEST_SIDE else None


def _key(name: str) -> str:
    """As the catalog writes a file name that is not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _write_truth(path: Path, rows: list[_Planted]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "group", "edit", "level"])
        writer.writerows([row.file, row.group, row.edit, row.level] for row in rows)
