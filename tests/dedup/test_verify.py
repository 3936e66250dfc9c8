"""Scores, floors and tiers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dedup.verify import (
    calibration,
    cosine_floor,
    phash_distance,
    rule_id,
    score_pairs,
    tier_of,
)
from tasks.records import Tier

COSINE = st.floats(-1, 1, width=32)
BITS = st.integers(0, 64)


def score(cosine: float, bits: int) -> float:
    return float(score_pairs(np.array([cosine], np.float32), np.array([bits], np.int32))[0])


@given(low=COSINE, high=COSINE, few=BITS, many=BITS)
def test_closer_never_scores_lower(low, high, few, many):
    low, high = sorted((low, high))
    few, many = sorted((few, many))
    assert score(low, many) <= score(high, many) <= score(high, few)
    assert score(low, many) <= score(low, few)


@given(cosine=COSINE, bits=BITS)
def test_scores_stay_below_equal_pixels(cosine, bits):
    assert 0 <= score(cosine, bits) <= np.float32(0.999) < 1


def test_the_score_tells_apart_where_it_matters():
    assert score(1.0, 0) > 0.99
    assert score(0.98, 2) > 0.95
    assert score(0.7, 30) < 0.01
    assert score(0.95, 0) > score(0.95, 20) + 0.1


@given(cosine=COSINE, bits=BITS, threshold=st.floats(0.5, 1))
def test_no_pair_below_the_floor_reaches_the_threshold(cosine, bits, threshold):
    if cosine < cosine_floor(threshold):
        assert score(cosine, bits) < threshold


@given(low=st.floats(0.5, 1), high=st.floats(0.5, 1))
def test_the_floor_rises_with_the_threshold(low, high):
    low, high = sorted((low, high))
    assert cosine_floor(low) <= cosine_floor(high) < 1


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.95, 0.99])
def test_the_floor_is_no_lower_than_needed(threshold):
    assert score(cosine_floor(threshold) + 2e-3, 0) >= np.float32(threshold)


def test_the_floor_leaves_room_for_float16():
    threshold = 0.7
    exact = cosine_floor(threshold) + 1e-3
    random = np.random.default_rng(0)
    one = random.normal(size=(200, 1280))
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    other = random.normal(size=one.shape)
    other -= (other * one).sum(1, keepdims=True) * one
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    other = exact * one + math.sqrt(1 - exact**2) * other
    rounded = (one.astype(np.float16).astype(np.float32) * other.astype(np.float16)).sum(1)
    assert rounded.min() >= cosine_floor(threshold)


@pytest.mark.parametrize(
    ("measured", "same", "tier"),
    [
        (1.0, True, Tier.EXACT),
        (0.999, False, Tier.NEAR),
        (0.7, False, Tier.NEAR),
        (float(np.float32(0.7)), False, Tier.NEAR),
        (0.69, False, Tier.SIMILAR),
        (0.5, False, Tier.SIMILAR),
    ],
)
def test_tiers(measured, same, tier):
    assert tier_of(measured, same_pixels=same) is tier


def test_the_calibration_has_the_right_signs():
    known = calibration()
    assert known.cosine > 0 > known.phash
    assert known.version


def test_another_calibration_is_another_rule(monkeypatch):
    before = rule_id()
    other = type(calibration())(calibration().version, -1.0, 2.0, -0.1)
    monkeypatch.setattr("tasks.dedup.verify.calibration", lambda: other)
    assert rule_id() != before


@given(left=st.integers(0, 2**64 - 1), right=st.integers(0, 2**64 - 1))
def test_phash_distance_counts_bits(left, right):
    counted = phash_distance(np.array([left], np.uint64), np.array([right], np.uint64))
    assert counted.dtype == np.int32
    assert counted[0] == (left ^ right).bit_count()
