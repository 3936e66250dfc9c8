"""Which asset stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dedup.keepers import rank_keepers

DAY = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = {
    "key": pl.String,
    "asset_id": pl.String,
    "width": pl.Int32,
    "height": pl.Int32,
    "format": pl.String,
    "size": pl.Int64,
    "last_modified": pl.Datetime("us", "UTC"),
    "storage_class": pl.String,
}


def asset(key: str, **facts) -> dict:
    usual = {"width": 100, "height": 100, "format": "jpeg", "size": 1000, "last_modified": DAY}
    return {"key": key, "asset_id": f"id-{key}"} | usual | facts


def order(*assets: dict) -> list[str]:
    return rank_keepers(pl.DataFrame(list(assets), schema=SCHEMA))["key"].to_list()


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"width": 101}, {"format": "png", "size": 9999}),  # pixels before all else
        ({"width": 400, "height": 26}, {}),  # pixels, not the longest side
        ({"format": "tiff"}, {"size": 9999}),
        ({"format": "png", "size": 1}, {"format": "webp"}),
        ({"size": 1001}, {"last_modified": DAY - timedelta(days=9)}),
        ({"last_modified": DAY - timedelta(seconds=1)}, {}),
        ({"storage_class": "STANDARD"}, {"storage_class": "GLACIER"}),
        ({}, {"storage_class": "DEEP_ARCHIVE", "last_modified": DAY - timedelta(days=9)}),
        ({"storage_class": "GLACIER", "size": 1001}, {"storage_class": "STANDARD"}),
        ({}, {"width": None}),
    ],
)
def test_criteria_in_their_order(better, worse):
    assert order(asset("a", **worse), asset("b", **better)) == ["b", "a"]
    assert order(asset("a", **better), asset("b", **worse)) == ["a", "b"]


def contents(*assets: dict) -> pl.DataFrame:
    return pl.DataFrame(list(assets), schema=SCHEMA | {"content": pl.String})


def test_what_was_made_of_another_comes_after_it():
    """A bordered copy and an upscale have more pixels than their original."""
    frame = contents(
        asset("border", width=300, content="b"),
        asset("original", content="o"),
        asset("upscale", width=900, content="u"),
    )
    found = rank_keepers(frame, copies={"b", "u"})["key"].to_list()
    assert found == ["original", "upscale", "border"]


def test_a_lossless_file_of_a_jpegs_pixels_only_wraps_it():
    frame = contents(
        asset("wrapper", format="png", size=90_000, content="c"), asset("jpeg", content="c")
    )
    assert rank_keepers(frame)["key"].to_list() == ["jpeg", "wrapper"]
    others = frame.with_columns(pl.col("key").alias("content"))
    assert rank_keepers(others)["key"].to_list() == ["wrapper", "jpeg"]


def test_the_key_decides_last():
    assert order(asset("b"), asset("a"), asset("c")) == ["a", "b", "c"]


def test_huge_pictures_do_not_overflow():
    assert order(asset("a", width=60_000, height=60_000), asset("b")) == ["a", "b"]


def test_columns_stay_as_they_were():
    frame = pl.DataFrame([asset("a")], schema=SCHEMA)
    assert rank_keepers(frame).equals(frame)


@settings(deadline=None)
@given(data=st.data())
def test_the_order_is_total(data):
    facts = st.fixed_dictionaries(
        {
            "width": st.sampled_from([10, 20, None]),
            "format": st.sampled_from(["png", "jpeg"]),
            "size": st.sampled_from([1, 2]),
        }
    )
    assets = [asset(f"k{n}", **data.draw(facts)) for n in range(6)]
    assert order(*data.draw(st.permutations(assets))) == order(*assets)
