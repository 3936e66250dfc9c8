"""Every document of one scan tells what the plan says, group by group and byte by byte.

The policy has all that makes a plan differ from what the pixels alone say: protected prefixes,
caps, a minimum age, questions, refusals, and rules that keep another file than the scan named.
"""

from __future__ import annotations

import csv
import email
import email.policy
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from deployments.gate.app import create_app
from flows.artifacts import publish
from flows.order import Outcome, compose, render, run_scan
from flows.receipts import compose_receipt
from reports.highlights import top_groups
from reports.overview import draw_charts
from reports.page import headline, totals
from reports.run import group_rows, summary_markdown
from reports.words import human_bytes, shown_key
from tasks.csv_cells import unescape_cell
from tasks.embedding.decoder import DecoderPool
from tasks.embedding.images import read_picture
from tasks.merging.decide import decide
from tasks.merging.journal import read_plan
from tasks.merging.merge import merge_plan
from tasks.merging.rules.plans import OperationKind, Plan, PlannedGroup
from tasks.merging.undo import undo_merge
from tasks.records import Kind, now
from tasks.reporting.receipts import MERGE, UNDO, read_receipt
from tasks.reporting.savings import read_savings
from tasks.reporting.summarize import last_scan, summarize_scan
from tasks.requests import ScanRequest
from tasks.session import open_catalog
from tasks.settings import load_settings

ANNA = "anna@example.test"
CHROMIUM = Path("/usr/bin/chromium")
POLICY = """
version: 1
name: house
minimum_age_hours: 1
protected: [masters/]
caps: {objects: 6, group: 4, share: 0.2, bytes: 900000}
rules:
  - name: drafts are only reported
    where: key LIKE 'drafts/%'
  - name: pools approve by themselves
    where: key LIKE 'auto/%'
    keeper: [{prefix: [auto/old/]}, resolution]
    action: quarantine
    automatic: {groups: 10}
  - name: tagged
    where: key LIKE 'tagged/%'
    keeper: [{prefix: [tagged/old/]}, resolution]
    action: tag
  - name: all the others
    keeper: [{prefix: [web/]}, resolution]
    action: quarantine
"""
SIDECAR = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>sea</rdf:li>'
    b"</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
)
#: By group: key, width and tags of each member; the larger one is what the scan itself keeps.
GROUPS: list[list[tuple[str, int, dict[str, str]]]] = [
    [("print/a.png", 320, {}), ("web/a.png", 160, {})],  # the plan keeps the smaller one
    [("print/b.png", 320, {}), ("web/b.png", 200, {}), ("web/b2.png", 160, {})],
    [("big/c.png", 320, {}), ("masters/c.png", 160, {})],  # a protected file can only stay
    [("masters/d.png", 320, {}), ("masters/d2.png", 160, {})],  # refused: both are protected
    [("print/e.png", 320, {"owner": "north"}), ("web/e.png", 160, {"owner": "south"})],  # asks
    [("print/f.png", 320, {"licence": "x"}), ("web/f.png", 160, {"licence": "y"})],  # asks
    [(f"many/{n}.png", 320 - 30 * n, {}) for n in range(5)],  # refused: above caps.group
    [("drafts/h.png", 320, {}), ("drafts/h2.png", 160, {})],  # only reported
    [("auto/new/i.png", 320, {}), ("auto/old/i.bmp", 320, {})],  # approved by the policy
    [("tagged/new/j.png", 320, {}), ("tagged/old/j.png", 160, {})],  # acts, and moves nothing
    [("large/k.bmp", 640, {}), ("web/k.png", 160, {})],  # refused: above caps.bytes by itself
]
YOUNG = [("print/young.png", 320, {}), ("web/young.png", 160, {})]  # refused until it is older


@dataclass(frozen=True)
class Told:
    """One scan, its plan, and all of its documents."""

    outcome: Outcome
    plan: Plan
    documents: dict[str, bytes]
    mail: Any

    @property
    def groups(self) -> dict[str, PlannedGroup]:
        return {group.group_id: group for group in self.plan.groups}


def moved(group: PlannedGroup) -> tuple[int, int]:
    """How many objects carrying out a group takes from their place, and their bytes."""
    leaving = [one for one in group.operations if one.kind is OperationKind.DELETE]
    return len(leaving), sum(one.before.size for one in leaving)


