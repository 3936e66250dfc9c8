"""Who is told of what: reviewers, digests, and the links they get."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from flows.order import compose
from tasks.errors import FilterError, SettingsError
from tasks.queries.scans import UNTOLD
from tasks.reporting.history import last_mailed
from tasks.session import open_catalog
from tasks.settings import load_settings

OWNER, ANNA, BEN = "owner@example.test", "anna@example.test", "ben@example.test"


@pytest.fixture
def post(library, monkeypatch):
    """A library of two departments whose mails are kept here instead of sent."""
    for name, seed in (
        ("shoes/a.png", 1),
        ("shoes/b.bmp", 1),
        ("hats/a.png", 2),
        ("hats/b.bmp", 2),
        ("shoes/c.png", 3),
        ("hats/c.bmp", 3),
    ):
        library.add(name, seed)
    mails = []
    monkeypatch.setattr("tasks.reporting.deliver.send", lambda _, mail: mails.append(mail) or [])
    return library, mails


def set_reviewers(monkeypatch, **more):
    given = {ANNA: ["shoes/"], BEN: "key LIKE 'hats/%' and size > 0"}
    monkeypatch.setenv("DAM_DEDUP_MAIL__TO", OWNER)
    monkeypatch.setenv("DAM_DEDUP_MAIL__REVIEWERS", json.dumps(given | more))


def test_each_gets_the_groups_that_lie_in_their_part(post, monkeypatch):
    library, mails = post
    set_reviewers(monkeypatch)
    outcome = library.scan()
    assert outcome.mailed
    text = {str(mail["To"]): mail.get_body(("plain",)).get_content() for mail in mails}
    assert set(text) == {OWNER, ANNA, BEN}
    assert "hats/" not in text[ANNA]
    assert "shoes/" not in text[BEN]
    assert "shoes/a.png" in text[ANNA]
    assert "shoes/c.png" not in text[ANNA], "a group across departments is the owner's"
    assert all(key in text[OWNER] for key in ("shoes/a.png", "hats/a.png", "shoes/c.png"))
    assert "report.html" not in text[ANNA], "the report shows everybody's groups"


def test_who_has_no_news_gets_no_mail(post, monkeypatch):
    library, mails = post
    set_reviewers(monkeypatch)
    library.scan()
    mails.clear()
    library.add("hats/d.png", 2, width=200)
    library.scan()
    assert {str(mail["To"]) for mail in mails} == {OWNER, BEN}
    mails.clear()
    library.scan()
    assert mails == []


def test_a_wrong_filter_of_a_reviewer_is_refused_before_the_scan(post, monkeypatch):
    library, mails = post
    set_reviewers(monkeypatch, **{"c@example.test": "nonsense = 1"})
    with pytest.raises(FilterError, match="nonsense"):
        library.scan()
    assert mails == []


def test_reviewers_are_read_from_the_environment(post, monkeypatch):
    set_reviewers(monkeypatch)
    mail = load_settings().mail
    assert mail.reviewers[ANNA].prefixes == ("shoes/",)
    assert mail.reviewers[BEN].where.startswith("key LIKE")
    monkeypatch.setenv("DAM_DEDUP_MAIL__REVIEWERS", '{"x@example.test": 5}')
    with pytest.raises(SettingsError, match="REVIEWERS"):
        load_settings()


def test_a_prefix_is_no_pattern(post, monkeypatch):
    library, mails = post
    set_reviewers(monkeypatch, **{"c@example.test": ["sho%", "_ats/", "x' OR '1'='1"]})
    outcome = library.scan()
    assert outcome.summary.shares["c@example.test"] == ()
    assert "c@example.test" not in {str(mail["To"]) for mail in mails}


# ---- digests ----------------------------------------------------------------------------------


@pytest.mark.long
def test_a_digest_collects_the_news_since_the_last_mail(post, monkeypatch):
    library, mails = post
    monkeypatch.setenv("DAM_DEDUP_MAIL__TO", OWNER)
    monkeypatch.setenv("DAM_DEDUP_MAIL__WHEN", "digest")
    first = library.scan()
    assert len(mails) == 1, "the first is due at once"
    library.add("shoes/x.png", 11)
    library.add("shoes/y.bmp", 11)
    second = library.scan()
    library.add("shoes/z.png", 12)
    library.add("shoes/zz.bmp", 12)
    third = library.scan()
    assert len(mails) == 1
    catalog = open_catalog(third.scan.settings)
    states = catalog.read("scans", ["started", "state"])["state"].to_list()
    assert states == ["finished", UNTOLD, UNTOLD]
    assert last_mailed(catalog, second.scan) == last_mailed(catalog, third.scan)
    assert third.summary.mailed == first.scan.started

    new = third.summary.groups.filter(state="new")
    assert sum(new["size"]) == 4, "the news of both scans that were not mailed"
    later = replace(third.summary, started=first.scan.started + timedelta(hours=24))
    (mail,) = compose(later, [], third.scan.settings)
    assert "2 new groups" in mail["Subject"]
    soon = replace(third.summary, started=first.scan.started + timedelta(hours=23))
    assert compose(soon, [], third.scan.settings) == []


def test_a_digest_says_nothing_when_nothing_is_new(post, monkeypatch):
    library, mails = post
    monkeypatch.setenv("DAM_DEDUP_MAIL__TO", OWNER)
    monkeypatch.setenv("DAM_DEDUP_MAIL__WHEN", "digest")
    library.scan()
    outcome = library.scan()
    late = replace(outcome.summary, started=outcome.scan.started + timedelta(days=9))
    assert compose(late, [], outcome.scan.settings) == []
    assert len(mails) == 1
    scans = open_catalog(outcome.scan.settings).read("scans", ["scan_id", "state"])
    assert set(scans["state"]) == {"finished"}, "nothing waits to be told"


def test_always_means_always(post, monkeypatch):
    library, mails = post
    set_reviewers(monkeypatch)
    monkeypatch.setenv("DAM_DEDUP_MAIL__WHEN", "always")
    library.scan()
    library.scan()
    assert len(mails) == 6


def test_recipients_that_were_refused_are_told(post, monkeypatch):
    library, _ = post
    monkeypatch.setenv("DAM_DEDUP_MAIL__TO", f"{OWNER},{ANNA}")
    monkeypatch.setattr("tasks.reporting.deliver.send", lambda *_: [ANNA])
    outcome = library.scan()
    assert outcome.mailed
    assert outcome.refused == (ANNA,)
