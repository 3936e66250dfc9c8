"""The commands of whoever runs it: ``settings``, ``doctor`` and ``deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.cli.help_pages import OPERATE, add
from deployments.cli.options import CatalogUri, Json
from deployments.cli.output import print_json, say, warn


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    add(app, OPERATE, settings, doctor, deploy)


def settings(
    effective: Annotated[
        bool,
        typer.Option(
            "--effective", help="Show what is in force, and where each value came from, instead."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """List every setting's variable, with its meaning and default; or what is in force.

    dam-dedup settings > .env.example

    dam-dedup settings --effective
    """
    from tasks.settings import variables

    if effective:
        _show_effective(as_json=as_json)
        return
    known = variables()
    if as_json:
        print_json(known)
        return
    for name, meaning in known.items():
        typer.echo(f"# {meaning}\n#{name}=")


def doctor(
    source: Annotated[str | None, typer.Option(help="Check this source as well.")] = None,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Check settings, storage, catalog, model, mail and Prefect, each with a remedy.

    Exit code 1 when something that is configured does not work.

        dam-dedup doctor --source s3://dam/photos
    """
    from deployments.doctor import examine

    findings = []
    for finding in examine(source, catalog):
        findings.append(finding)
        if not as_json:
            for line in finding.as_text().split("\n"):
                say(line)
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


def deploy(
    wait: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds to wait for a server that is starting.")
    ] = 0,
    collections: Annotated[
        Path | None,
        typer.Option(help="File of collections [collections.yaml in this folder, if it is there]."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    reset_schedules: Annotated[
        bool,
        typer.Option(
            "--reset-schedules",
            help="Take schedules, pauses and parameters from the file, whatever was changed in the "
            "UI.",
        ),
    ] = False,
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="Take over what another folder or a newer release deployed."),
    ] = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Remove what is left over of collections that are gone."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(help="Let a worker of each pool look at its setup afterwards."),
    ] = True,
) -> None:
    """Bring work pools, deployments and alarms of a Prefect server up to date.

    It may be run again at any time: schedules, pauses and parameters that somebody changed in the
    UI stay as they are.

        PREFECT_API_URL=http://localhost:4200/api dam-dedup deploy --dry-run

        dam-dedup deploy --collections collections.yaml
    """
    from deployments.bootstrap import Choices, bootstrap

    choices = Choices(
        file=collections,
        dry_run=dry_run,
        reset_schedules=reset_schedules,
        adopt=adopt,
        prune=prune,
        check=check,
    )
    for line in bootstrap(say=warn, wait=wait, choices=choices):
        say(line)
    if dry_run:
        warn("nothing was changed: this was a dry run")


def _show_effective(*, as_json: bool) -> None:
    from deployments.cli.effective_settings import effective_settings

    values = effective_settings()
    if as_json:
        print_json([one.as_dict() for one in values])
        return
    place = ""
    for one in sorted(values, key=lambda one: one.origin == "default"):
        if one.origin != "default":
            say(f"{one.name}={one.value}    # {one.origin}")
            continue
        if not place:
            typer.echo("\n# defaults")
            place = "defaults"
        say(f"{one.name}={one.value}")
