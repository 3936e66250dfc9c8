"""The console command ``dam-dedup``."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from deployments.bench.calibrate import calibrate_app
from deployments.bench.command import bench_app
from deployments.cli import checking, ingesting, merging
from deployments.cli import events as following
from deployments.cli.options import CatalogUri, Json, read_settings
from deployments.gate import command as gate_command
from tasks.errors import DamDedupError

app = typer.Typer(
    name="dam-dedup",
    help="Find duplicate images in a digital asset management system's storage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 the work failed; 2 wrong usage or settings; "
    "3 done, but some images could not be read (scan --strict); "
    "4 an upload was left out (ingest).",
)
stack_app = typer.Typer(
    help="The local stack: S3, Prefect server and worker, mail sink.", no_args_is_help=True
)
app.add_typer(stack_app, name="stack")

app.add_typer(bench_app, name="bench")
app.add_typer(calibrate_app, name="calibrate")
checking.register(app)
merging.register(app)
ingesting.register(app)
following.register(app)
gate_command.register(app)

Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for the documents [DAM_DEDUP_DELIVERY__FOLDER/<scan>]."),
]


def main() -> None:
    """Run the command; errors raised on purpose become one clear message."""
    from tasks.errors import FilterError, PolicyError, SettingsError

    try:
        app()
    except (SettingsError, FilterError, PolicyError) as error:
        _fail(error, 2)
    except DamDedupError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        print("interrupted; what was embedded and matched is kept", file=sys.stderr)  # noqa: T201
        sys.exit(130)


def _fail(error: Exception, code: int) -> None:
    from reports.words import shown_key

    text = "\n".join(shown_key(line) for line in str(error).split("\n"))
    print(f"dam-dedup: {text}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


@app.callback()
def options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what is done, on standard error.")
    ] = False,
) -> None:
    """Find duplicate images in a digital asset management system's storage."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


