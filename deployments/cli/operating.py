"""The commands of whoever runs it: ``settings``, ``doctor`` and ``deploy``."""

from __future__ import annotations

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
) -> None:
    """Create work pool, automation and deployments on the Prefect server of PREFECT_API_URL.

    It may be run again at any time.

        PREFECT_API_URL=http://localhost:4200/api dam-dedup deploy --wait 60
    """
    from deployments.bootstrap import bootstrap

    for name in bootstrap(say=warn, wait=wait):
        typer.echo(name)


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
