"""The answers that verification gave for pairs of contents, as the catalog keeps them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.verify import rule_id
from tasks.records import digest

#: Rows read from the table at a time.
_ROWS = 1 << 17

PAIR_COLUMNS = {
    "left": pl.String,
    "right": pl.String,
    "score": pl.Float32,
    "evidence": pl.String,
}


def name_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs (left, right, ...) with their ids in the catalog, pair_id, in front."""
    keys = [digest(left, right) for left, right in pairs.select("left", "right").iter_rows()]
    return pairs.select(pl.Series("pair_id", keys, dtype=pl.String), pl.all())


class KnownAnswers:
    """The answers of all pairs under the present rule, read from the catalog once.

    Of a refused pair, and 98 in 100 are, nothing is kept but a number of eight bytes: the names of
    twenty million pairs would take gigabytes.
    """

    # Pairs are joined by their two contents. Joining by the pair's id would need a digest of each
    # of millions of pairs.
    _SIDES = ("left", "right")
    _COLUMNS = (*_SIDES, "score", "evidence")

    def __init__(self, catalog: Catalog) -> None:
        where = f"rule = {quote(rule_id())}"
        self._told = pl.DataFrame(schema=PAIR_COLUMNS)
        self._refused = np.zeros(0, np.uint64)
        self._new: list[npt.NDArray[np.uint64]] = []
        batches = catalog.stream("pairs", self._COLUMNS, where, _ROWS)
        self._take_in(pl.DataFrame(pl.from_arrow(batch)) for batch in batches)

    def of(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """Pairs (left, right) with score and evidence; a pair without an answer has the score 0."""
        if wanted.is_empty():
            return pl.DataFrame(schema=PAIR_COLUMNS)
        found = wanted.select(self._SIDES).join(
            self._told, on=self._SIDES, how="left", maintain_order="left"
        )
        return found.with_columns(pl.col("score").fill_null(0.0))

    def missing(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """The pairs that have no answer yet."""
        untold = wanted.select(self._SIDES).join(
            self._told, on=self._SIDES, how="anti", maintain_order="left"
        )
        if self._new:  # sorted in only now, for answers come in many small parts
            self._refused = np.sort(np.concatenate([self._refused, *self._new]), kind="stable")
            self._new = []
        numbers = _numbers(untold)
        at = np.minimum(np.searchsorted(self._refused, numbers), max(len(self._refused) - 1, 0))
        if not len(self._refused):
            return untold
        return untold.filter(pl.Series(self._refused[at] != numbers))

    def add(self, rows: pa.Table) -> None:
        """Add answers that were just found, as they are written to the catalog."""
        self._take_in([pl.DataFrame(pl.from_arrow(rows.select(self._COLUMNS)))])

    def _take_in(self, parts: Iterable[pl.DataFrame]) -> None:
        told = [self._told]
        for part in parts:
            refused = (pl.col("score") <= 0) & pl.col("evidence").is_null()
            # By Arrow, which copies the few rows: polars' own would hold on to the texts of all.
            few = part.filter(~refused).to_arrow(compat_level=pl.CompatLevel.oldest())
            told.append(pl.DataFrame(pl.from_arrow(few)))
            self._new.append(_numbers(part.filter(refused)))
        self._told = pl.concat(told, rechunk=False)


def _numbers(pairs: pl.DataFrame) -> npt.NDArray[np.uint64]:
    """A number for each pair (left, right).

    Of twenty million pairs two have one number once in a hundred thousand scans.
    """
    left, right = pairs["left"].hash(1), pairs["right"].hash(2)
    return np.asarray(left.to_numpy() ^ right.to_numpy(), np.uint64)
