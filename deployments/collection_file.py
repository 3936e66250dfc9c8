"""``collections.yaml``: which collections there are, for whom, when they are scanned and where.

A collection is a set of settings with a name of its own. What the file says becomes the
environment of the collection's runs, so a worker needs no settings of its own beside credentials.
Where there is no file there is one collection, as the settings describe it.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from tasks.catalog.filters import render_filter
from tasks.errors import FilterError, SettingsError
from tasks.merging.rules.policy_errors import list_problems, shown_problems
from tasks.merging.rules.yaml_lines import read_yaml
from tasks.settings import Settings, title_of
from tasks.settings_parts import Address, AlarmSettings, DeliverySettings, Share

#: The work pool of all that is not told another one.
POOL = "dam-dedup"
#: The file's usual name, in the project's folder.
FILE = "collections.yaml"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


def _cron(text: str) -> str:
    from prefect.client.schemas.schedules import CronSchedule

    try:
        CronSchedule(cron=text)
    except ValueError:
        raise ValueError(
            "no cron line: five fields, minute hour day month weekday, as 7 * * * *"
        ) from None
    return text


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("no time zone; write one like Europe/Berlin, or UTC")
    return str(ZoneInfo(name))


def _filter(text: str) -> str:
    try:
        render_filter(text)
    except FilterError as error:
        raise ValueError(str(error)) from None
    return text


def _source(text: str) -> str:
    if not text.strip() or ("://" in text and not re.match(r"(s3|file|gate)://.", text)):
        raise ValueError("write s3://bucket/prefix, a folder or gate://NAME")
    return text


Cron = Annotated[str, AfterValidator(_cron)]
Crons = Annotated[tuple[Cron, ...], BeforeValidator(_one_or_many)]
Pool = Annotated[str, Field(pattern=r"^[^/%&><]{1,100}$")]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_one_or_many)]


class Schedules(_Part):
    """When the scheduled runs start, as cron lines; an empty list starts none."""

    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    scan: Crons = ("7 * * * *",)
    full_scan: Crons = ("17 2 * * 0",)
    merge: Crons = ("*/10 * * * *",)


class Pools(_Part):
    """Which work pools run what; a pool that is not there is made, for processes."""

    scans: Pool = POOL
    others: Pool = POOL


class Caps(_Part):
    """How much of a work pool one collection may take."""

    runs: int | None = Field(None, ge=1, le=1000)


class Collection(_Part):
    """One collection.

    Attributes:
        name: in reports, keys and tags.
        was: its name before, when it was renamed: what is deployed takes that one's schedules.
        source: what is scanned; of several, each has scans of its own.
        catalog: where it is; no two collections share one.
        policy: what is done with duplicates; none: they are only reported.
        filter: which assets its scans compare; empty: all.
        include, exclude: which keys are assets at all.
        owners, reviewers: who is told and decides.
        mail: when a mail goes out.
        caps: of the collection's runs; what a merge may do is capped in its policy.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    was: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    source: Annotated[
        tuple[Annotated[str, AfterValidator(_source)], ...],
        BeforeValidator(_one_or_many),
        Field(min_length=1),
    ]
    catalog: str = Field(min_length=1)
    policy: Path | None = None
    filter: Annotated[str, AfterValidator(_filter)] = ""
    include: Patterns = ()
    exclude: Patterns = ()
    owners: Annotated[tuple[Address, ...], BeforeValidator(_one_or_many)] = ()
    reviewers: dict[Address, Share] = Field(default_factory=dict)
    mail: Literal["news", "always", "digest"] = "news"
    gate_url: str | None = None
    schedules: Schedules = Schedules()
    pools: Pools = Pools()
    delivery: DeliverySettings = DeliverySettings()
    notifications: AlarmSettings = AlarmSettings()
    caps: Caps = Caps()

    @property
    def title(self) -> str:
        """Its name for people."""
        return title_of(self.name)

    def variables(self) -> dict[str, str]:
        """The settings of its runs, by variable; what the file leaves open stays the worker's."""
        found: dict[str, Any] = {
            "COLLECTION": self.name,
            "SOURCE__URI": self.source[0],
            "SOURCE__INCLUDE": list(self.include),
            "SOURCE__EXCLUDE": list(self.exclude),
            "CATALOG__URI": self.catalog,
            "MERGE__POLICY": self.policy,
            "MERGE__GATE_URL": self.gate_url,
            "MAIL__TO": list(self.owners),
            "MAIL__REVIEWERS": {
                person: share.model_dump(mode="json", exclude_defaults=True)
                for person, share in self.reviewers.items()
            },
            "MAIL__WHEN": self.mail if "mail" in self.model_fields_set else None,
        }
        for part, model in (("DELIVERY", self.delivery), ("ALARMS", self.notifications)):
            # A webhook's address is a secret, and job variables can be read by everybody.
            given = model.model_dump(mode="json", exclude_unset=True, exclude={"webhook", "to"})
            found |= {f"{part}__{name}".upper(): value for name, value in given.items()}
        return {
            f"DAM_DEDUP_{name}": json.dumps(value) if isinstance(value, list | dict) else str(value)
            for name, value in found.items()
            if value not in (None, [], {})
        }


