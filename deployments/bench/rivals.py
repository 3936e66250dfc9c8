"""Other methods on the same files: perceptual hashes, and the embedding without verification.

Every method says of two files whether they are copies; all pairs of files are asked.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from deployments.bench.score import LEVELS, Quality, share, wanted_pairs
from tasks.catalog.catalog import Catalog

#: Distances up to which pairs count: the usual choice for a 64-bit hash, and PDQ's own.
PHASH_DISTANCE, PDQ_DISTANCE = 10, 31
COSINES = (0.8, 0.9)
#: PDQ's authors advise against hashes of pictures with less texture.
_PDQ_QUALITY = 50
#: Rows compared with all others at once: 40 MB of products at 10,000 files.
_BLOCK = 1024

#: Which of all files (columns) are copies of a slice of them (rows).
Near = Callable[[slice], npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Rival:
    """One method's row in the table.

    Attributes:
        levels: recall at each level of edits; empty where the truth names none.
        seconds: for all comparisons; hashes and vectors are the scan's own, but for PDQ.
        note: why there are no figures, if so.
    """

    name: str
    pairs: int | None = None
    precision: float | None = None
    recall: float | None = None
    levels: dict[str, float | None] | None = None
    seconds: float | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def own_row(quality: Quality) -> Rival:
    """The product's own figures, as a row of the same table."""
    levels = dict(quality.levels.select("level", "recall").iter_rows())
    return Rival(
        f"dam-dedup >= {quality.threshold:g}",
        quality.pairs,
        quality.precision,
        quality.recall,
        levels,
    )


def compare_rivals(
    catalog: Catalog, space: str, assets: pl.DataFrame, truth: pl.DataFrame
) -> list[Rival]:
    """Run every method over the files of the catalog that the truth names.

    Args:
        catalog: where vectors and thumbnails are.
        space: the id of the vectors' space.
        assets: key, content, phash; one row a file.
        truth: file, group, edit, level.
    """
    files = assets.join(truth.select(pl.col("file").alias("key"), "group"), on="key").sort("key")
    hashed = files.drop_nulls("phash")
    words = hashed["phash"].cast(pl.UInt64).to_numpy().reshape(-1, 1)
    rivals = [
        measure(f"pHash <= {PHASH_DISTANCE}", hashed, truth, _by_bits(words, PHASH_DISTANCE)),
        _pdq(catalog, files, truth),
    ]
    rows, vectors = _vectors(catalog, space, files)
    rivals += [
        measure(f"cosine >= {least}", rows, truth, _by_cosine(vectors, least)) for least in COSINES
    ]
    return rivals


def measure(name: str, files: pl.DataFrame, truth: pl.DataFrame, near: Near) -> Rival:
    """Ask a method about all pairs.

    Args:
        name: of the method.
        files: key, group; in the order that ``near`` counts them.
        truth: file, group, edit, level; of all files, also those the method knows nothing of.
        near: the method.
    """
    started = time.perf_counter()
    groups = files["group"].rank("dense").to_numpy()
    wanted = _places(wanted_pairs(truth), files)
    hits = np.zeros(wanted.height, bool)
    first, second = wanted["at"].to_numpy(), wanted["at_right"].to_numpy()
    pairs = right = 0
    for start in range(0, files.height, _BLOCK):
        rows = slice(start, min(start + _BLOCK, files.height))
        close = near(rows)
        inside = (first >= rows.start) & (first < rows.stop)
        hits[inside] = close[first[inside] - start, second[inside]]
        close &= np.arange(files.height)[None, :] > np.arange(rows.start, rows.stop)[:, None]
        pairs += int(close.sum())
        right += int((close & (groups[rows, None] == groups[None, :])).sum())
    total = wanted_pairs(truth)
    if total.is_empty():
        sizes = truth.group_by("group").len()["len"].cast(pl.Int64)
        recall, levels = share(right, int((sizes * (sizes - 1) // 2).sum())), {}
    else:
        recall = share(int(hits.sum()), total.height)
        levels = _by_level(wanted["level"], hits, total["level"])
    seconds = round(time.perf_counter() - started, 2)
    return Rival(name, pairs, share(right, pairs), recall, levels, seconds)


def _places(wanted: pl.DataFrame, files: pl.DataFrame) -> pl.DataFrame:
    """The wanted pairs of which both files are there, with their rows."""
    at = files.select("key").with_row_index("at").cast({"at": pl.Int64})
    return wanted.join(at, left_on="left", right_on="key").join(
        at, left_on="right", right_on="key", suffix="_right"
    )


def _by_level(
    present: pl.Series, hits: npt.NDArray[np.bool_], all_levels: pl.Series
) -> dict[str, float | None]:
    levels = present.to_numpy()
    return {
        level: share(int(hits[levels == level].sum()), int((all_levels == level).sum()))
        for level in LEVELS
    }


def _by_bits(words: npt.NDArray[np.uint64], most: int) -> Near:
    """Hamming distance of hashes of one or more 64-bit words."""

    def near(rows: slice) -> npt.NDArray[np.bool_]:
        distance = np.zeros((rows.stop - rows.start, len(words)), np.uint16)
        for word in words.T:
            distance += np.bitwise_count(word[rows, None] ^ word[None, :])
        return distance <= most

    return near


def _by_cosine(vectors: npt.NDArray[np.float32], least: float) -> Near:
    def near(rows: slice) -> npt.NDArray[np.bool_]:
        close: npt.NDArray[np.bool_] = vectors[rows] @ vectors.T >= least
        return close

    return near


def _vectors(
    catalog: Catalog, space: str, files: pl.DataFrame
) -> tuple[pl.DataFrame, npt.NDArray[np.float32]]:
    """The files that have a vector, and the vectors in their order."""
    table = catalog.read_arrow(f"vectors_{space}", ["content", "vector"])
    have = pl.DataFrame({"content": pl.from_arrow(table["content"])}).with_row_index("row")
    found = files.join(have, on="content", maintain_order="left")
    vectors = table["vector"].combine_chunks()
    flat = np.asarray(vectors.flatten().to_numpy(), np.float32).reshape(len(have), -1)
    return found, flat[found["row"].to_numpy()]


def _pdq(catalog: Catalog, files: pl.DataFrame, truth: pl.DataFrame) -> Rival:
    """PDQ of the thumbnails, which are near the size it is made for (up to 512 pixels)."""
    name = f"PDQ <= {PDQ_DISTANCE}"
    try:
        import pdqhash
    except ImportError:
        return Rival(name, note="not installed: pip install pdqhash")
    started = time.perf_counter()
    thumbnails = catalog.read_keys("thumbnails", ["content", "jpeg"], files["content"])
    hashes: dict[str, npt.NDArray[np.uint64]] = {}
    for content, jpeg in thumbnails.iter_rows():
        with Image.open(io.BytesIO(jpeg)) as image:
            bits, quality = pdqhash.compute(np.asarray(image.convert("RGB")))
        if quality >= _PDQ_QUALITY:
            hashes[content] = np.packbits(np.asarray(bits, np.uint8)).view(np.uint64)
    hashed = files.filter(pl.col("content").is_in(list(hashes)))
    words = np.array([hashes[content] for content in hashed["content"]], np.uint64).reshape(-1, 4)
    made = time.perf_counter() - started
    found = measure(name, hashed, truth, _by_bits(words, PDQ_DISTANCE))
    return Rival(
        name,
        found.pairs,
        found.precision,
        found.recall,
        found.levels,
        round(made + (found.seconds or 0), 2),
    )
