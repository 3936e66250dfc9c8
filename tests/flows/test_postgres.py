"""Prefect's server on PostgreSQL, two collections, two workers, and everything that may end.

The first tests need no worker and take half a minute. The others run flows, kill what runs them,
and are for ``make soak``.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.bootstrap import PROJECT, Choices, bootstrap, pause_schedules
from deployments.local import services, stack
from deployments.local.processes import Service, family, launch, stop, wait_ready
from tasks.session import open_catalog
from tasks.settings import load_settings
from tasks.sources.s3 import client_for
from tests.flows import deployed
from tests.flows.deployed import POLICY, Prefect, put_pictures, until
from tests.flows.postgres import Postgres, postgres, with_database

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
COLLECTIONS = ("shoes", "hats")
LONG = pytest.mark.long
SOAK = pytest.mark.soak


@dataclass
class Site:
    """The servers, and what two collections leave behind.

    Attributes:
        folder: of catalogs and reports.
        state: what runs, but for the second worker.
    """

    folder: Path
    state: stack.StackState
    database: Postgres
    prefect: Prefect

    def mails(self, collection: str) -> list[EmailMessage]:
        place = deployed.Place(self.folder, self.folder, self.state.dir / "mail")
        return [
            mail for mail in deployed.mails(place) if mail["To"] == f"{collection}@example.test"
        ]

    def groups(self, collection: str) -> dict[str, Any]:
        reports = self.folder / collection / "reports"
        return deployed.groups(deployed.Place(self.folder, reports, self.state.dir))

    def catalog(self, collection: str) -> Any:
        return open_catalog(
            load_settings(catalog={"uri": str(self.folder / collection / "catalog")})
        )

    def run(self, collection: str, flow: str, job: str, **request: Any) -> str:
        return self.prefect.trigger(f"{flow}/{collection.title()}: {job}", **request)

    def scan(self, collection: str) -> str:
        return self.run(collection, "incremental-scan", "scan now")

    def runs_of(self, name: str) -> list[dict[str, Any]]:
        found = self.prefect.http.get(f"/deployments/name/{name}").json()["id"]
        return self.prefect.post(
            "/flow_runs/filter", {"flow_runs": {"deployment_id": {"any_": [found]}}}
        )

    def restart_prefect(self) -> None:
        """Kill the server, and start it again on the same database and port."""
        stop(family([one for one in [self.state.service("prefect").process()] if one]), grace=0)
        ports = json.loads((self.state.dir / "identity.json").read_text())["ports"]
        env = self.state.env
        service = launch(
            "prefect",
            services.server_commands(self.state.dir, ports)["prefect"],
            folder=self.state.dir,
            env=services.inside(env),
            cwd=self.state.dir,
            port=ports["prefect"],
        )
        wait_ready(
            service,
            lambda: services.READY["prefect"](service, env),
            until=time.monotonic() + 120,
            advice="",
        )
        others = [one for one in self.state.services if one.name != "prefect"]
        self.state = stack.StackState((*others, service), env, self.state.dir)

    def worker(self, name: str) -> Service:
        """One more worker."""
        command = [name if word == "local" else word for word in services.worker_command()]
        return launch(
            name, command, folder=self.state.dir, env=services.inside(self.state.env), cwd=PROJECT
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Both collections are deployed; no worker runs."""
    folder, servers = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("stack")
    exports = services.exports
    with postgres() as database, pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("DAM_DEDUP_", "AWS_", "PREFECT_"))]:
            patch.delenv(name)
        patch.setattr(stack, "exports", lambda *given: with_database(exports(*given), database))
        try:
            state = stack.up(servers, worker=False)
            for name, value in state.env.items():
                patch.setenv(name, value)
            patch.setenv("DAM_DEDUP_EMBEDDING__DECODERS", "1")
            for name in COLLECTIONS:
                client_for(load_settings().s3).create_bucket(Bucket=name)
            bootstrap(choices=Choices(file=collections_file(folder)))
            yield Site(folder, state, database, Prefect(state.env["PREFECT_API_URL"]))
        finally:
            stack.down(servers)


def collections_file(folder: Path, **more: Any) -> Path:
    """Both collections, with what a test wants besides."""
    (folder / "policy.yaml").write_text(POLICY)
    both = [
        {
            "name": name,
            "source": f"s3://{name}",
            "catalog": str(folder / name / "catalog"),
            "policy": str(folder / "policy.yaml"),
            "owners": f"{name}@example.test",
            "schedules": {"scan": "* * * * *", "full_scan": [], "merge": "*/5 * * * *"},
            "delivery": {"folder": str(folder / name / "reports")},
        }
        | more
        for name in COLLECTIONS
    ]
    file = folder / "collections.yaml"
    file.write_text(json.dumps({"version": 1, "collections": both}))
    return file


