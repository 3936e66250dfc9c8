"""The commands of the catalog itself: ``catalog show`` and ``catalog migrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.help_pages import OPERATE, Command, Group
from deployments.cli.options import CatalogUri, Json, read_settings
from deployments.cli.output import print_json, say

if TYPE_CHECKING:
    from tasks.catalog.catalog import Catalog

catalog_app = typer.Typer(
    cls=Group,
    help="The catalog itself: what it holds, and its migration from an older release.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.add_typer(catalog_app, name="catalog", rich_help_panel=OPERATE)


@catalog_app.command(cls=Command)
def show(catalog: CatalogUri = None, as_json: Json = False) -> None:
    """Show the schema's version, the tables with their rows, and whether a migration is due.

    Nothing is written: a catalog of an older release stays as it is.

        dam-dedup catalog show
    """
    opened = _look(catalog)
    standing = opened.standing
    tables = opened.tables()
    if as_json:
        state = {
            "catalog": opened.uri,
            "schema": standing.version,
            "release": standing.release,
            "migrating_from": standing.migrating_from,
            "stage": standing.stage,
            "up_to_date": opened.up_to_date,
            "tables": tables,
        }
        print_json(state)
        return
    made = f", last migrated by release {standing.release}" if standing.release else ""
    say(f"{opened.uri}: schema {standing.version}{made}")
    for name, rows in tables.items():
        say(f"  {name:<44} {rows:>12,} rows")
    if not opened.up_to_date:
        say("a migration is due; see: dam-dedup catalog migrate --dry-run")


@catalog_app.command(cls=Command)
def migrate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")
    ] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Bring the catalog of an older release into the form of this one.

    Any command that opens such a catalog does the same. A migration that was stopped is carried on
    by the next one; what was there is kept until it has succeeded.

        dam-dedup catalog migrate --dry-run
    """
    opened = _look(catalog)
    before = opened.standing.migrating_from or opened.standing.version
    lines = opened.pending()
    done = [] if dry_run or not lines else opened.migrate()
    if as_json:
        told: dict[str, Any] = {
            "catalog": opened.uri,
            "from": before,
            "to": opened.target,
            "changes": lines,
            "done": done,
        }
        print_json(told)
        return
    if not lines:
        say(f"{opened.uri} has schema {before}, this release's: nothing to do")
        return
    say(f"{opened.uri}: schema {before} to {opened.target}")
    for line in lines:
        say(f"  {line}")
    say("nothing was written (--dry-run)" if dry_run else "done")


def _look(catalog: str | None) -> Catalog:
    from tasks.session import open_catalog

    return open_catalog(read_settings(catalog), migrate=False)
