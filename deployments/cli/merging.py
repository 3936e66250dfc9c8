"""The commands that write to the bucket: ``merge`` and ``undo``."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.help_pages import MERGE, add
from deployments.cli.options import By, CatalogUri, Groups, Json, PlanId, read_settings, split


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    add(app, MERGE, merge, undo)


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

        dam-dedup merge latest --dry-run

        dam-dedup merge latest --by anna
    """
    settings, chosen = read_settings(catalog), split(groups)

    from deployments.cli.merge_output import show_merge
    from deployments.cli.output import print_json, progress_bars
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
    from deployments.cli.output import print_json, progress_bars
    from tasks.merging.rules.plans import as_data
    from tasks.merging.undo import undo_merge

    with progress_bars() as progress:
        outcomes = undo_merge(settings, target, by=by, dry_run=dry_run, progress=progress)
    if as_json:
        print_json([as_data(one) for one in outcomes])
    else:
        show_undo(outcomes)
    if any(one.state in {"left", "failed"} for one in outcomes):
        raise typer.Exit(1)
