"""label.html and labels.csv: what strangers named their files does nothing, nobody is led."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import pytest

from reports.labelling import COLUMNS, DrawnPair, label_page, labels_csv
from reports.words import shown_key


class Page(HTMLParser):
    """A page's elements, and its text: the visible one apart from styles and scripts."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"style": [], "script": [], "visible": []}
        self._open = ""
        self.feed(body.decode())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag):  # noqa: ARG002
        self._open = ""

    def handle_data(self, data):
        self.inside[self._open if self._open in ("style", "script") else "visible"].append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return "".join(self.inside["visible"])


def drawn(*keys: str, score: float = 0.731942) -> list[DrawnPair]:
    return [
        DrawnPair(f"{n:032x}", key, f"other {n}.jpg", f"a{n}", f"b{n}", score, "0.70-0.80", 90)
        for n, key in enumerate(keys)
    ]


def page_of(pairs: list[DrawnPair]) -> Page:
    pictures = {
        name: name.encode() for pair in pairs for name in (pair.left_content, pair.right_content)
    }
    return Page(label_page(pairs, pictures).body)


def test_each_pair_with_its_pictures():
    pairs = drawn("one.jpg", "two.jpg", "three.jpg")
    page = page_of(pairs)
    rows = [json.loads(section["data-row"]) for section in page.all("section")]
    assert rows == [pair.cells for pair in pairs]
    found = [base64.b64decode(image["src"].split(",")[1]).decode() for image in page.all("img")]
    assert found == ["a0", "b0", "a1", "b1", "a2", "b2"]
    for key in ("one.jpg", "two.jpg", "three.jpg", "other 0.jpg", "other 2.jpg"):
        assert key in page.text
    assert {"back", "next", "export", "duplicate", "distinct", "unsure"} == {
        button["id"] for button in page.all("button")
    }
    assert page.all("progress")[0]["max"] == "3"


def test_a_pair_without_thumbnails_is_still_shown():
    page = Page(label_page(drawn("gone.jpg"), {}).body)
    assert page.all("img") == []
    assert page.text.count("no thumbnail") == 2


def test_the_policy_lets_only_its_own_script_and_style_through(hostile):
    page = page_of(drawn(*hostile))
    [policy] = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    sources = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert sources["default-src"] == sources["base-uri"] == sources["form-action"] == "'none'"
    assert sources["img-src"] == "data:"
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        [text] = ["".join(page.inside[kind])]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert sources[f"{kind}-src"] == f"'sha256-{digest}'"
        assert len(page.all(kind)) == 1
    assert not any(
        name.startswith("on") or name == "style"
        for _, attributes in page.elements
        for name in attributes
    )
    assert "http" not in "".join(page.inside["script"])


def test_hostile_keys_are_text(hostile):
    plain, page = page_of(drawn(*["x"] * len(hostile))), page_of(drawn(*hostile))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    for key in hostile:
        assert shown_key(key) in page.text
    rows = [json.loads(section["data-row"]) for section in page.all("section")]
    assert [row[1].removeprefix("'") for row in rows] == [shown_key(key) for key in hostile]


def test_no_score_is_readable_before_the_verdict():
    page = page_of(drawn("a.jpg", "b.jpg", score=0.731942))
    assert not re.search(r"0[.,]7|73", page.text)
    assert "0.70-0.80" not in page.text
    for tag, attributes in page.elements:
        spoken = [attributes.get(name) or "" for name in ("alt", "title", "aria-label")]
        assert not any("73" in text for text in spoken), tag


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(start):
    pairs = drawn(f"{start}HYPERLINK(1)")
    for row in csv.reader(io.StringIO(labels_csv(pairs).body.decode())):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)
    assert pairs[0].cells[1].startswith("'")


def test_rows_come_back_as_they_were(hostile):
    pairs = drawn(*hostile)
    header, *rows = csv.reader(io.StringIO(labels_csv(pairs).body.decode()))
    assert tuple(header) == COLUMNS
    assert rows == [pair.cells for pair in pairs]
    assert {row[-1] for row in rows} == {""}
    assert labels_csv(pairs).body.count(b"\n") == len(pairs) + 1, "a row is a line"
