"""report.html as people use it: in a browser, by keyboard, with hostile names in it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from reports.page import report_page
from tasks.merging.rules.decisions import parse_decisions
from tasks.merging.rules.plan_note import note_plan
from tasks.merging.rules.plans import (
    PLAN_FORM,
    Action,
    FieldMerge,
    Operation,
    OperationKind,
    Plan,
    PlannedGroup,
)
from tasks.queries.verdicts import parse_verdicts
from tasks.records import ObjectState, Tier
from tasks.reporting.plan_view import with_plan

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"),
]
expect = playwright.expect
WORST = [
    "<script>window.ran=1</script>.jpg",
    '"><img src=x onerror=window.ran=1>.jpg',
    "</script><svg onload=window.ran=1>.jpg",
    "turned \u202egpj.exe",
    "=cmd|'/c calc'!A1.jpg",
    "javascript:window.ran=1",
    "x" * 1000 + ".jpg",
    "a/" * 400 + "b.jpg",
    "line\nbreak\r\n\x00\ufeff.jpg",
    "' onfocus=window.ran=1 autofocus '",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        yield play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens a summary's page as a file; fails on any error of its script."""
    contexts, problems = [], []

    def opened(summary, place: str = "", **context: Any):
        file = tmp_path / "report.html"
        file.write_bytes(report_page(summary).body)
        contexts.append(browser.new_context(accept_downloads=True, **context))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else 0)
        page.goto(file.as_uri() + place)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def told_of(summary, plan: Plan):
    """A summary with a plan, as ``summarize_scan`` makes it."""
    note = note_plan(plan)
    groups, members = with_plan(summary.groups, summary.members, summary.pairs, note)
    groups = groups.sort("group_id")  # as the tests count them
    return replace(summary, groups=groups, members=members, plan=note, planned=plan)


def planned(make_summary, *keys: list[str], **more: Any):
    """A summary whose groups a plan would act on; the second has a question."""
    summary = make_summary(*keys, **more)
    groups = []
    for number, (name, names) in enumerate(zip(summary.groups["group_id"], keys, strict=True)):
        states = tuple(ObjectState(key, etag="e", size=9) for key in names)
        asked = ("north or south?",) if number == 1 else ()
        fields = (
            FieldMerge("tags.agency", "fill", "north", None, {names[1]: "north"}),
            FieldMerge("tags.licence", "ask", "x", "x", {names[1]: names[1]}, conflict=True),
        )
        groups.append(
            PlannedGroup(
                name,
                f"f{number}",
                Tier.NEAR,
                0.91,
                "all",
                Action.TAG,
                names[0],
                tuple(names[1:]),
                ("has the most pixels",),
                fields,
                asked,
                "",
                9,
                (),
                False,
                tuple(
                    Operation(OperationKind.TAG, one.key, one, "a duplicate", tags={})
                    for one in states[1:]
                ),
                states,
            )
        )
    plan = Plan(
        PLAN_FORM,
        "s3://dam",
        summary.scan_id,
        "scope",
        "p 1",
        {"objects": 999.0, "bytes": 1e9, "share": 1.0},
        30,
        99,
        tuple(groups),
    )
    return told_of(make_summary(*keys, **more), plan)


FOUR = (
    ["a/one.jpg", "b/one.jpg"],
    ["a/two.jpg", "b/two.jpg"],
    ["a/three.jpg", "b/three.jpg", "c/three.jpg"],
    ["a/four.jpg", "b/four.jpg"],
)


def saved(page, button: str) -> str:
    with page.expect_download() as download:
        page.click(button)
    return Path(download.value.path()).read_text(encoding="utf-8")


