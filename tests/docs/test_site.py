"""What the documentation says of the program, held against the program."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from deployments.alarms import alarms_of
from deployments.cli.main import app
from docs._generate.drawings import PLACE, drawings, name_of, title_of, with_drawings
from docs._generate.hooks import loaded_from_elsewhere
from docs._generate.pages import commands_page, routes_page, settings_page
from tasks.settings import variables
from tasks.settings_parts import AlarmSettings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_every_alarm_has_its_runbook_and_no_runbook_is_left_over():
    one = SimpleNamespace(name="photos", title="Photos", notifications=AlarmSettings())
    alarms = [alarm.name for alarm in alarms_of(one)]
    page = (DOCS / "runbooks.md").read_text("utf-8")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == alarms
    for text in re.split(r"^## .+$", page, flags=re.MULTILINE)[1:]:
        assert re.search(r"^1\. ", text, re.MULTILINE), "a first step"


def test_every_setting_is_on_its_page():
    page = settings_page()
    assert set(re.findall(r"^\| `(DAM_DEDUP_\w+)` \|", page, re.MULTILINE)) == set(variables())
    assert not re.search(r"^## [a-z]", page, re.MULTILINE)


def test_every_command_and_option_is_on_its_page():
    page = commands_page()
    headings = set(re.findall(r"^#{3,4} dam-dedup (.+)$", page, re.MULTILINE))
    assert {info.name or info.callback.__name__ for info in app.registered_commands} <= headings
    assert {"plan show", "catalog migrate", "ingest answer", "bench quality"} <= headings
    scan = page[page.index("### dam-dedup scan") : page.index("### dam-dedup check")]
    assert {"--kind", "--where", "--strict"} <= set(re.findall(r"--[\w-]+", scan))
    assert "\ndam-dedup scan --kind full --source s3://dam/photos --out var/out\n" in scan


def test_every_route_is_on_its_page():
    page = routes_page()
    for route in ("GET /duplicate", "POST /update", "POST /analyze", "GET /health"):
        assert f"\n## {route}\n" in page
    assert "| `threshold` | query |" in page
    assert "$ref" not in page


def test_every_drawing_has_its_picture_and_words():
    texts = [text for _, text in drawings()]
    assert len(texts) >= 7
    assert all(title_of(text) for text in texts)
    assert {path.name for path in PLACE.glob("*.svg")} == {name_of(text) for text in texts}


def test_a_drawing_is_shown_as_a_picture_from_any_folder():
    text = "flowchart LR\n    accTitle: a to b\n    a --> b\n"
    shown = with_drawings(f"before\n\n```mermaid\n{text}```\n\nafter\n", "adr/0001.md")
    assert f"![a to b](../images/drawings/{name_of(text)})" in shown
    assert "flowchart" not in shown
    assert name_of(text) != name_of(text + " ")


@pytest.mark.parametrize(
    ("html", "loaded"),
    [
        ('<script src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
        ('<link rel="stylesheet" href="//fonts.example/a.css">', ["//fonts.example/a.css"]),
        ("<style>a{background:url(https://b.example/c.png)}</style>", ["https://b.example/c.png"]),
        ('<a href="https://www.prefect.io">Prefect</a><img src="images/a.svg">', []),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_seen(html, loaded):
    assert loaded_from_elsewhere(html) == loaded


def test_screenshots_are_shown_and_small():
    pages = "".join(path.read_text("utf-8") for path in [ROOT / "README.md", *DOCS.glob("*.md")])
    for path in (DOCS / "images" / "screens").iterdir():
        assert f"images/screens/{path.name}" in pages
        assert 10_000 < path.stat().st_size < 250_000, "a blank page has 3 kB"


def test_nothing_that_is_installed_has_modules_of_our_names():
    """The wheel's top-level names are common ones (docs/adr/0017-layout-and-wheel.md)."""
    owners = metadata.packages_distributions()
    for name in ("deployments", "flows", "reports", "tasks"):
        assert set(owners.get(name, [])) <= {"dam-dedup"}
