"""Match and group: incremental ends where full does, whatever happened before."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import polars as pl
import pytest

import tasks.dedup.verify as verify
import tasks.queries.matches as matches
import tasks.queries.scan_verifier as verifier
import tasks.search.brute_force as brute_force
from deployments.cli.scan_output import show_outcome
from reports.table import groups_json
from tasks.dedup.evidence import Evidence
from tasks.dedup.feature_cache import FeatureCache
from tasks.queries.asset_pairs import list_pairs
from tasks.queries.matches import read_pairs
from tasks.records import Kind
from tasks.reporting.summarize import last_scan, summarize_scan
from tasks.session import open_catalog
from tests.conftest import blobs
from tests.dedup.test_explain import SAME


def groups_of(outcome) -> dict[str, list[tuple]]:
    """Groups, but for whether they are news."""
    members = outcome.summary.members.select("group_id", "key", "role", "tier")
    return {
        name[0]: part.drop("group_id").rows()
        for name, part in members.partition_by("group_id", as_dict=True).items()
    }


def pairs_of(outcome) -> dict[tuple[str, str], str]:
    """The tier of each pair of assets."""
    rows = outcome.summary.pairs.select("left", "right", "tier").rows()
    return {(left, right): tier for left, right, tier in rows}


def lists_of(outcome) -> dict[str, list[str]]:
    """The neighbours of each content of the scope."""
    scan, space = outcome.scan, outcome.summary.space
    rows = open_catalog(scan.settings).read(
        "neighbours",
        ["content", "names", "scope", "space"],
        f"scope = '{scan.scope}' AND space = '{space.id}'",
    )
    assert rows["content"].is_unique().all()
    return dict(rows.select("content", "names").iter_rows())


def answers_of(outcome) -> pl.DataFrame:
    """All verified pairs of contents, refusals too."""
    return read_pairs(open_catalog(outcome.scan.settings), outcome.scan, outcome.summary.space)


def same(one, other) -> bool:
    return (
        groups_of(one) == groups_of(other)
        and one.summary.pairs.equals(other.summary.pairs)
        and lists_of(one) == lists_of(other)
        and answers_of(one).equals(answers_of(other))
    )


def keys_of(outcome) -> list[list[str]]:
    """Each group's keys, the keeper first."""
    return sorted([member[0] for member in group] for group in groups_of(outcome).values())


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, str]]:
    """The pairs whose pixels are looked at, as it happens."""
    calls, real = [], verifier.answer_pair

    def answer(cache, jpegs, left, right):
        calls.append((left, right))
        return real(cache, jpegs, left, right)

    monkeypatch.setattr(verifier, "answer_pair", answer)
    return calls


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
    tiers = pairs_of(outcome)
    assert tiers == dict.fromkeys(
        [
            ("p0 small.jpg", "p0.jpg"),
            ("p0 small.jpg", "p0.png"),
            ("p0.jpg", "p0.png"),
            ("p1 copy.png", "p1.bmp"),
            ("p1 copy.png", "p1.png"),
            ("p1.bmp", "p1.png"),
            ("p2.png", "p2.webp"),
        ],
        "exact",
    )
    pairs = outcome.summary.pairs
    assert set(pairs["relation"]) == {"duplicate"}
    changes = {row[:2]: row[2] for row in pairs.select("left", "right", "changes").rows()}
    assert changes["p1 copy.png", "p1.png"] == "same bytes"
    assert changes["p1.bmp", "p1.png"] == "same pixels"
    small = pairs.row(0, named=True)
    assert (small["left"], small["right"]) == ("p0 small.jpg", "p0.jpg")
    assert small["original"] == "right"
    measured = Evidence.from_json(small["evidence"])
    # Contents are told in the order of their digests, assets in that of their keys.
    assert measured.scale == pytest.approx(96 / 160 if small["flipped"] else 160 / 96, rel=0.02)


def test_what_was_done_is_told_from_the_original(library):
    picture = blobs(8)
    library.write("b whole.png", picture)
    library.write("a part.png", picture.crop((0, 0, 130, 100)))
    library.write("c part.png", picture.crop((30, 20, 160, 120)))
    pairs = {
        row["left"] + "|" + row["right"]: row
        for row in library.scan().summary.pairs.iter_rows(named=True)
    }
    first, last = pairs["a part.png|b whole.png"], pairs["b whole.png|c part.png"]
    assert (first["original"], last["original"]) == ("right", "left")
    assert first["tier"] == last["tier"] == "near"
    assert "crop" in first["changes"]
    assert "crop" in last["changes"]


