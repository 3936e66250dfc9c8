"""From candidate to match: the pixels decide, and leave evidence.

Embeddings only propose. A pair is aligned by its local features, or frame on frame where there are
too few, and the pixels are compared under that alignment. The coefficients of the score are data,
in ``calibration.json`` beside this file, with their provenance; the score knows nothing of the
embedding model, so it means the same with any.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np

from tasks.dedup.align import Alignment, Matrix, align_either
from tasks.dedup.closer import look_closer
from tasks.dedup.compare import compare_pixels, make_frame
from tasks.dedup.evidence import Evidence, gather
from tasks.dedup.features import Features
from tasks.dedup.first_look import look_rule
from tasks.dedup.history import look_for_traces
from tasks.dedup.see_through import looks_otherwise, on_one_ground
from tasks.dedup.veil import take_off
from tasks.records import THUMBNAIL_SIDE, Tier, digest

log = logging.getLogger(__name__)

#: No score of a measured pair reaches this: it is kept for equal pixels.
_BEST_MEASURED = 0.999
#: Scores at which the tiers begin; as float32, which stored scores are.
EXACT_SCORE = float(np.float32(0.95))
NEAR_SCORE = float(np.float32(0.7))
SIMILAR_SCORE = 0.5
#: Fewer agreeing features are no alignment.
_FEW = 6
#: With fewer, the pair is also laid frame on frame, and the better answer counts.
_SCARCE = 20


#: Less in common, of both pictures, is a background. The copies measured had 0.5 and more.
_LEAST_SHARE = 0.25
#: Of lettering on one ground, more: a banner that two pictures carry is no copy. Of 1,911 copies
#: with such ink in common 7 have less, all pairs of two edits.
_INK, _LEAST_INK_SHARE = 0.25, 0.6
#: Frame on frame no feature vouches for the fit: there the displacements must. Edits have 0.3.
_WHOLE_PARALLAX = 0.5
#: One side has so many times the other's pixels; then one has to show all of the other.
_SMALL, _WHOLE_SIDE = 2.5, 0.95
#: Shares from which two frames show the same.
_WHOLE_SHARE = 0.98
#: More of the area than this shows two different things, as two products on one ground, or two
#: pictures in one template. Of 2,281 copies, the hardest of 8,482 among them, 34 had more, all of
#: them pairs of two edits (a screenshot's margins against a border, a banner against a collage).
_REPLACED = 0.13
#: The same for what is flat: so much is changed, and either picture has so much of its own. Of the
#: 2,248 copies 5 have more, all pairs of two edits; of 80 pictures with a band over 30 % 3.
_CHANGED, _OWN = 0.29, 0.07
#: A thing of which so much has another tone, on a ground that stayed, is another variant. In 240
#: copies of photographs the most was 0.27, in colour variants of the fitting family mostly 0.44.
RECOLOURED = 0.3
#: Nothing but encoding differs: no place stands out more than this, where copies that were only
#: encoded anew have 9, and no more of the area has a sharpness of its own, where they have 0.001.
_EXACT_EXCESS, _EXACT_UNEVEN = 12.0, 0.01
#: And no more of the area is transparent in one of them only.
_EXACT_SEE_THROUGH = 0.005
#: The best score of an icon's pair: nearly exact.
_BEST_ICON = 0.94
#: Where so much is covered in places, it may be by a tiled watermark.
_MUCH_COVERED = 0.04
#: So many features may agree on another motion by chance.
_STRAY = 12
#: Two frames of one picture correlate more than this when both are reduced to 24 x 24.
_LIKELY = 0.8


@dataclass(frozen=True, slots=True)
class Calibration:
    """How measurements become a score.

    Attributes:
        version: names it; part of the rule under which pairs are remembered.
        copy: coefficients of the logit that a pair is a copy.
        copy_at: the logit from which it is one.
        exact: the most a pair may differ and be ``exact``.
        near: how much each difference costs a ``near`` score.
        hue_error: beyond it the colours are another variant's.
    """

    version: str
    copy: dict[str, float]
    copy_at: float
    exact: dict[str, float]
    near: dict[str, float]
    hue_error: float


@dataclass(frozen=True, slots=True)
class Verified:
    """One pair's answer: its score, and why (None where nothing fits)."""

    score: float
    evidence: Evidence | None


@cache
def calibration() -> Calibration:
    """The calibration this release ships."""
    data = json.loads(Path(__file__).with_name("calibration.json").read_text())
    return Calibration(**data["calibration"])


