"""Requests drawn from the gate's own OpenAPI document, right and wrong ones: none breaks it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from hypothesis import HealthCheck, given
from hypothesis import settings as search

from deployments.gate.app import create_app
from tasks.settings import load_settings

schemathesis = pytest.importorskip("schemathesis")

#: For each route, of right and of wrong requests each; a long run takes some hundred.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "10"))
ROUTES = [
    ("GET", "/analyze"),
    ("POST", "/analyze"),
    ("GET", "/duplicate"),
    ("POST", "/duplicate"),
    ("POST", "/update"),
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/api/cores/{collection}/"),
    ("GET", "/api/cores/{collection}/select"),
    ("POST", "/api/cores/{collection}/select"),
    ("GET", "/api/cores/{collection}/analyze"),
    ("POST", "/api/cores/{collection}/analyze"),
    ("GET", "/api/cores/{collection}/duplicate"),
    ("POST", "/api/cores/{collection}/duplicate"),
    ("POST", "/api/cores/{collection}/update"),
]
TAKES_NOTHING = ("/health", "/metrics", "/api/cores/{collection}/")


@pytest.fixture(scope="module")
def server(tiny_model, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("fuzz")
    settings = load_settings(
        catalog={"uri": str(folder / "catalog"), "busy_seconds": 10},
        embedding={"model": str(tiny_model), "pooling": "cls", "device": "cpu", "decoders": 1},
        gate={"url_seconds": 1},
    )
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        place.listen()  # who asks before it has started waits
        app = create_app(settings)
        running = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [place]})
        thread.start()
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
        running.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def document(server):
    return schemathesis.openapi.from_url(f"{server}/openapi.json")


def test_every_route_is_fuzzed(document):
    found = {(one.ok().method.upper(), one.ok().path) for one in document.get_all_operations()}
    assert found - {("GET", "/health/ready")} == set(ROUTES)


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        (method, path, mode)
        for method, path in ROUTES
        for mode in ("POSITIVE", "NEGATIVE")
        if mode == "POSITIVE" or path not in TAKES_NOTHING  # nothing can be wrong there
    ],
)
def test_no_request_breaks_it(server, document, method, path, mode):
    operation = document[path][method]
    cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode[mode])

    @search(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def ask(case):
        answer = case.call(base_url=server, timeout=30)
        assert answer.status_code < 500, (case, answer.text)
        if answer.status_code >= 400 and answer.status_code not in {404, 405}:
            assert {"error", "detail", "remedy"} <= set(answer.json()), answer.text
        assert "Traceback" not in answer.text

    ask()