def test_only_what_is_new_is_compared(stocked):
    assert stocked.scan().summary.counts["compared"] == 10
    assert stocked.scan().summary.counts["compared"] == 0
    stocked.add("new.png", 50)
    stocked.add("p1 again.bmp", 1)  # known pixels
    assert stocked.scan().summary.counts["compared"] == 1
    assert stocked.scan(Kind.FULL).summary.counts["compared"] == 11


@pytest.mark.long
def test_a_pair_is_looked_at_once(stocked, make_model, asked):
    counts = stocked.scan(where="name LIKE 'p%'").summary.counts
    assert counts["candidates"] == counts["verified"] == len(asked) == 45
    for again in (
        stocked.scan(where="name LIKE 'p%'"),
        stocked.scan(),  # another scope
        stocked.scan(model=make_model(2)),  # another space
        stocked.scan(threshold=0.5),
        stocked.scan(Kind.FULL),
    ):
        assert again.summary.counts["candidates"] == 45, "refusals are remembered as well"
        assert again.summary.counts["verified"] == 0
    stocked.add("new.png", 50)
    assert stocked.scan().summary.counts["verified"] == 10
    gone = stocked.folder / "new.png"
    hidden = gone.rename(stocked.folder.parent / "new.png")
    assert stocked.scan().summary.counts["candidates"] == 45
    hidden.rename(gone)
    back = stocked.scan().summary.counts
    assert (back["candidates"], back["verified"], back["compared"]) == (55, 0, 1)
    assert len(asked) == len(set(asked)) == 55
    assert all(left < right for left, right in asked)


def test_refusals_are_kept_without_evidence(stocked):
    rows = open_catalog(stocked.scan().scan.settings).read("pairs", ["score", "evidence"])
    refused = rows.filter(pl.col("score") < 0.5)
    assert refused.height == 41
    assert refused["evidence"].is_null().all()
    assert rows.filter(pl.col("score") >= 0.5)["evidence"].is_not_null().all()


@pytest.mark.long
def test_a_pair_without_a_thumbnail_is_asked_again(stocked, monkeypatch):
    real = verifier.answer_pair
    with monkeypatch.context() as patch:
        patch.setattr(
            verifier, "answer_pair", lambda cache, jpegs, left, right: real(cache, {}, left, right)
        )
        blind = stocked.scan()
    assert blind.summary.counts["verified"] == 0
    assert blind.summary.counts["unanswered"] == 45
    assert len(keys_of(blind)) == 1, "equal pixels need no look"
    after = stocked.scan()
    assert after.summary.counts["verified"] == 45
    assert same(after, stocked.scan(Kind.FULL, catalog="fresh"))


@pytest.mark.long
def test_pairs_whose_comparison_fails_are_counted_and_tried_again(
    stocked, monkeypatch, caplog, capsys
):
    def failing(left, right):
        if 96 in (left.size[0], right.size[0]):
            raise cv2.error("no such shape")
        return real(left, right)

    real = verify.verify_pair
    with monkeypatch.context() as patch:
        patch.setattr(verify, "verify_pair", failing)
        first = stocked.scan()
    counts = first.summary.counts
    assert (counts["verified"], counts["unanswered"]) == (36, 9)
    assert "9 pairs could not be compared" in caplog.text
    show_outcome(first, as_json=False)
    assert "9 pairs could not be compared" in capsys.readouterr().out
    caplog.clear()
    after = stocked.scan()
    counts = after.summary.counts
    assert (counts["verified"], counts["unanswered"]) == (9, 0)
    assert "could not be compared" not in caplog.text
    show_outcome(after, as_json=False)
    assert "could not be compared" not in capsys.readouterr().out