class Collections(_Part):
    """The file."""

    version: Literal[1]
    collections: tuple[Collection, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _apart(self) -> Collections:
        names, catalogs = set[str](), dict[str, str]()
        for one in self.collections:
            if one.title.lower() in names:
                raise ValueError(f"two collections are called {one.title}; names must differ")
            names.add(one.title.lower())
            place = one.catalog.rstrip("/")
            if place in catalogs:
                raise ValueError(
                    f"{catalogs[place]} and {one.name} share the catalog {one.catalog}; each needs "
                    "its own"
                )
            catalogs[place] = one.name
        merging = [(source, one) for one in self.collections if one.policy for source in one.source]
        for at, (source, one) in enumerate(merging):
            for other, another in merging[at + 1 :]:
                if another is not one and _overlap(source, other):
                    raise ValueError(
                        f"{one.name} and {another.name} both merge in {other}: what one keeps the "
                        "other may remove; give one policy to one of them"
                    )
        return self


def _overlap(one: str, other: str) -> bool:
    one, other = (f"{text.rstrip('/')}/" for text in (one, other))
    return one.startswith(other) or other.startswith(one)


def read_collections(path: Path) -> tuple[Collection, ...]:
    """The collections of a file.

    Raises:
        SettingsError: listing every problem, each as ``file:LINE: key.path: what is wrong``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the collections {path}: {error}") from error
    found = read_yaml(text)
    problems = list(found.problems)
    if found.data is not None or not problems:
        try:
            read = Collections.model_validate(found.data)
            if not problems:
                return read.collections
        except ValidationError as error:
            problems = list_problems(error, found, Collections)
    shown = [f"{path}:{problem}" for problem in shown_problems(problems)]
    raise SettingsError("the collections are wrong:\n  " + "\n  ".join(shown))


def only_collection(settings: Settings) -> Collection:
    """The one collection there is where there is no file: its runs have the worker's settings."""
    return Collection(
        name=settings.collection,
        source=(settings.source.uri or ".",),
        catalog=settings.catalog.uri,
        notifications=settings.alarms,
    )


def file_here() -> Path:
    """Where the file of collections is, or would be."""
    return Path.cwd() / FILE


def use_collection(name: str) -> None:
    """Let this process have the settings of a collection of the file, whatever else is set.

    Raises:
        SettingsError: when there is no such collection, or the file is wrong.
    """
    known = {one.name: one for one in read_collections(file_here())}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise SettingsError(f"--collection {name}: {file_here()} has no such collection; {hint}")
    os.environ.update(known[name].variables())
