"""The commands of merge plans: ``plan list``, ``plan make`` and ``plan show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.help_pages import MERGE, Command, Group
from deployments.cli.options import (
    CatalogUri,
    Json,
    PolicyFile,
    ShownPlan,
    policy_of,
    read_settings,
)

if TYPE_CHECKING:
    from tasks.settings import Settings

plan_app = typer.Typer(cls=Group, no_args_is_help=False, invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.add_typer(plan_app, name="plan", rich_help_panel=MERGE)


@plan_app.callback()
def plan(context: typer.Context) -> None:
    """Merge plans: what the policy would do, before anything is done. Lists them by default."""
    if context.invoked_subcommand is None:
        list_plans(None, False)


@plan_app.command("list", cls=Command)
def list_plans(catalog: CatalogUri = None, as_json: Json = False) -> None:
    """List the plans there are, the newest last.

    dam-dedup plan list --json | jq '.[-1].plan_id'
    """
    from deployments.cli.output import print_json
    from tasks.merging.journal import list_plans as read
    from tasks.session import open_catalog

    found = read(open_catalog(read_settings(catalog)))
    if as_json:
        print_json(found.to_dicts())
        return
    if found.is_empty():
        typer.echo("no plan yet; make one with: dam-dedup plan make --policy FILE")
    for row in found.iter_rows(named=True):
        typer.echo(
            f"{row['plan_id']}  {row['made']:%Y-%m-%d %H:%M}  {row['groups']:>5} groups  "
            f"{row['source']}  {row['policy']}"
        )


@plan_app.command("make", cls=Command)
def make(
    policy: PolicyFile = None,
    keeper: Annotated[
        list[str] | None, typer.Option(help="GROUP=KEY: another keeper for a group.")
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(help="GROUP:FIELD=VALUE: which value of a field wins, as tags.owner=north."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also groups that were rejected or undone before.")
    ] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Plan the merges of the last scan's groups. Nothing is written to the bucket.

    dam-dedup plan make --policy policy.yaml

    dam-dedup plan make --policy policy.yaml --keeper g41c=masters/a.tif
    """
    settings = read_settings(catalog)
    chosen, keepers, values = policy_of(settings, policy), _keepers(keeper), _values(value)

    from deployments.cli.output import progress_bars
    from tasks.merging.plan import plan_merges
    from tasks.reporting.summarize import last_scan

    scan, space, _, _ = last_scan(settings)
    with progress_bars() as progress:
        made = plan_merges(
            scan, space, chosen, keepers=keepers, values=values, again=again, progress=progress
        )
    _show_plan(settings, made.id, as_json=as_json, full=False)


@plan_app.command("show", cls=Command)
def show(
    plan_id: ShownPlan,
    catalog: CatalogUri = None,
    as_json: Json = False,
    full: Annotated[bool, typer.Option("--full", help="Every operation as well.")] = False,
) -> None:
    """Show a plan: each group's keeper and why, metadata merge, questions, operations, state.

    dam-dedup plan show latest --full
    """
    _show_plan(read_settings(catalog), plan_id, as_json=as_json, full=full)


def _show_plan(settings: Settings, plan_id: str, *, as_json: bool, full: bool) -> None:
    from deployments.cli.merge_output import plan_data, show_plan
    from deployments.cli.output import print_json
    from tasks.merging.journal import read_decisions, read_events, read_plan
    from tasks.session import open_catalog

    catalog = open_catalog(settings)
    found = read_plan(catalog, plan_id)
    data = plan_data(found, read_decisions(catalog, found), read_events(catalog, found))
    if as_json:
        print_json(data)
    else:
        show_plan(found, data, operations=full)


def _values(given: list[str] | None) -> dict[str, dict[str, str]]:
    from tasks.errors import MergeError

    found: dict[str, dict[str, str]] = {}
    for text in given or []:
        group, colon, rest = text.partition(":")
        field, sign, value = rest.partition("=")
        if not (group and colon and field and sign and value):
            raise MergeError(f"--value {text!r}: write GROUP:FIELD=VALUE")
        found.setdefault(group, {})[field] = value
    return found


def _keepers(given: list[str] | None) -> dict[str, str]:
    from tasks.errors import MergeError

    found = {}
    for text in given or []:
        group, sign, key = text.partition("=")
        if not (group and sign and key):
            raise MergeError(f"--keeper {text!r}: write GROUP=KEY")
        found[group] = key
    return found
