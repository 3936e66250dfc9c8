"""Each flow once on real parts: S3, Prefect server and worker, SMTP, and Prefect's own form."""

import contextlib
import json
import os
import re
from pathlib import Path

import httpx
import polars as pl
import pytest

from deployments.bootstrap import pause_schedules
from deployments.doctor import examine
from tasks.session import open_catalog
from tasks.settings import load_settings
from tasks.sources.s3 import client_for
from tests.flows.deployed import (
    BUCKET,
    Place,
    Prefect,
    assets,
    found_groups,
    groups,
    mails,
    put_form_pictures,
    put_pictures,
    until,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
PAIRS = 20


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


def test_the_doctor_finds_the_deployed_stack_well(prefect: Prefect) -> None:
    found = {finding.name: finding for finding in examine(None, None)}
    assert {f.name for f in found.values() if f.state != "good"} == set(), found
    assert re.search(r"\d+ deployments, 1 workers", found["prefect"].detail)


def test_full_scan_through_the_deployment(place: Place, prefect: Prefect) -> None:
    put_pictures(0, PAIRS)
    run = prefect.trigger("full-scan/Photos: full scan now")
    prefect.wait(run, "Completed")

    found = groups(place)
    assert found["scan"]["kind"] == "full"
    assert found["coverage"]["skipped"] == {"not_an_image": 1}
    assert [len(group["members"]) for group in found["groups"]] == [2] * PAIRS
    artifacts = prefect.artifacts(run)
    assert set(artifacts) == {"photos-summary", "photos-groups", "photos-links"}
    assert "file:" not in json.dumps(artifacts)
    name = prefect.http.get(f"/flow_runs/{run}").json()["name"]
    assert re.fullmatch(r"Photos · full · \d+ [A-Z][a-z]{2}", name)
    rows = json.loads(artifacts["photos-groups"]["data"])
    assert len(rows) == PAIRS
    assert all(row["stays"] and row["evidence"] for row in rows)
    links = dict(re.findall(r"\[(.*?)\]\((.*?)\)", artifacts["photos-links"]["data"]))
    assert len(links) == 5
    until(
        lambda: any("tasks.scan.verify: verify:" in line for line in prefect.logs(run)),
        20,
        "our logs",
    )

    bucket = client_for(load_settings().s3)
    name = f"reports/{found['scan']['id']}/groups.json"
    stored = json.loads(bucket.get_object(Bucket=BUCKET, Key=name)["Body"].read())
    assert stored == found
    assert httpx.get(links["The report with thumbnails"]).text.startswith("<!doctype html>")
    assert httpx.get(links["A picture of the first groups"]).content.startswith(b"\xff\xd8\xff")


@pytest.mark.long
def test_a_worker_is_looked_at_and_a_name_given_by_hand_stays(prefect: Prefect) -> None:
    found = prefect.http.get("/deployments/name/check-setup/Photos: check the setup").json()
    given = {"name": "before the holidays"}
    run = prefect.post(f"/deployments/{found['id']}/create_flow_run", given)["id"]
    assert prefect.wait(run, "Completed", "Failed") == "Completed", prefect.logs(run)
    assert prefect.http.get(f"/flow_runs/{run}").json()["name"] == "before the holidays"
    rows = json.loads(prefect.artifacts(run)["photos-setup"]["data"])
    states = {row["name"]: row["state"] for row in rows}
    looked = {"policy", "mail", "source", "catalog", "delivery", "model", "prefect", "release"}
    assert {name for name, state in states.items() if state == "good"} >= looked


@pytest.mark.long
@pytest.mark.browser
def test_approved_in_the_prefect_ui_from_the_mail(
    place: Place, prefect: Prefect, mailed_plan: tuple[str, str]
) -> None:
    pytest.importorskip("playwright")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    from playwright.sync_api import TimeoutError as PlaywrightTimeout
    from playwright.sync_api import expect, sync_playwright

    before = assets()
    known = {run["id"] for run in prefect.post("/flow_runs/filter", {})}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(mailed_plan[1])
        page.locator("textarea").nth(0).wait_for(timeout=60_000)
        assert page.locator("textarea").nth(0).input_value() == mailed_plan[0]
        page.get_by_text("Select", exact=True).click()
        page.get_by_role("option", name="approve").click()
        page.locator("textarea").nth(1).fill("anna")
        page.get_by_role("switch").nth(1).click()  # dry run: off
        expect(page.get_by_role("switch").nth(1)).not_to_be_checked()
        # A form that was typed into a moment ago takes no click yet: until one makes a run.
        for _ in range(5):
            page.get_by_role("button", name="Submit").click()
            with contextlib.suppress(PlaywrightTimeout):
                page.wait_for_url(re.compile(r"deployment/[^/]+\?tab="), timeout=20_000)
                break
        browser.close()
    new = [run["id"] for run in prefect.post("/flow_runs/filter", {}) if run["id"] not in known]
    assert len(new) == 1
    assert prefect.wait(new[0], "Completed", "Failed") == "Completed"
    assert set(before) - set(assets()) == {"web/3000.jpg"}
    undo = prefect.trigger(
        "undo-merge/Photos: undo a merge", target=mailed_plan[0], undone_by="anna", dry_run=False
    )
    assert prefect.wait(undo, "Completed", "Failed") == "Completed"
    assert assets() == before
    assert "2 undone" in prefect.artifacts(undo)["photos-undo"]["data"]
    told = [mail["Subject"] for mail in mails(place)]
    for said in ("Merged 1 group: 1 file", "Undone: 1 file"):
        assert any(said in subject for subject in told), told


@pytest.mark.long
@pytest.mark.browser
def test_filter_and_choice_of_the_form_take_effect(place: Place, prefect: Prefect) -> None:
    """An admin opens a deployment, changes both in the form and runs it: no one else's value."""
    pytest.importorskip("playwright")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    keys = put_form_pictures()
    known = {run["id"] for run in prefect.post("/flow_runs/filter", {})}
    new: list[str] = []

    def made() -> bool:
        found = [run["id"] for run in prefect.post("/flow_runs/filter", {})]
        new[:] = [run for run in found if run not in known]
        return bool(new)

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(60_000)
        found = prefect.http.get("/deployments/name/full-scan/Photos: full scan now").json()["id"]
        page.goto(f"{os.environ['PREFECT_UI_URL']}/deployments/deployment/{found}/run")
        page.get_by_text("What to do").first.wait_for()
        page.locator("textarea").first.fill("label = 'form'")
        page.get_by_text("as the settings say", exact=True).first.click()
        page.get_by_role("option", name="the same picture").click()
        # A form that was typed into a moment ago takes no click yet: until one makes a run.
        for _ in range(5):
            page.get_by_role("button", name="Submit").click()
            with contextlib.suppress(AssertionError):
                until(made, 10, "a run")
                break
        browser.close()
    assert len(new) == 1
    prefect.wait(new[0], "Completed")
    settings = load_settings(catalog={"uri": str(place.catalog)})
    scan = open_catalog(settings).read("scans", ["where", "threshold", "started"])
    assert scan.sort("started")["where"][-1] == "label = 'form'"
    assert scan.sort("started")["threshold"][-1] == pytest.approx(0.95)
    assert groups(place)["coverage"]["scanned"] == 4, "the filter's"
    # The mirrored copy was found and scored, and is below what was asked for.
    assert found_groups(place) == [{"form/0.jpg", "form/0-small.jpg"}]
    pairs = open_catalog(settings).read("pairs", ["score"])
    assert pairs.filter(pl.col("score").is_between(0.7, 0.95)).height
    client_for(load_settings().s3).delete_objects(
        Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]}
    )
