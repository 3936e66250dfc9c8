"""Evidence in words."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dedup.evidence import Evidence
from tasks.dedup.explain import explain_pair
from tasks.dedup.origin import PictureFacts, turn_around

WHOLE = (0.0, 0.0, 1.0, 1.0)
SAME = Evidence(
    method="features",
    scale=1.0,
    rotation=0.0,
    mirrored=False,
    aspect=1.0,
    shear=0.0,
    share_left=1.0,
    share_right=1.0,
    box_left=WHOLE,
    box_right=WHOLE,
    inliers=200,
    matches=220,
    others=0,
    residual=0.3,
    agree=1.0,
    agree_else=1.0,
    fine=1.0,
    texture=0.9,
    parallax=0.05,
    covered=0.0,
    covered_at=(0.5, 0.5),
    gain=0.0,
    contrast=1.0,
    saturation=1.0,
    hue_error=0.5,
    tint=0.5,
    sharpness=1.0,
    ink=0.0,
)
JPEG = PictureFacts(300, 200, 30_000, "jpeg", 85)

share = st.floats(0.05, 1)
#: Never on a limit, where the rounding of 1 / (1 / x) decides.
ratio = st.integers(-28, 27).map(lambda step: 2 ** ((step + 0.5) / 7))
boxes = st.tuples(share, share, share, share)
evidences = st.builds(
    replace,
    st.just(SAME),
    scale=ratio,
    rotation=st.floats(-180, 180),
    mirrored=st.booleans(),
    aspect=ratio,
    share_left=share,
    share_right=share,
    box_left=boxes,
    box_right=boxes,
    gain=st.floats(-2, 2),
    contrast=ratio,
    saturation=ratio,
    hue_error=st.floats(0, 30),
    tint=st.floats(0, 30),
    sharpness=ratio,
    covered=share,
    around_left=st.floats(-1, 1),
    around_right=st.floats(-1, 1),
    overlaid=share,
    overlay=st.floats(-3, 3),
    lost=st.none() | st.tuples(*[st.floats(-4, 4)] * 3),
)
sides = st.builds(
    PictureFacts,
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    size=st.integers(1, 10**7),
    format=st.sampled_from(["jpeg", "png", "webp"]),
    quality=st.none() | st.integers(1, 100),
)


def changes(left: PictureFacts = JPEG, right: PictureFacts = JPEG, **measured) -> str:
    return explain_pair(replace(SAME, **measured), left, right).changes


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ({}, "no difference to be seen"),
        ({"share_left": 0.62}, "cropped to 62% of the picture"),
        ({"share_left": 0.98}, "no difference to be seen"),
        ({"mirrored": True}, "mirrored"),
        ({"rotation": 90.0}, "rotated 90 degrees clockwise"),
        ({"rotation": -3.2}, "rotated 3 degrees anticlockwise"),
        ({"rotation": 180.0}, "rotated 180 degrees"),
        ({"saturation": 0.0, "tint": 1.0}, "made grey"),
        ({"saturation": 0.02, "tint": 20.0}, "toned in one colour"),
        ({"saturation": 0.6}, "desaturated"),
        ({"scale": 0.5}, "scaled 0.5x"),
        ({"aspect": 1.12}, "stretched 12% wider"),
        ({"gain": -0.7}, "darker by 0.7 stops"),
        ({"gain": 0.5}, "brighter by 0.5 stops"),
        ({"tint": 9.0}, "another white balance"),
        ({"hue_error": 20.0}, "other colours: perhaps another variant"),
        ({"sharpness": 0.5}, "softer"),
    ],
)
def test_words(measured, words):
    assert changes(**measured) == words


@pytest.mark.parametrize(
    ("at", "place"),
    [
        ((0.1, 0.1), "upper left"),
        ((0.9, 0.9), "lower right"),
        ((0.5, 0.9), "lower middle"),
        ((0.5, 0.5), "middle"),
    ],
)
def test_the_covered_place_has_a_name(at, place):
    said = changes(covered=0.07, covered_at=at)
    assert said == f"something added or covered at the {place}: 7% of the area"


def test_a_logo_does_not_make_the_rest_unevenly_sharp():
    """A red bar on a photograph of coffee: 0.040 of the detail lay under it, 0.051 of the area."""
    uneven = "sharp in other parts of the picture"
    assert uneven not in changes(covered=0.051, covered_at=(0.9, 0.9), uneven=0.040)
    assert uneven in changes(covered=0.051, covered_at=(0.9, 0.9), uneven=0.2)
    assert changes(uneven=0.040) == uneven


def test_all_that_was_done_is_said():
    said = changes(
        right=PictureFacts(200, 150, 9000, "webp"),
        share_left=0.5,
        mirrored=True,
        saturation=0.0,
        scale=0.7,
    )
    for words in ("cropped to 50%", "mirrored", "made grey", "scaled 0.7x", "webp instead of jpeg"):
        assert words in said


def test_scale_is_of_the_files_not_of_their_thumbnails():
    large, small = PictureFacts(3840, 2560, 10**6, "jpeg"), PictureFacts(384, 256, 10**4, "jpeg")
    told = explain_pair(replace(SAME, lost=(0.9, 0.8, 0.1)), large, small)
    assert told.original == "left"
    assert told.changes == "scaled 0.1x"
    assert "higher resolution (3840 x 2560 against 384 x 256)" in told.reasons


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (
            {"scale": 0.5, "lost": (1.0, 0.9, 0.1)},
            "higher resolution (300 x 200 against 300 x 200)",
        ),
        ({"scale": 2.0, "lost": (1.0, 0.9, 0.1)}, "not enlarged (300 x 200 against 300 x 200)"),
        ({"share_left": 0.6, "around_left": -0.8}, "shows more of the picture"),
        ({"share_right": 0.6, "around_right": 1.0}, "the other has a frame or a page around it"),
        ({"overlaid": 0.05, "overlay": 2.1}, "nothing is laid over it"),
        ({"aspect": 1.2, "lost": (0.8, 0.0, 0.1)}, "not stretched"),
        ({"rotation": 3.0, "lost": (0.6, 0.7, 0.1)}, "not turned"),
        ({"saturation": 0.0}, "in full colour"),
        ({"sharpness": 0.5, "lost": (2.0, 1.8, 1.6)}, "sharper"),
        (
            {"scale": 0.65, "lost": (0.4, 0.08, -0.23), "sharpness": 1.33},
            "higher resolution (300 x 200 against 300 x 200)",
        ),
        # The copy was sharpened: its original has less at that end, but was not enlarged.
        (
            {"scale": 0.65, "lost": (-0.16, -0.49, -0.57), "sharpness": 1.39},
            "higher resolution (300 x 200 against 300 x 200)",
        ),
        ({"overlaid": 0.006, "differs": "right"}, "nothing is laid over it"),
        ({"gain": 0.32, "overlaid": 0.013, "overlay": 3.0}, "nothing is laid over it"),
    ],
)
def test_the_original_is_the_side_that_has_more(measured, reason):
    evidence = replace(SAME, **measured)
    told = explain_pair(evidence, JPEG, JPEG)
    assert told.original == "left"
    assert reason in told.reasons
    turned = explain_pair(turn_around(evidence), JPEG, JPEG)
    assert turned.original == "right"
    assert reason in turned.reasons
    assert turned.changes == told.changes, "either way the copy is described"


def test_less_compressed_is_the_original():
    told = explain_pair(SAME, replace(JPEG, quality=60), replace(JPEG, quality=92))
    assert told.original == "right"
    assert told.reasons == ("less compressed (JPEG quality about 92 against 60)",)
    assert told.changes == "JPEG quality about 60 against 92"
    told = explain_pair(SAME, replace(JPEG, quality=None), replace(JPEG, size=60_000))
    assert (told.original, told.reasons) == ("right", ("less compressed",))


def test_strong_compression_adds_edges_of_blocks_and_is_no_original():
    """They lie at the fine end, and may look laid over the other in places."""
    strong = replace(JPEG, quality=20, size=5_000)
    blocks = {"lost": (-1.66, -0.57, 0.1), "overlaid": 0.017, "overlay": 0.49}
    told = explain_pair(replace(SAME, **blocks), replace(JPEG, format="png", quality=None), strong)
    assert (told.original, told.reasons) == ("left", ("less compressed",))


@pytest.mark.parametrize(
    "measured",
    [
        {"mirrored": True},
        {"rotation": 90.0, "lost": (0.5, 0.5, 0.1)},
        {"gain": 0.6, "contrast": 1.4},
        {"saturation": 1.6},
        {"aspect": 1.2, "lost": (0.1, 0.0, 0.1)},
        {"scale": 0.5},
        {"scale": 0.5, "lost": (0.1, -0.1, 0.1)},
        # Neither has anything so fine.
        {"scale": 0.42, "lost": (0.0, 0.0, -0.69)},
        # A light that was clipped by a brighter copy, and the blocks of quality 20.
        {"gain": 0.43, "contrast": 1.2, "overlaid": 0.013, "overlay": 1.8},
        {"differs": "ink", "overlaid": 0.008},
        # A plain plate over print: the print is the only ink, and the lean points at the plate.
        {"differs": "left", "overlaid": 0.031, "overlay": 1.5},
        # Soft light, of which an encoder's blocks are the finest that there is.
        {"lost": (0.0, 0.0, 1.47), "sharpness": 0.866},
        # A slight blur that was saved well.
        {"lost": (1.14, 1.12, 0.56)},
        {"share_left": 0.6},
        {"share_left": 0.8, "share_right": 0.8, "around_left": 1.0, "around_right": 1.0},
    ],
)
def test_what_leaves_no_trace_cannot_be_told(measured):
    """Not even by the encoding: a copy may be saved better than its original was."""
    worse = replace(JPEG, quality=60, size=10_000)
    told = explain_pair(replace(SAME, **measured), worse, JPEG)
    assert (told.original, told.reasons) == ("either", ())


def test_a_name_decides_only_where_the_pixels_do_not():
    one, two = replace(JPEG, key="a/beach.jpg"), replace(JPEG, key="b/beach copy.jpg")
    told = explain_pair(replace(SAME, mirrored=True), two, one)
    assert (told.original, told.reasons) == ("right", ("the other is named after it",))
    framed = replace(SAME, share_left=0.5, around_left=0.9)
    assert explain_pair(framed, one, two).original == "right"


def test_a_frame_is_not_more_of_the_picture():
    framed = replace(SAME, share_left=0.5, around_left=0.9)
    told = explain_pair(framed, replace(JPEG, width=900, height=600), JPEG)
    assert told.original == "right"
    assert told.reasons == ("the other has a frame or a page around it",)


def test_without_an_original_the_file_that_stays_is_what_the_other_is_compared_with():
    brighter, png = replace(SAME, gain=0.6, contrast=1.4), replace(JPEG, format="png", quality=None)
    told = explain_pair(brighter, JPEG, png)
    assert told.original == "either"
    assert told.changes.startswith("brighter by 0.6 stops")
    assert "png instead of jpeg" in told.changes
    stays = explain_pair(brighter, JPEG, png, right_stays=True)
    assert stays.original == "either"
    assert stays.changes.startswith("darker by 0.6 stops")
    assert "jpeg instead of png" in stays.changes
    copy = replace(SAME, share_left=0.6, around_left=-0.8)
    assert explain_pair(copy, JPEG, JPEG, right_stays=True) == explain_pair(copy, JPEG, JPEG), (
        "a copy is described as what was made of its original"
    )


def test_equal_sides_have_no_original():
    told = explain_pair(SAME, JPEG, JPEG)
    assert (told.original, told.reasons) == ("either", ())


@settings(deadline=None)
@given(evidence=evidences)
def test_turned_around_twice_is_as_before(evidence):
    twice = asdict(turn_around(turn_around(evidence)))
    for name, value in asdict(evidence).items():
        if value is None or isinstance(value, (str, bool)):
            assert twice[name] == value
        else:
            assert twice[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name


@settings(deadline=None)
@given(evidence=evidences, left=sides, right=sides)
def test_the_original_does_not_depend_on_the_order(evidence, left, right):
    told, turned = (
        explain_pair(evidence, left, right),
        explain_pair(turn_around(evidence), right, left),
    )
    other = {"left": "right", "right": "left", "either": "either"}
    assert turned.original == other[told.original]
    assert turned.reasons == told.reasons
    if told.original != "either":
        assert turned.changes == told.changes
