"""The first look: refuses strangers, keeps copies, and says when it cannot judge."""

from __future__ import annotations

import io
import logging

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from tasks.dedup.features import reflected_cells
from tasks.dedup.first_look import (
    MOST,
    NOTHING,
    RECORD,
    UNJUDGED,
    are_strangers,
    basis,
    compact_features,
    look_rule,
    make_features,
    project,
    unpack,
    votes_for,
)
from tasks.dedup.verify import rule_id


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def records(*images: Image.Image):
    return unpack([compact_features(jpeg(image)) for image in images])


def test_copies_stay_and_strangers_go(photo):
    original = photo(0)
    turned = original.rotate(90, expand=True)
    part = original.crop((40, 30, 280, 200)).resize((384, 272))
    small = original.resize((160, 120))
    mirrored = ImageOps.mirror(original).crop((20, 10, 300, 220))
    strangers = [photo(seed) for seed in range(20, 40)]
    known = records(original, turned, part, small, mirrored, *strangers)
    votes = votes_for(known[0], known[1:])
    refused = are_strangers(votes)
    assert not refused[:4].any(), votes[:4]
    assert refused[4:].mean() >= 0.9, votes[4:]


def test_a_pair_has_one_answer_from_either_side(photo):
    known = records(*(photo(seed) for seed in range(6)), photo(0).crop((30, 20, 300, 230)))
    for at, one in enumerate(known):
        there = votes_for(one, known)
        back = [votes_for(other, known[at : at + 1], np.array([True]))[0] for other in known]
        assert there.tolist() == back


def test_many_pairs_at_once_are_as_each_alone(photo):
    known = records(*(photo(seed) for seed in range(20)), photo(3).resize((200, 150)))
    together = votes_for(known[3], known)
    alone = [int(votes_for(known[3], known[at : at + 1])[0]) for at in range(len(known))]
    assert together.tolist() == alone


def test_what_cannot_be_judged_is_told(photo):
    plain = Image.new("RGB", (320, 240), "white")
    icon = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(icon).ellipse((10, 10, 54, 54), fill="red")
    noisy = np.asarray(photo(1), np.int16) + np.random.default_rng(1).normal(0, 60, (240, 320, 3))
    frame = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    detail = photo(1).crop((100, 80, 260, 200))
    known = records(photo(1), plain, icon, frame, detail)
    votes = votes_for(known[0], known[1:])
    assert votes.tolist() == [UNJUDGED] * 4, "no texture, one frame on another, a detail of it"
    assert not are_strangers(votes).any()
    assert votes_for(known[1], known[:1]).tolist() == [UNJUDGED]


def test_mirroring_a_picture_flips_the_odd_numbers():
    rng = np.random.default_rng(5)
    raw = rng.uniform(0, 120, (50, 128)).astype(np.float32)
    plain = project(raw, basis()).astype(int)
    turned = project(raw[:, reflected_cells()], basis()).astype(int)
    even = basis().even
    assert 0 < even < plain.shape[1]
    assert np.abs(plain[:, :even] - turned[:, :even]).max() <= 1
    assert np.abs(plain[:, even:] + turned[:, even:]).max() <= 1


def test_kept_features_are_small_and_come_back(photo):
    blob = compact_features(jpeg(photo(2)))
    assert len(NOTHING) < len(blob) <= RECORD.itemsize <= 16_384
    record = unpack([blob])[0]
    assert 0 < record["count"] <= MOST
    assert (record["width"], record["height"]) == (320, 240)
    points = record["points"][: record["count"]] / 64
    assert points[:, 0].max() <= 320
    assert points[:, 1].max() <= 240
    assert np.abs(record["coarse"]).max() > 5


@pytest.mark.parametrize("blob", [b"", b"x" * 100, NOTHING[:4] + b"\xff\xff" + NOTHING[6:]])
def test_what_is_no_record_has_no_features(blob):
    assert unpack([blob])["count"].tolist() == [0]


def test_a_picture_without_features_is_no_error(caplog):
    caplog.set_level(logging.ERROR)
    assert make_features(b"no picture") == NOTHING
    assert "verified in full" in caplog.text
    empty = unpack([NOTHING, NOTHING])
    assert votes_for(empty[0], empty).tolist() == [UNJUDGED, UNJUDGED]


def test_the_rule_of_a_pair_names_the_look(monkeypatch):
    before = rule_id()
    monkeypatch.setattr("tasks.dedup.first_look.LEAST_VOTES", 9)
    assert look_rule()
    assert rule_id() != before


def test_features_are_made_by_one_thread(photo):
    cv2.setNumThreads(4)
    compact_features(jpeg(photo(0)))
    assert cv2.getNumThreads() == 1
