"""The commands of the quarantine: ``quarantine list`` and ``quarantine empty``."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.help_pages import MERGE, Command, Group
from deployments.cli.options import By, CatalogUri, Json, PlanOnly, read_settings

quarantine_app = typer.Typer(
    cls=Group, help="What merges moved aside, and its emptying.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.add_typer(quarantine_app, name="quarantine", rich_help_panel=MERGE)


@quarantine_app.command("list", cls=Command)
def list_objects(plan_id: PlanOnly = "", catalog: CatalogUri = None, as_json: Json = False) -> None:
    """List what is in quarantine, and until when it is kept.

    dam-dedup quarantine list 4f1c
    """
    from deployments.cli.merge_output import show_quarantine
    from deployments.cli.output import print_json
    from tasks.merging.quarantine import list_quarantine
    from tasks.merging.rules.plans import as_data

    found = list_quarantine(read_settings(catalog), plan_id)
    if as_json:
        print_json([as_data(entry) for entry in found])
    else:
        show_quarantine(found)


@quarantine_app.command("empty", cls=Command)
def empty(
    by: By,
    plan_id: PlanOnly = "",
    early: Annotated[
        bool,
        typer.Option(
            "--early",
            help="Also what has not been there for as long as the policy says; asks again.",
        ),
    ] = False,
    confirm: Annotated[
        str, typer.Option(help="With --early: the plan's id once more, instead of being asked.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed.")] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Remove for good what has been in quarantine long enough. This cannot be undone.

    dam-dedup quarantine empty --by anna --dry-run
    """
    settings = read_settings(catalog)

    from deployments.cli.merge_output import show_quarantine
    from deployments.cli.output import print_json, progress_bars, warn
    from flows.receipts import mail_purge
    from tasks.errors import MergeError
    from tasks.merging.quarantine import empty_quarantine
    from tasks.merging.rules.plans import as_data

    if early and not dry_run and confirm != plan_id:
        said = typer.prompt("this cannot be undone; type the plan's id to go on", err=True)
        if said.strip() != plan_id:
            raise MergeError("nothing was removed")
    with progress_bars() as progress:
        found = empty_quarantine(
            settings, by=by, plan_id=plan_id, early=early, dry_run=dry_run, progress=progress
        )
    if as_json:
        print_json([as_data(entry) for entry in found])
    else:
        show_quarantine(found)
    if unsent := mail_purge(settings, found, by=by):
        warn(unsent)
    if any(entry.state == "failed" for entry in found):
        raise typer.Exit(1)
