"""Found pairs against the truth: precision, recall, purity, calibration. Pure, on polars frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import polars as pl

_BINS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
LEVELS = ("exact", "near", "hard")


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the pairs and groups of one scan are. A share of nothing is None.

    Attributes:
        threshold: the score from which a pair counts.
        pairs: how many pairs have it and both files in the truth.
        right: of these, how many are of one truth group.
        unknown: pairs left out of all figures because the truth does not name a file of theirs.
        wanted: pairs that should be found: each edited copy with its original; where the truth
            names no edits, all pairs of one truth group.
        found: of these, how many are.
        groups: duplicate groups; ``pure`` ones have members of one truth group only.
        levels: level, wanted, found, recall, proposed, candidate_recall; the last two are null
            where no candidates were given.
        edits: the same for each edit, with its level.
        curve: threshold, pairs, precision, recall.
        calibration: low, high, pairs, right, share.
        false_pairs: left, right, score, left_group, right_group; the surest first.
        judged: left, right, score, is_right of all pairs, whatever their score.
    """

    threshold: float
    pairs: int
    right: int
    unknown: int
    wanted: int
    found: int
    groups: int
    pure: int
    levels: pl.DataFrame
    edits: pl.DataFrame
    curve: pl.DataFrame
    calibration: pl.DataFrame
    false_pairs: pl.DataFrame
    judged: pl.DataFrame = field(repr=False)

    @property
    def precision(self) -> float | None:
        """Share of pairs that are right."""
        return share(self.right, self.pairs)

    @property
    def recall(self) -> float | None:
        """Share of wanted pairs that are found."""
        return share(self.found, self.wanted)

    @property
    def purity(self) -> float | None:
        """Share of groups that hold one picture only."""
        return share(self.pure, self.groups)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        numbers = ("threshold", "pairs", "right", "unknown", "wanted", "found", "groups", "pure")
        tables = ("levels", "edits", "curve", "calibration", "false_pairs")
        return (
            {name: getattr(self, name) for name in numbers}
            | {"precision": self.precision, "recall": self.recall, "purity": self.purity}
            | {name: getattr(self, name).to_dicts() for name in tables}
        )


def share(part: int, whole: int) -> float | None:
    """A rounded share; None of nothing."""
    return round(part / whole, 4) if whole else None


def assess(
    truth: pl.DataFrame,
    pairs: pl.DataFrame,
    members: pl.DataFrame,
    candidates: pl.DataFrame | None = None,
    threshold: float = 0.7,
) -> Quality:
    """Measure a scan.

    Args:
        truth: file, group; and edit, level, which are null or empty for originals. Without them
            (or where all are empty) every pair of one group is wanted.
        pairs: left, right (files, in either order), score.
        members: group_id, key.
        candidates: left, right of every pair that was looked at, if known; pairs that the truth
            does not want may be missing.
        threshold: the score from which a pair counts.
    """
    truth = _with_edits(truth)
    judged, unknown = _judge(truth, pairs)
    sure = judged.filter(pl.col("score") >= threshold)
    right = int(sure["is_right"].sum())
    pure, groups = _purity(truth, members)
    wanted = wanted_pairs(truth)
    edited = wanted.join(judged.select("left", "right", "score"), on=["left", "right"], how="left")
    edited = edited.with_columns((pl.col("score") >= threshold).fill_null(False).alias("hit"))
    edited = edited.with_columns(_was_proposed(edited, candidates))
    planted = edited.height > 0
    groups_total = _pairs_inside(truth)
    return Quality(
        threshold=threshold,
        pairs=sure.height,
        right=right,
        unknown=unknown,
        wanted=edited.height if planted else groups_total,
        found=int(edited["hit"].sum()) if planted else right,
        groups=groups,
        pure=pure,
        levels=_recall(edited, ["level"]),
        edits=_recall(edited, ["edit", "level"]),
        curve=_curve(judged, edited, None if planted else groups_total),
        calibration=_calibration(judged),
        false_pairs=sure.filter(~pl.col("is_right"))
        .sort("score", "left", "right", descending=[True, False, False])
        .select("left", "right", "score", "left_group", "right_group"),
        judged=judged.select("left", "right", "score", "is_right"),
    )


def wanted_pairs(truth: pl.DataFrame) -> pl.DataFrame:
    """left, right, edit, level of each edited copy with its original; left < right."""
    truth = _with_edits(truth)
    originals = truth.filter(pl.col("edit").is_null()).select(
        "group", pl.col("file").alias("original")
    )
    copies = truth.filter(pl.col("edit").is_not_null()).join(originals, on="group")
    return copies.select(
        pl.min_horizontal("file", "original").alias("left"),
        pl.max_horizontal("file", "original").alias("right"),
        "edit",
        "level",
    )


