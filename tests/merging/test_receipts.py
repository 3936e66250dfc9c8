"""Receipts: what a merge, an undo and an emptying tell by mail, against the journal and bucket."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import polars as pl
import pytest
import uvicorn
from fastapi.testclient import TestClient
from pydantic import SecretStr
from typer.testing import CliRunner

import flows.receipts
from deployments.cli.main import app as command_line
from deployments.gate.app import create_app
from flows.receipts import mail_merge, mail_purge, mail_undo
from reports.highlights import since_words
from reports.mail import scan_mail
from tasks.errors import MailError
from tasks.merging.approvals import sign_link, sign_undo_link
from tasks.merging.journal import read_events
from tasks.merging.merge import GroupOutcome, MergeOutcome
from tasks.merging.quarantine import empty_quarantine, list_quarantine
from tasks.reporting.receipts import MERGE, read_done, read_receipt
from tasks.reporting.summarize import last_scan, summarize_scan
from tasks.session import open_catalog
from tasks.summary import MergedSince
from tests.merging.conftest import later

BODY = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(900)
CHROMIUM = Path("/usr/bin/chromium")
ANNA = "anna@example.org"
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def sent(monkeypatch) -> list[EmailMessage]:
    """The mails that were sent."""
    mails: list[EmailMessage] = []
    monkeypatch.setattr(flows.receipts, "send", lambda _, mail: mails.append(mail) or [])
    return mails


@pytest.fixture
def two(site):
    """Two groups of copies, of three files and of two, planned and approved; mail to anna."""
    for key in ("a/1.png", "a/2.png", "b/3.png"):
        site.put(key, BODY)
    for key in ("c/4.png", "c/5.png"):
        site.put(key, BODY + b"other")
    site.list()
    site.settings = site.settings.model_copy(
        update={
            "mail": site.settings.mail.model_copy(update={"to": [ANNA]}),
            "merge": site.settings.merge.model_copy(
                update={"gate_url": "https://dam.example.org/gate", "secret": SecretStr("s" * 40)}
            ),
        }
    )
    plan = site.plan()
    site.approve(plan, by="ben@example.org")
    return site, plan


def text_of(mail: EmailMessage) -> str:
    return mail.get_body(("plain",)).get_content()


def links_of(mail: EmailMessage) -> list[str]:
    found = re.findall(r"https://dam\.example\.org/gate(/done/\S+)", text_of(mail))
    return list(dict.fromkeys(found))


def moved(site) -> tuple[int, int]:
    """Files that the journal says were moved, and their bytes."""
    rows = read_events(open_catalog(site.settings)).filter(event="done", kind="delete")
    return rows.height, int(rows["bytes"].sum())


@pytest.mark.long
def test_a_merge_is_told_undone_at_its_link_and_told_again(two, sent, versioned):
    site, plan = two
    before = site.snapshot()
    outcome = site.merge(plan, by="schedule")
    assert mail_merge(site.settings, outcome, by="schedule") == ""
    (receipt,) = sent
    assert receipt["To"] == ANNA
    files, size = moved(site)
    assert (files, size) == (3, 3 * len(BODY) + 5)
    assert receipt["Subject"].endswith("Merged 2 groups: 3 files (2.8 kB) moved to quarantine")
    text = text_of(receipt)
    assert "By: schedule" in text
    assert "Approved by: ben@example.org" in text
    until = min(entry.until for entry in list_quarantine(site.settings))
    assert f"In quarantine: 2.8 kB, until {until:%Y-%m-%d %H:%M} UTC" in text
    if versioned:
        assert "Kept as old versions: 2.8 kB: not freed" in text
        assert "Freed: 0 B" in text
    else:
        assert "Freed: nothing yet" in text
    undo, done = links_of(receipt)
    assert undo.endswith("?undo=all")
    assert undo.partition("?")[0] != done, "the one is for these groups, the other for all"

    client = TestClient(create_app(site.settings), follow_redirects=False)
    page = client.get(undo)
    assert page.status_code == 200
    assert "Undo 2 groups?" in page.text
    client.head(undo)
    assert site.keys() == ["a/1.png", "c/4.png"], "opening the link changes nothing"
    names = re.findall(r'name="undo" value="([^"]+)"', page.text)
    assert len(names) == 2
    answer = client.post(undo.partition("?")[0], content=f"undo={names[0]}", headers=FORM)
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].endswith("?note=undone")
    answer = client.post(undo.partition("?")[0], content="undo=all", headers=FORM)
    assert answer.status_code == 303
    after = site.snapshot()
    assert {key: facts[0] for key, facts in after.items()} == {
        key: facts[0] for key, facts in before.items()
    }
    assert len(sent) == 3
    assert all("By: anna@example.org" in text_of(mail) for mail in sent[1:])
    assert [mail["Subject"].partition("] ")[2].partition(":")[0] for mail in sent[1:]] == [
        "Undone"
    ] * 2
    page = client.get(done)
    assert page.text.count("undone by anna@example.org on") == 2
    assert "?undo=" not in page.text
    again = client.post(undo.partition("?")[0], content="undo=all", headers=FORM)
    assert again.headers["location"].endswith("?note=none")
    assert len(sent) == 3, "nothing was done, so nothing is told"


@pytest.mark.long
def test_a_link_undoes_its_own_groups_alone_and_decides_nothing(two, sent):
    site, plan = two
    mail_merge(site.settings, site.merge(plan), by="anna")
    client = TestClient(create_app(site.settings), follow_redirects=False)
    first, second = plan.groups
    mine = sign_undo_link(site.settings, plan, ANNA, groups=[first.group_id]).rpartition("/")[2]
    other = f"{plan.id}/{second.group_id}"
    page = client.get(f"/done/{mine}").text
    assert first.keeper in page
    assert second.keeper not in page
    assert client.get(f"/done/{mine}?undo={other}").status_code == 403
    strange = client.post(f"/done/{mine}", content=f"undo={other}", headers=FORM)
    assert strange.status_code == 403
    # An owner's link is for all that was merged; so for it, "all" may be more than was looked at.
    owner = sign_undo_link(site.settings, plan, ANNA).rpartition("/")[2]
    assert client.post(f"/done/{owner}", content="undo=all", headers=FORM).status_code == 403
    foreign = FORM | {"sec-fetch-site": "cross-site"}
    wanted = f"undo={plan.id}/{first.group_id}"
    assert client.post(f"/done/{mine}", content=wanted, headers=foreign).status_code == 403
    assert client.post(f"/done/{mine}", json={"undo": other}).status_code == 415
    review = sign_link(site.settings, plan, ANNA).rpartition("/")[2]
    assert client.get(f"/done/{review}").status_code == 403, "a link that decides cannot undo"
    assert client.get(f"/review/{owner}").status_code == 403, "nor the other way round"
    assert site.keys() == ["a/1.png", "c/4.png"]
    assert client.post(f"/done/{mine}", content=wanted, headers=FORM).status_code == 303
    back = {state.key for state in first.states if state.etag}
    assert set(site.keys()) == back | {second.keeper}


@pytest.mark.long
def test_what_was_refused_is_told_with_its_reason(two, sent):
    site, plan = two
    site.put("c/5.png", BODY + b"changed since")
    outcome = site.merge(plan)
    mail_merge(site.settings, outcome, by="anna")
    (receipt,) = sent
    assert "Merged 1 group: 2 files" in receipt["Subject"]
    assert receipt["Subject"].endswith("; 1 not done")
    assert "c/4.png: 'c/5.png' is not what it was" in " ".join(text_of(receipt).split())
    facts = read_receipt(site.settings, MERGE, [(plan.id, outcome.run_id)])
    assert (facts.files, facts.bytes) == moved(site)


def test_a_schedule_tells_no_failure_every_ten_minutes(site, sent):
    mail = site.settings.mail.model_copy(update={"to": [ANNA]})
    settings = site.settings.model_copy(update={"mail": mail})
    site.put("a.png", BODY)
    site.put("b.png", BODY)
    site.list()
    plan = site.plan()
    failed = GroupOutcome("a" * 32, "a.png", "quarantine", "failed", 2, 9, "the store is away")
    outcome = MergeOutcome(plan.id, "", False, (failed,))
    mail_merge(settings, outcome, by="schedule", scheduled=True)
    assert sent == []
    mail_merge(settings, outcome, by="anna")
    assert sent[0]["Subject"].endswith("Nothing was merged; 1 not done")
    assert "a.png: the store is away" in text_of(sent[0])
    refused = replace(failed, state="refused")
    mail_merge(settings, replace(outcome, groups=(refused,)), by="schedule", scheduled=True)
    assert len(sent) == 2


@pytest.mark.long
def test_an_emptied_quarantine_is_told_as_freed_where_no_version_is_kept(
    two, sent, versioned, monkeypatch
):
    site, plan = two
    mail_merge(site.settings, site.merge(plan), by="anna")
    assert mail_purge(site.settings, empty_quarantine(site.settings, by="ben"), by="ben") == ""
    assert len(sent) == 1, "nothing was due"
    later(monkeypatch, timedelta(days=99))
    mail_purge(site.settings, empty_quarantine(site.settings, by="ben"), by="ben")
    text = text_of(sent[-1])
    assert "Quarantine emptied: 3 files (2.8 kB) of 2 groups removed for good" in text
    assert f"Freed: {'0 B' if versioned else '2.8 kB'}" in text
    assert "This cannot be undone." in text
    done = read_done(site.settings, plan)
    assert {group.state for group in done.groups} == {"purged"}
    assert not any(group.undoable for group in done.groups)
    assert done.freed == (0 if versioned else moved(site)[1])
    assert [(m.groups, m.moved, m.undone) for m in done.months] == [(2, moved(site)[1], 0)]


@pytest.mark.long
def test_a_merge_that_is_taken_up_again_counts_each_file_once(two, monkeypatch):
    site, plan = two
    write = flows.receipts.read_receipt  # the reader is the same for every run
    first = site.merge(plan)
    rows = read_events(open_catalog(site.settings), plan).filter(event="done")
    # What a run that takes up a merge writes once more, of what it finds done already.
    again = rows.with_columns(run_id=pl.lit("again"), sequence=pl.col("sequence") + 1000)
    both = pl.concat([read_events(open_catalog(site.settings), plan), again])
    monkeypatch.setattr("tasks.reporting.receipts.read_events", lambda *_: both)
    assert write(site.settings, MERGE, [(plan.id, first.run_id)]).files == 3
    assert write(site.settings, MERGE, [(plan.id, "again")]) is None
    assert sum(month.moved for month in read_done(site.settings, plan).months) == moved(site)[1]


@pytest.mark.long
def test_a_mail_that_fails_is_told_and_fails_nothing(two, monkeypatch):
    site, plan = two

    def refuse(*_):
        raise MailError("cannot send mail through nowhere:25")

    monkeypatch.setattr(flows.receipts, "send", refuse)
    monkeypatch.setattr("deployments.cli.merging.read_settings", lambda *_: site.settings)
    ran = CliRunner().invoke(command_line, ["merge", plan.id, "--by", "anna"])
    assert ran.exit_code == 0, ran.output
    assert "the receipt could not be mailed: cannot send mail through nowhere:25" in ran.stderr
    assert site.keys() == ["a/1.png", "c/4.png"]
    ran = CliRunner().invoke(command_line, ["undo", plan.id, "--by", "anna"])
    assert ran.exit_code == 0, ran.output
    assert "the receipt could not be mailed" in ran.stderr


@pytest.mark.long
def test_without_a_gate_all_owners_get_one_mail_with_the_command(two, sent):
    site, plan = two
    site.settings = site.settings.model_copy(
        update={
            "mail": site.settings.mail.model_copy(update={"to": [ANNA, "ben@example.org"]}),
            "merge": site.settings.merge.model_copy(update={"gate_url": None}),
        }
    )
    assert mail_merge(site.settings, site.merge(plan, dry_run=True), by="anna") == ""
    assert sent == [], "a dry run did nothing"
    mail_merge(site.settings, site.merge(plan), by="anna")
    (receipt,) = sent
    assert receipt["To"] == f"{ANNA}, ben@example.org"
    assert links_of(receipt) == []
    assert f"dam-dedup undo {plan.id} --by NAME" in text_of(receipt)
    mail_undo(site.settings, site.undo(plan.id, settle=False), by="anna")
    assert "3 files (2.8 kB) of 2 groups are back at their place" in sent[-1]["Subject"]


@pytest.mark.long
def test_the_mail_after_a_scan_tells_what_was_merged_and_undone_since_the_last(two):
    site, plan = two
    site.merge(plan)
    site.undo(f"{plan.id}/{plan.groups[1].group_id}", settle=False)
    site.list()
    scan, space, counts, _ = last_scan(site.settings)
    summary = summarize_scan(scan, space, counts | {"seen": 5})
    assert summary.since == MergedSince(groups=2, moved=moved(site)[1], undone=1, freed=0)
    said = "2 groups merged (2.8 kB moved), 1 group undone"
    assert since_words(summary) == said
    mail = scan_mail(summary, [], site.settings.mail, [ANNA])
    assert f"In that time {said}." in text_of(mail)
    assert said in mail.get_body(("html",)).get_content()
    site.list()
    scan, space, counts, _ = last_scan(site.settings)
    assert since_words(summarize_scan(scan, space, counts | {"seen": 5})) == ""


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")
def test_one_group_is_undone_from_the_receipt_on_a_phone(two, sent):
    site, plan = two
    playwright = pytest.importorskip("playwright.sync_api")
    mail_merge(site.settings, site.merge(plan), by="anna")
    html = sent[0].get_body(("html",)).get_content()
    link = re.findall(r'href="https://dam.example.org/gate(/done/[^"]*)" class="link"', html)[0]
    config = uvicorn.Config(create_app(site.settings), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        with playwright.sync_playwright() as play:
            browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 390, "height": 800}, has_touch=True)
            said: list[str] = []
            page.on("console", lambda one: said.append(one.text) if one.type == "error" else None)
            page.goto(address + link)
            playwright.expect(page.locator("h1")).to_have_text("Undo 1 group?")
            assert site.keys() == ["a/1.png", "c/4.png"]
            page.get_by_role("button", name="Undo: put").tap()
            playwright.expect(page.get_by_role("status")).to_contain_text("Undone.", timeout=30_000)
            playwright.expect(page.get_by_role("link", name="Undo:")).to_have_count(1)
            page.go_back()
            page.goto(address + link)
            playwright.expect(page.locator("main")).to_contain_text("There is nothing to undo here")
            browser.close()
    finally:
        server.should_exit = True
        thread.join()
    assert said == []
    assert len(site.keys()) > 2
    assert len(sent) == 2
