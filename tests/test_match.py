"""Match and group: incremental ends where full does, whatever happened before."""

from __future__ import annotations

import shutil
import time

import polars as pl
import pytest

from tasks.records import Kind
from tasks.session import open_catalog
from tasks.summarize import list_pairs


def groups_of(outcome) -> dict[str, list[tuple]]:
    """Groups, but for whether they are news."""
    members = outcome.summary.members.select("group_id", "key", "role", "tier")
    return {
        name[0]: part.drop("group_id").rows()
        for name, part in members.partition_by("group_id", as_dict=True).items()
    }


def pairs_of(outcome) -> dict[tuple[str, str], tuple[float, str]]:
    rows = outcome.summary.pairs.select("left", "right", "score", "tier").rows()
    return {(left, right): (pytest.approx(score, abs=2e-4), tier)
            for left, right, score, tier in rows}  # fmt: skip


def same(one, other) -> bool:
    return groups_of(one) == groups_of(other) and pairs_of(one) == {
        pair: (score.expected, tier) for pair, (score, tier) in pairs_of(other).items()
    }


def keys_of(outcome) -> list[list[str]]:
    """Each group's keys, the keeper first."""
    return sorted([member[0] for member in group] for group in groups_of(outcome).values())


@pytest.fixture
def stocked(library):
    """Seven pictures; three of them more than once."""
    for seed in range(7):
        library.add(f"p{seed}.png", seed)
    library.add("p0.jpg", 0)
    library.add("p0 small.jpg", 0, width=96)
    library.add("p1.bmp", 1)
    shutil.copy2(library.folder / "p1.png", library.folder / "p1 copy.png")
    library.add("p2.webp", 2, quality=70)
    return library


def test_pairs_and_groups(stocked):
    outcome = stocked.scan()
    assert keys_of(outcome) == [
        ["p0.png", "p0 small.jpg", "p0.jpg"],
        ["p1.bmp", "p1 copy.png", "p1.png"],
        ["p2.png", "p2.webp"],
    ]
    tiers = {pair: tier for pair, (_, tier) in pairs_of(outcome).items()}
    assert {pair for pair, tier in tiers.items() if tier == "exact"} == {
        ("p1 copy.png", "p1.bmp"),
        ("p1 copy.png", "p1.png"),
        ("p1.bmp", "p1.png"),
    }
    assert {pair for pair, tier in tiers.items() if tier == "near"} == {
        ("p0 small.jpg", "p0.jpg"),
        ("p0 small.jpg", "p0.png"),
        ("p0.jpg", "p0.png"),
        ("p2.png", "p2.webp"),
    }
    evidence = {row[:2]: row[2] for row in
                outcome.summary.pairs.select("left", "right", "evidence").rows()}  # fmt: skip
    assert evidence["p1 copy.png", "p1.png"] == "same bytes"
    assert evidence["p1.bmp", "p1.png"] == "same pixels"
    assert "cosine 0.9" in evidence["p2.png", "p2.webp"]


def test_only_what_is_new_is_compared(stocked):
    assert stocked.scan().summary.counts["compared"] == 10
    assert stocked.scan().summary.counts["compared"] == 0
    stocked.add("new.png", 50)
    stocked.add("p1 again.bmp", 1)  # known pixels
    assert stocked.scan().summary.counts["compared"] == 1
    assert stocked.scan(Kind.FULL).summary.counts["compared"] == 11


def test_incremental_equals_full_after_every_change(stocked, tmp_path):
    library = stocked
    hidden = tmp_path / "hidden.png"
    last = library.scan()

    def add() -> None:
        library.add("p3.jpg", 3)
        library.add("sub/p0 big.png", 0, width=320)  # a better keeper
        library.add("p9.png", 9)

    def remove() -> None:
        (library.folder / "p0.png").rename(hidden)
        (library.folder / "p1.bmp").unlink()

    def come_while_it_is_away() -> None:
        library.add("p0 late.jpg", 0, quality=60)

    def bring_back() -> None:
        hidden.rename(library.folder / "p0.png")

    def change() -> None:
        library.add("p2.png", 3)  # was another picture
        library.add("p9.png", 1)

    for number, step in enumerate([add, remove, come_while_it_is_away, bring_back, change]):
        step()
        last = library.scan()
        assert same(last, library.scan(Kind.FULL, catalog=f"fresh{number}")), step.__name__
    assert keys_of(last)[-1][:2] == ["sub/p0 big.png", "p0 late.jpg"]
    assert same(library.scan(Kind.FULL), last)


def test_incremental_equals_full_inside_a_filter(stocked):
    library, where = stocked, "name LIKE 'p%' AND size < 30000"
    library.scan(where=where)
    original = library.folder / "p0.png"
    library.add("p0.png", 0, width=400)  # too large: leaves the filter
    assert original.stat().st_size > 30_000
    library.add("p0 other.jpg", 0)
    library.scan(where=where)
    library.add("p0.png", 0)  # and is back, to meet who came meanwhile
    last = library.scan(where=where)
    assert ("p0 other.jpg", "p0.png") in pairs_of(last)
    assert same(last, library.scan(Kind.FULL, where=where, catalog="fresh"))


def test_filters_do_not_share_what_was_compared(stocked):
    small = stocked.scan(where="name LIKE 'p0%'")
    assert keys_of(small) == [["p0.png", "p0 small.jpg", "p0.jpg"]]
    assert len(keys_of(stocked.scan())) == 3
    assert same(stocked.scan(where="name LIKE 'p0%'"), small)


