"""A reviewer's signed link: made by a scan, for the groups of that reviewer's part."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from deployments.gate.forms import Form
from deployments.gate.review_actions import decide_form
from tasks.errors import MergeError
from tasks.merging.approvals import read_token
from tasks.merging.journal import read_decisions, read_plan
from tasks.reporting.history import read_history, read_kept
from tasks.session import open_catalog
from tasks.settings import MailSettings

from .conftest import POLICY, encoded, picture

OWNER, ANNA, BEN = "owner@example.test", "anna@example.test", "ben@example.test"


@pytest.fixture
def mailed(site, tmp_path, monkeypatch):
    """A bucket of two departments, scanned under a policy; what was sent is kept here."""
    for place, tag, seed in (("shoes", "anna", 1), ("hats", "ben", 2), ("", "ben", 3)):
        site.put(f"{place or 'shoes'}/{seed}.png", encoded(picture(seed, 320)), {"owner": tag})
        site.put(f"{place or 'hats'}/{seed}-copy.png", encoded(picture(seed, 320)), {"owner": tag})
    sent = []
    monkeypatch.setattr("tasks.reporting.deliver.send", lambda _, mail: sent.append(mail) or [])
    (tmp_path / "policy.yaml").write_text(POLICY % "quarantine")
    people = {ANNA: ["shoes/"], BEN: "tags.owner = 'ben' and key LIKE 'hats/%'"}
    outcome = site.scan(
        mail=MailSettings(to=[OWNER], reviewers=people),
        merge=site.settings.merge.model_copy(
            update={
                "policy": tmp_path / "policy.yaml",
                "gate_url": "https://gate.example.test",
                "secret": SecretStr("s" * 40),
            }
        ),
    )
    return outcome, sent


def claim_of(outcome, person: str):
    return read_token(outcome.scan.settings, outcome.summary.plan.pages[person].rsplit("/", 1)[-1])


def test_each_link_is_for_its_readers_groups(mailed):
    outcome, sent = mailed
    plan = read_plan(open_catalog(outcome.scan.settings), outcome.summary.plan.id)
    claims = {person: claim_of(outcome, person).groups(plan) for person in (OWNER, ANNA, BEN)}
    assert claims[OWNER] is None
    assert {plan.group(next(iter(claims[who]))).keeper[:4] for who in (ANNA, BEN)} == {
        "shoe",
        "hats",
    }
    assert len(claims[ANNA]) == len(claims[BEN]) == 1
    text = {str(mail["To"]): mail.get_body(("plain",)).get_content() for mail in sent}
    for person, link in outcome.summary.plan.pages.items():
        assert link in text[person]
        assert [who for who, said in text.items() if link in said] == [person]
        end = f"{claim_of(outcome, person).until:%Y-%m-%d %H:%M} UTC"
        assert f"The link to review works until {end}." in text[person]


def test_the_owner_decides_on_what_lies_across(mailed):
    outcome, _ = mailed
    settings = outcome.scan.settings
    plan = read_plan(open_catalog(settings), outcome.summary.plan.id)
    shared = next(
        g for g in plan.groups if {k[:4] for k in (g.keeper, *g.duplicates)} == {"shoe", "hats"}
    )
    form = Form("approve", (shared.group_id,), frozenset(), {}, "")
    for person in (ANNA, BEN):
        with pytest.raises(MergeError, match="collection's owner"):
            decide_form(settings, claim_of(outcome, person), plan, form)
    assert read_decisions(open_catalog(settings), plan).is_empty()
    decide_form(settings, claim_of(outcome, OWNER), plan, form)
    assert read_decisions(open_catalog(settings), plan)["by"].to_list() == [OWNER]


@pytest.mark.long
def test_what_is_kept_of_the_report_opens_no_page(mailed):
    outcome, _ = mailed
    catalog = open_catalog(outcome.scan.settings)
    kept = read_kept(catalog, outcome.scan.id)
    assert kept.plan.groups == outcome.summary.plan.groups
    assert kept.plan.pages == {}
    assert "review/" not in str(catalog.read("reports", ["provenance"]).row(0))


@pytest.mark.long
def test_what_merges_saved_is_in_the_history(mailed, site):
    outcome, _ = mailed
    before = site.settings
    site.settings = outcome.scan.settings
    plan = read_plan(open_catalog(site.settings), outcome.summary.plan.id)
    site.approve(plan)
    site.merge(plan)
    site.settings = before
    site.scan()
    first, second = read_history(before)["realised"].to_list()
    assert first == 0
    assert second == outcome.summary.plan.bytes
    site.undo(plan.id)
    site.scan()
    assert read_history(before)["realised"].to_list() == [0, second, 0]
