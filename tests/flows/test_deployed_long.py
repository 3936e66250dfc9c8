"""The deployed flows at length: killed, repeated, asked, undecided."""

import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from deployments.bootstrap import bootstrap, pause_schedules
from deployments.local import stack
from flows.merge import ASKING
from tasks.merging.decide import decide
from tasks.settings import load_settings
from tasks.sources.s3 import client_for
from tests.flows.conftest import start_servers
from tests.flows.deployed import (
    BUCKET,
    Place,
    Prefect,
    assets,
    found_groups,
    groups,
    mails,
    put_pictures,
    until,
)

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.StackState]:
    """A stack of its own, whose worker knows this file's catalog."""
    yield from start_servers(tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="module", autouse=True)
def quiet(place: Place) -> None:
    """A scan that comes due would do the work that the tests count."""
    pause_schedules()


def test_a_killed_run_is_crashed_and_the_next_one_finds_the_rest(
    place: Place, prefect: Prefect
) -> None:
    put_pictures(0, 60)
    run = prefect.trigger("incremental-scan/Photos: scan now")
    until(lambda: list(place.catalog.glob("vectors_*/data/*.lance")), 120, "vectors")
    pid = int(prefect.http.get(f"/flow_runs/{run}").json()["infrastructure_pid"].split(":")[-1])
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    os.kill(pid, signal.SIGKILL)
    assert prefect.wait(run, "Crashed", "Completed", seconds=60) == "Crashed"
    until(lambda: not any(alive(process) for process in family), 20, "decoders are gone")

    prefect.wait(prefect.trigger("incremental-scan/Photos: scan now"), "Completed")
    found = groups(place)
    assert found["counts"]["added"] == 0, "sync was done before the kill"
    assert 0 < found["counts"]["embedded"] < 120, "and some of the embedding"
    assert found["coverage"]["scanned"] == 120
    assert len(found["groups"]) == 60


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_both_scans_again_have_nothing_to_do(place: Place, prefect: Prefect) -> None:
    prefect.wait(prefect.trigger("full-scan/Photos: full scan now"), "Completed")
    before, sent = groups(place), len(mails(place))
    for deployment in ("incremental-scan/Photos: scan now", "full-scan/Photos: full scan now"):
        prefect.wait(prefect.trigger(deployment), "Completed")
        found = groups(place)
        assert found["counts"]["added"] == found["counts"]["changed"] == 0
        assert found["counts"]["embedded"] == found["counts"]["read"] == 0
        if found["scan"]["kind"] == "incremental":
            assert found["counts"]["compared"] == 0
        assert {group["state"] for group in found["groups"]} == {"known"}
        assert found["groups"] == before["groups"]
    assert len(mails(place)) == sent, "nothing new, nobody is mailed"


def test_new_assets_are_found_and_mailed(place: Place, prefect: Prefect) -> None:
    sent = len(mails(place))
    put_pictures(1000, 2)
    prefect.wait(prefect.trigger("incremental-scan/Photos: scan now"), "Completed")
    found = groups(place)
    assert found["counts"]["embedded"] == 4
    assert [group["state"] for group in found["groups"]].count("new") == 2
    assert len(mails(place)) == sent + 1
    mail = mails(place)[-1]
    assert mail["To"] == "admin@example.test"
    assert "62 groups with 62 duplicates" in mail["Subject"]
    assert mail.get_body(("plain",)) is not None
    assert "cid:" in mail.get_body(("html",)).get_content()


def test_dry_run_leaves_nothing_outside(place: Place, prefect: Prefect) -> None:
    sent = len(mails(place))
    bucket = client_for(load_settings().s3)
    put_pictures(2000, 1)
    listed = bucket.list_objects_v2(Bucket=BUCKET, Prefix="reports/")["KeyCount"]
    run = prefect.trigger("incremental-scan/Photos: scan now", dry_run=True, where="label = 'test'")
    prefect.wait(run, "Completed")
    assert groups(place)["scan"]["dry_run"] is True
    assert bucket.list_objects_v2(Bucket=BUCKET, Prefix="reports/")["KeyCount"] == listed
    assert len(mails(place)) == sent


