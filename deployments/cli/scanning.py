"""The commands of scans: ``scan``, ``report`` and ``history``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.help_pages import FIND, HISTORY, add
from deployments.cli.options import CatalogUri, Json, check_filters, read_settings

if TYPE_CHECKING:
    from tasks.requests import ScanRequest

Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for the documents [DAM_DEDUP_DELIVERY__FOLDER/<scan>]."),
]
#: Fields of a request whose option has another name.
_OPTIONS = {"across": "reference-where"}


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    add(app, FIND, scan)
    add(app, HISTORY, report, history)


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
    reference_where: Annotated[
        list[str] | None,
        typer.Option(
            help="Filter of the reference side: only pairs between the assets of the filters "
            "above and these are looked for."
        ),
    ] = None,
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

        dam-dedup scan --fq tags.agency:north --reference-where "prefix = 'archive/'"
    """
    settings = read_settings(catalog)
    request = _request(
        {
            "kind": kind,
            "source": source or "",
            "where": check_filters(*where or []),
            "fq": fq or [],
            "across": _one(reference_where, "--reference-where"),
            "threshold": threshold,
            "mode": mode,
            "dry_run": dry_run,
            "refresh_metadata": refresh_metadata,
        }
    )
    check_filters(request.across, fq=request.fq)
    if not (request.source or settings.source.uri):
        raise typer.BadParameter("name what to scan: --source, or set DAM_DEDUP_SOURCE__URI")

    from deployments.cli.output import progress_bars
    from deployments.cli.scan_output import show_outcome
    from flows.order import run_scan

    with progress_bars() as progress:
        outcome = run_scan(request, settings, progress=progress, folder=out)
    show_outcome(outcome, as_json=as_json)
    outcome.check()
    if strict and outcome.summary.coverage.failed:
        raise typer.Exit(3)


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

        dam-dedup report --out var/again

        dam-dedup report 20260301T020000-1f0c9d --json
    """
    settings = read_settings(catalog)

    from deployments.cli.scan_output import show_outcome, warn_lost
    from flows.order import Outcome, render
    from tasks.reporting.deliver import deliver_documents
    from tasks.reporting.summarize import last_scan, summarize_scan

    found, space, counts, finished = last_scan(settings, scan_id)
    summary = summarize_scan(found, space, counts, finished)
    warn_lost(summary.scan_id, summary.lost)
    documents = render(summary)
    receipts = deliver_documents(found, documents, out)
    show_outcome(Outcome(found, summary, receipts, mailed=False), as_json=as_json)


def history(catalog: CatalogUri = None, as_json: Json = False) -> None:
    """List the scans of the catalog: what each found, against the one before, and what was saved.

    Scans that failed are listed too, with what stopped them.

        dam-dedup history

        dam-dedup history --json | jq 'map(select(.state == "finished"))[-1].duplicates'
    """
    settings = read_settings(catalog)

    from deployments.cli.scan_output import show_history
    from tasks.reporting.history import read_history, read_unfinished

    show_history(read_history(settings), read_unfinished(settings), as_json=as_json)


def _request(fields: dict[str, Any]) -> ScanRequest:
    from pydantic import ValidationError

    from tasks.errors import SettingsError
    from tasks.requests import ScanRequest

    try:
        return ScanRequest.model_validate(fields)
    except ValidationError as error:
        wrong = "; ".join(
            f"--{_OPTIONS.get(str(e['loc'][0]), e['loc'][0])}: {e['msg']}" for e in error.errors()
        )
        raise SettingsError(wrong.replace("_", "-")) from None


def _one(given: list[str] | None, option: str) -> str:
    """The value of an option that may stand only once: a second one would silently win."""
    if given and len(given) > 1:
        raise typer.BadParameter("give it once; join filters with AND", param_hint=option)
    return given[0] if given else ""
