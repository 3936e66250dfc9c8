"""The light table and the batches of report.html, in a browser."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tasks.merging.rules.decisions import parse_decisions
from tasks.merging.rules.policy import load_policy
from tests.reports.test_batches import LARGE, SAME
from tests.reports.test_page_browser import (
    browser,
    expect,
    open_page,
    planned,
    pytestmark,
    saved,
    told_of,
)

__all__ = ["browser", "open_page", "pytestmark"]  # the fixtures of the report page's tests


def told(make_summary, *keys, evidence=None, **more):
    """A planned summary whose first group's pair has an evidence."""
    import polars as pl

    summary = planned(make_summary, *keys, **more)
    text = (evidence or replace(SAME, covered=0.04, covered_at=(0.75, 0.25))).as_json()
    pairs = summary.pairs.with_columns(
        pl.when(pl.int_range(pl.len()) == 0)
        .then(pl.lit(text))
        .otherwise(pl.lit(replace(SAME, gain=0.5).as_json()))
        .alias("evidence"),
        pl.lit(value=False).alias("flipped"),
    )
    members = summary.members.with_columns(
        pl.lit(LARGE["width"], pl.Int32).alias("width"),
        pl.lit(LARGE["height"], pl.Int32).alias("height"),
        pl.col("key").alias("sha256"),
    )
    return replace(summary, pairs=pairs, members=members)


def until(page, what: str) -> None:
    """Wait for what a script says; playwright's own way needs eval, which the page forbids."""
    for _ in range(200):
        if page.evaluate(what):
            return
        page.wait_for_timeout(50)
    raise AssertionError(what)


def eye(page) -> dict:
    return json.loads(page.evaluate("JSON.stringify(eye)"))


