"""What has to change on a Prefect server, and what people changed there and stays.

What was deployed the last time is remembered in a Prefect variable of each collection, as digests:
a schedule that is no longer what was deployed was changed by somebody in the UI.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from deployments.wanted import STEP, Wanted
from tasks.errors import DamDedupError
from tasks.records import digest

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

#: On every deployment that is ours.
TAG = "dam-dedup"
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


class DeployError(DamDedupError):
    """The deployments cannot be brought up to date as asked."""


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
        ours = TAG in (found.tags or []) and _folders(found.pull_steps) == home
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
    return next((str(step[STEP]["directory"]) for step in steps or () if STEP in step), "")


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
    update = {key: value for key, value in fields_now(one, found) if _of(found, key) != value}
    kept: list[str] = []
    for key, now, then, value in (
        ("schedules", schedule_facts(found), 0, [dict(s) for s in one.schedules]),
        ("parameters", found.parameters, 1, one.parameters),
    ):
        if now == value:
            continue
        untouched = bool(last) and mark_of(now) == last[then]  # type: ignore[index]
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


def fields_now(one: Wanted, found: DeploymentResponse) -> Iterator[tuple[str, Any]]:
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


def schedule_facts(found: DeploymentResponse) -> list[dict[str, Any]]:
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


def mark_of(value: Any) -> str:
    """The digest by which a schedule or parameters are known again."""
    return digest(json.dumps(value, sort_keys=True))[:12]


def variable_of(collection: str) -> str:
    """The Prefect variable that remembers what was deployed for a collection."""
    return "dam_dedup_" + "".join(c if c.isalnum() else "_" for c in collection.lower())


def _remembered(client: SyncPrefectClient, collections: set[str]) -> dict[str, list[str]]:
    """Name of a deployment to the marks of the schedules and parameters that were deployed."""
    found: dict[str, list[str]] = {}
    for one in collections:
        kept = client.read_variable_by_name(variable_of(one))
        found |= kept.value if kept and isinstance(kept.value, dict) else {}
    return found


def titles_gone(changes: Sequence[Change]) -> set[str]:
    """Collections that were deployed from here, by title, and are left over or renamed."""
    now = {change.name for change in changes if change.wanted}
    names = [change.name for change in changes if change.wanted is None]
    names += [word[4:] for change in changes for word in change.what if word.startswith("was ")]
    titles = {name.partition("/")[2].partition(": ")[0] for name in names if ": " in name}
    return titles - {name.partition("/")[2].partition(": ")[0] for name in now}
