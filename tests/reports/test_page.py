"""report.html, read as a browser would; what its script does is in test_page_browser.py."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest
from PIL import Image

from reports.page import headline, report_page, totals
from reports.table import groups_json


class Page(HTMLParser):
    """The elements and texts of a page, and the data its script reads."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inside: dict[str, str] = {"style": "", "script": ""}
        self.data: dict[str, Any] = {}
        self._open, self._id = "", ""
        self.feed(body.decode())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open = tag if tag in self.inside else ""
        self._id = dict(attrs).get("id") or "" if tag == "script" else ""

    def handle_endtag(self, tag):
        if tag == self._open:
            self._open = ""

    def handle_data(self, data):
        if self._id and self._open:
            self.data[self._id] = json.loads(data)
        elif self._open:
            self.inside[self._open] += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def groups(self) -> list[dict[str, Any]]:
        return self.data["data"]["groups"]

    @property
    def pictures(self) -> list[bytes]:
        parts = [value for name, value in self.data.items() if name.startswith("pictures-")]
        return [base64.b64decode(text) for part in parts for text in part]


def page_of(summary) -> Page:
    return Page(report_page(summary).body)


def test_groups_and_their_pictures(make_summary):
    page = page_of(make_summary(["a.jpg", "b.jpg"], ["x.jpg", "y.jpg", "z.jpg"]))
    assert [group["i"] for group in page.groups] == ["g0000", "g0001"]
    assert [[row[0] for row in group["m"]] for group in page.groups] == [
        ["a.jpg", "b.jpg"],
        ["x.jpg", "y.jpg", "z.jpg"],
    ]
    assert len(page.pictures) == 4, "equal pictures are there once"
    for group in page.groups:
        for row in group["m"]:
            with Image.open(io.BytesIO(page.pictures[row[12]])) as picture:
                assert picture.size == (8, 8)
    assert "2 groups with 3 duplicates among 8 images; 4.5 kB could be saved." in page.text


def test_small_pictures_where_there_are_no_large_ones(make_summary):
    whole = make_summary(["a.jpg", "b.jpg"], ["x.jpg", "y.jpg"])
    first, *others = whole.thumbnails
    split = make_summary(
        ["a.jpg", "b.jpg"],
        ["x.jpg", "y.jpg"],
        thumbnails={first: b"large"},
        small={others[0]: b"small"},
    )
    page = page_of(split)
    assert page.pictures == [b"large", b"small"]
    assert [row[12] for group in page.groups for row in group["m"]] == [0, 1, -1, -1]


def test_only_its_own_script_and_style_run(make_summary, hostile):
    page = page_of(make_summary(hostile))
    [policy] = [m["content"] for m in page.all("meta") if "Content-Security-Policy" in m.values()]
    sources = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert sources["default-src"] == sources["connect-src"] == sources["base-uri"] == "'none'"
    assert sources["img-src"] == "data:"
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.inside[kind].encode()).digest()).decode()
        assert sources[f"{kind}-src"] == f"'sha256-{digest}'"
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
        assert word not in page.inside["script"]


def test_nothing_is_loaded_from_elsewhere(make_summary, hostile):
    page = page_of(make_summary(hostile))
    for tag, attributes in page.elements:
        for name in {"src", "href", "srcset", "action"} & set(attributes):
            assert attributes[name].startswith("#"), tag


@pytest.mark.parametrize(
    "place", ["key", "label", "failed", "source", "where", "across", "collection"]
)
def test_hostile_texts_stay_texts(make_summary, hostile, place):
    for text in hostile:
        if place == "key":
            summary, plain = make_summary(["a", text]), make_summary(["a", "b"])
        elif place == "failed":
            summary, plain = make_summary(failed=(text,)), make_summary(failed=("c",))
        else:
            summary = make_summary(["a", "b"], **{place: text})
            plain = make_summary(["a", "b"], **{place: "plain"})
        page = page_of(summary)
        tags = [tag for tag, _ in page.elements]
        assert tags == [tag for tag, _ in page_of(plain).elements]
        assert "49" not in page.text
        assert not set("\u202e\u2028\ufeff\x00\r") & set(page.text)
        if place == "key":
            assert page.groups[0]["m"][1][0] == text, "the script gets the key as it is"
        elif place == "label":
            assert page.groups[0]["m"][1][10] == text
        else:
            assert text.split("\n")[0].split("\t")[0].split("\u202e")[0] in page.text


def test_data_cannot_end_its_element(make_summary):
    body = report_page(make_summary(["a", "</script><script>alert(1)</script><!--"])).body.decode()
    assert body.count("</script>") == body.count("<script")
    assert "<!--" not in body


def test_without_a_script_the_groups_are_named(make_summary):
    page = page_of(make_summary(*([f"a{n}", f"b{n}"] for n in range(130))))
    assert len(page.groups) == 130
    assert "and 30 more groups" in page.text
    assert "a99" in page.text
    assert "a100" not in page.text


