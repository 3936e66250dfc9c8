"""The gate's native routes: what they answer, what they refuse, and what they never tell."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import anyio
import pytest
from fastapi.testclient import TestClient

from deployments.gate.app import create_app
from deployments.gate.keys import Keys
from reports.review import content_policy
from tasks.errors import SettingsError
from tasks.settings import Settings, load_settings
from tests.conftest import Library, blobs

KEY = "k" * 32
HERE = "http://127.0.0.1"
REJECTING = """
version: 1
name: shop
rules: [{name: all, tier: exact}]
ingest:
  rules:
    - name: no copies
      tier: exact
      action: reject
"""


def jpeg(seed: int, width: int = 160, quality: int = 90) -> bytes:
    found = io.BytesIO()
    blobs(seed).resize((width, width * 3 // 4)).save(found, "JPEG", quality=quality)
    return found.getvalue()


@pytest.fixture(scope="module")
def stock(make_stock) -> Library:
    """Ten pictures, and one again in another size and format."""

    def fill(library: Library) -> None:
        for seed in range(10):
            library.add(f"p{seed}.png", seed)
        library.add("copy of 3.jpg", 3, width=120)
        library.scan()

    return make_stock(fill)


@pytest.fixture
def make_settings(stock: Library, library: Library, tmp_path: Path):
    def make(**parts) -> Settings:
        values = {
            "catalog": {"uri": str(tmp_path / "catalog"), "busy_seconds": 5},
            "source": {"uri": str(stock.folder)},
            "embedding": {
                "model": str(library.model),
                "pooling": "cls",
                "device": "cpu",
                "decoders": 1,
            },
            **parts,
        }
        return load_settings(**values)

    return make


@pytest.fixture
def opened(make_settings) -> Iterator:
    """Opens gates; closes them afterwards."""
    clients = []

    def open_gate(settings: Settings | None = None, **options) -> TestClient:
        app = create_app(settings or make_settings(), **options)
        client = TestClient(app, base_url=HERE, raise_server_exceptions=False)
        clients.append(client.__enter__() and client)
        return client

    yield open_gate
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def filled(stock: Library, library: Library, tmp_path: Path) -> Library:
    """The stock's pictures are in the catalog."""
    return stock.lend(tmp_path)


def post_image(client: TestClient, path: str, data: bytes, **params):
    return client.post(path, content=data, params=params, headers={"content-type": "image/jpeg"})


def keys_of(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["key"] for one in answer.json()["found"]]


# ---- what it finds ---------------------------------------------------------------------------


def test_one_image_found_by_every_door(filled, opened):
    client = opened()
    image = jpeg(3)
    analysis = post_image(client, "/analyze", image)
    assert analysis.status_code == 200
    document = analysis.json()
    assert client.post("/analyze", files={"file": ("a.jpg", image)}).json() == document
    doors = [
        post_image(client, "/duplicate", image),
        client.post("/duplicate", files={"file": ("a.jpg", image, "image/jpeg")}),
        client.post("/duplicate", json={"analysis": document}),
        client.post("/duplicate", json=document),
        client.post("/duplicate", files={"analysis": (None, analysis.content)}),
    ]
    for answer in doors:
        assert sorted(keys_of(answer)) == ["copy of 3.jpg", "p3.png"]
    assert doors[1].json() == doors[0].json()
    # Without the file nothing can be compared at full size: such an answer is never `exact`.
    for answer in doors[3:]:
        assert answer.json() == doors[2].json()
    assert {one["tier"] for one in doors[2].json()["found"]} == {"near"}
    best = doors[0].json()["found"][0]
    assert best["score"] > 0.9
    assert best["tier"] == "exact"
    for answer in (
        client.get("/duplicate", params={"id": "p3.png"}),
        client.post("/duplicate", json={"id": "p3.png"}),
        client.get("/duplicate", params={"id": best["asset_id"]}),
    ):
        assert len(keys_of(answer)) == 1
    assert keys_of(client.get("/duplicate", params={"id": "p4.png"})) == []