@pytest.mark.long
def test_a_small_feature_cache_gives_the_same(stocked, monkeypatch):
    usual = stocked.scan()
    monkeypatch.setattr(verifier, "_CHUNK", 6)
    monkeypatch.setattr(verifier, "FeatureCache", lambda most: FeatureCache(2))
    assert same(stocked.scan(catalog="fresh"), usual)


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
def test_any_order_of_arrival_ends_like_a_full_scan(library, monkeypatch, seed):
    monkeypatch.setenv("DAM_DEDUP_MATCH__NEIGHBOURS", "2")  # lists that are too short for all
    monkeypatch.setenv("DAM_DEDUP_MATCH__BLOCK_ROWS", "16")
    shelf = library.folder.parent / "shelf"
    shelf.mkdir()
    for number in range(24):
        picture, kind = blobs(number % 9), ("png", "jpg", "webp")[number // 9]
        width = 160 - 16 * (number % 4)
        library.write(f"{number:02}.{kind}", picture.resize((width, width * 3 // 4)))
    everything = sorted(path.name for path in library.folder.iterdir())
    for name in everything:
        (library.folder / name).rename(shelf / name)
    rng = np.random.default_rng(seed)
    for _ in range(4):
        away, here = (sorted(p.name for p in place.iterdir()) for place in (shelf, library.folder))
        for name in rng.choice(away, len(away) // 2, replace=False):
            (shelf / name).rename(library.folder / name)
        for name in rng.choice(here, min(len(here), 2), replace=False):
            (library.folder / name).rename(shelf / name)
        last = library.scan()
    assert len(last.summary.members) > 10
    assert same(last, library.scan(Kind.FULL, catalog="fresh"))


@pytest.mark.long
@pytest.mark.parametrize(
    "each", [pytest.param(True, marks=pytest.mark.long), False], ids=["each", "last"]
)
def test_incremental_equals_full_after_every_change(stocked, tmp_path, each):
    """Compared with a full scan after each change, or after the last only."""
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

    steps = [add, remove, come_while_it_is_away, bring_back, change]
    for number, step in enumerate(steps):
        step()
        last = library.scan()
        if each or step is steps[-1]:
            assert same(last, library.scan(Kind.FULL, catalog=f"fresh{number}")), step.__name__
    assert keys_of(last)[-1][:2] == ["sub/p0 big.png", "p0 late.jpg"]
    assert same(library.scan(Kind.FULL), last)


@pytest.mark.long
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


@pytest.mark.long
def test_filters_do_not_share_what_was_compared(stocked):
    small = stocked.scan(where="name LIKE 'p0%'")
    assert keys_of(small) == [["p0.png", "p0 small.jpg", "p0.jpg"]]
    assert len(keys_of(stocked.scan())) == 3
    assert same(stocked.scan(where="name LIKE 'p0%'"), small)


@pytest.mark.long
def test_thresholds_on_one_catalog(stocked):
    usual = stocked.scan()
    high = stocked.scan(threshold=0.999)
    assert set(pairs_of(high)) < set(pairs_of(usual))
    low = stocked.scan(threshold=0.5)
    assert set(pairs_of(low)) >= set(pairs_of(usual))
    assert same(low, stocked.scan(Kind.FULL, threshold=0.5, catalog="fresh"))
    again = stocked.scan()
    assert again.summary.counts["compared"] == 0, "lists know nothing of thresholds"
    assert same(again, usual)


@pytest.mark.long
def test_two_models_in_one_catalog_do_not_mix(stocked, make_model):
    other = make_model(2)
    first = stocked.scan()
    stocked.add("p4.jpg", 4)
    second = stocked.scan(model=other)
    assert same(second, stocked.scan(Kind.FULL, model=other, catalog="fresh"))
    third = stocked.scan()
    assert third.summary.space.id == first.summary.space.id
    assert same(third, stocked.scan(Kind.FULL, catalog="fresh"))


@pytest.mark.long
def test_another_rule_verifies_everything_again(stocked, monkeypatch):
    stocked.scan()
    modules = (
        "tasks.queries.pair_answers",
        "tasks.queries.scan_verifier",
        "tasks.reporting.summarize",
    )
    for module in modules:
        monkeypatch.setattr(f"{module}.rule_id", lambda: "another")
    again = stocked.scan()
    assert (again.summary.counts["compared"], again.summary.counts["verified"]) == (0, 45)
    assert len(keys_of(again)) == 3


@pytest.mark.long
def test_small_blocks_give_the_same(stocked, monkeypatch):
    usual = stocked.scan()
    monkeypatch.setenv("DAM_DEDUP_MATCH__BLOCK_ROWS", "16")
    for seed in range(100, 130):
        stocked.add(f"x{seed}.png", seed)
    many = stocked.scan()
    assert many.scan.settings.match.block_rows == 16
    assert many.summary.counts["compared"] == 30
    assert groups_of(many) == groups_of(usual)


@pytest.mark.long
def test_a_scan_killed_between_blocks_goes_on(stocked, monkeypatch):
    monkeypatch.setenv("DAM_DEDUP_MATCH__BLOCK_ROWS", "16")
    for seed in range(100, 130):
        stocked.add(f"x{seed}.png", seed)

    def cut(*args, **kwargs):
        yield next(real(*args, **kwargs))
        raise RuntimeError("power cut")

    real = brute_force.nearest
    with monkeypatch.context() as patch:
        patch.setattr(brute_force, "nearest", cut)
        with pytest.raises(RuntimeError, match="power cut"):
            stocked.scan()
    after = stocked.scan()
    assert after.summary.counts["compared"] == 40 - 16
    assert same(after, stocked.scan(Kind.FULL, catalog="fresh"))


@pytest.mark.long
def test_a_scan_killed_between_chunks_goes_on(stocked, asked, monkeypatch):
    monkeypatch.setattr(verifier, "_CHUNK", 8)
    real = verifier.ScanVerifier._verify

    def cut(self, pairs):
        chunks = real(self, pairs)
        yield next(chunks)
        yield next(chunks)
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(verifier.ScanVerifier, "_verify", cut)
        with pytest.raises(RuntimeError, match="power cut"):
            stocked.scan()
    after = stocked.scan()
    assert after.summary.counts["verified"] == 45 - 16
    assert len(asked) == len(set(asked)) == 45
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


@pytest.mark.long
def test_the_catalog_stays_free_of_duplicates(stocked):
    stocked.scan()
    stocked.scan(Kind.FULL)
    catalog = open_catalog(stocked.scan(threshold=0.5).scan.settings)
    assert catalog.duplicate_keys() == {}
    pairs = catalog.read("pairs", ["left", "right"])
    assert (pairs["left"] < pairs["right"]).all()
    assert pairs.is_unique().all()


def test_pairs_of_very_many_copies_are_listed_against_the_first(stocked):
    matches = stocked.scan().summary.pairs.filter(pl.col("evidence").is_not_null())
    count = 20_000
    assets = pl.DataFrame(
        {
            "key": [f"k{n:05}" for n in range(count)] + ["near"],
            "content": ["logo"] * count + ["x"],
            "sha256": [str(n % 2) for n in range(count)] + ["x"],
        }
    ).with_columns(
        pl.lit(160).alias("width"),
        pl.lit(120).alias("height"),
        pl.lit(9).alias("size"),
        pl.lit("png").alias("format"),
        pl.lit(None, pl.Int32).alias("quality"),
    )
    matches = pl.DataFrame(
        {"left": ["logo"], "right": ["x"], "score": [0.8], "evidence": matches["evidence"].head(1)},
        schema_overrides={"score": pl.Float32},
    )
    members = assets.select("key", pl.lit("g").alias("group_id"))
    pairs = list_pairs(assets, matches, members)
    assert pairs.height == count
    assert set(pairs["left"]) == {"k00000"}
    assert pairs.filter(pl.col("right") == "near")["tier"].to_list() == ["near"]
    assert set(pairs["relation"]) == {"duplicate"}
    apart = list_pairs(assets, matches, members.filter(pl.col("key") != "near"))
    assert dict(apart["relation"].value_counts().iter_rows()) == {
        "duplicate": count - 1,
        "related": 1,
    }
    few = list_pairs(assets.head(32), matches.clear(), members)
    assert few.height == 32 * 31 // 2
    assert (few["left"] < few["right"]).all()


def test_a_pairs_words_say_how_the_other_file_differs_from_the_one_that_stays():
    brighter = replace(SAME, gain=0.6, contrast=1.4).as_json()
    usual = {"width": 160, "height": 120, "size": 9_000, "quality": None}
    assets = pl.DataFrame(
        [
            {"key": key, "content": key, "sha256": key, "format": kind} | usual
            for key, kind in (("a", "jpeg"), ("b", "png"))
        ],
        schema_overrides={"quality": pl.Int32},
    )
    matches = pl.DataFrame(
        {"left": ["a"], "right": ["b"], "score": [0.9], "evidence": [brighter]},
        schema_overrides={"score": pl.Float32},
    )
    members = assets.select("key", pl.lit("g").alias("group_id"))
    said = {
        keeper: list_pairs(assets, matches, members, {keeper}).row(0, named=True)
        for keeper in ("a", "b")
    }
    assert [said[keeper]["original"] for keeper in ("a", "b")] == ["either", "either"]
    assert "png instead of jpeg" in said["a"]["changes"]
    assert "brighter" in said["a"]["changes"]
    assert "jpeg instead of png" in said["b"]["changes"]
    assert "darker" in said["b"]["changes"]


def states(outcome) -> list[str]:
    return sorted(outcome.summary.groups["state"])


@pytest.mark.long
def test_what_nobody_was_told_of_stays_new(stocked):
    assert states(stocked.scan(dry_run=True)) == ["new"] * 3
    assert states(stocked.scan()) == ["new"] * 3
    assert states(stocked.scan()) == ["known"] * 3


@pytest.mark.long
def test_a_scan_at_another_threshold_makes_no_news(stocked):
    stocked.scan()
    stocked.scan(threshold=0.95)
    assert states(stocked.scan()) == ["known"] * 3


@pytest.mark.long
def test_a_better_keeper_is_a_change_and_no_new_group(stocked):
    stocked.scan()
    stocked.add("p0 original.png", 0, width=640)
    outcome = stocked.scan()
    assert "p0 original.png" in outcome.summary.groups["keeper"].to_list()
    assert states(outcome) == ["changed", "known", "known"]


@pytest.mark.long
def test_the_mode_is_chosen_kept_and_told(stocked, monkeypatch):
    exact = stocked.scan()
    assert exact.summary.search["mode"] == "exact"
    asked = stocked.scan(mode="speed")
    assert asked.summary.counts["compared"] == exact.summary.counts["compared"]
    search = asked.summary.search
    assert search == {
        "mode": "speed",
        "recall": 1.0,
        "best": 1.0,
        "sample": exact.summary.counts["compared"],
        "ranked": 1.0,
        "neighbours": 30,
    }
    assert groups_of(asked) == groups_of(exact)
    monkeypatch.setenv("DAM_DEDUP_MATCH__MODE", "balanced")
    chosen = stocked.scan()
    assert chosen.summary.search["mode"] == "balanced"
    assert json.loads(groups_json(chosen.summary).body)["search"]["mode"] == "balanced"
    again, space, counts, finished = last_scan(chosen.scan.settings)
    told = summarize_scan(again, space, counts, finished)
    assert told.search == chosen.summary.search, "a report made later says the same"
    assert stocked.scan(mode="exact").summary.search["mode"] == "exact", "the request wins"


@pytest.mark.long
def test_pairs_asked_in_small_parts_are_the_same(stocked, monkeypatch):
    usual = stocked.scan()
    monkeypatch.setattr(matches, "_ASKED_AT_ONCE", 3)
    again = stocked.scan(catalog="fresh")
    assert same(again, usual)
    counts, others = again.summary.counts, usual.summary.counts
    assert {name: counts[name] for name in ("candidates", "verified", "matches")} == {
        name: others[name] for name in ("candidates", "verified", "matches")
    }


@pytest.mark.long
def test_a_refusal_is_known_by_another_process_and_not_asked_again(stocked, asked):
    stocked.scan()
    refused = answers_of(stocked.scan()).filter(pl.col("score") == 0)
    assert refused.height > 3
    assert asked, "the first scan asked"
    asked.clear()
    assert stocked.scan(Kind.FULL).summary.counts["verified"] == 0
    assert not asked


def test_refusals_are_left_out_where_nobody_asks_for_them(stocked):
    outcome = stocked.scan()
    catalog = open_catalog(outcome.scan.settings)
    everything = answers_of(outcome)
    told = read_pairs(catalog, outcome.scan, outcome.summary.space, 0.5)
    assert 0 < told.height < everything.height
    assert told.equals(everything.filter(pl.col("score") >= 0.5))
