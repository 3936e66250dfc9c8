"""The console command ``dam-dedup``."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated, Any, TextIO, cast

import typer

from deployments.bench.calibrate import calibrate_app
from deployments.bench.command import bench_app
from deployments.cli import (
    auditing,
    backing_up,
    blocklist,
    catalog,
    checking,
    deciding,
    events,
    ingesting,
    local,
    merging,
    models,
    operating,
    planning,
    policies,
    quarantine,
    scanning,
)
from deployments.cli.help_pages import MEASURE, Group
from deployments.cli.output import Output
from deployments.gate import command as gate_command
from tasks.errors import DamDedupError, FilterError, PolicyError, SettingsError

app = typer.Typer(
    name="dam-dedup",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 the work failed; 2 wrong usage or settings; "
    "3 done, but some images could not be read (scan --strict); "
    "4 an upload was left out (ingest).",
)
for part in (
    scanning,
    checking,
    planning,
    deciding,
    merging,
    quarantine,
    policies,
    gate_command,
    ingesting,
    blocklist,
    events,
    auditing,
    operating,
    catalog,
    models,
    backing_up,
    local,
):
    part.register(app)
app.add_typer(calibrate_app, name="calibrate", rich_help_panel=MEASURE)
app.add_typer(bench_app, name="bench", rich_help_panel=MEASURE)


def main() -> None:
    """Run the command; errors raised on purpose become one clear message."""
    warnings.formatwarning = _one_line
    os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect's client would tell its makers of its use
    os.umask(0o077)  # catalog, reports and state are for nobody else of this machine
    stream = sys.stdout
    output = Output(stream)
    sys.stdout = cast(TextIO, output)
    try:
        sys.exit(_run(output))
    finally:
        sys.stdout = stream


def _run(output: Output) -> int:
    """Exit code of the command."""
    try:
        try:
            app(prog_name="dam-dedup")
        finally:
            output.flush()
    except (SettingsError, FilterError, PolicyError) as error:
        return _fail(error, 2)
    except DamDedupError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        print("interrupted; what was embedded and matched is kept", file=sys.stderr)  # noqa: T201
        return 130
    except (OSError, SystemExit):
        if output.error is None:
            raise
        output.abandon()
        if not isinstance(output.error, BrokenPipeError):  # who closed a pipe wants no more
            why = output.error.strerror
            print(f"dam-dedup: cannot write the output: {why}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _fail(error: Exception, code: int) -> int:
    from reports.words import shown_key

    text = "\n".join(shown_key(line) for line in str(error).split("\n"))
    print(f"dam-dedup: {text}", file=sys.stderr)  # noqa: T201
    return code


def _one_line(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> str:
    """A warning for people has no place in the code; one for programmers keeps its kind."""
    kind = "" if issubclass(category, FutureWarning) else f"{category.__name__}: "
    return f"dam-dedup: warning: {kind}{message}\n"


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"dam-dedup {version('dam-dedup')}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what is done, on standard error.")
    ] = False,
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    collection: Annotated[
        str | None,
        typer.Option(
            "--collection", help="Take the settings of this collection of collections.yaml."
        ),
    ] = None,
) -> None:
    """Find duplicate images in a digital asset management system's storage.

    Begin with a folder of pictures; nothing is changed in it:

        dam-dedup scan --source ./pictures

    Every command tells more, with examples: dam-dedup scan --help
    """
    if collection:
        from deployments.collection_file import use_collection

        use_collection(collection)
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


if __name__ == "__main__":
    main()
