"""What a person asks for: the forms of the Prefect UI, checked wherever they come from."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.records import Kind


def _number_fields(schema: dict[str, Any]) -> None:
    """Give each field of a form its place.

    A Prefect server on PostgreSQL sorts the keys of a schema by their length, and its UI shows the
    fields in that order, unless each has a ``position``.
    """
    for place, field in enumerate(schema.get("properties", {}).values()):
        field["position"] = place


class Form(BaseModel):
    """A form: unknown fields are refused, and the fields are shown as they are declared."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_number_fields)


class ScanRequest(Form):
    """What to scan."""

    kind: Kind = Field(
        Kind.INCREMENTAL,
        title="Kind of scan",
        description="incremental: what is new against everything; full: everything, index rebuilt",
    )
    source: str = Field(
        "",
        title="Source",
        description="Where the images are: s3://bucket/prefix or a folder; empty: the source that "
        "the settings name",
    )
    where: str = Field(
        "",
        title="Filter",
        description="Only these assets, e.g. label = 'shoes' and size > 100000 and "
        "tags.agency = 'north'; empty: all",
        max_length=4000,
    )
    fq: list[str] = Field(
        default_factory=list,
        title="Filter queries",
        description="Shorter filters that hold as well, e.g. label:shoes, -format:gif, "
        "size:[1000 TO *]",
        max_length=50,
    )
    across: str = Field(
        "",
        title="Filter of the reference side",
        description="Only pairs between the assets of the filters above and these are looked for, "
        "e.g. tags.agency = 'archive'; empty: all pairs",
        max_length=4000,
    )
    threshold: float | None = Field(
        None,
        ge=0.5,
        le=1.0,
        title="Threshold",
        description="Lowest score reported, 0.5 (alike) to 1 (identical); none: as in the settings",
    )
    mode: Literal["auto", "exact", "balanced", "speed"] | None = Field(
        None,
        title="Search mode",
        description="How candidates are searched for; auto: by the number of images; none: as in "
        "the settings",
    )
    dry_run: bool = Field(
        False,
        title="Dry run",
        description="Compute and show, but send no mail and write nothing to the bucket",
    )
    refresh_metadata: bool = Field(
        False,
        title="Read metadata again",
        description="Read tags and user metadata of every asset again, not only of new ones",
    )


class PlanDecision(StrEnum):
    """A person's word on a merge plan."""

    APPROVE = "approve"
    REJECT = "reject"


_PLAN = r"^[0-9a-f]{4,64}$"
_PERSON = Field(
    min_length=1,
    max_length=200,
    title="Your name",
    description="Who decides; kept on record in the audit",
)
_COMMENT = Field(
    "", max_length=2000, title="Comment", description="Why; kept on record in the audit"
)


class MergeRequest(Form):
    """A decision about a merge plan.

    Plan, decision and person have no defaults: nobody decides by pressing Submit.
    """

    plan_id: str = Field(
        pattern=_PLAN, title="Plan", description="The plan's id, as the report or the mail names it"
    )
    decision: PlanDecision = Field(
        title="Decision",
        description="approve: carry out what the plan shows; reject: leave these groups alone",
    )
    approved_by: str = _PERSON
    groups: list[str] = Field(
        default_factory=list,
        title="Groups",
        description="Only these groups; empty: all without open questions",
    )
    accept_questions: bool = Field(
        False,
        title="Accept open questions",
        description="Also groups with open questions; what conflicts stays the keeper's",
    )
    comment: str = _COMMENT
    dry_run: bool = Field(
        True,
        title="Dry run",
        description="Decide and write nothing; show what would be done. Untick to act",
    )


class UndoRequest(Form):
    """What to undo."""

    target: str = Field(
        min_length=4,
        max_length=200,
        title="What to undo",
        description="A plan's id; PLAN/GROUP for one group; PLAN/GROUP/NUMBER for one operation",
    )
    undone_by: str = _PERSON
    dry_run: bool = Field(
        True, title="Dry run", description="Only show what would be undone. Untick to act"
    )


class EmptyRequest(Form):
    """What to remove from quarantine for good."""

    emptied_by: str = _PERSON
    plan_id: str = Field(
        "", max_length=64, title="Plan", description="Of this plan only; empty: of all"
    )
    early: bool = Field(
        False,
        title="Before its time",
        description="Also what the policy still keeps; the run then asks once more",
    )
    dry_run: bool = Field(
        True, title="Dry run", description="Only show what would be removed. Untick to act"
    )

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


class VerdictRequest(Form):
    """A person's word on a pair."""

    left: str = Field(
        min_length=1, max_length=1024, title="One image", description="Its key or asset id"
    )
    right: str = Field(
        min_length=1, max_length=1024, title="The other image", description="Its key or asset id"
    )
    verdict: PairVerdict = Field(
        title="Verdict",
        description="duplicate: the same picture, also where the program says no; linked: they "
        "belong together, and are not merged; distinct: never propose this pair again until the "
        "content of one of them changes",
    )
    given_by: str = _PERSON
    comment: str = _COMMENT


class CheckRequest(Form):
    """Is this image already there?"""

    asset: str = Field(
        "", max_length=1100, title="Asset", description="Its key or asset id; or give an address"
    )
    url: str = Field(
        "",
        max_length=4000,
        title="Address of an image",
        description="https://... of an image; or give an asset",
    )
    source: str = Field(
        "",
        max_length=1100,
        title="Source",
        description="What it is compared with: s3://bucket/prefix, a folder or gate://NAME; empty: "
        "the source that the settings name",
    )
    where: str = Field(
        "",
        max_length=4000,
        title="Filter",
        description="Compare only with these assets, e.g. label = 'shoes'; empty: with all",
    )
    fq: list[str] = Field(
        default_factory=list,
        max_length=50,
        title="Filter queries",
        description="Shorter filters that hold as well: field:value or -field:value",
    )
    threshold: float | None = Field(
        None,
        ge=0.5,
        le=1.0,
        title="Threshold",
        description="Lowest score shown, 0.5 (alike) to 1 (identical); none: as in the settings",
    )
    limit: int = Field(
        100,
        ge=1,
        le=10_000,
        title="Findings shown",
        description="So many at most; the total is always told",
    )
    offset: int = Field(
        0, ge=0, title="Findings left out", description="So many before the first that is shown"
    )
    exclude: list[str] = Field(
        default_factory=list,
        max_length=1000,
        title="Leave out",
        description="Keys or asset ids that are not shown",
    )
    mode: Literal["auto", "balanced", "speed", "exact"] = Field(
        "auto",
        title="Search mode",
        description="How the nearest images are searched for; auto: by the size of the collection",
    )

    @model_validator(mode="after")
    def _one_image(self) -> CheckRequest:
        if bool(self.asset.strip()) == bool(self.url.strip()):
            raise ValueError("give an asset or a url, and not both")
        return self


class KeysRequest(Form):
    """Which keys to look at: what a bucket's notifications name, or a list."""

    events: list[dict[str, Any]] = Field(
        default_factory=list,
        max_length=10_000,
        title="Notifications",
        description="S3 event notifications as they came: raw, or wrapped by SNS, SQS, EventBridge",
    )
    # Not "keys": Prefect takes what has one for a mapping.
    names: list[str] = Field(
        default_factory=list,
        max_length=10_000,
        title="Keys",
        description="Keys of objects, beside those of the notifications",
    )
    source: str = Field(
        "",
        max_length=1100,
        title="Source",
        description="Where they are: s3://bucket/prefix; empty: the source that the settings name",
    )
