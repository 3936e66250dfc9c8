"""The commands of what must not come in: ``blocklist`` and ``alerts``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.cli.help_pages import HISTORY, INTAKE, Command, Group, add
from deployments.cli.ingesting import analysed, read_image
from deployments.cli.options import By, CatalogUri, Json, read_settings
from deployments.cli.output import say

blocklist_app = typer.Typer(
    cls=Group,
    help="What must not come in, known by hashes and vectors; no image is kept.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.add_typer(blocklist_app, name="blocklist", rich_help_panel=INTAKE)
    add(app, HISTORY, alerts)


@blocklist_app.command("add", cls=Command)
def add_entries(
    names: Annotated[
        list[str], typer.Argument(metavar="FILE|KEY...", help="Images, or assets of the catalog.")
    ],
    reason: Annotated[str, typer.Option(help="Why; told with every alert.")],
    rule: Annotated[str, typer.Option(help="A name for the kind of trouble: rights, stock, fake.")],
    by: By,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Put images on the blocklist: files, or assets by key or id.

    Scans and uploads are held against it from now on, and what is in the catalog by the next scan.

        dam-dedup blocklist add stock.jpg --reason "licence ended" --rule rights --by anna
    """
    from deployments.cli.output import print_json
    from tasks.intake.analyze import Analyzer
    from tasks.intake.blocklist import block, block_asset

    settings = read_settings(catalog)
    entries = {}
    with Analyzer(settings) as analyzer:
        for name in names:
            path = Path(name)
            if path.is_file():
                analysis = analysed(analyzer.analyze([read_image(path, settings)]), path)
                entry = block(settings, analysis, reason=reason, rule=rule, by=by, name=path.name)
            else:
                entry = block_asset(settings, name, reason=reason, rule=rule, by=by)
            entries[name] = entry
            if not as_json:
                say(f"{entry[:12]} {name}")
    if as_json:
        print_json(entries)


@blocklist_app.command("list", cls=Command)
def list_blocklist(
    removed: Annotated[
        bool, typer.Option("--removed", help="Also entries that were taken off.")
    ] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Show the entries.

    dam-dedup blocklist list --removed
    """
    from deployments.cli.output import print_json
    from tasks.intake.blocklist import list_blocked

    rows = list_blocked(read_settings(catalog), removed=removed).to_dicts()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        gone = f", taken off by {row['removed_by']}" if row["removed_at"] else ""
        say(
            f"{row['entry_id'][:12]} {row['at']:%Y-%m-%d} {row['rule']}: {row['name']}: "
            f"{row['reason']} ({row['by']}{gone})"
        )
    if not rows:
        say("the blocklist is empty")


@blocklist_app.command(cls=Command)
def remove(
    entry: Annotated[str, typer.Argument(metavar="ID", help="As `blocklist list` shows it.")],
    by: By,
    catalog: CatalogUri = None,
) -> None:
    """Take an entry off the blocklist; that it was there stays on record.

    dam-dedup blocklist remove 3f0c9d1b --by anna
    """
    from tasks.intake.blocklist import unblock

    say(f"{unblock(read_settings(catalog), entry, by=by)[:12]} is off the blocklist")


def alerts(catalog: CatalogUri = None, as_json: Json = False) -> None:
    """Show every alert: rule, pair and evidence, in the order in which they came.

    dam-dedup alerts --json
    """
    from deployments.cli.output import print_json
    from tasks.intake.alerts import alert_of, read_alerts
    from tasks.session import open_catalog

    rows = read_alerts(open_catalog(read_settings(catalog))).to_dicts()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        say(f"{row['at']:%Y-%m-%d %H:%M} {row['channel']} {alert_of(row).as_text()}")
    if not rows:
        say("no alert was raised")
