"""By what differs: the batch of a group follows the same evidence as its words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reports.batches import BATCHES, batch_of
from reports.page_groups import Pictures, groups_data
from tasks.dedup.evidence import Evidence
from tasks.dedup.explain import PictureFacts, explain_pair, kinds_of

SAME = Evidence(
    method="features",
    scale=1.0,
    rotation=0.0,
    mirrored=False,
    aspect=1.0,
    shear=0.0,
    share_left=1.0,
    share_right=1.0,
    box_left=(0, 0, 1, 1),
    box_right=(0, 0, 1, 1),
    inliers=90,
    matches=100,
    others=0,
    residual=0.3,
    agree=0.99,
    agree_else=0.1,
    fine=0.99,
    texture=0.2,
    parallax=0.0,
    covered=0.0,
    covered_at=(0.5, 0.5),
    gain=0.0,
    contrast=1.0,
    saturation=1.0,
    hue_error=0.0,
    tint=0.0,
    sharpness=1.0,
    ink=0.0,
)
LARGE = {"width": 1000, "height": 800, "size": 90_000, "format": "jpeg", "quality": 90}


def pair(evidence: Evidence | None, left="a", right="b", tier="near", flipped=False):
    text = evidence.as_json() if evidence else None
    return {"left": left, "right": right, "tier": tier, "flipped": flipped, "evidence": text}


@pytest.mark.parametrize(
    ("evidence", "facts", "batch", "words"),
    [
        ({}, {"quality": 60}, "saved", "JPEG quality about 60"),
        ({}, {"width": 500, "height": 400}, "resized", "scaled 0.5x"),
        ({}, {"format": "png", "quality": None}, "format", "png instead of jpeg"),
        ({}, {"format": "png", "quality": None, "width": 500, "height": 400}, "format_resized", ""),
        ({"gain": 0.5}, {"width": 500, "height": 400}, "tones", "brighter"),
        ({"share_left": 0.6}, {}, "cropped", "cropped to 60%"),
        ({"share_right": 0.6}, {}, "framed", "cropped to 60%"),
        ({"share_left": 0.6, "mirrored": True}, {}, "turned", "mirrored"),
        ({"covered": 0.04, "mirrored": True, "uneven": 0.1}, {}, "added", "something added"),
        ({"differs": "tone"}, {}, "detail", "something small differs"),
        ({"besides": True}, {}, "detail", "other pages"),
    ],
)
def test_the_largest_difference_names_the_batch(evidence, facts, batch, words):
    rows = {"a": LARGE, "b": LARGE | facts}
    found = replace(SAME, **evidence)
    assert batch_of([pair(found)], rows) == batch
    sides = [PictureFacts(**row) for row in rows.values()]
    assert words in explain_pair(found, *sides).changes


def test_the_batch_is_told_from_the_file_that_stays():
    """A crop of the file that stays is no frame, whichever way round the pair was kept."""
    cropped = replace(SAME, share_left=0.6)
    rows = {"z": LARGE, "b": LARGE}
    assert batch_of([pair(cropped, "b", "z", flipped=True)], rows) == "cropped"
    assert batch_of([pair(cropped, "b", "z")], rows) == "framed"
    assert "cropped" in kinds_of(cropped, PictureFacts(9, 9, 9, "a"), PictureFacts(9, 9, 9, "a"))


def test_equal_files_and_those_nobody_compared():
    equal = {"a": LARGE | {"sha256": "x"}, "b": LARGE | {"sha256": "x"}}
    assert batch_of([], equal) == "bytes"
    other = {"a": LARGE | {"sha256": "x"}, "b": LARGE | {"sha256": "y", "format": "tiff"}}
    assert batch_of([pair(None, tier="exact")], other) == "format"
    assert batch_of([pair(None)], other) == "other"
    assert batch_of([], other) == "other"
    three = {**other, "c": LARGE}
    assert batch_of([pair(None, tier="exact")], three) == "other", "one was never compared"


def test_every_group_of_a_report_has_a_batch(make_summary):
    summary = make_summary(["a", "b"], ["c", "d"])
    groups = groups_data(summary, Pictures({}, {}))
    assert {BATCHES[group["k"]] for group in groups} == {"bytes"}
