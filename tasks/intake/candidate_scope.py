"""The contents that a check compares an image with, held between checks.

They are kept in sorted arrays and looked up by bisection, so that a lookup among a million takes
a few dozen comparisons.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from cachetools import LRUCache

from tasks.catalog.catalog import Catalog
from tasks.catalog.search import inside
from tasks.records import Picture

#: Scopes that are held.
_HELD = 8
_BYTES = 15  # hex digits of a sha256 that fit into an int64


@dataclass(frozen=True, slots=True)
class Scope:
    """Contents with the hashes of their files, for one filter.

    Attributes:
        contents: each once, sorted.
        bytes: int64 (n,), the first hex digits of the sha256 of each file, as numbers, sorted; a
            content may have several files.
        bytes_of: int32 (n,), the row in ``contents`` that each of ``bytes`` belongs to.
        hashes: uint64 (m,), perceptual hashes, sorted.
        hashes_of: int32 (m,), the row in ``contents`` that each of ``hashes`` belongs to.
    """

    contents: pl.Series
    bytes: npt.NDArray[np.int64]
    bytes_of: npt.NDArray[np.int32]
    hashes: npt.NDArray[np.uint64]
    hashes_of: npt.NDArray[np.int32]

    def holds(self, names: pl.Series) -> pl.Series:
        """For each of some contents, whether it is among these."""
        return inside(names, self.contents)

    def equal(self, picture: Picture) -> pl.Series:
        """Contents of equal pixels or equal bytes, sorted.

        Equal bytes have other pixels where the two were read by different versions of the reader.
        """
        begin = np.int64(int(picture.sha256[:_BYTES], 16))
        same = self.contents.gather(_between(self.bytes, begin, self.bytes_of))
        own = pl.Series("content", [picture.content], pl.String)
        return pl.concat([same, own.filter(self.holds(own))]).unique().sort()

    def of_hash(self, picture: Picture) -> pl.Series:
        """Other contents that have the picture's perceptual hash, sorted."""
        of = _between(self.hashes, np.uint64(picture.phash), self.hashes_of)
        names = self.contents.gather(of).unique().sort()
        return names.filter(names != picture.content)


def _between(
    ordered: npt.NDArray[np.generic], value: np.generic, rows: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    low, high = np.searchsorted(ordered, value), np.searchsorted(ordered, value, "right")
    return rows[low:high]


class Scopes:
    """The scopes of the last checks; threads may share them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: LRUCache[str, tuple[int, Scope]] = LRUCache(_HELD)

    def of(self, catalog: Catalog, where: str) -> Scope:
        """The scope of a filter; held until somebody writes to the table of assets."""
        version = catalog.version("assets")
        with self._lock:
            held = self._held.get(where)
            if held is not None and held[0] == version:
                return held[1]
        made = _read(catalog, where)
        with self._lock:
            self._held[where] = (version, made)
        return made


def _read(catalog: Catalog, where: str) -> Scope:
    begin = pl.col("sha256").str.head(_BYTES).str.to_integer(base=16)
    rows = catalog.read("assets", ["content", "phash", "sha256"], where)
    rows = rows.drop_nulls("content").select("content", "phash", begin.alias("bytes"))
    contents = rows["content"].unique().sort()
    at = pl.DataFrame({"content": contents}).with_row_index("at")
    rows = rows.join(at, on="content")
    parts = []
    for column in ("bytes", "phash"):
        part = rows.select(column, "at").drop_nulls().unique().sort(column, "at")
        parts += [part[column].to_numpy(), part["at"].cast(pl.Int32).to_numpy()]
    return Scope(contents, *parts)
