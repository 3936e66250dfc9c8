"""The page of what was merged and the mail of a receipt: words, hostile names, narrow screens."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reports.done import GROUPS_PER_PAGE, MOST_AT_ONCE, DonePage, confirm_undo_page, done_page
from reports.receipt import ReceiptLinks, receipt_facts, receipt_headline, receipt_mail
from tasks.records import now
from tasks.reporting.receipts import Done, DoneGroup, MergeReceipt, Month, NotDone, ReceiptGroup
from tasks.settings import MailSettings

CHROMIUM = Path("/usr/bin/chromium")
WORST = '"><img src=x onerror=window.ran=1>\u202egpj.jpg'
NOW = now()


def group(number: int, **changes) -> DoneGroup:
    made = DoneGroup(
        plan_id="4f1c22aa4f1c",
        group_id=f"{number:032x}",
        keeper=f"masters/a-folder-with-a-long-name/{number}.tif",
        tier="exact",
        state="merged",
        approved_by="ben@example.org",
        by="schedule",
        at=NOW - timedelta(minutes=number),
        undone_by="",
        undone_at=None,
        files=2,
        bytes=4_800_000,
        quarantined=4_800_000,
        until=NOW + timedelta(days=11, hours=3),
        undoable=True,
    )
    return replace(made, **changes)


def shown(*groups: DoneGroup, **changes) -> DonePage:
    months = (Month("2026-10", 3, 9_000_000, 0, 1_000_000), Month("2026-11", 1, 100, 50, 0))
    done = Done(groups, months, 4_800_000, NOW + timedelta(days=11, hours=3), 0, 1_000_000)
    return DonePage(done, "s3://dam", "anna@example.org", NOW + timedelta(days=7), NOW, **changes)


def receipt(**changes) -> MergeReceipt:
    made = MergeReceipt(
        kind="merge",
        source="s3://dam",
        plan_id="4f1c22aa4f1c",
        by="schedule",
        approved_by=("anna@example.org",),
        at=NOW,
        groups=(ReceiptGroup("4f1c22aa4f1c", "a" * 32, WORST, 2, 4_800_000),),
        files=2,
        bytes=4_800_000,
        quarantined=4_800_000,
        noncurrent=0,
        freed=0,
        until=NOW + timedelta(days=30),
        refused=(),
    )
    return replace(made, **changes)


def test_the_page_tells_who_when_how_long_still_and_offers_an_undo_of_what_can_be_undone():
    gone = group(2, state="purged", quarantined=0, until=None, undoable=False)
    back = group(3, state="undone", undone_by="eve", undone_at=NOW, quarantined=0, undoable=False)
    page = done_page(shown(group(1), gone, back)).decode()
    assert page.count("12 days left in quarantine") == 1
    assert page.count("approved by ben@example.org") == 3
    assert f"?undo=4f1c22aa4f1c/{1:032x}" in page
    assert page.count("?undo=") == 1
    assert "undone by eve on" in page
    assert "Removed for good" in page
    assert "2026-10" in page
    over = group(1, until=NOW - timedelta(hours=1))
    assert "may be removed from quarantine at any time" in done_page(shown(over)).decode()


def test_names_of_strangers_are_shown_and_never_run():
    mail = receipt_mail(
        receipt(refused=(NotDone(WORST, "failed", WORST),)),
        "photos",
        MailSettings(sender="dam@example.org"),
        ["anna@example.org"],
        ReceiptLinks("https://dam/done/x?undo=all", "https://dam/done/y", NOW),
    )
    html = mail.get_body(("html",)).get_content()
    bad = group(1, keeper=WORST, by=WORST, approved_by=WORST)
    pages = [
        done_page(shown(bad, problems=[WORST])).decode(),
        confirm_undo_page(shown(bad), [bad], "x").decode(),
        html,
    ]
    for page in pages:
        assert "<img" not in page
        assert "&lt;img" in page
        assert "\u202e" not in page


def test_a_page_shows_so_many_groups_and_one_click_undoes_so_many():
    many = [group(number) for number in range(GROUPS_PER_PAGE + 1)]
    assert done_page(shown(*many)).decode().count("?undo=") == GROUPS_PER_PAGE
    assert done_page(shown(*many, page=99)).decode().count("?undo=") == 1
    asked = confirm_undo_page(shown(*many), many, "dam-dedup undo X").decode()
    assert len(many) > MOST_AT_ONCE
    assert "<form" not in asked
    assert "dam-dedup undo X" in asked
    asked = confirm_undo_page(shown(*many), many[:2], "dam-dedup undo X").decode()
    assert "Undo: put 4 files back" in asked
    assert (
        "There is nothing to undo here"
        in confirm_undo_page(shown(), [group(1, undoable=False)], "").decode()
    )


@pytest.mark.parametrize(
    ("changes", "line", "freed"),
    [
        ({}, "Merged 1 group: 2 files (4.8 MB) moved to quarantine", "nothing yet"),
        (
            {"quarantined": 0, "until": None, "noncurrent": 4_800_000},
            "Merged 1 group: 2 files (4.8 MB) removed",
            "0 B",
        ),
        (
            {"files": 0, "bytes": 0, "quarantined": 0, "until": None},
            "Merged 1 group; no file was moved",
            "nothing: no file",
        ),
        (
            {"kind": "purge", "quarantined": 0, "until": None, "freed": 4_800_000},
            "Quarantine emptied: 2 files (4.8 MB) of 1 group removed for good",
            "4.8 MB",
        ),
        (
            {"groups": (), "files": 0, "refused": (NotDone("a", "failed", "b"),)},
            "Nothing was merged; 1 not done",
            None,
        ),
    ],
)
def test_the_headline_says_what_was_done_and_moved_is_never_told_as_freed(changes, line, freed):
    told = receipt(**changes)
    assert receipt_headline(told) == line
    found = dict(receipt_facts(told)).get("Freed")
    assert found is None if freed is None else found.startswith(freed)


def test_receipts_and_the_page_speak_german():
    """No word of the English page is left."""
    settings, links = (
        MailSettings(language="de", unsubscribe=["https://x"]),
        ReceiptLinks("u", "d", NOW),
    )
    mail = receipt_mail(receipt(), "fotos", settings, ["a@example.org"], links)
    assert (
        "1 Gruppe zusammengeführt: 2 Dateien (4,8 MB) in Quarantäne verschoben" in mail["Subject"]
    )
    bodies = [mail.get_body((kind,)).get_content() for kind in ("plain", "html")]
    page = shown(group(1), group(2, state="undone", undone_by="ben", undone_at=NOW), language="de")
    bodies += [done_page(page).decode(), confirm_undo_page(page, [group(1)], "").decode()]
    for body in bodies:
        bare = re.sub(r"<style.*?</style>|<[^>]*>|https?:\S+", " ", body, flags=re.S)
        words = set(re.findall(r"[A-Za-z]+", bare))
        assert not words & {"the", "of", "and", "this", "groups", "files", "until", "Undo"}
    assert 'lang="de"' in bodies[1]
    assert 'lang="de"' in bodies[2]
    assert "noch 12 Tage in Quarantäne" in bodies[2]
    assert receipt_headline(receipt()).startswith("Merged"), "the language ends with the letter"


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")
def test_page_question_and_mail_fit_a_phone_and_axe_finds_nothing(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    long = group(1, keeper="x" * 300 + ".tif")
    pages = {}
    for language in ("en", "de"):
        settings, links = MailSettings(language=language), ReceiptLinks("u", "d", NOW)
        mail = receipt_mail(receipt(), "photos", settings, ["a@example.org"], links)
        told = {"notice": "undone", "problems": ["a: b"], "language": language}
        pages |= {
            f"{language}-done": done_page(shown(long, group(2), **told)),
            f"{language}-asked": confirm_undo_page(shown(long, language=language), [long], ""),
            f"{language}-mail": mail.get_body(("html",)).get_content().encode(),
        }
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
            for name, body in pages.items():
                file = tmp_path / f"{name}.html"
                file.write_bytes(body)
                page.goto(file.as_uri())
                wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, name
                page.evaluate(script)
                rules = "{ resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa'] }"
                found = page.evaluate(f"() => axe.run(document, {rules})")
                assert [one["id"] for one in found["violations"]] == [], (name, scheme)