def test_filters_fields_and_pages(filled, opened):
    client, image = opened(), jpeg(3)
    only = post_image(client, "/duplicate", image, fq="format:png", fields="key,score")
    assert [sorted(one) for one in only.json()["found"]] == [["key", "score"]]
    assert keys_of(only) == ["p3.png"]
    assert keys_of(post_image(client, "/duplicate", image, where="format = 'jpeg'")) == [
        "copy of 3.jpg"
    ]
    assert keys_of(post_image(client, "/duplicate", image, exclude="p3.png")) == ["copy of 3.jpg"]
    first = post_image(client, "/duplicate", image, limit=1)
    second = post_image(client, "/duplicate", image, limit=1, offset=first.json()["next"])
    assert (first.json()["total"], second.json()["total"], second.json()["next"]) == (2, 2, None)
    assert sorted(keys_of(first) + keys_of(second)) == ["copy of 3.jpg", "p3.png"]


def test_an_update_is_found_at_once(library, opened):
    client = opened()
    for _ in range(2):  # the same again changes nothing
        answer = client.post(
            "/update",
            params={"source": "gate://new"},
            files={
                "file": ("a.jpg", jpeg(5)),
                "id": (None, "five"),
                "tags": (None, '{"agency": "north"}'),
            },
        )
        assert answer.status_code == 200, answer.text
    found = post_image(client, "/duplicate", jpeg(5, 120), source="gate://new")
    assert keys_of(found) == ["five"]
    assert found.json()["total"] == 1
    document = post_image(client, "/analyze", jpeg(6)).json()
    answer = client.post(
        "/update", json={"id": "six", "source": "gate://new", "analysis": document}
    )
    assert answer.status_code == 200, answer.text
    assert keys_of(post_image(client, "/duplicate", jpeg(6), source="gate://new")) == ["six"]
    assert (
        keys_of(
            post_image(
                client, "/duplicate", jpeg(6), source="gate://new", where="tags.agency = 'north'"
            )
        )
        == []
    )


@pytest.mark.long
def test_of_identical_uploads_at_once_one_comes_in(opened, make_settings, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text(REJECTING)
    client = opened(make_settings(merge={"policy": str(policy)}, gate={"queue": 4}))

    images = [jpeg(seed) for seed in range(4)]

    def upload(number: int) -> dict:
        while True:
            answer = client.post(
                "/update",
                content=images[number % 4],
                params={"source": "gate://shop", "id": f"u{number}"},
            )
            if answer.status_code != 429:
                return {"status": answer.status_code, **answer.json()}
            threading.Event().wait(0.05)  # 24 that ask without a pause leave the gate no time

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(upload, range(24)))
    assert {one["status"] for one in answers} == {200}, answers
    added = [one for one in answers if one["added"]]
    assert sorted(int(one["id"][1:]) % 4 for one in added) == [0, 1, 2, 3]
    for one in answers:
        if not one["added"]:
            assert (one["decision"], one["rule"], one["asset_id"]) == ("reject", "no copies", None)
            assert one["match"]["key"] in {other["id"] for other in added}
    left = client.get("/api/cores/shop/select?rows=100").json()["response"]
    assert left["numFound"] == 4
    again = client.post(
        "/api/cores/shop/update",
        json={"id": "late", "import": post_image(client, "/analyze", jpeg(1)).json()},
    )
    assert (again.status_code, again.json()["error"]["code"]) == (409, 409)


def test_images_at_urls(filled, opened, make_settings):
    class Web(BaseHTTPRequestHandler):
        asked = 0

        def do_GET(self):
            Web.asked += 1
            self.send_response(200)
            self.end_headers()
            self.wfile.write(jpeg(3))

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/secret-name.jpg?token=abc"
    try:
        client = opened()
        for address in (
            url,
            url.replace("127.0.0.1", "localhost"),
            "http://[::1]:1/",
            "http://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
            "http://2130706433/",
            "gopher://127.0.0.1/",
        ):
            for answer in (
                client.get("/duplicate", params={"url": address}),
                client.post("/duplicate", json={"url": address}),
                client.get("/analyze", params={"url": address}),
                client.get("/api/cores/x/duplicate", params={"rank.by.url": address}),
            ):
                assert 400 <= answer.status_code < 500, (address, answer.text)
                assert answer.json()["remedy"]
                assert "token=abc" not in answer.text
        assert Web.asked == 0
        allowing = opened(make_settings(gate={"allow_private_addresses": True}))
        found = allowing.get("/duplicate", params={"url": url})
        assert sorted(keys_of(found)) == ["copy of 3.jpg", "p3.png"]
    finally:
        server.shutdown()
        server.server_close()


