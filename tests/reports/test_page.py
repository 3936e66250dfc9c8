"""report.html, read as a browser would."""

from __future__ import annotations

import base64
import io
import json
from html.parser import HTMLParser

import polars as pl
import pytest
from PIL import Image

from reports.page import headline, report_page, totals
from reports.table import groups_json

ALLOWED = {
    "a", "b", "bdi", "body", "details", "div", "figcaption", "figure", "h1", "h2", "head", "header",
    "html", "img", "li", "main", "meta", "p", "section", "span", "style", "summary", "table",
    "tbody", "td", "th", "thead", "title", "tr", "ul",
}  # fmt: skip


class Page(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(body.decode())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(summary, drawn: int = 500) -> Page:
    return Page(report_page(summary, drawn).body)


def test_groups_and_their_pictures(make_summary):
    page = page_of(make_summary(["a.jpg", "b.jpg"], ["x.jpg", "y.jpg", "z.jpg"]))
    assert [section["id"] for section in page.all("section")] == ["g0000", "g0001"]
    images = page.all("img")
    assert [image["alt"] for image in images[:2]] == ["keeper: a.jpg", "duplicate: b.jpg"]
    for image in images:
        kind, data = image["src"].split(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (8, 8)
    assert "2 groups with 3 duplicates among 8 images; 4.5 kB could be saved." in page.text


def test_no_script_and_a_policy(make_summary, hostile):
    page = page_of(make_summary(hostile))
    policy = [m["content"] for m in page.all("meta") if "Content-Security-Policy" in m.values()]
    assert len(policy) == 1
    assert "default-src 'none'" in policy[0]
    assert "script-src" not in policy[0]
    assert {tag for tag, _ in page.elements} <= ALLOWED
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)


def test_nothing_is_loaded_from_elsewhere(make_summary, hostile):
    page = page_of(make_summary(hostile))
    for tag, attributes in page.elements:
        for name in {"src", "href", "srcset", "action"} & set(attributes):
            assert attributes[name].startswith(("data:image/jpeg;base64,", "#")), tag


@pytest.mark.parametrize("place", ["key", "label", "failed", "source", "where", "across"])
def test_hostile_texts_stay_texts(make_summary, hostile, place):
    plain = {tag for tag, _ in page_of(make_summary(["a", "b"])).elements}
    for text in hostile:
        if place == "key":
            summary = make_summary(["a", text], failed=(), skipped=())
        elif place == "failed":
            summary = make_summary(failed=(text,))
        else:
            summary = make_summary(["a", "b"], **{place: text})
        page = page_of(summary)
        assert {tag for tag, _ in page.elements} <= plain | ALLOWED
        assert "49" not in page.text
        assert not set("\u202e\u2028\ufeff\x00\r") & set(page.text)
        assert text.split("\n")[0].split("\t")[0].split("\u202e")[0] in page.text


def test_only_so_many_groups_are_drawn(make_summary):
    summary = make_summary(*([f"a{n}", f"b{n}"] for n in range(30)))
    page = page_of(summary, drawn=10)
    assert len(page.all("section")) == 10
    assert "20 more groups not drawn here" in page.text
    assert "30 groups with 30 duplicates" in page.text
    assert "1 more group not drawn" in page_of(summary, drawn=29).text
    assert "not drawn" not in page_of(summary, drawn=30).text


def test_a_huge_group_is_cut(make_summary):
    page = page_of(make_summary([f"k{n:03}" for n in range(100)]))
    assert len(page.all("figure")) == 12
    assert "and 88 more assets" in page.text


def test_failures_are_listed_up_to_twenty(make_summary):
    page = page_of(make_summary(failed=tuple(f"f{n:02}.jpg" for n in range(25)), skipped=()))
    assert len(page.all("li")) == 20
    assert "coverage.csv lists them all" in page.text
    assert "cut off: the file ends before the picture does" in page.text


def test_coverage_that_does_not_add_up_is_said(make_summary):
    assert "does not add up" not in page_of(make_summary(["a", "b"])).text
    summary = make_summary(["a", "b"])
    broken = type(summary.coverage)(99, 1, {}, {}, summary.coverage.outcomes)
    assert "does not add up" in page_of(make_summary(["a", "b"], coverage=broken)).text


def test_an_empty_result(make_summary):
    summary = make_summary(skipped=(), failed=())
    page = page_of(summary)
    assert "No duplicates were found." in page.text
    assert headline(summary) == "No duplicates among 3 images."
    assert page.all("section") == []


def test_totals_are_those_of_the_json(make_summary):
    summary = make_summary(["a", "b", "c"], ["x", "y"], ["u", "v"], tiers=("exact", "near", "near"))
    content = json.loads(groups_json(summary).body)
    members = [m for group in content["groups"] for m in group["members"]]
    duplicates = [m for m in members if m["role"] == "duplicate"]
    found = totals(summary)
    assert found["groups"] == len(content["groups"]) == 3
    assert found["duplicates"] == len(duplicates) == 4
    assert found["savings"] == sum(m["size"] for m in duplicates)
    for tier in ("exact", "near"):
        assert found[tier] == sum(m["tier"] == tier for m in duplicates)
    assert found["exact"] + found["near"] == found["duplicates"]
    assert found["failed"] == sum(content["coverage"]["failed"].values())
    assert found["new"] == 3


def test_a_duplicate_says_what_was_done_to_it(make_summary):
    summary = make_summary(["a.jpg", "b.jpg"])
    done = "cropped to 80 %; brighter by 0.3 stops"
    assert Page(report_page(summary).body).text.count(done) == 1
    turned = summary.pairs.with_columns(original=pl.lit("right"))
    text = Page(report_page(make_summary(["a.jpg", "b.jpg"], pairs=turned)).body).text
    assert f"looks like the original of the keeper (larger); the keeper: {done}" in text
