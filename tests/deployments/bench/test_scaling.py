"""The page on scale says what the arithmetic says, and the arithmetic adds up."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.bench.scaling import Prices, Rates, cost, table

PAGE = Path(__file__).resolve().parents[3] / "docs" / "scale.md"


def test_the_page_holds_the_table():
    assert table() in PAGE.read_text("utf-8")


def test_what_is_counted_by_hand_comes_out():
    rates = Rates(
        read_ms=30,
        embed_ms=6,
        pairs=10,
        look_ms=1,
        copies=0.5,
        copy_ms=8,
        left=0.5,
        stranger_ms=4,
        proofs=0.1,
        proof_ms=100,
        exact_ms=36,
        requests=2,
    )
    one = cost(100_000, rates, Prices(get=1, list=10, store=0, core_hour=2))
    assert one.read_h == pytest.approx(1)  # 100,000 x 36 ms
    assert one.lists_h == pytest.approx(0.1)  # 3.6 ms each, a tenth of a million's
    assert one.look_h == pytest.approx(100_000 * 10 / 3.6e6)
    assert one.verify_h == pytest.approx(100_000 * 10 * (0.5 * 8 + 0.5 * 0.5 * 4) / 3.6e6)
    assert one.prove_h == pytest.approx(100_000 * 10 / 3.6e6)
    assert one.requests == pytest.approx(220_000 + 100)
    hours = one.read_h + one.lists_h + one.look_h + one.verify_h + one.prove_h
    assert one.hours_16 == pytest.approx(hours / 16)
    assert one.dollars == pytest.approx(220 + 1 + 2 * hours)
    assert one.again_dollars == pytest.approx(1)


def test_ten_times_the_assets_cost_ten_times_but_for_the_lists():
    small, large = cost(2_000_000), cost(20_000_000)
    for name in ("read_h", "look_h", "verify_h", "prove_h", "requests", "catalog_gb"):
        assert getattr(large, name) == pytest.approx(10 * getattr(small, name))
    assert large.lists_h > 50 * small.lists_h, "4,096 cells are the most there are"
