"""The commands of the embedding model: ``model show``, ``model prepare`` and ``model remove``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from deployments.cli.help_pages import OPERATE, Command, Group
from deployments.cli.options import CatalogUri, Json, read_settings
from deployments.cli.output import print_json, progress_bars, say

model_app = typer.Typer(
    cls=Group,
    help="The embedding model: which there are in a catalog, and how it is changed.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.add_typer(model_app, name="model", rich_help_panel=OPERATE)


@model_app.command(cls=Command)
def show(catalog: CatalogUri = None, as_json: Json = False) -> None:
    """Show every model that has vectors in the catalog, and how many pictures lack one.

    dam-dedup model show
    """
    from tasks.intake.spaces import list_spaces

    found = list_spaces(read_settings(catalog))
    if as_json:
        print_json([one.as_dict() for one in found])
        return
    for one in found:
        used = ", of the last scan" if one.scanned else ""
        lacking = f"{one.lacking:,} pictures lack one" if one.lacking else "complete"
        say(f"{one.space[:12]}  {one.model} ({one.revision[:12]}, {one.preprocessing}){used}")
        say(f"{'':<12}  {one.vectors:,} vectors of {one.dim} dimensions, {lacking}")


@model_app.command(cls=Command)
def prepare(
    model: Annotated[str, typer.Argument(help="As DAM_DEDUP_EMBEDDING__MODEL would name it.")],
    revision: Annotated[
        str | None, typer.Option(help="Revision of a Hugging Face model: branch, tag or commit.")
    ] = None,
    pooling: Annotated[
        str, typer.Option(help="auto, cls, mean, gem or pooler, as DAM_DEDUP_EMBEDDING__POOLING.")
    ] = "auto",
    image_size: Annotated[
        int | None, typer.Option(help="Side of the model's input in pixels; default: the model's.")
    ] = None,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Embed all pictures with another model, while the present one goes on serving.

    Scans, checks and merges may go on. It may be stopped, and carries on when it is called again.
    Once it says that it is complete, let the settings name the new model (here and on the workers).

        dam-dedup model prepare facebook/dinov2-base
    """
    from pydantic import ValidationError

    from tasks.errors import SettingsError
    from tasks.intake.spaces import prepare_space
    from tasks.settings import EmbeddingSettings

    settings = read_settings(catalog)
    given = {
        "model": model,
        "revision": revision,
        "pooling": pooling,
        "image_size": image_size,
    }
    try:
        chosen = EmbeddingSettings.model_validate(settings.embedding.model_dump() | given)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"--{first['loc'][0]}: {first['msg']}") from error
    with progress_bars() as progress:
        done = prepare_space(settings, chosen, progress)
    if as_json:
        print_json(
            {
                "space": done.space.id,
                "embedded": done.embedded,
                "missing": done.missing,
                "blocklist_without_vector": done.unblocked,
            }
        )
        return
    say(f"{done.space.id[:12]}  {done.space.model}: {done.embedded:,} pictures embedded")
    if done.unblocked:
        say(
            f"{done.unblocked:,} entries of the blocklist are of pictures that are gone: with this "
            "model they are known by their bytes and pixels alone; block them again from a file"
        )
    if done.missing:
        say(f"{done.missing:,} pictures could not be read; call it again, or see the log (-v)")
    else:
        say(f"complete; now set {' '.join(_variables(given))}, then scan")


def _variables(given: Mapping[str, object]) -> list[str]:
    return [
        f"DAM_DEDUP_EMBEDDING__{name.upper()}={value}"
        for name, value in given.items()
        if value is not None
    ]


@model_app.command(cls=Command)
def remove(
    space: Annotated[str, typer.Argument(help="Id of the vectors, as `model show` begins.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")
    ] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Remove the vectors of a model that is no longer used, and all lists made of them.

    The model of the settings, and that of the last scan, are refused.

        dam-dedup model remove 3f9a12cc0b71 --dry-run
    """
    from tasks.intake.spaces import remove_space

    gone = remove_space(read_settings(catalog), space, dry_run=dry_run)
    if as_json:
        print_json(gone.as_dict() | {"dry_run": dry_run})
        return
    verb = "would be removed (--dry-run)" if dry_run else "removed"
    say(f"{gone.space[:12]}  {gone.model}: {gone.vectors:,} vectors {verb}")
