"""The order in which pairs are verified, so that a picture's features are made once."""

from __future__ import annotations

import polars as pl

#: With so many votes two pictures are likely copies; with fewer, chance would join everything.
_SURELY = 16


def in_company(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs so ordered that those of one picture and its likely copies follow one another.

    Args:
        pairs: left, right, votes.
    """
    leaders: dict[str, str] = {}

    def leader(name: str) -> str:
        # Union-find with path halving (Tarjan and van Leeuwen, 1984).
        while (above := leaders.get(name, name)) != name:
            leaders[name] = leaders.get(above, above)
            name = leaders[name]
        return name

    for left, right in pairs.filter(pl.col("votes") >= _SURELY).select("left", "right").iter_rows():
        one, other = sorted((leader(left), leader(right)))
        leaders[other] = one
    key = [leader(left) for left in pairs["left"]]
    beside = [leader(right) for right in pairs["right"]]
    ordered = pairs.with_columns(pl.Series("_key", key), pl.Series("_beside", beside))
    return ordered.sort("_key", "_beside", "left", "right").drop("_key", "_beside")
