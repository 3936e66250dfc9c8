"""The main job on real parts: S3, Prefect server and worker, SMTP."""

import email
import email.policy
import io
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from prefect.client.base import PrefectHttpxSyncClient

from deployments.bootstrap import bootstrap, pause_schedules
from deployments.doctor import examine
from deployments.local import stack
from flows.merge import ASKING
from tasks.merging.decide import decide
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
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
BUCKET = "photos"


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
        return until(lambda: (s := self.state(run)) in wanted and s, seconds, f"run {wanted}")

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


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("deployed")
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("DAM_DEDUP_", "AWS_", "PREFECT_"))]:
            patch.delenv(name)
        for name, value in {
            "DAM_DEDUP_COLLECTION": "photos",
            "DAM_DEDUP_SOURCE__URI": f"s3://{BUCKET}",
            "DAM_DEDUP_CATALOG__URI": str(folder / "catalog"),
            "DAM_DEDUP_DELIVERY__FOLDER": str(folder / "reports"),
            "DAM_DEDUP_DELIVERY__BUCKET": f"s3://{BUCKET}/reports",
            "DAM_DEDUP_MAIL__TO": "admin@example.test",
            "DAM_DEDUP_EMBEDDING__DECODERS": "1",
        }.items():
            patch.setenv(name, value)
        (folder / "policy.yaml").write_text(POLICY)
        patch.setenv("DAM_DEDUP_MERGE__POLICY", str(folder / "policy.yaml"))
        try:
            for name, value in stack.up(folder / "stack").env.items():
                patch.setenv(name, value)
            client_for(load_settings().s3).create_bucket(Bucket=BUCKET)
            bootstrap()
            yield folder
        finally:
            stack.down(folder / "stack")


@pytest.fixture(scope="module")
def prefect(place: Path) -> Prefect:
    return Prefect(os.environ["PREFECT_API_URL"])


def put_pictures(first: int, number: int, label: str = "test") -> None:
    """Pictures, each with a smaller copy, and one object that is no picture."""
    client = client_for(load_settings().s3)
    rng = np.random.default_rng(first)
    for name in range(first, first + number):
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)
        for key, copy in ((f"{name}.jpg", image), (f"web/{name}.jpg", image.resize((320, 240)))):
            body = io.BytesIO()
            copy.save(body, "JPEG", quality=85)
            client.put_object(
                Bucket=BUCKET, Key=key, Body=body.getvalue(), Tagging=f"label={label}"
            )
    client.put_object(Bucket=BUCKET, Key="readme.txt", Body=b"no picture")


def mails(place: Path) -> list[Any]:
    return [
        email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        for path in sorted((place / "stack" / "mail").glob("*.eml"))
    ]


def groups(place: Path) -> dict[str, Any]:
    latest = sorted((place / "reports").iterdir())[-1]
    found: dict[str, Any] = json.loads((latest / "groups.json").read_text())
    return found


def test_scheduled_runs_appear(prefect: Prefect) -> None:
    wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    runs = until(lambda: prefect.post("/flow_runs/filter", wanted), 90, "scheduled runs")
    flows = {flow["id"]: flow["name"] for flow in prefect.post("/flows/filter", {})}
    until(
        lambda: (
            {flows[run["flow_id"]] for run in prefect.post("/flow_runs/filter", wanted)}
            == {"incremental-scan", "full-scan", "merge-approved"}
        ),
        90,
        "runs of both schedules",
    )
    assert all("auto-scheduled" in run["tags"] for run in runs)

    pause_schedules()  # a scan that comes due now would do the work that the next tests count
    assert prefect.post("/flow_runs/filter", wanted) == []


def test_a_killed_run_is_crashed_and_the_next_one_finds_the_rest(
    place: Path, prefect: Prefect
) -> None:
    put_pictures(0, 60)
    run = prefect.trigger("incremental-scan/on-demand")
    until(lambda: list((place / "catalog").glob("vectors_*/data/*.lance")), 120, "vectors")
    pid = int(prefect.http.get(f"/flow_runs/{run}").json()["infrastructure_pid"].split(":")[-1])
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    os.kill(pid, signal.SIGKILL)
    assert prefect.wait(run, "Crashed", "Completed", seconds=60) == "Crashed"
    until(lambda: not any(alive(process) for process in family), 20, "decoders are gone")

    prefect.wait(prefect.trigger("incremental-scan/on-demand"), "Completed")
    found = groups(place)
    assert found["counts"]["added"] == 0, "sync was done before the kill"
    assert 0 < found["counts"]["embedded"] < 120, "and some of the embedding"
    assert found["coverage"]["scanned"] == 120
    assert len(found["groups"]) == 60