def rule_id() -> str:
    """Names how pairs are verified: answers of another rule are not reused."""
    return digest("verify-16", repr(calibration()), look_rule())[:12]


def tier_of(score: float, *, same_pixels: bool = False) -> Tier:
    """The tier of a score: ``exact`` from 0.95, ``near`` from 0.7, else ``similar``."""
    if same_pixels or score >= EXACT_SCORE:
        return Tier.EXACT
    return Tier.NEAR if score >= NEAR_SCORE else Tier.SIMILAR


def tiers_of(scores: Iterable[float], same_pixels: Iterable[bool] = ()) -> list[str]:
    """The tiers of many scores, for a column: empty below 0.5, where nothing is alike.

    Args:
        scores: as stored, one a pair.
        same_pixels: of each, whether the two have equal pixels; by default none have.
    """
    return [
        tier_of(score, same_pixels=same).value if same or score >= SIMILAR_SCORE else ""
        for score, same in zip_longest(scores, same_pixels, fillvalue=False)
    ]


def verify_pair(left: Features, right: Features) -> Verified:
    """Compare two pictures.

    Args:
        left: the features of the content whose digest is lower, so that a pair has one answer.
        right: the other's.
    """
    best = _verified(left, right)
    if left.enlarged == right.enlarged == 1 or best.evidence is None:
        return best
    # Of an icon a few pixels are all there is: they never tell that nothing differs.
    scale = best.evidence.scale * left.enlarged / right.enlarged
    return Verified(min(best.score, _BEST_ICON), replace(best.evidence, scale=scale))


def _verified(left: Features, right: Features) -> Verified:
    best = Verified(0.0, None)
    left = on_one_ground(left, right)
    found = align_either(left, right)
    if found and found[1].inliers >= _FEW:
        best = _judge(found[0], right, found[1], "features")
    if best.score < NEAR_SCORE and found and _frames_meet(best.evidence):
        # Strong compression shakes the features of cloth and grain; the frames still meet.
        whole = _whole(left, right)
        if whole:
            steady = replace(whole, inliers=found[1].inliers, others=found[1].others)
            best = max(best, _judge(left, right, steady, "whole"), key=lambda answer: answer.score)
    if best.score < NEAR_SCORE and (found is None or found[1].inliers < _SCARCE):
        whole = _whole(left, right)
        if whole:
            second = _judge(left, right, whole, "whole")
            best = max(best, second, key=lambda answer: answer.score)
        if best.evidence is None:
            best = _flat(left, right)
    seen = best.evidence
    # What differs on a page is read; nothing that is laid over it explains it away.
    if (best.score < NEAR_SCORE and not (seen and seen.page)) or (
        seen and seen.covered > _MUCH_COVERED
    ):
        best = max(best, _unveiled(left, right, best.evidence), key=lambda answer: answer.score)
    return best


def try_to_verify(left: Features, right: Features) -> Verified | None:
    """As :func:`verify_pair`; None where the comparison itself fails.

    Pictures of odd shapes have made numerical libraries raise what no one foresaw. Such a pair has
    no answer, is counted by its caller and asked again by the next scan; all others have theirs.
    """
    try:
        return verify_pair(left, right)
    except (cv2.error, np.linalg.LinAlgError, ArithmeticError, ValueError, IndexError):
        log.exception("a pair of %s and %s has no answer", left.size, right.size)
        return None


def _frames_meet(evidence: Evidence | None) -> bool:
    """Whether a fit lays the whole of one picture on the whole of the other, upright."""
    return (
        evidence is not None
        and not evidence.mirrored
        and min(evidence.share_left, evidence.share_right) > _WHOLE_SHARE
        and abs(evidence.rotation) < 1
    )


def _unveiled(left: Features, right: Features, before: Evidence | None) -> Verified:
    """The answer without tiled watermarks on one or both; a score of 0 where there are none.

    Only where the frames meet: a watermark is laid over the whole picture, and a fit found on few
    features would be no ground to call what differs a veil.
    """
    nothing = Verified(0.0, None)
    if _shapes_differ(left, right) or _coarse_likeness(left, right) < _LIKELY:
        return nothing
    matrix = _whole_matrix(left, right)
    frame = make_frame(left, right, matrix, THUMBNAIL_SIDE)
    if frame is None:
        return nothing
    inliers = max(_FRAME_ON_FRAME.inliers, before.inliers if before else 0)
    fit = replace(_FRAME_ON_FRAME, inliers=inliers)
    one, two, shares = frame.left, frame.right, {"left": 0.0, "right": 0.0}
    for side in ("right", "left"):
        bare, over = (one, two) if side == "right" else (two, one)
        veil = take_off(bare, over, frame.mask)
        if veil is None:
            continue
        shares[side] = veil.share
        one, two = (one, veil.clean) if side == "right" else (veil.clean, two)
        answer = _judge(replace(left, rgb=one), replace(right, rgb=two), fit, "whole")
        if answer.evidence is not None and answer.score >= NEAR_SCORE:
            evidence = replace(
                answer.evidence,
                scale=float(np.sqrt(np.linalg.det(matrix[:, :2]))),
                veil=sum(shares.values()),
                veiled="both" if all(shares.values()) else side,
            )
            return Verified(score_of(evidence), evidence)
    return nothing


