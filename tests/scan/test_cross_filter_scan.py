"""Partial scans: filters of every kind, and scans across two of them, on real folders."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

from deployments.cli.main import main
from flows.order import render
from tasks.errors import FilterError
from tasks.queries.verdicts import Verdict, record_verdicts
from tasks.records import Kind
from tasks.reporting.summarize import last_scan, summarize_scan
from tasks.session import open_catalog
from tests.conftest import blobs

NEW, ARCHIVE = "prefix = 'new/'", "prefix = 'archive/'"


def keys_of(outcome) -> list[list[str]]:
    """Each group's keys, the keeper first."""
    members = outcome.summary.members
    return sorted(part["key"].to_list() for part in members.partition_by("group_id"))


def pairs_of(outcome) -> set[tuple[str, str]]:
    return set(outcome.summary.pairs.select("left", "right").rows())


def found(outcome) -> tuple:
    """All that a scan found, but for whether it is news."""
    summary = outcome.summary
    return (
        summary.members.select("group_id", "key", "role", "tier", "score").rows(),
        summary.pairs.rows(),
    )


def sides_of(key: str) -> set[str]:
    return {side for side in ("new", "archive") if key.startswith((f"{side}/", "both/"))}


def cross(left: str, right: str) -> bool:
    one, two = sides_of(left), sides_of(right)
    return ("new" in one and "archive" in two) or ("archive" in one and "new" in two)


@pytest.fixture
def agency(library):
    """A new delivery and an archive: copies inside each, and three pictures in both."""
    for seed in range(4):
        library.add(f"archive/{seed}.png", seed, width=240)
    library.add("archive/0 small.jpg", 0, quality=60)
    library.add("archive/1 small.jpg", 1)
    library.add("new/a0.jpg", 0)
    library.add("new/a0 again.webp", 0, quality=80)
    library.add("new/a2.png", 2, width=320)  # better than the archive's
    shutil.copy2(library.folder / "archive/3.png", library.folder / "new/a3.png")
    library.add("new/a9.png", 9)
    library.add("new/a9.jpg", 9)
    library.add("elsewhere/0.png", 0, width=480)
    return library


def test_only_pairs_between_the_two_sides(agency):
    outcome = agency.scan(where=NEW, across=ARCHIVE)
    assert outcome.summary.coverage.scanned == 12
    assert outcome.summary.coverage.skipped == {"filtered": 1}
    assert keys_of(outcome) == [
        ["archive/0.png", "new/a0 again.webp", "new/a0.jpg"],
        ["archive/3.png", "new/a3.png"],
        ["new/a2.png", "archive/2.png"],
    ]
    assert pairs_of(outcome) == {
        ("archive/0 small.jpg", "new/a0 again.webp"),
        ("archive/0 small.jpg", "new/a0.jpg"),
        ("archive/0.png", "new/a0 again.webp"),
        ("archive/0.png", "new/a0.jpg"),
        ("archive/2.png", "new/a2.png"),
        ("archive/3.png", "new/a3.png"),
    }
    assert agency.scan(where=NEW, across=ARCHIVE).summary.counts["compared"] == 0


@pytest.mark.long
def test_the_sides_may_change_places(agency):
    one = agency.scan(where=NEW, across=ARCHIVE)
    two = agency.scan(where=ARCHIVE, across=NEW)
    assert found(one) == found(two)
    assert one.scan.scope == two.scan.scope
    assert set(two.summary.groups["state"]) == {"known"}
    assert found(agency.scan(Kind.FULL, where=ARCHIVE, across=NEW)) == found(one)


def test_without_a_filter_the_own_side_is_everything(agency):
    outcome = agency.scan(across=NEW)
    assert outcome.summary.coverage.scanned == 13
    assert ["elsewhere/0.png", "new/a0 again.webp", "new/a0.jpg"] in keys_of(outcome)
    assert ["new/a9.png", "new/a9.jpg"] in keys_of(outcome), "new/ is on both sides"
    assert not [pair for pair in pairs_of(outcome) if "new/" not in "".join(pair)]


def test_a_copy_of_one_side_comes_with_its_equal_of_the_other(agency):
    shutil.copy2(agency.folder / "new/a0.jpg", agency.folder / "archive/equal.jpg")
    outcome = agency.scan(where=NEW, across=ARCHIVE)
    # It matches the keeper's picture as its equal does; the pair inside the archive is not listed.
    home = ["archive/0.png", "archive/equal.jpg", "new/a0 again.webp", "new/a0.jpg"]
    assert home in keys_of(outcome)
    assert ("archive/equal.jpg", "new/a0.jpg") in pairs_of(outcome)
    assert all(cross(*pair) for pair in pairs_of(outcome))


