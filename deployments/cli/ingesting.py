"""The commands of what comes in: ingest, blocklist, alerts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from deployments.cli.options import CatalogUri, Json, read_settings

if TYPE_CHECKING:
    from tasks.merging.rules.ingest_policy import IngestPolicy
    from tasks.records import Analysis
    from tasks.settings import Settings

#: Exit code of an upload that was rejected, or that waits for an answer.
LEFT_OUT = 4


class _PutUnlessNamed(TyperGroup):
    """``ingest KEY FILE`` is ``ingest put KEY FILE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["put", *args]
        return super().parse_args(ctx, args)


ingest_app = typer.Typer(
    cls=_PutUnlessNamed,
    no_args_is_help=True,
    help="Check an upload, decide by policy, and enter it: KEY FILE; and the questions it raised.",
)
blocklist_app = typer.Typer(
    help="What must not come in, known by hashes and vectors; no image is kept.",
    no_args_is_help=True,
)

SourceUri = Annotated[
    str,
    typer.Option("--source", help="s3://..., a folder, or gate://NAME [DAM_DEDUP_SOURCE__URI]."),
]
By = Annotated[str, typer.Option("--by", help="Who; kept on record.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.add_typer(ingest_app, name="ingest")
    app.add_typer(blocklist_app, name="blocklist")
    app.command()(alerts)


# ---- ingest ----------------------------------------------------------------------------------


@ingest_app.command()
def put(
    key: Annotated[str, typer.Argument(help="The asset's key, or its id in a gate:// collection.")],
    file: Annotated[Path, typer.Argument(help="The image.")],
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Policy file [DAM_DEDUP_MERGE__POLICY].")
    ] = None,
    source: SourceUri = "",
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="NAME=VALUE, of a gate:// asset; repeatable.")
    ] = None,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Check a file against the collection and let the policy decide: reject, link, ask, add ...

    Without a policy everything is added, and what it matches is told. Exit code 4: it was left
    out.

        dam-dedup ingest --policy policy.yaml --source gate://shop 4711 photo.jpg
    """
    from deployments.cli.output import print_json
    from tasks.intake.analyze import Analyzer
    from tasks.intake.check import Checker
    from tasks.intake.ingest import admit

    settings = read_settings(catalog)
    with Analyzer(settings) as analyzer:
        analysis = _analysed(analyzer.analyze([_read(file, settings)]), file)
        done = admit(
            settings,
            analysis,
            Checker(settings),
            key,
            source=source,
            policy=_policy(settings, policy),
            tags=_pairs(tag or []),
        )
    if as_json:
        print_json(
            {
                "id": done.id,
                "decision": done.decision,
                "key": key,
                "asset_id": done.asset_id,
                "rule": done.rule,
                "reason": done.reason,
                "matches": done.checked.total,
                "match": done.match
                and {
                    "key": done.match.key,
                    "score": done.match.score,
                    "tier": done.match.tier,
                    "changes": done.match.changes,
                },
                "alerts": [alert.as_text() for alert in done.alerts],
            }
        )
    else:
        _say(f"{key}: {done.decision}: {done.reason}")
        for alert in done.alerts:
            _say(f"  alert: {alert.as_text()}")
        if done.decision == "ask":
            _say(f"  dam-dedup ingest answer {done.id[:12]} add --by NAME, or reject")
    if not done.added:
        raise typer.Exit(LEFT_OUT)


@ingest_app.command("list")
def list_(
    every: Annotated[
        bool, typer.Option("--all", help="Everything that was decided, not only questions.")
    ] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Show the uploads that wait for an answer; with --all, everything that was decided."""
    from deployments.cli.output import print_json
    from tasks.intake.ingest import list_questions, read_admissions

    settings = read_settings(catalog)
    rows = (read_admissions if every else list_questions)(settings).to_dicts()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        _say(
            f"{row['admission_id'][:12]} {row['at']:%Y-%m-%d %H:%M} {row['decision']} "
            f"{row['key']}: {row['reason']}"
        )
    if not rows:
        _say("nothing was uploaded yet" if every else "no question is open")


@ingest_app.command()
def answer(
    question: Annotated[str, typer.Argument(metavar="ID", help="As `ingest list` shows it.")],
    word: Annotated[str, typer.Argument(metavar="add|reject")],
    by: By,
    catalog: CatalogUri = None,
) -> None:
    """Settle a question: add the upload after all, or leave it out."""
    from tasks.intake.ingest import answer as settle

    entered = settle(read_settings(catalog), question, word, by=by)  # type: ignore[arg-type]
    _say(f"added as {entered}" if entered else "left out")


