"""Options that several commands share, and the settings they lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tasks.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
CatalogUri = Annotated[
    str | None,
    typer.Option("--catalog", help="Folder or s3://bucket/prefix [DAM_DEDUP_CATALOG__URI]."),
]


def read_settings(catalog: str | None) -> Settings:
    """The settings, with the catalog of the command line where one is given.

    Raises:
        SettingsError: naming what is wrong with them, or with their block of credentials.
    """
    from tasks.settings import load_settings

    settings = load_settings(**({"catalog": {"uri": catalog}} if catalog else {}))
    if settings.s3.credentials_block:  # a block lives on a Prefect server
        from tasks.steps import with_credentials

        return with_credentials(settings)
    return settings
