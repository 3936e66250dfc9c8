"""The summary mail, read back as a mail program would."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest
from pydantic import ValidationError

from reports.mail import HTML_LIMIT, PICTURE_LIMIT, narrow, scan_mail
from reports.page import headline, totals
from tasks.merging.rules.plan_note import GroupNote, PlanNote
from tasks.records import Receipt
from tasks.settings import MailSettings

REPORT = Receipt("report.html", "s3://bucket/x/report.html", "https://example.com/r?a=1&b=2")


def sent(summary, receipts=(REPORT,), to=("a@example.com", "b@example.com"), part=False, **changes):
    """The mail as it arrives."""
    settings = MailSettings(sender="dam@example.com", **changes)
    mail = scan_mail(summary, list(receipts), settings, list(to), part=part)
    return email.message_from_bytes(mail.as_bytes(), policy=email.policy.default)


def body(mail, kind: str) -> str:
    return mail.get_body((kind,)).get_content()


def test_text_comes_first_then_html(make_summary):
    mail = sent(make_summary(["a.jpg", "b.jpg"]))
    assert mail.get_content_type() == "multipart/alternative"
    kinds = [part.get_content_type() for part in mail.iter_parts()]
    assert kinds == ["text/plain", "multipart/related"]
    assert mail["Subject"].startswith("[catalogue] ")
    assert "1 group with 1 duplicate among 5 images; 1.5 kB could be saved." in mail["Subject"]
    assert mail["To"] == "a@example.com, b@example.com"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"]
    assert mail["Date"].datetime.year == 2026


def test_pictures_are_inline_and_found(make_summary):
    mail = sent(make_summary(["a.jpg", "b.jpg"], ["x.jpg", "y.jpg"]))
    wanted = set(re.findall(r'src="cid:([^"]+)"', body(mail, "html")))
    parts = [part for part in mail.walk() if part.get_content_maintype() == "image"]
    assert len(wanted) == 4
    assert {part["Content-ID"].strip("<>") for part in parts} == wanted
    for part in parts:
        assert part.get_content_disposition() == "inline"
        assert part.get_content().startswith(b"\xff\xd8\xff")


def test_nothing_is_loaded_from_elsewhere(make_summary, hostile):
    html = body(sent(make_summary(hostile)), "html")
    assert all(source.startswith("cid:") for source in re.findall(r'src="([^"]*)"', html))
    assert re.findall(r'href="([^"]*)"', html) == ["https://example.com/r?a=1&amp;b=2"]


def test_the_link_is_in_both_bodies(make_summary):
    mail = sent(make_summary(["a", "b"]))
    assert "Full report: https://example.com/r?a=1&b=2\n" in body(mail, "plain")
    assert 'href="https://example.com/r?a=1&amp;b=2"' in body(mail, "html")
    ends = sent(
        make_summary(["a", "b"]), [replace(REPORT, until=datetime(2026, 12, 4, tzinfo=UTC))]
    )
    lines = body(ends, "plain").splitlines()
    at = lines.index("Full report: https://example.com/r?a=1&b=2")
    assert lines[at + 1 : at + 3] == [
        "The link to the report works until 2026-12-04 00:00 UTC.",
        "",
    ]
    without = sent(make_summary(["a", "b"]), [Receipt("report.html", "/srv/report.html")])
    assert "Full report" not in body(without, "plain")
    assert "/srv/report.html" in body(without, "plain")


@pytest.mark.parametrize("place", ["key", "label", "source", "where", "across", "receipt"])
def test_hostile_texts_make_no_header_and_no_markup(make_summary, hostile, place):
    plain = sent(make_summary(["a", "b"]))
    for text in hostile:
        receipts = [REPORT]
        if place == "key":
            summary = make_summary(["a", text])
        elif place == "receipt":
            summary = make_summary(["a", "b"])
            receipts.append(Receipt("groups.json", text))
        else:
            summary = make_summary(["a", "b"], **{place: text})
        mail = sent(summary, receipts)
        assert mail.keys() == plain.keys()
        assert mail["Bcc"] is None
        html = body(mail, "html")
        assert "<script" not in html
        assert "<img src=x" not in html
        assert "49" not in html + body(mail, "plain")
        assert not set("\u202e\u2028\x00") & set(html + body(mail, "plain"))
        assert not re.search(r"(?m)^Bcc:", body(mail, "plain"))


def test_a_line_break_in_an_address_is_refused(make_summary):
    with pytest.raises(ValueError, match="linefeed or carriage"):
        sent(make_summary(["a", "b"]), to=["a@example.com\r\nBcc: c@example.com"])


def test_numbers_are_those_of_the_page(make_summary):
    summary = make_summary(["a", "b", "c"], ["x", "y"], tiers=("exact", "near"))
    found = totals(summary)
    text = body(sent(summary), "plain")
    assert headline(summary) in text
    assert (
        f"{found['exact']} the same picture, only saved or resized again; {found['near']} edited"
        in text
    )
    assert "7 objects seen" not in text
    assert f"{summary.coverage.seen} objects seen, {summary.coverage.scanned} scanned" in text
    assert "failed: 1 cut off: the file ends before the picture does" in text


def test_only_the_top_is_shown(make_summary):
    summary = make_summary(*([f"a{n}"] + [f"b{n}-{m}" for m in range(6)] for n in range(13)))
    mail = sent(summary)
    text = body(mail, "plain")
    assert re.findall(r"(?m)^(\d+)\. EDITED COPY", text) == [str(n) for n in range(1, 11)]
    assert text.count("and 3 more") == 10
    assert "3 more groups in the report." in text
    assert "3 more groups in the report." in body(mail, "html")


def test_pictures_stay_below_their_limit(make_summary):
    summary = make_summary(*([f"a{n}", f"b{n}"] for n in range(5)))
    heavy = dict.fromkeys(summary.thumbnails, b"\xff\xd8\xff" + bytes(900_000))
    mail = sent(replace(summary, thumbnails=heavy))
    images = [part for part in mail.walk() if part.get_content_maintype() == "image"]
    assert len(images) == 4
    assert len(set(re.findall(r"cid:([^\"]+)", body(mail, "html")))) == 4
    assert sum(len(part.as_bytes()) for part in images) <= PICTURE_LIMIT


@pytest.mark.parametrize("key", ["&" * 1024, "\U000e0001" * 256, "'\"<>" * 256, "\u202e" * 300])
def test_html_stays_below_its_limit_whatever_is_in_it(make_summary, key):
    groups = [[f"{n}{key}", *(f"{n}-{m}{key}" for m in range(9))] for n in range(40)]
    summary = make_summary(*groups, where=key * 4, failed=(key,))
    pairs = summary.pairs.with_columns(changes=pl.lit(key * 20), reasons=pl.lit(key * 20))
    notes = {
        name: GroupNote("quarantine", True, 9, 9, questions=(key * 9,) * 20)
        for name in summary.groups["group_id"]
    }
    link = "https://example.com/" + "x" * 1900
    plan = PlanNote("a1b2", 40, 40, 0, 0, 9, pages={"a@example.com": link}, groups=notes)
    mail = sent(
        replace(summary, pairs=pairs, plan=plan),
        [REPORT, Receipt("x", "s3://" + key)],
        to=["a@example.com"],
    )
    html = body(mail, "html")
    assert len(html.encode()) <= HTML_LIMIT
    shown = [int(number) for number in re.findall(r"<h2[^>]*>(\d+)\.", html)]
    assert shown == list(range(1, len(shown) + 1))
    assert len(shown) >= 2
    assert f"{40 - len(shown)} more groups" in html
    assert re.findall(r"(?m)^(\d+)\. EDITED COPY", body(mail, "plain")) == [str(n) for n in shown]


def test_an_empty_result(make_summary):
    mail = sent(make_summary(skipped=(), failed=()), [])
    assert mail["Subject"].endswith("No duplicates among 3 images.")
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert "3 objects seen" in body(mail, "plain")


def test_lines_are_short_enough_to_travel(make_summary):
    mail = scan_mail(
        make_summary(["k" * 1000, "\u65e5" * 340]), [REPORT], MailSettings(), ["b@example.com"]
    )
    assert max(len(line) for line in mail.as_bytes().splitlines()) <= 998


# ---- whom it is for --------------------------------------------------------------------------


ANNA, OWNER = "anna@example.com", "owner@example.com"


@pytest.fixture
def shared(make_summary):
    """Three groups: one of Anna's, one whose plan asks, one approved by the policy."""
    notes = {
        "g0000": GroupNote("quarantine", True, 1, 1500),
        "g0001": GroupNote("delete", True, 1, 1500, questions=("which agency?",)),
        "g0002": GroupNote("tag", True, 0, 0, approved=True),
    }
    pages = {ANNA: "https://gate.example/review/anna", OWNER: "https://gate.example/review/owner"}
    plan = PlanNote("a1b2c3", 3, 1, 0, 1, 3000, form="https://ui/run", pages=pages, groups=notes)
    summary = make_summary(["a1", "a2"], ["b1", "b2"], ["c1", "c2"])
    return replace(summary, plan=plan, shares={ANNA: ("g0000",)})