# ---- blocklist -------------------------------------------------------------------------------


@blocklist_app.command()
def add(
    names: Annotated[
        list[str], typer.Argument(metavar="FILE|KEY...", help="Images, or assets of the catalog.")
    ],
    reason: Annotated[str, typer.Option(help="Why; told with every alert.")],
    rule: Annotated[str, typer.Option(help="A name for the kind of trouble: rights, stock, fake.")],
    by: By,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Put images on the blocklist: files, or assets by key or id.

    Scans and uploads are held against it from now on, and what is in the catalog by the next scan.
    """
    from deployments.cli.output import print_json
    from tasks.intake.analyze import Analyzer
    from tasks.intake.blocklist import block, block_asset

    settings = read_settings(catalog)
    entries = {}
    with Analyzer(settings) as analyzer:
        for name in names:
            path = Path(name)
            if path.is_file():
                analysis = _analysed(analyzer.analyze([_read(path, settings)]), path)
                entry = block(settings, analysis, reason=reason, rule=rule, by=by, name=path.name)
            else:
                entry = block_asset(settings, name, reason=reason, rule=rule, by=by)
            entries[name] = entry
            if not as_json:
                _say(f"{entry[:12]} {name}")
    if as_json:
        print_json(entries)


@blocklist_app.command("list")
def list_blocklist(
    removed: Annotated[
        bool, typer.Option("--removed", help="Also entries that were taken off.")
    ] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Show the entries."""
    from deployments.cli.output import print_json
    from tasks.intake.blocklist import list_blocked

    rows = list_blocked(read_settings(catalog), removed=removed).to_dicts()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        gone = f", taken off by {row['removed_by']}" if row["removed_at"] else ""
        _say(
            f"{row['entry_id'][:12]} {row['at']:%Y-%m-%d} {row['rule']}: {row['name']}: "
            f"{row['reason']} ({row['by']}{gone})"
        )
    if not rows:
        _say("the blocklist is empty")


@blocklist_app.command()
def remove(
    entry: Annotated[str, typer.Argument(metavar="ID", help="As `blocklist list` shows it.")],
    by: By,
    catalog: CatalogUri = None,
) -> None:
    """Take an entry off the blocklist; that it was there stays on record."""
    from tasks.intake.blocklist import unblock

    _say(f"{unblock(read_settings(catalog), entry, by=by)[:12]} is off the blocklist")


def alerts(catalog: CatalogUri = None, as_json: Json = False) -> None:
    """Show every alert: rule, pair and evidence, in the order in which they came."""
    from deployments.cli.output import print_json
    from tasks.intake.alerts import alert_of, read_alerts
    from tasks.session import open_catalog

    rows = read_alerts(open_catalog(read_settings(catalog))).to_dicts()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        _say(f"{row['at']:%Y-%m-%d %H:%M} {row['door']} {alert_of(row).as_text()}")
    if not rows:
        _say("no alert was raised")


# ---- what they share -------------------------------------------------------------------------


def _say(text: str) -> None:
    """Print words in which keys, names and reasons of strangers stand."""
    from reports.words import shown_key

    typer.echo(shown_key(text))


def _policy(settings: Settings, file: Path | None) -> IngestPolicy:
    from tasks.merging.plan import read_policy
    from tasks.merging.rules.policy import default_policy

    path = file or settings.merge.policy
    return (read_policy(path) if path else default_policy()).for_ingest


def _read(path: Path, settings: Settings) -> bytes:
    """A file, unless it is larger than any image may be."""
    try:
        if path.stat().st_size > settings.limits.bytes:
            _wrong(f"{path} has over {settings.limits.bytes} bytes: raise DAM_DEDUP_LIMITS__BYTES")
        return path.read_bytes()
    except OSError as error:
        _wrong(f"cannot read {path}: {error}")
        raise  # never: _wrong exits


def _analysed(found: list[Any], path: Path) -> Analysis:
    if isinstance(found[0], Exception):
        _wrong(f"{path} gives no picture: {found[0]}")
    return found[0]  # type: ignore[no-any-return]


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = dict(text.partition("=")[::2] for text in given)
    if "" in pairs or any("=" not in text for text in given):
        _wrong("--tag takes NAME=VALUE")
    return pairs


def _wrong(text: str) -> None:
    print(f"dam-dedup: {text}", file=sys.stderr)  # noqa: T201
    raise typer.Exit(1)
