"""The command ``audit``: who decided what, what was done, and what it saved."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.help_pages import HISTORY, add
from deployments.cli.options import CatalogUri, Json, read_settings


def register(app: typer.Typer) -> None:
    """Add the command to the program's."""
    add(app, HISTORY, audit)


def audit(
    catalog: CatalogUri = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    savings: Annotated[
        bool, typer.Option("--savings", help="The ledger of bytes and cost instead.")
    ] = False,
) -> None:
    """Show who decided what, and what was done, in order; or what it saved.

    dam-dedup audit --csv > audit.csv

    dam-dedup audit --savings
    """
    settings = read_settings(catalog)

    from deployments.cli.merge_output import show_audit, show_savings
    from deployments.cli.output import print_json
    from tasks.csv_cells import frame_csv
    from tasks.merging.audit import read_audit
    from tasks.reporting.savings import read_savings

    if savings:
        ledger = read_savings(settings)
        if as_json:
            print_json(ledger)
        else:
            show_savings(ledger)
        return
    events = read_audit(settings)
    if as_csv:
        typer.echo(frame_csv(events).decode(), nl=False)
    elif as_json:
        print_json(events.to_dicts())
    else:
        show_audit(events)