@LONG
def test_the_form_shows_its_fields_in_the_order_they_are_declared_in(site: Site) -> None:
    """PostgreSQL gives the keys of a schema back by their length; each field has its place."""
    found = site.prefect.http.get("/deployments/name/incremental-scan/Shoes: scan now").json()
    fields = found["parameter_openapi_schema"]["definitions"]["ScanForm"]["properties"]
    assert list(fields) != ["where", "look_for", "dry_run", "advanced"], "as SQLite would"
    assert sorted(fields, key=lambda name: fields[name]["position"]) == [
        "where",
        "look_for",
        "dry_run",
        "advanced",
    ]
    for deployment in site.prefect.post("/deployments/filter", {}):
        for form in deployment["parameter_openapi_schema"].get("definitions", {}).values():
            places = [field.get("position") for field in form.get("properties", {}).values()]
            assert None not in places, (deployment["name"], form["title"])
            assert len(set(places)) == len(places), (deployment["name"], form["title"])


@LONG
def test_both_collections_are_scheduled_and_a_second_deploy_changes_nothing(site: Site) -> None:
    wanted = {f"incremental-scan/{name.title()}: scan on schedule" for name in COLLECTIONS}
    for name in wanted:
        until(lambda name=name: len(site.runs_of(name)) > 2, 90, f"scheduled runs of {name}")
    # A second deploy knows what the first one did, and changes nothing.
    told = bootstrap(choices=Choices(file=site.folder / "collections.yaml"))
    done = {line[:10].strip() for line in told if "/" in line}
    assert done == {"left alone"}, told


@LONG
def test_what_is_deployed_outlives_a_crash_of_the_database(site: Site) -> None:
    before = {d["id"] for d in site.prefect.post("/deployments/filter", {})}
    site.database.stop()
    site.database.start()
    until(lambda: site.prefect.http.get("/health").status_code == 200, 60, "the server answers")
    # The pool of connections holds some that are dead, and gives each up where it meets it.
    until(lambda: site.prefect.http.post("/deployments/filter", json={}).is_success, 60, "it reads")
    assert {d["id"] for d in site.prefect.post("/deployments/filter", {})} == before
    late = f"incremental-scan/{COLLECTIONS[0].title()}: scan on schedule"
    newest = max(run["expected_start_time"] for run in site.runs_of(late))
    until(
        lambda: max(run["expected_start_time"] for run in site.runs_of(late)) > newest,
        150,
        "the scheduler goes on",
    )


@dataclass
class Workers:
    first: Service
    second: Service


@pytest.fixture(scope="module")
def workers(site: Site) -> Workers:
    for name in COLLECTIONS:
        put_pictures(0, 8, "test", name)
        put_pictures(100, 1, "merge", name)
    return Workers(site.worker("first"), site.worker("second"))


@SOAK
def test_scans_on_schedule_and_on_demand_at_once(site: Site, workers: Workers) -> None:
    """Every image is read once, every group is told once, whoever scans first."""
    runs = [site.scan(name) for name in COLLECTIONS for _ in range(2)]
    for run in runs:
        site.prefect.wait(run, "Completed", seconds=400)
    for name in COLLECTIONS:
        scheduled = f"incremental-scan/{name.title()}: scan on schedule"
        until(
            lambda name=scheduled: any(r["state_type"] == "COMPLETED" for r in site.runs_of(name)),
            300,
            "a scan on schedule",
        )
        assert len(site.groups(name)["groups"]) == 9
        assets = site.catalog(name).read("assets", ["key", "asset_id"])
        assert sorted(assets["key"]) == sorted(set(assets["key"]))
        assert assets.height == 19
        assert len(site.mails(name)) == 1, "one scan had news, however many there were"
    pause_schedules()  # from here on the tests count what their own runs do
    busy = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}}
    until(lambda: not site.prefect.post("/flow_runs/filter", busy), 300, "the last ones end")
    names = {run["work_queue_name"] for run in site.prefect.post("/flow_runs/filter", {})}
    assert set(COLLECTIONS) <= names
    taken = Counter(
        worker["name"] for worker in site.prefect.post("/work_pools/dam-dedup/workers/filter", {})
    )
    assert set(taken) >= {"first", "second"}


@SOAK
def test_a_plan_that_many_decide_at_once_is_merged_once(site: Site, workers: Workers) -> None:
    plan = site.catalog("shoes").read("plans", ["plan_id", "made"]).sort("made")["plan_id"][-1]
    wanted = {"plan_id": plan, "decision": "approve", "dry_run": False}
    runs = [
        site.run("shoes", "merge-plan", "decide on a merge plan", **wanted, approved_by=who)
        for who in ("anna", "ben")
    ]
    merge = site.prefect.http.get(
        "/deployments/name/merge-approved/Shoes: merge what is approved"
    ).json()["id"]
    runs += [site.prefect.post(f"/deployments/{merge}/create_flow_run", {})["id"] for _ in range(2)]
    verdicts = [
        site.run(
            "shoes",
            "give-verdict",
            "give a verdict",
            left=f"{n}.jpg",
            right=f"web/{n}.jpg",
            given_by=who,
            verdict="distinct",
        )
        for n, who in ((0, "anna"), (1, "ben"))
    ]
    # Of merges that begin at once, Prefect cancels those above the limit of one.
    ends = ("Completed", "Failed", "Cancelled")
    ended = [site.prefect.wait(run, *ends, seconds=400) for run in runs + verdicts]
    assert ended[-2:] == ["Completed", "Completed"]
    assert "Completed" in ended[:2]
    listed = client_for(load_settings().s3).list_objects_v2(Bucket="shoes")["Contents"]
    keys = {item["Key"] for item in listed}
    assert "100.jpg" in keys
    assert "web/100.jpg" not in keys
    assert len([key for key in keys if "quarantine" in key and key.endswith("100.jpg")]) == 1
    assert len([m for m in site.mails("shoes") if "Merged 1 group" in m["Subject"]]) == 1
    assert site.catalog("shoes").read("verdicts", ["verdict"]).height == 2, "no verdict is lost"


