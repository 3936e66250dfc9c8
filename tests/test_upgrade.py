"""What the first release left is carried on: merges, plans, verdicts, reports, scans."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import lancedb
import polars as pl
import pytest

from flows.order import render, run_scan
from reports.page import totals
from tasks.catalog.catalog import Catalog
from tasks.dedup.verify import rule_id
from tasks.intake.alerts import read_alerts
from tasks.intake.blocklist import list_blocked
from tasks.intake.ingest import answer, list_questions, read_admissions
from tasks.merging.audit import read_audit
from tasks.merging.decide import decide
from tasks.merging.journal import read_plan
from tasks.merging.merge import merge_plan
from tasks.merging.quarantine import list_quarantine
from tasks.merging.rules import plan_forms, plans
from tasks.merging.rules.plans import OperationKind
from tasks.merging.undo import undo_merge
from tasks.queries.verdicts import read_verdicts
from tasks.records import Kind
from tasks.reporting.history import read_history
from tasks.reporting.summarize import last_scan, summarize_scan
from tasks.requests import ScanRequest
from tasks.session import open_catalog
from tasks.settings import Settings, load_settings
from tests.catalog.old_release import OldRelease, rows_of, unpack
from tests.conftest import first_of


class Site:
    """The old catalog and its bucket, and this release's settings for them."""

    def __init__(self, old: OldRelease, folder: Path, s3: Any) -> None:
        self.told, self.client = old.told, s3.client
        self.catalog = folder / "catalog"
        shutil.copytree(old.catalog, self.catalog)
        old.fill(s3.client)
        (folder / "policy.yaml").write_text(self.told["policy"])
        settings = load_settings(
            catalog={"uri": str(self.catalog)},
            source={"uri": f"s3://{self.told['bucket']}"},
            delivery={"folder": folder / "reports"},
            merge={"policy": folder / "policy.yaml"},
        )
        self.settings: Settings = settings.model_copy(update={"s3": s3.settings})

    def listed(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.told["bucket"])["Contents"]
        return sorted(one["Key"] for one in found)

    def object(self, key: str) -> tuple[str, dict[str, str], dict[str, str]]:
        """ETag, tags and user metadata."""
        where = {"Bucket": self.told["bucket"], "Key": key}
        got = self.client.head_object(**where)
        tags = self.client.get_object_tagging(**where)["TagSet"]
        return got["ETag"], {one["Key"]: one["Value"] for one in tags}, got["Metadata"]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> OldRelease:
    found = unpack(tmp_path_factory.mktemp("old"))
    # What pixels say of a pair belongs to a rule. Another rule looks again, and must: whether the
    # migration keeps the answers is seen only where the rule is the one they were given under.
    pairs = lancedb.connect(found.catalog).open_table("pairs")
    if pairs.to_arrow()["rule"][0].as_py() != rule_id():
        pairs.update(values={"rule": rule_id()})
    return found


@pytest.fixture
def site(s3: Any, old: OldRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DAM_DEDUP_")]:
        monkeypatch.delenv(name)
    return Site(old, tmp_path, s3)


def test_the_merge_of_the_old_release_is_undone(site: Site) -> None:
    (group,) = site.told["plans"][site.told["merged"]]["groups"]
    states = {state["key"]: state for state in group["states"] if state["etag"]}
    assert set(states) == {"a/big.jpg", "a/same.jpg", "b/small.jpg", "b/small.xmp"}
    assert not {"a/same.jpg", "b/small.jpg"} & set(site.listed())
    assert [one.key for one in list_quarantine(site.settings)] == [
        one["key"] for one in site.told["quarantine"]
    ]
    outcomes = undo_merge(site.settings, site.told["merged"], by="anna")
    assert {one.state for one in outcomes} == {"undone"}
    for key, state in states.items():
        assert site.object(key) == (state["etag"], state["tags"], state["metadata"])
    assert "a/big.jpg.xmp" not in site.listed()
    # The copies stay for an hour: a request that is still on its way must find something left.
    copies = {key for key in site.listed() if key.startswith(".dam-dedup/quarantine/")}
    kept = list_quarantine(site.settings)
    assert {one.at for one in kept} == copies
    assert {one.state for one in kept} == {"released"}


@pytest.mark.long
def test_the_open_plan_of_the_old_release_is_approved_and_merged(site: Site) -> None:
    """Once a scan has compared its originals, which that release did not."""
    catalog = open_catalog(site.settings)
    told = site.told["plans"][site.told["open"]]
    plan = read_plan(catalog, site.told["open"])
    assert plan.hash == told["hash"]
    assert [group.keeper for group in plan.groups] == [one["keeper"] for one in told["groups"]]
    decide(site.settings, plan.id, "approve", by="ben")
    before = set(site.listed())
    for group in merge_plan(site.settings, plan.id, by="ben").groups:
        assert group.state == "refused"
        assert "not compared at full size yet, scan again" in group.why
    assert before <= set(site.listed()), "nothing left"
    run_scan(ScanRequest(kind=Kind.INCREMENTAL), site.settings)
    outcome = merge_plan(site.settings, plan.id, by="ben")
    assert outcome.complete
    assert [one.state for one in outcome.groups] == ["merged"] * 3
    leaving = {key for group in plan.groups for key in group.duplicates}
    assert len(leaving) == 3
    assert not leaving & set(site.listed())
    assert site.object("c/open.jpg")[1] == {"owner": "south", "keywords": "dune"}
    undo_merge(site.settings, plan.id, by="ben")
    assert leaving <= set(site.listed())


@pytest.mark.long
def test_a_release_with_another_form_of_plans_carries_the_open_plan_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "PLAN_FORM", 2)
    monkeypatch.setitem(plan_forms.NEXT_FORM, 1, lambda plan: plan | {"quarantine_days": 7})
    plan = read_plan(open_catalog(site.settings), site.told["open"])
    assert (plan.form, plan.quarantine_days) == (1, 7)
    decide(site.settings, plan.id, "approve", by="ben")
    run_scan(ScanRequest(kind=Kind.INCREMENTAL), site.settings)
    assert merge_plan(site.settings, plan.id, by="ben").complete
    undone = undo_merge(site.settings, site.told["merged"], by="ben")
    assert {one.state for one in undone} == {"undone"}


