"""History: what scans found, and reports made again as they were."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from flows.order import render
from tasks.records import Kind
from tasks.reporting.history import PAST, read_history, read_kept
from tasks.reporting.summarize import last_scan, summarize_scan
from tasks.session import open_catalog


def documents(outcome, scan_id: str | None = None) -> dict[str, bytes]:
    """The documents of a scan, as they would be made now."""
    scan, space, counts, finished = last_scan(outcome.scan.settings, scan_id or outcome.scan.id)
    summary = summarize_scan(scan, space, counts, finished)
    assert summary.lost == ()
    return {one.name: one.body for one in render(summary)}


@pytest.fixture
def filled(library):
    library.add("a.png", 1, width=320)
    library.add("b.jpg", 1)
    library.add("c.bmp", 2)
    library.write("notes.txt", b"no picture")
    return library


@pytest.mark.long
def test_a_report_is_made_again_byte_for_byte_after_the_collection_changed(filled):
    first = filled.scan()
    delivered = {one.name: one.body for one in render(first.summary)}
    assert documents(first) == delivered

    filled.add("d.png", 2, width=320)  # another group
    filled.add("b.jpg", 5)  # no copy any more
    (filled.folder / "notes.txt").unlink()
    filled.write("cut.jpg", b"\xff\xd8\xff" + b"x" * 500)
    second = filled.scan()
    later = {one.name: one.body for one in render(second.summary)}
    (filled.folder / "a.png").unlink()
    filled.add("f.png", 2, width=200)
    third = filled.scan(Kind.FULL)  # which tidies every table

    assert third.summary.groups.height == second.summary.groups.height == 1
    assert documents(first) == delivered
    assert documents(second) == later
    assert (
        json.loads(delivered["groups.json"])["groups"] != json.loads(later["groups.json"])["groups"]
    )
    assert b"notes.txt" in delivered["coverage.csv"]


@pytest.mark.long
def test_what_was_tidied_away_is_said(filled):
    first = filled.scan()
    filled.add("d.png", 2, width=320)
    filled.scan()
    catalog = open_catalog(first.scan.settings)
    with catalog.writing(5):
        catalog.table("assets").optimize(cleanup_older_than=timedelta(0))
    scan, space, counts, finished = last_scan(first.scan.settings, first.scan.id)
    summary = summarize_scan(scan, space, counts, finished)
    assert summary.lost == ("the old version of the table assets was tidied away",)
    assert summary.coverage.scanned == 4, "as it is now"


def test_versions_are_kept_as_long_as_the_settings_say(filled, monkeypatch):
    asked = []
    monkeypatch.setenv("DAM_DEDUP_CATALOG__KEEP_DAYS", "90")
    monkeypatch.setattr(
        "tasks.catalog.catalog.Catalog.tidy", lambda _, **given: asked.append(given["keep_days"])
    )
    filled.scan()
    assert asked == [90]


@pytest.mark.long
def test_the_history_lists_every_scan(filled):
    first = filled.scan()
    filled.add("d.png", 2, width=320)
    second = filled.scan()
    rows = read_history(first.scan.settings)
    assert dict(rows.schema) == {name: rows.schema[name] for name in PAST}
    assert rows["scan_id"].to_list() == [first.scan.id, second.scan.id]
    assert rows["groups"].to_list() == [1, 2]
    assert rows["duplicates"].to_list() == [1, 2]
    assert rows["new"].to_list() == [1, 1]
    assert rows["savings"].to_list() == [
        int(o.summary.groups["savings"].sum()) for o in (first, second)
    ]
    assert rows["realised"].to_list() == [0, 0]
    listed = json.loads(documents(second)["history.json"])["scans"]
    assert [row["groups"] for row in listed] == [1, 2]
    assert listed[-1]["scan_id"] == second.scan.id
    assert [row["groups"] for row in json.loads(documents(first)["history.json"])["scans"]] == [1]


@pytest.mark.long
def test_failed_scans_are_listed_and_count_nothing(filled, monkeypatch):
    first = filled.scan()
    with monkeypatch.context() as broken:
        broken.setattr("tasks.scan.sync.open_source", _no_light)
        with pytest.raises(OSError, match="no light"):
            filled.scan()
    filled.add("d.png", 2, width=320)
    last = filled.scan()
    monkeypatch.setenv("DAM_DEDUP_CATALOG__URI", first.scan.settings.catalog.uri)
    rows = json.loads(CliRunner().invoke(app, ["history", "--json"]).stdout)
    assert [row["state"] for row in rows] == ["finished", "failed: OSError", "finished"]
    assert rows[1]["groups"] is None
    assert (rows[2]["scan_id"], rows[2]["groups_by"]) == (last.scan.id, 1)
    shown = CliRunner().invoke(app, ["history"]).stdout
    assert "failed: OSError" in shown


def _no_light(*_):
    raise OSError("no light")


@pytest.mark.long
def test_only_scans_of_the_same_assets_are_in_a_reports_history(filled):
    filled.scan()
    filled.scan(where="size > 1")
    filled.scan(dry_run=True)
    last = filled.scan()
    listed = json.loads(documents(last)["history.json"])["scans"]
    assert len(listed) == 2


def test_a_scan_of_an_older_program_is_listed_with_what_is_known(filled):
    outcome = filled.scan()
    catalog = open_catalog(outcome.scan.settings)
    with catalog.writing(5):
        catalog.delete_keys("reports", [outcome.scan.id])
    (row,) = read_history(outcome.scan.settings).to_dicts()
    assert (row["groups"], row["duplicates"], row["savings"]) == (1, 1, None)
    scan, space, counts, finished = last_scan(outcome.scan.settings)
    assert summarize_scan(scan, space, counts, finished).lost == (
        "its tables' versions were not kept",
    )


def test_no_signed_link_is_kept(filled):
    outcome = filled.scan()
    kept = read_kept(open_catalog(outcome.scan.settings), outcome.scan.id)
    assert kept.plan is None
    assert kept.finished == outcome.summary.finished


def test_stages_are_timed(filled):
    outcome = filled.scan()
    assert set(outcome.summary.stages) == {
        "sync",
        "embed",
        "propose",
        "verify",
        "prove",
        "group",
        "screen",
        "plan",
    }
    assert sum(outcome.summary.stages.values()) <= outcome.summary.seconds + 0.01


# ---- on the command line -----------------------------------------------------------------------


def run(outcome, *words: str):
    uri = outcome.scan.settings.catalog.uri
    return CliRunner().invoke(app, [*words, "--catalog", uri])


@pytest.mark.long
def test_the_command_lists_scans_with_their_trend(filled):
    first = filled.scan()
    filled.add("d.png", 2, width=320)
    second = filled.scan()
    shown = run(first, "history")
    assert shown.exit_code == 0
    lines = {line.split()[0]: line for line in shown.output.splitlines() if line.strip()}
    assert "(+1)" in lines[second.scan.id]
    assert "(+" not in lines[first.scan.id]
    rows = json.loads(run(first, "history", "--json").output)
    assert [row["groups_by"] for row in rows] == [None, 1]


@pytest.mark.long
def test_the_report_command_warns_of_what_it_cannot_make_again(filled, monkeypatch, tmp_path):
    outcome = filled.scan()
    out = str(tmp_path / "again")
    words = ("report", outcome.scan.id, "--out", out)
    assert "cannot be made exactly" not in run(outcome, *words).stderr
    assert (tmp_path / "again" / "groups.json").read_bytes() == documents(outcome)["groups.json"]
    catalog = open_catalog(outcome.scan.settings)
    with catalog.writing(5):
        catalog.delete_keys("reports", [outcome.scan.id])
    warned = run(outcome, *words)
    assert warned.exit_code == 0
    assert "cannot be made exactly as it was: its tables' versions were not kept" in warned.stderr
