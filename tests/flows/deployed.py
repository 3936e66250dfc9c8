"""What the tests of the deployed flows share: requests to Prefect, pictures, mails, reports."""

from __future__ import annotations

import email
import email.policy
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from prefect.client.base import PrefectHttpxSyncClient

from tasks.settings import load_settings
from tasks.sources.s3 import client_for

#: Only what the tests of merging bring is ever merged.
POLICY = """
version: 1
name: tests
caps: {share: 1.0}
minimum_age_hours: 0
rules:
  - {name: merged, where: "label = 'merge'", action: quarantine}
"""
BUCKET = "photos"


@dataclass(frozen=True)
class Place:
    """Where a deployed stack leaves what it makes.

    Attributes:
        catalog: the catalog's folder.
        reports: a folder a scan.
        mail: a file a mail.
    """

    catalog: Path
    reports: Path
    mail: Path


class Prefect:
    """The few requests the tests make."""

    def __init__(self, api: str) -> None:
        # It asks again when the server's SQLite is busy.
        self.http = PrefectHttpxSyncClient(base_url=api, timeout=30, raise_on_all_errors=False)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.http.post(path, json=body)
        answer.raise_for_status()
        return answer.json()

    def trigger(self, deployment: str, **request: Any) -> str:
        found = self.http.get(f"/deployments/name/{deployment}").json()
        parameters = {"request": found["parameters"].get("request", {}) | request}
        run = self.post(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def state(self, run: str) -> str:
        return str(self.http.get(f"/flow_runs/{run}").json()["state"]["name"])

    def wait(self, run: str, *wanted: str, seconds: float = 180) -> str:
        try:
            return until(lambda: (s := self.state(run)) in wanted and s, seconds, f"run {wanted}")
        except AssertionError as error:
            error.add_note(f"it is {self.state(run)}; " + " | ".join(self.logs(run)[-5:]))
            raise

    def resume(self, run: str, **given: str) -> None:
        """Answer what a run asks; it is suspended a moment before its question is written."""
        until(
            lambda: (
                self.post(f"/flow_runs/{run}/resume", {"run_input": given})["status"] == "ACCEPT"
            ),
            30,
            "the answer is taken",
        )

    def artifacts(self, run: str) -> dict[str, dict[str, Any]]:
        found = self.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
        return {artifact["key"]: artifact for artifact in found}

    def logs(self, run: str) -> list[str]:
        found = self.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})
        return [f"{log['name']}: {log['message']}" for log in found]


def until(check: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


def put_pictures(first: int, number: int, label: str = "test", bucket: str = BUCKET) -> None:
    """Pictures, each with a smaller copy, and one object that is no picture."""
    client = client_for(load_settings().s3)
    rng = np.random.default_rng(first)
    for name in range(first, first + number):
        # Coarse and fine shapes: a copy that is made smaller is known by the fine ones it lacks.
        shapes = [
            Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).resize(
                (640, 480), Image.Resampling.BICUBIC
            )
            for size in ((6, 8, 3), (480, 640, 3))
        ]
        image = Image.blend(*shapes, 0.12)
        for key, copy in ((f"{name}.jpg", image), (f"web/{name}.jpg", image.resize((320, 240)))):
            body = io.BytesIO()
            copy.save(body, "JPEG", quality=85)
            client.put_object(
                Bucket=bucket, Key=key, Body=body.getvalue(), Tagging=f"label={label}"
            )
    client.put_object(Bucket=bucket, Key="readme.txt", Body=b"no picture")


def put_form_pictures() -> list[str]:
    """Two pictures, one with a smaller copy and one with a mirrored one, and one of elsewhere."""
    random = np.random.default_rng(77)
    client = client_for(load_settings().s3)
    keys = []
    for number, (label, copy, edit) in enumerate(
        (
            ("form", "small", lambda image: image.resize((320, 240))),
            ("form", "mirrored", ImageOps.mirror),
            ("elsewhere", "small", lambda image: image.resize((320, 240))),
        )
    ):
        layers = [
            Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).resize((640, 480), 3)
            for size in ((6, 8, 3), (24, 32, 3), (96, 128, 3))
        ]
        image = Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.25)
        for key, shown in (
            (f"{label}/{number}.jpg", image),
            (f"{label}/{number}-{copy}.jpg", edit(image)),
        ):
            body = io.BytesIO()
            shown.save(body, "JPEG", quality=88)
            client.put_object(
                Bucket=BUCKET, Key=key, Body=body.getvalue(), Tagging=f"label={label}"
            )
            keys.append(key)
    return keys


def mails(place: Place) -> list[Any]:
    return [
        email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        for path in sorted(place.mail.glob("*.eml"))
    ]


def groups(place: Place) -> dict[str, Any]:
    latest = sorted(place.reports.iterdir())[-1]
    found: dict[str, Any] = json.loads((latest / "groups.json").read_text())
    return found


def assets() -> dict[str, str]:
    """Key and ETag of everything but our own."""
    listed = client_for(load_settings().s3).list_objects_v2(Bucket=BUCKET)["Contents"]
    ours = ("reports/", ".dam-dedup/")
    return {item["Key"]: item["ETag"] for item in listed if not item["Key"].startswith(ours)}


def found_groups(place: Place) -> list[set[str]]:
    return [{member["key"] for member in group["members"]} for group in groups(place)["groups"]]
