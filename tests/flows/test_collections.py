"""Deploying to a real Prefect server: what people changed there is theirs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deployments.bootstrap import Choices, bootstrap
from deployments.changes import DeployError
from tests.flows.deployed import Prefect, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
SCHEDULED = "incremental-scan/Shoes: scan on schedule"


@dataclass
class Deployer:
    """Deploys a file of one collection, from whichever folder, and does what people do in the UI.

    No worker looks at its pool, so nothing of it ever runs.
    """

    prefect: Prefect
    file: Path
    patch: pytest.MonkeyPatch

    def write(self, **more: Any) -> None:
        one = {
            "name": "shoes",
            "source": "s3://shoes",
            "catalog": str(self.file.parent / "catalog"),
            "pools": {"scans": "nobody", "others": "nobody"},
            "schedules": {"scan": "5 5 * * *"},
        }
        self.file.write_text(json.dumps({"version": 1, "collections": [one | more]}))

    def deploy(self, folder: str = "/first", **choices: Any) -> dict[str, str]:
        """Full name to what was done with it, what was kept included."""
        self.patch.setenv("DAM_DEDUP_HOME", folder)
        lines = bootstrap(choices=Choices(file=self.file, **choices))
        told: dict[str, str] = {}
        name = ""
        for line in lines:
            if line.startswith(" "):
                told[name] += line
                continue
            parts = line[11:].split(": ")
            name = ": ".join(parts[:2])  # a deployment's name has one of these itself
            told[name] = ": ".join([line[:10].strip(), *parts[2:]])
        return told

    def all(self) -> dict[str, Any]:
        flows = {one["id"]: one["name"] for one in self.prefect.post("/flows/filter", {})}
        found = self.prefect.post("/deployments/filter", {})
        return {f"{flows[d['flow_id']]}/{d['name']}": d for d in found}

    def one(self, name: str = SCHEDULED) -> dict[str, Any]:
        return dict(self.all()[name])

    def change(self, name: str, **fields: Any) -> None:
        path = f"/deployments/{self.one(name)['id']}"
        self.prefect.http.patch(path, json=fields).raise_for_status()

    def reschedule(self, name: str, cron: str, *, active: bool = True, added: str = "") -> None:
        """Change the one schedule of a deployment, and add one, as the UI does: without a slug."""
        found = self.one(name)
        path = f"/deployments/{found['id']}/schedules"
        fields = {"schedule": {"cron": cron, "timezone": "UTC"}, "active": active}
        answer = self.prefect.http.patch(f"{path}/{found['schedules'][0]['id']}", json=fields)
        answer.raise_for_status()
        if added:
            more = {"schedule": {"cron": added, "timezone": "Europe/Berlin"}, "active": True}
            self.prefect.post(path, [more])  # type: ignore[arg-type]

    def crons(self, name: str = SCHEDULED) -> list[tuple[str, bool]]:
        return sorted((s["schedule"]["cron"], s["active"]) for s in self.one(name)["schedules"])


@pytest.fixture
def deployer(servers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployer]:
    for name, value in servers.env.items():
        monkeypatch.setenv(name, value)
    made = Deployer(Prefect(servers.env["PREFECT_API_URL"]), tmp_path / "c.yaml", monkeypatch)
    made.write()
    before = set(made.all())
    yield made
    for name, found in made.all().items():
        if name not in before:
            made.prefect.http.delete(f"/deployments/{found['id']}")
    for kept in made.prefect.post("/variables/filter", {}):
        if "shoes" in kept["name"] or "boots" in kept["name"]:
            made.prefect.http.delete(f"/variables/{kept['id']}")
    for found in made.prefect.post("/automations/filter", {}):
        if "Shoes" in found["name"]:
            made.prefect.http.delete(f"/automations/{found['id']}")


def folder(found: dict[str, Any]) -> str:
    return str(next(iter(found["pull_steps"][0].values()))["directory"])


def test_two_folders_and_changes_in_the_ui_between_nothing_is_lost(deployer: Deployer) -> None:
    first = deployer.deploy("/first")
    assert set(first.values()) >= {"created"}
    ids = {name: found["id"] for name, found in deployer.all().items() if "Shoes" in name}
    assert len(ids) == 12
    assert {s for n, s in deployer.deploy("/first").items() if n in ids} == {"left alone"}

    deployer.reschedule(SCHEDULED, "1 1 * * *", active=False, added="2 2 * * *")
    deployer.change(SCHEDULED, parameters={"request": {"where": "size > 9"}})
    deployer.change("incremental-scan/Shoes: scan now", parameters={"request": {"dry_run": True}})
    paused = "merge-approved/Shoes: merge what is approved"
    deployer.change(paused, paused=True)
    changed = {name: deployer.one(name) for name in ids}

    with pytest.raises(DeployError, match=r"(?s)Shoes: scan on schedule \(of the folder /first\)"):
        deployer.deploy("/second")
    assert {name: deployer.one(name) for name in ids} == changed, "refused means untouched"

    dry = deployer.deploy("/second", adopt=True, dry_run=True)
    assert dry[SCHEDULED].startswith("changed: folder")
    assert {name: deployer.one(name) for name in ids} == changed, "a dry run changes nothing"

    for place in ("/second", "/first", "/first"):
        told = deployer.deploy(place, adopt=True)
        assert (
            "kept as it is in the UI: schedules 2 2 * * * Europe/Berlin, 1 1 *" in told[SCHEDULED]
        )
        assert "kept as it is in the UI: paused" in told[paused]
        assert {n: f["id"] for n, f in deployer.all().items() if "Shoes" in n} == ids
        assert {folder(deployer.one(name)) for name in ids} == {place}
        assert deployer.crons() == [("1 1 * * *", False), ("2 2 * * *", True)]
        assert deployer.one()["parameters"] == {"request": {"where": "size > 9"}}
        assert deployer.one("incremental-scan/Shoes: scan now")["parameters"]["request"] == {
            "dry_run": True
        }
        assert deployer.one(paused)["paused"]

    told = deployer.deploy("/first", reset_schedules=True)
    assert "kept" not in "".join(told.values())
    assert deployer.crons() == [("5 5 * * *", True)]
    assert deployer.one()["parameters"] == {"request": {}}
    assert not deployer.one(paused)["paused"]


@pytest.mark.long
def test_what_the_file_says_anew_is_taken_where_nobody_changed_it(deployer: Deployer) -> None:
    deployer.deploy()
    deployer.write(schedules={"scan": ["6 6 * * *", "7 7 * * *"]}, owners="anna@example.org")
    told = deployer.deploy()
    assert told[SCHEDULED] == "changed: schedules, settings"
    assert deployer.crons() == [("6 6 * * *", True), ("7 7 * * *", True)]
    env = deployer.one()["job_variables"]["env"]
    assert env["DAM_DEDUP_MAIL__TO"] == '["anna@example.org"]'
    deployer.write()
    deployer.deploy()
    assert "DAM_DEDUP_MAIL__TO" not in deployer.one()["job_variables"]["env"]


@pytest.mark.long
def test_a_collection_is_renamed_with_what_was_changed_and_removed_when_asked(
    deployer: Deployer,
) -> None:
    deployer.deploy()
    deployer.reschedule(SCHEDULED, "1 1 * * *", added="2 2 * * *")
    deployer.change(SCHEDULED, paused=True)
    deployer.write(name="boots", was="shoes")
    told = deployer.deploy()
    new = SCHEDULED.replace("Shoes", "Boots")
    assert told[new].startswith(f"renamed: was {SCHEDULED}")
    assert not any("Shoes" in name for name in deployer.all())
    assert deployer.crons(new) == [("1 1 * * *", True), ("2 2 * * *", True)]
    assert deployer.one(new)["paused"]

    deployer.write(name="other-shoes")
    told = deployer.deploy()
    assert told[new] == "left over"
    assert new in deployer.all(), "nothing is removed unasked"
    deployer.deploy(prune=True)
    assert not any("Boots" in name for name in deployer.all())


@pytest.mark.long
def test_what_a_release_before_deployed_is_taken_over_with_its_schedule(
    deployer: Deployer,
) -> None:
    flow = deployer.prefect.post("/flows/", {"name": "full-scan"})["id"]
    step = {"prefect.deployments.steps.set_working_directory": {"directory": "/first"}}
    old = {
        "name": "scheduled",
        "flow_id": flow,
        "tags": ["dam-dedup"],
        "pull_steps": [step],
        "parameters": {"request": {"kind": "full", "fq": ["-format:gif"]}},
        "schedules": [{"schedule": {"cron": "3 3 * * 6", "timezone": "UTC"}, "active": True}],
    }
    deployer.prefect.post("/deployments/", old)
    new = "full-scan/Shoes: full scan on schedule"
    told = deployer.deploy()
    assert told[new].startswith("renamed: was full-scan/scheduled")
    assert deployer.crons(new) == [("3 3 * * 6", True)]
    assert deployer.one(new)["parameters"] == {"request": {"advanced": {"fq": ["-format:gif"]}}}
    assert "full-scan/scheduled" not in deployer.all()


@pytest.mark.long
def test_an_operator_is_told_by_the_server_alone(
    deployer: Deployer, servers: Any, webhook: tuple[str, list[str]]
) -> None:
    address, said = webhook
    deployer.patch.setenv("DAM_OPS", address)
    deployer.write(
        notifications={
            "to": "ops@example.test",
            "webhook": "$DAM_OPS",
            "scan_hours": 0.004,
            "late_minutes": 0.2,
        }
    )
    deployer.deploy()
    again = deployer.deploy()
    assert not any("alarm" in name and "Shoes" in name for name in again), "nothing changed"
    run = deployer.prefect.post(f"/deployments/{deployer.one()['id']}/create_flow_run", {})["id"]
    # Nobody takes this one: there is no worker. After 15 s the server calls it late.
    deployer.prefect.post(f"/deployments/{deployer.one()['id']}/create_flow_run", {})
    failed = {"type": "FAILED", "name": "Failed", "message": "the policy is wrong"}
    deployer.prefect.post(f"/flow_runs/{run}/set_state", {"state": failed, "force": True})
    low = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "dam-dedup.scan.coverage-low",
        "resource": {"prefect.resource.id": "dam-dedup.collection.shoes"},
        "payload": {"said": "119 of 500 images were read"},
    }
    deployer.prefect.http.post("/events", json=[low]).raise_for_status()
    wanted = ("a run failed", "less than 95%", "no scan has finished", "a run has waited for")
    until(lambda: all(any(words in one for one in said) for words in wanted), 120, "four alarms")
    assert all("What to do: " in one for one in said)
    assert any("the policy is wrong" in one for one in said)
    assert any("Shoes: scan on schedule (" in one and "): Late" in one for one in said), said
    assert not any(address in json.dumps(found) for found in deployer.all().values())

    def mailed() -> list[str]:
        files = (servers.dir / "mail").glob("*.eml")
        return [text for one in files if "ops@example.test" in (text := one.read_text())]

    until(lambda: any("119 of 500 images" in text for text in mailed()), 30, "the mail")