def test_a_reviewer_sees_only_what_is_theirs(shared):
    mine = narrow(shared, ANNA)
    mail = sent(mine, (), to=[ANNA], part=True)
    for kind in ("plain", "html"):
        text = body(mail, kind)
        assert "https://gate.example/review/anna?group=g0000" in text
        assert "owner" not in text.replace("collection&#39;s owner", "")
        assert "https://ui/run" not in text
        assert all(name not in text for name in ("b1", "c1", "which agency"))
        assert "1 group" in text
    assert "1 group with 1 duplicate" in mail["Subject"]
    assert [part for part in mail.walk() if part.get_content_maintype() == "image"]
    assert len(mine.pairs) == 1


def test_owners_see_all_and_first_what_nobody_else_decides(shared):
    mail = sent(shared, to=[OWNER])
    text = body(mail, "plain")
    assert re.findall(r"(?m)^   stays +(\w+)", text) == ["b1", "c1", "a1"]
    assert "1 group of these lies in the part of a reviewer; the others are yours alone." in text
    assert "TO DECIDE: 2 groups" in text
    assert "Question:  which agency?" in text
    assert "If merged: Moves 1 file (1.5 kB) to quarantine, kept at least 0 days" in text
    assert "If merged: Removes 1 file (1.5 kB) from the bucket" in text
    assert text.index("Review and decide: https://gate.example/review/owner") < text.index("1. ")
    assert text.count("?group=") == 2, "what is approved needs no decision"
    # By the policy or by a person: a later scan of the same files finds either.
    assert "nothing is touched but what is approved already: 1 group, 0 files" in text


