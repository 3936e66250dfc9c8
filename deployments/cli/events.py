"""The command ``events``: what webhooks, pipes and queues bring."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.help_pages import INTAKE, add
from deployments.cli.options import CatalogUri, Json, SourceUri, read_settings

if TYPE_CHECKING:
    from tasks.intake.bucket_events import Followed, Follower
    from tasks.sources.sqs import Queue

log = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    """Add the command to the program's."""
    add(app, INTAKE, events)


def events(
    file: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="Notifications as they came; -: from a pipe.")
    ] = "",
    queue: Annotated[
        str, typer.Option(help="URL of an SQS queue: receive, follow, delete, until stopped.")
    ] = "",
    once: Annotated[
        bool, typer.Option("--once", help="With --queue: end when it is empty.")
    ] = False,
    source: SourceUri = "",
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Follow S3 event notifications: check just the keys that they name.

    A message of a queue is deleted once it is followed. What is of another bucket, is no
    notification or cannot be looked at now is left to the queue's redrive policy. Exit code 1:
    something must be delivered again.

        aws sqs receive-message --queue-url URL | dam-dedup events -

        dam-dedup events --queue https://sqs.eu-west-1.amazonaws.com/123456789012/dam
    """
    if bool(file) == bool(queue):
        raise typer.BadParameter("give FILE, or - for standard input, or --queue URL")
    settings = read_settings(catalog)

    from tasks.intake.bucket_events import Follower
    from tasks.sources.events import parse_lines
    from tasks.sources.sqs import Queue

    with Follower(settings, source) as follower:
        if queue:
            drain(Queue(queue, settings.s3), follower, lambda one: _show(one, as_json), once=once)
            return
        found, wrong = parse_lines(_read(file))
        done = follower.follow(found)
    _show(done, as_json)
    for one in wrong:
        log.error("%s; the others are followed", one)
    if wrong or not done.handled:
        raise typer.Exit(1)


def drain(
    queue: Queue, follower: Follower, show: Callable[[Followed], None], *, once: bool
) -> None:
    """Follow a queue's messages; what was not followed stays in the queue.

    Raises:
        TransientSourceError: when the queue cannot be asked.
    """
    from tasks.errors import DamDedupError
    from tasks.sources.events import parse_events

    while True:
        messages = queue.receive()
        if once and not messages:
            return
        for receipt, body in messages:
            try:
                done = follower.follow(parse_events(body))
            except DamDedupError as error:
                log.error("a message is left in the queue: %s", error)
                continue
            show(done)
            if done.handled:
                queue.delete(receipt)


def _read(file: str) -> bytes:
    from tasks.errors import EventError
    from tasks.sources.events import MAX_BYTES

    if file == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        with Path(file).open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise EventError(f"cannot read {file}: {error}") from error


def _show(done: Followed, as_json: bool) -> None:
    from deployments.cli.output import print_json
    from reports.events import followed_data
    from reports.words import counted, shown_key

    if as_json:
        print_json(followed_data(done))
        return
    for one in done.found:
        best = one.checked.found[:1]
        words = "".join(f", the best {m.key} ({m.tier}, {m.score:.2f}, {m.changes})" for m in best)
        found = counted(one.checked.total, "match", "matches")
        typer.echo(shown_key(f"{one.key}: {found}{words}"))
        for alert in one.alerts:
            typer.echo(shown_key(f"  alert: {alert.as_text()}"))
    for word, keys in (
        ("removed", dict.fromkeys(done.removed, "")),
        ("unreadable", done.unreadable),
        ("failed", done.failed),
    ):
        for key, why in keys.items():
            typer.echo(shown_key(f"{key}: {word}{f': {why}' if why else ''}"))
    for bucket, number in done.refused.items():
        typer.echo(shown_key(f"refused: {number} of bucket {bucket}"))
    passed = ", ".join(f"{number} {why}" for why, number in done.passed_over.items())
    if passed:
        typer.echo(f"passed over: {passed}")
