"""Options that several commands share, and the settings, filters and policies they lead to.

Nothing here imports a library of numbers or models: a mistake in an option is told before those
are loaded, which takes seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tasks.merging.rules.policy import Policy
    from tasks.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
CatalogUri = Annotated[
    str | None,
    typer.Option("--catalog", help="Folder or s3://bucket/prefix [DAM_DEDUP_CATALOG__URI]."),
]
SourceUri = Annotated[
    str,
    typer.Option("--source", help="s3://..., a folder, or gate://NAME [DAM_DEDUP_SOURCE__URI]."),
]
By = Annotated[str, typer.Option("--by", help="Who; kept on record in the audit.")]
Comment = Annotated[str, typer.Option(help="Why; kept on record in the audit.")]
PlanId = Annotated[str, typer.Argument(metavar="PLAN", help="A plan's id, or how it begins.")]
ShownPlan = Annotated[
    str, typer.Argument(metavar="PLAN", help="A plan's id, how it begins, or `latest`.")
]
PlanOnly = Annotated[str, typer.Argument(metavar="[PLAN]", help="Of this plan only.")]
Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--groups", "-g", help="Only these groups; may be given more than once, or comma-separated."
    ),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", help="Policy file (YAML) [DAM_DEDUP_MERGE__POLICY]."),
]


def read_settings(catalog: str | None) -> Settings:
    """The settings, with the catalog of the command line where one is given.

    Raises:
        SettingsError: naming what is wrong with them, or with their block of credentials.
    """
    from tasks.settings import load_settings

    settings = load_settings(**({"catalog": {"uri": catalog}} if catalog else {}))
    if settings.logs.format == "json":
        from tasks.delivery.logs import log_as_json

        log_as_json()
    if settings.s3.credentials_block:  # a block lives on a Prefect server
        from tasks.steps import with_credentials

        return with_credentials(settings)
    return settings


def check_filters(*wheres: str, fq: list[str] | None = None) -> str:
    """The filters as one, checked; empty for none.

    Raises:
        FilterError: with the offending column or construct.
    """
    if not fq and not any(text.strip() for text in wheres):
        return ""
    from tasks.catalog.filters import join_filters
    from tasks.catalog.fq import fq_to_sql

    return join_filters(*wheres, fq_to_sql(fq or []))


def policy_of(settings: Settings, file: Path | None) -> Policy:
    """The policy of the command line, else of the settings, else the one that only reports.

    Raises:
        PolicyError: when it is wrong, a filter in it included.
    """
    from tasks.merging.policy_file import read_policy
    from tasks.merging.rules.policy import default_policy

    path = file or settings.merge.policy
    return default_policy() if path is None else read_policy(path)


def split(names: list[str] | None) -> list[str]:
    """Names given more than once, or with commas between them.

    Raises:
        MergeError: when the option was given and names nothing, as an unset variable does: it
            must not mean all of them.
    """
    from tasks.errors import MergeError

    found = [part.strip() for name in names or [] for part in name.split(",") if part.strip()]
    if names and not found:
        raise MergeError("--groups names no group")
    return found


def pairs(given: list[str] | None, option: str) -> dict[str, str]:
    """``NAME=VALUE``, given any number of times.

    Raises:
        SettingsError: when a name or the sign is missing.
    """
    from tasks.errors import SettingsError

    found = {}
    for text in given or []:
        name, sign, value = text.partition("=")
        if not name or not sign:
            raise SettingsError(f"{option} {text!r}: write NAME=VALUE")
        found[name] = value
    return found


def read_bytes(name: str, most: int | None = None) -> bytes:
    """A file, or standard input for ``-``.

    Args:
        name: the file.
        most: read no more than this; None for all of it.

    Raises:
        SettingsError: when it cannot be read.
    """
    from tasks.errors import SettingsError

    if name == "-":
        return sys.stdin.buffer.read(-1 if most is None else most)
    try:
        with Path(name).open("rb") as file:
            return file.read(-1 if most is None else most)
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"cannot read {name!r}: {text}") from None
