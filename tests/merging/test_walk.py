"""An administrator's way through one scan: from its mail to a merge undone from the receipt.

Every part is the real one: an S3 server, a mail server, the gate as a process of its own, the
commands, and the pages in a browser, driven by the keys that the pages name.
"""

from __future__ import annotations

import email
import email.policy
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app as command_line
from deployments.local.processes import free_ports
from tasks.queries.verdicts import read_verdicts
from tasks.session import open_catalog
from tasks.settings import load_settings
from tests.merging.conftest import encoded, picture

CHROMIUM = Path("/usr/bin/chromium")
ANNA = "anna@example.test"
POLICY = """
version: 1
name: walk
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - name: copies
    keeper: [{prefix: [masters/]}, resolution]
    action: quarantine
"""
pytestmark = [
    pytest.mark.long,
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"),
]


def fill(site: Any) -> None:
    """30 files: 11 groups and 6 single pictures.

    0 and 1 ask which licence holds; 2, 3 and 4 are plain; 5 and 6 have three files; 7 is two
    pictures that only look alike to the program; 8, 9 and 10 are resized and nothing else.
    """
    for seed in range(11):
        tags = {"licence": "north"} if seed < 2 else {}
        site.put(f"masters/{seed}.png", encoded(picture(seed, 320)), tags)
        if seed > 7:
            site.put(f"web/{seed}.png", encoded(picture(seed, 200)))
        else:
            other = {"licence": "south"} if seed < 2 else {}
            site.put(f"web/{seed}.jpg", encoded(picture(seed, 320), "JPEG", quality=90), other)
        if seed in (5, 6):
            site.put(f"agency/{seed}.jpg", encoded(picture(seed, 240), "JPEG", quality=85))
    for seed in range(20, 26):
        site.put(f"single/{seed}.png", encoded(picture(seed, 160)))


