"""Candidate pairs: the pairs of contents whose pixels are compared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.cross_filter import crossing, pairs_sharing
from tasks.records import Scan, Space

#: Of contents with one perceptual hash, all pairs are candidates up to this many contents; of more,
#: each content with the first of them.
ALL_OF_ONE_HASH = 12

_SIDES = ["left", "right"]

#: A pair's number holds the left name's place above this bit, and the right one's below it.
_HALF, _LOWER = np.uint64(32), np.uint64(0xFFFF_FFFF)

#: How many neighbour lists are read at once.
READ_ROWS = 1 << 15


class Candidates:
    """The candidate pairs of a scope, each once, in order.

    They are held as one sorted array of eight bytes a pair: the places of its two names among all
    names, the left one's in the upper half. A million contents have some twenty million pairs:
    their names would not fit into memory, and a table's search for those that occur twice took 3.3
    GiB where sorting the numbers takes 0.6.

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
            parts.append(np.unique(self._numbered(pairs)))
        self._pairs = _each_once(np.concatenate(parts))

    def parts(self, most: int) -> Iterator[pl.DataFrame]:
        """All pairs: left, right (names, left < right), so many at a time."""
        for start in range(0, len(self._pairs), most):
            part = self._pairs[start : start + most]
            sides = zip(_SIDES, (part >> _HALF, part & _LOWER), strict=True)
            pairs = pl.DataFrame(
                [self._names.gather(pl.Series(numbers)).alias(side) for side, numbers in sides]
            )
            yield crossing(pairs, self._contents)

    def others(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """Those of some pairs (left, right, ...) that are no candidates."""
        if not len(self._pairs):
            return pairs
        inside = pl.all_horizontal(pl.col(_SIDES).is_in(self._names.implode()))
        known = pairs.with_row_index("_row").filter(inside)
        numbers = self._numbered(known.rename({"left": "a", "right": "b"}))
        at = np.minimum(np.searchsorted(self._pairs, numbers), len(self._pairs) - 1)
        rows = known["_row"].filter(pl.Series(self._pairs[at] == numbers))
        return (
            pairs.with_row_index("_row").filter(~pl.col("_row").is_in(rows.implode())).drop("_row")
        )

    def _numbered(self, pairs: pl.DataFrame) -> npt.NDArray[np.uint64]:
        """Pairs (a, b) as one number each, in their order; those with an unknown name left out."""
        places = pl.DataFrame({"name": self._names}).with_row_index("at")
        found = pl.DataFrame(
            pairs.select(pl.col(side).alias("name"))
            .join(places, on="name", how="left", maintain_order="left")["at"]
            .alias(side)
            for side in ("a", "b")
        ).drop_nulls()
        a, b = (found[side].to_numpy().astype(np.uint64) for side in ("a", "b"))
        numbers: npt.NDArray[np.uint64] = (np.minimum(a, b) << _HALF) | np.maximum(a, b)
        return numbers


def _each_once(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The numbers in order, each once, with little more memory than they take."""
    numbers.sort()
    if len(numbers):
        numbers = numbers[np.concatenate([[True], numbers[1:] != numbers[:-1]])]
    return numbers


def lists_where(scan: Scan, space: Space) -> str:
    """The condition that selects a scope's neighbour lists and its assignments."""
    return f"scope = {quote(scan.scope)} AND space = {quote(space.id)}"
