"""The commands ``merge`` and ``undo``, which write to the bucket, and ``recover``."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.help_pages import MERGE, add
from deployments.cli.options import By, CatalogUri, Groups, Json, PlanId, read_settings, split


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    add(app, MERGE, merge, undo, recover)


def merge(
    plan_id: PlanId,
    by: By = "cli",
    groups: Groups = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look at everything, write nothing.")
    ] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Carry out what is approved of a plan. A run that was stopped is taken up by the next.

    Exit code 1 when a group was refused or failed.

        dam-dedup merge 4f1c --dry-run

        dam-dedup merge 4f1c --by anna
    """
    settings, chosen = read_settings(catalog), split(groups)

    from deployments.cli.merge_output import show_merge
    from deployments.cli.output import print_json, progress_bars, warn
    from flows.receipts import mail_merge
    from tasks.merging.merge import merge_plan
    from tasks.merging.rules.plans import as_data

    with progress_bars() as progress:
        outcome = merge_plan(
            settings, plan_id, by=by, groups=chosen, dry_run=dry_run, progress=progress
        )
    if as_json:
        print_json(as_data(outcome))
    else:
        show_merge(outcome)
    if unsent := mail_merge(settings, outcome, by=by):
        warn(unsent)
    if not outcome.complete:
        raise typer.Exit(1)


def undo(
    target: Annotated[str, typer.Argument(help="PLAN, PLAN/GROUP, PLAN/GROUP/NUMBER, or GROUP.")],
    by: By,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be undone.")] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Put back what a merge did: bytes, keys, tags, user metadata and sidecars.

    What changed since is left as it is, and said; exit code 1 then.

        dam-dedup undo 4f1c/g41c --by anna --dry-run
    """
    settings = read_settings(catalog)

    from deployments.cli.merge_output import show_undo
    from deployments.cli.output import print_json, progress_bars, warn
    from flows.receipts import mail_undo
    from tasks.merging.rules.plans import as_data
    from tasks.merging.undo import undo_merge

    with progress_bars() as progress:
        outcomes = undo_merge(settings, target, by=by, dry_run=dry_run, progress=progress)
    if as_json:
        print_json([as_data(one) for one in outcomes])
    else:
        show_undo(outcomes)
    if unsent := mail_undo(settings, outcomes, by=by):
        warn(unsent)
    if any(one.state in {"left", "failed"} for one in outcomes):
        raise typer.Exit(1)


def recover(
    source: Annotated[str, typer.Option("--source", help="s3://bucket that was merged in.")],
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Rebuild plans, quarantine and undo from the bucket alone, when the catalog was lost.

    Every merge keeps its plan and its steps below .dam-dedup/journal/ in the bucket. What the
    catalog knows stays as it is.

        dam-dedup recover --source s3://photos
    """
    settings = read_settings(catalog)

    from deployments.cli.output import print_json
    from tasks.merging.recover import recover as rebuild
    from tasks.merging.rules.plans import as_data

    found = rebuild(settings, source)
    if as_json:
        print_json(as_data(found))
    else:
        typer.echo(
            f"{len(found.plans)} plans with {found.events} events: undo and quarantine work as "
            "before; scan to know the assets again"
        )
        for text in found.unreadable:
            typer.echo(f"  not read: {text}")
    if found.unreadable:
        raise typer.Exit(1)
