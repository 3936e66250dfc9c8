"""Candidate pairs: the pairs of contents whose pixels are compared."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.cross_filter import crossing, pairs_sharing
from tasks.records import Scan, Space

#: Of contents with one perceptual hash, all pairs are candidates up to this many contents; of more,
#: each content with the first of them.
ALL_OF_ONE_HASH = 12

_SIDES = ["left", "right"]

#: How many neighbour lists are read at once.
READ_ROWS = 1 << 15


class Candidates:
    """The candidate pairs of a scope, each once, in order.

    They are held as numbers of the sorted names, eight bytes a pair: a million contents have some
    twenty million pairs, whose names would not fit into memory.

    Args:
        catalog: where the neighbour lists are.
        scan: whose scope is meant.
        space: where the vectors are.
        contents: content and phash, one row each; and side, in a cross-filter scan.
    """

    def __init__(self, catalog: Catalog, scan: Scan, space: Space, contents: pl.DataFrame) -> None:
        self._contents = contents
        self._names = contents["content"].unique().sort()
        parts = [self._numbered(pairs_sharing(contents, "phash", "content", ALL_OF_ONE_HASH))]
        where = lists_where(scan, space)
        for batch in catalog.stream("neighbours", ["content", "names"], where, READ_ROWS):
            lists = pl.DataFrame(pl.from_arrow(batch)).rename({"content": "a", "names": "b"})
            pairs = lists.explode("b", empty_as_null=True).drop_nulls("b")
            parts.append(self._numbered(pairs).unique())
        self._pairs = pl.concat(parts).unique().sort("left", "right")

    def parts(self, most: int) -> Iterator[pl.DataFrame]:
        """All pairs: left, right (names, left < right), so many at a time."""
        for part in self._pairs.iter_slices(most):
            pairs = part.select(self._names.gather(part[side]).alias(side) for side in _SIDES)
            yield crossing(pairs, self._contents)

    def others(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """Those of some pairs (left, right, ...) that are no candidates."""
        numbered = pairs.with_row_index("_row")
        for side in _SIDES:
            numbers = pl.DataFrame({side: self._names}).with_row_index(f"_{side}")
            numbered = numbered.join(numbers, on=side, how="left")
        new = numbered.join(self._pairs, left_on=["_left", "_right"], right_on=_SIDES, how="anti")
        return pairs.with_row_index("_row").join(new, on="_row", how="semi").drop("_row")

    def _numbered(self, pairs: pl.DataFrame) -> pl.DataFrame:
        numbers = pl.DataFrame({"name": self._names}).with_row_index("at")
        for side in ("a", "b"):
            pairs = (
                pairs.join(numbers, left_on=side, right_on="name")
                .with_columns(pl.col("at").alias(side))
                .drop("at")
            )
        return pairs.select(
            pl.min_horizontal("a", "b").alias("left"), pl.max_horizontal("a", "b").alias("right")
        )


def lists_where(scan: Scan, space: Space) -> str:
    """The condition that selects a scope's neighbour lists and its assignments."""
    return f"scope = {quote(scan.scope)} AND space = {quote(space.id)}"
