"""Bring the deployments of a Prefect server up to date, and leave alone what people changed there.

What is deployed is in ``prefect.yaml``, for whom in ``collections.yaml``. What this made the last
time is remembered in a Prefect variable, as digests: a schedule that is no longer what was deployed
was changed by somebody in the UI, and stays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from deployments.collection_file import POOL, Collection
from tasks.errors import DamDedupError
from tasks.records import digest
from tasks.settings import title_of

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

PROJECT = Path(__file__).resolve().parents[1]
_STEP = "prefect.deployments.steps.set_working_directory"
_TAG = "dam-dedup"
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


class DeployError(DamDedupError):
    """The deployments cannot be brought up to date as asked."""


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


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one deployment.

    Attributes:
        state: ``created``, ``changed``, ``left alone``, ``renamed`` or ``left over``.
        what: the fields that change.
        kept: what is left as somebody changed it in the UI.
    """

    name: str
    state: str
    what: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    wanted: Wanted | None = field(default=None, repr=False)
    there: Any = field(default=None, repr=False)
    update: dict[str, Any] = field(default_factory=dict, repr=False)

    def lines(self) -> list[str]:
        """For people: the deployment, and what was changed in the UI and stays."""
        what = f": {', '.join(self.what)}" if self.what else ""
        return [
            f"{self.state:<10} {self.name}{what}",
            *(f"{'':<10}   kept as it is in the UI: {one}" for one in self.kept),
        ]


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
    from prefect.utilities.callables import parameter_schema

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
        "pull_steps": [{_STEP: {"directory": home}}],
        "version": version("dam-dedup"),
        "parameter_openapi_schema": {
            name: part for name, part in parameter_schema(flow).model_dump().items() if part
        },
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


def plan_changes(
    client: SyncPrefectClient,
    wanted: Sequence[Wanted],
    *,
    reset: bool = False,
    adopt: bool = False,
) -> list[Change]:
    """What has to be done on a server, without doing it.

    Args:
        client: of the server.
        wanted: what should be there.
        reset: take schedules, pauses and parameters from the file even where somebody changed them.
        adopt: take over what another folder or a newer release deployed.

    Raises:
        DeployError: naming what belongs to others.
    """
    flows = {flow.id: flow.name for flow in _all(client.read_flows)}
    there = {f"{flows[d.flow_id]}/{d.name}": d for d in _all(client.read_deployments)}
    known = _remembered(client, {one.collection for one in wanted})
    changes, used, foreign = [], set[str](), list[str]()
    for one in wanted:
        name = next((n for n in (one.full_name, *one.before) if n in there), None)
        if name is None:
            changes.append(Change(one.full_name, "created", wanted=one))
            continue
        used.add(name)
        found = there[name]
        if (whose := _stranger(found, one)) and not adopt:
            foreign.append(f"{name} {whose}")
        changes.append(_change(one, found, name, known.get(name), reset=reset))
    if foreign:
        raise DeployError(
            "these deployments belong to others:\n  "
            + "\n  ".join(foreign)
            + "\nnothing was changed. Deploy from there, give the collection another name, or take "
            "them over with --adopt: what was changed in the UI stays either way"
        )
    home = next(iter(_folders(one.fields["pull_steps"]) for one in wanted), "")
    for name, found in sorted(there.items()):
        ours = _TAG in (found.tags or []) and _folders(found.pull_steps) == home
        if ours and name not in used:
            changes.append(Change(name, "left over", there=found))
    return changes


def _all(read: Callable[..., list[Any]]) -> Iterator[Any]:
    """All rows of a listing that the server gives in pages."""
    offset = 0
    while page := read(limit=200, offset=offset):
        yield from page
        offset += len(page)


def _folders(steps: Sequence[dict[str, Any]] | None) -> str:
    """The folder that a deployment's runs start in; empty where none is named."""
    return next((str(step[_STEP]["directory"]) for step in steps or () if _STEP in step), "")


def _stranger(found: DeploymentResponse, wanted: Wanted) -> str:
    """Whose a deployment is that we would change, if not ours."""
    here, place = _folders(wanted.fields["pull_steps"]), _folders(found.pull_steps)
    if place and place != here:
        return f"(of the folder {place})"
    release, ours = str(found.version or ""), str(wanted.fields["version"])
    if _numbers(release) > _numbers(ours):
        return f"(of the release {release}, newer than this one, {ours})"
    return ""


def _numbers(release: str) -> tuple[int, ...]:
    parts = release.split(".")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()


