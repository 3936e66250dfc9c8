"""The answers that verification gave for pairs of contents, as the catalog keeps them."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.verify import rule_id
from tasks.records import digest

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
    """The answers of all pairs under the present rule, read from the catalog once."""

    # Pairs are joined by their two contents. Joining by the pair's id would need a digest of each
    # of millions of pairs.
    _SIDES = ("left", "right")
    _COLUMNS = (*_SIDES, "score", "evidence")

    def __init__(self, catalog: Catalog) -> None:
        where = f"rule = {quote(rule_id())}"
        rows = pl.from_arrow(catalog.read_arrow("pairs", self._COLUMNS, where))
        self._rows = pl.DataFrame(rows)

    def of(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """Pairs (left, right) with score and evidence; a pair without an answer has the score 0."""
        if wanted.is_empty():
            return pl.DataFrame(schema=PAIR_COLUMNS)
        found = wanted.select(self._SIDES).join(
            self._rows, on=self._SIDES, how="left", maintain_order="left"
        )
        return found.with_columns(pl.col("score").fill_null(0.0))

    def missing(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """The pairs that have no answer yet."""
        return wanted.select(self._SIDES).join(
            self._rows, on=self._SIDES, how="anti", maintain_order="left"
        )

    def add(self, rows: pa.Table) -> None:
        """Add answers that were just found, as they are written to the catalog."""
        new = pl.DataFrame(pl.from_arrow(rows.select(self._COLUMNS)))
        self._rows = pl.concat([self._rows, new], rechunk=False)