def test_what_is_said_of_deciding_is_true_of_what_the_mail_leads_to(shared):
    opens = "“Review and decide” opens a page; opening it changes nothing. There you merge group by"
    page = sent(shared, to=[OWNER])
    assert opens in body(page, "plain")
    assert opens in body(page, "html")
    ends = replace(shared.plan, pages_until=datetime(2026, 12, 4, 9, 30, tzinfo=UTC))
    when = "The link to review works until 2026-12-04 09:30 UTC."
    for kind in ("plain", "html"):
        assert when in body(sent(replace(shared, plan=ends), to=[OWNER]), kind)
        for other in (page, sent(replace(shared, plan=ends), to=[OWNER, ANNA])):
            assert "The link to review" not in body(other, kind), "nothing of what is not there"
    form = sent(shared, to=[OWNER, ANNA])  # a page is one reader's
    bare = sent(replace(shared, plan=replace(shared.plan, form="", pages={})), to=[OWNER])
    for mail, where in (
        (
            form,
            "You decide on the form in Prefect: switch “Dry run” off there, and its run merges at",
        ),
        (bare, "dam-dedup approve a1b2c3 --by NAME. What you approve is carried out by the next"),
    ):
        for kind in ("plain", "html"):
            text = body(mail, kind)
            assert "opens a page" not in text
            assert "The report shows each group; opening it changes nothing. You merge" in text
            assert where in text
            assert "a receipt by mail, which says how to undo it." in text
    assert "What you merge is carried out by the next merge." in body(page, "plain")


