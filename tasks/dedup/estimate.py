"""What labels say of a threshold: precision and recall of a stratified sample, with intervals.

Pairs are drawn in strata of their score, as many from a small stratum as from a large one; each
stratum's share of duplicates then counts by the stratum's population.

Precision: Wilson's 95 % interval in each stratum, combined by the method of variance estimates
recovery (Zou, Huang and Zhang 2009, "A note on confidence interval estimation for a linear function
of binomial proportions", Computational Statistics & Data Analysis 53, 1080-1085). It is Wilson's
own interval where there is one stratum, and unlike one from the estimated variance it does not
shrink to a point where all labels agree.

Recall follows from the ratio of two such sums, duplicates below and above the threshold. Its
interval is the same method's for ratios (Donner and Zou 2012, "Closed-form confidence intervals for
functions of the normal mean and standard deviation", Statistical Methods in Medical Research 21,
347-359).
Resampling the labels themselves would call a stratum without a single duplicate certain.

The pairs stand for those to come, so drawing all of a small stratum leaves it uncertain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Edges of the strata; each holds its lower edge, the last one both.
EDGES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
#: Where precision and recall are told: at edges, so that a threshold never cuts a stratum.
THRESHOLDS = EDGES[1:-1]
#: The lower bound of precision that a recommended threshold reaches.
ENOUGH = 0.99

_Z = 1.959963984540054  # two-sided 95 %


@dataclass(frozen=True, slots=True)
class Stratum:
    """Pairs of about one score, and the labels of those that were drawn.

    Attributes:
        low: its lowest score, one of ``EDGES``.
        population: pairs in the collection.
        duplicates: drawn pairs labelled so.
        distinct: drawn pairs labelled so.
        unsure: drawn pairs that the labeller could not decide; they count for neither side.
    """

    low: float
    population: int
    duplicates: int = 0
    distinct: int = 0
    unsure: int = 0

    @property
    def labelled(self) -> int:
        """Labels that decide."""
        return self.duplicates + self.distinct


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate (None: nothing to estimate from) and its 95 % bounds."""

    estimate: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """What the labels say of one threshold."""

    threshold: float
    population: int
    labelled: int
    precision: Interval
    recall: Interval


def stratum_of(scores: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The stratum's number of each score; -1 below the lowest."""
    # A float32 score that sits on an edge must not fall below it.
    rounded = np.round(np.asarray(scores, dtype=np.float64), 6)
    return np.searchsorted(np.asarray(EDGES[:-1]), rounded, side="right").astype(np.int64) - 1


def stratum_name(number: int) -> str:
    """As it stands in labels.csv: ``0.30-0.50``."""
    return f"{EDGES[number]:.2f}-{EDGES[number + 1]:.2f}"


def allocate(populations: Sequence[int], wanted: int) -> list[int]:
    """How many to draw from each stratum: equally many, and all of those that have fewer.

    A stratum that has pairs gives at least one, even beyond ``wanted``: without a label nothing is
    known of it.
    """
    drawn = [0] * len(populations)
    smallest_first = sorted(range(len(populations)), key=lambda at: (populations[at], at))
    left = wanted
    for place, at in enumerate(smallest_first):
        share = left // (len(populations) - place)
        drawn[at] = min(populations[at], max(1, share))
        left -= drawn[at]
    return drawn


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion; (0, 1) without observations."""
    if not count:
        return 0.0, 1.0
    share, square = hits / count, _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    spread = math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    half = _Z * spread / (1 + square / count)
    # Rounding must not push a bound past the share itself, where they meet at 0 and 1.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _duplicates(strata: Sequence[Stratum]) -> tuple[float, float, float]:
    """How many pairs of these strata are duplicates: estimate, lower and upper bound.

    Strata without a label may hold none or nothing else; the estimate leaves them out.
    """
    estimate = below = above = unknown = 0.0
    for stratum in strata:
        if not stratum.labelled:
            unknown += stratum.population
            continue
        share = stratum.duplicates / stratum.labelled
        low, high = wilson(stratum.duplicates, stratum.labelled)
        estimate += stratum.population * share
        below += (stratum.population * (share - low)) ** 2
        above += (stratum.population * (high - share)) ** 2
    return estimate, max(0.0, estimate - math.sqrt(below)), estimate + math.sqrt(above) + unknown


def precision(strata: Sequence[Stratum]) -> Interval:
    """The share of duplicates among all pairs of these strata."""
    population = sum(stratum.population for stratum in strata)
    reached = sum(stratum.population for stratum in strata if stratum.labelled)
    if not reached:
        return Interval(None, 0.0, 1.0)
    found, low, high = _duplicates(strata)
    estimate = min(1.0, found / reached)
    return Interval(
        estimate, min(estimate, low / population), max(estimate, min(1.0, high / population))
    )


def recall(strata: Sequence[Stratum], threshold: float) -> Interval:
    """The share of all strata's duplicates that reach a threshold.

    Relative to the pairs that were verified: what was never a candidate is not in it.
    """
    missed, missed_low, missed_high = _duplicates([one for one in strata if one.low < threshold])
    found, found_low, found_high = _duplicates([one for one in strata if one.low >= threshold])
    if not missed + found:
        return Interval(None, 0.0, 1.0)
    # Bounds of missed / found; the first in a form that does not divide by a difference.
    product = missed * found
    numerator = missed_low * (2 * missed - missed_low)
    root = math.sqrt(max(0.0, product**2 - numerator * found_high * (2 * found - found_high)))
    least = numerator and (numerator / (product + root) if product + root else math.inf)
    denominator = found_low * (2 * found - found_low)
    root = math.sqrt(max(0.0, product**2 - missed_high * (2 * missed - missed_high) * denominator))
    most = (product + root) / denominator if denominator else math.inf
    estimate = found / (missed + found)
    return Interval(estimate, min(estimate, 1 / (1 + most)), max(estimate, 1 / (1 + least)))


def at_thresholds(strata: Sequence[Stratum]) -> list[AtThreshold]:
    """What the labels say of each of ``THRESHOLDS``, the lowest first."""
    return [
        AtThreshold(
            threshold,
            sum(stratum.population for stratum in reached),
            sum(stratum.labelled for stratum in reached),
            precision(reached),
            recall(strata, threshold),
        )
        for threshold in THRESHOLDS
        for reached in [[stratum for stratum in strata if stratum.low >= threshold]]
    ]


def recommend(found: Sequence[AtThreshold]) -> float | None:
    """The lowest threshold whose precision is at least ``ENOUGH``, even at its lower bound."""
    return min((at.threshold for at in found if at.precision.low >= ENOUGH), default=None)


def labels_needed(strata: Sequence[Stratum]) -> int:
    """Labels in each of these strata with which the lower bound reaches ``ENOUGH``.

    When every one of them says duplicate: with fewer labels no answers are good enough.
    """
    population = sum(stratum.population for stratum in strata)
    if not population:
        return 0
    weights = math.sqrt(sum((stratum.population / population) ** 2 for stratum in strata))
    return math.ceil(_Z * _Z * (weights / (1 - ENOUGH) - 1))
