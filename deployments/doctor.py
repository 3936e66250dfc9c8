"""``dam-dedup doctor``: is everything there that a scan needs, and what to do where not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from deployments.cli.options import read_settings
from tasks.errors import DamDedupError
from tasks.preflight import LOOKS, Look
from tasks.settings import Settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


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
    """All checks, each told as soon as it is done: the quick ones first, the model last.

    Args:
        source: a source to look at instead of the settings'.
        catalog: a catalog to look at instead of the settings'.
    """
    try:
        settings = read_settings(catalog)
    except DamDedupError as error:
        yield Finding("settings", "bad", str(error), "correct the variables named above")
        return
    if source:
        named = settings.source.model_copy(update={"uri": source})
        settings = settings.model_copy(update={"source": named})
    yield Finding("settings", "good", f"collection {settings.collection}")
    yield from _guarded("prefect", _prefect)
    yield from examine_settings(settings)


def examine_settings(settings: Settings) -> Iterator[Finding]:
    """All that a scan with these settings needs, without the Prefect server."""
    well: set[str] = set()
    for look in LOOKS:
        for finding in _guarded(look.name, partial(_looked, look, settings)):
            well |= {finding.name} if finding.state == "good" else set()
            yield finding
    if "source" in well:
        yield from _guarded("merging", partial(_merging, settings))


def _looked(look: Look, settings: Settings) -> Iterator[Finding]:
    try:
        found = look.at(settings)
    except DamDedupError as error:
        yield Finding(look.name, "bad", str(error), look.remedy)
        return
    yield Finding(look.name, "good", found) if found else Finding(look.name, "unset", *look.unset)


def _merging(settings: Settings) -> Iterator[Finding]:
    """Which catalogs merge in the source's bucket, if any ever did."""
    from tasks.merging.bucket_register import NOTES_FORMAT, catalog_place, read_register
    from tasks.session import open_store

    store = open_store(settings.source.uri or "", settings)
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


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # a doctor that dies of what it finds helps nobody
        told = DamDedupError(f"{type(error).__name__}: {error}")  # without memory addresses
        yield Finding(name, "bad", str(told), "this check itself failed; see the message")


def _prefect() -> Iterator[Finding]:
    from deployments.bootstrap import BootstrapError, api_url, reach

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

    from deployments.bootstrap import server

    try:
        with server(url) as client:
            yield from _deployed(url, client)
    except httpx.HTTPError as error:
        yield Finding(
            "prefect",
            "bad",
            f"{url}: {error}",
            "where the server asks for a login, set PREFECT_API_AUTH_STRING or PREFECT_API_KEY",
        )


def _deployed(url: str, client: SyncPrefectClient) -> Iterator[Finding]:
    """The server's version, and of each pool that our deployments use, its workers."""
    from importlib.metadata import version

    here, there = version("prefect"), client.api_version()
    if here != there:
        yield Finding(
            "prefect",
            "bad",
            f"{url}: the server is {there}, this is {here}",
            "install one version of prefect on the server, the workers and here",
        )
        return
    ours = [one for one in client.read_deployments(limit=200) if "dam-dedup" in (one.tags or [])]
    if not ours:
        yield Finding("prefect", "bad", f"{url}: nothing is deployed", "run `dam-dedup deploy`")
        return
    online, total = 0, set[str]()
    for pool in sorted({one.work_pool_name or "" for one in ours}):
        names = [
            worker.name
            for worker in client.read_workers_for_work_pool(pool)
            if worker.status == "ONLINE"
        ]
        online += len(names)
        total.add(pool)
        if not names:
            yield Finding(
                "prefect",
                "bad",
                f"{url}: no worker of the work pool {pool} is online",
                f"start one: prefect worker start --pool {pool}",
            )
    releases = sorted({str(one.version) for one in ours if one.version})
    if len(releases) > 1:
        yield Finding(
            "prefect",
            "bad",
            f"{url}: deployed by several releases: {', '.join(releases)}",
            "run `dam-dedup deploy` from the newest",
        )
    if online:
        pools = ", ".join(sorted(total))
        what = f"{len(ours)} deployments, {online} workers, work pools {pools}"
        yield Finding("prefect", "good", f"{url}: {what}")