def _with_edits(truth: pl.DataFrame) -> pl.DataFrame:
    for name in ("edit", "level"):
        if name not in truth.columns:
            truth = truth.with_columns(pl.lit(None, pl.String).alias(name))
    blank = [pl.col(name).cast(pl.String).replace("", None) for name in ("edit", "level")]
    return truth.select(pl.col("file").cast(pl.String), pl.col("group").cast(pl.String), *blank)


def _judge(truth: pl.DataFrame, pairs: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Each pair once, with the truth's groups; and how many pairs the truth does not know."""
    ordered = (
        pairs.select(
            pl.min_horizontal("left", "right").alias("left"),
            pl.max_horizontal("left", "right").alias("right"),
            pl.col("score").cast(pl.Float64),
        )
        .cast({"left": pl.String, "right": pl.String})
        .group_by("left", "right")
        .agg(pl.col("score").max())
    )
    judged = ordered
    for side in ("left", "right"):
        names = truth.select(pl.col("file").alias(side), pl.col("group").alias(f"{side}_group"))
        judged = judged.join(names, on=side)
    judged = judged.with_columns((pl.col("left_group") == pl.col("right_group")).alias("is_right"))
    return judged.sort("left", "right"), ordered.height - judged.height


def _was_proposed(wanted: pl.DataFrame, candidates: pl.DataFrame | None) -> pl.Series:
    if candidates is None:
        return pl.Series("proposed", [None] * wanted.height, dtype=pl.Boolean)
    seen = {(min(pair), max(pair)) for pair in candidates.select("left", "right").iter_rows()}
    rows = wanted.select("left", "right").iter_rows()
    return pl.Series("proposed", [row in seen for row in rows], dtype=pl.Boolean)


def _recall(wanted: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    rank = pl.col("level").replace_strict(
        list(LEVELS), list(range(len(LEVELS))), default=len(LEVELS), return_dtype=pl.Int8
    )
    known = pl.col("proposed").is_not_null().all()
    return (
        wanted.group_by(by)
        .agg(
            pl.len().cast(pl.Int64).alias("wanted"),
            pl.col("hit").sum().cast(pl.Int64).alias("found"),
            pl.col("hit").mean().round(4).alias("recall"),
            pl.when(known).then(pl.col("proposed").sum().cast(pl.Int64)).alias("proposed"),
            pl.col("proposed").mean().round(4).alias("candidate_recall"),
        )
        .sort(rank, by[0])
    )


def _purity(truth: pl.DataFrame, members: pl.DataFrame) -> tuple[int, int]:
    """Pure groups and all groups; members that the truth does not name are left out."""
    named = members.select("group_id", pl.col("key").cast(pl.String).alias("file"))
    kinds = named.join(truth, on="file").group_by("group_id").agg(pl.col("group").n_unique())
    return kinds.filter(pl.col("group") == 1).height, kinds.height


def _pairs_inside(truth: pl.DataFrame) -> int:
    """How many pairs there are inside the truth's groups, counted without listing them."""
    sizes = truth.group_by("group").len()["len"].cast(pl.Int64)
    return int((sizes * (sizes - 1) // 2).sum())


def _curve(judged: pl.DataFrame, edited: pl.DataFrame, inside: int | None) -> pl.DataFrame:
    rows: list[tuple[float, int, float | None, float | None]] = []
    for threshold in _THRESHOLDS:
        sure = judged.filter(pl.col("score") >= threshold)
        right = int(sure["is_right"].sum())
        if inside is None:
            recall = share(edited.filter(pl.col("score") >= threshold).height, edited.height)
        else:
            recall = share(right, inside)
        rows.append((threshold, sure.height, share(right, sure.height), recall))
    schema = {
        "threshold": pl.Float64,
        "pairs": pl.Int64,
        "precision": pl.Float64,
        "recall": pl.Float64,
    }
    return pl.DataFrame(rows, schema, orient="row")


def _calibration(judged: pl.DataFrame) -> pl.DataFrame:
    rows: list[tuple[float, float, int, int, float | None]] = []
    for low, high in pairwise(_BINS):
        below = pl.col("score") < high if high < 1 else pl.lit(True)
        inside = judged.filter((pl.col("score") >= low) & below)
        right = int(inside["is_right"].sum())
        rows.append((low, high, inside.height, right, share(right, inside.height)))
    schema = {
        "low": pl.Float64,
        "high": pl.Float64,
        "pairs": pl.Int64,
        "right": pl.Int64,
        "share": pl.Float64,
    }
    return pl.DataFrame(rows, schema, orient="row")
