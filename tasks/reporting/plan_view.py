"""The groups and members of a scan as its merge plan has them.

A scan names a keeper of each group by what the pixels say; a policy may choose another, and it
decides what is moved. Where there is a plan, every document tells the plan's keeper, bytes and
state. They are put into the tables here, once, before anything is rendered from them.
"""

from __future__ import annotations

import polars as pl

from tasks.merging.rules.plan_note import GroupNote, PlanNote
from tasks.records import Role

#: Of a group that the plan does not hold: a plan holds so many groups and no more.
UNPLANNED = "unplanned"
_KEPT = pl.lit(Role.KEEPER.value)
_COPY = pl.lit(Role.DUPLICATE.value)
#: From the surest to the least sure; a group joins no other tier.
_TIERS = {"exact": 0, "near": 1}


def standing(note: GroupNote | None) -> str:
    """What may become of a group.

    Returns:
        ``refused`` (nothing may be done), ``nothing`` (the policy only reports it), ``approved``
        (by the policy itself), ``asks`` (a person has a question to answer), ``waits`` (for a
        person's word), or ``unplanned``.
    """
    if note is None:
        return UNPLANNED
    if note.refused:
        return "refused"
    if not note.acting:
        return "nothing"
    if note.approved:
        return "approved"
    return "asks" if note.questions else "waits"


def with_plan(
    groups: pl.DataFrame, members: pl.DataFrame, pairs: pl.DataFrame, note: PlanNote | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Groups and members with the plan's keepers, bytes and states.

    Args:
        groups: one row a group, as the scan made it: group_id, keeper, savings, score, state ...
        members: one row a member: group_id, key, role, tier, score ...
        pairs: one row a match: left, right, tier, score.
        note: the plan; None: there is none, and the scan's own keepers and sums stay.

    Returns:
        The groups with ``action`` and ``standing`` beside their columns, what is new and what
        saves most first; the members with ``action``, a group's keeper first. Both columns are
        null where there is no plan. ``savings`` is what the plan would move out of its place.
    """
    if note is None:
        none = pl.lit(None, pl.String)
        groups = groups.with_columns(none.alias("action"), none.alias("standing"))
        return _ordered(groups), members.with_columns(none.alias("action"))
    told = _told(note)
    members = _members(members, pairs, told)
    scores = (
        members.filter(pl.col("role") == _COPY)
        .group_by("group_id")
        .agg(pl.col("score").min().alias("lowest"))
    )
    groups = (
        groups.join(told, on="group_id", how="left", maintain_order="left")
        .join(scores, on="group_id", how="left", maintain_order="left")
        .with_columns(
            pl.coalesce("planned", "keeper").alias("keeper"),
            pl.coalesce("lowest", "score").alias("score"),
            pl.col("moved").fill_null(0).alias("savings"),
            pl.col("standing").fill_null(UNPLANNED),
        )
        .drop("planned", "lowest", "moved")
    )
    return _ordered(groups), members


def _ordered(groups: pl.DataFrame) -> pl.DataFrame:
    return groups.sort(
        pl.col("state").replace_strict({"new": 0, "changed": 1, "known": 2}),
        "savings",
        "bytes",
        "group_id",
        descending=[False, True, True, False],
    )


def _told(note: PlanNote) -> pl.DataFrame:
    rows = [
        (name, one.keeper or None, one.bytes, one.action, standing(one))
        for name, one in note.groups.items()
    ]
    columns = {
        "group_id": pl.String,
        "planned": pl.String,
        "moved": pl.Int64,
        "action": pl.String,
        "standing": pl.String,
    }
    return pl.DataFrame(rows, schema=columns, orient="row")


def _members(members: pl.DataFrame, pairs: pl.DataFrame, told: pl.DataFrame) -> pl.DataFrame:
    """The members with roles, scores and tiers as seen from the plan's keeper.

    Where the plan's keeper and a member were compared, the score of that pair is told. Where they
    were not, both were compared with the scan's keeper, and the lower of these two scores is told.
    """
    columns = members.columns
    both = _compared(pairs)
    chosen = told.select("group_id", "planned", "action")
    seen = members.join(chosen, on="group_id", how="left", maintain_order="left")
    stays = seen.filter((pl.col("key") == pl.col("planned")) & (pl.col("role") != _KEPT)).select(
        "group_id", pl.col("score").alias("mine"), pl.col("tier").alias("my_tier")
    )
    seen = seen.join(stays, on="group_id", how="left", maintain_order="left").join(
        both, on=["planned", "key"], how="left", maintain_order="left"
    )
    other = pl.col("mine").is_not_null()  # the plan keeps another file than the scan named
    stays_now = (
        pl.when(other).then(pl.col("key") == pl.col("planned")).otherwise(pl.col("role") == _KEPT)
    )
    rank = {name: pl.col(name).replace_strict(_TIERS, default=1) for name in ("tier", "my_tier")}
    lower = pl.when(rank["my_tier"] > rank["tier"]).then("my_tier").otherwise("tier")
    return (
        seen.with_columns(
            pl.when(~other)
            .then("score")
            .when(stays_now)
            .then(1.0)
            .otherwise(pl.coalesce("pair_score", pl.min_horizontal("mine", "score")))
            .alias("score"),
            pl.when(~other)
            .then("tier")
            .when(stays_now)
            .then(pl.lit("exact"))
            .otherwise(pl.coalesce("pair_tier", lower))
            .alias("tier"),
            pl.when(stays_now).then(_KEPT).otherwise(_COPY).alias("role"),
        )
        .sort("group_id", pl.col("role") != _KEPT, "key")
        .select(*columns, "action")
    )


def _compared(pairs: pl.DataFrame) -> pl.DataFrame:
    """One row a direction of each pair of copies: planned, key, pair_score, pair_tier."""
    copies = pairs.filter(pl.col("tier").is_in(list(_TIERS)))
    turned = [
        copies.select(
            pl.col(one).alias("planned"),
            pl.col(two).alias("key"),
            pl.col("score").cast(pl.Float64).round(4).alias("pair_score"),
            pl.col("tier").alias("pair_tier"),
        )
        for one, two in (("left", "right"), ("right", "left"))
    ]
    return pl.concat(turned).unique(["planned", "key"], keep="first", maintain_order=True)
