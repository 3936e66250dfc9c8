"""Groups that hold together: every member matches the group's keeper itself.

Chaining matches (a like b, b like c, ...) is how rivals make one group of half a library. Here the
best asset that is left takes those it matches directly, then the next best; nobody enters a group
through a third. The result depends on nothing but the assets and their matches.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from tasks.dedup.cross_filter import crossing
from tasks.dedup.keepers import find_copies, rank_keepers
from tasks.dedup.verify import NEAR_SCORE
from tasks.records import Role, digest

#: Parts of the keeper that members show meet when they share so much of the smaller one.
_MEET = 0.1
#: A member that shows more of the keeper than this is no mere part of it.
_PART = 0.6

#: A member that matches fewer of its group than the first is compared with its best members, up to
#: the second. For 61 groups of 770 members these were 48 pairs beside 49,397, and 45 of them match.
_FEW, _BEST = 6, 12

Box = tuple[float, float, float, float]


def group_matches(assets: pl.DataFrame, matches: pl.DataFrame) -> pl.DataFrame:
    """Duplicate groups.

    Args:
        assets: asset_id, key, source, content and the columns keepers are ranked by; one row an
            asset.
        matches: left, right (contents), score, and if known box_left, box_right (where in each
            the two meet, x0, y0, x1, y1 in 0..1) and evidence, which tells what was made of what;
            each pair once. Those below 0.7 join nothing.

    Returns:
        group_id, asset_id, role, score (against the keeper; the keeper's own is 1), same_pixels;
        groups by id, in each the keeper first, then by key. No group has fewer than two members.
    """
    ranked = rank_keepers(assets, find_copies(assets, matches)).with_row_index("rank")
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
        pl.col("keeper").map_elements(group_name, return_dtype=pl.String).alias("group_id")
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


def group_name(keeper: str) -> str:
    """A group's id, by the asset id of its keeper."""
    return f"g{digest(keeper)[:15]}"


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
    home = _homes(order.select("content", "rank"), matches)
    rows = pl.DataFrame(
        {
            "content": list(home),
            "home": [keeper for keeper, _ in home.values()],
            "score": pl.Series([score for _, score in home.values()], dtype=pl.Float32),
        },
        schema={"content": pl.String, "home": pl.String, "score": pl.Float32},
    ).with_columns((pl.col("content") == pl.col("home")).alias("same_pixels"))
    return pl.concat([rows, alone.join(rows, on="content", how="anti")])


def bridging_pairs(
    ranks: pl.DataFrame,
    pairs: pl.DataFrame,
    unasked: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
) -> pl.DataFrame:
    """Pairs that must be asked before groups are final: left, right (left < right).

    Where a match joins members of two groups, the member of the worse keeper may belong to the
    better one, and has perhaps not been compared with it. Each content asks for one keeper at a
    time, so that 10,000 copies of one logo cost about 10,000 pairs, not 50 million.

    Args:
        ranks: content, rank (the lower the better keeper); one row a content; and side, where
            only pairs that lie across may be asked.
        pairs: left, right, score of the pairs that were asked; refusals that ``unasked`` knows may
            be left out.
        unasked: from pairs (left, right, ...) to those of them that were not asked before.
    """
    none = pl.DataFrame(schema={"left": pl.String, "right": pl.String})
    edges = _both_ways(pairs.filter(pl.col("score") >= NEAR_SCORE))
    if edges.is_empty():
        return none
    # What matches only members of a group, and not its keeper, is at home with itself.
    home = {content: content for content in edges["a"].unique()} | {
        content: keeper for content, (keeper, _) in _homes(ranks, pairs).items()
    }
    where = pl.DataFrame({"content": list(home), "home": list(home.values())}).join(
        ranks.select(pl.col("content").alias("home"), pl.col("rank").alias("best")), on="home"
    )
    wishes = (
        edges.join(where.rename({"content": "a"}), on="a")
        .join(where.rename({"content": "b", "home": "home_b", "best": "best_b"}), on="b")
        .filter(pl.col("best_b") < pl.col("best"))
        .select(
            pl.col("best_b"),
            pl.col("a").alias("member"),
            pl.min_horizontal("a", "home_b").alias("left"),
            pl.max_horizontal("a", "home_b").alias("right"),
        )
    )
    return (
        _not_asked(wishes, ranks, pairs, unasked)
        .sort("best_b", "left", "right")
        .unique("member", keep="first", maintain_order=True)
        .select("left", "right")
        .unique()
        .sort("left", "right")
    )


def inner_pairs(
    ranks: pl.DataFrame,
    pairs: pl.DataFrame,
    unasked: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
) -> pl.DataFrame:
    """Pairs inside of groups that are worth asking: left, right (left < right).

    A member that an embedding hardly finds, a collage, a deep crop, matches its keeper and one or
    two others, and whether it shows the group's other members nobody has asked. Those that match
    many are not asked more: 10,000 copies of one logo list each other.

    Args:
        ranks: as of :func:`bridging_pairs`.
        pairs: likewise, when there are no bridging pairs left.
        unasked: likewise.
    """
    none = pl.DataFrame(schema={"left": pl.String, "right": pl.String})
    homes = _homes(ranks, pairs)
    if not homes:
        return none
    members = pl.DataFrame(
        {"content": list(homes), "home": [keeper for keeper, _ in homes.values()]}
    ).join(ranks, on="content")
    best = members.filter(pl.col("rank").rank("ordinal").over("home") <= _BEST)
    within = (
        _both_ways(pairs.filter(pl.col("score") >= NEAR_SCORE))
        .join(members.select(pl.col("content").alias("a"), "home"), on="a")
        .join(members.select(pl.col("content").alias("b"), pl.col("home").alias("of_b")), on="b")
        .filter(pl.col("home") == pl.col("of_b"))
        .group_by("a")
        .agg(pl.len().alias("known"))
    )
    lonely = members.join(within, left_on="content", right_on="a").filter(pl.col("known") < _FEW)
    wishes = (
        lonely.select(pl.col("content").alias("a"), "home")
        .join(best.select(pl.col("content").alias("b"), "home"), on="home")
        .filter(pl.col("a") != pl.col("b"))
        .select(
            pl.min_horizontal("a", "b").alias("left"), pl.max_horizontal("a", "b").alias("right")
        )
        .unique()
    )
    return _not_asked(wishes, ranks, pairs, unasked).sort("left", "right")


def _not_asked(
    wishes: pl.DataFrame,
    ranks: pl.DataFrame,
    pairs: pl.DataFrame,
    unasked: Callable[[pl.DataFrame], pl.DataFrame] | None,
) -> pl.DataFrame:
    """Those of some pairs (left, right, ...) that may be asked, and were not."""
    wishes = wishes.join(pairs.select("left", "right"), on=["left", "right"], how="anti")
    wishes = crossing(wishes, ranks)
    return wishes if unasked is None else unasked(wishes)


def _both_ways(matches: pl.DataFrame) -> pl.DataFrame:
    """Every match from either side: a, b, score, box (where in a the two meet)."""
    if "box_left" not in matches.columns:
        nowhere = pl.lit(None, pl.List(pl.Float64))
        matches = matches.with_columns(nowhere.alias("box_left"), nowhere.alias("box_right"))
    return pl.concat(
        [
            matches.select(
                pl.col(one).alias("a"), pl.col(other).alias("b"), "score", pl.col(box).alias("box")
            )
            for one, other, box in (("left", "right", "box_left"), ("right", "left", "box_right"))
        ]
    )


def _homes(ranks: pl.DataFrame, matches: pl.DataFrame) -> dict[str, tuple[str, float]]:
    """The keeper's content of every content that matches something, and the score against it.

    A keeper that shows several pictures (a collage, a contact sheet) does not join them: members
    that show parts of it which do not meet have nothing in common.
    """
    edges = (
        _both_ways(matches.filter(pl.col("score") >= NEAR_SCORE))
        .join(ranks.rename({"content": "a", "rank": "ra"}), on="a")
        .join(ranks.rename({"content": "b", "rank": "rb"}), on="b")
        .filter(pl.col("ra") < pl.col("rb"))
        .sort("ra", "rb")
    )
    # Only contents that match something are walked; the rest never becomes a Python object.
    home: dict[str, tuple[str, float]] = {}
    parts: dict[str, list[Box]] = {}
    for a, b, score, box in edges.select("a", "b", "score", "box").iter_rows():
        if home.setdefault(a, (a, 1.0))[0] != a or b in home:
            continue
        if box is not None and _size(box) < _PART:
            taken = parts.setdefault(a, [])
            if not all(_meets(box, other) for other in taken):
                continue
            if len(taken) < 50:
                taken.append(box)
        home[b] = (a, score)
    return home


def _size(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _meets(one: Box, two: Box) -> bool:
    common = max(one[0], two[0]), max(one[1], two[1]), min(one[2], two[2]), min(one[3], two[3])
    if common[0] >= common[2] or common[1] >= common[3]:
        return False
    return _size(common) >= _MEET * min(_size(one), _size(two))
