"""Policy as code: which duplicates may be touched, how, by whom, and which asset stays.

A policy is a versioned YAML file (``docs/policy-example.yaml`` shows all of it). Its hash stands in
every plan, so that an approval is also an approval of the policy it was made under.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from tasks.errors import PolicyError
from tasks.merging.rules.ingest_policy import AlertPair, Ingest, IngestPolicy
from tasks.merging.rules.plans import Action, FieldRule, Member
from tasks.merging.rules.policy_errors import list_problems, shown_problems
from tasks.merging.rules.policy_parts import Part, Text, Texts, listed, unique_names
from tasks.merging.rules.yaml_lines import read_yaml
from tasks.records import Tier

#: Formats a keeper criterion can name: those the catalog names.
FORMATS = frozenset(
    {
        "jpeg",
        "png",
        "gif",
        "webp",
        "tiff",
        "bmp",
        "avif",
        "heif",
        "jpeg2000",
        "psd",
        "raw",
    }
)
_ALIASES = {"jpg": "jpeg", "tif": "tiff", "heic": "heif", "jp2": "jpeg2000"}

#: Criteria that are one word, and those that take a list.
WORDS = (
    "licence",
    "original",
    "resolution",
    "quality",
    "metadata",
    "oldest",
    "newest",
    "size",
    "sidecar",
)
LISTS = ("prefix", "format", "tags")

_ROOMS = ("tags", "metadata", "xmp")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*(?:([kmgtp])(i?))?b?", re.IGNORECASE)


def _bytes(value: Any) -> Any:
    """Accept ``20GB`` (10^9) and ``20GiB`` (2^30) as well as a number of bytes."""
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        raise ValueError("is no size; write 500MB, 20GB or 1.5TiB")
    number, unit, binary = found.groups()
    power = "kmgtp".index(unit.lower()) + 1 if unit else 0
    return int(float(number) * (1024 if binary else 1000) ** power)


def _field_path(value: str) -> str:
    room, _, name = value.partition(".")
    if room not in _ROOMS or not name:
        near = difflib.get_close_matches(room, _ROOMS, n=1)
        hint = f"; did you mean {near[0]}.{name}?" if near and name else ""
        raise ValueError(f"is no field; write tags.NAME, metadata.NAME or xmp.NAME{hint}")
    return value


def _prefix(value: str) -> str:
    if value.startswith("/"):
        raise ValueError("a prefix does not begin with /, as keys do not")
    return value


Prefixes = Annotated[tuple[Annotated[Text, AfterValidator(_prefix)], ...], BeforeValidator(listed)]
FieldPath = Annotated[Text, AfterValidator(_field_path)]


class Caps(Part):
    """The most one run may touch; beyond any of them nothing is done."""

    objects: int = Field(500, ge=1, strict=True)
    bytes: Annotated[int, BeforeValidator(_bytes), Field(ge=1, strict=True)] = 20 * 10**9
    share: float = Field(0.05, gt=0, le=1, strict=True, description="of the collection's assets")
    group: int = Field(20, ge=2, strict=True, description="members of one group")


_OURS = ".dam-dedup/"
_IN_OURS = f"{_OURS}quarantine/"


class Quarantine(Part):
    """Where duplicates wait before they are gone for good."""

    prefix: Text = _IN_OURS
    days: int = Field(30, ge=1, le=3650, strict=True)

    @field_validator("prefix")
    @classmethod
    def _safe(cls, prefix: str) -> str:
        if prefix.startswith("/") or not prefix.endswith("/"):
            raise ValueError("must end with / and not begin with it")
        if not prefix.isprintable():
            raise ValueError("holds a character that cannot be printed")
        # What lies elsewhere below ours is notes of merges: some of them are removed after an hour.
        if prefix.startswith(_OURS) and not prefix.startswith(_IN_OURS):
            raise ValueError(f"below {_OURS} only {_IN_OURS} is for quarantined files")
        for part in prefix[:-1].split("/"):
            # The last two are names that S3 servers keep their own data under.
            if part in ("", ".", "..", ".uploads") or part.endswith(".versions"):
                raise ValueError(f"may not hold a segment named {part!r}")
        return prefix


class Rights(Part):
    """Which fields tell what may be done with an asset; null where there is none.

    Dates are ISO 8601; a date without a time means the end of that day, UTC.
    """

    licence: FieldPath | None = "tags.licence"
    expires: FieldPath | None = "tags.licence-expires"
    release: FieldPath | None = "tags.release"
    owner: FieldPath | None = "tags.owner"
    embargo: FieldPath | None = "tags.embargo-until"
    hold: FieldPath | None = "tags.hold"


class Criterion(Part):
    """One reason to prefer an asset as keeper.

    Attributes:
        values: of ``prefix``, ``format`` and ``tags``: the earlier is the better.
    """

    name: str
    values: tuple[str, ...] = ()


def _criterion(value: Any) -> Any:
    """Read ``resolution`` and ``format: [tiff, png]``."""
    if isinstance(value, Criterion):
        return value
    name, values = value, None
    if isinstance(value, dict) and len(value) == 1:
        ((name, values),) = value.items()
    if not isinstance(name, str):
        raise ValueError(f"is no criterion; write {', '.join(WORDS)} or one of {_LISTS_SHOWN}")
    if name in WORDS:
        if values is not None:
            raise ValueError(f"{name} takes no values")
        return Criterion(name=name)
    if name not in LISTS:
        raise ValueError(f"no criterion {name!r}{_mean(name, (*WORDS, *LISTS))}")
    given = listed(values)
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(f"{name} needs a list, as in {_LISTS_SHOWN}")
    if not all(isinstance(entry, str) and entry.strip() for entry in given):
        raise ValueError(f"{name} needs texts; put numbers, yes and no in quotes")
    return Criterion(name=name, values=_values(name, [entry.strip() for entry in given]))


_LISTS_SHOWN = "prefix: [masters/], format: [tiff, png], tags: [approved]"


def _values(name: str, values: list[str]) -> tuple[str, ...]:
    if name == "prefix":
        return tuple(_prefix(value) for value in values)
    if name == "format":
        values = [_ALIASES.get(value.lower(), value.lower()) for value in values]
        for value in values:
            if value not in FORMATS:
                raise ValueError(f"no format {value!r}{_mean(value, FORMATS)}")
    return tuple(values)


def _mean(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"


def _field_rule(rule: FieldRule) -> FieldRule:
    room, _, name = rule.field.partition(".")
    if rule.field != "*" and (room not in (*_ROOMS, "*") or not name):
        raise ValueError(
            f"field {rule.field!r} matches nothing; write tags.NAME, metadata.NAME, xmp.NAME or *"
        )
    if rule.rule == "restrictive" and not rule.order:
        raise ValueError("restrictive needs an order: [most restrictive, ..., least]")
    return rule


DEFAULT_KEEPER = (
    Criterion(name="licence"),
    Criterion(name="original"),
    Criterion(name="resolution"),
    Criterion(name="format", values=("tiff", "psd", "png", "bmp")),
    Criterion(name="quality"),
    Criterion(name="metadata"),
    Criterion(name="size"),
    Criterion(name="oldest"),
)

#: Rights are asked, since which value is the more restrictive is for the policy to say.
DEFAULT_METADATA = (
    FieldRule(field="tags.keywords", rule="union", separator=" "),  # S3 tags hold no comma
    FieldRule(field="xmp.keywords", rule="union", separator=";"),  # as XMP lists are joined
    FieldRule(field="metadata.keywords", rule="union"),
    *(
        FieldRule(field=pattern, rule="ask")
        for pattern in ("*.rights", "*.usage_terms", "*.licence*", "*.license*", "*.visibility")
    ),
    FieldRule(field="*", rule="fill"),
)


class Automatic(Part):
    """Lets a rule approve groups by itself."""

    tier: Literal[Tier.EXACT] = Tier.EXACT
    groups: int = Field(ge=1, strict=True, description="The most groups of one plan")


#: Name of the rule of groups that no rule is for.
NO_RULE = "no rule"


class Rule(Part):
    """What is done with the groups it matches."""

    name: Text
    tier: Annotated[
        tuple[Literal[Tier.EXACT, Tier.NEAR], ...],
        BeforeValidator(listed),
        Field(min_length=1, max_length=2),
    ] = (Tier.EXACT, Tier.NEAR)
    where: str = Field("", max_length=4000, description="SQL-style filter")
    keeper: tuple[Annotated[Criterion, BeforeValidator(_criterion)], ...] = Field(
        DEFAULT_KEEPER, min_length=1, description="The first that differs decides"
    )
    metadata: tuple[Annotated[FieldRule, AfterValidator(_field_rule)], ...] = DEFAULT_METADATA
    action: Action = Action.REPORT
    approvers: Texts = Field((), description="Who may approve; empty: the policy's reviewers")
    automatic: Automatic | None = None

    @field_validator("keeper")
    @classmethod
    def _no_contradiction(cls, keeper: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
        words = [criterion.name for criterion in keeper if not criterion.values]
        twice = sorted({word for word in words if words.count(word) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is listed twice")
        if {"oldest", "newest"} <= set(words):
            raise ValueError("oldest and newest contradict each other")
        return keeper

    @field_validator("automatic")
    @classmethod
    def _reachable(cls, automatic: Automatic | None, info: ValidationInfo) -> Automatic | None:
        if automatic and Tier.EXACT not in info.data.get("tier", (Tier.EXACT,)):
            raise ValueError("approves exact groups only, which this rule's tier leaves out")
        return automatic

    def field_rule(self, field: str) -> FieldRule:
        """The rule of a field: the first whose pattern matches; fields not named have defaults."""
        for rule in (*self.metadata, *DEFAULT_METADATA):
            if fnmatchcase(field, rule.field):
                return rule
        raise AssertionError(field)  # the last default matches everything


class Policy(Part):
    """A policy file."""

    version: Literal[1]
    name: Text
    collection: str = Field("", max_length=1000, description="Source URI; empty: any")
    quarantine: Quarantine = Quarantine()
    protected: Prefixes = Field((), description="Assets below are only ever keepers")
    minimum_age_hours: float = Field(24, ge=0, le=87_600, strict=True)
    caps: Caps = Caps()
    reviewers: Texts = Field((), description="Who may approve; empty: anybody")
    rights: Rights = Rights()
    rules: tuple[Rule, ...] = Field(min_length=1, max_length=1000)
    ingest: Ingest = Ingest()
    alerts: tuple[AlertPair, ...] = Field((), max_length=100)

    @field_validator("rules")
    @classmethod
    def _unique(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        unique_names(rule.name for rule in rules)
        return rules

    @field_validator("alerts")
    @classmethod
    def _unique_alerts(cls, alerts: tuple[AlertPair, ...]) -> tuple[AlertPair, ...]:
        unique_names((pair.name for pair in alerts), "alerts")
        return alerts

    @field_validator("protected")
    @classmethod
    def _apart(cls, protected: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        # Quarantined assets are removed one day, protected ones never.
        quarantine = info.data.get("quarantine")
        for prefix in protected:
            if quarantine and quarantine.prefix.startswith(prefix):
                raise ValueError(f"{prefix!r} would protect the quarantine, {quarantine.prefix!r}")
        return protected

    @property
    def version_hash(self) -> str:
        """Names what it means for merges: twelve hex digits of its canonical JSON.

        What comes in is of no concern to a plan: an approval outlives a change of those sections.
        """
        kept = self.model_dump(mode="json", exclude={"ingest", "alerts"})
        data = json.dumps(kept, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(data.encode()).hexdigest()[:12]

    @property
    def for_ingest(self) -> IngestPolicy:
        """What it says of uploads."""
        return IngestPolicy(policy=self.name, ingest=self.ingest)

    def approvers(self, rule: Rule) -> tuple[str, ...]:
        """Who may approve what a rule matches; empty: anybody."""
        return rule.approvers or self.reviewers

    def protects(self, key: str) -> str | None:
        """The protected prefix that a key lies below, if any."""
        return next((prefix for prefix in self.protected if key.startswith(prefix)), None)


def default_policy() -> Policy:
    """What holds without a policy file: duplicates are reported, and nothing is touched."""
    return Policy(version=1, name="report only", rules=(Rule(name="everything"),))


def field_value(member: Member, path: str) -> str | None:
    """A member's value of ``tags.NAME``, ``metadata.NAME`` or ``xmp.NAME``; None: it has none."""
    room, _, name = path.partition(".")
    if room == "metadata":
        return member.metadata.get(name.lower())  # stores hand its names out in lower case
    fields = {"tags": member.tags, "xmp": member.xmp}
    if room not in fields:
        raise ValueError(f"{path!r} is no field")
    return fields[room].get(name)


def load_policy(text: str, name: str) -> Policy:
    """Read and check a policy file.

    Args:
        text: the YAML.
        name: the file's name, for messages.

    Raises:
        PolicyError: listing every problem, each as ``name:LINE: key.path: what is wrong``.
    """
    found = read_yaml(text)
    problems = list(found.problems)
    if found.data is not None or not problems:
        try:
            policy = Policy.model_validate(found.data)
            if not problems:
                return policy
        except ValidationError as error:
            problems = list_problems(error, found, Policy)
    shown = [f"{name}:{problem}" for problem in shown_problems(problems)]
    raise PolicyError("the policy is wrong:\n  " + "\n  ".join(shown))
