"""The numbers of scans: sent as Prometheus reads them, and drawn by the dashboard."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.gate.metrics import Metrics
from flows.order import run_scan
from reports.metrics import SCAN_METRICS
from tasks.errors import DamDedupError
from tasks.records import Kind
from tasks.requests import ScanRequest
from tasks.settings import load_settings
from tests.conftest import Library

DASHBOARD = Path(__file__).parents[2] / "deployments" / "grafana" / "dam-dedup.json"


#: A metric, what is asked of its labels, and the labels that a sum or maximum is split by.
METRIC = re.compile(r"(dam_dedup_\w+)(?:\{([^}]*)\})?")
SPLIT = re.compile(r"\bby \(([^)]*)\)")


def asked() -> dict[str, set[str]]:
    """The metrics that the dashboard asks for, with the labels it asks of each."""
    found: dict[str, set[str]] = {}
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            split = {name for some in SPLIT.findall(target["expr"]) for name in some.split(", ")}
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            for metric, matchers in METRIC.findall(target["expr"]):
                labels = set(re.findall(r"(\w+)\s*[=!]", matchers)) | split | shown
                found[metric] = found.get(metric, set()) | labels
    return found


@dataclass
class Gateway:
    """Takes numbers as a Pushgateway does."""

    address: str = ""
    status: int = 202
    paths: list[str] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)

    def numbers(self, at: int = -1) -> dict[str, dict[str, float]]:
        """Name to the values by their labels."""
        return {
            family.name: {",".join(one.labels.values()): one.value for one in family.samples}
            for family in text_string_to_metric_families(self.bodies[at])
        }


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.paths.append(self.path)
            made.logins.append(self.headers["Authorization"])
            made.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.address = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


def scan(library: Library, gateway: Gateway, **more: object) -> None:
    settings = load_settings(
        collection="shoes",
        catalog={"uri": str(library.place / "catalog")},
        delivery={"folder": library.place / "reports"},
        embedding={"model": str(library.model), "pooling": "cls", "device": "cpu", "decoders": 1},
        metrics={"pushgateway": gateway.address, "username": "ops", "password": "of ops"},
    )
    run_scan(ScanRequest(kind=Kind.FULL, source=str(library.folder), **more), settings)


def test_a_scan_sends_its_numbers(library: Library, gateway: Gateway) -> None:
    library.add("a.png", 1)
    library.add("b.jpg", 1, quality=90)
    library.add("c.png", 2)
    library.write("broken.jpg", b"\xff\xd8\xff\xe0 no picture")
    scan(library, gateway)
    found = gateway.numbers()
    assert found["dam_dedup_scan_objects"] == {"scanned": 3, "skipped": 0, "failed": 1}
    assert found["dam_dedup_scan_coverage_ratio"] == {"": 0.75}
    assert found["dam_dedup_scan_groups"] == {"new": 1, "changed": 0, "known": 0}
    assert sum(found["dam_dedup_scan_duplicates"].values()) == 1
    assert found["dam_dedup_scan_work"]["embedded"] == 3
    assert set(found["dam_dedup_scan_stage_seconds"]) >= {"sync", "embed", "verify", "plan"}
    assert "dam_dedup_scan_finished_timestamp_seconds" in found
    assert "dam_dedup_scan_failed_timestamp_seconds" not in found
    source = base64.urlsafe_b64encode(str(library.folder).encode()).decode()
    assert f"/source@base64/{source}" in gateway.paths[0]
    assert "/job/dam_dedup/" in gateway.paths[0]
    assert "/collection/shoes" in gateway.paths[0]
    assert "/kind/full" in gateway.paths[0]
    # What the dashboard asks of a number's labels is said of it, by itself or of its group.
    ours = {
        family.name: {label for sample in family.samples for label in sample.labels}
        for family in text_string_to_metric_families(gateway.bodies[0])
    }
    words = {part.removesuffix("@base64") for part in gateway.paths[0].split("/")[2::2]}
    assert words == {"job", "collection", "source", "kind"}
    for metric, labels in asked().items():
        if metric in ours:
            assert labels <= ours[metric] | words, metric
    assert gateway.logins == ["Basic " + base64.b64encode(b"ops:of ops").decode()]


def test_a_failed_scan_says_when_and_leaves_the_other_numbers(
    library: Library, gateway: Gateway
) -> None:
    library.add("a.png", 1)
    with pytest.raises(DamDedupError):
        scan(library, gateway, where="nosuch = 1")
    assert list(gateway.numbers()) == ["dam_dedup_scan_failed_timestamp_seconds"]


def test_no_scan_fails_for_its_numbers_and_a_dry_run_sends_none(
    library: Library, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    library.add("a.png", 1)
    gateway.status = 500
    scan(library, gateway)
    assert "did not take the scan's numbers" in caplog.text
    assert "of ops" not in caplog.text
    scan(library, gateway, dry_run=True)
    assert len(gateway.paths) == 1


def test_the_dashboard_draws_nothing_that_is_not_there() -> None:
    gate = Metrics()
    gate.count("/duplicate", "POST", 200, 0.1)
    there = {f"dam_dedup_scan_{name}" for name in SCAN_METRICS}
    there |= {
        sample.name
        for family in text_string_to_metric_families(gate.text().decode())
        for sample in family.samples
    }
    there |= set(re.findall(r"^# TYPE (\S+)", gate.text().decode(), re.M))
    told = json.loads(DASHBOARD.read_text("utf-8"))
    named = set(re.findall(r"dam_dedup_\w+", json.dumps(told)))
    assert named
    assert named <= there, named - there
    assert {f"dam_dedup_scan_{name}" for name in SCAN_METRICS} <= named, "each number is drawn"
    assert asked().keys() == named, "every expression is understood here"
    of_the_gate = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(gate.text().decode())
        for sample in family.samples
    }
    for metric, labels in asked().items():
        assert labels <= of_the_gate.get(metric, labels), metric
    panels = told["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = {
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    }
    room = sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in panels)
    assert len(cells) == room, "no panel lies on another"
    assert max(x for x, _ in cells) < 24