# ---- what it refuses -------------------------------------------------------------------------


def test_keys(filled, opened, make_settings):
    hashed = "sha256:" + hashlib.sha256(b"another key of some length").hexdigest()
    client = opened(make_settings(gate={"api_keys": [KEY, hashed]}))
    asks = [
        ("GET", "/duplicate?id=p3.png"),
        ("GET", "/metrics"),
        ("GET", "/api/cores/x/select"),
        ("POST", "/solr/x/update"),
        ("POST", "/analyze"),
    ]
    for method, path in asks:
        for headers in (
            {},
            {"x-api-key": "k" * 31},
            {"x-api-key": KEY + "k"},
            {"x-api-key": hashed},
            {"authorization": f"Basic {KEY}"},
        ):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401, (path, headers)
            assert KEY not in answer.text
    for headers in (
        {"x-api-key": KEY},
        {"x-api-key": "another key of some length"},
        {"authorization": f"Bearer {KEY}"},
    ):
        assert client.get("/duplicate?id=p3.png", headers=headers).status_code == 200
    assert client.get("/health").status_code == 200


def test_keys_that_cannot_be(make_settings):
    for key in ("short", "sha256:12", "sha256:" + "x" * 64):
        with pytest.raises(SettingsError, match="API_KEYS") as raised:
            Keys(make_settings(gate={"api_keys": [key]}))
        assert key not in str(raised.value)


def test_without_keys_only_this_machine(filled, opened, make_settings):
    keys = Keys(make_settings())
    for host in ("0.0.0.0", "::", "192.168.1.4", "dam.example.org", ""):
        with pytest.raises(SettingsError, match="API_KEYS"):
            keys.check_address(host)
        Keys(make_settings(), anybody=True).check_address(host)
        Keys(make_settings(gate={"api_keys": [KEY]})).check_address(host)
    for host in ("127.0.0.1", "localhost", "::1"):
        keys.check_address(host)
    client = opened()
    for headers in (
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "null"},
    ):
        answer = client.get("/duplicate?id=p3.png", headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (403, "foreign"), headers
    own = {"host": "127.0.0.1:8088", "origin": "http://127.0.0.1:8088"}
    assert client.get("/duplicate?id=p3.png", headers=own).status_code == 200


def test_too_large(opened, make_settings):
    client = opened(make_settings(gate={"max_upload_bytes": 10_000}))
    image = jpeg(1, 1600)
    assert len(image) > 10_000
    uri = "data:image/jpeg;base64," + base64.b64encode(image * 3).decode()
    for answer in (
        post_image(client, "/duplicate", image),
        client.post("/analyze", files={"file": ("a.jpg", image)}),
        client.post("/api/cores/x/analyze", data={"input.data": uri}),
        client.post("/duplicate", json={"analysis": {"vector": uri}}),
    ):
        assert answer.status_code == 413, answer.text
        assert answer.json()["remedy"]


def test_a_stream_is_cut_off_at_the_limit(make_settings):
    """Whatever its length is said to be: what comes after the limit is not even read."""
    app = create_app(make_settings(gate={"max_upload_bytes": 10_000}))
    taken, sent = 0, []

    async def receive():
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"x" * 4000, "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/analyze",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"image/jpeg")],
        "http_version": "1.1",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
    }
    try:
        anyio.run(app, scope, receive, send)
        assert sent[0]["status"] == 413
        assert taken <= 4
        assert app.state.service.inflight.held == 0
    finally:
        app.state.service.close()


