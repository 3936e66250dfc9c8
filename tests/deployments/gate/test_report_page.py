"""The report page at a signed link, and what its decisions may do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from deployments.cli.main import app as command_line
from deployments.gate.app import create_app
from tasks.dedup.verdicts import current
from tasks.merging.approvals import sign_link
from tasks.merging.journal import read_decisions, save_plan
from tasks.merging.rules.decisions import FORM
from tasks.merging.rules.plans import (
    PLAN_FORM,
    Action,
    FieldMerge,
    Operation,
    OperationKind,
    Plan,
    PlannedGroup,
)
from tasks.queries.verdicts import Verdict, read_verdicts, record_verdicts
from tasks.records import ObjectState, Tier, digest
from tasks.reporting.summarize import last_scan, summarize_scan
from tasks.session import open_catalog
from tasks.settings import Settings, load_settings

ANNA = "anna@example.org"
CHROMIUM = Path("/usr/bin/chromium")


def planned(row: dict, keys: list[str], **changes) -> PlannedGroup:
    """A group of a scan whose copies would be tagged."""
    keeper, *copies = keys
    states = tuple(ObjectState(key, etag=f"e-{key}", size=9) for key in keys)
    tags = tuple(
        Operation(OperationKind.TAG, one.key, one, "a duplicate", tags={"a": "b"})
        for one in states[1:]
    )
    values = {
        "group_id": row["group_id"],
        "fingerprint": digest(*keys),
        "tier": Tier.EXACT,
        "score": 1.0,
        "rule": "all",
        "action": Action.TAG,
        "keeper": keeper,
        "duplicates": tuple(copies),
        "reasons": ("has the most pixels",),
        "fields": (),
        "questions": (),
        "refused": "",
        "bytes": 9,
        "approvers": (),
        "automatic": False,
        "operations": tags,
        "states": states,
    }
    return PlannedGroup(**(values | changes))


def settings_of(place: Path) -> Settings:
    return load_settings(
        catalog={"uri": str(place / "catalog"), "busy_seconds": 2},
        merge={"gate_url": "https://dam.example.org/dedup/", "secret": "s" * 40},
    )


@pytest.fixture(scope="module")
def stock(make_stock):
    """A scan with four groups: two plain ones, one with a question, one that others decide on.

    Its library, the plan that is saved with it, its groups, and the assets' ids by their keys.
    """
    found = {}

    def fill(library):
        for number in range(4):
            library.add(f"p{number}.png", number)
            library.add(f"copies/p{number}.jpg", number, quality=90)
        library.scan()
        found.update(plan_all(settings_of(library.place)))

    return SimpleNamespace(library=make_stock(fill), **found)


def plan_all(settings):
    scan, space, counts, finished = last_scan(settings)
    summary = summarize_scan(scan, space, counts, finished)
    members = {
        name[0]: rows["key"].to_list()
        for name, rows in summary.members.group_by("group_id", maintain_order=True)
    }
    rows = sorted(summary.groups.iter_rows(named=True), key=lambda row: row["keeper"])
    changes = [{}, {}, {"questions": ("north or south?",)}, {"approvers": ("legal@example.org",)}]
    groups = [
        planned(row, members[row["group_id"]], **more)
        for row, more in zip(rows, changes, strict=True)
    ]
    plan = Plan(
        form=PLAN_FORM,
        source=scan.source,
        scan_id=scan.id,
        scope=scan.scope,
        policy="p 1",
        caps={"objects": 9.0, "bytes": 1e9, "share": 1.0},
        quarantine_days=30,
        assets=8,
        groups=tuple(sorted(groups, key=lambda group: group.group_id)),
    )
    catalog = open_catalog(settings)
    with catalog.writing(5):
        save_plan(catalog, plan)
    assets = dict(summary.members.select("key", "asset_id").iter_rows())
    return {"plan": plan, "groups": groups, "assets": assets}


@pytest.fixture
def site(stock, library, tmp_path):
    """The stock with a catalog of its own."""
    stock.library.lend(tmp_path)
    return SimpleNamespace(
        settings=settings_of(tmp_path),
        plan=stock.plan,
        groups=stock.groups,
        assets=stock.assets,
        names=[group.group_id for group in stock.groups],
    )


@pytest.fixture
def client(site) -> TestClient:
    return TestClient(create_app(site.settings), follow_redirects=False)


def path_of(site, reviewer: str = ANNA) -> str:
    return "/review/" + sign_link(site.settings, site.plan, reviewer).rsplit("/", 1)[-1]


def said(site, *groups: dict, verdicts=(), **changes) -> dict:
    return {
        "form": FORM,
        "plan_hash": site.plan.hash,
        "groups": list(groups),
        "verdicts": list(verdicts),
    } | changes


def word(name: str, decision: str = "approve", **more) -> dict:
    return {"group": name, "decision": decision, **more}


def pair(site, number: int, verdict: str = "distinct") -> dict:
    group = site.groups[number]
    return {
        "left": site.assets[group.keeper],
        "right": site.assets[group.duplicates[0]],
        "verdict": verdict,
    }


def held(site) -> dict[str, tuple[str, str, str]]:
    found = read_decisions(open_catalog(site.settings), site.plan)
    return {
        row["group_id"]: (row["decision"], row["by"], row["channel"])
        for row in found.iter_rows(named=True)
    }


def verdicts(site) -> list[tuple[str, str]]:
    rows = read_verdicts(open_catalog(site.settings))
    return [(row["verdict"], row["channel"]) for row in rows.iter_rows(named=True)]


def test_looking_shows_the_plans_scan_and_changes_nothing(site, client):
    path = path_of(site)
    answer = client.get(path + "/report")
    assert answer.status_code == 200
    assert "You decide as <b><bdi>anna@example.org</bdi>" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    for name in site.names:
        assert name in answer.text
    assert client.head(path + "/report").status_code == 200
    assert client.get(path + "/decisions").status_code == 405
    assert held(site) == {}
    assert f'href="{path.rsplit("/", 1)[-1]}/report"' in client.get(path).text


def test_decisions_are_recorded_in_the_reviewers_name(site, client):
    one, two, asked, _ = site.names
    body = said(
        site,
        word(one),
        word(two, "reject"),
        word(asked, accept_questions=True),
        verdicts=[pair(site, 1)],
    )
    answer = client.post(path_of(site) + "/decisions", json=body)
    assert answer.status_code == 200, answer.text
    assert {name: row[0] for name, row in answer.json()["decided"].items()} == {
        one: "approve",
        two: "reject",
        asked: "approve",
    }
    assert held(site) == {
        one: ("approve", ANNA, "page"),
        two: ("reject", ANNA, "page"),
        asked: ("approve", ANNA, "page"),
    }
    assert verdicts(site) == [("distinct", "page")]
    page = client.get(path_of(site) + "/report").text
    assert f'"{one}":["approve","{ANNA}"' in page, "what was decided is shown as decided"


def test_the_first_decision_holds_with_its_pairs(site, client):
    one = site.names[0]
    client.post(path_of(site) + "/decisions", json=said(site, word(one)))
    again = said(site, word(one, "reject"), verdicts=[pair(site, 0)])
    answer = client.post(path_of(site, "ben@example.org") + "/decisions", json=again)
    assert answer.json()["decided"][one][:2] == ["approve", ANNA]
    assert held(site)[one] == ("approve", ANNA, "page")
    assert verdicts(site) == []


def test_a_decision_is_taken_back_with_what_was_said_of_its_pairs(site, client):
    one, two, *_ = site.names
    path = path_of(site) + "/decisions"
    client.post(path, json=said(site, word(one, "reject"), word(two), verdicts=[pair(site, 0)]))
    assert held(site)[one][0] == "reject"
    answer = client.post(path, json=said(site, word(one, "withdraw")))
    assert answer.json()["problems"] == {}
    assert list(answer.json()["decided"]) == list(held(site)) == [two]
    assert [row[0] for row in verdicts(site)] == ["distinct", "withdrawn"]
    assert current_verdicts(site).is_empty(), "no scan keeps the pair apart"
    client.post(path, json=said(site, word(one), verdicts=[pair(site, 0, "duplicate")]))
    assert held(site)[one][0] == "approve"
    assert current_verdicts(site)["verdict"].to_list() == ["duplicate"]


def test_what_others_said_of_a_pair_is_not_taken_back(site, client):
    one = site.names[0]
    path = path_of(site) + "/decisions"
    told = pair(site, 0)
    record_verdicts(site.settings, [Verdict(**told)], by="ben", channel="cli")
    client.post(path, json=said(site, word(one, "reject")))
    client.post(path, json=said(site, word(one, "withdraw")))
    assert current_verdicts(site)["verdict"].to_list() == ["distinct"]


def test_others_decisions_are_not_taken_back(site, client):
    others = site.names[3]
    legal = path_of(site, "legal@example.org") + "/decisions"
    client.post(legal, json=said(site, word(others)))
    answer = client.post(path_of(site) + "/decisions", json=said(site, word(others, "withdraw")))
    assert "may not decide" in answer.json()["problems"][others]
    assert held(site)[others][0] == "approve"


def test_questions_and_others_groups_stay_open(site, client):
    _, _, asked, others = site.names
    answer = client.post(path_of(site) + "/decisions", json=said(site, word(asked), word(others)))
    assert set(answer.json()["problems"]) == {asked, others}
    assert held(site) == {}
    strange = said(site, verdicts=[pair(site, 3)])
    assert client.post(path_of(site) + "/decisions", json=strange).status_code == 409
    mixed = {"left": pair(site, 0)["left"], "right": pair(site, 1)["left"], "verdict": "distinct"}
    assert (
        client.post(path_of(site) + "/decisions", json=said(site, verdicts=[mixed])).status_code
        == 409
    )
    assert verdicts(site) == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://dam.example.org", "sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_only_the_page_itself_may_decide(site, client, headers, status):
    body = json.dumps(said(site, word(site.names[0])))
    headers = {"content-type": "application/json"} | headers
    answer = client.post(path_of(site) + "/decisions", content=body, headers=headers)
    assert answer.status_code == status
    assert bool(held(site)) == (status == 200)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"plan_hash": "0" * 64}, 409),
        ({"plan_hash": ""}, 409),
        ({"form": "another"}, 400),
        ({"groups": [{"group": "gx", "decision": "approve"}]}, 409),
        ({"groups": [{"group": "gx", "decision": "delete"}]}, 400),
        ({"groups": [word("g", by="somebody else")]}, 400),
        ({"groups": [word("g"), word("g")]}, 400),
        ({"comment": "x" * 2_000_000}, 413),
    ],
)
def test_strange_requests_are_refused(site, client, changes, status):
    answer = client.post(path_of(site) + "/decisions", json=said(site, **changes))
    assert answer.status_code == status
    assert "nothing was decided" in answer.json()["error"]
    assert held(site) == {}


def test_a_link_of_another_secret_opens_nothing(site, client):
    assert client.get("/review/x.y.z/report").status_code == 403
    assert client.post("/review/x.y.z/decisions", json=said(site)).status_code == 403


def test_another_keeper_is_planned_and_not_approved(site):
    asked = []

    def replan(plan_id: str, keepers: dict[str, str]) -> str:
        asked.append((plan_id, keepers))
        new = replace(site.plan, round=1)
        catalog = open_catalog(site.settings)
        with catalog.writing(5):
            save_plan(catalog, new)
        return new.id

    client = TestClient(create_app(site.settings, replan=replan))
    group = site.groups[0]
    body = said(site, word(group.group_id, keeper=group.duplicates[0]))
    answer = client.post(path_of(site) + "/decisions", json=body).json()
    assert asked == [(site.plan.id, {group.group_id: group.duplicates[0]})]
    assert held(site) == {}
    assert answer["plan"].startswith("../")
    assert answer["plan"].endswith("/report")
    assert client.get("/review/x/" + answer["plan"]).status_code == 200
    strange = said(site, word(group.group_id, keeper="somebody/elses.jpg"))
    answer = client.post(path_of(site) + "/decisions", json=strange).json()
    assert list(answer["problems"]) == [group.group_id]
    assert len(asked) == 1


def test_a_chosen_value_is_planned_and_not_approved(site):
    group = site.groups[0]
    field = FieldMerge("tags.owner", "ask", "north", "north", {group.duplicates[0]: "south"}, True)
    mine = tuple(
        replace(one, fields=(field,)) if one.group_id == group.group_id else one
        for one in site.plan.groups
    )
    site.plan = replace(site.plan, groups=mine, round=3)
    catalog = open_catalog(site.settings)
    with catalog.writing(5):
        save_plan(catalog, site.plan)
    asked = []

    def replan(*given) -> str:
        asked.append(given)
        return site.plan.id

    client = TestClient(create_app(site.settings, replan=replan))
    for values, wrong in (
        ({"tags.owner": "south"}, False),
        ({"tags.owner": "west"}, True),
        ({"tags.other": "south"}, True),
    ):
        body = said(site, word(group.group_id, values=values))
        answer = client.post(path_of(site) + "/decisions", json=body).json()
        assert (group.group_id in answer["problems"]) == wrong
        assert bool(answer["plan"]) != wrong
    assert asked == [(site.plan.id, {}, {group.group_id: {"tags.owner": "south"}})]
    assert held(site) == {}


def current_verdicts(site):
    catalog = open_catalog(site.settings)
    assets = catalog.read("assets", ["asset_id", "content"])
    return current(read_verdicts(catalog), assets)


# ---- the same decisions from a file ----------------------------------------------------------


def approve(site, file: Path, *more: str):
    catalog = ["--catalog", site.settings.catalog.uri]
    return CliRunner().invoke(
        command_line,
        ["approve", site.plan.id, "--by", "anna", "--decisions", str(file), *catalog, *more],
    )


def test_a_files_decisions_are_recorded(site, tmp_path):
    one, two, asked, others = site.names
    kept = site.groups[3].duplicates[0]
    file = tmp_path / "decisions.json"
    file.write_text(
        json.dumps(
            said(
                site,
                word(one),
                word(two, "reject"),
                word(asked, accept_questions=True),
                word(others, keeper=kept),
                verdicts=[pair(site, 1)],
            )
        )
    )
    answer = approve(site, file)
    assert answer.exit_code == 0, answer.output
    assert held(site) == {
        one: ("approve", "anna", "cli"),
        two: ("reject", "anna", "cli"),
        asked: ("approve", "anna", "cli"),
    }
    assert verdicts(site) == [("distinct", "cli")]
    assert f"--keeper {others}={kept}" in answer.output


def test_a_file_about_another_plan_decides_nothing(site, tmp_path):
    file = tmp_path / "decisions.json"
    for text in (json.dumps(said(site, word(site.names[0]), plan_hash="0" * 64)), "{}", "no"):
        file.write_text(text)
        answer = approve(site, file)
        assert answer.exit_code == 1
    assert held(site) == {}


# ---- in a browser ----------------------------------------------------------------------------


@pytest.fixture
def gate(site) -> Iterator[str]:
    """The gate as it runs: a server of its own."""
    config = uvicorn.Config(create_app(site.settings), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")
def test_review_by_keyboard_is_recorded_by_the_gate(site, gate):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(gate + path_of(site) + "/report#" + site.names[0])
        page.keyboard.press("a")
        page.goto(gate + path_of(site) + "/report#" + site.names[1])
        playwright.expect(page.locator("#group")).to_have_attribute("data-group", site.names[1])
        page.keyboard.press("d")
        acts = page.locator("#acts")
        for name, word_ in zip(site.names[:2], ("Approved by", "Rejected by"), strict=True):
            page.goto(gate + path_of(site) + "/report#" + name)
            playwright.expect(acts).to_contain_text(word_ + " " + ANNA, timeout=30_000)
            playwright.expect(page.locator("#act-accept")).to_be_disabled()
        # Until it is carried out it can be changed: y takes it back, and the next key decides.
        page.keyboard.press("y")
        playwright.expect(page.locator("#act-distinct")).to_be_enabled()
        page.keyboard.press("l")
        page.goto(gate + path_of(site) + "/report#" + site.names[1])
        playwright.expect(acts).to_contain_text("Rejected by " + ANNA, timeout=30_000)
        browser.close()
    assert set(current_verdicts(site)["verdict"]) == {"linked"}
    assert held(site) == {
        site.names[0]: ("approve", ANNA, "page"),
        site.names[1]: ("reject", ANNA, "page"),
    }
    assert problems == []