def _judge(left: Features, right: Features, found: Alignment, method: str) -> Verified:
    pixels = compare_pixels(left, right, found)
    if pixels is None:
        return Verified(0.0, None)
    evidence = gather(left, right, found, pixels, method)
    score = score_of(evidence)
    if score >= NEAR_SCORE:
        evidence = look_closer(left, right, evidence, pixels.matrix)
        score = score_of(evidence)
    if score >= NEAR_SCORE:
        evidence = look_for_traces(left, right, evidence, pixels.matrix)
    return Verified(score, evidence)


def _whole(left: Features, right: Features) -> Alignment | None:
    """Frame on frame, where the shapes are the same."""
    if _shapes_differ(left, right):
        return None
    if _coarse_likeness(left, right) < _LIKELY:
        return None
    return replace(_FRAME_ON_FRAME, matrix=_whole_matrix(left, right))


def _whole_matrix(left: Features, right: Features) -> Matrix:
    """The whole of left on the whole of right."""
    (wide, high), (wide_r, high_r) = left.size, right.size
    x, y = wide_r / wide, high_r / high
    return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5]])


#: As good as a fit by a dozen features with half a pixel's error: the pixels must say the rest.
_FRAME_ON_FRAME = Alignment(np.eye(2, 3), False, 12, 12, 0.5, 0)


def _shapes_differ(left: Features, right: Features) -> bool:
    (wide, high), (wide_r, high_r) = left.size, right.size
    return abs(math.log((wide_r / wide) / (high_r / high))) > 0.04


def _coarse_likeness(left: Features, right: Features) -> float:
    """Correlation of the two at 24 x 24: cheap, and high for any two frames of one picture."""
    one, two = left.coarse, right.coarse
    return float((one * two).sum() / max(float(np.sqrt((one**2).sum() * (two**2).sum())), 1e-6))


def _flat(left: Features, right: Features) -> Verified:
    """Pictures without texture: equal shape and equal colours everywhere, or nothing."""
    busy = max(len(left.points), len(right.points)) > _SCARCE
    if busy or _shapes_differ(left, right) or max(_spread(left), _spread(right)) > 6:
        return Verified(0.0, None)
    one, two = (
        cv2.resize(side.rgb, (32, 32), interpolation=cv2.INTER_AREA) for side in (left, right)
    )
    apart = np.abs(one.astype(np.int16) - two.astype(np.int16)).max()
    if apart > 3:
        return Verified(0.0, None)
    # A blank first page says nothing of the pages after it.
    return Verified(0.96 if left.besides == right.besides else 0.94, None)


def _spread(side: Features) -> float:
    return float(side.rgb.std(axis=(0, 1)).max())


def score_of(evidence: Evidence) -> float:
    """0..0.999; at least 0.95 is exact, 0.7 a copy, 0.5 the same scene."""
    known = calibration()
    z = copy_logit(evidence)
    other_colours = evidence.hue_error > known.hue_error
    # A carpet, a wall or a banner that two pictures share; a copy shows much of one of the two.
    least = _LEAST_INK_SHARE if evidence.ink > _INK else _LEAST_SHARE
    background = max(evidence.share_left, evidence.share_right) < least
    restless = evidence.method == "whole" and evidence.parallax > _WHOLE_PARALLAX
    # In a thumbnail of a thumbnail no parallax is seen; a copy so small shows all of the other,
    # or the other all of it. Of 28 wrong pairs this cuts 28, of 4,400 copies 1.
    zoom = max(evidence.scale, 1 / max(evidence.scale, 1e-6))
    askew = zoom > _SMALL and max(evidence.share_left, evidence.share_right) < _WHOLE_SIDE
    other_thing = evidence.replaced > _REPLACED or (
        evidence.changed > _CHANGED and evidence.own > _OWN
    )
    variant = other_colours or evidence.recoloured > RECOLOURED
    another = (
        variant
        or background
        or other_thing
        or reads_differently(evidence)
        or looks_otherwise(evidence)
    )
    if z < known.copy_at or another or restless or askew:
        return _similar(evidence, z, known)
    cost = _cost(evidence, known)
    if _only_encoded(evidence, known):
        return min(_BEST_MEASURED, 0.955 + 0.044 * evidence.fine)
    sure = min(1.0, (z - known.copy_at) / 4) ** 0.5
    return float(0.702 + 0.243 * sure * (1 - cost))


