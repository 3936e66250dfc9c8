"""The blocklist and alert pairs in scans: what is told, once, and of what came before the entry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reports.run import summary_markdown
from tasks.dedup.resemblance import COSINE, PHASH_DISTANCE, resembling
from tasks.errors import CatalogError, SettingsError
from tasks.intake.alerts import read_alerts
from tasks.intake.blocklist import Suspect, block_asset, find_alerts, list_blocked, unblock
from tasks.records import Kind
from tasks.session import open_catalog
from tests.conftest import blobs

PAIRS = """
version: 1
name: pairs
rules: [{name: all}]
alerts:
  - name: agency against archive
    left: {where: "prefix = 'agency/'"}
    right: {where: "prefix = 'archive/'"}
"""


def told(outcome) -> list[tuple[str, str, str, str, str]]:
    columns = ["rule", "left", "right", "relation", "state"]
    return sorted(outcome.summary.alerts.select(columns).rows())


def block(outcome, key: str, rule: str = "rights") -> str:
    return block_asset(outcome.scan.settings, key, reason="taken down", rule=rule, by="anna")


@pytest.mark.long
def test_new_assets_are_held_against_the_blocklist_and_told_once(library) -> None:
    library.add("bad.png", 1)
    library.add("other.png", 2)
    first = library.scan()
    entry = block(first, "bad.png")
    (library.folder / "bad.png").unlink()
    library.add("again.png", 1)
    library.add("pixels.bmp", 1)
    library.add("small.jpg", 1, width=140, quality=90)
    library.add("innocent.png", 3)
    second = library.scan()
    relations = {row[1]: row[3] for row in told(second)}
    # pixels.bmp is the same content as again.png: one alert for each content.
    assert relations == {"again.png": "equal bytes", "small.jpg": "resembles"}
    assert second.summary.counts["alerts_new"] == 2
    row = second.summary.alerts.filter(relation="resembles").row(0, named=True)
    assert row["entry_id"] == entry
    assert "unverified" in row["evidence"]
    third = library.scan()
    assert third.summary.counts["alerts_new"] == 0
    assert {row[4] for row in told(third)} == {"known"}
    again = library.scan(Kind.FULL)
    assert told(again) == told(third)


@pytest.mark.long
def test_an_entry_is_held_against_what_is_there_and_a_removed_one_is_not(library) -> None:
    library.add("a.png", 1)
    library.add("copies/a.jpg", 1, quality=95)
    entry = block(library.scan(), "a.png")
    found = library.scan()
    assert [row[1:4] for row in told(found)] == [
        ("a.png", "a.png", "equal bytes"),
        ("copies/a.jpg", "a.png", "resembles"),
    ]
    settings = found.scan.settings
    assert block(found, "a.png") == entry  # the same picture, the same rule
    assert block(found, "a.png", "other") != entry
    assert len(told(library.scan())) == 4
    unblock(settings, entry[:8], by="ben")
    assert {row[0] for row in told(library.scan())} == {"other"}
    assert list_blocked(settings).height == 1
    gone = list_blocked(settings, removed=True).row(0, named=True)
    assert (gone["removed_by"], gone["by"], gone["reason"]) == ("ben", "anna", "taken down")


def test_no_picture_is_kept_of_an_entry(library) -> None:
    library.add("a.png", 1)
    outcome = library.scan()
    block(outcome, "a.png")
    catalog = open_catalog(outcome.scan.settings)
    fields = {
        field.name: str(field.type)
        for name in ("blocklist", "blocklist_vectors")
        for field in catalog.table(name).schema
    }
    assert not [name for name, kind in fields.items() if "binary" in kind]
    assert "thumbnail" not in fields


def test_entries_need_reason_rule_and_person(library) -> None:
    library.add("a.png", 1)
    settings = library.scan().scan.settings
    for missing in ("reason", "rule", "by"):
        words = {"reason": "r", "rule": "r", "by": "r"} | {missing: " "}
        with pytest.raises(SettingsError, match=f"--{missing}"):
            block_asset(settings, "a.png", **words)
    with pytest.raises(CatalogError, match="not known"):
        block_asset(settings, "b' OR 1=1 --", reason="r", rule="r", by="b")
    with pytest.raises(CatalogError, match="0 entries"):
        unblock(settings, "feed", by="anna")
    assert list_blocked(settings, removed=True).is_empty()


def test_pictures_that_show_nothing_resemble_nothing(library) -> None:
    library.add("a.png", 1)
    outcome = library.scan()
    block(outcome, "a.png")
    catalog, space = open_catalog(outcome.scan.settings), outcome.summary.space
    row = catalog.read("assets", ["content", "phash"]).row(0, named=True)
    vector = catalog.read_arrow(f"vectors_{space.id}", ["vector"])["vector"][0].as_py()
    one = Suspect("x", "s", "no", "no", row["phash"], vectors={space.id: np.array(vector, "f2")})
    assert [alert.relation for alert in find_alerts(catalog, [one], space.id)] == ["resembles"]
    plain = Suspect("x", "s", "no", "no", row["phash"], True, one.vectors)
    assert find_alerts(catalog, [plain], space.id) == []
    foreign = Suspect("x", "s", "no", "no", row["phash"], vectors={"other": one.vectors[space.id]})
    assert find_alerts(catalog, [foreign], space.id) == []


def test_hash_and_vector_must_both_agree() -> None:
    known = np.array([0], np.uint64), np.array([[1, 0]], np.float16)
    far = (1 << (PHASH_DISTANCE + 1)) - 1
    slope = [COSINE - 0.05, (1 - (COSINE - 0.05) ** 2) ** 0.5]
    phashes = np.array([0, far, 0, far >> 1], np.uint64)
    vectors = np.array([[1, 0], [1, 0], slope, [1, 0]], np.float16)
    rows = [(row, distance) for row, _, distance, _ in resembling(phashes, vectors, *known)]
    assert rows == [(0, 0), (3, PHASH_DISTANCE)]


@pytest.fixture
def pairs_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(PAIRS)
    monkeypatch.setenv("DAM_DEDUP_MERGE__POLICY", str(path))
    return path


@pytest.mark.long
def test_copies_across_two_sets_raise_an_alert_with_the_evidence(library, pairs_policy) -> None:
    library.add("archive/one.png", 1)
    library.add("archive/two.png", 2)
    library.add("agency/own.png", 3)
    library.add("agency/own-copy.png", 3, width=120)  # inside one set: no business of the rule
    first = library.scan()
    assert told(first) == []
    library.write("agency/stolen.jpg", blobs(1).crop((10, 8, 150, 110)), quality=90)
    library.add("agency/same.png", 2)
    second = library.scan()
    assert [row[:4] for row in told(second)] == [
        ("agency against archive", "agency/same.png", "archive/two.png", "equal bytes"),
        ("agency against archive", "agency/stolen.jpg", "archive/one.png", "verified"),
    ]
    row = second.summary.alerts.filter(relation="verified").row(0, named=True)
    assert "cropped" in row["evidence"]
    assert row["score"] >= 0.7
    library.add("archive/late.png", 3, width=150)  # what comes to the right is found as well
    third = library.scan()
    news = [row[1:3] for row in told(third) if row[4] == "new"]
    assert {right for _, right in news} == {"archive/late.png"}
    assert "### Alerts" in summary_markdown(third.summary, [])
    document = json.loads(
        next(Path(r.place).read_text() for r in third.receipts if r.name == "alerts.json")
    )
    assert {alert["rule"] for alert in document["alerts"]} == {"agency against archive"}


def test_a_screening_that_died_raises_its_alerts_later_and_only_once(
    library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add("a.png", 1)
    block(library.scan(), "a.png")
    with monkeypatch.context() as patch:
        patch.setattr("tasks.intake.screen._remember", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            library.scan()
    outcome = library.scan()
    assert len(told(outcome)) == 1
    assert read_alerts(open_catalog(outcome.scan.settings)).height == 1
