"""A German reader meets no English in mail, report, form, and what stages and rules said.

What counts as English is read from the catalogs themselves: a word that English texts use and
German ones do not. So a text that was forgotten is found by its "the", "of" or "and".
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.order import render
from reports.mail import scan_mail
from reports.page import report_page
from reports.review import Review, confirm_page, message_page, review_page
from reports.translated import QUESTIONS, translated, translated_question
from reports.words import reason_words, speaking, texts
from tasks.dedup.explain import explain_pair
from tasks.merging.rules.plan_note import note_plan
from tasks.merging.rules.plans import Action
from tasks.records import Receipt
from tasks.settings import MailSettings
from tests.dedup.test_explain import evidences, sides
from tests.reports.conftest import NOON
from tests.reports.test_page_browser import CHROMIUM, planned

#: What stays as it is: terms of policies and data files, commands, and names in the summaries.
ALLOWED = {"fill", "ask", "all", "stop", "plan", "show", "full", "read", "seen", "by", "approve"}
ALLOWED |= {"decisions", "duplicate", "json", "csv", "groups", "pairs", "coverage", "two", "one"}
ALLOWED |= {"verdict", "verdicts", "three", "four", "north", "report", "no", "keeper", "caps"}
ALLOWED |= {"licence", "assets"}
KEYS = (["a/one.jpg", "b/one.jpg"], ["a/two.jpg", "b/two.jpg", "c/two.jpg"], ["a/x.jpg", "b/x.jpg"])
#: All that a browser shows, and reads aloud; not the keys and values of strangers.
COLLECT = """() => [...document.querySelectorAll("body *")]
  .filter((one) => one.checkVisibility())
  .flatMap((one) => [
    ...["aria-label", "placeholder", "title"].map((name) => one.getAttribute(name)),
    ...(one.closest("bdi, .mono, script, style, pre") ? [] : [...one.childNodes])
      .filter((node) => node.nodeType === 3).map((node) => node.data)])
  .filter(Boolean).join(" ")"""


def vocabulary(*languages: str) -> set[str]:
    said = " ".join(text for one in languages for text in texts(one).values())
    return words_of(re.sub(r"\{\w+\}", " ", said))


def words_of(said: str) -> set[str]:
    return set(re.findall(r"[a-zäöüß]{2,}", said.lower()))


ENGLISH = vocabulary("en") - vocabulary("de") - ALLOWED


class Visible(HTMLParser):
    """What a reader sees of a page, and what is read to those who see none."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self._hidden = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self._hidden += tag in {"script", "style", "bdi"}
        told = ("aria-label", "placeholder", "title", "alt", "data-label")
        self.said += [value for name, value in attrs if name in told and value]

    def handle_endtag(self, tag):
        self._hidden -= tag in {"script", "style", "bdi"}

    def handle_data(self, data):
        if not self._hidden:
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.said)


@pytest.fixture
def scan(make_summary):
    """A summary with evidence, reasons, a question, and a group to which nothing may be done."""
    summary = planned(make_summary, *KEYS)
    changed = "cropped to 80% of the picture, brighter by 0.3 stops"
    first = "shows more of the picture"
    pairs = summary.pairs.with_columns(
        pl.lit(changed).alias("changes"), pl.lit(first).alias("reasons")
    )
    plan = summary.planned
    groups = (
        replace(
            plan.groups[0], action=Action.QUARANTINE, reasons=("larger (40x30 against 20x15)",)
        ),
        replace(
            plan.groups[1],
            questions=("licence differs: a/two.jpg: x, b/two.jpg: y: which one holds?",),
        ),
        replace(plan.groups[2], refused="younger than 24 h: a/x.jpg (2.0 h)", operations=()),
    )
    why = ("larger (40x30 against 20x15)",)
    groups = tuple(replace(one, reasons=why) for one in groups)
    plan = replace(plan, groups=groups, policy="photos 1f2e3d")
    pages = {"anna@example.org": "https://gate.example/review/x"}
    note = note_plan(plan, pages=pages, pages_until=datetime(2026, 12, 4, 9, 30, tzinfo=UTC))
    return replace(summary, pairs=pairs, planned=plan, plan=note, threshold=0.6)


def english(said: str) -> set[str]:
    return words_of(said) & ENGLISH


def test_the_catalogs_differ_in_what_makes_a_language():
    assert {"the", "of", "and", "is", "not", "file", "picture"} <= ENGLISH


def test_the_mail_of_a_scan(scan):
    report = Receipt("report.html", "s3://b/bericht.html", "https://example.org/r")
    for part in (False, True):
        mail = scan_mail(
            scan, [report], MailSettings(language="de"), ["anna@example.org"], part=part
        )
        plain = re.sub(r"\S+[/@.]\S+", " ", mail.get_body(("plain",)).get_content())
        html = Visible(mail.get_body(("html",)).get_content()).text
        html = re.sub(r"\S+[/@.]\S+|(?:a|b|c)/\s*\S+", " ", html)
        assert english(plain) == set()
        assert english(html) == set()
        assert english(mail["Subject"] + mail["Thread-Topic"]) == set()
    assert "auf 80% des Bildes beschnitten" in plain
    assert "2 Lizenzen" in plain
    assert "Zusammengef\u00fchrt: " in plain, "a long word does not touch what is said of it"
    assert "Der Link zum Pr\u00fcfen funktioniert bis 2026-12-04 09:30 UTC." in plain


