"""The policy's sections for what comes in: what an upload may do, and what raises an alert."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from tasks.merging.rules.policy_parts import Part, Text, listed, unique_names
from tasks.records import Tier


class Admit(StrEnum):
    """What is done with an upload that matches an asset."""

    REJECT = "reject"
    LINK = "link"
    ASK = "ask"
    OVERWRITE = "overwrite"
    ADD = "add"


_Tiers = Annotated[tuple[Tier, ...], BeforeValidator(listed), Field(min_length=1, max_length=3)]
_Where = Annotated[str, Field(max_length=4000, description="SQL-style filter")]


class IngestRule(Part):
    """What is done with an upload that matches an asset so well.

    Attributes:
        where: the assets of the collection that count; empty: all.
    """

    name: Text
    tier: _Tiers = (Tier.EXACT, Tier.NEAR)
    where: _Where = ""
    action: Admit = Admit.ADD


class Ingest(Part):
    """The section ``ingest``: the first rule that an asset of the collection satisfies decides.

    Attributes:
        blocked: an upload with the bytes or the pixels of a blocklist entry.
        resembling: one that resembles an entry, whose pixels are not kept to look at.
    """

    blocked: Literal[Admit.REJECT, Admit.ASK, Admit.ADD] = Admit.ADD
    resembling: Literal[Admit.REJECT, Admit.ASK, Admit.ADD] = Admit.ADD
    rules: tuple[IngestRule, ...] = Field((), max_length=1000)

    @field_validator("rules")
    @classmethod
    def _unique(cls, rules: tuple[IngestRule, ...]) -> tuple[IngestRule, ...]:
        unique_names(rule.name for rule in rules)
        return rules


class Side(Part):
    """Some assets: of a source (empty: the scan's), and of these what a filter selects."""

    source: str = Field("", max_length=1000)
    where: _Where = ""


class AlertPair(Part):
    """Two sets of assets between which no copy should be.

    Attributes:
        left: whose assets raise the alert: what an agency sends.
        right: what they are held against: what is verified.
    """

    name: Text
    left: Side
    right: Side
    tier: _Tiers = (Tier.EXACT, Tier.NEAR)


class IngestPolicy(Part):
    """The ingest section with the name of the policy that holds it."""

    policy: str
    ingest: Ingest

    @property
    def version_hash(self) -> str:
        """Names the section's meaning: twelve hex digits of its canonical JSON."""
        data = json.dumps(
            self.ingest.model_dump(mode="json"), sort_keys=True, separators=(",", ":")
        )
        return hashlib.sha256(data.encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """The policy as it is recorded: name and version."""
        return f"{self.policy} {self.version_hash}"

    @property
    def overwrites(self) -> bool:
        """Whether any rule replaces an asset."""
        return any(rule.action is Admit.OVERWRITE for rule in self.ingest.rules)

    @property
    def tiers(self) -> frozenset[Tier]:
        """The tiers that rules ask about."""
        return frozenset(tier for rule in self.ingest.rules for tier in rule.tier)


def filters(ingest: Ingest, alerts: tuple[AlertPair, ...]) -> Iterator[tuple[str, str]]:
    """Every filter of the two sections, with the place it stands at."""
    for rule in ingest.rules:
        yield f"ingest rule {rule.name}", rule.where
    for pair in alerts:
        yield f"alert {pair.name}: left", pair.left.where
        yield f"alert {pair.name}: right", pair.right.where