def test_who_is_on_both_sides_counts_for_both(agency):
    agency.add("both/0.jpg", 0, quality=70)
    agency.add("both/9.jpg", 9, quality=60)
    where, across = f"{NEW} OR prefix = 'both/'", f"{ARCHIVE} OR prefix = 'both/'"
    outcome = agency.scan(where=where, across=across)
    assert ["new/a9.png", "both/9.jpg"] in keys_of(outcome)
    assert all(cross(*pair) for pair in pairs_of(outcome))
    assert ("archive/0.png", "both/0.jpg") in pairs_of(outcome)
    assert ("both/0.jpg", "new/a0.jpg") in pairs_of(outcome)


@pytest.mark.long
def test_news_of_other_scans_stays_untouched(agency):
    everything = agency.scan()
    own = agency.scan(where=NEW)
    across = agency.scan(where=NEW, across=ARCHIVE)
    assert len({scan.scan.scope for scan in (everything, own, across)}) == 3
    assert set(across.summary.groups["state"]) == {"new"}
    assert set(agency.scan().summary.groups["state"]) == {"known"}
    assert found(agency.scan()) == found(everything)
    assert found(agency.scan(where=NEW)) == found(own)
    assert not agency.scan(where=NEW, across=ARCHIVE).summary.has_news


@pytest.mark.long
def test_a_crowded_own_side_hides_nothing(library, monkeypatch):
    monkeypatch.setenv("DAM_DEDUP_MATCH__NEIGHBOURS", "3")
    # Thirty copies of one picture, a pixel apart: closer to one another than to the archive's.
    for number in range(30):
        picture = blobs(5)
        picture.putpixel((number, 0), (0, 0, 0))
        library.write(f"new/{number:02}.png", picture)
    library.add("archive/small.jpg", 5, width=96, quality=60)
    for seed in range(20, 22):
        library.add(f"archive/{seed}.png", seed)
    outcome = library.scan(where=NEW, across=ARCHIVE)
    pairs = pairs_of(outcome)
    assert {pair for pair in pairs if "archive/small.jpg" not in pair} == set()
    # Every copy lists the few of the other side, however many copies are closer.
    assert pairs == {("archive/small.jpg", f"new/{number:02}.png") for number in range(30)}
    assert len(keys_of(outcome)) == 1
    assert outcome.summary.counts["candidates"] == 30 * 3
    usual = [pair for pair in pairs_of(library.scan()) if not cross(*pair)]
    assert len(usual) > 30, "there the crowd fills the lists"


