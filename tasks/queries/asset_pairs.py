"""Pairs of assets, with their evidence in words."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from tasks.dedup.cross_filter import on_sides, pairs_sharing, undivided
from tasks.dedup.evidence import Evidence
from tasks.dedup.explain import explain_pair
from tasks.dedup.origin import PictureFacts, turn_around
from tasks.dedup.verify import tier_of

#: Of assets with equal pixels, all pairs are listed up to this many assets; of more, each asset
#: with the first of them, for the pairs grow with the square.
_ALL_PAIRS = 32
#: A content's matches are listed for each of its assets up to this many; of more, for the first.
_NEAR_COPIES = 8


def list_pairs(
    assets: pl.DataFrame,
    matches: pl.DataFrame,
    members: pl.DataFrame,
    keepers: Collection[str] = (),
) -> pl.DataFrame:
    """Pairs of assets, each with its evidence in words.

    Args:
        assets: key, content, sha256, width, height, size, format, quality.
        matches: left, right (contents), score, evidence (JSON).
        members: key, group_id: pairs inside one group are duplicates, others are related.
        keepers: keys of the files that stay: where neither file of a pair looks like the original,
            its words say how the other one differs from the one that stays.

    Returns:
        left, right (keys, left < right), score, tier, relation, changes, original, reasons,
        flipped, evidence. Evidence is the measurements as JSON: of right against left or, where
        flipped, of left against right.
    """
    pairs = pl.concat([_equal_pairs(assets), _near_pairs(assets, matches)]).sort("left", "right")
    facts = {
        key: PictureFacts(width, height, size, kind, quality, key=key)
        for key, width, height, size, kind, quality in assets.join(
            pl.concat([pairs["left"], pairs["right"]]).unique().to_frame("key"),
            on="key",
            how="semi",
        )
        .select("key", "width", "height", "size", "format", "quality")
        .iter_rows()
    }
    columns = ("left", "right", "score", "same_pixels", "same_bytes", "flipped", "evidence")
    stay = frozenset(keepers)
    rows = [_explained(facts, stay, *row) for row in pairs.select(columns).iter_rows()]
    said = pl.DataFrame(
        rows,
        schema=dict.fromkeys(("tier", "changes", "original", "reasons"), pl.String),
        orient="row",
    )
    home = dict(members.select("key", "group_id").iter_rows())
    relation = [
        "duplicate" if left in home and home[left] == home.get(right) else "related"
        for left, right in pairs.select("left", "right").iter_rows()
    ]
    return pl.concat([pairs, said], how="horizontal").select(
        "left",
        "right",
        pl.col("score").cast(pl.Float64).round(4),
        "tier",
        pl.Series("relation", relation, dtype=pl.String),
        "changes",
        "original",
        "reasons",
        "flipped",
        "evidence",
    )


def _explained(
    facts: dict[str, PictureFacts],
    keepers: frozenset[str],
    left: str,
    right: str,
    score: float,
    same_pixels: bool,
    same_bytes: bool,
    flipped: bool,
    text: str | None,
) -> tuple[str, str, str, str]:
    tier = tier_of(score, same_pixels=same_pixels).value
    if same_pixels:
        return tier, "same bytes" if same_bytes else "same pixels", "either", ""
    if text is None:
        return tier, "no texture; the same colours everywhere", "either", ""
    evidence = Evidence.from_json(text)
    said = explain_pair(
        turn_around(evidence) if flipped else evidence,
        facts[left],
        facts[right],
        right_stays=right in keepers and left not in keepers,
    )
    return tier, said.changes, said.original, "; ".join(said.reasons)


def _equal_pairs(assets: pl.DataFrame) -> pl.DataFrame:
    bytes_of = assets.select("key", "sha256")
    equal = (
        pairs_sharing(assets, "content", "key", _ALL_PAIRS)
        .join(bytes_of, left_on="a", right_on="key")
        .join(bytes_of, left_on="b", right_on="key", suffix="_r")
    )
    return equal.select(
        pl.col("a").alias("left"),
        pl.col("b").alias("right"),
        pl.lit(1.0, pl.Float32).alias("score"),
        pl.lit(True).alias("same_pixels"),
        (pl.col("sha256") == pl.col("sha256_r")).alias("same_bytes"),
        pl.lit(False).alias("flipped"),
        pl.lit(None, pl.String).alias("evidence"),
    )


def _near_pairs(assets: pl.DataFrame, matches: pl.DataFrame) -> pl.DataFrame:
    own, other = (_few_copies(side) for side in on_sides(assets))
    ways = [(own, other)] if undivided(assets) else [(own, other), (other, own)]
    found = [
        matches.join(
            one.select(pl.col("content").alias("left"), pl.col("key").alias("a")), on="left"
        )
        .join(two.select(pl.col("content").alias("right"), pl.col("key").alias("b")), on="right")
        .filter(pl.col("a") != pl.col("b"))
        for one, two in ways
    ]
    return (
        pl.concat(found)
        .unique(["a", "b"])
        .select(
            pl.min_horizontal("a", "b").alias("left"),
            pl.max_horizontal("a", "b").alias("right"),
            "score",
            pl.lit(False).alias("same_pixels"),
            pl.lit(False).alias("same_bytes"),
            (pl.col("a") > pl.col("b")).alias("flipped"),
            "evidence",
        )
    )


def _few_copies(assets: pl.DataFrame) -> pl.DataFrame:
    """All assets of contents with few assets, and the first asset of contents with many."""
    nth = pl.int_range(pl.len()).over("content")
    return assets.sort("key").filter((pl.len().over("content") <= _NEAR_COPIES) | (nth == 0))