def test_a_huge_group_is_cut(make_summary):
    [group] = page_of(make_summary([f"k{n:03}" for n in range(300)])).groups
    assert len(group["m"]) == 100
    assert group["n"] == 300
    assert all(0 in edge[:2] for edge in group["e"]), "pairs with the keeper only"


def test_failures_are_listed_up_to_twenty(make_summary):
    page = page_of(make_summary(failed=tuple(f"f{n:02}.jpg" for n in range(25)), skipped=()))
    assert "f19.jpg" in page.text
    assert "f20.jpg" not in page.text
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
    assert page.groups == []


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


def test_pairs_with_their_evidence(make_summary):
    summary = make_summary(["a.jpg", "b.jpg"])
    [edge] = page_of(summary).groups[0]["e"]
    assert edge[:8] == [0, 1, 1, 0.91, "cropped to 80 %; brighter by 0.3 stops", 1, "larger", None]
    turned = summary.pairs.with_columns(original=pl.lit("right"))
    [edge] = page_of(make_summary(["a.jpg", "b.jpg"], pairs=turned)).groups[0]["e"]
    assert edge[5] == 2


def test_what_differs_comes_first(make_summary):
    summary = make_summary(["a.jpg", "b.jpg"])
    described = pl.DataFrame(
        {
            "asset_id": summary.members["asset_id"],
            "tags": ['{"agency":"north","licence":"x"}', '{"agency":"south","licence":"x"}'],
            "metadata": ["{}", None],
            "xmp": ['{"Rights":"mine"}', None],
            "sidecar_xmp": [None, '{"Rights":"<b>yours</b>"}'],
            "exif": ['{"Copyright":"c","Make":"m"}', "{}"],
        }
    )
    [group] = page_of(make_summary(["a.jpg", "b.jpg"], described=described)).groups
    assert group["f"] == {
        "exif.Copyright": ["c", None],
        "tag.agency": ["north", "south"],
        "xmp.Rights": ["mine", "<b>yours</b>"],
        "tag.licence": "x",
    }


def test_groups_that_are_close_name_each_other(make_summary):
    summary = make_summary(["a", "b"], ["x", "y"])
    close = summary.pairs.head(1).with_columns(right=pl.lit("x"), relation=pl.lit("related"))
    page = page_of(make_summary(["a", "b"], ["x", "y"], pairs=pl.concat([summary.pairs, close])))
    assert [group.get("r") for group in page.groups] == [["g0001"], ["g0000"]]


def test_charts_say_their_numbers(make_summary):
    page = page_of(make_summary(["in/a", "out/b"], ["in/x", "out/y"], tiers=("exact", "near")))
    charts = [svg for svg in page.all("svg") if svg.get("class") == "chart"]
    said = " ".join(svg["aria-label"] for svg in charts)
    assert "Scores of the pairs" in said
    assert "out/: 2, 3.0 kB" in said
    assert "near from 0.7" in page.text
    past = pl.DataFrame(
        {"finished": [summary_time()], "groups": [1], "duplicates": [4], "savings": [9000]}
    )
    page = page_of(make_summary(["a", "b"], past=past))
    said = " ".join(svg.get("aria-label") or "" for svg in page.all("svg"))
    assert "Could be saved, scan by scan. 11-21: 9.0 kB; 11-22: 1.5 kB" in said


def summary_time():
    from datetime import UTC, datetime

    return datetime(2026, 11, 21, tzinfo=UTC)


def test_what_storage_costs(make_summary):
    big = make_summary(["a", "b"])
    groups = big.groups.with_columns(savings=pl.lit(1_000_000_000_000))
    page = page_of(make_summary(["a", "b"], groups=groups, cost_per_gb_month=0.02))
    assert "$20.00 a month at $0.02 per GB" in page.text
    assert "storage has no price set" in page_of(make_summary(["a", "b"], cost_per_gb_month=0)).text


def test_the_search_and_what_it_found_are_told(make_summary):
    rough = {
        "mode": "balanced",
        "recall": 0.947,
        "best": 0.99,
        "sample": 200,
        "ranked": 0.188,
        "neighbours": 20,
    }
    text = page_of(make_summary(["a", "b"], search=rough)).text
    assert "balanced: the 20 nearest of each content, among 19% of the contents" in text
    assert "of a sample of 200 it found 94.7% of the nearest, and the very nearest of 99.0%" in text
    exact = rough | {"mode": "exact", "sample": 0}
    assert (
        "exact: the 20 nearest of each content, all of them"
        in page_of(make_summary(["a", "b"], search=exact)).text
    )
    labels = {"labelled": 120, "made": "2026-11-01T10:00", "recommended": 0.8}
    assert (
        "120 labels of this collection, 2026-11-01: they advise 0.8"
        in page_of(make_summary(["a", "b"], calibrated=labels)).text
    )
