"""Deployments as they should be: what is in ``prefect.yaml``, for whom in ``collections.yaml``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from deployments.collection_file import POOL, Collection
from tasks.settings import title_of

PROJECT = Path(__file__).resolve().parents[1]
#: The step of Prefect that names the folder in which a run starts.
STEP = "prefect.deployments.steps.set_working_directory"
_SCANS = ("flows.scan.incremental_scan", "flows.scan.full_scan")
#: Names of the release before, by flow, and what does their work now.
_BEFORE = {
    ("incremental-scan", "scheduled"): "scan on schedule",
    ("incremental-scan", "on-demand"): "scan now",
    ("full-scan", "scheduled"): "full scan on schedule",
    ("full-scan", "on-demand"): "full scan now",
    ("check-keys", "check-keys"): "check uploaded keys",
    ("merge-plan", "on-demand"): "decide on a merge plan",
    ("merge-approved", "scheduled"): "merge what is approved",
    ("undo-merge", "on-demand"): "undo a merge",
    ("empty-quarantine", "on-demand"): "empty quarantine",
    ("give-verdict", "on-demand"): "give a verdict",
    ("check-asset", "on-demand"): "check one image",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A deployment as it should be.

    Attributes:
        flow: the flow's name.
        job: its name without the collection.
        before: names (flow, name) under which it may be known from before.
        fields: what the server is told of it, beside schedules and parameters.
        schedules: slug, cron, timezone, active of each.
    """

    flow: str
    name: str
    job: str
    collection: str
    entrypoint: str
    before: tuple[str, ...]
    fields: dict[str, Any] = field(repr=False)
    schedules: tuple[dict[str, Any], ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """As Prefect names it."""
        return f"{self.flow}/{self.name}"


def wanted_deployments(
    collections: Sequence[Collection], *, filed: bool, home: str = ""
) -> list[Wanted]:
    """Every deployment that these collections should have.

    Args:
        collections: of the file, or the only one.
        filed: whether they are of a file, which then names all of their settings.
        home: the project's folder on the workers; default: this one.
    """
    told = yaml.safe_load((PROJECT / "deployments" / "prefect.yaml").read_text(encoding="utf-8"))
    home = home or os.environ.get("DAM_DEDUP_HOME") or str(PROJECT)
    return [
        _wanted(job, collection, source, filed=filed, home=home, alone=len(collections) == 1)
        for collection in collections
        for job in told["deployments"]
        for source in (_sources(collection) if job["entrypoint"] in _SCANS else ("",))
    ]


def _sources(collection: Collection) -> tuple[str, ...]:
    return collection.source if len(collection.source) > 1 else ("",)


def _wanted(
    job: dict[str, Any], one: Collection, source: str, *, filed: bool, home: str, alone: bool
) -> Wanted:
    module, _, function = job["entrypoint"].rpartition(".")
    flow = getattr(import_module(module), function)
    scan = job["entrypoint"] in _SCANS
    place = f" ({source.rstrip('/').rpartition('/')[2]})" if source else ""
    variables = dict(job["work_pool"]["job_variables"]["env"])
    variables |= one.variables() if filed else {"DAM_DEDUP_COLLECTION": one.name}
    request: dict[str, Any] = {}
    if scan and one.filter:
        request["where"] = one.filter
    if source:
        request["advanced"] = {"source": source}
    limit = job.get("concurrency_limit") or {}
    fields = {
        "description": job["description"],
        "entrypoint": job["entrypoint"],
        "tags": sorted({*job["tags"], f"collection:{one.name}"}),
        "work_pool_name": one.pools.scans if scan else one.pools.others,
        "work_queue_name": one.name if filed else "default",
        "job_variables": {"env": variables},
        "pull_steps": [{STEP: {"directory": home}}],
        "version": version("dam-dedup"),
        "parameter_openapi_schema": form_of(flow),
        "enforce_parameter_schema": True,
        "concurrency_limit": limit.get("limit"),
        "concurrency_options": (
            {"collision_strategy": limit["collision_strategy"]} if limit else None
        ),
    }
    before = [f"{flow.name}/{title_of(one.was)}: {job['name']}{place}"] if one.was else []
    if alone:
        before += [f"{of}/{name}" for (of, name), now in _BEFORE.items() if now == job["name"]]
    return Wanted(
        flow.name,
        f"{one.title}: {job['name']}{place}",
        job["name"],
        one.name,
        job["entrypoint"],
        tuple(before),
        fields,
        tuple(sorted(_schedules(job, one), key=lambda schedule: str(schedule["slug"]))),
        {"request": request} if "request" in job.get("parameters", {}) else {},
    )


def form_of(flow: Any) -> dict[str, Any]:
    """The form of a flow's parameters, as the Prefect UI draws it.

    Prefect takes the parameter's name for its title, and gives no other way to set one. People
    read the title of the form's frame, so a phrase stands there.
    """
    from prefect.utilities.callables import parameter_schema

    form = {name: part for name, part in parameter_schema(flow).model_dump().items() if part}
    for part in form.get("properties", {}).values():
        said = part.get("description", "")
        part |= {"title": "What to do", "description": said[:1].upper() + said[1:]}
    return form


def _schedules(job: dict[str, Any], one: Collection) -> Iterator[dict[str, Any]]:
    for told in job.get("schedules", []):
        lines = getattr(one.schedules, told["slug"])
        for number, cron in enumerate(lines):
            slug = told["slug"] if not number else f"{told['slug']}_{number + 1}"
            yield {
                "slug": slug,
                "cron": cron,
                "timezone": one.schedules.time_zone,
                "active": True,
            }


def pools_of(wanted: Sequence[Wanted]) -> list[str]:
    """The work pools that deployments need."""
    return sorted({str(one.fields["work_pool_name"]) for one in wanted} or {POOL})