def test_a_full_line_says_when_to_come_back(opened, make_settings, monkeypatch):
    client = opened(
        make_settings(
            gate={"queue": 1},
            embedding={
                "model": str(make_settings().embedding.model),
                "pooling": "cls",
                "device": "cpu",
                "decoders": 1,
                "batch_size": 1,
            },
        )
    )
    service = client.app.state.service
    post_image(client, "/analyze", jpeg(0))
    started, go = threading.Event(), threading.Event()
    real = service.analyzer.analyze

    def slow(images):
        started.set()
        go.wait(30)
        return real(images)

    monkeypatch.setattr(service.analyzer, "analyze", slow)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(post_image, client, "/analyze", jpeg(1))
        assert started.wait(30)
        others = [pool.submit(post_image, client, "/analyze", jpeg(2)) for _ in range(3)]
        refused = [one.result() for one in others if _done(one)]
        while len(refused) < 2:
            refused = [one.result() for one in others if _done(one)]
        go.set()
        assert first.result().status_code == 200
        codes = sorted(one.result().status_code for one in others)
    assert codes == [200, 429, 429]
    for answer in refused:
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"] == "busy"


def _done(future) -> bool:
    try:
        future.result(0.05)
    except TimeoutError:
        return False
    return True


def test_what_waits_is_analysed_in_one_call(opened, monkeypatch):
    client = opened()
    service = client.app.state.service
    post_image(client, "/analyze", jpeg(0))
    real, sizes, started, go = service.analyzer.analyze, [], threading.Event(), threading.Event()

    def slow(images):
        sizes.append(len(images))
        started.set()
        go.wait(30)
        return real(images)

    monkeypatch.setattr(service.analyzer, "analyze", slow)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(post_image, client, "/analyze", jpeg(1))
        assert started.wait(30)
        others = [pool.submit(post_image, client, "/analyze", jpeg(n)) for n in range(2, 10)]
        bad = pool.submit(post_image, client, "/analyze", b"no image at all")
        while service._images.waiting < 9:
            threading.Event().wait(0.01)
        go.set()
        documents = [one.result().json() for one in (first, *others)]
        assert bad.result().status_code == 422  # and is nobody else's error
    assert sizes == [1, 9]
    assert len({one["picture"]["content"] for one in documents}) == 9


def test_changed_analyses_are_refused(filled, opened, make_settings, make_model):
    client = opened(make_settings(gate={"secret": "s" * 40}))
    document = post_image(client, "/analyze", jpeg(3)).json()
    other = post_image(client, "/analyze", jpeg(4)).json()
    changed = []
    for change in ("vector", "thumbnail"):
        one = copy.deepcopy(document)
        one[change] = other[change]
        changed.append(one)
    unsealed = {name: value for name, value in document.items() if name != "seal"}
    for wrong in (*changed, unsealed, {"vector": "x"}, document | {"version": 99}):
        for answer in (
            client.post("/duplicate", json={"analysis": wrong}),
            client.post("/update", json={"id": "a", "source": "gate://x", "analysis": wrong}),
            client.post("/api/cores/x/update", json={"id": "a", "import": wrong}),
        ):
            assert 400 <= answer.status_code < 500, answer.text
            assert answer.json()["detail"]
    model = {"model": str(make_model(1)), "pooling": "cls", "device": "cpu", "decoders": 1}
    elsewhere = opened(make_settings(embedding=model))
    answer = elsewhere.post("/duplicate", json={"analysis": document})
    assert answer.status_code == 422
    assert client.post("/duplicate", json={"analysis": document}).status_code == 200


