"""The mail as Outlook's Word engine shows it: nothing is lost, and the button is one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from reports.mail import scan_mail
from reports.receipt import ReceiptLinks, receipt_mail
from tasks.merging.rules.plan_note import GroupNote, PlanNote
from tasks.records import Receipt
from tasks.settings import MailSettings
from tests.reports.test_done import receipt
from tests.reports.word_engine import as_word, word_rules

CHROMIUM = Path("/usr/bin/chromium")
ANNA = "anna@example.com"


def test_what_word_ignores_is_taken_away():
    html = (
        '<!--[if mso]><table width="640"><![endif]--><style>@media (x) { .a { color: red } }'
        ".b { color: blue; border-radius: 3px } [data-ogsc] .c { color: green }</style>"
        '<td style="padding:3px;border-radius:4px;mso-padding-alt:9px 8px">'
        '<div style="max-width:9px;padding:7px;color:#123">a &amp; b</div>'
        '<img src="x" width="70" style="width:100%;margin:4px;border:0"></td>'
    )
    assert as_word(html) == (
        '<table width="640"><style>.b { color:blue }</style>'
        '<td style="padding:3px;padding:9px 8px"><div style="color:#123">a &amp; b</div>'
        '<img src="x" width="70" style="border:0"></td>'
    )
    assert word_rules("h1, .a:hover { color: red }") == "h1 { color:red }"


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")
def test_in_words_engine(make_summary):
    """In a reading pane: no sideways scrolling, pictures as wide as told, a button."""
    playwright = pytest.importorskip("playwright.sync_api")
    long = "masters/2026/a-campaign-with-a-very-long-name/" + "x" * 60
    summary = make_summary([f"{long}.tif", f"web/{long}.jpg", "web/small.jpg"])
    name = summary.groups["group_id"][0]
    pages = {ANNA: "https://gate.example/review/" + "t" * 300}
    notes = {name: GroupNote("quarantine", True, 2, 3000)}
    plan = PlanNote("a1b2", 1, 0, 0, 0, 3000, pages=pages, groups=notes, quarantine_days=30)
    report = [Receipt("report.html", "s3://b/report.html", "https://x/report.html")]
    mails = [
        scan_mail(replace(summary, plan=plan), report, MailSettings(), [ANNA]),
        receipt_mail(
            receipt(), "demo", MailSettings(), [ANNA], ReceiptLinks("https://g/u", "https://g/d")
        ),
    ]
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 700, "height": 900})
        for mail in mails:
            html = mail.get_body(("html",)).get_content()
            page.set_content(as_word(re.sub(r'src="cid:[^"]*"', 'src=""', html)))
            assert page.evaluate("document.documentElement.scrollWidth") <= 700
            widths = page.evaluate("[...document.images].map((one) => one.getAttribute('width'))")
            assert all(int(width) <= 270 for width in widths)
            button = page.locator("td.button").first.bounding_box()
            assert button["height"] >= 36
            assert button["width"] >= 120
            first = page.locator("body > div").first
            if "mso-hide" in html:
                assert not first.is_visible(), "the preview's line is not in the letter"
        browser.close()
