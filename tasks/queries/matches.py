"""A scan's verified pairs and its matches, derived from what the catalog holds.

A match is a verified pair at or above the scan's threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from tasks.catalog.catalog import Catalog
from tasks.dedup.cross_filter import content_sides
from tasks.dedup.groups import bridging_pairs, inner_pairs
from tasks.dedup.keepers import find_copies, rank_keepers
from tasks.dedup.verify import SIMILAR_SCORE, tiers_of
from tasks.queries.candidates import Candidates
from tasks.queries.pair_answers import KnownAnswers
from tasks.queries.proofs import KnownProofs
from tasks.queries.scope_assets import embedded_assets
from tasks.records import Scan, Space

#: How often the bridging and inner pairs of groups are asked for (:mod:`tasks.dedup.groups`), since
#: each answer may change the groups. Three rounds are usual; a ring of 3,000 copies, each
#: like its neighbours only, takes 17.
_ROUNDS = 30

#: Candidate pairs that are asked at once. Joining their names with answers and proofs takes about a
#: kilobyte a pair while it lasts.
_ASKED_AT_ONCE = 1 << 18
_NO_PAIRS = {"left": pl.String, "right": pl.String}


def read_pairs(catalog: Catalog, scan: Scan, space: Space, least: float = 0.0) -> pl.DataFrame:
    """The verified pairs of a scope, as verify and prove left them.

    Args:
        catalog: where they are.
        scan: whose scope is meant.
        space: where the vectors are.
        least: the lowest score that is given; 0: refusals too.

    Returns:
        left, right (contents, left < right), score, tier, evidence (JSON or null), claim (the score
        of the thumbnails alone), proof (what the originals said, or null); sorted by left and
        right.
    """
    assets = embedded_assets(catalog, scan, space)
    ask = KnownProofs(catalog).after(KnownAnswers(catalog).of)
    return _tiered(settled_pairs(catalog, scan, space, assets, ask, least).pairs)


@dataclass(frozen=True, slots=True)
class SettledPairs:
    """The pairs of a scope that were asked.

    Attributes:
        pairs: those that are told, with their answers.
        asked: how many pairs were asked in all.
    """

    pairs: pl.DataFrame
    asked: int


def settled_pairs(
    catalog: Catalog,
    scan: Scan,
    space: Space,
    assets: pl.DataFrame,
    ask: Callable[[pl.DataFrame], pl.DataFrame],
    least: float = SIMILAR_SCORE,
) -> SettledPairs:
    """The candidate pairs with their answers, and those asked for the groups' sake.

    These decide between two groups, or show what a member that was hardly found has in common with
    the rest of its group.

    The result depends on what is in scope and on the pairs' answers alone: not on the order in
    which the assets came, nor on earlier scans.

    Args:
        catalog: where the neighbour lists are.
        scan: whose scope is meant.
        space: where the vectors are.
        assets: those in scope (:func:`tasks.queries.scope_assets.embedded_assets`).
        ask: from pairs (left, right) to their answers (left, right, score, evidence ...).
        least: the lowest score that is told; of a million contents 98 in 100 pairs are refusals,
            which decide nothing and take gigabytes.
    """
    sides = content_sides(assets)
    contents = assets.select("content", "phash").unique("content", keep="first")
    candidates = Candidates(catalog, scan, space, contents.join(sides, on="content"))
    told, asked = [], 0
    for part in candidates.parts(_ASKED_AT_ONCE):
        asked += part.height
        told.append(ask(part).filter(pl.col("score") >= least))
    pairs = pl.concat(told) if told else ask(pl.DataFrame(schema=_NO_PAIRS))
    copies = find_copies(assets, pairs)
    for _ in range(_ROUNDS):
        ranks = (
            rank_keepers(assets, copies)
            .with_row_index("rank")
            .group_by("content")
            .agg(pl.col("rank").min())
            .join(sides, on="content")
        )
        missing = bridging_pairs(ranks, pairs, candidates.others)
        if missing.is_empty():
            missing = inner_pairs(ranks, pairs, candidates.others)
        if missing.is_empty():
            break
        answers = ask(missing)
        asked += missing.height
        copies |= find_copies(assets, answers)
        pairs = pl.concat([pairs, answers])
    return SettledPairs(pairs.filter(pl.col("score") >= least), asked)


def read_matches(catalog: Catalog, scan: Scan, space: Space) -> pl.DataFrame:
    """The scope's verified pairs at or above the scan's threshold, with their evidence.

    Grouping, planning and summarizing need the same matches, which take a join over all
    candidates. So those of one scan are derived once in a process, and again only when one of the
    tables that they come from has a new version.

    Returns:
        The columns of :func:`read_pairs`; and box_left, box_right: where in each picture the two
        overlap (x0, y0, x1, y1 in 0..1).
    """
    derived = _latest.of(catalog, scan, space)
    if derived is not None:
        return derived
    # Taken before the tables are read: what is written while they are read gives a table another
    # version than this, and the matches are derived again.
    state = _state(catalog, scan, space)
    matches = _matches(scan, read_pairs(catalog, scan, space, scan.threshold))
    _latest.keep(state, matches)
    return matches


def keep_matches(catalog: Catalog, scan: Scan, space: Space, settled: pl.DataFrame) -> None:
    """Keep the matches among a scan's settled pairs, so that :func:`read_matches` finds them.

    Args:
        catalog: the caller holds the writer's lease, and has held it since it settled the pairs.
        scan: whose pairs they are.
        space: where the vectors are.
        settled: of :func:`settled_pairs`, with every answer and proof that the catalog has now.
    """
    _latest.keep(_state(catalog, scan, space), _matches(scan, _tiered(settled)))


def _tiered(settled: pl.DataFrame) -> pl.DataFrame:
    tiers = tiers_of(settled["score"])
    return settled.with_columns(pl.Series("tier", tiers, dtype=pl.String)).sort("left", "right")


def _matches(scan: Scan, pairs: pl.DataFrame) -> pl.DataFrame:
    return pairs.filter(pl.col("score") >= scan.threshold).pipe(with_boxes)


def with_boxes(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs with box_left and box_right, read from their evidence."""
    boxes = pl.Struct({"box_left": pl.List(pl.Float64), "box_right": pl.List(pl.Float64)})
    return pairs.with_columns(pl.col("evidence").str.json_decode(boxes).alias("boxes")).unnest(
        "boxes"
    )


_State = tuple[str, str, str, tuple[int, ...]]


class _Latest:
    """The matches derived last, with the state of the catalog that they were derived from."""

    def __init__(self) -> None:
        self._held: tuple[_State, pl.DataFrame] | None = None

    def of(self, catalog: Catalog, scan: Scan, space: Space) -> pl.DataFrame | None:
        """A scan's matches; None when others were derived since, or a table has changed."""
        held = self._held  # read only once: another thread may replace it meanwhile
        if held is None or held[0][1] != scan.id:
            return None
        return held[1] if held[0] == _state(catalog, scan, space) else None

    def keep(self, state: _State, matches: pl.DataFrame) -> None:
        """Keep a scan's matches instead of those kept before."""
        self._held = state, matches


_latest = _Latest()


def _state(catalog: Catalog, scan: Scan, space: Space) -> _State:
    tables = ("assets", "neighbours", "pairs", "proofs", f"vectors_{space.id}")
    versions = tuple(catalog.versions(tables).values())
    return catalog.uri, scan.id, space.id, versions