def test_the_doctor_finds_the_deployed_stack_well(prefect: Prefect) -> None:
    found = {finding.name: finding for finding in examine(None, None)}
    assert {f.name for f in found.values() if f.state != "good"} == set(), found
    assert re.search(r"\d+ deployments, 1 workers", found["prefect"].detail)


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_full_scan_through_the_deployment(place: Path, prefect: Prefect) -> None:
    run = prefect.trigger("full-scan/on-demand")
    prefect.wait(run, "Completed")

    found = groups(place)
    assert found["scan"]["kind"] == "full"
    assert found["coverage"]["skipped"] == {"not_an_image": 1}
    assert [len(group["members"]) for group in found["groups"]] == [2] * 60
    artifacts = prefect.artifacts(run)
    assert {"scan-summary", "duplicate-groups", "report-file", "report-in-bucket"} <= set(artifacts)
    rows = json.loads(artifacts["duplicate-groups"]["data"])
    assert len(rows) == 60
    assert all(row["keeper"] and row["evidence"] for row in rows)
    assert {"groups-in-bucket", "pairs-in-bucket", "history-in-bucket"} <= set(artifacts)
    until(
        lambda: any("tasks.scan.verify: match:" in line for line in prefect.logs(run)),
        20,
        "our logs",
    )

    bucket = client_for(load_settings().s3)
    name = f"reports/{found['scan']['id']}/groups.json"
    stored = json.loads(bucket.get_object(Bucket=BUCKET, Key=name)["Body"].read())
    assert stored == found
    link = artifacts["report-in-bucket"]["data"].split("](")[1].rstrip(")")
    assert httpx.get(link).text.startswith("<!doctype html>")
    assert httpx.get(artifacts["overview"]["data"]).content.startswith(b"\xff\xd8\xff")


def test_both_scans_again_have_nothing_to_do(place: Path, prefect: Prefect) -> None:
    before, sent = groups(place), len(mails(place))
    for deployment in ("incremental-scan/on-demand", "full-scan/on-demand"):
        prefect.wait(prefect.trigger(deployment), "Completed")
        found = groups(place)
        assert found["counts"]["added"] == found["counts"]["changed"] == 0
        assert found["counts"]["embedded"] == found["counts"]["read"] == 0
        if found["scan"]["kind"] == "incremental":
            assert found["counts"]["compared"] == 0
        assert {group["state"] for group in found["groups"]} == {"known"}
        assert found["groups"] == before["groups"]
    assert len(mails(place)) == sent, "nothing new, nobody is mailed"


def test_new_assets_are_found_and_mailed(place: Path, prefect: Prefect) -> None:
    sent = len(mails(place))
    put_pictures(1000, 2)
    prefect.wait(prefect.trigger("incremental-scan/on-demand"), "Completed")
    found = groups(place)
    assert found["counts"]["embedded"] == 4
    assert [group["state"] for group in found["groups"]].count("new") == 2
    assert len(mails(place)) == sent + 1
    mail = mails(place)[-1]
    assert mail["To"] == "admin@example.test"
    assert "62 groups with 62 duplicates" in mail["Subject"]
    assert mail.get_body(("plain",)) is not None
    assert "cid:" in mail.get_body(("html",)).get_content()


def test_dry_run_leaves_nothing_outside(place: Path, prefect: Prefect) -> None:
    sent = len(mails(place))
    bucket = client_for(load_settings().s3)
    put_pictures(2000, 1)
    listed = bucket.list_objects_v2(Bucket=BUCKET, Prefix="reports/")["KeyCount"]
    run = prefect.trigger("incremental-scan/on-demand", dry_run=True, where="label = 'test'")
    prefect.wait(run, "Completed")
    assert groups(place)["scan"]["dry_run"] is True
    assert bucket.list_objects_v2(Bucket=BUCKET, Prefix="reports/")["KeyCount"] == listed
    assert len(mails(place)) == sent


