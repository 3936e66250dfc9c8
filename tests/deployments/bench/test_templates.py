"""``dam-dedup bench templates``: one banner on many photographs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops
from typer.testing import CliRunner

from deployments.bench.templates import TEMPLATES
from deployments.cli.main import app

RUN = CliRunner()
#: A shortfall, told in docs/benchmarks.md: two banners of just the share from which lettering in
#: common makes a copy, one above and one below.
KNOWN_WRONG = ("banner", 0.6)


def photograph(seed: int) -> Image.Image:
    """Large and small things at random: texture everywhere."""
    rng, layers = np.random.default_rng(seed), []
    for cells in (6, 60):
        grid = rng.integers(0, 256, (cells * 3 // 4, cells, 3)).astype(np.uint8)
        layers.append(Image.fromarray(grid).resize((320, 240), Image.Resampling.BICUBIC))
    return Image.blend(*layers, 0.4)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(5):
        photograph(seed).save(folder / f"{seed}.png")
    return folder


@pytest.mark.long
def test_photographs_in_one_template_are_no_copies_and_found_in_their_own(images):
    ran = RUN.invoke(
        app, ["bench", "templates", "--images", str(images), "--pictures", "4", "--json"]
    )
    assert ran.exit_code == 0, ran.output
    rows = json.loads(ran.stdout)
    assert [(row["template"], row["share"]) for row in rows] == [
        (name, share) for name, _, shares in TEMPLATES for share in shares
    ]
    for row in rows:
        assert (row["pairs"], row["own"]) == (6, 4)
        if (row["template"], row["share"]) != KNOWN_WRONG:
            assert row["near"] == 0, row
        if row["share"] <= 0.15:
            assert row["found"] == 4, row


@pytest.mark.long
def test_the_table_names_every_template(images):
    ran = RUN.invoke(app, ["bench", "templates", "--images", str(images), "--pictures", "2"])
    assert ran.exit_code == 0, ran.output
    for name, _, _ in TEMPLATES:
        assert name in ran.output


def test_too_few_photographs_are_refused(images):
    ran = RUN.invoke(app, ["bench", "templates", "--images", str(images), "--pictures", "9"])
    assert ran.exit_code != 0
    assert "5 photographs can be read" in str(ran.output) + str(ran.exception)


@pytest.mark.parametrize(("name", "make", "shares"), TEMPLATES, ids=[t[0] for t in TEMPLATES])
def test_a_template_takes_the_share_it_says(name, make, shares):
    white, black = (Image.new("RGB", (300, 200), colour) for colour in ("white", "black"))
    for share in shares:
        with_white, with_black = (
            make(photo, share, photograph(1), random.Random(1)) for photo in (white, black)
        )
        changed = np.asarray(ImageChops.difference(with_white, with_black)).any(axis=2)
        assert 1 - changed.mean() == pytest.approx(share, abs=0.02), "all else is the photograph"
