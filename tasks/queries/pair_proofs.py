"""What is known of pairs of contents for a merge: the proofs, and people's word on them."""

from __future__ import annotations

import polars as pl

from tasks.catalog.catalog import Catalog
from tasks.dedup.originals import PERSON
from tasks.dedup.verdicts import current
from tasks.queries.proofs import KnownProofs
from tasks.queries.verdicts import read_verdicts

#: Of so many contents at most only their own proofs are read, of more all.
_FEW = 500


def read_pair_proofs(
    catalog: Catalog, source: str, assets: pl.DataFrame
) -> dict[frozenset[str], tuple[str, str]]:
    """Of two contents: the verdict of their originals or ``person``, and why they were not read.

    Args:
        catalog: the catalog.
        source: the id of the source in which the assets are.
        assets: asset_id, content; pairs of these contents are told.
    """
    names = assets["content"].unique()
    inside = names.implode()
    both = pl.col("left").is_in(inside) & pl.col("right").is_in(inside)
    few = names.to_list() if len(names) <= _FEW else ()
    rows = KnownProofs(catalog, few).rows.filter(both)
    found = {
        frozenset((left, right)): (verdict, message or "")
        for left, right, verdict, message in rows.select(
            "left", "right", "verdict", "message"
        ).iter_rows()
    }
    said = current(read_verdicts(catalog, source), assets).filter(both, verdict="duplicate")
    pairs = said.select("left", "right").iter_rows()
    return found | {frozenset(pair): (PERSON, "") for pair in pairs}