def test_a_wrong_filter_fails_at_once_and_says_why(prefect: Prefect) -> None:
    run = prefect.trigger("incremental-scan/on-demand", where="lable = 'x'")
    assert prefect.wait(run, "Failed", "Completed", seconds=90) == "Failed"
    message = prefect.http.get(f"/flow_runs/{run}").json()["state"]["message"]
    assert "did you mean label?" in message
    found = prefect.http.get("/deployments/name/incremental-scan/on-demand").json()
    answer = prefect.http.post(
        f"/deployments/{found['id']}/create_flow_run",
        json={"parameters": {"request": {"threshold": 7}}},
    )
    assert answer.status_code == 409
    assert "greater than the maximum of 1.0" in answer.text


def assets() -> dict[str, str]:
    """Key and ETag of everything but our own."""
    listed = client_for(load_settings().s3).list_objects_v2(Bucket=BUCKET)["Contents"]
    ours = ("reports/", ".dam-dedup/")
    return {item["Key"]: item["ETag"] for item in listed if not item["Key"].startswith(ours)}


@pytest.fixture(scope="module")
def mailed_plan(place: Path, prefect: Prefect) -> tuple[str, str]:
    """A plan's id and the link to its form, as the mail brings them."""
    put_pictures(3000, 1, "merge")
    prefect.wait(prefect.trigger("incremental-scan/on-demand"), "Completed")
    text = mails(place)[-1].get_body(("plain",)).get_content()
    found = re.search(r"Plan ([0-9a-f]{12}): 1 group to be merged", text)
    link = re.search(r"Decide in Prefect: (\S+)", text)
    assert found, text
    assert link, text
    return found[1], link[1]


def test_a_form_sent_unread_does_nothing(prefect: Prefect, mailed_plan: tuple[str, str]) -> None:
    before = assets()
    found = prefect.http.get("/deployments/name/merge-plan/on-demand").json()
    answer = prefect.http.post(
        f"/deployments/{found['id']}/create_flow_run",
        json={"parameters": {"request": {"plan_id": mailed_plan[0]}}},
    )
    assert answer.status_code == 409
    assert "is a required property" in answer.text
    wanted = {"plan_id": mailed_plan[0], "decision": "approve", "approved_by": "anna"}
    run = prefect.trigger("merge-plan/on-demand", **wanted)
    assert prefect.wait(run, "Completed", "Failed") == "Completed"
    assert "dry run" in prefect.artifacts(run)["merge"]["data"]
    assert assets() == before


@pytest.mark.browser
def test_approved_in_the_prefect_ui_from_the_mail(
    prefect: Prefect, mailed_plan: tuple[str, str]
) -> None:
    pytest.importorskip("playwright")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    before = assets()
    known = {run["id"] for run in prefect.post("/flow_runs/filter", {})}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(mailed_plan[1])
        page.get_by_text("Plan Id").wait_for(timeout=60_000)
        assert page.locator("textarea").nth(0).input_value() == mailed_plan[0]
        page.get_by_text("Select", exact=True).click()
        page.get_by_role("option", name="approve").click()
        page.locator("textarea").nth(1).fill("anna")
        page.get_by_role("switch").nth(1).click()  # dry run: off
        page.get_by_role("button", name="Submit").click()
        page.wait_for_url(re.compile(r"deployment/[^/]+\?tab="), timeout=60_000)
        browser.close()
    new = [run["id"] for run in prefect.post("/flow_runs/filter", {}) if run["id"] not in known]
    assert len(new) == 1
    assert prefect.wait(new[0], "Completed", "Failed") == "Completed"
    assert set(before) - set(assets()) == {"web/3000.jpg"}
    undo = prefect.trigger(
        "undo-merge/on-demand", target=mailed_plan[0], undone_by="anna", dry_run=False
    )
    assert prefect.wait(undo, "Completed", "Failed") == "Completed"
    assert assets() == before
    assert "2 undone" in prefect.artifacts(undo)["undo"]["data"]


@dataclass(frozen=True)
class Question:
    """A plan approved in a gate's page was merged, and a run asks whether to empty early."""

    merge: str
    run: str
    asked: float


@pytest.fixture(scope="module")
def question(place: Path, prefect: Prefect) -> Question:
    put_pictures(3001, 1, "merge")
    prefect.wait(prefect.trigger("incremental-scan/on-demand"), "Completed")
    text = mails(place)[-1].get_body(("plain",)).get_content()
    plan = re.search(r"Plan ([0-9a-f]{12})", text)[1]
    decide(load_settings(), plan, "approve", by="anna", door="page")
    found = prefect.http.get("/deployments/name/merge-approved/scheduled").json()
    run = prefect.post(f"/deployments/{found['id']}/create_flow_run", {})["id"]
    merge = prefect.wait(run, "Completed", "Failed")
    request = {"emptied_by": "anna", "plan_id": plan, "early": True, "dry_run": False}
    run = prefect.trigger("empty-quarantine/on-demand", **request)
    assert prefect.wait(run, "Suspended", "Completed", "Failed") == "Suspended"
    return Question(merge, run, time.monotonic())