def test_thresholds_on_one_catalog(stocked):
    usual = stocked.scan()
    high = stocked.scan(threshold=0.999)
    assert set(pairs_of(high)) < set(pairs_of(usual))
    low = stocked.scan(threshold=0.5)
    assert set(pairs_of(low)) >= set(pairs_of(usual))
    assert same(low, stocked.scan(Kind.FULL, threshold=0.5, catalog="fresh"))
    again = stocked.scan()
    assert again.summary.counts["compared"] == 0, "a lower threshold covers a higher one"
    assert same(again, usual)


def test_pairs_of_a_higher_threshold_are_not_all_there_is(stocked):
    stocked.scan(threshold=0.999)
    usual = stocked.scan()
    assert usual.summary.counts["compared"] == 10
    assert same(usual, stocked.scan(Kind.FULL, catalog="fresh"))


def test_two_models_in_one_catalog_do_not_mix(stocked, make_model):
    other = make_model(2)
    first = stocked.scan()
    stocked.add("p4.jpg", 4)
    second = stocked.scan(model=other)
    assert same(second, stocked.scan(Kind.FULL, model=other, catalog="fresh"))
    third = stocked.scan()
    assert third.summary.space.id == first.summary.space.id
    assert same(third, stocked.scan(Kind.FULL, catalog="fresh"))


def test_another_rule_compares_everything_again(stocked, monkeypatch):
    stocked.scan()
    for module in ("tasks.match", "tasks.group", "tasks.summarize"):
        monkeypatch.setattr(f"{module}.rule_id", lambda: "another")
    again = stocked.scan()
    assert again.summary.counts["compared"] == 10
    assert len(keys_of(again)) == 3


def test_small_blocks_give_the_same(stocked, monkeypatch):
    usual = stocked.scan()
    monkeypatch.setenv("DAM_DEDUP_MATCH__BLOCK", "16")
    for seed in range(100, 130):
        stocked.add(f"x{seed}.png", seed)
    many = stocked.scan()
    assert many.scan.settings.match.block == 16
    assert many.summary.counts["compared"] == 30
    assert groups_of(many) == groups_of(usual)


def test_a_scan_killed_between_blocks_goes_on(stocked, monkeypatch):
    monkeypatch.setenv("DAM_DEDUP_MATCH__BLOCK", "16")
    for seed in range(100, 130):
        stocked.add(f"x{seed}.png", seed)
    import tasks.match as stage

    def cut(*args, **kwargs):
        yield next(stage_pairs(*args, **kwargs))
        raise RuntimeError("power cut")

    stage_pairs = stage.close_pairs
    with monkeypatch.context() as patch:
        patch.setattr(stage, "close_pairs", cut)
        with pytest.raises(RuntimeError, match="power cut"):
            stocked.scan()
    after = stocked.scan()
    assert after.summary.counts["compared"] == 40 - 16
    assert same(after, stocked.scan(Kind.FULL, catalog="fresh"))


def test_news_is_told_once(stocked):
    assert stocked.scan().summary.groups["state"].to_list() == ["new"] * 3
    assert not stocked.scan().summary.has_news
    stocked.add("p0 more.jpg", 0, quality=50)
    stocked.add("p5.jpg", 5)
    outcome = stocked.scan()
    states = dict(outcome.summary.groups.select("keeper", "state").iter_rows())
    assert states == {"p0.png": "changed", "p5.png": "new", "p1.bmp": "known", "p2.png": "known"}
    assert (outcome.summary.counts["new"], outcome.summary.counts["groups_changed"]) == (1, 1)


def test_the_catalog_stays_free_of_duplicates(stocked):
    stocked.scan()
    stocked.scan(Kind.FULL)
    catalog = open_catalog(stocked.scan(threshold=0.5).scan.settings)
    assert catalog.duplicate_keys() == {}
    matches = catalog.read("matches", ["left", "right"])
    assert (matches["left"] < matches["right"]).all()
    assert matches.is_unique().all()


def test_pairs_of_very_many_copies_are_listed_against_the_first():
    count = 20_000
    assets = pl.DataFrame(
        {
            "key": [f"k{n:05}" for n in range(count)] + ["near"],
            "content": ["logo"] * count + ["x"],
            "sha256": [str(n % 2) for n in range(count)] + ["x"],
        }
    )
    matches = pl.DataFrame(
        {"left": ["logo"], "right": ["x"], "score": [0.8], "cosine": [0.9], "phash_distance": [3]},
        schema_overrides={"score": pl.Float32, "cosine": pl.Float32, "phash_distance": pl.Int32},
    )
    started = time.perf_counter()
    pairs = list_pairs(assets, matches)
    assert time.perf_counter() - started < 3
    assert pairs.height == count
    assert set(pairs["left"]) == {"k00000"}
    assert pairs.filter(pl.col("right") == "near")["tier"].to_list() == ["near"]
    few = list_pairs(assets.head(32), matches.clear())
    assert few.height == 32 * 31 // 2
    assert (few["left"] < few["right"]).all()


def states(outcome) -> list[str]:
    return sorted(outcome.summary.groups["state"])


def test_what_nobody_was_told_of_stays_new(stocked):
    assert states(stocked.scan(dry_run=True)) == ["new"] * 3
    assert states(stocked.scan()) == ["new"] * 3
    assert states(stocked.scan()) == ["known"] * 3


def test_a_scan_at_another_threshold_makes_no_news(stocked):
    stocked.scan()
    stocked.scan(threshold=0.95)
    assert states(stocked.scan()) == ["known"] * 3


def test_a_better_keeper_is_a_change_and_no_new_group(stocked):
    stocked.scan()
    stocked.add("p0 original.png", 0, width=640)
    outcome = stocked.scan()
    assert "p0 original.png" in outcome.summary.groups["keeper"].to_list()
    assert states(outcome) == ["changed", "known", "known"]
