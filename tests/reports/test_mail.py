"""The summary mail, read back as a mail program would."""

from __future__ import annotations

import email
import email.policy
import re

import pytest

from reports.mail import scan_mail
from reports.page import headline, totals
from tasks.records import Receipt

REPORT = Receipt("report.html", "s3://bucket/x/report.html", "https://example.com/r?a=1&b=2")


def sent(summary, receipts=(REPORT,), to=("a@example.com", "b@example.com")):
    """The mail as it arrives."""
    mail = scan_mail(summary, list(receipts), "dam@example.com", list(to))
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
    assert f"{found['exact']} exact (only encoded or scaled anew), {found['near']} near." in text
    assert "7 objects seen" not in text
    assert f"{summary.coverage.seen} objects seen, {summary.coverage.scanned} scanned" in text
    assert "failed: 1 cut off: the file ends before the picture does" in text


def test_only_the_top_is_shown(make_summary):
    summary = make_summary(*([f"a{n}"] + [f"b{n}-{m}" for m in range(6)] for n in range(8)))
    mail = sent(summary)
    text = body(mail, "plain")
    assert re.findall(r"(?m)^(\d)\. g", text) == list("12345")
    assert text.count("and 3 more") == 5
    assert "3 more groups in the report." in text
    assert "3 more groups in the report." in body(mail, "html")


def test_big_pictures_are_left_out(make_summary):
    summary = make_summary(["a", "b"], ["x", "y"])
    heavy = dict.fromkeys(summary.thumbnails, b"\xff\xd8\xff" + bytes(900_000))
    mail = sent(make_summary(["a", "b"], ["x", "y"], thumbnails=heavy))
    images = [part for part in mail.walk() if part.get_content_maintype() == "image"]
    assert len(images) == 2
    assert len(set(re.findall(r"cid:([^\"]+)", body(mail, "html")))) == 2


def test_an_empty_result(make_summary):
    mail = sent(make_summary(skipped=(), failed=()), [])
    assert mail["Subject"].endswith("No duplicates among 3 images.")
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert "3 objects seen" in body(mail, "plain")


def test_lines_are_short_enough_to_travel(make_summary):
    mail = scan_mail(
        make_summary(["k" * 1000, "\u65e5" * 340]), [REPORT], "a@example.com", ["b@example.com"]
    )
    assert max(len(line) for line in mail.as_bytes().splitlines()) <= 998