def reads_differently(evidence: Evidence) -> bool:
    """Whether a person would read something else: another number, word, bar, module or mark.

    On a page any place that stands out is read; elsewhere lettering in place of other lettering on
    one ground is. What was only laid over a photograph is not.
    """
    replaced = evidence.differs == "ink" and evidence.plain
    return bool(evidence.differs) and (evidence.page or replaced)


def copy_logit(evidence: Evidence) -> float:
    """The logit that a pair is a copy and not another shot."""
    weights = calibration().copy
    return weights["bias"] + sum(
        weights[name] * value for name, value in copy_terms(evidence).items()
    )


def copy_terms(evidence: Evidence) -> dict[str, float]:
    """What the logit is made of, by the name of its coefficient."""
    return {
        "agree": evidence.agree_else,
        "parallax": min(evidence.parallax, 2.0),
        "others": min(evidence.others / max(evidence.inliers, 1), 1.0),
        # A few stray features agree by chance; so many are a thing that moved.
        "moved": min(max(0, evidence.others - _STRAY) / max(evidence.inliers, 1), 1.0),
        "log_inliers": min(math.log(max(evidence.inliers, 1)), 5.0),
        # In the coarser picture's pixels: else an answer depends on which side is called left.
        "residual": min(evidence.residual / max(evidence.scale, 1.0), 2.0),
        "shear": max(0.0, evidence.shear - 1.5),
        # On a page everything but the words is alike: there, what differs is what matters.
        "ink": evidence.ink * (1 - evidence.agree),
    }


def _similar(evidence: Evidence, z: float, known: Calibration) -> float:
    """The same scene, shot or coloured otherwise; below 0.5 nothing worth a word."""
    if evidence.inliers < 15 or evidence.agree < 0.25:
        return 0.49 / (1 + math.exp(-z))
    return 0.5 + 0.19 * min(1.0, max(0.0, (z - known.copy_at + 8) / 8))


def _only_encoded(evidence: Evidence, known: Calibration) -> bool:
    most = known.exact
    return (
        not evidence.mirrored
        # Small print cannot be read at this size: what is equal here may differ there.
        and not evidence.page
        and not evidence.besides
        and not evidence.veil
        and evidence.see_through <= _EXACT_SEE_THROUGH
        and evidence.excess <= _EXACT_EXCESS
        and evidence.uneven <= _EXACT_UNEVEN
        and abs(evidence.rotation) <= most["rotation"]
        and 1 - min(evidence.share_left, evidence.share_right) <= most["cropped"]
        and abs(math.log(evidence.aspect)) <= most["aspect"]
        and abs(evidence.gain) <= most["gain"]
        and abs(math.log(evidence.contrast)) <= most["contrast"]
        and abs(math.log(max(evidence.saturation, 0.05))) <= most["saturation"]
        and abs(math.log(max(evidence.sharpness, 0.01))) <= most["sharpness"]
        and evidence.covered <= most["covered"]
        and evidence.hue_error <= most["hue_error"]
        and evidence.tint <= most["tint"]
        and 1 - evidence.agree <= most["disagree"]
    )


def _cost(evidence: Evidence, known: Calibration) -> float:
    """0..1: how far from the picture as it was."""
    price = known.near
    cost = (
        price["cropped"] * (1 - min(evidence.share_left, evidence.share_right))
        + price["covered"] * evidence.covered
        + price["disagree"] * (1 - evidence.agree)
        + price["rotation"] * min(abs(evidence.rotation), 90) / 90
        + price["mirrored"] * evidence.mirrored
        + price["aspect"] * abs(math.log(evidence.aspect))
        + price["gain"] * min(abs(evidence.gain), 2)
        + price["saturation"] * min(abs(math.log(max(evidence.saturation, 0.05))), 1)
        + price["tint"] * min(evidence.tint, 50) / 50
        + price["sharpness"] * min(abs(math.log(max(evidence.sharpness, 0.01))), 1)
    )
    return min(1.0, cost)