@pytest.fixture
def office(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Mail server and gate, and the settings in the environment; gives the folder of mails."""
    fill(site)
    (tmp_path / "policy.yaml").write_text(POLICY)
    ports = free_ports(["smtp", "gate"], {})
    smtp, port = ports["smtp"], ports["gate"]
    own, s3 = site.settings, site.settings.s3
    values = {
        "COLLECTION": "walk",
        "SOURCE__URI": f"s3://{site.bucket}",
        "CATALOG__URI": own.catalog.uri,
        "CATALOG__BUSY_SECONDS": "30",
        "DELIVERY__FOLDER": str(own.delivery.folder),
        "EMBEDDING__MODEL": own.embedding.model,
        "EMBEDDING__POOLING": "cls",
        "EMBEDDING__DEVICE": "cpu",
        "EMBEDDING__DECODERS": "1",
        "S3__ENDPOINT_URL": s3.endpoint_url,
        "S3__PATH_STYLE": "true",
        "S3__REGION": s3.region,
        "MAIL__HOST": "127.0.0.1",
        "MAIL__PORT": str(smtp),
        "MAIL__TLS": "none",
        "MAIL__TO": ANNA,
        "MERGE__POLICY": str(tmp_path / "policy.yaml"),
        "MERGE__GATE_URL": f"http://127.0.0.1:{port}",
        "MERGE__SECRET": "w" * 40,
    }
    for name, value in values.items():
        monkeypatch.setenv(f"DAM_DEDUP_{name}", value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key_id.get_secret_value())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_access_key.get_secret_value())
    site.settings = load_settings()
    mails, root = tmp_path / "mails", str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    sink = ["deployments.local.mail_server", "--port", str(smtp), "--dir", str(mails)]
    gate = ["deployments.cli", "gate", "--port", str(port)]
    with (tmp_path / "servers.log").open("wb") as log:
        servers = [
            subprocess.Popen(
                [sys.executable, "-m", *words], env=environment, stdout=log, stderr=log
            )
            for words in (sink, gate)
        ]
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}/health"))
            yield mails
        finally:
            for server in servers:
                server.terminate()
            for server in servers:
                server.wait()


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def until(true: Any, seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def run(*words: str) -> str:
    done = CliRunner().invoke(command_line, words)
    assert done.exit_code == 0, done.output
    return done.output


def newest(mails: Path) -> EmailMessage:
    path = max(mails.glob("*.eml"))
    return email.message_from_bytes(path.read_bytes(), policy=email.policy.default)


def plain(mail: EmailMessage) -> str:
    return mail.get_body(("plain",)).get_content()


class Reviewer:
    """Who sits before the report page: opens groups by a file's name, and presses keys."""

    def __init__(self, page: Any, expect: Any) -> None:
        self.page, self.expect = page, expect

    def open(self, name: str) -> str:
        """Search a file and open its group; gives the group's id."""
        self.page.keyboard.press("/")
        self.page.locator("#search").fill(name)
        self.page.keyboard.press("Escape")
        self.expect(self.page.locator("#group h1 bdi")).to_contain_text(Path(name).name)
        return self.page.locator("#group").get_attribute("data-group")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def recorded(self, *groups: str) -> None:
        """Wait until the gate has recorded what was said of these groups."""
        self.page.wait_for_function(
            "(ids) => ids.every((id) => held.has(id))", arg=list(groups), timeout=300_000
        )

    def sent(self) -> None:
        """Wait until nothing is left to send."""
        self.page.wait_for_function("() => !waiting.size && !sending", timeout=300_000)
        assert self.page.evaluate("() => [...failures]") == []


@pytest.mark.parametrize("versioned", [False], indirect=True)
def test_from_the_mail_to_a_merge_undone_from_its_receipt(site, office):
    playwright = pytest.importorskip("playwright.sync_api")
    before = site.snapshot()
    run("scan")
    mail = newest(office)
    assert mail["To"] == ANNA
    assert "11 groups" in mail["Subject"]
    link = re.findall(r"Review and decide: (\S+)", plain(mail))[0]
    assert f'href="{link}"' in mail.get_body(("html",)).get_content()

    problems: list[str] = []
    playwright.expect.set_options(timeout=60_000)
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(300_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        plans = decide(page, link, playwright.expect)
        assert site.snapshot() == before, "deciding moves nothing"
        for plan in plans:
            run("merge", plan, "--by", "schedule")
        check_merged(site, before)
        receipt = newest(office)
        assert receipt["To"] == ANNA
        other = next(one for one in sorted(office.glob("*.eml"))[1:-1])
        first = email.message_from_bytes(other.read_bytes(), policy=email.policy.default)
        assert "Merged 8 groups: 8 files" in first["Subject"], plans
        assert "Merged 1 group: 2 files" in receipt["Subject"]
        undo_from(first, browser, playwright.expect)
        browser.close()
    assert problems == []
    left = site.snapshot()
    assert left["web/3.jpg"] == before["web/3.jpg"], "undone, byte for byte"
    assert "web/2.jpg" not in left
    undone = newest(office)
    assert "Undone: 1 file" in undone["Subject"]
    assert f"By: {ANNA}" in plain(undone)


def decide(page: Any, link: str, expect: Any) -> list[str]:
    """All decisions of the walk; gives the ids of both plans, the mail's first."""
    page.goto(link)
    page.get_by_role("link", name="The report page").click()
    page.wait_for_selector("html[data-ready=yes]")
    anna = Reviewer(page, expect)
    said = []
    # Two questions: q leads to the question, Enter lets the value under the focus win.
    for name in ("masters/0.png", "masters/1.png"):
        said.append(anna.open(name))
        expect(page.locator("#act-line")).to_contain_text("2 licences: choose")
        anna.press("a")
        expect(page.locator("#toast")).to_contain_text("Answer first")
        anna.press("q", "Enter", "a")
        expect(page.locator("#toast")).to_contain_text("are decided")
    # Three by keys alone.
    for name in ("masters/2.png", "masters/3.png", "masters/4.png"):
        said.append(anna.open(name))
        expect(page.locator("#act-accept")).to_contain_text("Merge: move 1 file to quarantine")
        anna.press("a")
    # One split: the file compared now is not a copy. And one set apart.
    said.append(anna.open("masters/6.png"))
    anna.press("c", "i")
    expect(page.locator("#act-line")).to_contain_text("Moves nothing: what you set apart is kept")
    expect(page.locator("#act-accept")).to_contain_text("Set apart, keep the rest together")
    anna.press("a")
    said.append(anna.open("masters/7.png"))
    anna.press("d")
    # The batch of what is only resized, looked at and decided on at once.
    page.keyboard.press("v")
    page.locator("#decide-resized").click()
    expect(page.locator("#bulk-sum")).to_contain_text("3 groups: 3 files would leave their place")
    page.locator("#bulk-do").click()
    anna.sent()
    anna.recorded(*said)
    assert page.evaluate("() => held.size") == 10
    # Another file stays: planned anew, and decided on in the new plan.
    kept = anna.open("masters/5.png")
    anna.press("2")
    expect(page.locator("#act-line")).to_contain_text("Moves nothing yet: a new plan is made")
    expect(page.locator("#act-accept")).to_contain_text("let the picked file stay")
    anna.press("a")
    page.wait_for_function("() => replanned !== ''", timeout=300_000)
    first = page.evaluate("() => PLAN.id")
    page.locator("#acts a", has_text="The new plan").click()
    page.wait_for_selector("html[data-ready=yes]")
    page.wait_for_function("(old) => PLAN.id !== old", arg=first)
    page.evaluate("(id) => { location.hash = id; }", kept)
    expect(page.locator("#act-accept")).to_contain_text("Merge: move 2 files to quarantine")
    anna.press("a")
    anna.recorded(kept)
    return [first, page.evaluate("() => PLAN.id")]


def check_merged(site: Any, before: dict[str, Any]) -> None:
    """The bucket after both merges, file by file, and the verdicts that were kept."""
    moved = {f"web/{seed}.jpg" for seed in range(5)} | {f"web/{seed}.png" for seed in (8, 9, 10)}
    here = set(site.keys())
    chosen = here & {"masters/5.png", "web/5.jpg", "agency/5.jpg"}
    assert len(chosen) == 1
    assert chosen != {"masters/5.png"}, "the file that was picked stays"
    moved |= {"masters/5.png", "web/5.jpg", "agency/5.jpg"} - chosen
    assert set(before) - here == moved
    assert site.tags("masters/0.png")["licence"] == "north", "the value that was chosen"
    verdicts = read_verdicts(open_catalog(site.settings))
    assert verdicts.filter(verdict="distinct")["by"].unique().to_list() == [ANNA]


def undo_from(receipt: EmailMessage, browser: Any, expect: Any) -> None:
    """On a phone: one group undone from its link in the receipt; then the page of all merges."""
    html = receipt.get_body(("html",)).get_content()
    rows = re.findall(r"masters/(?:<wbr>)?(\d+)\.png.*?href=\"([^\"]*undo=[^\"]*)\"", html, re.S)
    link = dict(rows)["3"].replace("&amp;", "&")
    page = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    page.set_default_timeout(300_000)
    page.goto(link)
    expect(page.locator("h1")).to_have_text("Undo 1 group?")
    page.get_by_role("button", name="Undo: put").tap()
    expect(page.get_by_role("status")).to_contain_text("Undone.", timeout=300_000)
    done = re.findall(r"See all that was merged: (\S+)", plain(receipt))
    page.goto(done[0])
    expect(page.locator("main")).to_contain_text(f"undone by {ANNA}")
    expect(page.get_by_role("link", name="Undo:")).to_have_count(8)
    width = page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= 390, "nothing has to be scrolled sideways"
