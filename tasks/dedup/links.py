"""Linked assets: they belong together, and are no duplicates of one another."""

from __future__ import annotations

import polars as pl

from tasks.dedup.verify import EXACT_SCORE

_NONE = {"left": pl.String, "right": pl.String, "reason": pl.String}


def find_links(assets: pl.DataFrame) -> pl.DataFrame:
    """RAW and developed picture, sidecar and picture, pictures of one original document.

    Args:
        assets: key, raw (a camera raw file, read or not), sidecars (list of keys), document
            (XMP OriginalDocumentID or null).

    Returns:
        left, right (keys, left < right), reason (``raw``, ``sidecar``, ``document``); sorted.
        Of the assets of one document each is linked to the first by key.
    """
    stem = assets.with_columns(
        pl.col("key").str.replace(r"\.[^./]*$", "").str.to_lowercase().alias("stem")
    )
    raw = (
        stem.filter("raw")
        .join(stem.filter(~pl.col("raw")), on="stem", suffix="_b")
        .select(pl.col("key").alias("a"), pl.col("key_b").alias("b"), pl.lit("raw").alias("reason"))
    )
    sidecar = (
        assets.select(pl.col("key").alias("a"), pl.col("sidecars").alias("b"))
        .explode("b", empty_as_null=True)
        .drop_nulls("b")
        .with_columns(pl.lit("sidecar").alias("reason"))
    )
    known = assets.drop_nulls("document").sort("key")
    document = known.select(
        pl.col("key").first().over("document").alias("a"),
        pl.col("key").alias("b"),
        pl.lit("document").alias("reason"),
    ).filter(pl.col("a") != pl.col("b"))
    parts = [part for part in (raw, sidecar, document) if part.height]
    if not parts:
        return pl.DataFrame(schema=_NONE)
    return (
        pl.concat(parts)
        .select(
            pl.min_horizontal("a", "b").alias("left"),
            pl.max_horizontal("a", "b").alias("right"),
            "reason",
        )
        .unique()
        .sort("left", "right", "reason")
    )


def without_linked(
    matches: pl.DataFrame, documents: pl.DataFrame, least: float = EXACT_SCORE
) -> pl.DataFrame:
    """Matches whose sides are not known to be versions of one document.

    Of one document what shows no difference is a duplicate; what differs is a version of it.

    Args:
        matches: left, right (contents), score, ...
        documents: content, document (or null), one row an asset.
        least: score from which two show no difference.
    """
    known = documents.drop_nulls("document").group_by("content").agg(pl.col("document").unique())
    both = matches.join(
        known.rename({"content": "left", "document": "_one"}), on="left", how="left"
    )
    both = both.join(known.rename({"content": "right", "document": "_two"}), on="right", how="left")
    shared = pl.col("_one").list.set_intersection("_two").list.len() > 0
    version = shared.fill_null(value=False) & (pl.col("score") < least)
    return both.filter(~version).drop("_one", "_two").sort("left", "right")
