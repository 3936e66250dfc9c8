"""A catalog of any size out of a few photographs: what a gate's speed depends on, and no more.

Thumbnails are those of real photographs, each used many times; vectors are drawn around theirs.
So searching and verifying cost what they do in production. What is found means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from tasks.catalog import schema
from tasks.dedup.verify import rule_id
from tasks.errors import SettingsError
from tasks.intake.analyze import Analyzer
from tasks.progress import Progress
from tasks.records import Analysis, asset_id, digest, now
from tasks.scan.verify import name_pairs
from tasks.session import open_catalog, pa_table
from tasks.settings import Settings

#: The collection that is made.
COLLECTION = "gate://bench"
_PHOTOGRAPHS = 100
_BLOCK = 5000
#: Cosine of a vector with its photograph's.
_NEARNESS = 0.6
_KINDS = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True, slots=True)
class Made:
    """What was put into the catalog; its keys are the numbers from 0."""

    assets: int
    dim: int
    photographs: tuple[bytes, ...] = field(repr=False)


def fill_catalog(settings: Settings, images: Path, assets: int, progress: Progress) -> Made:
    """Write a collection, unless the catalog has it already.

    Raises:
        SettingsError: when there are no photographs.
    """
    paths = sorted(path for path in images.rglob("*") if path.suffix.lower() in _KINDS)
    step = max(1, len(paths) // _PHOTOGRAPHS)
    photographs = [path.read_bytes() for path in paths[::step][:_PHOTOGRAPHS]]
    with Analyzer(settings) as analyzer:
        answers = analyzer.analyze(photographs)
    pairs = [
        (photograph, answer)
        for photograph, answer in zip(photographs, answers, strict=True)
        if isinstance(answer, Analysis)
    ]
    if not pairs:
        raise SettingsError(f"--images {images}: no photograph can be read there")
    analyses = [answer for _, answer in pairs]
    space = analyses[0].space
    catalog = open_catalog(settings)
    if catalog.count("assets") != assets:
        with catalog.writing(settings.catalog.busy_seconds):
            row = {
                name: getattr(space, name) for name in ("model", "revision", "preprocessing", "dim")
            }
            catalog.upsert("spaces", pa_table([{"space": space.id, **row}], schema.SPACES))
            table = catalog.vectors_table(space.id, space.dim)
            for start in range(0, assets, _BLOCK):
                numbers = np.arange(start, min(start + _BLOCK, assets))
                block = _block(numbers, analyses)
                catalog.upsert(table, _vectors(block, numbers, analyses), only_new=True)
                catalog.upsert("thumbnails", _thumbnails(block, numbers, analyses), only_new=True)
                catalog.upsert("pairs", _pairs(block))
                catalog.upsert("assets", block)
                progress("fill", int(numbers[-1]) + 1, assets)
            catalog.tidy(rebuild=True)
    return Made(assets, space.dim, tuple(photograph for photograph, _ in pairs))


def _block(numbers: npt.NDArray[np.int64], analyses: list[Analysis]) -> pa.Table:
    moment, draw = now(), np.random.default_rng(int(numbers[0]))
    hashes = draw.integers(0, 2**63, len(numbers), dtype=np.uint64)
    rows = []
    for number, phash in zip(numbers.tolist(), hashes.tolist(), strict=True):
        picture = analyses[number % len(analyses)].picture
        revision = digest(str(number))
        rows.append(
            {
                "asset_id": asset_id(COLLECTION, str(number)),
                "source": COLLECTION,
                "key": str(number),
                "prefix": "",
                "name": f"{number}.jpg",
                "extension": "jpg",
                "etag": revision,
                "size": 100_000,
                "last_modified": moment,
                "format": "jpeg",
                "label": f"label {number % 50}",
                "tags": "{}",
                "metadata": "{}",
                "revision": revision,
                "read_revision": revision,
                "sha256": digest("sha", revision),
                "content": digest("content", revision),
                "phash": phash,
                "width": picture.width,
                "height": picture.height,
                "mode": picture.mode,
                "flags": [],
            }
        )
    return pa_table(rows, schema.ASSETS)


def _pairs(block: pa.Table) -> pa.Table:
    """Each content beside the next five: verified before, and refused."""
    names = pl.Series("left", pl.from_arrow(block["content"]), pl.String)
    beside = [
        pl.DataFrame({"left": names, "right": names.shift(-n, fill_value=names[0])})
        for n in range(1, 6)
    ]
    pairs = pl.concat(beside).select(
        pl.min_horizontal("left", "right").alias("left"),
        pl.max_horizontal("left", "right").alias("right"),
    )
    pairs = name_pairs(pairs.filter(pl.col("left") != pl.col("right")).unique())
    return (
        pairs.with_columns(
            pl.lit(rule_id()).alias("rule"),
            pl.lit(0.0, pl.Float32).alias("score"),
            pl.lit(None, pl.String).alias("evidence"),
        )
        .to_arrow()
        .cast(schema.PAIRS)
    )


def _vectors(block: pa.Table, numbers: npt.NDArray[np.int64], analyses: list[Analysis]) -> pa.Table:
    real = np.stack([one.vector for one in analyses]).astype(np.float32)
    noise = np.random.default_rng(int(numbers[0]) + 1).normal(size=(len(numbers), real.shape[1]))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    mixed = _NEARNESS * real[numbers % len(analyses)] + (1 - _NEARNESS**2) ** 0.5 * noise
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    flat = pa.array(mixed.astype(np.float16).reshape(-1))
    vectors = pa.FixedSizeListArray.from_arrays(flat, real.shape[1])
    return pa.table([block["content"], vectors], schema=schema.embeddings(real.shape[1]))


def _thumbnails(
    block: pa.Table, numbers: npt.NDArray[np.int64], analyses: list[Analysis]
) -> pa.Table:
    # Another photograph's than the vector's: most candidates are no duplicates, as in production.
    draw = np.random.default_rng(int(numbers[0]) + 2).integers(0, len(analyses), len(numbers))
    jpegs = [analyses[number].picture.thumbnail for number in draw.tolist()]
    frame = pl.DataFrame({"content": pl.from_arrow(block["content"]), "jpeg": jpegs})
    return frame.to_arrow().cast(schema.THUMBNAILS)
