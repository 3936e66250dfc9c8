"""Carry out what was planned on a Prefect server, and remember what was deployed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deployments.changes import TAG, Change, fields_now, mark_of, schedule_facts, variable_of
from deployments.wanted import Wanted

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


def carry_out(client: SyncPrefectClient, changes: Sequence[Change], *, prune: bool = False) -> None:
    """Do what was planned, and remember it.

    Args:
        client: of the server.
        changes: of :func:`deployments.changes.plan_changes`.
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
    env = {key: value for key, value in fields_now(one, old) if key in ("tags", "job_variables")}
    _create(
        client,
        replace(one, fields=one.fields | env),
        update.get("schedules", schedule_facts(old)),
        update.get("parameters", old.parameters),
        paused=bool(update.get("paused", old.paused)),
    )
    client.delete_deployment(old.id)


def _remember(client: SyncPrefectClient, changes: Sequence[Change], *, whole: bool) -> None:
    """Keep the marks of what is deployed now; where not all of it was, those from before too."""
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate

    wanted = [change.wanted for change in changes if change.wanted]
    for collection in {one.collection for one in wanted}:
        name = variable_of(collection)
        marks = {
            one.full_name: [mark_of([dict(s) for s in one.schedules]), mark_of(one.parameters)]
            for one in wanted
            if one.collection == collection
        }
        there = client.read_variable_by_name(name)
        if there is not None and not whole and isinstance(there.value, dict):
            marks = there.value | marks
        if there is None:
            client.create_variable(VariableCreate(name=name, value=marks, tags=[TAG]))
        elif there.value != marks:
            client.update_variable(VariableUpdate(name=name, value=marks, tags=[TAG]))