def test_the_report_without_its_script(scan):
    html = report_page(scan, language="de").body.decode()
    assert '<html lang="de">' in html
    seen = re.sub(r"\S+\.(?:jpg|json|csv)\b|name=\S+", " ", Visible(html).text)
    assert english(re.sub(r"\b(?:read|seen|s3\S*)\b", " ", seen)) == set()


def test_data_files_keep_their_terms(scan):
    english_files = {one.name: one.body for one in render(scan)}
    german = {one.name: one.body for one in render(scan, "de")}
    assert german.keys() == english_files.keys()
    differ = {name for name in german if german[name] != english_files[name]}
    assert {name for name in differ if not name.endswith(".parquet")} == {"report.html"}


def test_a_language_is_a_pages_own(scan):
    def tiers(language: str) -> str:
        return report_page(scan, language=language).body.decode()

    for language, said in (
        ("en", "Edited copy"),
        ("de", "Bearbeitete Kopie"),
        ("en", "Edited copy"),
    ):
        page = tiers(language)
        assert f'<span class="badge near">{said}</span>' in page
        assert f'"tier.near":"{said}"' in page


def test_the_form_and_its_question(scan):
    empty = pl.DataFrame(schema=dict.fromkeys(("group_id", "decision", "by", "comment"), pl.String))
    review = Review(
        scan.planned,
        "anna@example.org",
        NOON + timedelta(days=7),
        empty,
        keepers=True,
        report="bericht",
        now=NOON,
        language="de",
        notice="planned",
    )
    for page in (review_page(review), confirm_page(review)):
        seen = re.sub(r"\S+\.jpg", " ", Visible(page.decode()).text)
        assert '<html lang="de">' in page.decode()
        assert english(seen) == set()


#: With what only some rules say of a pair.
all_evidence = st.builds(
    replace,
    evidences,
    covered=st.sampled_from([0.0, 0.5]),
    differs=st.sampled_from(["", "ink", "left", "right", "tone"]),
    proof=st.sampled_from(["", "same", "differs", "reads", "unknown"]),
    uneven=st.sampled_from([0.0, 1000.0]),
    veil=st.sampled_from([0.0, 0.3]),
    see_through=st.sampled_from([0.0, 0.5]),
    besides=st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(evidence=all_evidence, left=sides, right=sides)
def test_all_evidence(evidence, left, right):
    said = explain_pair(evidence, left, right)
    with speaking("de"):
        told = translated(said.changes) + ", " + translated("; ".join(said.reasons))
    assert english(told) == set(), told
    assert translated(said.changes) == said.changes, "English stays as it was said"


def test_reasons_and_questions():
    kept = "in the preferred prefix masters/; larger (40x30 against 20x15, 10x8 and 3 more)"
    with speaking("de"):
        assert translated(kept).startswith("im bevorzugten Ordner masters/; größer (40x30 gegen ")
        for form, _ in QUESTIONS:
            asked = form.replace(r"\?", "?")
            asked = re.sub(r"\(\?P<field>.*?\[\^:\]\+\)", "tags.x", asked)
            asked = re.sub(r"\(\?P<\w+>\.\*\)", "k.jpg", asked)
            told = translated_question(asked)
            assert told != asked
            assert english(told.replace("k.jpg", "")) == set(), told
        assert translated_question("anything else?") == "anything else?"
        assert reason_words("format_heic") == "HEIC, ein Format, das nicht gelesen wird"


def test_a_link_that_does_not_work():
    ended = "This link ended on 2026-11-22 at 12:00 UTC. Nothing was decided with it now; ask."
    page = message_page(403, ended, "de").decode()
    assert "Dieser Link funktioniert nicht" in page
    assert "Dieser Link galt bis 2026-11-22, 12:00 UTC." in page
    assert "That cannot be done" in message_page(418, "anything else").decode()


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")
def test_every_view_of_the_report(scan, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    file = tmp_path / "report.html"
    file.write_bytes(report_page(scan, language="de").body)
    found: dict[str, set[str]] = {}
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(20_000)
        page.goto(file.as_uri())
        for name, keys in (
            ("overview", ""),
            ("group", "j"),
            ("question", "j"),
            ("refused", "j"),
            ("apart", "kci"),
            ("decided", "a"),
            ("later", "us"),
            ("keeper", "2"),
            ("table", "t"),
            ("overlay", "o"),
            ("batches", "v"),
            ("rules", "r"),
            ("graph", "g"),
            ("keys", "?"),
            ("many", "~b"),
            ("export", "~"),
        ):
            for key in keys.replace("~", ""):
                page.keyboard.press(key)
            if name in {"many", "export"}:
                page.keyboard.press("Escape")
            if name == "many":
                page.keyboard.press("b")
            if name == "export":
                page.locator("#open-export").click()
            page.wait_for_timeout(100)
            seen = re.sub(r"\S+\.(?:jpg|json|csv)\b|\S+/\S*", " ", page.evaluate(COLLECT))
            found[name] = english(seen)
        browser.close()
    assert {name: words for name, words in found.items() if words} == {}
