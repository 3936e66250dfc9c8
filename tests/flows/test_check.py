"""The check on demand, as Prefect runs it."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prefect.artifacts import Artifact

from flows.check import check_asset
from flows.forms import CheckForm
from tasks.errors import AssetGoneError
from tasks.records import Kind
from tasks.requests import CheckRequest
from tasks.session import open_catalog
from tasks.settings import load_settings
from tests.conftest import blobs


@pytest.fixture
def shop(library, monkeypatch):
    """A library that was scanned, and an environment that leads to it."""
    library.add("a.png", 1)
    library.write("a.jpg", blobs(1), quality=60)
    library.add("a small.jpg", 1, width=96)
    library.add("b.png", 2)
    settings = library.scan(Kind.FULL).scan.settings
    for name, value in {
        "CATALOG__URI": settings.catalog.uri,
        "SOURCE__URI": str(library.folder),
        "EMBEDDING__MODEL": str(library.model),
        "EMBEDDING__POOLING": "cls",
        "EMBEDDING__DEVICE": "cpu",
        "EMBEDDING__DECODERS": "1",
        "GATE__ALLOW_PRIVATE_ADDRESSES": "true",
    }.items():
        monkeypatch.setenv(f"DAM_DEDUP_{name}", value)
    return library


@pytest.fixture
def photo(shop) -> Iterator[str]:
    """A copy on the web."""
    folder = shop.folder.parent / "web"
    folder.mkdir()
    blobs(1).save(folder / "copy.webp", quality=70)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/copy.webp"
    server.shutdown()
    server.server_close()


def count(shop) -> int:
    return open_catalog(load_settings()).count("assets")


def test_a_request_names_one_image():
    for wrong in ({}, {"asset": "a", "url": "http://x/y"}, {"asset": " "}):
        with pytest.raises(ValueError, match="asset or a url"):
            CheckRequest(**wrong)


@pytest.mark.e2e
def test_the_flow_answers_and_leaves_its_answer_on_the_run_page(shop, photo, prefect_api):
    before = count(shop)
    answer = check_asset(CheckForm(asset="a.png", where="format = 'jpeg'", advanced={"limit": 1}))
    assert (answer["total"], answer["next"]) == (2, 1)
    text = Artifact.get("default-check").data
    assert "2 matches" in text
    assert "a.png" in text
    assert "the next: --offset 1" in text
    rows = json.loads(Artifact.get("default-check-found").data)
    assert [row["tier"] for row in rows] == [answer["found"][0]["tier"]]
    found = check_asset(CheckForm(url=photo))
    assert sorted(one["key"] for one in found["found"]) == ["a small.jpg", "a.jpg", "a.png"]
    assert check_asset(CheckForm(asset="b.png"))["total"] == 0
    assert "Nothing found" in Artifact.get("default-check").data
    with pytest.raises(AssetGoneError):
        check_asset(CheckForm(asset="nobody"))
    assert count(shop) == before, "nothing was added"
