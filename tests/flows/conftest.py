"""One local stack for the tests of flows, and what is deployed on it."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deployments.bootstrap import bootstrap
from deployments.local import stack
from tasks.settings import load_settings
from tasks.sources.s3 import client_for
from tests.flows.deployed import BUCKET, POLICY, Place, Prefect, mails, put_pictures


def start_servers(folder) -> Iterator[stack.StackState]:
    """The local stack without a worker."""
    try:
        yield stack.up(folder, worker=False)
    finally:
        stack.down(folder, grace=1)  # nobody needs its data any more


# They stop with the last test of this folder: a worker that asks its server every two seconds for
# runs keeps both busy.
@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.StackState]:
    """S3, Prefect and mail servers, for the files that tests/conftest.py keeps together."""
    yield from start_servers(tmp_path_factory.mktemp("stack"))


@pytest.fixture
def prefect_api(servers: stack.StackState) -> Iterator[None]:
    """Flows that a test calls are runs of the stack's Prefect server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: servers.env["PREFECT_API_URL"]}):
        yield


@pytest.fixture(scope="module")
def place(servers: stack.StackState, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """All flows are deployed, and a worker runs them, on a bucket and a catalog of their own."""
    folder = tmp_path_factory.mktemp("deployed")
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("DAM_DEDUP_", "AWS_", "PREFECT_"))]:
            patch.delenv(name)
        (folder / "policy.yaml").write_text(POLICY)
        for name, value in {
            "DAM_DEDUP_COLLECTION": "photos",
            "DAM_DEDUP_SOURCE__URI": f"s3://{BUCKET}",
            "DAM_DEDUP_CATALOG__URI": str(folder / "catalog"),
            "DAM_DEDUP_DELIVERY__FOLDER": str(folder / "reports"),
            "DAM_DEDUP_DELIVERY__BUCKET": f"s3://{BUCKET}/reports",
            "DAM_DEDUP_MAIL__TO": "admin@example.test",
            "DAM_DEDUP_EMBEDDING__DECODERS": "1",
            "DAM_DEDUP_MERGE__POLICY": str(folder / "policy.yaml"),
        }.items():
            patch.setenv(name, value)
        # The worker starts here: its runs have the environment that it was started with.
        for name, value in stack.up(servers.dir).env.items():
            patch.setenv(name, value)
        client_for(load_settings().s3).create_bucket(Bucket=BUCKET)
        bootstrap()
        yield Place(folder / "catalog", folder / "reports", servers.dir / "mail")


@pytest.fixture(scope="module")
def prefect(place: Place) -> Prefect:
    return Prefect(os.environ["PREFECT_API_URL"])


@pytest.fixture(scope="module")
def mailed_plan(place: Place, prefect: Prefect) -> tuple[str, str]:
    """A plan's id and the link to its form, as the mail brings them."""
    put_pictures(3000, 1, "merge")
    prefect.wait(prefect.trigger("incremental-scan/Photos: scan now"), "Completed")
    text = mails(place)[-1].get_body(("plain",)).get_content()
    assert "TO DECIDE: 1 group" in text
    link = re.search(r"Decide in Prefect: (\S+)", text)
    found = re.search(r"%22plan_id%22%3A%22([0-9a-f]{12})%22", link[1] if link else "")
    assert found, text
    assert link, text
    return found[1], link[1]


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[str]]]:
    """An address that takes messages as Slack does, and the messages."""
    said: list[str] = []

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            said.append(json.loads(body)["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", said
    server.shutdown()
    server.server_close()
