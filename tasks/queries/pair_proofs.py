"""What is known of pairs of contents for a merge: the proofs, and people's word on them."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from tasks.catalog.catalog import Catalog
from tasks.dedup.originals import PERSON
from tasks.dedup.verdicts import current
from tasks.queries.proofs import KnownProofs
from tasks.queries.scope_assets import read_assets
from tasks.queries.verdicts import read_verdicts
from tasks.records import Scan
from tasks.session import open_source


def read_pair_proofs(
    catalog: Catalog, scan: Scan, contents: Collection[str]
) -> dict[frozenset[str], tuple[str, str]]:
    """Of two contents: the verdict of their originals or ``person``, and why they were not read.

    Args:
        catalog: the catalog.
        scan: whose scope is meant.
        contents: pairs among these are told.
    """
    inside = pl.Series(sorted(contents), dtype=pl.String).implode()
    both = pl.col("left").is_in(inside) & pl.col("right").is_in(inside)
    rows = KnownProofs(catalog).rows.filter(both)
    found = {
        frozenset((left, right)): (verdict, message or "")
        for left, right, verdict, message in rows.select(
            "left", "right", "verdict", "message"
        ).iter_rows()
    }
    source = open_source(scan.source, scan.settings)
    assets = read_assets(catalog, scan, ["asset_id", "content"])
    said = current(read_verdicts(catalog, source.id), assets).filter(both, verdict="duplicate")
    pairs = said.select("left", "right").iter_rows()
    return found | {frozenset(pair): (PERSON, "") for pair in pairs}
