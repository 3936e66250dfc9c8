"""Which asset of a group stays: ordered criteria, the first that differs decides."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from tasks.dedup.evidence import Evidence
from tasks.dedup.origin import PictureFacts, find_origin
from tasks.dedup.verify import NEAR_SCORE
from tasks.records import ARCHIVES

#: Formats that lose nothing, before those that do.
_LOSSLESS = ["tiff", "png", "bmp", "psd"]
#: Formats that lose something: what has the same pixels and loses nothing was made of them.
_LOSSY = ["jpeg", "webp", "avif", "heif"]


def rank_keepers(assets: pl.DataFrame, copies: Collection[str] = ()) -> pl.DataFrame:
    """Assets, the best keeper first.

    What no other was made of before what was made of another; then more pixels, a lossless format,
    more bytes, what is not in an archive, the older one, and the key: the last makes the order
    total, so that the same assets always give the same keeper.

    Args:
        assets: width, height, format, size, last_modified, key, asset_id; with content, lossless
            files of the very pixels of a lossy one come after it, for they only wrap it; with
            storage_class, what is in an archive comes after its equals, for it was only restored
            for a while.
        copies: contents that were made of others (:func:`find_copies`).
    """
    known = "content" in assets.columns
    return (
        assets.with_columns(
            (pl.col("width").cast(pl.Int64) * pl.col("height")).alias("_pixels"),
            pl.col("format").is_in(_LOSSLESS).alias("_lossless"),
            (pl.col("content").is_in(list(copies)) if known else pl.lit(value=False)).alias(
                "_copy"
            ),
            (wraps() if known else pl.lit(value=False)).alias("_wraps"),
            (
                pl.col("storage_class").is_in(ARCHIVES).fill_null(value=False)
                if "storage_class" in assets.columns
                else pl.lit(value=False)
            ).alias("_archived"),
        )
        .sort(
            "_copy",
            "_pixels",
            "_wraps",
            "_lossless",
            "size",
            "_archived",
            "last_modified",
            "key",
            "asset_id",
            descending=[False, True, False, True, True, False, False, False, False],
            nulls_last=True,
        )
        .drop("_copy", "_pixels", "_wraps", "_lossless", "_archived")
    )


def wraps() -> pl.Expr:
    """Whether an asset holds, without loss, the very pixels that a lossy file holds too.

    No encoder makes a JPEG whose pixels are exactly those of a picture, but any program can save a
    JPEG's pixels as a PNG.
    """
    lossy = pl.col("format").is_in(_LOSSY).any().over("content")
    return pl.col("format").is_in(_LOSSLESS) & lossy


def find_copies(assets: pl.DataFrame, matches: pl.DataFrame) -> frozenset[str]:
    """Contents that the evidence of some match says were made of the other one.

    Args:
        assets: content, key, width, height, size, format, and quality if it is known.
        matches: left, right (contents), score, evidence (JSON or null); without that, none is told.
    """
    if "evidence" not in matches.columns or matches.is_empty():
        return frozenset()
    near = matches.filter((pl.col("score") >= NEAR_SCORE) & pl.col("evidence").is_not_null())
    named = pl.concat([near["left"], near["right"]]).unique().to_frame("content")
    if "quality" not in assets.columns:
        assets = assets.with_columns(pl.lit(None, pl.Int32).alias("quality"))
    facts = {
        row[0]: PictureFacts(*row[1:])
        for row in rank_keepers(assets.join(named, on="content", how="semi"))
        .unique("content", keep="first", maintain_order=True)
        .select("content", "width", "height", "size", "format", "quality", "key")
        .iter_rows()
    }
    copies = set()
    for left, right, text in near.select("left", "right", "evidence").iter_rows():
        if left in facts and right in facts:
            origin = find_origin(Evidence.from_json(text), facts[left], facts[right])
            if origin.side != "either":
                copies.add(right if origin.side == "left" else left)
    return frozenset(copies)
