"""The summary on the run page: markdown that nobody else writes."""

from __future__ import annotations

import pytest

from reports.run import group_rows, summary_markdown
from tasks.records import GroupNote, PlanNote, Receipt

MARKUP = [
    "[click](javascript:alert(1)).jpg",
    "![x](https://evil.example/p.png).jpg",
    "`code` | cell | `.jpg",
    "a\n\n# heading\n.jpg",
    "<img src=x onerror=alert(1)>.jpg",
    "**bold**_it_.jpg",
    "\\`x.jpg",
    "```",
    " ",
]


@pytest.mark.parametrize("key", MARKUP)
def test_keys_are_no_markup(make_summary, key):
    summary = make_summary(
        ["a.jpg", key + "1", key + "2"], [key, "b.jpg"], where=key, failed=(key,)
    )
    plain = make_summary(["a.jpg", "c1", "c2"], ["c", "b.jpg"], where="c", failed=("c",))
    receipts = [Receipt("report.html", "s3://x/" + key, "https://example.com/a b)<c>")]
    text = summary_markdown(summary, receipts, [key + "@example.com"])
    other = summary_markdown(plain, [Receipt("report.html", "s3://x/c")], ["c@example.com"])
    assert len(text.splitlines()) == len(other.splitlines())
    bare = "".join(part for n, part in enumerate(text.split("`")) if n % 2 == 0)
    same = "".join(part for n, part in enumerate(other.split("`")) if n % 2 == 0)
    assert bare == same, "outside of code, nothing is the key's"


def test_what_waits_for_people(make_summary):
    notes = {"g0000": GroupNote("delete", True, 1, 1500, questions=("which?",))}
    plan = PlanNote(
        "a1b2",
        1,
        1,
        0,
        0,
        1500,
        form="https://ui/run",
        policy="house 1f2e",
        pages={"a@example.com": "https://gate/secret"},
        groups=notes,
    )
    said = {"made": "2026-11-22T12:00", "rule": "r", "labelled": 40, "recommended": 0.72}
    summary = make_summary(
        ["a", "b"], plan=plan, calibrated=said, counts={"ms_sync": 2500, "read": 3}
    )
    text = summary_markdown(summary, [])
    assert "**1 to decide**, 1 asking" in text
    assert "(https://ui/run)" in text
    assert "secret" not in text, "the run page is for everybody"
    assert "40 labels of this collection, 2026-11-22: they advise 0.72" in text
    assert "| - sync | 2.5 s |" in text
    assert "house 1f2e" in text
    (row,) = group_rows(summary, 10)
    assert row["proposed"] == "remove 1 file from the bucket"
    assert row["evidence"].startswith("cropped to 80 %")
