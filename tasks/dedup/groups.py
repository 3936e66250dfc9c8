"""Groups that hold together: every member matches the group's keeper itself.

Chaining matches (a like b, b like c, ...) is how rivals make one group of half a library. Here the
best asset that is left takes those it matches directly, then the next best; nobody enters a group
through a third. The result depends on nothing but the assets and their matches.
"""

from __future__ import annotations

import polars as pl

from tasks.dedup.keepers import rank_keepers
from tasks.records import Role, digest


def group_matches(assets: pl.DataFrame, matches: pl.DataFrame) -> pl.DataFrame:
    """Duplicate groups.

    Args:
        assets: asset_id, key, source, content and the columns keepers are ranked by; one row an
            asset.
        matches: left, right (contents), score; each pair once.

    Returns:
        group_id, asset_id, role, score (against the keeper; the keeper's own is 1), same_pixels;
        groups by id, in each the keeper first, then by key. No group has fewer than two members.
    """
    ranked = rank_keepers(assets).with_row_index("rank")
    # All assets of one content stand and fall together: its best asset speaks for it.
    contents = ranked.group_by("content", maintain_order=True).agg(
        pl.col("rank").first(), pl.len().alias("copies")
    )
    taken = _take_in(contents, matches)
    members = (
        ranked.join(taken, on="content", how="inner", maintain_order="left")
        .with_columns(
            pl.col("rank").min().over("home").alias("best"), pl.len().over("home").alias("n")
        )
        .filter(pl.col("n") > 1)
    )
    if members.is_empty():
        return pl.DataFrame(
            schema={
                "group_id": pl.String,
                "asset_id": pl.String,
                "role": pl.String,
                "score": pl.Float32,
                "same_pixels": pl.Boolean,
            }
        )
    keepers = members.filter(pl.col("rank") == pl.col("best")).select(
        "home", pl.col("asset_id").alias("keeper")
    )
    names = keepers.with_columns(
        pl.col("keeper")
        .map_elements(lambda asset: f"g{digest(asset)[:15]}", return_dtype=pl.String)
        .alias("group_id")
    )
    return (
        members.join(names, on="home")
        .with_columns(
            pl.when(pl.col("asset_id") == pl.col("keeper"))
            .then(pl.lit(Role.KEEPER.value))
            .otherwise(pl.lit(Role.DUPLICATE.value))
            .alias("role")
        )
        .sort("group_id", pl.col("role") != Role.KEEPER.value, "key")
        .select("group_id", "asset_id", "role", "score", "same_pixels")
    )


def _take_in(contents: pl.DataFrame, matches: pl.DataFrame) -> pl.DataFrame:
    """Each content's home (the content of its keeper): content, home, score, same_pixels.

    Greedy in the order of the keepers' ranks, which is maximal-star clustering: Aslam, Pelekhov,
    Rus, "The Star Clustering Algorithm for Static and Dynamic Information Organization", 2004.
    """
    order = contents.sort("rank")
    alone = order.filter(pl.col("copies") > 1).select(
        "content",
        pl.col("content").alias("home"),
        pl.lit(1.0, pl.Float32).alias("score"),
        pl.lit(True).alias("same_pixels"),
    )
    if matches.is_empty():
        return alone
    rank = order.select("content", "rank")
    edges = (
        pl.concat(
            [
                matches.select(pl.col("left").alias("a"), pl.col("right").alias("b"), "score"),
                matches.select(pl.col("right").alias("a"), pl.col("left").alias("b"), "score"),
            ]
        )
        .join(rank.rename({"content": "a", "rank": "ra"}), on="a")
        .join(rank.rename({"content": "b", "rank": "rb"}), on="b")
        .filter(pl.col("ra") < pl.col("rb"))
        .sort("ra", "rb")
    )
    # Only contents that match something are walked; the rest never becomes a Python object.
    home: dict[str, tuple[str, float]] = {}
    for a, b, score in edges.select("a", "b", "score").iter_rows():
        if home.setdefault(a, (a, 1.0))[0] == a and b not in home:
            home[b] = (a, score)
    rows = pl.DataFrame(
        {
            "content": list(home),
            "home": [keeper for keeper, _ in home.values()],
            "score": pl.Series([score for _, score in home.values()], dtype=pl.Float32),
        },
        schema={"content": pl.String, "home": pl.String, "score": pl.Float32},
    ).with_columns((pl.col("content") == pl.col("home")).alias("same_pixels"))
    return pl.concat([rows, alone.join(rows, on="content", how="anti")])