def test_a_wrong_filter_fails_at_once_and_says_why(prefect: Prefect) -> None:
    run = prefect.trigger("incremental-scan/Photos: scan now", where="lable = 'x'")
    assert prefect.wait(run, "Failed", "Completed", seconds=90) == "Failed"
    message = prefect.http.get(f"/flow_runs/{run}").json()["state"]["message"]
    assert "did you mean label?" in message
    found = prefect.http.get("/deployments/name/incremental-scan/Photos: scan now").json()
    answer = prefect.http.post(
        f"/deployments/{found['id']}/create_flow_run",
        json={"parameters": {"request": {"advanced": {"threshold": 7}}}},
    )
    assert answer.status_code == 409
    assert "7 is greater than the maximum of 1" in answer.text


@dataclass(frozen=True)
class Question:
    """A plan approved in a gate's page was merged, and a run asks whether to empty early."""

    merge: str
    run: str
    asked: float


@pytest.fixture(scope="module")
def question(place: Place, prefect: Prefect) -> Question:
    put_pictures(3001, 1, "merge")
    prefect.wait(prefect.trigger("incremental-scan/Photos: scan now"), "Completed")
    text = mails(place)[-1].get_body(("plain",)).get_content()
    plan = re.search(r"Plan ([0-9a-f]{12})", text)[1]
    decide(load_settings(), plan, "approve", by="anna", channel="page")
    found = prefect.http.get(
        "/deployments/name/merge-approved/Photos: merge what is approved"
    ).json()
    run = prefect.post(f"/deployments/{found['id']}/create_flow_run", {})["id"]
    merge = prefect.wait(run, "Completed", "Failed")
    request = {"emptied_by": "anna", "plan_id": plan, "early": True, "dry_run": False}
    run = prefect.trigger("empty-quarantine/Photos: empty quarantine", **request)
    assert prefect.wait(run, "Suspended", "Completed", "Failed") == "Suspended"
    return Question(merge, run, time.monotonic())


def test_what_is_approved_elsewhere_is_merged(prefect: Prefect, question: Question) -> None:
    assert question.merge == "Completed"
    assert "web/3001.jpg" not in assets()


def test_a_verdict_given_in_the_form_holds_in_later_scans(place: Place, prefect: Prefect) -> None:
    put_pictures(4001, 1)
    prefect.wait(prefect.trigger("incremental-scan/Photos: scan now"), "Completed")
    assert {"4001.jpg", "web/4001.jpg"} in found_groups(place)
    request = {"left": "4001.jpg", "right": "web/4001.jpg", "given_by": "anna"}
    run = prefect.trigger("give-verdict/Photos: give a verdict", **request, verdict="distinct")
    assert prefect.wait(run, "Completed", "Failed") == "Completed"
    prefect.wait(prefect.trigger("incremental-scan/Photos: scan now"), "Completed")
    assert not any("4001.jpg" in group for group in found_groups(place))
    assert {"1.jpg", "web/1.jpg"} in found_groups(place), "of that pair alone"


def test_a_notification_has_its_keys_checked_once(place: Place, prefect: Prefect) -> None:
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
        run = prefect.trigger("check-keys/Photos: check uploaded keys", events=[event])
        assert prefect.wait(run, "Completed", "Failed") == "Completed", prefect.logs(run)
        assert expected in prefect.artifacts(run)["photos-keys"]["data"]


def test_one_asset_is_checked_from_the_form(place: Place, prefect: Prefect) -> None:
    run = prefect.trigger("check-asset/Photos: check one image", asset="5001.jpg")
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


def test_a_form_sent_unread_does_nothing(prefect: Prefect, mailed_plan: tuple[str, str]) -> None:
    before = assets()
    found = prefect.http.get("/deployments/name/merge-plan/Photos: decide on a merge plan").json()
    answer = prefect.http.post(
        f"/deployments/{found['id']}/create_flow_run",
        json={"parameters": {"request": {"plan_id": mailed_plan[0]}}},
    )
    assert answer.status_code == 409
    assert "is a required property" in answer.text
    wanted = {"plan_id": mailed_plan[0], "decision": "approve", "approved_by": "anna"}
    run = prefect.trigger("merge-plan/Photos: decide on a merge plan", **wanted)
    assert prefect.wait(run, "Completed", "Failed") == "Completed"
    assert "dry run" in prefect.artifacts(run)["photos-merge"]["data"]
    assert assets() == before


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
