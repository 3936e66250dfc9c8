"""The commands that run everything on one machine: ``demo`` and ``stack``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from deployments.cli.help_pages import OPERATE, Command, Group, add
from deployments.cli.options import Json
from deployments.cli.output import warn

stack_app = typer.Typer(
    cls=Group,
    help="The local stack: S3, Prefect server and worker, mail sink.",
    no_args_is_help=True,
)
Dir = Annotated[Path, typer.Option("--dir", help="Folder of the stack's data, logs and state.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    add(app, OPERATE, demo)
    app.add_typer(stack_app, name="stack", rich_help_panel=OPERATE)


@stack_app.command("up", cls=Command)
def stack_up(folder: Dir = Path("var/stack")) -> None:
    """Start it in the background, wait until ready, print the export lines a shell needs.

    eval "$(dam-dedup stack up --dir var/stack)"
    """
    from deployments.local import stack

    for line in stack.export_lines(stack.up(folder, say=warn)):
        typer.echo(line)


@stack_app.command("down", cls=Command)
def stack_down(folder: Dir = Path("var/stack")) -> None:
    """Stop all of it.

    dam-dedup stack down --dir var/stack
    """
    from deployments.local import stack

    stack.down(folder, say=warn)


@stack_app.command("status", cls=Command)
def stack_status(folder: Dir = Path("var/stack"), as_json: Json = False) -> None:
    """Say what runs; exit code 1 when something does not.

    dam-dedup stack status --json
    """
    from deployments.local import stack

    rows = stack.status(folder)
    if as_json:
        typer.echo(json.dumps([row.as_dict() for row in rows], indent=1))
    else:
        for row in rows:
            typer.echo(row.as_text())
        if not rows:
            typer.echo(f"no stack in {folder}; start one with: dam-dedup stack up --dir {folder}")
    if not rows or not all(row.alive for row in rows):
        raise typer.Exit(1)


def demo(
    images: Annotated[
        Path | None, typer.Option(help="A folder of your own; default: photos made on the spot.")
    ] = None,
    folder: Dir = Path("var/demo"),
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the stack running, to look around in it.")
    ] = False,
) -> None:
    """Run the whole product once, on a local S3 server, Prefect server, worker and mail server.

    dam-dedup demo --images ~/Pictures --keep
    """
    from deployments.local.demo import run_demo

    run_demo(folder, images=images, keep=keep, say=typer.echo)