@pytest.mark.long
def test_reports_of_old_scans_open_as_they_were(site: Site) -> None:
    assert len(site.told["scans"]) == 4
    for scan_id in site.told["scans"]:
        told = site.told["reports"][scan_id]
        summary = summarize_scan(*last_scan(site.settings, scan_id))
        assert not [text for text in summary.lost if "tidied" in text or "not kept" in text]
        # What could be saved counts what the plan moves, sidecars among it; it did not before.
        savings = {"savings": totals(summary)["savings"]}
        assert totals(summary) == told["totals"] | savings
        moved = [
            operation.before.size
            for group in (summary.planned.groups if summary.planned else ())
            for operation in group.operations
            if operation.kind is OperationKind.DELETE and operation.key.endswith(".xmp")
        ]
        assert savings["savings"] == told["totals"]["savings"] + sum(moved)
        assert (summary.where, summary.across) == (told["where"], told["across"])
        assert summary.counts == told["counts"]
        assert render(summary), scan_id
    assert told["scan"] == site.told["last"]["scan"]
    assert summary.search["mode"] == "balanced"
    columns = ["scan_id", "groups", "duplicates", "savings", "realised"]
    rows = read_history(site.settings).select(columns).to_dicts()
    assert rows == [{name: one[name] for name in columns} for one in site.told["history"]]


def test_what_people_and_rules_said_is_still_said(site: Site) -> None:
    catalog = open_catalog(site.settings)
    said = read_verdicts(catalog).select("left_key", "right_key", "verdict", "by", "channel")
    assert said.rows() == [
        ("d/right.jpg", "d/left.jpg", "distinct", "ben", "cli"),
        ("archive/two.jpg", "archive/one.jpg", "linked", "ben", "cli"),
    ]
    for rows, told in (
        (read_audit(site.settings), site.told["audit"]),
        (read_alerts(catalog), site.told["alerts"]),
        (list_questions(site.settings), site.told["questions"]),
        (list_blocked(site.settings), site.told["blocklist"]),
    ):
        assert rows.height == len(told) > 0
        new = {"door": "channel", "answers": "answer_to", "plain": "featureless"}
        names = [name for name in told[0] if name not in ("at", "removed_at")]
        ours = rows.select([new.get(name, name) for name in names]).to_dicts()
        assert [list(row.values()) for row in ours] == [
            [row[name] for name in names] for row in told
        ]


@pytest.mark.parametrize("mode", first_of("exact", "balanced"))
def test_a_scan_of_nothing_new_looks_at_no_pair_again(
    site: Site, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if no decoder had changed since: what a new one would read anew is not the catalog's doing.
    monkeypatch.setattr("tasks.queries.readings.READER_VERSION", 1)
    centroids = [dict(row)["centres"] for row in rows_of(site.catalog)["cells"]]
    request = ScanRequest(kind=Kind.INCREMENTAL, mode=mode)
    outcome = run_scan(request, site.settings)
    counts = outcome.summary.counts
    assert counts["verified"] == 0
    assert (counts["read"], counts["embedded"], counts["alerts_new"]) == (0, 0, 0)
    assert totals(outcome.summary) == site.told["reports"][site.told["scans"][-1]]["totals"]
    kept = open_catalog(site.settings).read("centroids", ["centroids"])["centroids"].to_list()
    assert kept == (centroids if mode == "balanced" else [])
    judged = outcome.summary.members.filter(pl.col("key").str.starts_with("d/"))
    assert judged.is_empty(), "people said that they are distinct"


def test_the_upload_that_waits_for_an_answer_is_answered(site: Site) -> None:
    question = site.told["upload"]["id"]
    assert answer(site.settings, question, "reject", by="anna") == ""
    assert list_questions(site.settings).is_empty()
    assert read_admissions(site.settings)["answer_to"].to_list() == [None, question]


def test_the_catalog_is_at_rest_afterwards(site: Site) -> None:
    catalog = Catalog(str(site.catalog))
    assert catalog.up_to_date
    assert catalog.duplicate_keys() == {}
