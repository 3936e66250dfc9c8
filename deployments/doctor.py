"""``dam-dedup doctor``: is everything there that a scan needs, and what to do where not."""

from __future__ import annotations

import shutil
import smtplib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from deployments.cli.options import read_settings
from tasks.errors import DamDedupError
from tasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        state: ``good``, ``bad``, or ``unset`` for what is optional and not configured.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self)

    def as_text(self) -> str:
        """A line, and the remedy below it."""
        mark = {"good": "ok ", "bad": "BAD", "unset": "-  "}[self.state]
        lines = [f"{mark} {self.name:<9} {self.detail}"]
        return "\n".join([*lines, f"              {self.remedy}"] if self.remedy else lines)


def examine(source: str | None, catalog: str | None) -> Iterator[Finding]:
    """All checks, each told as soon as it is done: the quick ones first, the model last."""
    try:
        settings = read_settings(catalog)
    except DamDedupError as error:
        yield Finding("settings", "bad", str(error), "correct the variables named above")
        return
    yield Finding("settings", "good", f"collection {settings.collection}")
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("prefect", _prefect),
        ("mail", lambda: _mail(settings)),
        ("source", lambda: _source(settings, source)),
        ("catalog", lambda: _catalog(settings)),
        ("model", lambda: _model(settings)),
    ]
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:  # a doctor that dies of what it finds helps nobody
            told = DamDedupError(f"{type(error).__name__}: {error}")  # without memory addresses
            yield Finding(name, "bad", str(told), "this check itself failed; see the message")


def _source(settings: Settings, given: str | None) -> Iterator[Finding]:
    from tasks.session import open_source

    uri = given or settings.source.uri
    if not uri:
        yield Finding("source", "unset", "none", "set DAM_DEDUP_SOURCE__URI or give --source")
        return
    try:
        source = open_source(uri, settings)
        page = next(iter(islice(source.list_pages(), 1)), [])
        if page:
            source.probe(page[0].key)
    except DamDedupError as error:
        yield Finding("source", "bad", str(error), "check the URI, the endpoint and credentials")
        return
    more = "or more " if len(page) >= 1000 else ""
    yield Finding("source", "good", f"{uri}: {len(page)} {more}objects listed, the first one read")
    yield from _merging(settings, uri)


def _merging(settings: Settings, uri: str) -> Iterator[Finding]:
    """Which catalogs merge in the source's bucket, if any ever did."""
    from tasks.merging.bucket_register import NOTES_FORMAT, catalog_place, read_register
    from tasks.session import open_store

    store = open_store(uri, settings)
    if store is None:
        return
    try:
        known = read_register(store)
    except DamDedupError as error:
        yield Finding("merging", "bad", str(error), "see docs/merging.md, Several catalogs")
        return
    mine = catalog_place(settings)
    told = [
        f"{one.place} (release {one.release}, turn {one.fence}{', this one' * (one.place == mine)})"
        for one in known
    ]
    if any(one.format > NOTES_FORMAT for one in known):
        newer = f"a newer release merges in s3://{store.bucket}: {'; '.join(told)}"
        yield Finding("merging", "bad", newer, "upgrade: this release does not merge there")
    elif known:
        yield Finding(
            "merging", "good", f"in s3://{store.bucket}, the last one first: {'; '.join(told)}"
        )


def _catalog(settings: Settings) -> Iterator[Finding]:
    from tasks.session import open_catalog

    uri = settings.catalog.uri
    try:
        catalog = open_catalog(settings, migrate=False)
        if not catalog.up_to_date:
            due = f"{uri}: schema {catalog.standing.version}; the next scan migrates it"
            yield Finding("catalog", "good", due, "see dam-dedup catalog migrate --dry-run")
            return
        with catalog.writing(wait=5):
            assets = catalog.count("assets")
        surplus = catalog.duplicate_keys()
    except DamDedupError as error:
        yield Finding("catalog", "bad", str(error), "see DAM_DEDUP_CATALOG__URI")
        return
    if surplus:
        yield Finding("catalog", "bad", f"{uri}: doubled keys {surplus}", "scan into a new catalog")
        return
    room = (
        ""
        if uri.startswith("s3://")
        else f", {shutil.disk_usage(Path(uri)).free / 1e9:.0f} GB free"
    )
    yield Finding("catalog", "good", f"{uri}: {assets:,} assets, writable{room}")


def _model(settings: Settings) -> Iterator[Finding]:
    from tasks.session import open_embedder

    try:
        embedder = open_embedder(settings)
    except DamDedupError as error:
        yield Finding("model", "bad", str(error), "see DAM_DEDUP_EMBEDDING__MODEL")
        return
    space = embedder.space
    yield Finding("model", "good", f"{space.model}, {space.dim} dimensions, on {embedder.device}")


def _mail(settings: Settings) -> Iterator[Finding]:
    from tasks.delivery.smtp import connect

    mail = settings.mail
    people = [*mail.to, *mail.reviewers]
    if not people:
        yield Finding("mail", "unset", "nobody gets one", "set DAM_DEDUP_MAIL__TO to get reports")
        return
    try:
        with connect(mail) as server:
            server.noop()
    except (OSError, smtplib.SMTPException) as error:
        yield Finding(
            "mail",
            "bad",
            f"{mail.host}:{mail.port} (tls {mail.tls}): {error}",
            "see DAM_DEDUP_MAIL__HOST, __PORT, __TLS, __USERNAME and __PASSWORD",
        )
        return
    yield Finding("mail", "good", f"{mail.host}:{mail.port} answers; to {', '.join(people)}")


def _prefect() -> Iterator[Finding]:
    from deployments.bootstrap import POOL, BootstrapError, api_url, reach

    url = api_url()
    if not url:
        yield Finding(
            "prefect",
            "unset",
            "no server; `dam-dedup scan` works without one",
            "for schedules: set PREFECT_API_URL, then run `dam-dedup deploy`",
        )
        return
    try:
        reach(url)
    except BootstrapError as error:
        yield Finding("prefect", "bad", str(error), "start the server, check PREFECT_API_URL")
        return

    import httpx
    from prefect.exceptions import ObjectNotFound

    from deployments.bootstrap import server

    try:
        with server(url) as client:
            client.read_work_pool(POOL)
            workers = client.read_workers_for_work_pool(POOL)
            deployments = client.read_deployments()
    except ObjectNotFound:
        yield Finding("prefect", "bad", f"{url}: no work pool {POOL}", "run `dam-dedup deploy`")
        return
    except httpx.HTTPError as error:
        yield Finding(
            "prefect",
            "bad",
            f"{url}: {error}",
            "where the server asks for a login, set PREFECT_API_AUTH_STRING or PREFECT_API_KEY",
        )
        return
    online = [worker.name for worker in workers if worker.status == "ONLINE"]
    if not online:
        yield Finding(
            "prefect",
            "bad",
            f"{url}: no worker is online",
            f"start one: prefect worker start --pool {POOL}",
        )
        return
    yield Finding(
        "prefect", "good", f"{url}: {len(deployments)} deployments, {len(online)} workers"
    )