def test_review_by_keyboard_to_exported_decisions(make_summary, open_page):
    summary = planned(make_summary, *FOUR)
    page = open_page(summary)
    group = page.locator("#group")
    page.keyboard.press("j")  # from the overview to the first group that waits
    expect(group).to_have_attribute("data-group", "g0000")
    page.keyboard.press("a")
    expect(group).to_have_attribute("data-group", "g0001")
    page.keyboard.press("a")  # not with a question unread
    expect(page.locator("#toast")).to_contain_text("I have read this")
    expect(group).to_have_attribute("data-group", "g0001")
    page.keyboard.press("Space")  # the focus is on the box
    page.keyboard.press("a")
    expect(group).to_have_attribute("data-group", "g0002")
    page.keyboard.press("d")
    page.keyboard.press("u")
    expect(group).to_have_attribute("data-group", "g0002")
    page.keyboard.press("2")  # the second file stays instead
    expect(page.locator(".is-keeper")).to_contain_text("b/three.jpg")
    page.keyboard.press("a")
    expect(group).to_have_attribute("data-group", "g0003")
    page.keyboard.press("d")
    expect(page.locator("#progress")).to_contain_text("4 of 4 decided")

    page.reload()  # the browser keeps them
    expect(page.locator("#progress")).to_contain_text("4 of 4 decided")
    page.click("#open-export")
    found = parse_decisions(saved(page, "#save-json"))
    assert found.plan_hash == summary.planned.hash
    assert {
        one.group: (one.decision, one.accept_questions, one.keeper) for one in found.groups
    } == {
        "g0000": ("approve", False, None),
        "g0001": ("approve", True, None),
        "g0002": ("approve", False, "b/three.jpg"),
        "g0003": ("reject", False, None),
    }
    verdicts = parse_verdicts(saved(page, "#save-csv"))
    assets = dict(summary.members.select("asset_id", "key").iter_rows())
    assert {(assets[one.left], assets[one.right], one.verdict) for one in verdicts} == {
        ("a/one.jpg", "b/one.jpg", "duplicate"),
        ("a/two.jpg", "b/two.jpg", "duplicate"),
        ("b/three.jpg", "a/three.jpg", "duplicate"),
        ("b/three.jpg", "c/three.jpg", "duplicate"),
        ("a/four.jpg", "b/four.jpg", "distinct"),
    }
    assert {(one.left, one.right) for one in found.verdicts} == {
        (one.left, one.right) for one in verdicts
    }


