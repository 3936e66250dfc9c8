"""Pictures at a signed link: whose they are, what they are, and how long they are kept."""

from __future__ import annotations

import io
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from deployments.gate.app import create_app
from deployments.gate.pictures import Shelf
from tasks.embedding.decoder import DecoderPool
from tasks.embedding.images import render_picture
from tasks.merging.approvals import sign_link
from tasks.merging.journal import save_plan
from tasks.records import ObjectState
from tasks.session import open_catalog, open_source
from tests.deployments.gate.test_report_page import CHROMIUM, plan_all, settings_of

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.fixture(scope="module")
def stock(make_stock):
    """A scan of three groups, one of them of files that no browser shows."""
    found = {}

    def fill(library):
        for number in range(3):
            kind, width = "tif" if number == 2 else "png", 2200 if number == 1 else 160
            library.add(f"p{number}.{kind}", number, width=width)
            library.add(f"copies/p{number}.jpg", number, quality=90)
        library.add("p3.png", 3)
        library.add("copies/p3.bmp", 3)
        library.scan()
        found.update(plan_all(settings_of(library.place)))

    return SimpleNamespace(library=make_stock(fill), **found)


@pytest.fixture
def serve(site) -> Iterator[str]:
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


@pytest.fixture
def site(stock, library, tmp_path, monkeypatch):
    stock.library.lend(tmp_path)
    settings = settings_of(tmp_path)
    source = open_source(stock.plan.source, settings)

    def real(key: str) -> ObjectState:
        return ObjectState(key, etag=source.probe(key).etag, size=9)

    groups = tuple(
        replace(group, states=tuple(real(state.key) for state in group.states))
        for group in stock.plan.groups
    )
    plan = replace(stock.plan, groups=groups, round=1)
    catalog = open_catalog(settings)
    with catalog.writing(5):
        save_plan(catalog, plan)

    def here(pool: DecoderPool, data: bytes, side: int) -> bytes:
        return render_picture(data, pool._all[0]._limits, side)

    monkeypatch.setattr(DecoderPool, "render", here)
    client = TestClient(create_app(settings), follow_redirects=False)
    return SimpleNamespace(
        settings=settings, plan=plan, assets=stock.assets, client=client, library=stock.library
    )


def path_of(site, key: str, size: str = "2048", **only) -> str:
    link = sign_link(site.settings, site.plan, "anna@example.org", **only)
    return f"/review/{link.rsplit('/', 1)[-1]}/pictures/{site.assets[key]}/{size}"


def test_originals_and_renditions(site):
    for key, size in (("p0.png", "full"), ("p0.png", "2048"), ("p1.png", "full")):
        answer = site.client.get(path_of(site, key, size))
        assert answer.status_code == 200
        assert answer.content == (site.library.folder / key).read_bytes()
        assert answer.headers["content-type"] == "image/png"
    for key, size, shown in (
        ("p1.png", "2048", (2048, 1536)),
        ("p2.tif", "2048", (160, 120)),
        ("p2.tif", "full", (160, 120)),
        ("copies/p3.bmp", "full", (160, 120)),
    ):
        answer = site.client.get(path_of(site, key, size))
        assert answer.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(answer.content)).size == shown
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert site.client.head(path_of(site, "p0.png")).status_code == 200


def test_only_what_the_link_is_for(site):
    one, other = site.plan.groups[:2]
    assert site.client.get(path_of(site, one.keeper, groups=[one.group_id])).status_code == 200
    assert site.client.get(path_of(site, other.keeper, groups=[one.group_id])).status_code == 404
    good = path_of(site, one.keeper)
    token = good.split("/")[2]
    assert site.client.get(good.replace(token, token[:-4] + "AAAA")).status_code == 403
    stem = f"/review/{token}/pictures/"
    for strange in ("x", "0" * 32, "..%2f..%2fetc%2fpasswd", "' OR '1'='1"):
        assert site.client.get(f"{stem}{strange}/2048").status_code in (403, 404), strange
    assert site.client.get(good.replace("/2048", "/9999")).status_code == 422
    assert site.client.post(good).status_code == 405


