"""From candidate to match: the pixels decide, and leave evidence.

A candidate's score is a logistic function of two measurements that fail differently: the cosine
of the embeddings (what is shown) and the distance of the perceptual hashes (how it is laid out).
Its coefficients are data, in ``calibration.json`` beside this file, with their provenance.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.records import Tier, digest

#: No score of a measured pair reaches this: it is kept for equal pixels.
_BEST_MEASURED = 0.999

#: As float32, which scores are: a pair that just reaches 0.7 is near, not similar.
_NEAR_SCORE = float(np.float32(0.7))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Coefficients of the score.

    Attributes:
        version: names them; part of the rule under which matches are remembered.
        bias: of the logit.
        cosine: per unit of cosine.
        phash: per bit of distance.
    """

    version: str
    bias: float
    cosine: float
    phash: float


@cache
def calibration() -> Calibration:
    """The coefficients this release ships."""
    data = json.loads(Path(__file__).with_name("calibration.json").read_text())
    return Calibration(**data["coefficients"])


def rule_id() -> str:
    """Names how matches are made: matches and marks of another rule are not reused."""
    return digest("verify-1", repr(calibration()))[:12]


def score_pairs(
    cosine: npt.NDArray[np.float32],
    phash_distance: npt.NDArray[np.int32],
) -> npt.NDArray[np.float32]:
    """Scores in 0..0.999 of n pairs; higher is closer."""
    known = calibration()
    logit = known.bias + known.cosine * cosine.astype(np.float64) + known.phash * phash_distance
    return np.minimum(1.0 / (1.0 + np.exp(-logit)), _BEST_MEASURED).astype(np.float32)


def cosine_floor(threshold: float) -> float:
    """The lowest cosine at which a pair with equal perceptual hashes reaches a threshold."""
    known = calibration()
    logit = math.log(threshold / (1.0 - threshold)) if threshold < 1.0 else math.inf
    # A float16 vector's rounding must not lose the pair that sits on the threshold.
    return min(1.0, (logit - known.bias) / known.cosine) - 1e-3


def tier_of(score: float, *, same_pixels: bool) -> Tier:
    """The tier of a match.

    Only equal bytes or equal pixels are ``exact``: a measured score is an opinion.
    """
    if same_pixels:
        return Tier.EXACT
    return Tier.NEAR if score >= _NEAR_SCORE else Tier.SIMILAR


def phash_distance(
    left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int32]:
    """Differing bits of n pairs of hashes."""
    return np.asarray(np.bitwise_count(left ^ right), dtype=np.int32)
