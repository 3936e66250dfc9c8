"""Two originals compared at full size, as a decoder process does it, and what follows from that.

A pair is first verified on thumbnails of 384 pixels, and claims to be a copy. Its proof says
whether the originals bear that out. The rule for what follows is :func:`with_proofs`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from tasks.dedup.evidence import Evidence
from tasks.dedup.placement import IDENTITY, Affine, placement
from tasks.dedup.verify import EXACT_SCORE, NEAR_SCORE, score_of
from tasks.records import digest

#: Verdicts of a proof. ``reads``: they differ, and a person would read something else.
#: ``unreadable``: a file could not be read at full size, for good.
SAME, DIFFERS, READS = "same", "differs", "reads"
UNKNOWN, UNREADABLE = "unknown", "unreadable"
#: What stands for a proof: a person called the two duplicates.
PERSON = "person"
#: The most that a pair scores whose originals were not found to be the same: ``near``.
UNPROVEN_SCORE = 0.945
#: The most that a pair scores whose originals differ in what no thumbnail showed: ``similar``.
DIFFERS_SCORE = 0.69
#: How the evidence of ink on paper is written.
_PAGE = '"page":true'
_NO_PROOFS: dict[str, Any] = {
    "left": pl.String,
    "right": pl.String,
    "verdict": pl.String,
    "box": pl.List(pl.Float32),
}


@dataclass(frozen=True, slots=True)
class Compared:
    """What two originals say of each other.

    Attributes:
        verdict: ``same``, ``differs``, ``reads`` or ``unknown``.
        box: around what differs most, x0, y0, x1, y1 in 0..1 of the right picture.
        excess: energy of the rest there, in units of the pair's own noise.
    """

    verdict: str
    box: tuple[float, float, float, float]
    excess: float


def proof_rule() -> str:
    """Names how originals are compared: proofs by another rule are not reused."""
    return digest("prove-7")[:12]


def fit_of(evidence: str | None, left: tuple[int, int], right: tuple[int, int]) -> Affine:
    """Where left lies in right, both in 0..1 of their sides; frame on frame without evidence.

    Args:
        evidence: of the pair, as JSON; None of pictures without texture.
        left: width and height of the left picture.
        right: of the right one.
    """
    return placement(Evidence.from_json(evidence), left, right) if evidence else IDENTITY


def read_compared(answer: Mapping[str, Any]) -> Compared:
    """A decoder process's answer, which hostile bytes may have written.

    Raises:
        ValueError: when it is none.
    """
    verdict, excess = answer.get("verdict"), float(answer.get("excess", math.nan))
    box = tuple(float(one) for one in answer.get("box", ()))
    if verdict not in (SAME, DIFFERS, READS, UNKNOWN) or len(box) != 4:
        raise ValueError("no verdict on two originals")
    if not (math.isfinite(excess) and all(0 <= one <= 1 for one in box)):
        raise ValueError("a verdict on two originals with impossible numbers")
    return Compared(verdict, (box[0], box[1], box[2], box[3]), excess)


def claimed(pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs whose claim rests on what thumbnails cannot show: exact ones, and pages.

    Args:
        pairs: claim (the score of the thumbnails) and evidence, as :func:`with_proofs` gives them.
    """
    page = pl.col("evidence").str.contains(_PAGE, literal=True).fill_null(value=False)
    exact = pl.col("claim") >= EXACT_SCORE
    return pairs.filter(exact | (page & (pl.col("claim") >= NEAR_SCORE)))


def with_proofs(answers: pl.DataFrame, proofs: pl.DataFrame) -> pl.DataFrame:
    """Answers of the thumbnails with what the originals said of them.

    - ``same``: the claim stands. Of a page, whose small print no thumbnail shows, it is now known,
      so it may be ``exact``.
    - ``differs``: an exact claim and a page are taken back, to ``similar``. Of another near pair
      the thumbnails had told already that something differs, and it stays ``near``.
    - ``reads``: any claim is taken back. Another word or number in place of one is another
      document, on whatever it stands, and so is another fill of a page.
    - no proof, or none that tells: ``near`` at most.

    Args:
        answers: left, right, score, evidence.
        proofs: left, right, verdict, box.

    Returns:
        left, right, score, evidence, claim (the score of the thumbnails), proof (the verdict, or
        null).
    """
    score, proof = pl.col("claim"), pl.col("proof")
    found = answers.select("left", "right", pl.col("score").alias("claim"), "evidence").join(
        proofs.select("left", "right", pl.col("verdict").alias("proof"), "box"),
        on=["left", "right"],
        how="left",
        maintain_order="left",
    )
    page = pl.col("evidence").str.contains(_PAGE, literal=True).fill_null(value=False)
    told = page | (score >= EXACT_SCORE)
    settled = (
        pl.when(score < NEAR_SCORE)
        .then(score)
        .when(proof == SAME)
        .then(score)
        .when(((proof == DIFFERS) & told) | (proof == READS))
        .then(pl.min_horizontal(score, pl.lit(DIFFERS_SCORE, pl.Float32)))
        .otherwise(pl.min_horizontal(score, pl.lit(UNPROVEN_SCORE, pl.Float32)))
    )
    found = found.with_row_index("at").with_columns(settled.alias("score"))
    read = found.filter(page & (proof == SAME) & score.is_between(NEAR_SCORE, EXACT_SCORE))
    lifted = pl.DataFrame(
        {
            "at": read["at"],
            "lifted": [proven_score(Evidence.from_json(text)) for text in read["evidence"]],
        },
        schema={"at": pl.UInt32, "lifted": pl.Float32},
    )
    said = pl.format(
        '{},"proof":"{}","proof_box":[{}]}}',
        pl.col("evidence").str.strip_suffix("}"),
        proof,
        pl.col("box").list.eval(pl.element().cast(pl.String)).list.join(","),
    )
    return found.join(lifted, on="at", how="left", maintain_order="left").select(
        "left",
        "right",
        pl.max_horizontal("score", "lifted").alias("score"),
        pl.coalesce(said, "evidence").alias("evidence"),
        "claim",
        "proof",
    )


def proven_score(evidence: Evidence) -> float:
    """The score of a pair whose originals are the same: its small print was read."""
    # What stood out a little on the thumbnails was their own noise.
    return score_of(replace(evidence, page=False, excess=0.0))


def no_proofs() -> pl.DataFrame:
    """Proofs of nothing: left, right, verdict, box."""
    return pl.DataFrame(schema=_NO_PROOFS)