def test_a_file_that_changed_is_not_shown(site, stock):
    group = replace(
        site.plan.groups[0], states=tuple(replace(s, etag="x") for s in site.plan.groups[0].states)
    )
    plan = replace(site.plan, groups=(group, *site.plan.groups[1:]), round=2)
    catalog = open_catalog(site.settings)
    with catalog.writing(5):
        save_plan(catalog, plan)
    link = sign_link(site.settings, plan, "anna@example.org").rsplit("/", 1)[-1]
    answer = site.client.get(f"/review/{link}/pictures/{stock.assets[group.keeper]}/2048")
    assert answer.status_code == 404


def test_what_runs_is_never_sent_as_it_is(site, monkeypatch):
    """Not even where the storage gives other bytes than the scan read."""
    from tasks.sources.local import LocalSource

    monkeypatch.setattr(LocalSource, "read", lambda *_: SVG)
    for size in ("2048", "full"):
        answer = site.client.get(path_of(site, "p1.png", size))
        assert answer.status_code == 404
        assert b"<script>alert" not in answer.content


def test_a_gate_may_have_no_room_for_pictures(site):
    gate = site.settings.gate.model_copy(update={"picture_bytes": 0})
    settings = site.settings.model_copy(update={"gate": gate})
    client = TestClient(create_app(settings))
    good = path_of(site, "p0.png")
    assert client.get(good).status_code == 404
    assert '"pictures":""' in client.get(good.split("/pictures")[0] + "/report").text


def test_the_shelf_keeps_a_budget_and_its_secrets(monkeypatch):
    shelf = Shelf(100)
    shelf.put("large", b"x" * 101)
    assert shelf.get("large") is None
    for name in "abc":
        shelf.put(name, name.encode() * 40)
        shelf.get("a")
    assert shelf.get("a") == b"a" * 40, "what is used stays"
    assert shelf.get("b") is None
    assert shelf.held == 80
    assert shelf._folder is not None
    folder = Path(shelf._folder.name)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    monkeypatch.setattr("deployments.gate.pictures._KEPT_SECONDS", -1)
    assert shelf.get("a") is None
    assert list(folder.iterdir()) == []
    shelf.close()
    assert not folder.exists()


def test_the_report_says_where_its_pictures_are(site):
    page = site.client.get(path_of(site, "p0.png").split("/pictures")[0] + "/report")
    assert '"pictures":"pictures/"' in page.text


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")
def test_the_light_table_shows_renditions_and_originals(site, serve):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else 0)
        link = path_of(site, "p0.png").split("/pictures")[0]
        page.goto(f"{serve}{link}/report#table/{site.plan.groups[0].group_id}")
        # Small pictures need no more than their previews: the table is made to believe otherwise.
        page.evaluate("for (const row of GROUPS[current].m) row[WIDE] = row[HIGH] = 1500")
        page.keyboard.press("z")
        notes = page.locator(".pane-note")
        playwright.expect(notes).to_have_text(["original", "original"], timeout=30_000)
        assert {one[-5:] for one in page.evaluate("[...sharp.keys()]")} == {"/2048"}
        page.evaluate("for (const row of GROUPS[current].m) row[WIDE] = row[HIGH] = 5000")
        page.keyboard.press("z")
        page.keyboard.press("z")
        # The notes still say "original" of the renditions until the table is painted anew.
        originals = "[...sharp].filter(([name, one]) => name.endsWith('/full') && one.image).length"
        look = f"(look = () => {originals} === 2 ? done() : setTimeout(look, 50))()"
        page.evaluate(f"new Promise((done) => {{ let look; {look}; }})")
        playwright.expect(notes).to_have_text(["original", "original"], timeout=30_000)
        # Two of this size are more than is held: the one that stays is shown, and the other not.
        page.evaluate("for (const row of GROUPS[current].m) row[WIDE] = row[HIGH] = 12000; paint()")
        playwright.expect(notes).to_have_text(["original", "2,048 px"], timeout=30_000)
        browser.close()
    assert problems == []