@pytest.mark.long
def test_one_that_is_not_a_copy(make_summary, open_page):
    page = open_page(planned(make_summary, *FOUR), "#g0002")
    page.keyboard.press("c")  # to the third file
    page.keyboard.press("i")
    expect(page.locator("#apart-2")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("a")
    page.click("#open-export")
    found = parse_decisions(saved(page, "#save-json"))
    assert [(one.group, one.decision) for one in found.groups] == [("g0002", "reject")]
    assert sorted(one.verdict for one in found.verdicts) == ["distinct", "duplicate"]


@pytest.mark.long
@pytest.mark.parametrize(("key", "word"), [("d", "distinct"), ("l", "linked")])
def test_what_is_said_of_a_group_is_said_of_every_pair(make_summary, open_page, key, word):
    """Said of the keeper's pairs alone, the two others came back as a group of their own."""
    page = open_page(planned(make_summary, *FOUR), "#g0002")
    page.keyboard.press(key)
    page.click("#open-export")
    found = parse_decisions(saved(page, "#save-json"))
    assert len({frozenset((one.left, one.right)) for one in found.verdicts}) == 3
    assert {one.verdict for one in found.verdicts} == {word}


@pytest.mark.long
def test_many_at_once_with_a_summary_before(make_summary, open_page):
    keys = [[f"web/{n}.jpg", f"web/copy{n}.jpg"] for n in range(8)] + [["web/x", "other/x"]]
    page = open_page(planned(make_summary, *keys, tiers=("near", "exact")))
    page.keyboard.press("b")
    summary = page.locator("#bulk-sum")
    expect(summary).to_contain_text("3 groups: 0 files would leave their place, 0 B")
    expect(summary).to_contain_text("duplicates are tagged: 3 groups")
    expect(summary.locator("li").first).to_contain_text("web/3.jpg stays, 0 files, 0 B")
    expect(summary).to_contain_text("1 with a question")
    page.check("[name=bulk-tier][value='']")
    expect(page.locator("#bulk-do")).to_have_text("Merge 8 groups: move 0 files")
    page.fill("#bulk-prefix", "web/")
    expect(page.locator("#bulk-do")).to_have_text("Merge 7 groups: move 0 files")
    page.fill("#bulk-score", "0.99")
    expect(page.locator("#bulk-do")).to_be_disabled()
    page.fill("#bulk-score", "0.9")
    page.click("#bulk-do")
    expect(page.locator("#progress")).to_contain_text("7 of 9 decided")
    page.keyboard.press("u")
    expect(page.locator("#progress")).to_contain_text("0 of 9 decided")


def test_the_button_says_what_it_does_and_what_may_not_be_done_has_none(make_summary, open_page):
    keys = [["a/1.jpg", "b/1.jpg"], ["a/2.jpg", "b/2.jpg"], ["a/3.jpg", "b/3.jpg"]]
    tagged = planned(make_summary, *keys)
    first, second, third = tagged.planned.groups
    moves = tuple(
        Operation(kind, one.key, one, "a duplicate", to=f"q/{one.key}")
        for one in first.states[1:]
        for kind in (OperationKind.COPY, OperationKind.DELETE)
    )
    young = "younger than 24 h: b/3.jpg (1.0 h)"
    plan = replace(
        tagged.planned,
        groups=(
            replace(first, action=Action.QUARANTINE, operations=moves),
            second,
            replace(third, operations=(), refused=young),
        ),
    )
    page = open_page(told_of(make_summary(*keys), plan), "#g0000")
    expect(page.locator("#act-accept")).to_contain_text("Merge: move 1 file to quarantine")
    line = page.locator("#act-line")
    expect(line).to_have_text(
        "Moves 1 file (9 B) to quarantine, kept at least 30 days and can be put back until then."
    )
    expect(page.locator("#group")).to_contain_text("licence 'b/1.jpg' would be lost")
    page.goto(page.url.replace("g0000", "g0001"))
    expect(line).to_contain_text("; answer first: north or south?.")
    page.goto(page.url.replace("g0001", "g0000"))
    page.keyboard.press("2")  # another file stays: no plan showed that merge
    expect(page.locator("#act-accept")).to_contain_text("Plan anew")
    page.goto(page.url.replace("g0000", "g0002"))
    expect(line).to_have_text(
        "Nothing may be done: a file is younger than 24 h; what would change that: "
        "from tomorrow 12:01 UTC (2026-11-23)."
    )
    expect(page.locator("#act-accept")).to_have_count(0)
    expect(page.locator("#act-distinct")).to_be_visible()
    page.keyboard.press("a")
    expect(page.locator("#toast")).to_contain_text("Nothing may be done")
    expect(page.locator("#progress")).to_contain_text("0 of 3 decided")


@pytest.mark.long
def test_filter_sort_and_deep_links(make_summary, open_page):
    keys = [[f"web/{n}.jpg", f"web/copy{n}.jpg"] for n in range(300)]
    page = open_page(make_summary(*keys, tiers=("near", "exact")), "#g0200")
    expect(page.locator("#group")).to_have_attribute("data-group", "g0200")
    assert page.locator("#rows li").count() < 40, "only what is in sight is in the document"
    page.fill("#search", "copy299")
    expect(page.locator("#shown")).to_have_text("1 of 300 groups")
    expect(page.locator("#group")).to_have_attribute("data-group", "g0299")
    page.fill("#search", "")
    page.select_option("#by-tier", "0")
    expect(page.locator("#shown")).to_have_text("150 of 300 groups")
    page.evaluate("location.hash = 'g0002'")  # a link to what is filtered away clears the filter
    expect(page.locator("#group")).to_have_attribute("data-group", "g0002")
    expect(page.locator("#shown")).to_have_text("300 groups")
    page.evaluate("location.hash = 'graph'")
    stars = page.locator(".star")
    expect(stars.first).to_be_visible()
    assert stars.count() < 150
    stars.nth(3).focus()
    expect(page.locator("#edge-said")).to_contain_text("cropped to 80 %")
    stars.nth(3).press("Enter")
    expect(page.locator("#group")).to_have_attribute("data-group", "g0003")


@pytest.mark.long
def test_comparison(make_summary, open_page):
    page = open_page(make_summary(["a", "b"]), "#g0000")
    for key, name in (("o", "overlay"), ("x", "slider"), ("e", "difference"), ("f", "flicker")):
        page.keyboard.press(key)
        expect(page.locator("svg.laid")).to_have_class(f"laid {name}")
        assert page.locator("svg.laid image").count() == 2
    page.keyboard.press("Escape")
    expect(page.locator("svg.laid")).to_have_count(0)


@pytest.mark.long
def test_nothing_moves_by_itself_for_those_who_ask(make_summary, open_page):
    page = open_page(make_summary(["a", "b"]), "#g0000", reduced_motion="reduce")
    page.keyboard.press("f")
    said = page.locator(".stage-foot [role=status]")
    expect(said).to_have_text("the duplicate")
    assert page.evaluate("flickering") == 0
    page.keyboard.press("f")
    expect(said).to_have_text("the file that stays")


@pytest.mark.parametrize("width", [1280, 390])
def test_hostile_texts_run_nothing_and_break_nothing(make_summary, open_page, width):
    keys = [[text, "copy of " + text] for text in WORST]
    said = make_summary(*keys)
    rows = said.members["asset_id"]
    texts = [WORST[n % len(WORST)] for n in range(len(rows))]
    described = pl.DataFrame(
        {
            "asset_id": rows,
            "tags": [json.dumps({text: text}) for text in texts],
            "metadata": [json.dumps({"uploader": text}) for text in texts],
            "xmp": [json.dumps({"Rights": text}) for text in texts],
            "sidecar_xmp": ["{}"] * len(rows),
            "exif": ["{}"] * len(rows),
        }
    )
    summary = planned(
        make_summary,
        *keys,
        described=described,
        label=WORST[0],
        collection=WORST[1],
        source=WORST[2],
        where=WORST[3],
    )
    page = open_page(summary, viewport={"width": width, "height": 800})

    def look(where: str) -> None:
        assert page.evaluate("window.ran") is None, where
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{where}: {wide} pixels wide"
        assert "\u202e" not in page.locator("body").inner_text(), where

    look("overview")
    for name in summary.groups["group_id"]:
        page.evaluate("(id) => { location.hash = id }", name)
        expect(page.locator("#group")).to_have_attribute("data-group", name)
        look(name)
        page.evaluate("window.scrollTo(0, 1e6)")
        if name != "g0001":
            page.keyboard.press("d")
    page.evaluate("location.hash = 'graph'")
    expect(page.locator(".star").first).to_be_visible()
    page.locator(".star").first.focus()
    look("graph")
    page.click("#open-export")
    rows_ = list(csv.reader(io.StringIO(saved(page, "#save-csv"))))
    assert len(rows_) == len(WORST)
    assert not any(cell[:1] in "=+-@\t\r" for row in rows_ for cell in row if cell)
    look("export")


@pytest.mark.long
def test_on_paper_the_groups_are_there(make_summary, open_page):
    page = open_page(make_summary(["a.jpg", "b.jpg"]))
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    paper = page.locator("#paper")
    expect(paper).to_be_visible()
    expect(paper).to_contain_text("★ File that stays a.jpg")
    expect(paper).to_contain_text("cropped to 80 %")
    expect(page.locator("header.top")).to_be_hidden()
    expect(page.get_by_text("not an image")).to_be_visible()


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(make_summary, open_page, scheme, width):
    axe = pytest.importorskip("axe_playwright_python")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    page = open_page(
        planned(make_summary, *FOUR), color_scheme=scheme, viewport={"width": width, "height": 800}
    )

    def examine(where: str) -> None:
        found = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
        serious = [
            (one["id"], one["nodes"][0]["html"][:200], one["nodes"][0]["failureSummary"])
            for one in found["violations"]
            if one["impact"] in {"serious", "critical"}
        ]
        assert serious == [], where

    page.evaluate(script)
    examine("overview")
    page.evaluate("location.hash = 'g0001'")
    expect(page.locator("#group")).to_have_attribute("data-group", "g0001")
    examine("group")
    page.keyboard.press("x")
    examine("comparison")
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    examine("decided")
    page.keyboard.press("b")
    examine("bulk")
    page.keyboard.press("Escape")
    for name in ("batches", "rules"):
        page.evaluate("(name) => { location.hash = name }", name)
        expect(page.locator(f"#view-{name} h1")).to_be_visible()
        examine(name)
    page.evaluate("location.hash = 'table/g0002'")
    expect(page.locator("#panes canvas").first).to_be_visible()
    examine("table")
    page.keyboard.press("x")
    examine("table, one on the other")
    page.keyboard.press("Escape")
    page.evaluate("location.hash = 'graph'")
    expect(page.locator(".star").first).to_be_visible()
    examine("graph")
