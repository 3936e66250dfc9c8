"""What the originals say, applied to what the thumbnails claimed."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tasks.dedup.evidence import Evidence
from tasks.dedup.explain import explain_pair
from tasks.dedup.features import extract_features
from tasks.dedup.origin import PictureFacts
from tasks.dedup.originals import claimed, no_proofs, read_compared, with_proofs
from tasks.dedup.proof_job import compare_originals
from tasks.dedup.verify import verify_pair
from tests.dedup.test_proof import ledger, pixels, saved

SCHEMA = {"left": pl.String, "right": pl.String, "score": pl.Float32, "evidence": pl.String}


def answer(score: float, *, page: bool = False) -> pl.DataFrame:
    text = json.dumps({"page": page}, separators=(",", ":"))
    return pl.DataFrame([["a", "b", score, text]], schema=SCHEMA, orient="row")


def proof(verdict: str) -> pl.DataFrame:
    box = [0.5, 0.25, 0.75, 0.375]
    row = {"left": ["a"], "right": ["b"], "verdict": [verdict], "box": [box]}
    return pl.DataFrame(row, schema=no_proofs().schema)


def settled(score: float, verdict: str | None, *, page: bool = False) -> float:
    proofs = proof(verdict) if verdict else no_proofs()
    return round(with_proofs(answer(score, page=page), proofs)["score"][0], 3)


@pytest.mark.parametrize(
    ("claim", "page", "verdict", "score"),
    [
        (0.99, False, "same", 0.99),
        (0.99, False, "differs", 0.69),
        (0.99, False, "unknown", 0.945),
        (0.99, False, "unreadable", 0.945),
        (0.99, False, None, 0.945),
        (0.8, False, "same", 0.8),
        (0.8, False, "differs", 0.8),  # a banner: the thumbnails told of it
        (0.8, False, "reads", 0.69),  # of another word or number they showed no more than a smear
        (0.99, False, "reads", 0.69),
        (0.3, False, "reads", 0.3),
        (0.8, False, None, 0.8),
        (0.8, True, "differs", 0.69),
        (0.8, True, "unknown", 0.8),
        (0.6, True, "differs", 0.6),
        (0.3, False, None, 0.3),
    ],
)
def test_what_a_verdict_makes_of_a_claim(claim, page, verdict, score):
    assert settled(claim, verdict, page=page) == pytest.approx(score)


def test_what_rests_on_more_than_a_thumbnail_shows_is_claimed():
    rows = [(0.99, False), (0.8, True), (0.8, False), (0.69, True)]
    answers = pl.concat([answer(score, page=page) for score, page in rows])
    found = claimed(with_proofs(answers, no_proofs()))
    assert found["claim"].to_list() == pytest.approx([0.99, 0.8])


def test_a_page_that_was_read_is_exact_and_another_is_told_with_its_place():
    left, copy, other = pixels(ledger()), saved(ledger(), 80), pixels(ledger("9962"))
    features = [extract_features(_thumbnail(one)) for one in (left, copy, other)]
    facts = PictureFacts(1000, 1000, 9000, "png")
    found = verify_pair(features[0], features[1])
    row = [["a", "b", found.score, found.evidence.as_json()]]
    answers = pl.DataFrame(row, schema=SCHEMA, orient="row")
    assert 0.7 <= answers["score"][0] < 0.95
    identity = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    for right, exact in ((copy, True), (other, False)):
        said = read_compared(compare_originals(left, right, identity))
        proofs = proof(said.verdict).with_columns(pl.Series("box", [list(said.box)]))
        after = with_proofs(answers, proofs.cast(no_proofs().schema))
        assert (after["score"][0] >= 0.95) is exact
        evidence = Evidence.from_json(after["evidence"][0])
        assert evidence.proof == said.verdict
        told = explain_pair(evidence, facts, facts).changes
        assert ("differs in lettering at full size at the lower right" in told) is not exact


def _thumbnail(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    small = Image.fromarray(picture).resize((384, 384), Image.Resampling.LANCZOS)
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"verdict": "fine", "box": [0, 0, 1, 1], "excess": 1},
        {"verdict": "same", "box": [0, 0, 1], "excess": 1},
        {"verdict": "same", "box": [0, 0, 1, 2], "excess": 1},
        {"verdict": "same", "box": [0, 0, 1, math.nan], "excess": 1},
        {"verdict": "same", "box": [0, 0, 1, 1], "excess": math.inf},
    ],
)
def test_a_decoder_that_was_taken_over_says_nothing(answer):
    with pytest.raises(ValueError, match="verdict on two originals"):
        read_compared(answer)