def test_what_is_approved_elsewhere_is_merged(prefect: Prefect, question: Question) -> None:
    assert question.merge == "Completed"
    assert "web/3001.jpg" not in assets()


def test_a_verdict_given_in_the_form_holds_in_later_scans(place: Path, prefect: Prefect) -> None:
    put_pictures(4001, 1)
    prefect.wait(prefect.trigger("incremental-scan/on-demand"), "Completed")
    assert {"4001.jpg", "web/4001.jpg"} in found_groups(place)
    request = {"left": "4001.jpg", "right": "web/4001.jpg", "given_by": "anna"}
    run = prefect.trigger("give-verdict/on-demand", **request, verdict="distinct")
    assert prefect.wait(run, "Completed", "Failed") == "Completed"
    prefect.wait(prefect.trigger("incremental-scan/on-demand"), "Completed")
    assert not any("4001.jpg" in group for group in found_groups(place))
    assert {"1.jpg", "web/1.jpg"} in found_groups(place), "of that pair alone"


def found_groups(place: Path) -> list[set[str]]:
    return [{member["key"] for member in group["members"]} for group in groups(place)["groups"]]


def test_a_notification_has_its_keys_checked_once(place: Path, prefect: Prefect) -> None:
    put_pictures(5001, 1)
    event = {
        "Records": [
            {
                "eventName": "ObjectCreated:Put",
                "s3": {"bucket": {"name": BUCKET}, "object": {"key": key, "sequencer": "0A"}},
            }
            for key in ("5001.jpg", "web/5001.jpg")
        ]
    }
    for expected in ("web/5001.jpg", "passed over: 2 older"):
        run = prefect.trigger("check-keys/check-keys", events=[event])
        assert prefect.wait(run, "Completed", "Failed") == "Completed", prefect.logs(run)
        assert expected in prefect.artifacts(run)["keys"]["data"]


def test_one_asset_is_checked_from_the_form(place: Path, prefect: Prefect) -> None:
    run = prefect.trigger("check-asset/on-demand", asset="5001.jpg")
    assert prefect.wait(run, "Completed", "Failed") == "Completed", prefect.logs(run)
    shown = "\n".join(str(found["data"]) for found in prefect.artifacts(run).values())
    assert "web/5001.jpg" in shown
    assert "scaled" in shown, "the evidence in words"


def test_a_question_waits_for_its_answer_and_no_leaves_everything(
    prefect: Prefect, question: Question
) -> None:
    # Runs without a heartbeat for 120 s are taken for dead, looked at every few seconds.
    time.sleep(max(0.0, question.asked + 140 - time.monotonic()))
    assert prefect.state(question.run) == "Suspended", prefect.logs(question.run)
    prefect.resume(question.run, plan_id_again="no")
    assert prefect.wait(question.run, "Completed", "Failed") == "Failed"
    kept = client_for(load_settings().s3).list_objects_v2(
        Bucket=BUCKET, Prefix=".dam-dedup/quarantine/"
    )
    assert [item["Key"].rpartition("/")[2] for item in kept["Contents"]] == ["3001.jpg"]


def test_deploying_again_renews_an_automation_of_before(prefect: Prefect) -> None:
    def ours() -> dict[str, Any]:
        found = prefect.post("/automations/filter", {})
        (one,) = [one for one in found if one["name"].startswith("dam-dedup")]
        return dict(one)

    old = ours()
    waits = {end for end in old["trigger"]["expect"] if not end.endswith("Suspended")}
    changed = old | {"enabled": False, "trigger": old["trigger"] | {"expect": sorted(waits)}}
    put = ("name", "description", "enabled", "trigger", "actions")
    answer = prefect.http.put(f"/automations/{old['id']}", json={key: changed[key] for key in put})
    answer.raise_for_status()
    assert set(ours()["trigger"]["expect"]) == waits
    bootstrap()
    new = ours()
    assert new["id"] == old["id"]
    assert {"prefect.flow-run.Suspended", ASKING} < set(new["trigger"]["expect"])
    assert not new["enabled"], "who switched it off knows why"