def _change(
    one: Wanted,
    found: DeploymentResponse,
    name: str,
    last: list[str] | None,
    *,
    reset: bool,
) -> Change:
    update = {key: value for key, value in _now(one, found) if _of(found, key) != value}
    kept: list[str] = []
    for key, now, then, value in (
        ("schedules", _schedule_facts(found), 0, [dict(s) for s in one.schedules]),
        ("parameters", found.parameters, 1, one.parameters),
    ):
        if now == value:
            continue
        untouched = bool(last) and _mark(now) == last[then]  # type: ignore[index]
        if untouched or reset:
            update[key] = value
        elif key == "parameters" and not _accepted(one, found.parameters):
            moved = _moved(one, found.parameters)
            update[key] = value if moved is None else moved
            if moved is None:
                kept.append(f"no: parameters {_short(now)} do not fit the form any more")
        else:
            kept.append(f"{key} {_short(now)}, where the file says {_short(value)}")
    if found.paused and reset:
        update["paused"] = False
    elif found.paused:
        kept.append("paused")
    state = "renamed" if name != one.full_name else "changed" if update else "left alone"
    what = (f"was {name}",) if state == "renamed" else ()
    return Change(
        one.full_name,
        state,
        (*what, *sorted(_WORDS.get(key, key) for key in update)),
        tuple(kept),
        one,
        found,
        update,
    )


_WORDS = {
    "job_variables": "settings",
    "pull_steps": "folder",
    "version": "release",
    "parameter_openapi_schema": "form",
    "work_pool_name": "work pool",
    "work_queue_name": "work queue",
    "concurrency_limit": "limit",
    "concurrency_options": "when the limit is reached",
}


def _now(one: Wanted, found: DeploymentResponse) -> Iterator[tuple[str, Any]]:
    """The fields as they should be; what others added to tags and variables stays."""
    for key, value in one.fields.items():
        if key == "tags":
            others = {tag for tag in found.tags or [] if not tag.startswith("collection:")}
            yield key, sorted({*value, *others})
        elif key == "job_variables":
            there = dict(found.job_variables or {})
            env = {
                name: text
                for name, text in dict(there.get("env") or {}).items()
                if not name.startswith("DAM_DEDUP_")
            }
            yield key, there | {"env": env | value["env"]}
        else:
            yield key, value


def _of(found: DeploymentResponse, key: str) -> Any:
    if key == "concurrency_limit":
        held = found.global_concurrency_limit
        return held.limit if held else None
    if key == "concurrency_options":
        options = found.concurrency_options
        if options is None:
            return None
        return {"collision_strategy": str(options.collision_strategy.value)}
    if key == "tags":
        return sorted(found.tags or [])
    value = getattr(found, key)
    if key == "parameter_openapi_schema" and value is not None:
        told = value if isinstance(value, dict) else value.model_dump()
        return {name: part for name, part in told.items() if part}
    return value


def _schedule_facts(found: DeploymentResponse) -> list[dict[str, Any]]:
    """The schedules that a deployment has, as :class:`Wanted` writes them."""
    facts = []
    for one in found.schedules or []:
        told = one.schedule.model_dump(mode="json")
        fact = {"slug": one.slug, "timezone": told.pop("timezone", None), "active": one.active}
        fact |= {"cron": told["cron"]} if "cron" in told else {"other": json.dumps(told)}
        facts.append(fact | ({"parameters": one.parameters} if one.parameters else {}))
    return sorted(facts, key=lambda fact: str(fact["slug"] or ""))


def _accepted(one: Wanted, parameters: dict[str, Any]) -> bool:
    """Whether the form takes parameters as they are; none at all are no parameters to take."""
    from prefect.utilities.schema_tools.validation import ValidationError, validate

    schema = dict(one.fields["parameter_openapi_schema"])
    try:
        validate(parameters, schema, raise_on_error=True, ignore_required=True)
    except ValidationError:
        return False
    return True


def _moved(one: Wanted, parameters: dict[str, Any]) -> dict[str, Any] | None:
    """Parameters of an older form as today's form has them; None where it has no place for them."""
    from pydantic import BaseModel, ValidationError

    module, _, function = one.entrypoint.rpartition(".")
    try:
        read = getattr(import_module(module), function).validate_parameters(parameters)
    except (ValidationError, ValueError, TypeError):
        return None
    return {
        name: value.model_dump(mode="json", exclude_defaults=True)
        if isinstance(value, BaseModel)
        else value
        for name, value in read.items()
        if name in parameters
    }


def _short(value: Any) -> str:
    if isinstance(value, list):
        return (
            ", ".join(
                f"{one.get('cron', one.get('other'))} {one['timezone']}"
                + ("" if one["active"] else " (off)")
                for one in value
            )
            or "none"
        )
    return json.dumps(value)


