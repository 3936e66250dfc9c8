"""The signed approval page: what a link shows, what a click does, and what neither may do."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient
from itsdangerous import TimestampSigner
from PIL import Image

from deployments.gate import app as app_module
from deployments.gate.app import create_app
from deployments.gate.forms import BODY_LIMIT
from reports.review import GROUPS_PER_PAGE, content_policy
from tasks.errors import MergeError, SettingsError
from tasks.merging import approvals
from tasks.merging.approvals import read_token, sign_link
from tasks.merging.journal import (
    INTENDED,
    Run,
    read_decisions,
    read_plan,
    save_plan,
    write_events,
)
from tasks.merging.rules.plans import (
    PLAN_FORM,
    Action,
    FieldMerge,
    Operation,
    OperationKind,
    Plan,
    PlannedGroup,
)
from tasks.records import ObjectState, Tier, digest, now
from tasks.session import open_catalog, pa_table
from tasks.settings import Settings, load_settings

ANNA = "anna@example.org"
SECRET = "s" * 40
HOSTILE = [
    "<script>alert(1)</script>.jpg",
    "\"><img src=x onerror=alert(1)> '.jpg",
    "line\nbreak\r\nSet-Cookie: a=b.jpg",
    "turned \u202egpj.exe",
    "{{ 7*7 }} {% raw %} ${x}.jpg",
    "sep\u2028end\ufeff\x00.jpg",
]


def state(key: str, size: int = 2_400_000, **more) -> ObjectState:
    return ObjectState(key, etag=f"e-{digest(key)[:6]}", size=size, version_id="v1", **more)


def group(name: str, keeper: str, *copies: str, days: bool = True, **changes) -> PlannedGroup:
    """A group whose copies move into quarantine."""
    states = (state(keeper, 9_800_000), *(state(key) for key in copies))
    moves = []
    for one in states[1:]:
        to, why = f"quarantine/scan/{one.key}", f"a duplicate of {keeper}"
        moves += [
            Operation(OperationKind.COPY, one.key, one, why, to=to),
            Operation(OperationKind.DELETE, one.key, one, why, to=to),
        ]
    values = {
        "group_id": name,
        "fingerprint": digest(name),
        "tier": Tier.NEAR,
        "score": 0.91,
        "rule": "photos",
        "action": Action.QUARANTINE,
        "keeper": keeper,
        "duplicates": copies,
        "reasons": ("has the most pixels", "is in masters/"),
        "fields": (),
        "questions": (),
        "refused": "",
        "bytes": 2_400_000 * len(copies),
        "approvers": (),
        "automatic": False,
        "operations": tuple(moves),
        "states": states,
    }
    return PlannedGroup(**(values | changes))


def plan_of(*groups: PlannedGroup, **changes) -> Plan:
    values = {
        "form": PLAN_FORM,
        "source": "s3://dam/photos",
        "scan_id": "20261122T120000-abcdef",
        "scope": "scope",
        "policy": "default 1f2e3d",
        "caps": {"objects": 100.0, "bytes": 1e9, "share": 0.1},
        "quarantine_days": 30,
        "assets": 240,
        "groups": groups,
    }
    return Plan(**(values | changes))


def three() -> Plan:
    """A plain group, one with questions, and one that only others may decide on."""
    asked = FieldMerge(
        "tags.agency", "fill", "north", "north", {"web/hat.jpg": "south"}, conflict=True
    )
    return plan_of(
        group("a" * 32, "masters/boots.tif", "web/boots.jpg", "web/boots-small.jpg"),
        group(
            "b" * 32,
            "masters/hat.tif",
            "web/hat.jpg",
            fields=(asked,),
            questions=("tags.agency: north or south?",),
        ),
        group("c" * 32, "masters/bag.tif", "web/bag.jpg", approvers=("legal@example.org",)),
        group("d" * 32, "masters/coat.tif", "web/coat.jpg", tier=Tier.EXACT),
    )


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return load_settings(
        catalog={"uri": str(tmp_path / "catalog"), "busy_seconds": 2},
        merge={"gate_url": "https://dam.example.org/dedup/", "secret": SECRET},
        s3={"region": "us-east-1"},
    )


@pytest.fixture
def saved(settings: Settings):
    """Keeps a plan in the catalog."""

    def save(plan: Plan) -> Plan:
        catalog = open_catalog(settings)
        with catalog.writing(5):
            save_plan(catalog, plan)
        return plan

    return save


@pytest.fixture
def client(settings: Settings) -> TestClient:
    return TestClient(create_app(settings), follow_redirects=False)


def path_of(settings: Settings, plan: Plan, reviewer: str = ANNA) -> str:
    link = sign_link(settings, plan, reviewer)
    assert link.startswith("https://dam.example.org/dedup/review/")
    return "/review/" + link.rsplit("/", 1)[-1]


def send(client: TestClient, path: str, decision: str, groups=(), **fields):
    pairs = [("decision", decision), *(("groups", name) for name in groups)]
    for name, values in fields.items():
        pairs += [(name, value) for value in ([values] if isinstance(values, str) else values)]
    kind = {"content-type": "application/x-www-form-urlencoded"}
    return client.post(path, content=urlencode(pairs), headers=kind)


def decisions(settings: Settings, plan: Plan) -> dict[str, tuple[str, str, str, str]]:
    found = read_decisions(open_catalog(settings), plan)
    return {
        row["group_id"][0]: (row["decision"], row["by"], row["channel"], row["comment"])
        for row in found.iter_rows(named=True)
    }


class Page(HTMLParser):
    """Elements and text of a page, as a browser reads them."""

    def __init__(self, body: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(body)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [
            attributes
            for name, attributes in self.elements
            if name == tag and all(attributes.get(key) == value for key, value in wanted.items())
        ]


# ---- looking ---------------------------------------------------------------------------------


def test_following_the_link_changes_nothing(settings, saved, client, tmp_path):
    path = path_of(settings, saved(three()))
    client.get(path)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "catalog").rglob("*")}
    for address in (path, path + "?decision=approve&groups=" + "a" * 32, path + "?note=recorded"):
        assert client.get(address).status_code == 200
        head = client.head(address)
        assert head.status_code == 200
        assert "content-security-policy" in head.headers
    after = {file: file.stat().st_mtime_ns for file in (tmp_path / "catalog").rglob("*")}
    assert after == before
    for method in ("PUT", "DELETE", "PATCH"):
        assert client.request(method, path).status_code == 405
    assert not decisions(settings, three())


def test_the_page_says_what_would_be_done(settings, saved, client):
    page = Page(client.get(path_of(settings, saved(three()))).text)
    assert "You decide as anna@example.org" in page.text
    assert "3 groups of duplicates wait for your decision" in page.text
    assert "moves 2 files (4.8 MB) to quarantine, kept for at least 30 days" in page.text
    assert "Nothing is deleted for good by your approval." in page.text
    assert "has the most pixels; is in masters/" in page.text
    assert "You may not decide about this group; legal@example.org may." in page.text
    boxes = {box["value"][0]: "checked" in box for box in page.all("input", name="groups")}
    assert boxes == {"a": False, "b": False, "d": False}, "nothing is ticked for anybody"
    own = [button["value"][0] for button in page.all("button", name="merge")]
    assert own == ["a", "b", "d"]
    assert "Merge: move 2 files to quarantine" in page.text
    assert "agency 'south' would be lost" in page.text
    assert "tags.agency: north or south?" in page.text
    assert [box["value"][0] for box in page.all("input", name="accept")] == ["b"]
    assert not [box for box in page.all("input") if (box.get("name") or "").startswith("keeper-")]


def test_files_lost_for_good_are_said_to_be(settings, saved, client):
    before = ObjectState("web/a.jpg", etag="e", size=5)  # no version: no way back
    gone = Operation(OperationKind.DELETE, "web/a.jpg", before, "a duplicate")
    plan = plan_of(group("a" * 32, "a.tif", "web/a.jpg", action=Action.DELETE, operations=(gone,)))
    text = Page(client.get(path_of(settings, saved(plan))).text).text
    assert "1 group would lose files for good" in text
    assert "Nothing is deleted for good" not in text


def test_headers(settings, saved, client):
    path = path_of(settings, saved(three()))
    for answer in (
        client.get(path),
        client.get("/review/x"),
        client.get("/nowhere"),
        client.get("/docs"),
        send(client, path, "approve"),
        client.get("/health"),
    ):
        headers = answer.headers
        assert headers["content-security-policy"] == content_policy()
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
    policy = content_policy()
    for part in ("default-src 'none'", "form-action 'self'", "frame-ancestors 'none'"):
        assert part in policy
    assert "unsafe" not in policy
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/nowhere").status_code == 404


def test_thumbnails_only_of_what_the_plan_saw(settings, saved, client):
    plan = saved(three())
    keeper, copy, _ = plan.groups[0].states
    rows = [asset(keeper.key, keeper.etag, "c1"), asset(copy.key, "changed since", "c2")]
    keep_assets(settings, rows, {"c1": picture(1), "c2": picture(2)})
    page = Page(client.get(path_of(settings, plan)).text)
    images = page.all("img")
    assert [image["alt"] for image in images] == ["File that stays: masters/boots.tif"]
    assert images[0]["src"].startswith("data:image/jpeg;base64,")
    assert "6,000 \u00d7 4,000, TIFF, 9.8 MB" in page.text


@pytest.mark.long
def test_many_groups_come_in_pages(settings, saved, client):
    number = GROUPS_PER_PAGE + 5
    groups = [group(f"{n:032x}", f"m/{n}.tif", f"w/{n}.jpg") for n in range(number)]
    groups[3] = group(f"{3:032x}", "m/3.tif", "w/3.jpg", questions=("which?",))
    path = path_of(settings, saved(plan_of(*groups)))
    assert len(Page(client.get(path).text).all("section", **{"class": "group"})) == GROUPS_PER_PAGE
    for far in ("2", "99", "2%00", "-1", "x"):
        assert client.get(f"{path}?page={far}").status_code == 200
    assert len(Page(client.get(path + "?page=2").text).all("section", **{"class": "group"})) == 5
    assert (
        send(client, path + "?page=2", "approve-all-asked")
        .headers["location"]
        .endswith("?page=2&note=recorded")
    )
    assert read_decisions(open_catalog(settings), plan_of(*groups)).height == number - 1


# ---- deciding --------------------------------------------------------------------------------


def test_only_chosen_groups_are_approved(settings, saved, client):
    plan = saved(three())
    path = path_of(settings, plan)
    before = now()
    answer = send(client, path, "approve", ["a" * 32], comment="  fine\r\nby me ")
    assert answer.status_code == 303
    assert decisions(settings, plan) == {"a": ("approve", ANNA, "page", "fine\nby me")}
    at = read_decisions(open_catalog(settings), plan)["at"][0]
    assert before - timedelta(seconds=1) <= at <= now()
    text = Page(client.get("/review/" + answer.headers["location"]).text).text
    assert "Your decision is recorded." in text
    assert f"Approved by {ANNA} on {at:%Y-%m-%d %H:%M} UTC" in text
    assert "fine" in text


def test_the_first_outcome_holds_and_is_shown(settings, saved, client):
    plan = saved(three())
    path = path_of(settings, plan)
    send(client, path, "approve", ["a" * 32])
    first = decisions(settings, plan)
    for reviewer in (ANNA, "bert@example.org"):
        answer = send(client, path_of(settings, plan, reviewer), "reject", ["a" * 32])
        assert answer.headers["location"].endswith("note=before")
        page = Page(client.get("/review/" + answer.headers["location"]).text)
        assert "This was decided before; that decision holds until it is taken back." in page.text
        assert f"Approved by {ANNA}" in page.text
        assert "a" * 32 not in [box["value"] for box in page.all("input", name="groups")]
    assert decisions(settings, plan) == first


def test_a_decision_is_taken_back_until_it_is_carried_out(settings, saved, client):
    plan = saved(three())
    path = path_of(settings, plan)
    send(client, path, "approve", ["a" * 32])
    send(client, path, "reject", ["d" * 32])
    buttons = Page(client.get(path).text).all("button", name="withdraw")
    assert {one["value"] for one in buttons} == {"a" * 32, "d" * 32}
    for name in ("a" * 32, "d" * 32):
        answer = send(client, path, "approve", ["b" * 32], withdraw=name)
        assert answer.headers["location"].endswith("note=withdrawn")
    assert not decisions(settings, plan), "what else was chosen does not count"
    send(client, path, "approve", ["a" * 32, "d" * 32])
    catalog, chosen = open_catalog(settings), plan.groups[0]
    begun = Run("run", plan, "anna")
    with catalog.writing(5):
        write_events(catalog, begun, chosen, INTENDED, [(0, chosen.operations[0], {})])
    (left,) = Page(client.get(path).text).all("button", name="withdraw")
    assert left["value"] == "d" * 32
    late = send(client, path, "", withdraw="a" * 32)
    assert late.status_code == 409
    assert "it is interrupted: dam-dedup undo" in Page(late.text).text
    assert decisions(settings, plan)["a"][0] == "approve"


def test_others_groups_are_not_taken_back(settings, saved, client):
    plan = saved(three())
    legal = path_of(settings, plan, "legal@example.org")
    send(client, legal, "approve", ["c" * 32])
    answer = send(client, path_of(settings, plan), "", withdraw="c" * 32)
    assert answer.status_code == 409
    assert "may not decide about it" in Page(answer.text).text
    assert decisions(settings, plan)["c"][:2] == ("approve", "legal@example.org")


def test_rejected(settings, saved, client):
    plan = saved(three())
    path = path_of(settings, plan)
    send(client, path, "reject", ["a" * 32, "b" * 32])
    assert {key: row[0] for key, row in decisions(settings, plan).items()} == {
        "a": "reject",
        "b": "reject",
    }
    assert f"Rejected by {ANNA}" in Page(client.get(path).text).text


def test_questions_have_to_be_read(settings, saved, client):
    plan = saved(three())
    path = path_of(settings, plan)
    answer = send(client, path, "approve", ["b" * 32])
    assert answer.status_code == 409
    assert (
        "tags.agency: north or south? Tick \u201cI have read this\u201d" in Page(answer.text).text
    )
    assert not decisions(settings, plan)
    # One group's tick says nothing of another's question; what can be decided is.
    assert send(client, path, "approve", ["a" * 32, "b" * 32], accept="a" * 32).status_code == 200
    assert list(decisions(settings, plan)) == ["a"]
    assert send(client, path, "approve", ["b" * 32], accept="b" * 32).status_code == 303
    assert list(decisions(settings, plan)) == ["a", "b"]


def test_who_may_not_decide_is_told_who_may(settings, saved, client):
    plan = saved(three())
    for decision in ("approve", "reject"):
        answer = send(client, path_of(settings, plan), decision, ["c" * 32], accept="c" * 32)
        assert answer.status_code == 409
        assert f"{ANNA} may not decide about it; legal@example.org may" in Page(answer.text).text
    assert not decisions(settings, plan)
    send(client, path_of(settings, plan, "legal@example.org"), "approve", ["c" * 32])
    assert decisions(settings, plan)["c"][:2] == ("approve", "legal@example.org")


@pytest.mark.parametrize("groups", [[], ["f" * 32], ["a" * 32, "f" * 32], [""], ["a"]])
def test_nothing_chosen_does_not_mean_all(settings, saved, client, groups):
    plan = saved(three())
    assert send(client, path_of(settings, plan), "approve", groups).status_code == 409
    assert not decisions(settings, plan)


def test_approve_all_leaves_out_what_asks(settings, saved, client):
    plan = saved(three())
    send(client, path_of(settings, plan), "approve-all-asked")
    assert list(decisions(settings, plan)) == ["a", "d"]


def test_approve_all_asks_once_with_counts_bytes_and_the_largest(settings, saved, client):
    many = [
        group(f"{n:032x}", f"m/{n:02}.tif", *(f"w/{n}-{copy}.jpg" for copy in range(n)))
        for n in range(1, 13)
    ]
    asked = group("f" * 32, "m/asks.tif", "w/asks.jpg", questions=("which?",))
    plan = saved(plan_of(*many, asked, assets=100_000))
    path = path_of(settings, plan)
    answer = send(client, path, "approve-all", comment="all of\nthem")
    assert answer.status_code == 200
    assert not decisions(settings, plan), "it only asks"
    page = Page(answer.text)
    assert "Merge 12 groups?" in page.text
    assert "Merge 12 groups: move 78 files (187.2 MB)" in page.text
    assert "1 group with a question is left out." in page.text
    rows = [f"m/{n:02}.tif" for n in range(12, 2, -1)]
    assert [row in page.text for row in rows] == [True] * 10
    assert page.text.index("m/12.tif") < page.text.index("m/11.tif") < page.text.index("m/03.tif")
    assert "m/02.tif" not in page.text
    assert "above the policy's cap of 100 objects in one merge" not in page.text
    (comment,) = page.all("input", name="comment")
    (button,) = page.all("button", name="decision")
    send(client, path, button["value"], comment=comment["value"])
    rows = read_decisions(open_catalog(settings), plan)
    assert rows.height == 12
    assert set(rows["comment"]) == {"all of\nthem"}
    assert "There is nothing left to merge" in send(client, path, "approve-all").text


def test_approving_more_than_a_merge_may_do_is_told_before(settings, saved, client):
    many = [group(f"{n:032x}", f"m/{n}.tif", f"w/{n}.jpg") for n in range(1, 4)]
    caps = {"objects": 2.0, "bytes": 1e9, "share": 1.0}
    plan = saved(plan_of(*many, caps=caps))
    page = Page(send(client, path_of(settings, plan), "approve-all").text)
    assert "above the policy's cap of 2 objects in one merge: no merge would" in page.text
    assert not page.all("button"), "what no merge carries out is not offered"


def test_a_groups_own_button_merges_that_group_and_no_other(settings, saved, client):
    plan = saved(three())
    path = path_of(settings, plan)
    kind = {"content-type": "application/x-www-form-urlencoded"}
    # What a browser sends: the pressed button, and every box that is ticked.
    form = urlencode([("groups", "d" * 32), ("comment", "mine"), ("merge", "a" * 32)])
    assert client.post(path, content=form, headers=kind).status_code == 303
    assert decisions(settings, plan) == {"a": ("approve", ANNA, "page", "mine")}
    assert client.post(path, content=f"merge={'b' * 32}", headers=kind).status_code == 409
    assert client.post(path, content=f"merge={'c' * 32}", headers=kind).status_code == 409
    assert set(decisions(settings, plan)) == {"a"}
    answered = f"merge={'b' * 32}&accept={'b' * 32}"
    assert client.post(path, content=answered, headers=kind).status_code == 303


def test_what_may_not_be_done_offers_nothing_and_says_why(settings, saved, client):
    young = group("a" * 32, "m/a.tif", "w/a.jpg", operations=(), refused="younger than 24 h: x")
    kept = group(
        "b" * 32,
        "masters/b.tif",
        "masters/b2.tif",
        operations=(),
        refused="2 assets may not be touched: masters/b.tif (protected prefix masters/), "
        "masters/b2.tif (protected prefix masters/)",
    )
    plan = saved(plan_of(young, kept))
    rows = [asset(one.key, one.etag, f"c{n}") for n, one in enumerate(young.states)]
    keep_assets(settings, [row | {"last_modified": now()} for row in rows], {"c0": picture(1)})
    page = Page(client.get(path_of(settings, plan)).text)
    assert not page.all("button", name="merge")
    assert not page.all("input", name="groups")
    assert "Nothing may be done: a file is younger than 24 h; what would change that: from" in (
        page.text
    )
    assert "masters/ is protected: 2 of these files may not be moved" in page.text


def test_forms_that_are_none(settings, saved, client):
    plan = saved(three())
    path = path_of(settings, plan)
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post(path, json={"decision": "approve"}).status_code == 415
    assert client.post(path, content=b"decision=approve").status_code == 415
    assert client.post(path, content=b"decision=maybe", headers=form).status_code == 400
    for site in ("cross-site", "same-site"):  # a page of somebody else, of the same domain too
        foreign = form | {"sec-fetch-site": site}
        answer = client.post(path, content=b"decision=approve-all-asked", headers=foreign)
        assert answer.status_code == 403
    assert client.post(path, content=b"\xff\xfe", headers=form).status_code == 400
    assert client.post(path, content=b"a=1&" * 3000, headers=form).status_code == 400
    large = b"comment=" + b"x" * BODY_LIMIT
    assert client.post(path, content=large, headers=form).status_code == 413
    in_parts = (b"x" * 60_000 for _ in range(10))  # whose length no header tells
    assert client.post(path, content=in_parts, headers=form).status_code == 413
    assert send(client, path, "keeper", **{"keeper-" + "a" * 32: "1"}).status_code == 409
    assert not decisions(settings, plan)


def test_a_busy_catalog_is_not_waited_for_long(settings, saved, client):
    path = path_of(settings, saved(three()))
    with open_catalog(settings).writing(5):
        answer = send(client, path, "approve", ["a" * 32])
    assert answer.status_code == 503
    assert "Nothing was decided" in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_what_takes_longer_than_a_page_waits_is_told_to_go_on(settings, saved, client, monkeypatch):
    """A thread is not cut off; whoever was told of a failure would press once more."""

    def late(*_):
        raise TimeoutError

    monkeypatch.setattr(app_module, "decide_form", late)
    answer = send(client, path_of(settings, saved(three())), "approve", ["a" * 32])
    assert answer.status_code == 504
    assert "It goes on: open the link again" in Page(answer.text).text


def test_two_clicks_at_once_leave_one_outcome(settings, saved):
    plan = saved(three())
    patient = settings.model_copy(
        update={"catalog": settings.catalog.model_copy(update={"busy_seconds": 30})}
    )
    client = TestClient(create_app(patient), follow_redirects=False)
    answers = []

    def click(decision: str) -> None:
        path = path_of(settings, plan, f"{decision}@example.org")
        answers.append(send(client, path, decision, ["a" * 32]).status_code)

    clicks = [threading.Thread(target=click, args=[one]) for one in ("approve", "reject") * 3]
    for one in clicks:
        one.start()
    for one in clicks:
        one.join()
    assert answers == [303] * 6
    assert read_decisions(open_catalog(settings), plan).height == 1


# ---- another keeper --------------------------------------------------------------------------


def test_another_keeper_makes_a_plan_and_decides_nothing(settings, saved):
    plan, asked = saved(three()), []
    other = plan_of(group("a" * 32, "web/boots.jpg", "masters/boots.tif"))

    def replan(plan_id: str, keepers: dict[str, str]) -> str:
        asked.append((plan_id, keepers))
        return saved(other).id

    client = TestClient(create_app(settings, replan=replan), follow_redirects=False)
    until = now().replace(microsecond=0) + timedelta(hours=1)
    path = "/review/" + sign_link(settings, plan, ANNA, until=until).rsplit("/", 1)[-1]
    radios = Page(client.get(path).text).all("input", name="keeper-" + "a" * 32)
    assert [(radio["value"], "checked" in radio) for radio in radios] == [
        ("0", True),
        ("1", False),
        ("2", False),
    ]
    answer = send(client, path, "keeper", **{"keeper-" + "a" * 32: "1", "keeper-" + "b" * 32: "0"})
    assert asked == [(plan.id, {"a" * 32: "web/boots.jpg"})]
    assert answer.status_code == 303
    new = "/review/" + answer.headers["location"]
    assert "Nothing is approved yet." in client.get(new).text
    token = answer.headers["location"].partition("?")[0]
    claim = read_token(settings, token)
    assert (claim.hash, claim.reviewer, claim.until) == (other.hash, ANNA, until)
    assert not decisions(settings, plan)
    assert not decisions(settings, other)
    for wrong in (
        {"keeper-" + "a" * 32: "3"},
        {"keeper-" + "c" * 32: "1"},
        {"keeper-" + "a" * 32: "0"},
        {"keeper-ffff": "1"},
    ):
        assert send(client, path, "keeper", **wrong).status_code == 409
    assert len(asked) == 1
    # What was picked is not what an approval would do.
    picked = {"keeper-" + "a" * 32: "1", "comment": "keep <the> small one"}
    for decision in ("approve", "approve-all-asked"):
        answer = send(client, path, decision, ["a" * 32], **picked)
        assert answer.status_code == 409
        assert "you picked another file to stay" in Page(answer.text).text
        assert "keep &lt;the&gt; small one</textarea>" in answer.text  # not lost
    assert not decisions(settings, plan)
    assert send(client, path, "approve", ["d" * 32], **picked).status_code == 303


# ---- links -----------------------------------------------------------------------------------


def signed_at(monkeypatch: pytest.MonkeyPatch, when: datetime) -> None:
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _: int(when.timestamp()))
    monkeypatch.setattr(approvals, "now", lambda: when)


def test_a_link_ends(settings, saved, client, monkeypatch):
    plan = saved(three())
    with monkeypatch.context() as past:
        signed_at(past, now() - timedelta(days=7, seconds=-60))
        nearly = path_of(settings, plan)
        signed_at(past, now() - timedelta(days=7, seconds=60))
        over = path_of(settings, plan)
    assert client.get(nearly).status_code == 200
    for answer in (client.get(over), send(client, over, "approve", ["a" * 32])):
        assert answer.status_code == 403
        assert "This link ended on" in answer.text
        assert plan.source not in answer.text
    ended = sign_link(settings, plan, ANNA, until=now() - timedelta(seconds=1))
    assert client.get("/review/" + ended.rsplit("/", 1)[-1]).status_code == 403
    assert not decisions(settings, plan)


def test_links_that_are_not_ours(settings, saved, client):
    plan = saved(three())
    path = path_of(settings, plan)
    stranger = settings.model_copy(
        update={"merge": load_settings(merge={"secret": "t" * 40, "gate_url": "https://x"}).merge}
    )
    body, stamp, signature = path.rsplit(".", 2)
    wrong = [
        "/review/" + sign_link(stranger, plan, ANNA).rsplit("/", 1)[-1],
        path[:-1],
        path[:-9] + ("A" if path[-9] != "A" else "B") + path[-8:],
        f"{body}.{stamp}x.{signature}",
        f"{body[:-2]}.{stamp}.{signature}",
        path_of(settings, plan, "bert")[:60] + path[60:],
        "/review/x",
        "/review/..%2f",
        "/review/%00",
        "/review/" + "a." * 4000,
    ]
    for address in wrong:
        for answer in (client.get(address), send(client, address, "approve", ["a" * 32])):
            assert answer.status_code in {403, 404}, address
            assert "masters/boots" not in answer.text
    assert not decisions(settings, plan)


def test_a_link_is_worth_nothing_for_another_plan(settings, saved, client):
    plan = saved(three())
    never_saved = plan_of(plan.groups[0], assets=241)
    answer = send(client, path_of(settings, never_saved), "approve", ["a" * 32])
    assert answer.status_code == 404
    said = {"plan": plan.id, "hash": plan.id + "0" * 52, "reviewer": ANNA, "until": 2_000_000_000}
    forged = approvals._serializer(settings).dumps(said)
    assert send(client, f"/review/{forged}", "approve", ["a" * 32]).status_code == 404
    said |= {"plan": never_saved.id, "hash": plan.hash}
    forged = approvals._serializer(settings).dumps(said)
    assert send(client, f"/review/{forged}", "approve", ["a" * 32]).status_code == 403
    for nothing in ({}, [], "x", {"plan": 1}, said | {"until": "x"}, said | {"until": 1e30}):
        token = approvals._serializer(settings).dumps(nothing)
        assert client.get(f"/review/{token}").status_code == 403
    assert not decisions(settings, plan)


def test_what_signing_needs(settings):
    plan = three()
    for merge, words in (
        ({"secret": SECRET}, "DAM_DEDUP_MERGE__GATE_URL"),
        ({"gate_url": "https://x"}, "DAM_DEDUP_MERGE__SECRET is not set"),
        ({"gate_url": "https://x", "secret": "s" * 31}, "has 31 characters"),
    ):
        with pytest.raises(SettingsError, match=words):
            sign_link(load_settings(merge=merge), plan, ANNA)
    with pytest.raises(SettingsError, match="token_urlsafe"):
        create_app(load_settings(merge={"secret": "s" * 31}))
    for name in ("", "  ", "a\u202eb"):
        with pytest.raises(MergeError, match="name of a reviewer"):
            sign_link(settings, plan, name)


# ---- strangers' names ------------------------------------------------------------------------


def test_hostile_names_stay_text(settings, saved):
    evil = "\n".join(HOSTILE)
    merged = FieldMerge(f"tags.{evil}", "union", evil, evil[::-1], {evil: evil}, conflict=False)
    moves = group("a" * 32, HOSTILE[0], *HOSTILE[1:]).operations
    rewrite = Operation(OperationKind.REWRITE, evil, state(evil), evil, {evil: evil}, {evil: evil})
    first = group(
        "a" * 32,
        HOSTILE[0],
        *HOSTILE[1:],
        fields=(merged,),
        questions=(evil,),
        reasons=(evil,),
        rule=evil,
        operations=(*moves, rewrite),
    )
    plan = saved(
        plan_of(first, group("b" * 32, evil, "x", refused=evil), source="s3://dam", policy=evil)
    )
    client = TestClient(create_app(settings, replan=lambda *_: ""), follow_redirects=False)
    reviewer = "<script>alert(1)</script>\"'@example.org"
    path = path_of(settings, plan, reviewer)
    for body in (
        client.get(path).text,
        send(client, path, "approve", ["a" * 32]).text,  # its problem names the keys
        send(client, path, "approve", ["a" * 32], accept="a" * 32, comment=evil).text,
        client.get(path).text,
    ):
        page = Page(body)
        for tag, attributes in page.elements:
            assert tag not in {"script", "iframe", "object", "link", "base", "svg"}
            assert not [name for name in attributes if name.startswith("on")]
            assert tag != "img" or attributes["src"].startswith("data:image/jpeg;base64,")
            assert not (attributes.get("href") or "#").startswith(("javascript:", "http", "//"))
        assert not {"\u202e", "\u2028", "\ufeff", "\x00"} & set(body)
    assert "<script>alert(1)</script>.jpg" in page.text  # as text
    assert "<script>alert(1)</script>\"'@example.org" in page.text
    assert decisions(settings, plan)["a"][3] == evil.replace("\r\n", "\n")
    assert "Set-Cookie" not in client.get(path).headers


# ---- a browser -------------------------------------------------------------------------------


def picture(seed: int) -> bytes:
    """A small scene that differs from seed to seed."""
    y, x = np.mgrid[0:256, 0:384] / 256
    draw = np.random.default_rng(seed)
    sky, hill = draw.integers(90, 230, 3), draw.integers(20, 130, 3)
    edge = 0.55 + 0.14 * np.sin(x * draw.uniform(3, 7) + seed)
    pixels = np.where((y > edge)[..., None], hill, sky) * (1 - 0.35 * y)[..., None]
    sun = (x - draw.uniform(0.3, 1.2)) ** 2 + (y - 0.25) ** 2 < 0.006
    pixels[sun] = (255, 236, 170)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def asset(key: str, etag: str, content: str) -> dict:
    facts = ("tiff", 6000, 4000) if key.endswith(".tif") else ("jpeg", 1600, 1067)
    return {
        "asset_id": digest(key),
        "source": "s3://dam",
        "key": key,
        "etag": etag,
        "content": content,
        "format": facts[0],
        "width": facts[1],
        "height": facts[2],
    }


def keep_assets(settings: Settings, rows: list[dict], pictures: dict[str, bytes]) -> None:
    from tasks.catalog import schema

    catalog = open_catalog(settings)
    with catalog.writing(5):
        catalog.upsert("assets", pa_table(rows, schema.ASSETS))
        kept = [{"content": name, "jpeg": jpeg} for name, jpeg in pictures.items()]
        catalog.upsert("thumbnails", pa_table(kept, schema.THUMBNAILS))


def rich() -> Plan:
    """What a customer may see: every kind of group."""
    web, agency, crop = "web/2026/boots-1600.jpg", "agency/north/IMG_4411.jpg", "hat-crop.jpg"
    keywords = {web: "boots, leather", agency: "outdoor"}
    fields = (
        FieldMerge("tags.campaign", "fill", "spring 2026", None, {web: "spring 2026"}),
        FieldMerge("xmp.keywords", "union", "boots, leather, outdoor", "boots", keywords),
        FieldMerge("metadata.owner", "fill", "studio", "studio", {web: "studio"}),
    )
    asked = FieldMerge(
        "tags.rights", "ask", "worldwide", "worldwide", {crop: "Europe until 2027"}, conflict=True
    )
    boots = group("3fa1" * 8, "masters/2026/boots-front.tif", web, agency)
    tag = Operation(
        OperationKind.TAG,
        boots.keeper,
        boots.states[0],
        "takes over the duplicates' tags",
        tags={"campaign": "spring 2026"},
    )
    boots = group(
        "3fa1" * 8,
        boots.keeper,
        *boots.duplicates,
        fields=fields,
        operations=(tag, *boots.operations),
    )
    return plan_of(
        boots,
        group(
            "51c0" * 8,
            "masters/2026/hat.tif",
            crop,
            fields=(asked,),
            questions=(
                "tags.rights: the keeper says 'worldwide', hat-crop.jpg says 'Europe until 2027'",
            ),
        ),
        group("77b2" * 8, "masters/2026/lake.tif", "web/2026/lake.jpg", tier=Tier.EXACT, score=1.0),
        group(
            "9d0e" * 8, "masters/2026/bag.tif", "web/2026/bag.jpg", approvers=("legal@example.org",)
        ),
        group(
            "c4d5" * 8,
            "masters/2025/coat.tif",
            "web/2025/coat.jpg",
            operations=(),
            refused="web/2025/coat.jpg is under legal hold",
        ),
    )


@pytest.fixture
def served(settings: Settings, saved) -> Iterator[tuple[Plan, str]]:
    """A plan with pictures, and its page on a real server."""
    plan = saved(rich())
    rows, pictures = [], {}
    for number, one in enumerate(plan.groups):
        for turn, member in enumerate(one.states):
            rows.append(asset(member.key, member.etag, f"c{number}-{turn}"))
            pictures[f"c{number}-{turn}"] = picture(number * 7 + 1)
    keep_assets(settings, rows, pictures)
    app = create_app(settings, replan=lambda *_: plan.id)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield plan, f"http://127.0.0.1:{port}{path_of(settings, plan)}"
    server.should_exit = True
    thread.join(10)


@pytest.mark.long
@pytest.mark.browser
def test_in_a_browser(served, settings, tmp_path):
    pytest.importorskip("playwright")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    plan, address = served
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(java_script_enabled=False, viewport={"width": 1280, "height": 900})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        shot(page, tmp_path, "desktop")
        assert page.get_by_role("button", name="Merge: move 2 files to quarantine").count() == 1
        assert page.locator("input[name=groups]:checked").count() == 0
        page.get_by_label("Choose this group").nth(0).check()
        page.get_by_label("Comment").fill("checked with the studio")
        page.get_by_role("button", name="Merge the chosen groups").click()
        assert "note=recorded" in page.url
        assert page.get_by_role("status").inner_text() == "Your decision is recorded. Thank you."
        outcome = page.locator("[data-outcome]")
        assert outcome.count() == 1
        assert f"Approved by {ANNA}" in outcome.inner_text()
        assert "checked with the studio" in outcome.inner_text()
        shot(page, tmp_path, "outcome")
        page.reload()
        first = page.locator("[data-outcome]").inner_text()
        page.goto(address)
        assert page.locator("[data-outcome]").inner_text() == first
        for width, scheme in ((390, "light"), (390, "dark"), (1280, "dark")):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme=scheme)
            page.goto(address)
            shot(page, tmp_path, f"{width}-{scheme}")
        phone = browser.new_page(viewport={"width": 390, "height": 844})
        phone.goto(address)
        wide = phone.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390  # nothing to scroll sideways
        browser.close()
    assert {url.split("/")[2] for url in requests if not url.startswith("data:")} == {
        address.split("/")[2]
    }
    assert not [line for line in said if "Content Security Policy" in line]
    assert list(decisions(settings, plan)) == ["3"]
    assert read_plan(open_catalog(settings), plan.id) == plan


def shot(page, folder: Path, name: str) -> None:
    page.screenshot(path=folder / f"{name}.png", full_page=True)


# ---- a link for some groups only ---------------------------------------------------------------


def scoped(settings: Settings, plan: Plan, *groups: str, reviewer: str = ANNA) -> str:
    link = sign_link(settings, plan, reviewer, groups=groups)
    return "/review/" + link.rsplit("/", 1)[-1]


def test_a_limited_link_shows_only_its_groups(settings, saved, client):
    path = scoped(settings, saved(three()), "b" * 32, "d" * 32)
    page = Page(client.get(path).text)
    assert [box["value"][0] for box in page.all("input", name="groups")] == ["b", "d"]
    assert "2 groups of duplicates wait for your decision" in page.text
    assert "boots" not in page.text
    assert "bag" not in page.text


def test_a_limited_link_decides_on_nothing_else(settings, saved, client):
    plan = saved(three())
    path = scoped(settings, plan, "b" * 32, "d" * 32)
    for groups in (["a" * 32], ["d" * 32, "a" * 32], ["d" * 32, "c" * 32]):
        for decision in ("approve", "reject"):
            answer = send(client, path, decision, groups)
            assert answer.status_code == 409
            assert "for some of the plan" in Page(answer.text).text
    assert decisions(settings, plan) == {}
    assert send(client, path, "approve", ["d" * 32]).status_code == 303
    assert set(decisions(settings, plan)) == {"d"}
    assert send(client, path, "approve-all-asked").status_code in (200, 303)
    assert set(decisions(settings, plan)) == {"d"}, "b has a question, a is not this link's"


def test_approving_all_with_a_limited_link_leaves_the_others(settings, saved, client):
    plan = saved(three())
    send(client, scoped(settings, plan, "a" * 32, "b" * 32), "approve-all-asked")
    assert set(decisions(settings, plan)) == {"a"}


def test_a_keeper_outside_of_a_limited_link_is_not_changed(settings, saved):
    plan = saved(three())
    asked = []
    client = TestClient(create_app(settings, replan=lambda *args: asked.append(args)))
    answer = send(client, scoped(settings, plan, "d" * 32), "keeper", **{"keeper-" + "a" * 32: "1"})
    assert answer.status_code == 409
    assert asked == []


def test_a_new_plan_keeps_the_limits(settings, saved):
    plan = saved(three())
    second = saved(plan_of(*plan.groups, round=1))
    client = TestClient(create_app(settings, replan=lambda *_: second.id), follow_redirects=False)
    answer = send(client, scoped(settings, plan, "d" * 32), "keeper", **{"keeper-" + "d" * 32: "1"})
    token = answer.headers["location"].partition("?")[0]
    claim = read_token(settings, token)
    assert claim.plan_id == second.id
    assert claim.groups(second) == {"d" * 32}


def test_a_link_of_no_group_decides_on_nothing(settings, saved, client):
    plan = saved(three())
    path = scoped(settings, plan)
    assert client.get(path).status_code == 200
    assert send(client, path, "approve", ["a" * 32]).status_code == 409
    send(client, path, "approve-all-asked")
    assert decisions(settings, plan) == {}


@pytest.mark.parametrize("scope", ["zz", 5, None, ["a"]])
def test_a_scope_that_cannot_be_read_is_no_link_for_all(settings, saved, client, scope):
    plan = saved(three())
    said = {"plan": plan.id, "hash": plan.hash, "reviewer": ANNA, "until": 4e9, "scope": scope}
    token = approvals._serializer(settings).dumps(said)
    assert client.get(f"/review/{token}").status_code == 403


def test_a_link_leads_to_a_group(settings, saved, client):
    groups = [group(f"{n:032x}", f"k{n}.tif", f"d{n}.jpg") for n in range(GROUPS_PER_PAGE + 3)]
    path = path_of(settings, saved(plan_of(*groups)))
    last = groups[-1].group_id
    assert f'id="{last}"' in client.get(f"{path}?group={last}").text
    assert f'id="{last}"' not in client.get(path).text
    assert client.get(f"{path}?group=<script>").status_code == 200


def test_a_limited_link_of_ten_thousand_groups_still_travels(settings):
    template = group("a" * 32, "k.tif", operations=(), states=())
    groups = [replace(template, group_id=digest(str(n))) for n in range(10_000)]
    plan = plan_of(*sorted(groups, key=lambda one: one.group_id))
    mine = [one.group_id for one in groups[:5000]]
    link = sign_link(settings, plan, ANNA, groups=mine)
    assert len(link) < 2200, "programs that read mail break much longer ones"
    assert read_token(settings, link.rsplit("/", 1)[-1]).groups(plan) == frozenset(mine)