def test_what_only_others_may_approve_is_not_asked_of_a_reviewer(shared):
    notes = shared.plan.groups | {
        "g0000": GroupNote("quarantine", True, 1, 1500, approvers=("legal@example.com",))
    }
    shared = replace(shared, plan=replace(shared.plan, groups=notes))
    assert narrow(shared, ANNA).groups.is_empty()
    text = body(sent(shared, to=[OWNER]), "plain")
    assert "part of a reviewer" not in text, "nobody else was asked"
    assert "TO DECIDE: 1 group\n" in text
    assert "?group=g0000" not in text
    legal = body(sent(shared, to=["legal@example.com"]), "plain")
    assert "TO DECIDE: 2 groups" in legal


def test_a_page_is_given_to_its_only_reader(shared):
    mail = sent(shared, to=[OWNER, "b@example.com"])
    assert "gate.example" not in body(mail, "plain") + body(mail, "html")


# ---- headers ---------------------------------------------------------------------------------


def test_mails_of_a_collection_are_one_thread(make_summary):
    first = sent(make_summary(["a", "b"]))
    second = sent(make_summary(["a", "b"], ["x", "y"], scan_id="20261123T120000-aaaaaa"))
    other = sent(make_summary(["a", "b"], collection="other"))
    assert first["References"] == first["In-Reply-To"] == second["References"]
    assert first["Message-ID"] != second["Message-ID"]
    assert other["References"] != first["References"]
    assert first["Message-ID"].endswith("@example.com>")
    assert sent(make_summary(["a", "b"]))["Message-ID"] == first["Message-ID"], "known if twice"
    elsewhere = sent(make_summary(["a", "b"]), to=["c@example.com"])
    assert elsewhere["Message-ID"] != first["Message-ID"]


@pytest.mark.parametrize(
    ("given", "header", "post"),
    [
        ([], None, None),
        (["mailto:x@example.com?subject=stop"], "<mailto:x@example.com?subject=stop>", None),
        (
            ["mailto:x@example.com", "https://example.com/u?a=1"],
            "<mailto:x@example.com>, <https://example.com/u?a=1>",
            "List-Unsubscribe=One-Click",
        ),
    ],
)
def test_how_to_stop_them(make_summary, given, header, post):
    mail = sent(make_summary(["a", "b"]), unsubscribe=given)
    assert mail["List-Unsubscribe"] == header
    assert mail["List-Unsubscribe-Post"] == post
    assert "catalogue" in mail["List-Id"]
    assert ("To stop these mails" in body(mail, "plain")) is bool(given)


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": ["a@example.com\r\nBcc: v@example.com"]},
        {"to": ['["a@example.com>,<v@example.com"]']},
        {"reviewers": {"a@example.com\nBcc: v@example.com": "size > 1"}},
        {"reviewers": {"a@example.com": ""}},
        {"reviewers": {"a@example.com": []}},
        {"reviewers": {"a@example.com": "size > 1"}, "to": ["a@example.com"]},
        {"sender": "dam@example.com\r\nBcc: v@example.com"},
        {"sender": "nobody"},
        {"unsubscribe": ["javascript:alert(1)"]},
        {"unsubscribe": ["https://x/>\r\nBcc: v@example.com"]},
    ],
)
def test_settings_that_would_misdirect_mail_are_refused(wrong):
    with pytest.raises(ValidationError):
        MailSettings(**wrong)


@pytest.mark.parametrize(
    "sender", ["a@b", "a@ex ample.com", "x@y@z.org", "a@[1.2.3.4]", "A <a@ex.org>"]
)
def test_ids_are_well_formed_whatever_the_sender(make_summary, sender):
    mail = scan_mail(make_summary(["a", "b"]), [], MailSettings(sender=sender), ["b@example.com"])
    assert re.fullmatch(r"<[A-Za-z0-9.-]+@[a-z0-9.-]+>", mail["Message-ID"])


# ---- colours ---------------------------------------------------------------------------------


def test_every_colour_has_one_for_dark_too(make_summary):
    """Where a colour is set for light, a class is there that dark mode can set it by."""
    html = body(sent(make_summary(["a", "b", "c"])), "html")
    assert 'name="color-scheme" content="light dark"' in html
    assert "prefers-color-scheme: dark" in html
    for tag in re.findall(r"<[a-z0-9]+[^>]*style=\"[^\"]*(?:color|background):[^>]*>", html):
        assert "class=" in tag or tag.startswith("<h"), tag