def test_all_move_in_step_and_keys_do_everything(make_summary, open_page):
    page = open_page(told(make_summary, ["a/1.jpg", "b/1.jpg"], ["a/2.jpg", "b/2.jpg"]), "#g0000")
    page.keyboard.press("t")
    expect(page.locator("#view-table")).to_be_visible()
    expect(page.locator("#panes canvas")).to_have_count(2)
    expect(page.locator("#panes canvas").first).to_have_attribute(
        "aria-label", "File that stays: a/1.jpg, 1000 \u00d7 800"
    )
    until(page, "eye.zoom > 0")
    fitted = eye(page)
    page.keyboard.press("z")
    until(page, "Math.abs(eye.zoom - 1 / density()) < 1e-6")
    expect(page.locator("#table-scale")).to_have_text("100 %")
    page.keyboard.press("ArrowRight")
    assert eye(page)["x"] > fitted["x"]
    spots = page.evaluate(
        "[0, 1].map((at) => JSON.stringify(spotOf(GROUPS[current], at, 600, 400)))"
    )
    assert spots[0] == spots[1], "the same thing lies at the same place in each"
    page.keyboard.press("n")  # where something was added: 0.75, 0.25
    found = eye(page)
    assert (round(found["x"], 2), round(found["y"], 2)) == (0.75, 0.25)
    page.keyboard.press("0")
    until(page, "eye.fitted")
    for key, name in (("o", "overlay"), ("x", "slider"), ("e", "difference"), ("f", "flicker")):
        page.keyboard.press(key)
        expect(page.locator("#panes canvas")).to_have_count(1)
        expect(page.locator(f"#table-{name}")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(page.locator("#panes canvas")).to_have_count(2)
    page.keyboard.press("m")
    expect(page.locator("#table-lens")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("d")  # decides, and goes on to the next group on the table
    expect(page.locator("#group")).to_have_attribute("data-group", "g0001")
    expect(page.locator("#view-table")).to_be_visible()
    assert page.evaluate("location.hash") == "#table/g0001"
    page.keyboard.press("Escape")  # the loupe
    page.keyboard.press("Escape")  # the table
    expect(page.locator("#sheet")).to_be_visible()
    expect(page.locator("#acts")).to_be_visible()


def test_originals_are_shown_only_where_all_of_them_can_be_held(make_summary, open_page):
    """Else each would push out another, which the next frame would load again, without an end."""
    page = open_page(told(make_summary, ["a/1.jpg", "b/1.jpg"]), "#table/g0000")
    spared = """(sides) => {
      const rows = sides.map(([wide, high], at) => {
        const row = [...GROUPS[current].m[0]];
        [row[WIDE], row[HIGH], row[ASSET]] = [wide, high, "asset " + at];
        return row; });
      spare(rows);
      return rows.map((row) => toSpare.has(row[ASSET])); }"""
    assert page.evaluate(spared, [[6000, 4000]] * 7) == [False] * 6 + [True]
    assert page.evaluate(spared, [[12000, 12000]] * 2) == [False, True]
    assert page.evaluate(spared, [[20000, 12000], [6000, 4000]]) == [True, False]
    assert page.evaluate(spared, [[800, 600]] * 12) == [False] * 12


def test_what_is_drawn_is_the_picture_and_where_it_differs(make_summary, open_page):
    page = open_page(told(make_summary, ["a/1.jpg", "b/1.jpg"]), "#table/g0000")
    until(page, "eye.zoom > 0 && previews.size === 2")
    pixels = """() => {
      paint();
      const canvas = panes[1].canvas, pen = canvas.getContext('2d');
      const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
      let red = 0;
      for (let at = 0; at < data.length; at += 4) red += data[at] > 150 && data[at + 1] < 60;
      return red; }"""
    expect(page.locator(".pane-note").first).to_have_text("preview")
    assert page.evaluate(pixels) > 50, "a ring around the place that differs"
    page.keyboard.press("h")
    assert page.evaluate(pixels) == 0


def test_a_batch_is_looked_through_and_decided_on_at_once(make_summary, open_page):
    keys = [[f"a/{n}.jpg", f"b/{n}.jpg"] for n in range(5)]
    page = open_page(told(make_summary, *keys, tiers=("near",)), "#batches")
    cards = page.locator(".batch")
    expect(cards).to_have_count(2)
    expect(cards.first).to_contain_text("Other tones or sharpness")
    expect(cards.first).to_contain_text("4 groups, 4 duplicates")
    page.click("#look-added")
    expect(page.locator("#shown")).to_have_text("1 of 5 groups")
    expect(page.locator("#group")).to_have_attribute("data-group", "g0000")
    page.keyboard.press("v")
    page.click("#decide-tones")
    expect(page.locator("#bulk-sum")).to_contain_text("3 groups")
    expect(page.locator("#bulk-sum")).to_contain_text("1 with a question")
    page.select_option("#bulk-word", "distinct")
    expect(page.locator("#bulk-do")).to_have_text("Not duplicates: 4 groups")
    page.click("#bulk-do")
    expect(cards.first).to_contain_text("4 of 4 decided")
    page.click("#open-export")
    text = json.loads(saved(page, "#save-json"))
    assert {one["decision"] for one in text["groups"]} == {"reject"}
    assert len(text["groups"]) == 4
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    expect(cards.first).to_contain_text("0 of 4 decided")


def test_a_batch_offers_to_decide_on_what_may_be_decided_at_once(make_summary, open_page):
    keys = [[f"a/{n}.jpg", f"b/{n}.jpg"] for n in range(4)]
    summary = told(make_summary, *keys, tiers=("near",))
    groups = summary.planned.groups  # the first is a batch of its own, the second has a question
    young = replace(groups[3], refused="younger than 24 h: a/3.jpg (2.0 h)", operations=())
    bare = replace(
        summary,
        groups=summary.groups.drop("action", "standing"),
        members=summary.members.drop("action"),
    )
    plan = replace(summary.planned, groups=(*groups[:3], young))
    page = open_page(told_of(bare, plan), "#batches")
    card = page.locator(".batch", has=page.locator("#decide-tones"))
    button = page.locator("#decide-tones")
    expect(button).to_have_text("Decide on 1 group\u2026")
    left = "Left out: 1 with a question for a person, 1 that may not be merged."
    expect(card).to_contain_text(left)
    page.click("#decide-tones")
    expect(page.locator("#bulk-sum")).to_contain_text("1 group: ")
    page.click("#bulk-do")
    expect(card).to_contain_text("1 of 3 decided")
    expect(button).to_have_text("Nothing to decide at once")
    expect(button).to_be_disabled()
    expect(card).to_contain_text(left)


@pytest.mark.long
def test_filters_by_folder_owner_age_and_bytes(make_summary, open_page):
    import polars as pl

    keys = [["a/1.jpg", "b/1.jpg"], ["a/2.jpg", "c/2.jpg"], ["d/3.jpg", "d/4.jpg"]]
    summary = told(make_summary, *keys)
    rows = summary.members
    described = pl.DataFrame(
        {
            "asset_id": rows["asset_id"],
            "tags": [json.dumps({"owner": "north" if "a/" in k else "south"}) for k in rows["key"]],
            **{name: ["{}"] * rows.height for name in ("metadata", "xmp", "sidecar_xmp", "exif")},
        }
    )
    page = open_page(replace(summary, described=described), "#groups")
    page.click(".more-filters summary")
    shown = page.locator("#shown")
    page.select_option("#by-folder", "c/")
    expect(shown).to_have_text("1 of 3 groups")
    page.click("#clear-filters")
    page.select_option("#by-owner", "north")
    expect(shown).to_have_text("2 of 3 groups")
    page.select_option("#by-owner", "south")
    expect(shown).to_have_text("3 groups")
    page.select_option("#by-age", "old")
    expect(shown).to_have_text("0 of 3 groups")
    page.select_option("#by-age", "7")
    expect(shown).to_have_text("3 groups")
    page.select_option("#by-bytes", "1000000")
    expect(shown).to_have_text("0 of 3 groups")


def test_the_value_that_wins_is_chosen_in_its_cell(make_summary, open_page):
    keys = [["a/1.jpg", "b/1.jpg"], ["a/2.jpg", "b/2.jpg"], ["a/3.jpg", "b/3.jpg"]]
    plan = planned(make_summary, *keys).planned
    asks = replace(plan.groups[1], questions=("tags.licence: the policy asks: 'x', 'b/2.jpg'",))
    plan = replace(plan, groups=(plan.groups[0], asks, plan.groups[2]))
    page = open_page(told_of(make_summary(*keys), plan), "#g0001")
    page.keyboard.press("a")
    expect(page.locator("#toast")).to_contain_text("Answer first")
    expect(page.locator("#choice-0-had")).to_be_focused()
    page.keyboard.press("Enter")  # the value of the file that stays: no other plan is needed
    expect(page.locator("#act-line")).not_to_contain_text("answer first")
    expect(page.locator("#act-accept")).to_contain_text("Tag 1 duplicate")
    page.click("#choice-0-o0")
    expect(page.locator(".gets")).to_have_text("It gets b/2.jpg")
    expect(page.locator("#act-accept")).to_contain_text("Plan anew: with the values you chose")
    page.keyboard.press("u")
    expect(page.locator(".gets")).to_have_text("It gets x")
    page.keyboard.press("a")
    page.evaluate("location.hash = 'g0002'")
    page.click("#choice-0-o0")
    page.keyboard.press("a")
    page.reload()  # the browser keeps them
    page.click("#open-export")
    found = parse_decisions(saved(page, "#save-json"))
    assert {one.group: (one.accept_questions, one.values) for one in found.groups} == {
        "g0001": (True, {}),
        "g0002": (False, {"tags.licence": "b/3.jpg"}),
    }


@pytest.mark.long
def test_rules_are_tried_learned_and_exported(make_summary, open_page):
    import polars as pl

    keys = [[f"web/{n}.jpg", f"masters/{n}.jpg"] for n in range(5)]
    summary = told(make_summary, *keys)
    larger = pl.when(pl.col("key").str.starts_with("masters/")).then(9000).otherwise(1500)
    members = summary.members.with_columns(larger.cast(pl.Int64).alias("size"))
    page = open_page(replace(summary, members=members), "#rules")
    said = page.locator("#rules-said")
    expect(said).to_have_text("0 groups of 5 would keep another file")
    page.click("#rule-drop-1")  # the rule of the original by its pixels
    expect(said).to_have_text("5 groups of 5 would keep another file")  # the larger files
    page.click("#rule-drop-5")  # the rule of the file's size
    expect(said).to_have_text("5 groups of 5 would keep another file")  # by the key
    page.select_option("#rule-name", "prefix")
    page.click("#rule-add")
    expect(page.locator("#toast")).to_contain_text("Write what to prefer")
    page.fill("#rule-values", "web/")
    page.click("#rule-add")
    expect(said).to_have_text("0 groups of 5 would keep another file")
    policy = load_policy(saved(page, "#rule-save"), "policy.yaml")
    first = policy.rules[0]
    assert (first.action.value, first.keeper[0].name, first.keeper[0].values) == (
        "report",
        "prefix",
        ("web/",),
    )
    page.click("#rule-drop-0")
    page.click("#rule-use")  # in the groups nobody has decided on
    expect(said).to_have_text("0 groups of 5 would keep another file")
    for number in (0, 2, 3, 4):
        page.evaluate(f"location.hash = 'g000{number}'")
        expect(page.locator("#group")).to_have_attribute("data-group", f"g000{number}")
        if number == 4:
            page.keyboard.press("2" if page.evaluate("keeperOf(GROUPS[4])") == 0 else "1")
        page.keyboard.press("a")
    page.evaluate("location.hash = 'rules'")
    learned = page.locator(".learned li").first
    expect(learned).to_contain_text("right in 3 of 4 decisions")
    expect(learned.locator("a")).to_have_attribute("href", "#g0004")


@pytest.mark.long
@pytest.mark.parametrize("width", [390, 1280, 2560])
@pytest.mark.parametrize("way", ["ltr", "rtl"])
def test_no_view_is_wider_than_the_screen(make_summary, open_page, width, way):
    keys = [["a/one.jpg", "b/one.jpg", "c/one.jpg"], ["a/two.jpg", "b/two.jpg"]]
    page = open_page(told(make_summary, *keys), viewport={"width": width, "height": 800})
    page.evaluate("(way) => { document.documentElement.dir = way }", way)
    for place in ("overview", "g0000", "batches", "rules", "table/g0000", "graph"):
        page.evaluate("(place) => { location.hash = place }", place)
        view = "groups" if place == "g0000" else place.partition("/")[0]
        expect(page.locator(f"#view-{view}")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place
        # Whoever moves by Tab sees where they are, and is not below what covers it.
        page.keyboard.press("Tab")
        assert page.evaluate(
            "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
            " || document.activeElement === document.body"
        ), place
