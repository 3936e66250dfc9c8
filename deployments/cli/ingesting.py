"""The commands of uploads: ``ingest KEY FILE``, ``ingest list`` and ``ingest answer``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.help_pages import INTAKE, Command, Group
from deployments.cli.options import (
    By,
    CatalogUri,
    Json,
    PolicyFile,
    SourceUri,
    pairs,
    policy_of,
    read_settings,
)
from deployments.cli.output import say

if TYPE_CHECKING:
    from tasks.records import Analysis
    from tasks.settings import Settings

#: Exit code of an upload that was rejected, or that waits for an answer.
LEFT_OUT = 4


class _PutUnlessNamed(Group):
    """``ingest KEY FILE`` is ``ingest put KEY FILE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The command line, `put` added where no command is named."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["put", *args]
        return super().parse_args(ctx, args)


ingest_app = typer.Typer(
    cls=_PutUnlessNamed,
    no_args_is_help=True,
    help="Check an upload, decide by policy, and enter it: KEY FILE; and the questions it raised.",
)


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.add_typer(ingest_app, name="ingest", rich_help_panel=INTAKE)


@ingest_app.command(cls=Command)
def put(
    key: Annotated[str, typer.Argument(help="The asset's key, or its id in a gate:// collection.")],
    file: Annotated[Path, typer.Argument(help="The image.")],
    policy: PolicyFile = None,
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
    settings = read_settings(catalog)
    rules, tags = policy_of(settings, policy).for_ingest, pairs(tag, "--tag")
    data = read_image(file, settings)

    from deployments.cli.output import print_json
    from tasks.intake.analyze import Analyzer
    from tasks.intake.check import Checker
    from tasks.intake.ingest import admit

    with Analyzer(settings) as analyzer:
        analysis = analysed(analyzer.analyze([data]), file)
        done = admit(
            settings,
            analysis,
            Checker(settings),
            key,
            source=source,
            policy=rules,
            tags=tags,
            analyzer=analyzer,
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
        say(f"{key}: {done.decision}: {done.reason}")
        for alert in done.alerts:
            say(f"  alert: {alert.as_text()}")
        if done.decision == "ask":
            say(f"  dam-dedup ingest answer {done.id[:12]} add --by NAME, or reject")
    if not done.added:
        raise typer.Exit(LEFT_OUT)


@ingest_app.command("list", cls=Command)
def list_(
    every: Annotated[
        bool, typer.Option("--all", help="Everything that was decided, not only questions.")
    ] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Show the uploads that wait for an answer; with --all, everything that was decided.

    dam-dedup ingest list --all --json
    """
    from deployments.cli.output import print_json
    from tasks.intake.ingest import list_questions, read_admissions

    settings = read_settings(catalog)
    rows = (read_admissions if every else list_questions)(settings).to_dicts()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        say(
            f"{row['admission_id'][:12]} {row['at']:%Y-%m-%d %H:%M} {row['decision']} "
            f"{row['key']}: {row['reason']}"
        )
    if not rows:
        say("nothing was uploaded yet" if every else "no question is open")


@ingest_app.command(cls=Command)
def answer(
    question: Annotated[str, typer.Argument(metavar="ID", help="As `ingest list` shows it.")],
    word: Annotated[str, typer.Argument(metavar="add|reject")],
    by: By,
    catalog: CatalogUri = None,
) -> None:
    """Settle a question: add the upload after all, or leave it out.

    dam-dedup ingest answer 3f0c9d1b add --by anna
    """
    from tasks.intake.ingest import answer as settle

    entered = settle(read_settings(catalog), question, word, by=by)  # type: ignore[arg-type]
    say(f"added as {entered}" if entered else "left out")


def read_image(path: Path, settings: Settings) -> bytes:
    """A file, unless it is larger than any image may be.

    Raises:
        SourceError: when it is, or when it cannot be read.
    """
    from tasks.errors import SourceError

    try:
        if path.stat().st_size > settings.limits.bytes:
            raise SourceError(
                f"{path} has over {settings.limits.bytes} bytes: raise DAM_DEDUP_LIMITS__BYTES"
            )
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from None


def analysed(found: list[Any], path: Path) -> Analysis:
    """What the analysis of one file gave.

    Raises:
        SourceError: when it is no picture.
    """
    from tasks.errors import SourceError

    if isinstance(found[0], Exception):
        raise SourceError(f"{path} gives no picture: {found[0]}")
    return found[0]  # type: ignore[no-any-return]