def test_equal_files_in_crowds_meet_across(library):
    for number in range(40):
        library.add(f"new/{number:02}.png", 5)
    library.add("archive/last.bmp", 5)
    for number in range(40):
        library.add(f"new/own {number:02}.png", 6)  # no copy elsewhere
    outcome = library.scan(where=NEW, across=ARCHIVE)
    assert pairs_of(outcome) == {
        ("archive/last.bmp", f"new/{number:02}.png") for number in range(40)
    }
    assert [len(keys) for keys in keys_of(outcome)] == [41]


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
def test_any_order_ends_like_a_full_scan(library, monkeypatch, seed):
    monkeypatch.setenv("DAM_DEDUP_MATCH__NEIGHBOURS", "2")
    monkeypatch.setenv("DAM_DEDUP_MATCH__BLOCK_ROWS", "16")
    shelf = library.folder.parent / "shelf"
    rng = np.random.default_rng(seed)
    places = ["new", "archive", "both"]
    for number in range(20):
        width = 160 - 16 * (number % 4)
        picture, kind = blobs(number % 7), ("png", "jpg", "webp")[number // 7]
        library.write(
            f"{places[number % 3]}/{number:02}.{kind}", picture.resize((width, width * 3 // 4))
        )
    shutil.copytree(library.folder, shelf)
    names = sorted(path.relative_to(shelf) for path in shelf.rglob("*.*"))
    for name in names:
        (library.folder / name).unlink()
    request = {"where": f"{NEW} OR prefix = 'both/'", "across": f"{ARCHIVE} OR prefix = 'both/'"}
    for _ in range(4):
        for number in rng.choice(len(names), 9, replace=False):
            shutil.copy2(shelf / names[number], library.folder / names[number])
        for number in rng.choice(len(names), 3, replace=False):
            (library.folder / names[number]).unlink(missing_ok=True)
        mover = names[int(rng.integers(len(names)))]  # changes sides
        if (library.folder / mover).exists():
            (library.folder / mover).rename(library.folder / "archive" / mover.name)
        last = library.scan(**request)
    assert all(cross(*pair) for pair in pairs_of(last))
    assert last.summary.members.height > 6
    fresh = library.scan(Kind.FULL, catalog="fresh", **request)
    assert found(last) == found(fresh)
    assert found(library.scan(Kind.FULL, **request)) == found(last)


@pytest.mark.long
def test_verdicts_count_across_and_make_no_group_inside_one_side(agency):
    outcome = agency.scan(where=NEW, across=ARCHIVE)
    settings = outcome.scan.settings
    said = [
        ("new/a0.jpg", "new/a9.png", "duplicate"),
        ("archive/2.png", "new/a2.png", "distinct"),
        ("archive/1 small.jpg", "new/a9.jpg", "duplicate"),
    ]
    record_verdicts(settings, [Verdict(*words) for words in said], by="anna", channel="test")
    assert keys_of(agency.scan(where=NEW, across=ARCHIVE)) == [
        ["archive/0.png", "new/a0 again.webp", "new/a0.jpg"],
        ["archive/3.png", "new/a3.png"],
        ["new/a9.jpg", "archive/1 small.jpg"],
    ]


def test_filter_queries_hold_with_the_filter(agency):
    outcome = agency.scan(where=f"{NEW} OR {ARCHIVE}", fq=["-extension:webp", "size:[1 TO *]"])
    assert "new/a0 again.webp" not in str(keys_of(outcome))
    assert outcome.summary.coverage.skipped == {"filtered": 2}
    assert outcome.scan.where == (
        f"({NEW} OR {ARCHIVE}) AND ((extension <> 'webp' OR extension IS NULL) AND size >= 1)"
    )
    for wrong in ({"fq": ["lable:x"]}, {"across": "lable = 'x'"}, {"where": "a) OR (b"}):
        with pytest.raises(FilterError):
            agency.scan(**wrong)


@pytest.mark.long
def test_a_rolling_window_is_one_scope(agency):
    week = agency.scan(fq=["last_modified:[NOW-100YEARS/DAY TO NOW]"])
    assert set(week.summary.groups["state"]) == {"new"}
    again = agency.scan(fq=["last_modified:[NOW-100YEARS/DAY TO NOW]"])
    assert set(again.summary.groups["state"]) == {"known"}
    assert again.summary.counts["compared"] == 0
    assert again.scan.scope != agency.scan().scan.scope


@pytest.mark.long
def test_the_report_names_both_filters_also_later(agency):
    outcome = agency.scan(where=NEW, across=ARCHIVE)
    again, space, counts, finished = last_scan(outcome.scan.settings)
    assert (again.where, again.across) == (NEW, ARCHIVE)
    summary = summarize_scan(again, space, counts, finished)
    assert summary.pairs.equals(outcome.summary.pairs)
    documents = {
        document.name: document.body.decode()
        for document in render(summary)
        if not document.name.endswith((".parquet", ".jpg"))
    }
    assert "only across to" in documents["report.html"]
    assert "archive/" in documents["report.html"]
    told = json.loads(documents["groups.json"])["scan"]
    assert (told["where"], told["across"]) == (NEW, ARCHIVE)
    agency.scan()
    assert last_scan(outcome.scan.settings)[0].across == ""
    assert open_catalog(outcome.scan.settings).duplicate_keys() == {}


def test_the_command_takes_several(agency, monkeypatch, capsys):
    monkeypatch.setenv("DAM_DEDUP_EMBEDDING__MODEL", str(agency.model))
    monkeypatch.setenv("DAM_DEDUP_EMBEDDING__POOLING", "cls")

    def run(*words: str) -> tuple[int, str]:
        given = ["dam-dedup", "scan", "--source", str(agency.folder), "--json", *words]
        monkeypatch.setattr(sys, "argv", given)
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out or err

    where = ["--where", f"{NEW} OR prefix = 'elsewhere/'", "--where", "size > 1"]
    fq = ["--fq", "-extension:webp", "--fq", "-prefix:else*"]
    code, out = run(*where, *fq, "--reference-where", ARCHIVE)
    assert code == 0, out
    answer = json.loads(out)
    assert answer["coverage"]["scanned"] == 11
    assert answer["totals"]["groups"] == 3
    assert answer["across"] == ARCHIVE
    code, out = run("--fq", "-lable:x")
    assert code == 2
    assert "character 2: no field 'lable'" in out
    assert run("--where", "size > 1) OR (size < 1", "--where", "size > 1")[0] == 2