def test_unknown_sources_are_no_doors(filled, opened, tmp_path):
    client = opened()
    for source in ("/etc", "s3://somebody-else", "file:///", str(tmp_path), "gate://../x"):
        answer = post_image(client, "/duplicate", jpeg(1), source=source)
        assert answer.status_code == 404, answer.text
        answer = client.post("/update", params={"id": "a", "source": source}, content=jpeg(1))
        assert answer.status_code == 404, answer.text


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/duplicate", {}, 400),
        ("/duplicate?id=none-such", None, 404),
        ("/duplicate?where=lable%20%3D%201&id=p3.png", None, 400),
        ("/duplicate?where=1%3D1)%20OR%20(1%3D1&id=p3.png", None, 400),
        ("/duplicate?fq=nothing:1&id=p3.png", None, 400),
        ("/duplicate?limit=0&id=p3.png", None, 422),
        ("/duplicate?threshold=nan&id=p3.png", None, 422),
        ("/duplicate", [1], 400),
        ("/duplicate", {"id": 5}, 400),
        ("/update", {"id": "a"}, 400),
        ("/update?id=a", {"url": "ftp://x/"}, 422),
        ("/update?id=a", {"tags": {"a": 1}, "analysis": {}}, 422),
    ],
)
def test_wrong_requests(filled, opened, path, body, status):
    answer = opened().post(path, json=body) if body is not None else opened().post(path)
    assert (answer.status_code // 100, answer.status_code != 500) == (4, True), answer.text
    assert set(answer.json()) == {"error", "detail", "remedy"}
    if status != 422:
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("path", "body", "meant"),
    [
        ("/duplicate?id=p0.png&treshold=0.9", {}, "threshold"),
        ("/duplicate?id=p0.png&rows=3", {}, "Known"),
        ("/duplicate", {"id": "p0.png", "threshold": 0.9}, "Known"),
        ("/analyze?uri=http://x", {}, "url"),
        ("/update", {"id": "x", "tag": {"a": "b"}}, "tags"),
    ],
)
def test_what_is_not_known_is_refused(filled, opened, path, body, meant):
    client = opened()
    answer = client.post(path, json=body) if body else client.post(path)
    assert answer.status_code == 400
    assert "there is no" in answer.json()["detail"]
    assert meant in answer.json()["remedy"]


def test_bodies_that_say_nothing_true_of_themselves(opened):
    client = opened()
    packed = client.post("/analyze", content=b"x", headers={"content-encoding": "gzip"})
    assert packed.status_code == 415
    assert "gzip" in packed.json()["detail"]
    bare = client.post("/duplicate", content=b' {"id": "p0.png"}')
    assert bare.status_code == 415
    assert "Content-Type" in bare.json()["detail"]
    assert "application/json" in bare.json()["remedy"]


def test_failures_tell_nothing(filled, opened, monkeypatch):
    client = opened()
    checker = client.app.state.service.checker

    def fail(*_):
        raise RuntimeError("password=hunter2 at /home/anna")

    monkeypatch.setattr(checker, "check_asset", fail)
    answer = client.get("/duplicate", params={"id": "p3.png"})
    assert answer.status_code == 500
    assert set(answer.json()) == {"error", "detail", "remedy"}
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text


# ---- beside it -------------------------------------------------------------------------------


def test_health_metrics_and_docs(filled, opened):
    client = opened()
    post_image(client, "/duplicate", jpeg(3))
    assert client.get("/health").json()["status"] == "ok"
    while client.get("/health/ready").status_code != 200:
        threading.Event().wait(0.05)
    assert client.get("/health").json()["ready"]
    client.get("/duplicate/none", headers={"x": "y"})
    text = client.get("/metrics").text
    for line in (
        'dam_dedup_requests_total{method="POST",route="/duplicate",status="200"} 1.0',
        'dam_dedup_requests_total{method="GET",route="none",status="404"} 1.0',
        "dam_dedup_ready 1.0",
        "process_resident_memory_bytes",
    ):
        assert line in text, text
    document = client.get("/openapi.json").json()
    assert set(document["paths"]["/duplicate"]) == {"get", "post"}
    page = client.get("/docs")
    assert page.headers["content-security-policy"] == content_policy()
    for path in document["paths"]:
        assert path.replace("{", "{").split("{")[0] in page.text
    assert "<script" not in page.text


def test_without_a_merge_secret_there_are_no_approval_pages(filled, opened):
    client = opened()
    answer = client.get("/review/abc")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert client.get("/duplicate?id=p3.png").status_code == 200
