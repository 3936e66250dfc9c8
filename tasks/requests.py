"""What a person asks for: the forms of the Prefect UI, checked wherever they come from."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.records import Kind


class ScanRequest(BaseModel):
    """What to scan, as the Prefect UI asks for it."""

    model_config = ConfigDict(extra="forbid", use_enum_values=False)

    kind: Kind = Field(
        Kind.INCREMENTAL,
        description="incremental: what is new against everything; full: everything, index rebuilt",
    )
    source: str = Field(
        "", description="s3://bucket/prefix or a folder; empty: DAM_DEDUP_SOURCE__URI"
    )
    where: str = Field(
        "",
        description="SQL-style filter, e.g. label = 'shoes' and size > 100000 and "
        "tags.agency = 'north'",
        max_length=4000,
    )
    fq: list[str] = Field(
        default_factory=list,
        description="Filter queries that hold as well, e.g. label:shoes, -format:gif, "
        "size:[1000 TO *]",
        max_length=50,
    )
    across: str = Field(
        "",
        description="SQL-style filter of the other side: only pairs between the assets of the "
        "filters above and these, e.g. tags.agency = 'archive'",
        max_length=4000,
    )
    threshold: float | None = Field(
        None,
        ge=0.5,
        le=1.0,
        description="Lowest score reported, 0.5 to 1; none: DAM_DEDUP_MATCH__THRESHOLD (0.7)",
    )
    mode: Literal["auto", "exact", "balanced", "speed"] | None = Field(
        None,
        description="How candidates are searched for; auto: by the number of pictures; "
        "none: DAM_DEDUP_MATCH__MODE",
    )
    dry_run: bool = Field(
        False, description="Compute and show, but send no mail and write nothing to the bucket"
    )
    refresh_metadata: bool = Field(
        False, description="Read tags and user metadata of every asset again, not only of new ones"
    )


class FullScanRequest(ScanRequest):
    """The same, where nothing said means everything."""

    kind: Kind = Field(
        Kind.FULL,
        description="full: everything, index rebuilt; incremental: what is new against everything",
    )


class PlanDecision(StrEnum):
    """A person's word on a merge plan."""

    APPROVE = "approve"
    REJECT = "reject"


_PLAN = r"^[0-9a-f]{4,64}$"
_PERSON = Field(min_length=1, max_length=200, description="Who; written into the audit")


class MergeRequest(BaseModel):
    """A decision about a merge plan, as the Prefect UI asks for it.

    Plan, decision and person have no defaults: nobody decides by pressing Submit.
    """

    model_config = ConfigDict(extra="forbid")

    plan_id: str = Field(pattern=_PLAN, description="The plan, as the report or the mail names it")
    decision: PlanDecision
    approved_by: str = _PERSON
    groups: list[str] = Field(
        default_factory=list, description="Only these groups; empty: all without open questions"
    )
    accept_questions: bool = Field(
        False, description="Also groups with open questions; what conflicts stays the keeper's"
    )
    comment: str = Field("", max_length=2000)
    dry_run: bool = Field(
        True, description="Decide and write nothing; show what would be done. Untick to act"
    )


class UndoRequest(BaseModel):
    """What to undo."""

    model_config = ConfigDict(extra="forbid")

    target: str = Field(
        min_length=4, max_length=200, description="PLAN, PLAN/GROUP or PLAN/GROUP/NUMBER"
    )
    undone_by: str = _PERSON
    dry_run: bool = Field(True, description="Only show what would be undone. Untick to act")


class EmptyRequest(BaseModel):
    """What to remove from quarantine for good."""

    model_config = ConfigDict(extra="forbid")

    emptied_by: str = _PERSON
    plan_id: str = Field("", max_length=64, description="Of this plan only; empty: of all")
    early: bool = Field(
        False, description="Also what the policy still keeps; the run then asks once more"
    )
    dry_run: bool = Field(True, description="Only show what would be removed. Untick to act")

    @model_validator(mode="after")
    def _early_names_a_plan(self) -> EmptyRequest:
        if self.early and not self.plan_id.strip():
            raise ValueError("emptying a quarantine early needs one plan's id")
        return self


class PairVerdict(StrEnum):
    """What a person says of a pair."""

    DUPLICATE = "duplicate"
    LINKED = "linked"
    DISTINCT = "distinct"


class VerdictRequest(BaseModel):
    """A person's word on a pair, as the Prefect UI asks for it."""

    model_config = ConfigDict(extra="forbid")

    left: str = Field(min_length=1, max_length=1024, description="Key or asset id")
    right: str = Field(min_length=1, max_length=1024, description="Key or asset id of the other")
    verdict: PairVerdict = Field(
        description="duplicate: the same picture, also where the program says no; linked: they "
        "belong together, and are not merged; distinct: never propose this pair again until one "
        "side's content changes"
    )
    given_by: str = _PERSON
    comment: str = Field("", max_length=2000)


class CheckRequest(BaseModel):
    """Is this image already there? As the Prefect UI asks for it."""

    model_config = ConfigDict(extra="forbid")

    asset: str = Field("", max_length=1100, description="Key or asset id; or give a url")
    url: str = Field("", max_length=4000, description="https://... of an image; or give an asset")
    source: str = Field(
        "", max_length=1100, description="What it is compared with; empty: DAM_DEDUP_SOURCE__URI"
    )
    where: str = Field(
        "", max_length=4000, description="SQL-style filter of what it is compared with"
    )
    fq: list[str] = Field(
        default_factory=list,
        max_length=50,
        description="field:value or -field:value; all must hold, beside the filter",
    )
    threshold: float | None = Field(
        None, ge=0.5, le=1.0, description="Lowest score; none: DAM_DEDUP_MATCH__THRESHOLD (0.7)"
    )
    limit: int = Field(100, ge=1, le=10_000, description="Findings shown; the total is always told")
    offset: int = Field(0, ge=0, description="Findings left out before the first shown")
    exclude: list[str] = Field(
        default_factory=list, max_length=1000, description="Keys or asset ids left out"
    )
    mode: Literal["auto", "balanced", "speed", "exact"] = Field(
        "auto", description="How neighbours are searched; auto: by the size of the collection"
    )

    @model_validator(mode="after")
    def _one_image(self) -> CheckRequest:
        if bool(self.asset.strip()) == bool(self.url.strip()):
            raise ValueError("give an asset or a url, and not both")
        return self


class KeysRequest(BaseModel):
    """Which keys to look at: what a bucket's notifications name, or a list."""

    model_config = ConfigDict(extra="forbid")

    events: list[dict[str, Any]] = Field(
        default_factory=list,
        max_length=10_000,
        description="S3 event notifications as they came: raw, or wrapped by SNS, SQS, EventBridge",
    )
    # Not "keys": Prefect takes what has one for a mapping.
    names: list[str] = Field(
        default_factory=list, max_length=10_000, description="Keys of objects, beside the events'"
    )
    source: str = Field(
        "", max_length=1100, description="s3://bucket/prefix; empty: DAM_DEDUP_SOURCE__URI"
    )