def carry_out(client: SyncPrefectClient, changes: Sequence[Change], *, prune: bool = False) -> None:
    """Do what was planned, and remember it.

    Args:
        client: of the server.
        changes: of :func:`plan_changes`.
        prune: remove the deployments that are left over.
    """
    done: list[Change] = []
    try:
        for change in changes:
            if change.wanted is None:
                if prune:
                    client.delete_deployment(change.there.id)
            elif change.state == "created":
                _create(client, change.wanted, change.wanted.schedules, change.wanted.parameters)
            elif change.state == "renamed":
                _rename(client, change)
            elif change.update:
                _update(client, change.there.id, change.update)
            done.append(change)
    finally:  # what was done before the server refused is not to be taken for somebody's change
        _remember(client, done, whole=len(done) == len(changes))


def _create(
    client: SyncPrefectClient,
    one: Wanted,
    schedules: Sequence[dict[str, Any]],
    parameters: dict[str, Any],
    *,
    paused: bool = False,
) -> None:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyOptions

    flow = client.create_flow_from_name(one.flow)
    fields = dict(one.fields)
    options = fields.pop("concurrency_options")
    client.create_deployment(
        flow,
        one.name,
        **fields,
        concurrency_options=ConcurrencyOptions.model_validate(options) if options else None,
        # One that was added in the UI has no slug, and the server wants all or none to have one.
        schedules=[
            DeploymentScheduleCreate.model_validate(
                _as_told(s | {"slug": s["slug"] or f"added_{n}"})
            )
            for n, s in enumerate(schedules)
        ],
        parameters=parameters,
        paused=paused,
    )


def _update(client: SyncPrefectClient, deployment: Any, update: dict[str, Any]) -> None:
    from prefect.client.schemas.actions import DeploymentUpdate

    told = dict(update)
    if "schedules" in told:
        told["schedules"] = [_as_told(schedule) for schedule in told["schedules"]]
    client.update_deployment(deployment, DeploymentUpdate.model_validate(told))


def _as_told(schedule: dict[str, Any]) -> dict[str, Any]:
    """A schedule as the server wants it."""
    told = json.loads(schedule["other"]) if "other" in schedule else {"cron": schedule["cron"]}
    return {
        "schedule": told | {"timezone": schedule["timezone"]},
        "active": schedule["active"],
        "slug": schedule["slug"],
        "parameters": schedule.get("parameters") or {},
    }


def _rename(client: SyncPrefectClient, change: Change) -> None:
    """Make the deployment anew under its new name, as the old one was; then remove that one."""
    one, old, update = change.wanted, change.there, change.update
    assert one is not None  # noqa: S101 - a deployment is renamed to something
    env = {key: value for key, value in _now(one, old) if key in ("tags", "job_variables")}
    _create(
        client,
        replace(one, fields=one.fields | env),
        update.get("schedules", _schedule_facts(old)),
        update.get("parameters", old.parameters),
        paused=bool(update.get("paused", old.paused)),
    )
    client.delete_deployment(old.id)


# ---- what was deployed the last time ----------------------------------------------------------


def _mark(value: Any) -> str:
    return digest(json.dumps(value, sort_keys=True))[:12]


def _variable(collection: str) -> str:
    return "dam_dedup_" + "".join(c if c.isalnum() else "_" for c in collection.lower())


def _remembered(client: SyncPrefectClient, collections: set[str]) -> dict[str, list[str]]:
    """Name of a deployment to the marks of the schedules and parameters that were deployed."""
    found: dict[str, list[str]] = {}
    for one in collections:
        kept = client.read_variable_by_name(_variable(one))
        found |= kept.value if kept and isinstance(kept.value, dict) else {}
    return found


def _remember(client: SyncPrefectClient, changes: Sequence[Change], *, whole: bool) -> None:
    """Keep the marks of what is deployed now; where not all of it was, those from before too."""
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate

    wanted = [change.wanted for change in changes if change.wanted]
    for collection in {one.collection for one in wanted}:
        name = _variable(collection)
        marks = {
            one.full_name: [_mark([dict(s) for s in one.schedules]), _mark(one.parameters)]
            for one in wanted
            if one.collection == collection
        }
        there = client.read_variable_by_name(name)
        if there is not None and not whole and isinstance(there.value, dict):
            marks = there.value | marks
        if there is None:
            client.create_variable(VariableCreate(name=name, value=marks, tags=[_TAG]))
        elif there.value != marks:
            client.update_variable(VariableUpdate(name=name, value=marks, tags=[_TAG]))


def pools_of(wanted: Sequence[Wanted]) -> list[str]:
    """The work pools that deployments need."""
    return sorted({str(one.fields["work_pool_name"]) for one in wanted} or {POOL})


def titles_gone(changes: Sequence[Change]) -> set[str]:
    """Collections that were deployed from here, by title, and are left over or renamed."""
    now = {change.name for change in changes if change.wanted}
    names = [change.name for change in changes if change.wanted is None]
    names += [word[4:] for change in changes for word in change.what if word.startswith("was ")]
    titles = {name.partition("/")[2].partition(": ")[0] for name in names if ": " in name}
    return titles - {name.partition("/")[2].partition(": ")[0] for name in now}