def running(site: Site, run: str) -> psutil.Process:
    """The process of a run that has begun to embed."""
    until(lambda: site.prefect.state(run) == "Running", 200, "it runs")
    until(lambda: any("embed" in line for line in site.prefect.logs(run)), 120, "it embeds")
    pid = site.prefect.http.get(f"/flow_runs/{run}").json()["infrastructure_pid"]
    return psutil.Process(int(pid.split(":")[-1]))


@SOAK
def test_a_worker_that_dies_with_its_run_is_followed_by_the_other(
    site: Site, workers: Workers
) -> None:
    put_pictures(200, 40, "test", "hats")
    run = site.scan("hats")
    process = running(site, run)
    mine = next(w for w in (workers.first, workers.second) if w.pid == process.ppid())
    told = len(site.mails("hats"))
    stop(family([psutil.Process(mine.pid)]), grace=0)
    after = site.scan("hats")
    assert site.prefect.wait(run, "Crashed", "Completed", seconds=300) == "Crashed"
    site.prefect.wait(after, "Completed", seconds=400)
    assert len(site.groups("hats")["groups"]) == 49
    assert len(site.mails("hats")) == told + 1
    again = site.worker(mine.name)
    workers.first, workers.second = (
        again if one is mine else one for one in (workers.first, workers.second)
    )


@SOAK
def test_a_scan_outlives_a_crash_of_database_and_server(site: Site, workers: Workers) -> None:
    put_pictures(300, 40, "test", "shoes")
    told = len(site.mails("shoes"))
    run = site.scan("shoes")
    running(site, run)
    site.database.stop()
    time.sleep(10)
    site.database.start()
    site.restart_prefect()
    assert site.prefect.wait(run, "Completed", "Failed", "Crashed", seconds=400) == "Completed"
    assert len(site.mails("shoes")) == told + 1
    assert site.groups("shoes")["coverage"]["scanned"] == 16 + 1 + 80, "one of 18 was merged"


@SOAK
def test_a_cancelled_scan_ends_and_the_next_goes_on(site: Site, workers: Workers) -> None:
    put_pictures(400, 40, "test", "hats")
    run = site.scan("hats")
    process = running(site, run)
    told = len(site.mails("hats"))
    state = {"type": "CANCELLING", "name": "Cancelling"}  # as the UI's button
    site.prefect.post(f"/flow_runs/{run}/set_state", {"state": state})
    assert site.prefect.wait(run, "Cancelled", "Completed", seconds=120) == "Cancelled"
    until(lambda: not process.is_running(), 30, "its process is gone")
    site.prefect.wait(site.scan("hats"), "Completed", seconds=400)
    assert len(site.groups("hats")["groups"]) == 89
    assert len(site.mails("hats")) == told + 1


@SOAK
def test_operators_are_told_by_mail_and_webhook_when_the_storage_is_gone(
    site: Site, workers: Workers, webhook: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test here: it leaves neither a storage nor a worker behind."""
    address, said = webhook
    monkeypatch.setenv("DAM_OPS", address)
    told = {"to": "ops@example.test", "webhook": "$DAM_OPS", "late_minutes": 0.2}
    bootstrap(choices=Choices(file=collections_file(site.folder, notifications=told)))
    pause_schedules()
    storage = site.state.service("s3")
    assert storage
    stop(family([psutil.Process(storage.pid)]), grace=0)
    failed = site.scan("hats")
    site.prefect.wait(failed, "Failed", seconds=400)
    stop(family([psutil.Process(one.pid) for one in (workers.first, workers.second)]), grace=0)
    late = site.scan("shoes")
    for title, subject, run in (
        ("Hats", "a run failed", failed),
        ("Shoes", "a run has waited for 0.2 minutes", late),
    ):
        until(
            lambda run=run: [one for one in said if run in one], 120, f"the webhook hears of {run}"
        )
        (heard,) = [one for one in said if run in one]
        assert heard.startswith(f"*{title}: {subject}*\n{title}: scan now (")
        assert "What to do: " in heard
        mailed = until(
            lambda run=run: [m for m in site.mails("ops") if run in m.get_content()], 60, "a mail"
        )
        assert [m["Subject"] for m in mailed] == [f"{title}: {subject}"]
    assert any("Could not connect to the endpoint" in one for one in said if failed in one)
