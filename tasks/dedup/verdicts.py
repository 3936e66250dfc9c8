"""What people said of pairs, applied: a scan does not ask again what was answered.

A verdict is about two assets with the contents they had. It silences, or vouches for, nothing else:
another file with the same picture is asked about, and so is a file whose picture changed.
"""

from __future__ import annotations

import polars as pl

from tasks.dedup.groups import group_name
from tasks.dedup.verify import NEAR_SCORE
from tasks.records import Role

#: The score of a pair that a person calls duplicates and the pixels do not; a copy, not exact.
VOUCHED = 0.9

VERDICTS = ("duplicate", "linked", "distinct")
#: A verdict that was taken back: the pair is as if nobody had said anything about it.
WITHDRAWN = "withdrawn"


def current(verdicts: pl.DataFrame, assets: pl.DataFrame) -> pl.DataFrame:
    """The last word on each pair of assets that are what they were when it was said.

    Args:
        verdicts: sequence, left_asset, right_asset, left, right (contents), verdict.
        assets: asset_id, content.

    Returns:
        left_asset, right_asset, left, right, verdict.
    """
    here = assets.select("asset_id", "content")
    return (
        verdicts.sort("sequence")
        .unique(["left_asset", "right_asset", "left", "right"], keep="last", maintain_order=True)
        .filter(pl.col("verdict") != WITHDRAWN)
        .join(here, left_on=["left_asset", "left"], right_on=["asset_id", "content"], how="semi")
        .join(here, left_on=["right_asset", "right"], right_on=["asset_id", "content"], how="semi")
        .select("left_asset", "right_asset", "left", "right", "verdict")
        .sort("left_asset", "right_asset")
    )


def apply_verdicts(
    matches: pl.DataFrame, verdicts: pl.DataFrame, assets: pl.DataFrame
) -> pl.DataFrame:
    """Matches of contents without those kept apart, and with those a person vouches for.

    Two contents are kept apart when every pair of their assets is: a copy of one of them that came
    later is asked about.

    Args:
        matches: left, right (contents, left < right), score, ...
        verdicts: as :func:`current` returns them.
        assets: asset_id, content.
    """
    ordered = verdicts.with_columns(
        pl.min_horizontal("left", "right").alias("left"),
        pl.max_horizontal("left", "right").alias("right"),
    ).filter(pl.col("left") != pl.col("right"))
    copies = assets.group_by("content").agg(pl.len().alias("n"))
    apart = (
        ordered.filter(pl.col("verdict") != "duplicate")
        .group_by("left", "right")
        .agg(pl.len().alias("said"))
        .join(copies.rename({"content": "left", "n": "a"}), on="left")
        .join(copies.rename({"content": "right", "n": "b"}), on="right")
        .filter(pl.col("said") >= pl.col("a") * pl.col("b"))
    )
    vouched = ordered.filter(verdict="duplicate").select("left", "right").unique()
    kept = matches.join(apart, on=["left", "right"], how="anti")
    score = pl.col("score")
    sure = kept.join(vouched, on=["left", "right"], how="semi").with_columns(
        pl.when(score < NEAR_SCORE).then(pl.lit(VOUCHED, pl.Float32)).otherwise(score)
    )
    new = vouched.join(kept, on=["left", "right"], how="anti").with_columns(
        pl.lit(VOUCHED, pl.Float32).alias("score")
    )
    others = kept.join(vouched, on=["left", "right"], how="anti")
    return pl.concat([others, sure.cast({"score": pl.Float32}), new], how="diagonal").sort(
        "left", "right"
    )


def keep_apart(members: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
    """Members without those that a person keeps apart from a better one of their group.

    Those of them that have one content, and that nobody keeps apart from each other, make a group
    of their own: nothing was said of them.

    Args:
        members: group_id, asset_id, role, score, same_pixels, content; in each group the keeper
            first.
        verdicts: as :func:`current` returns them.

    Returns:
        The same columns; no group has fewer than two members.
    """
    said = verdicts.filter(pl.col("verdict") != "duplicate").select("left_asset", "right_asset")
    apart = {frozenset(pair) for pair in said.iter_rows()}
    named = {asset for pair in apart for asset in pair}
    touched = members.filter(pl.col("asset_id").is_in(list(named)))["group_id"].unique()
    home: dict[str, str] = {}  # of those that leave their group: the keeper they go to
    inside = members.filter(pl.col("group_id").is_in(touched.implode())).sort(
        "group_id", pl.col("role") != Role.KEEPER.value, -pl.col("score"), "asset_id"
    )
    for group in inside.partition_by("group_id"):
        gone = _left_over(group["asset_id"].to_list(), apart)
        contents = dict(group.select("asset_id", "content").iter_rows())
        for content in dict.fromkeys(contents[asset] for asset in gone):
            rest = [asset for asset in gone if contents[asset] == content]
            while rest:
                others = _left_over(rest, apart)
                home |= {asset: rest[0] for asset in rest if asset not in others}
                rest = others
    if not home:
        return members.filter(pl.len().over("group_id") > 1)
    moved = pl.DataFrame(
        {
            "asset_id": list(home),
            "to": [group_name(keeper) for keeper in home.values()],
            "as": [
                (Role.KEEPER if asset == keeper else Role.DUPLICATE).value
                for asset, keeper in home.items()
            ],
        }
    )
    new = (
        members.join(moved, on="asset_id")
        .with_columns(
            pl.col("to").alias("group_id"),
            pl.col("as").alias("role"),
            pl.lit(1.0).cast(members.schema["score"]).alias("score"),
            pl.lit(value=True).alias("same_pixels"),
        )
        .select(members.columns)
    )
    stay = members.join(moved, on="asset_id", how="anti", maintain_order="left")
    return pl.concat([stay, new]).filter(pl.len().over("group_id") > 1)


def _left_over(assets: list[str], apart: set[frozenset[str]]) -> list[str]:
    """Those kept apart from a better one that stays; the first is the best, and stays."""
    kept: list[str] = []
    for asset in assets:
        if not any(frozenset((asset, other)) in apart for other in kept):
            kept.append(asset)
    return [asset for asset in assets if asset not in set(kept)]
