"""Traces of what was done to one of two copies: the evidence that tells which was first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tasks.dedup.align import Matrix
from tasks.dedup.detail import compare_detail, read_detail
from tasks.dedup.evidence import Evidence
from tasks.dedup.features import Features
from tasks.dedup.overlay import find_overlay
from tasks.dedup.surroundings import look_around


def look_for_traces(
    left: Features, right: Features, evidence: Evidence, matrix: Matrix
) -> Evidence:
    """The evidence with what each picture shows around the other, over it, and how finely.

    Args:
        left: as it was aligned: mirrored where the evidence says so.
        right: the other.
        evidence: of the pair.
        matrix: float64 (2, 3), the refined fit, pixels of left to pixels of right.
    """
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    overlay = find_overlay(left, right, matrix)
    lost = compare_detail(read_detail(left.detail), read_detail(right.detail), evidence)
    return replace(
        evidence,
        around_left=look_around(np.ascontiguousarray(left.rgb), right.size, back),
        around_right=look_around(np.ascontiguousarray(right.rgb), left.size, matrix),
        overlaid=overlay.share,
        overlay=overlay.lean,
        lost=lost,
    )
