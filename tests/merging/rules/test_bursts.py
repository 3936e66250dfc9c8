"""Frames of a burst look the same, and are two shots: a question, never merged by a rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tasks.merging.rules.bursts import in_words, taken_apart, time_taken
from tests.merging.rules.test_keeper_choice import choose, member

FIRST = "2026:01:02 03:04:05"


@pytest.mark.parametrize(
    ("exif", "taken"),
    [
        ({"DateTimeOriginal": FIRST}, FIRST),
        ({"DateTimeOriginal": FIRST, "SubsecTimeOriginal": "25 "}, f"{FIRST}.25"),
        ({"DateTimeOriginal": FIRST, "SubsecTimeOriginal": "x"}, FIRST),
        ({"DateTimeOriginal": "0000:00:00 00:00:00"}, ""),
        ({"DateTimeOriginal": "yesterday"}, ""),
        ({}, ""),
    ],
)
def test_the_time_a_camera_wrote(exif, taken):
    assert time_taken(exif) == taken


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (FIRST, FIRST, None),
        (FIRST, f"{FIRST}.50", None),  # seconds are all that both know
        (f"{FIRST}.25", f"{FIRST}.75", timedelta(seconds=0.5)),
        (f"{FIRST}.5", f"{FIRST}.50", None),
        (FIRST, "2026:01:02 03:04:08", timedelta(seconds=3)),
        (FIRST, "2026:01:02 05:34:05", None),  # a clock set to another zone
        (FIRST, "2026:03:02 03:04:05", timedelta(days=59)),
        (FIRST, "", None),
        (FIRST, "2026:13:02 03:04:05", None),
    ],
)
def test_how_far_apart(one, other, apart):
    assert taken_apart(one, other) == apart
    assert taken_apart(other, one) == apart


def test_a_burst_is_a_question_of_its_group():
    one = replace(member("1.jpg"), content="a", taken=FIRST)
    other = replace(member("2.jpg"), content="b", taken="2026:01:02 03:04:07")
    asked = choose(one, other).questions
    assert asked == ("1.jpg, 2.jpg were taken 2 s apart: are they one shot?",)
    assert choose(other, one).questions == asked


@pytest.mark.parametrize("known", [{"content": "a"}, {"taken": FIRST}, {"taken": ""}])
def test_equal_pixels_or_equal_times_are_one_shot(known):
    one = replace(member("1.jpg"), content="a", taken=FIRST)
    facts = {"content": "b", "taken": "2026:01:02 03:04:07"} | known
    other = replace(member("2.jpg"), **facts)
    assert choose(one, other).questions == ()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.25, "0.25 s"), (59, "59 s"), (300, "5 min"), (9000, "2 h")]
)
def test_times_in_words(seconds, words):
    assert in_words(timedelta(seconds=seconds)) == words
