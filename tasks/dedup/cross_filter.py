"""Two sides of a scan: which pairs lie across, and which groups hold some that do.

An asset is on its own side, on the other side, or on both (``side``: 1, 2, 3). A pair lies across
when one of it is on the own side and the other on the other side. Where everything is on both
sides every pair does, and that is an ordinary scan.
"""

from __future__ import annotations

import polars as pl

from tasks.records import Role

OWN, OTHER, BOTH = 1, 2, 3

_OWN = pl.col("side") % 2 == 1
_OTHER = pl.col("side") >= OTHER


def with_side(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows with their side; on both where nothing is said."""
    if "side" in frame.columns:
        return frame
    return frame.with_columns(pl.lit(BOTH, pl.UInt8).alias("side"))


def undivided(frame: pl.DataFrame) -> bool:
    """Whether everything is on both sides."""
    return "side" not in frame.columns or bool((frame["side"] == BOTH).all())


def on_sides(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of the own side, and those of the other; all twice, where there are no sides."""
    rows = with_side(frame)
    return rows.filter(_OWN), rows.filter(_OTHER)


def content_sides(assets: pl.DataFrame) -> pl.DataFrame:
    """content, side: where any of its assets is.

    Args:
        assets: content, side.
    """
    own, other = _OWN.cast(pl.UInt8).max(), _OTHER.cast(pl.UInt8).max()
    return assets.group_by("content").agg((own + other * OTHER).cast(pl.UInt8).alias("side"))


def facing(contents: pl.DataFrame) -> pl.DataFrame:
    """Those of the contents (content, side) that have anybody on the other side."""
    return contents.filter((_OWN & _OTHER.any()) | (_OTHER & _OWN.any()))


def crossing(pairs: pl.DataFrame, contents: pl.DataFrame) -> pl.DataFrame:
    """Those of the pairs (left, right, ...) that lie across.

    Args:
        pairs: left and right are contents.
        contents: content, side; or no side, where everything is on both.
    """
    if undivided(contents):
        return pairs
    own, other = contents.filter(_OWN).select("content"), contents.filter(_OTHER).select("content")
    numbered = pairs.with_row_index("_row")
    found = [
        numbered.join(one, left_on="left", right_on="content", how="semi")
        .join(two, left_on="right", right_on="content", how="semi")
        .select("_row")
        for one, two in ((own, other), (other, own))
    ]
    return numbered.join(pl.concat(found), on="_row", how="semi", maintain_order="left").drop(
        "_row"
    )


def pairs_sharing(frame: pl.DataFrame, by: str, name: str, most: int) -> pl.DataFrame:
    """Pairs that lie across and share a value: a, b (names, a < b), each once.

    Args:
        frame: ``name`` (unique), ``by`` (nulls share nothing), and side, if there are two.
        by: the column that is shared.
        name: the column that names a row.
        most: up to so many of one value on a side, all its pairs; beyond, each with the first of
            the other side.
    """
    rows = with_side(frame).select(by, pl.col(name), "side").drop_nulls(by).sort(name)
    rows = rows.filter(pl.len().over(by) > 1)
    own, other = (
        rows.filter(side).select(
            by,
            pl.col(name).alias(name_of),
            (pl.int_range(pl.len()).over(by) == 0).alias(f"first_{name_of}"),
            pl.len().over(by).alias(f"n_{name_of}"),
        )
        for side, name_of in ((_OWN, "x"), (_OTHER, "y"))
    )
    sizes = own.select(by, "n_x").unique().join(other.select(by, "n_y").unique(), on=by)
    many = sizes.filter(pl.max_horizontal("n_x", "n_y") > most).select(by)
    few_own, few_other = (side.join(many, on=by, how="anti") for side in (own, other))
    many_own, many_other = (side.join(many, on=by, how="semi") for side in (own, other))
    found = [
        one.join(two, on=by).select("x", "y")
        for one, two in (
            (few_own, few_other),
            (many_own.filter("first_x"), many_other),
            (many_own, many_other.filter("first_y")),
        )
    ]
    return (
        pl.concat(found)
        .filter(pl.col("x") != pl.col("y"))
        .select(pl.min_horizontal("x", "y").alias("a"), pl.max_horizontal("x", "y").alias("b"))
        .unique()
    )


def keep_crossing(members: pl.DataFrame) -> pl.DataFrame:
    """Members of groups that lie across from the keeper, or from a copy that does.

    Who has nobody on the other side among those it matches for sure (its keeper's picture and its
    own; for the keeper's picture: all) is no finding between the sides.

    Args:
        members: group_id, content, role, side, ...; in each group one keeper.

    Returns:
        The same columns; no group has fewer than two members.
    """
    keepers = members.filter(role=Role.KEEPER.value).select(
        "group_id", pl.col("content").alias("_home")
    )
    at_home = pl.col("content") == pl.col("_home")

    def others(side: pl.Expr) -> pl.Expr:
        here = side.cast(pl.Int64)
        alike = here.sum().over("group_id", "content")
        home = (side & at_home).cast(pl.Int64).sum().over("group_id")
        return pl.when(at_home).then(here.sum().over("group_id")).otherwise(alike + home) - here

    across = (_OWN & (others(_OTHER) > 0)) | (_OTHER & (others(_OWN) > 0))
    return (
        members.join(keepers, on="group_id", maintain_order="left")
        .filter(across)
        .filter(pl.len().over("group_id") > 1)
        .select(members.columns)
    )
