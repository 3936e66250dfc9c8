"""The pixels of a pair under its fit."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tasks.dedup import compare
from tasks.dedup.align import Alignment
from tasks.dedup.compare import compare_pixels
from tasks.dedup.windows import measure_windows

#: As they lie.
FIT = Alignment(np.eye(2, 3), False, 30, 60, 0.5, 0)


def shared(photo, share: float) -> Image.Image:
    """Another picture, through which in a share of its width the first one shines."""
    one, two = (np.asarray(photo(seed), np.float32) for seed in (0, 1))
    edge = round(one.shape[1] * share)
    two = np.where(np.arange(one.shape[1])[:, None] < edge, 0.45 * one + 0.55 * two, two)
    return Image.fromarray(two.astype(np.uint8))


@pytest.fixture
def flows(monkeypatch) -> list[None]:
    """One for each time that displacements are looked for, which costs most."""
    found, real = [], compare._flow

    def flow(*parts):
        found.append(None)
        return real(*parts)

    monkeypatch.setattr(compare, "_flow", flow)
    return found


def test_what_hardly_agrees_ends_before_displacements_are_looked_for(photo, known, flows):
    one, two = known(photo(0)), known(shared(photo, 0.35))
    grey = [
        cv2.GaussianBlur(cv2.cvtColor(side.rgb, cv2.COLOR_RGB2GRAY), (0, 0), 0.8).astype(np.float32)
        for side in (one, two)
    ]
    windows = measure_windows(grey[0], grey[1], np.ones(grey[0].shape, bool))
    loosely = (windows.textured & ~windows.unlike).sum() / windows.textured.sum()
    assert 0.25 < loosely < 0.4, (
        "a quarter is what two pictures laid over one another have at least"
    )
    assert compare_pixels(one, two, FIT) is None
    assert not flows


def test_a_copy_and_another_shot_are_compared(photo, known, flows):
    assert compare_pixels(known(photo(0)), known(photo(0)), FIT) is not None
    assert compare_pixels(known(photo(0)), known(shared(photo, 0.8)), FIT) is not None
    assert len(flows) == 2


def test_a_pale_page_keeps_its_colours_when_it_is_encoded(known):
    """Nothing tells a weaker colour of its one tone from a tint against it: both were told."""
    page = Image.new("RGB", (900, 1200), "#fbf6ea")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(26)
    numbers = np.random.default_rng(5).integers(1000, 9999, (30, 6))
    for row in range(30):
        for column in range(6):
            draw.text(
                (80 + 130 * column, 80 + 35 * row), str(numbers[row, column]), "#402010", font
            )
    buffer = io.BytesIO()
    page.save(buffer, "JPEG", quality=60)
    encoded = Image.open(buffer).convert("RGB")
    for one, two in ((page, encoded), (encoded, page)):
        found = compare_pixels(known(one), known(two), FIT)
        assert found is not None
        assert (found.saturation, found.tint) == (1.0, 0.0)
    grey = compare_pixels(known(page), known(page.convert("L").convert("RGB")), FIT)
    assert grey is not None
    assert grey.saturation < 0.1 or grey.tint > 4, "and is told where it lost them"