def _decode_here(pool: DecoderPool, data: bytes) -> Any:
    decoder = pool._all[0]
    return read_picture(data, decoder._limits, decoder._side)


def encoded(seed: int, width: int, kind: str) -> bytes:
    grid = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    image = Image.fromarray(grid).resize((160, 120), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.resize((width, width * 3 // 4)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def told(s3, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """A bucket, scanned under the policy at a time when only the last pair is too young."""
    folder: Path = tmp_path_factory.mktemp("truth")
    bucket = s3.bucket(versioned=False)

    def put(seed: int, members: list[tuple[str, int, dict[str, str]]]) -> None:
        for key, width, tags in members:
            body = encoded(seed, width, "BMP" if key.endswith("bmp") else "PNG")
            s3.client.put_object(Bucket=bucket, Key=key, Body=body, Tagging=urlencode(tags))

    for seed, members in enumerate(GROUPS):
        put(seed, members)
    # It leaves with its picture, and its bytes are counted.
    s3.client.put_object(Bucket=bucket, Key="print/a.xmp", Body=SIDECAR)
    s3.client.put_object(Bucket=bucket, Key="notes.txt", Body=b"no picture")
    time.sleep(3)  # a store tells whole seconds
    put(99, YOUNG)
    head = s3.client.head_object(Bucket=bucket, Key=YOUNG[0][0])
    policy = folder / "policy.yaml"
    policy.write_text(POLICY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in [name for name in __import__("os").environ if name.startswith("DAM_DEDUP_")]:
            patch.delenv(name)
        patch.setattr(DecoderPool, "decode", _decode_here)
        at = head["LastModified"] + timedelta(hours=1, seconds=-1)
        patch.setattr("tasks.merging.plan.now", lambda: at)
        settings = load_settings(
            catalog={"uri": str(folder / "catalog"), "busy_seconds": 30},
            delivery={"folder": folder / "reports"},
            embedding={"model": str(tiny_model), "pooling": "cls", "device": "cpu", "decoders": 1},
            merge={"policy": policy, "gate_url": "https://gate.example", "secret": "s" * 40},
            mail={"to": [ANNA], "host": "127.0.0.1", "port": 9, "tls": "none"},
        ).model_copy(update={"s3": s3.settings})
        outcome = run_scan(ScanRequest(kind=Kind.FULL, source=f"s3://{bucket}"), settings)
        (mail,) = compose(outcome.summary, [], settings)
        yield Told(
            outcome,
            read_plan(open_catalog(settings), "latest"),
            {one.name: one.body for one in render(outcome.summary)},
            email.message_from_bytes(mail.as_bytes(), policy=email.policy.default),
        )


def test_the_plan_has_all_that_a_policy_can_say(told):
    """Or the other tests would hold the documents against less than they seem to."""
    plan, named = told.plan, told.groups.values()
    assert len(named) == len(GROUPS) + 1
    refused = sorted(group.refused for group in named if group.refused)
    assert [text.partition(":")[0] for text in refused] == [
        "2 assets may not be touched",
        "5 members are more than the 4 that caps.group allows",
        "above a cap by itself",
        "younger than 1 h",
    ]
    asked = sorted(group.questions[0].partition(":")[0] for group in named if group.questions)
    assert asked[:2] == ["licence differs", "owner differs"]
    assert {group.action.value for group in named} == {"quarantine", "tag", "report"}
    keepers = {group.keeper for group in named}
    assert {"web/a.png", "web/b.png", "masters/c.png", "tagged/old/j.png"} <= keepers
    assert [moved(group)[0] for group in named if group.keeper == "web/a.png"] == [2]
    touched = {one.key for group in named for one in group.operations}
    assert len(touched) > plan.caps["objects"], "the whole plan is above a cap"


def test_groups_json(told):
    found = json.loads(told.documents["groups.json"])
    assert {group["id"] for group in found["groups"]} == set(told.groups)
    for group in found["groups"]:
        planned = told.groups[group["id"]]
        files, size = moved(planned)
        assert group["keeper"] == planned.keeper
        assert group["savings"] == group["proposal"]["bytes"] == size
        assert group["proposal"]["files"] == files
        assert group["action"] == group["proposal"]["action"] == planned.action.value
        roles = {one["key"]: one["role"] for one in group["members"]}
        assert roles == {planned.keeper: "keeper", **dict.fromkeys(planned.duplicates, "duplicate")}
        assert group["members"][0]["key"] == planned.keeper
        assert group["members"][0]["score"] == 1.0
        assert (group["standing"] == "refused") is bool(planned.refused)
        assert group["tier"] == planned.tier.value
    total = sum(moved(group)[1] for group in told.plan.groups)
    assert found["totals"]["savings"] == found["plan"]["bytes"] == total > 0


def test_members_and_pairs(told):
    """The tables name the plan's roles; a score is that of the pair with the file that stays."""
    members = pl.read_parquet(io.BytesIO(told.documents["members.parquet"]))
    pairs = pl.read_parquet(io.BytesIO(told.documents["pairs.parquet"]))
    scores = {
        frozenset((a, b)): score for a, b, score in pairs.select("left", "right", "score").rows()
    }
    text = told.documents["pairs.csv"].decode()
    cells = csv.DictReader(io.StringIO(text, newline=""))
    assert {
        frozenset((unescape_cell(row["left"]), unescape_cell(row["right"]))) for row in cells
    } == set(scores)
    compared = 0
    for group in told.plan.groups:
        mine = members.filter(group_id=group.group_id)
        assert set(mine["key"]) == {group.keeper, *group.duplicates}
        assert mine.filter(role="keeper")["key"].to_list() == [group.keeper]
        assert set(mine["action"]) == {group.action.value}
        for key, score in mine.filter(role="duplicate").select("key", "score").iter_rows():
            pair = frozenset((group.keeper, key))
            if pair in scores:
                compared += 1
                assert score == pytest.approx(scores[pair], abs=1e-4)
    assert compared > len(GROUPS)


class Reader(HTMLParser):
    """Rows of tables, the data of the script, and the text of a page."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.rows: dict[str, list[str]] = {}
        self.data: dict[str, Any] = {}
        self.text = self._row = self._script = ""
        self.feed(body.decode())

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "tr":
            self._row = found.get("id") or ""
        self._script = (found.get("id") or "-") if tag == "script" else ""

    def handle_endtag(self, tag):
        if tag in ("tr", "script"):
            self._row = self._script = ""

    def handle_data(self, data):
        if self._script == "data":
            self.data = json.loads(data)
        elif not self._script:
            self.text += data
            if self._row and data.strip():
                self.rows.setdefault(self._row, []).append(data.strip())


def check_page(told: Told, page: Reader) -> None:
    drawn = {group["i"]: group for group in page.data["groups"]}
    assert set(drawn) == set(told.groups)
    for name, group in drawn.items():
        planned = told.groups[name]
        files, size = moved(planned)
        assert group["m"][0][0] == group["p"]["keeper"] == planned.keeper
        assert [row[13] for row in group["m"]] == [1] + [0] * len(planned.duplicates)
        assert group["b"] == size
        assert group["p"]["files"] == files
        assert bool(group["p"]["press"]) is not bool(planned.refused), "nothing is offered"
        if files:
            assert group["p"]["press"].startswith(f"Merge: move {files} file")
            assert human_bytes(size) in group["p"]["line"]
    for name, cells in page.rows.items():  # of the table for who has no script
        assert cells[0] == told.groups[name].keeper
        assert cells[-1] == human_bytes(moved(told.groups[name])[1])
    assert set(page.rows) == set(told.groups)


def test_every_document_tells_the_same_number_of_groups_to_decide(told):
    """Those that act, that nothing speaks against, and that the policy has not approved itself."""
    waiting = [
        group
        for group in told.plan.groups
        if group.operations and not group.refused and not group.automatic
    ]
    files = sum(moved(group)[0] for group in waiting)
    size = human_bytes(sum(moved(group)[1] for group in waiting))
    mail = told.mail.get_body(("plain",)).get_content()
    assert f"TO DECIDE: {len(waiting)} groups\n" in mail
    assert f"if you merge all, {files} files ({size}) of {len(waiting)} groups" in mail
    assert "approved already: 1 group, 1 file (" in mail
    html = told.mail.get_body(("html",)).get_content().replace("\u00a0", " ")
    assert f"{files} files ({size}) of {len(waiting)} groups" in html
    page = Reader(told.documents["report.html"])
    assert f"{len(waiting)} of these groups wait for a decision, 2 of them with" in page.text
    assert f"**{len(waiting)} groups to decide**" in summary_markdown(told.outcome.summary, [])
    link = told.outcome.summary.plan.pages[ANNA]
    path = "/review/" + link.rsplit("/", 1)[-1]
    client = TestClient(create_app(told.outcome.scan.settings), follow_redirects=False)
    assert f"<h1>{len(waiting)} groups of duplicates wait for" in client.get(path).text
    served = Reader(client.get(path + "/report").content)
    assert f"{len(waiting)} of these groups wait for a decision, 2 of them with" in served.text
    confirm = client.post(path, data={"decision": "approve-all"})
    easy = [group for group in waiting if not group.questions]
    files, size = sum(moved(group)[0] for group in easy), sum(moved(group)[1] for group in easy)
    assert f"Merge {len(easy)} groups?" in confirm.text
    assert f"<b>{files}</b>files would leave their place" in confirm.text
    assert f"<b>{human_bytes(size)}</b>" in confirm.text
    assert re.findall(r'<td[^>]*><bdi class="mono">(.*?)</bdi>', confirm.text) == [
        group.keeper for group in sorted(easy, key=lambda group: (-moved(group)[1], group.keeper))
    ]


def test_the_report_page(told):
    page = Reader(told.documents["report.html"])
    check_page(told, page)
    total = sum(moved(group)[1] for group in told.plan.groups)
    assert f"{human_bytes(total)} could be saved" in page.text
    assert (
        "above the policy's cap of 6 objects and 20.0% of the collection in one merge" in page.text
    )


def test_history_headline_and_ledger_tell_one_sum(told):
    total = sum(moved(group)[1] for group in told.plan.groups)
    summary = told.outcome.summary
    assert json.loads(told.documents["history.json"])["scans"][-1]["savings"] == total
    some = sum(1 for group in told.plan.groups if moved(group)[1])
    assert 0 < some < len(told.plan.groups), "bytes beside a count of groups that they are not of"
    assert headline(summary).endswith(
        f"; {some} of the groups can be merged: {human_bytes(total)} could be saved."
    )
    assert totals(summary)["savings"] == summary.plan.bytes == total
    assert read_savings(told.outcome.scan.settings)["total"]["planned"] == total


def test_the_mail(told):
    text = told.mail.get_body(("plain",)).get_content()
    total = sum(moved(group)[1] for group in told.plan.groups)
    assert f"{human_bytes(total)} could be saved" in told.mail["Subject"]
    blocks = re.split(r"(?m)^\d+\. ", text)[1:]
    assert len(blocks) == 10
    by_keeper = {group.keeper: group for group in told.plan.groups}
    for block in blocks:
        (kept,) = re.findall(r"(?m)^   stays {6}(.*)$", block)
        planned = by_keeper[kept]
        copies = re.findall(r"(?m)^   duplicate  (.*)$", block)
        assert set(copies) <= set(planned.duplicates)
        files, size = moved(planned)
        assert f"{human_bytes(size)} could be saved" in block
        assert ("Decide: " in block) is bool(
            planned.operations and not planned.refused and not planned.automatic
        )
        assert ("Nothing may be done" in block) is bool(planned.refused)
        if files:
            assert f"Moves {files} file{'' if files == 1 else 's'} ({human_bytes(size)})" in block
    html = told.mail.get_body(("html",)).get_content()
    named = re.findall(
        r"word-break:break-word;overflow-wrap:anywhere\">([^<]*(?:<wbr>[^<]*)*)</div>", html
    )
    shown = [key.replace("<wbr>", "") for key in named]
    assert [key for key in shown if key in by_keeper] == [
        re.findall(r"(?m)^   stays {6}(.*)$", block)[0] for block in blocks
    ]


def test_why_nothing_may_be_done_and_what_lifts_it(told):
    page = Reader(told.documents["report.html"])
    lines = {
        group["p"]["keeper"]: group["p"]["line"]
        for group in page.data["groups"]
        if group["p"]["refused"]
    }
    assert len(lines) == 4
    said = sorted(lines.values())
    assert lines["web/k.png"] == (
        "Nothing may be done: 921.7 kB would be moved, more than the 900.0 kB that the policy lets "
        "one merge move; what would change that: set files apart, or raise caps.bytes in the policy"
    )
    assert said[0].startswith("Nothing may be done: 5 files are more than the 4 that the policy")
    assert re.match(
        r"Nothing may be done: a file is younger than 1 h; what would change that: "
        r"from (today|tomorrow) \d\d:\d\d UTC",
        said[2],
    )
    assert "masters/ is protected: 2 of these files may not be moved" in said[3]


def test_the_run_page(told):
    summary = told.outcome.summary
    total = human_bytes(sum(moved(group)[1] for group in told.plan.groups))
    rows = {row["group"]: row for row in group_rows(summary, 200)}
    assert set(rows) == set(told.groups)
    for name, row in rows.items():
        planned = told.groups[name]
        assert row["stays"] == shown_key(planned.keeper)
        assert row["could be saved"] == human_bytes(moved(planned)[1])
        assert row["proposed"].startswith("Nothing may be done") is bool(planned.refused)
    markdown = summary_markdown(summary, [])
    assert f"{total} could be saved" in markdown
    assert f"{total}." in markdown
    for group in top_groups(summary, 10, 2):
        planned = told.groups[group["group_id"]]
        assert group["members"][0]["key"] == planned.keeper
        assert f"| {human_bytes(moved(planned)[1])} | `{planned.keeper}` |" in markdown


def test_the_same_documents_are_made_again(told):
    """``dam-dedup report`` reads the plan back from the catalog."""
    scan, space, counts, finished = last_scan(told.outcome.scan.settings)
    again = {one.name: one.body for one in render(summarize_scan(scan, space, counts, finished))}
    assert again == told.documents


def test_the_pages_of_the_gate(told):
    link = told.outcome.summary.plan.pages[ANNA]
    path = "/review/" + link.rsplit("/", 1)[-1]
    client = TestClient(create_app(told.outcome.scan.settings), follow_redirects=False)
    check_page(told, Reader(client.get(path + "/report").content))
    form = client.get(path).text
    blocks = re.findall(r'<section class="group" id="(\w+)"(.*?)</section>', form, re.S)
    assert blocks
    for name, block in blocks:
        planned = told.groups[name]
        files, size = moved(planned)
        kept = re.findall(
            r'<figure class="is-keeper">.*?<bdi class="mono">(.*?)</bdi>', block, re.S
        )
        assert kept == [planned.keeper]
        assert ('name="merge"' in block) is not bool(planned.refused or planned.automatic)
        if files:
            assert human_bytes(size) in block
    assert not re.search(r"<input[^>]* checked", form), "nothing is ticked for anybody"


def test_a_mail_that_failed_is_told(told):
    """The settings name a mail server where nobody listens."""
    outcome = told.outcome
    assert not outcome.mailed
    (why,) = outcome.failed
    assert why.startswith(f"to {ANNA}: ")
    text = summary_markdown(outcome.summary, outcome.receipts, outcome.refused, outcome.failed)
    assert text.splitlines()[2].startswith(f"**The mail was not sent:** `to {ANNA}: ")
    assert now() >= outcome.summary.finished


def test_the_charts(told):
    """They count the plan's duplicates, by folder and format, and end at the plan's bytes."""
    drawn = {chart.title: chart for chart in draw_charts(told.outcome.summary)}
    sizes = dict(told.outcome.summary.members.select("key", "size").iter_rows())
    leaving = [key for group in told.plan.groups for key in group.duplicates]

    def counted(name: Callable[[str], str]) -> dict[str, str]:
        found: dict[str, list[int]] = {}
        for key in leaving:
            found.setdefault(name(key), []).append(sizes[key])
        return {one: f"{len(all_)}, {human_bytes(sum(all_))}" for one, all_ in found.items()}

    assert dict(drawn["Duplicates by prefix"].rows) == counted(lambda k: k.rpartition("/")[0] + "/")
    assert dict(drawn["Duplicates by format"].rows) == counted(lambda k: k[-3:].upper())
    page = told.documents["report.html"].decode()
    for chart in drawn.values():
        for label, value in chart.rows:
            assert f'<td><bdi>{label}</bdi></td><td class="n">{value}</td>' in page


def test_the_artifacts_of_the_run(told, monkeypatch):
    made = {}
    for kind in ("markdown", "table"):
        monkeypatch.setattr(
            f"flows.artifacts.create_{kind}_artifact",
            lambda body, key, description: made.update({key: (body, description)}),
        )
    total = sum(moved(group)[1] for group in told.plan.groups)
    assert publish(told.outcome)["savings"] == total
    text, said = made["default-summary"]
    assert said.startswith("THE MAIL WAS NOT SENT. ")
    assert f"{human_bytes(total)} could be saved" in said
    assert f"{human_bytes(total)} could be saved" in text
    rows, said = made["default-groups"]
    assert said == f"The first {len(told.plan.groups)} of {len(told.plan.groups)} groups"
    assert {row["group"]: (row["stays"], row["could be saved"]) for row in rows} == {
        name: (group.keeper, human_bytes(moved(group)[1])) for name, group in told.groups.items()
    }


def test_pairs_as_csv_and_as_a_table_say_the_same(told):
    table = pl.read_parquet(io.BytesIO(told.documents["pairs.parquet"]))
    text = told.documents["pairs.csv"].decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["left"], row["right"], row["tier"]) for row in rows] == list(
        table.select("left", "right", "tier").iter_rows()
    )
    for row, score in zip(rows, table["score"], strict=True):
        assert float(row["score"]) == pytest.approx(score, abs=1e-3)


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")
def test_what_the_page_draws_and_exports(told, tmp_path):
    """What a person sees of each group after the script ran, and what the files then hold."""
    playwright = pytest.importorskip("playwright.sync_api")
    file = tmp_path / "report.html"
    file.write_bytes(told.documents["report.html"])
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(accept_downloads=True)
        for name, planned in told.groups.items():
            page.goto(f"{file.as_uri()}#{name}")
            playwright.expect(page.locator("#group")).to_have_attribute("data-group", name)
            files, size = moved(planned)
            stays = page.locator("#group th.is-keeper .path").inner_text()
            assert stays == planned.keeper
            assert f"{human_bytes(size)} could be saved" in page.inner_text("#group header")
            offered = page.locator("#act-accept")
            assert offered.count() == (0 if planned.refused else 1)
            if files:
                assert f"Merge: move {files} file" in offered.inner_text()
                assert human_bytes(size) in page.inner_text("#act-line")
        page.keyboard.press("b")
        page.check("#bulk [value='']")
        page.click("#bulk-do")
        page.click("#open-export")
        with page.expect_download() as download:
            page.click("#save-json")
        said = json.loads(Path(download.value.path()).read_text())
        browser.close()
    assert said["plan_hash"] == told.plan.hash
    easy = {
        name
        for name, group in told.groups.items()
        if group.operations and not group.refused and not group.questions
    }
    assert {one["group"] for one in said["groups"]} == easy
    assert {json.dumps(one) for one in said["groups"]} == {
        json.dumps({"group": name, "decision": "approve"}) for name in easy
    }, "the plan's own keeper and values, which need no new plan"


def test_receipts_tell_what_the_plan_said(told):
    """The last test here: it merges a group, and puts it back."""
    settings = told.outcome.scan.settings
    planned = next(group for group in told.plan.groups if group.keeper == "web/b.png")
    files, size = moved(planned)
    decide(settings, told.plan.id, "approve", by=ANNA, groups=[planned.group_id])
    outcome = merge_plan(settings, told.plan.id, by="schedule", groups=[planned.group_id])
    assert [one.state for one in outcome.groups] == ["merged"], outcome.groups
    merged = read_receipt(
        settings, MERGE, [(told.plan.id, outcome.run_id)], [], plan_id=told.plan.id, by="schedule"
    )
    assert (merged.files, merged.bytes, merged.quarantined, merged.freed) == (files, size, size, 0)
    assert [(one.keeper, one.files, one.bytes) for one in merged.groups] == [
        (planned.keeper, files, size)
    ]
    assert merged.approved_by == (ANNA,)
    (mail,) = compose_receipt(settings, merged)
    line = f"Merged 1 group: {files} files ({human_bytes(size)}) moved to quarantine"
    assert line in mail["Subject"]
    for kind in ("plain", "html"):
        text = mail.get_body((kind,)).get_content().replace("\u00a0", " ")
        assert f"{files} files ({human_bytes(size)})" in text
        assert planned.keeper in text.replace("<wbr>", "")
        assert ANNA in text.replace("<wbr>", "")
    ended = undo_merge(settings, told.plan.id, by=ANNA, groups={planned.group_id})
    undone = read_receipt(
        settings, UNDO, [(told.plan.id, ended[0].run_id)], [], plan_id=told.plan.id, by=ANNA
    )
    assert (undone.files, undone.bytes, undone.quarantined) == (files, size, 0)
