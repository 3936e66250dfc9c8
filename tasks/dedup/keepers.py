"""Which asset of a group stays: ordered criteria, the first that differs decides."""

from __future__ import annotations

import polars as pl

#: Formats that lose nothing, before those that do.
_LOSSLESS = ["tiff", "png", "bmp", "psd"]


def rank_keepers(assets: pl.DataFrame) -> pl.DataFrame:
    """Assets, the best keeper first.

    More pixels, then a lossless format, then more bytes, then the older one, then the key: the
    last makes the order total, so that the same assets always give the same keeper.
    """
    return (
        assets.with_columns(
            (pl.col("width").cast(pl.Int64) * pl.col("height")).alias("_pixels"),
            pl.col("format").is_in(_LOSSLESS).alias("_lossless"),
        )
        .sort(
            "_pixels",
            "_lossless",
            "size",
            "last_modified",
            "key",
            "asset_id",
            descending=[True, True, True, False, False, False],
            nulls_last=True,
        )
        .drop("_pixels", "_lossless")
    )
