"""What a reviewer's page hands over: decisions on groups of a plan, and verdicts on pairs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORM = "dam-dedup decisions 1"
_Id = Annotated[str, Field(min_length=1, max_length=64)]
_Value = Annotated[str, Field(max_length=8192)]
#: S3 allows 1,024 bytes; a folder's paths may be longer.
_Key = Annotated[str, Field(min_length=1, max_length=4096)]


class GroupDecision(BaseModel):
    """One group's; ``withdraw`` takes back what was decided before.

    ``keeper`` only where another one was picked than the plan's; ``values`` by field, only where
    another value was picked than the one of the file that stays.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: _Id
    decision: Literal["approve", "reject", "withdraw"]
    accept_questions: bool = False
    keeper: _Key | None = None
    values: dict[_Key, _Value] = Field({}, max_length=100)

    @property
    def plans_anew(self) -> bool:
        """Whether it asks for a plan that shows what was picked, and decides nothing."""
        return self.keeper is not None or bool(self.values)


class PairVerdict(BaseModel):
    """One pair's, by asset ids."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    left: _Key
    right: _Key
    verdict: Literal["duplicate", "linked", "distinct"]


class Decisions(BaseModel):
    """All that was decided on one page."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Literal["dam-dedup decisions 1"]
    scan: str = Field("", max_length=64)
    plan_hash: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    groups: tuple[GroupDecision, ...] = Field((), max_length=20_000)
    verdicts: tuple[PairVerdict, ...] = Field((), max_length=200_000)

    @property
    def keepers(self) -> dict[str, str]:
        """Group id to the key of the other keeper that was picked."""
        return {one.group: one.keeper for one in self.groups if one.keeper is not None}

    @property
    def values(self) -> dict[str, dict[str, str]]:
        """Group id to the values that were picked, by field."""
        return {one.group: dict(one.values) for one in self.groups if one.values}


def parse_decisions(text: str | bytes) -> Decisions:
    """Decisions as the report page writes them.

    Raises:
        ValueError: saying what is wrong, where.
    """
    try:
        found = Decisions.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ValueError(f"{where}: {first['msg']}") from None
    names = [one.group for one in found.groups]
    if len(names) != len(set(names)):
        raise ValueError("a group is decided on twice")
    return found