@app.command()
def scan(
    kind: Annotated[
        str, typer.Option(help="incremental: what is new against everything; full: everything.")
    ] = "incremental",
    source: Annotated[
        str | None,
        typer.Option(help="s3://bucket/prefix or a folder [DAM_DEDUP_SOURCE__URI]."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Filter, e.g. \"label = 'shoes' and size > 100000\"; several all hold."),
    ] = None,
    fq: Annotated[
        list[str] | None,
        typer.Option(help='Filter query, e.g. "-format:gif"; several all hold.'),
    ] = None,
    across: Annotated[
        str,
        typer.Option(help="Filter of the other side: only pairs between the two are looked for."),
    ] = "",
    threshold: Annotated[
        float | None, typer.Option(help="Lowest score reported, 0.5 to 1 (default 0.7).")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="How candidates are searched for: auto, exact, balanced or speed "
            "[DAM_DEDUP_MATCH__MODE]."
        ),
    ] = None,
    catalog: CatalogUri = None,
    out: Out = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="No mail, nothing written to the bucket.")
    ] = False,
    refresh_metadata: Annotated[
        bool, typer.Option("--refresh-metadata", help="Read all tags and metadata again.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 when an image could not be read.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Scan a bucket or a folder for duplicates; no Prefect server is needed.

    The first scan embeds every image; later ones only what is new. A scan that was stopped goes
    on where it was.

        dam-dedup scan --kind full --source s3://dam/photos --out var/out

        dam-dedup scan --source ./pictures --where "size > 50000" --json | jq .groups

        dam-dedup scan --fq tags.agency:north --across "prefix = 'archive/'"
    """
    from pydantic import ValidationError

    from deployments.cli.scan_output import progress_bars, show_outcome
    from flows.order import run_scan
    from tasks import stages
    from tasks.catalog.filters import join_filters
    from tasks.errors import SettingsError
    from tasks.records import ScanRequest

    settings = read_settings(catalog)
    try:
        request = ScanRequest.model_validate(
            {
                "kind": kind,
                "source": source or "",
                "where": join_filters(*where or []),
                "fq": fq or [],
                "across": across,
                "threshold": threshold,
                "mode": mode,
                "dry_run": dry_run,
                "refresh_metadata": refresh_metadata,
            }
        )
    except ValidationError as error:
        wrong = "; ".join(f"--{e['loc'][0]}: {e['msg']}" for e in error.errors())
        raise SettingsError(wrong.replace("_", "-")) from None
    with progress_bars() as progress:
        outcome = run_scan(stages, request, settings, progress=progress, folder=out)
    show_outcome(outcome, as_json=as_json)
    if strict and outcome.summary.coverage.failed:
        raise typer.Exit(3)


@app.command()
def report(
    scan_id: Annotated[
        str | None, typer.Argument(help="A scan's id; default: the last finished scan.")
    ] = None,
    catalog: CatalogUri = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Write the documents of a finished scan again, as they were, without scanning.

    What later scans changed is read from the catalog's old versions, which are kept for
    DAM_DEDUP_CATALOG__KEEP_DAYS; where they are gone, a warning says so.
    """
    from deployments.cli.scan_output import show_outcome, warn_lost
    from flows.order import Outcome, render
    from tasks.reporting.deliver import deliver_documents
    from tasks.reporting.summarize import last_scan, summarize_scan

    settings = read_settings(catalog)
    found, space, counts, finished = last_scan(settings, scan_id)
    summary = summarize_scan(found, space, counts, finished)
    warn_lost(summary.scan_id, summary.lost)
    documents = render(summary)
    receipts = deliver_documents(found, documents, out)
    show_outcome(Outcome(found, summary, receipts, mailed=False), as_json=as_json)


@app.command()
def history(catalog: CatalogUri = None, as_json: Json = False) -> None:
    """List the scans of the catalog: what each found, against the one before, and what was saved.

    dam-dedup history --json | jq '.[-1].duplicates'
    """
    from deployments.cli.scan_output import show_history
    from tasks.reporting.history import read_history

    show_history(read_history(read_settings(catalog)), as_json=as_json)


@app.command()
def settings(as_json: Json = False) -> None:
    """List every setting's variable, with its meaning and default."""
    from tasks.settings import variables

    known = variables()
    if as_json:
        typer.echo(json.dumps(known, indent=1))
        return
    for name, meaning in known.items():
        typer.echo(f"# {meaning}\n#{name}=")


@app.command()
def doctor(
    source: Annotated[str | None, typer.Option(help="Check this source as well.")] = None,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Check settings, storage, catalog, model, mail and Prefect, each with a remedy."""
    from deployments.doctor import examine

    findings = examine(source, catalog)
    if as_json:
        typer.echo(json.dumps([finding.as_dict() for finding in findings], indent=1))
    else:
        for finding in findings:
            typer.echo(finding.as_text())
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


Dir = Annotated[Path, typer.Option("--dir", help="Folder of the stack's data, logs and state.")]


@stack_app.command("up")
def stack_up(folder: Dir = Path("var/stack")) -> None:
    """Start it in the background, wait until ready, print the export lines a shell needs.

    eval "$(dam-dedup stack up --dir var/stack)"
    """
    from deployments.local import stack

    for line in stack.export_lines(stack.up(folder, say=_tell)):
        typer.echo(line)


@stack_app.command("down")
def stack_down(folder: Dir = Path("var/stack")) -> None:
    """Stop all of it."""
    from deployments.local import stack

    stack.down(folder, say=_tell)


@stack_app.command("status")
def stack_status(folder: Dir = Path("var/stack"), as_json: Json = False) -> None:
    """Say what runs; exit code 1 when something does not."""
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


@app.command()
def deploy() -> None:
    """Create work pool, automation and deployments on the Prefect server of PREFECT_API_URL."""
    from deployments.bootstrap import bootstrap

    for name in bootstrap(say=_tell):
        typer.echo(name)


@app.command()
def demo(
    images: Annotated[
        Path | None, typer.Option(help="A folder of your own; default: photos made on the spot.")
    ] = None,
    folder: Dir = Path("var/demo"),
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the stack running, to look around in it.")
    ] = False,
) -> None:
    """Run the whole product once, on a local S3 server, Prefect server, worker and mail server."""
    from deployments.local.demo import run_demo

    run_demo(folder, images=images, keep=keep, say=typer.echo)


def _tell(text: str) -> None:
    typer.echo(text, err=True)


if __name__ == "__main__":
    main()
