"""The commands ``backup`` and ``restore``: a copy of the catalog, and back again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.help_pages import OPERATE, add
from deployments.cli.options import CatalogUri, Json, read_settings
from deployments.cli.output import print_json, say

if TYPE_CHECKING:
    from tasks.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    add(app, OPERATE, backup, restore)


def backup(
    to: Annotated[str, typer.Argument(help="A new folder, or s3://bucket/prefix.")],
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Copy the catalog as it is at this moment; scans and merges may go on meanwhile.

    dam-dedup backup /backups/catalog-monday
    """
    settings = read_settings(catalog)
    done = _copy(settings, settings.catalog.uri, to)
    if as_json:
        print_json({"from": settings.catalog.uri, "to": to, "tables": done})
    else:
        say(f"{to}: {len(done)} tables with {sum(done.values()):,} rows")


def restore(
    backed_up: Annotated[str, typer.Argument(metavar="FROM", help="What `backup` has made.")],
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Copy a backup to where the catalog is to be, and where there is none yet.

    What was merged since the backup is in the buckets themselves: recover brings it in.

        dam-dedup restore /backups/catalog-monday

        dam-dedup recover --source s3://photos
    """
    settings = read_settings(catalog)
    done = _copy(settings, backed_up, settings.catalog.uri)
    if as_json:
        print_json({"from": backed_up, "to": settings.catalog.uri, "tables": done})
        return
    say(f"{settings.catalog.uri}: {len(done)} tables with {sum(done.values()):,} rows")
    say("for what was merged since the backup: dam-dedup recover --source s3://BUCKET")


def _copy(settings: Settings, one: str, other: str) -> dict[str, int]:
    from pathlib import Path

    from tasks.catalog.backup import copy_catalog
    from tasks.errors import CatalogError
    from tasks.session import open_catalog
    from tasks.sources.s3 import storage_options

    # Looked for first: to open a catalog makes one where there is none.
    if not one.startswith("s3://") and not (Path(one) / "about.lance").is_dir():
        raise CatalogError(f"there is no whole catalog at {one}")
    place = settings.catalog.model_copy(update={"uri": one})
    opened = open_catalog(settings.model_copy(update={"catalog": place}), migrate=False)
    options = storage_options(settings.s3) if other.startswith("s3://") else None
    return copy_catalog(opened, other, options, settings.catalog.busy_seconds)
