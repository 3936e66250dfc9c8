"""Candidate pairs: the pairs of contents whose pixels are compared."""

from __future__ import annotations

import polars as pl

from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.cross_filter import crossing, pairs_sharing
from tasks.records import Scan, Space

#: Of contents with one perceptual hash, all pairs are candidates up to this many contents; of more,
#: each content with the first of them.
ALL_OF_ONE_HASH = 12

#: How many neighbour lists are read at once.
READ_ROWS = 1 << 15


def list_candidates(
    catalog: Catalog, scan: Scan, space: Space, contents: pl.DataFrame
) -> pl.DataFrame:
    """The candidate pairs of a scope: left, right (left < right), each once, in order.

    ``contents`` has content and phash, one row each; and side, in a cross-filter scan.
    """
    # Pairs are held as numbers of the sorted names: a million contents have some twenty million
    # pairs, whose names would not fit into memory.
    names = contents["content"].unique().sort()
    numbers = pl.DataFrame({"name": names}).with_row_index("at")

    def numbered(pairs: pl.DataFrame) -> pl.DataFrame:
        for side in ("a", "b"):
            pairs = (
                pairs.join(numbers, left_on=side, right_on="name")
                .with_columns(pl.col("at").alias(side))
                .drop("at")
            )
        return pairs.select(
            pl.min_horizontal("a", "b").alias("left"), pl.max_horizontal("a", "b").alias("right")
        )

    parts = [numbered(pairs_sharing(contents, "phash", "content", ALL_OF_ONE_HASH))]
    where = lists_where(scan, space)
    for batch in catalog.stream("neighbours", ["content", "names"], where, READ_ROWS):
        lists = pl.DataFrame(pl.from_arrow(batch)).rename({"content": "a", "names": "b"})
        parts.append(numbered(lists.explode("b", empty_as_null=True).drop_nulls("b")).unique())
    both = pl.concat(parts).unique().sort("left", "right")
    pairs = both.select(
        names.gather(both["left"]).alias("left"), names.gather(both["right"]).alias("right")
    )
    return crossing(pairs, contents)


def lists_where(scan: Scan, space: Space) -> str:
    """The condition that selects a scope's neighbour lists and its assignments."""
    return f"scope = {quote(scan.scope)} AND space = {quote(space.id)}"
