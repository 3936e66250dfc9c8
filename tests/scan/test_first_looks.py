"""Compact features: made once while an image is read, read in blocks, made anew by another rule."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
from PIL import Image

import tasks.dedup.first_look as first_look
import tasks.queries.first_looks as looks
from tasks.dedup.first_look import features_rule, make_features, unpack
from tasks.session import open_catalog
from tests.conftest import first_of


def textured(seed: int) -> Image.Image:
    """Like no other seed's, and full of corners."""
    cells = np.random.default_rng(seed).integers(0, 256, (36, 48, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((320, 240), Image.Resampling.BICUBIC)


@pytest.fixture
def scanned(library):
    """Textured pictures, which the first look can judge."""
    for seed in range(8):
        image = textured(seed)
        library.write(f"p{seed}.png", image)
        if seed < 2:
            library.write(f"p{seed} part.png", image.crop((20, 10, 300, 220)))
    return library, library.scan()


@pytest.mark.long
def test_features_are_made_once_while_an_image_is_read(scanned, monkeypatch):
    library, outcome = scanned
    catalog = open_catalog(outcome.scan.settings)
    kept = catalog.read("features", ["content", "rule", "data"])
    jpegs = dict(catalog.read("thumbnails", ["content", "jpeg"]).iter_rows())
    assert kept["content"].to_list() == sorted(jpegs)
    assert set(kept["rule"]) == {features_rule()}
    assert dict(kept.select("content", "data").iter_rows()) == {
        name: make_features(jpeg) for name, jpeg in jpegs.items()
    }
    refused = catalog.count("pairs", "score = 0")
    assert refused > outcome.summary.counts["verified"] / 2, "strangers"

    def again(jpeg):
        raise AssertionError("made again")

    monkeypatch.setattr(looks, "make_features", again)
    with catalog.writing():
        catalog.delete_where("pairs", "true")
    after = library.scan()
    assert after.summary.pairs.equals(outcome.summary.pairs)


@pytest.mark.long
def test_features_of_another_rule_are_made_anew(scanned, monkeypatch):
    library, outcome = scanned
    catalog = open_catalog(outcome.scan.settings)
    with catalog.writing():
        catalog.delete_where("pairs", "true")
        rows = catalog.read("features", ["content", "data"])
        old = looks.features_table(rows["content"].to_list(), [b"old"] * rows.height)
        at = old.schema.get_field_index("rule")
        old = old.set_column(at, "rule", [["before"] * rows.height])
        catalog.upsert("features", old)
    after = library.scan()
    assert after.summary.pairs.equals(outcome.summary.pairs)
    made = open_catalog(outcome.scan.settings).read("features", ["content", "rule", "data"])
    assert set(made["rule"]) == {features_rule()}
    assert b"old" not in set(made["data"])


@pytest.mark.parametrize("block", first_of(2, 3, 100))
def test_blocks_of_any_size_give_the_same(scanned, monkeypatch, block):
    _, outcome = scanned
    catalog = open_catalog(outcome.scan.settings)
    names = catalog.read("features", ["content"])["content"].to_list()
    pairs = pl.DataFrame(
        [(one, two) for one in names for two in names if one < two],
        schema=["left", "right"],
        orient="row",
    ).sample(fraction=0.7, shuffle=True, seed=1)
    monkeypatch.setattr(looks, "_BLOCK", block)
    monkeypatch.setattr(looks, "_TOLD", 5)
    monkeypatch.setattr(looks, "_LEFTS", 2)
    with catalog.writing():
        found = pl.concat(looks.look_at_pairs(catalog, pairs, 2))
    assert found.select("left", "right").sort("left", "right").equals(pairs.sort("left", "right"))
    blobs = dict(catalog.read("features", ["content", "data"]).iter_rows())
    for left, right, votes in found.iter_rows():
        one, other = unpack([blobs[left], blobs[right]])
        assert votes == first_look.votes_for(one, np.array([other], first_look.RECORD))[0]


def test_a_content_without_a_thumbnail_has_no_features(scanned):
    catalog = open_catalog(scanned[1].scan.settings)
    with ThreadPoolExecutor(1) as pool:
        found = looks.read_records(catalog, pl.Series(["nobody"]), pool, keep=False)
    assert found["count"].tolist() == [0]


def test_no_more_features_are_read_than_the_pairs_need(scanned, monkeypatch):
    catalog = open_catalog(scanned[1].scan.settings)
    names = catalog.read("features", ["content"])["content"].to_list()
    monkeypatch.setattr(looks, "_BLOCK", 2)  # so many blocks that all pairs of blocks would be many
    read, real = [], catalog.take

    def take(table, columns, ids):
        read.extend(ids)
        return real(table, columns, ids)

    monkeypatch.setattr(catalog, "take", take)
    ring = [(one, two) for one, two in zip(names, [*names[1:], names[0]], strict=True)]
    pairs = pl.DataFrame([sorted(pair) for pair in ring], schema=["left", "right"], orient="row")
    with catalog.writing():
        found = pl.concat(looks.look_at_pairs(catalog, pairs, 1))
    assert found.height == len(names)
    # Each content once as a left side, and at most once for each pair as a right side elsewhere.
    assert len(read) <= 2 * len(names)
