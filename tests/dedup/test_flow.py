"""A fit made better along edges: how far two tiles lie apart, to a few hundredths of a pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tasks.dedup.flow import flow_step
from tasks.dedup.placement import IDENTITY, Affine
from tasks.dedup.proof import prove

#: Where a picture lies that was made 0.9 times as large and put at (292, 124) of 1,170 x 1,035.
_SHOWN: Affine = (810 / 1170, 0.0, 0.0, 810 / 1035, 292 / 1170, 124 / 1035)


def patches(side: int = 900, *, other: bool = False) -> Image.Image:
    """Large triangles, edge to edge: few edges, all of them long, and of full contrast."""
    rng = np.random.default_rng(4)
    image = Image.new("RGB", (side, side))
    draw, step = ImageDraw.Draw(image), side // 6
    for at in range(36):
        x, y = step * (at % 6), step * (at // 6)
        one, two = (tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(2))
        if other and at == 20:
            one = two
        draw.rectangle((x, y, x + step - 1, y + step - 1), fill=two)
        corner = (x + step - 1, y) if rng.random() < 0.5 else (x, y + step - 1)
        draw.polygon(((x, y), corner, (x + step - 1, y + step - 1)), fill=one)
    return image


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), np.float32)


@pytest.mark.parametrize(
    "moved",
    [
        np.array([[1, 0, 0.4], [0, 1, -0.3], [0, 0, 1.0]]),
        np.array([[1.001, 0.0004, -0.2], [-0.0006, 0.9992, 0.3], [0, 0, 1.0]]),
    ],
    ids=["shift", "affine"],
)
def test_a_step_finds_what_a_picture_was_moved_by(moved):
    one = cv2.GaussianBlur(grey(patches(480)), (0, 0), 1.0)
    two = cv2.warpAffine(one, moved[:2], (480, 480), flags=cv2.INTER_CUBIC)
    inside = np.zeros(one.shape, np.bool_)
    inside[8:-8, 8:-8] = True
    # As four tiles, of which each knows where it lies.
    tiles = [
        (x, y, *(plane[y : y + 240, x : x + 240] for plane in (one, two, inside)))
        for x in (0, 240)
        for y in (0, 240)
    ]
    step = flow_step(tiles, (480, 480))
    corners = np.array([(0, 0, 1), (480, 0, 1), (0, 480, 1), (480, 480, 1.0)]).T
    left = np.abs((step @ corners - moved @ corners)[:2]).max()
    assert left < 0.25 * np.abs((moved @ corners - corners)[:2]).max()


def test_stripes_tell_no_shift_along_them():
    one = np.tile(127 + 100 * np.sin(np.arange(256) / 3), (256, 1)).astype(np.float32)
    two = np.roll(one, 1, axis=1) / 2 + one / 2
    # A ripple a thousand times weaker, which is elsewhere in the other: noise, and no motion.
    ripple = np.sin(np.arange(256) / 5)[:, None].astype(np.float32)
    one, two = one + 0.3 * ripple, two + 0.3 * np.roll(ripple, 7, axis=0)
    step = flow_step([(0, 0, one, two, np.ones(one.shape, np.bool_))], (256, 256))
    assert step[0, 2] == pytest.approx(0.5, abs=0.1)
    assert np.allclose(step[1], (0, 1, 0), atol=1e-3)


def test_a_place_that_differs_moves_nothing():
    one, two = grey(patches(480)), grey(patches(480))
    two[200:260, 200:260] = 255 - two[200:260, 200:260]
    step = flow_step([(0, 0, one, two, np.ones(one.shape, np.bool_))], (480, 480))
    assert np.allclose(step, np.eye(3), atol=0.02)


def test_where_a_picture_ends_is_no_edge():
    """What lies beyond the common area is black in one of the two, and half a pixel off."""
    one, two = np.full((300, 300), 240, np.float32), np.full((300, 300), 240, np.float32)
    for plane in (one, two):
        plane[100:200, 120:180] = 40
    mask = np.zeros(one.shape, np.bool_)
    mask[20:280, 20:280] = True
    for plane, edge in ((one, 0), (two, 140)):
        plane[:18], plane[:, :18] = 0, 0
        plane[18, 18:], plane[18:, 18] = edge, edge
    step = flow_step([(0, 0, one, two, mask)], (300, 300))
    assert np.allclose(step, np.eye(3), atol=0.01)


def gauge(top: int) -> np.ndarray:
    """A bar in a frame beside a name, on a page of 1,000 pixels' height."""
    page = Image.new("RGB", (800, 1000), "white")
    draw = ImageDraw.Draw(page)
    draw.rectangle((100, 100, 500, 900), outline="black", width=2)
    draw.rectangle((150, top, 450, 880), fill="#305080")
    draw.text((560, 120), "Tank 4", "black", ImageFont.load_default(24))
    return np.asarray(page)


def test_an_edge_that_was_moved_by_a_pixel_moves_no_fit():
    """It lies as near as the edges of a fit that is half a pixel off, and stands out after it."""
    assert prove(gauge(400), gauge(401), IDENTITY).verdict == "unknown"
    assert prove(gauge(400), gauge(402), IDENTITY).verdict == "reads", "a page, and at full size"


def test_where_nothing_is_steep_nothing_moves():
    flat = np.full((300, 300), 90, np.float32)
    step = flow_step([(0, 0, flat, flat + 1, np.ones(flat.shape, np.bool_))], (300, 300))
    assert np.array_equal(step, np.eye(3))


@pytest.mark.parametrize("off", [(0, 0, 0), (0.001, 0, 0), (0.002, 0.001, 0)])
def test_long_edges_in_a_window_are_proven_the_same(off):
    """By phase correlation alone they lay a tenth of a pixel off, and 15 to 25 stood out."""
    window = Image.new("RGB", (1170, 1035), "#f0f1f4")
    ImageDraw.Draw(window).rectangle((0, 0, 1170, 62), fill="#404650")
    window.paste(patches().resize((810, 810), Image.Resampling.BICUBIC), (292, 124))
    a, b, _, d, e, f = _SHOWN
    fit = (a + off[0], b, 0.0008, d - off[0] / 2, e + off[1], f + off[2])
    found = prove(np.asarray(patches()), np.asarray(window), fit)
    assert found.verdict == "same", found
    assert found.excess < 2
    assert prove(np.asarray(patches(other=True)), np.asarray(window), fit).verdict == "differs"
