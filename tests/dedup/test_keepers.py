"""Which asset stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
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
        ({}, {"width": None}),
    ],
)
def test_criteria_in_their_order(better, worse):
    assert order(asset("a", **worse), asset("b", **better)) == ["b", "a"]
    assert order(asset("a", **better), asset("b", **worse)) == ["a", "b"]


def test_the_key_decides_last():
    assert order(asset("b"), asset("a"), asset("c")) == ["a", "b", "c"]


def test_huge_pictures_do_not_overflow():
    assert order(asset("a", width=60_000, height=60_000), asset("b")) == ["a", "b"]


def test_columns_stay_as_they_were():
    frame = pl.DataFrame([asset("a")], schema=SCHEMA)
    assert rank_keepers(frame).equals(frame)


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
