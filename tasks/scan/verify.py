"""Verify: compare the pixels of every candidate pair that was not compared before.

Contents (equal pixels) are compared, not assets: ten thousand copies of one logo are one row.
Answers are written as they come, refusals too, and belong to the two contents for good: no scan,
of whatever scope or model, verifies a pair again under the same rule.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import polars as pl

from tasks.progress import Progress, silent
from tasks.queries.matches import settled_pairs
from tasks.queries.proofs import KnownProofs
from tasks.queries.scan_verifier import ScanVerifier
from tasks.queries.scope_assets import embedded_assets
from tasks.records import Scan, Space
from tasks.session import open_catalog, open_engine

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VerifyCounts:
    """What a verify stage did.

    Attributes:
        candidates: pairs that had to be answered.
        verified: how many of them were compared now; the answers of the others were known.
        matches: how many are copies at or above the threshold.
        unanswered: how many could not be compared, so that nothing is known of them.
    """

    candidates: int
    verified: int
    matches: int
    unanswered: int


def verify_candidates(scan: Scan, space: Space, progress: Progress = silent) -> VerifyCounts:
    """Verify the candidate pairs without an answer, and those that groups ask for.

    These come from :mod:`tasks.dedup.groups`: a match between members of two groups makes it worth
    asking whether the member also matches the better keeper, and a member that matches few of its
    group, whether it matches more of them.
    """
    catalog = open_catalog(scan.settings)
    with catalog.writing(scan.settings.catalog.busy_seconds), open_engine(scan.settings) as engine:
        assets = embedded_assets(catalog, scan, space)
        verifier = ScanVerifier(catalog, scan.settings.match, progress, engine)
        ask = KnownProofs(catalog).after(verifier)
        settled = settled_pairs(catalog, scan, space, assets, ask)
        matches = settled.pairs.filter(pl.col("score") >= scan.threshold).height
    counts = VerifyCounts(settled.asked, verifier.verified, matches, verifier.unanswered)
    log.info("verify: %s", counts)
    if counts.unanswered:
        log.warning(
            "verify: %d pairs could not be compared, so duplicates among them are not found; "
            "the next scan tries them again",
            counts.unanswered,
        )
    return counts
