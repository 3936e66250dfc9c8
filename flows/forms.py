"""The forms of the Prefect UI: first what an admin decides, below "Advanced" all the rest.

A form is turned into the request that the command line makes of its options. No field is optional
in the sense of "a number or nothing": the UI would ask which of the two it is.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.records import Kind
from tasks.requests import CheckRequest, Form, ScanRequest


class LookFor(StrEnum):
    """How alike two pictures must be, in words."""

    SETTINGS = "as the settings say"
    SAME = "the same picture, saved or resized again (0.95)"
    EDITED = "edited copies too (0.7)"
    RELATED = "related pictures too (0.5)"

    @property
    def threshold(self) -> float | None:
        """The lowest score that is reported; None: as the settings say."""
        return _THRESHOLDS[self]


_THRESHOLDS = {
    LookFor.SETTINGS: None,
    LookFor.SAME: 0.95,
    LookFor.EDITED: 0.7,
    LookFor.RELATED: 0.5,
}

_Mode = Literal["as the settings say", "auto", "exact", "balanced", "speed"]
_SOURCE = Field(
    "",
    max_length=1100,
    title="Source",
    description="Another place than the collection's: s3://bucket/prefix, a folder or gate://NAME",
)
_QUERIES: Any = Field(
    default_factory=list,
    max_length=50,
    title="Filter queries",
    description="Shorter filters that hold as well, e.g. label:shoes, -format:gif, "
    "size:[1000 TO *]",
)
_LOWEST = Field(
    0.0,
    ge=0,
    le=1,
    title="Exact threshold",
    description="Lowest score, 0.5 (alike) to 1 (identical), in place of the choice above; 0: the "
    "choice above",
)
_LOOK_FOR = Field(
    LookFor.SETTINGS, title="Look for", description="How alike two pictures must be to be shown"
)
_MODE: Any = Field(
    "as the settings say",
    title="Search mode",
    description="How candidates are searched for; auto: by the number of images",
)


class ScanOptions(Form):
    """What is rarely needed."""

    source: str = _SOURCE
    fq: list[str] = _QUERIES
    across: str = Field(
        "",
        title="Filter of the reference side",
        description="Only pairs between the assets of the filters above and these are looked for, "
        "e.g. tags.agency = 'archive'; empty: all pairs",
        max_length=4000,
    )
    threshold: float = _LOWEST
    mode: _Mode = _MODE
    refresh_metadata: bool = Field(
        False,
        title="Read metadata again",
        description="Read tags and user metadata of every asset again, not only of new ones",
    )


class _Layered(Form):
    """A form with a part below "Advanced"; what older forms had side by side is put there."""

    @model_validator(mode="before")
    @classmethod
    def _move_down(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        below = cls.model_fields["advanced"].annotation.model_fields  # type: ignore[union-attr]
        moved = {name: given[name] for name in below if name in given and given[name] is not None}
        kept = {name: value for name, value in given.items() if name not in {*below, "kind"}}
        if moved:
            kept["advanced"] = {**moved, **dict(kept.get("advanced") or {})}
        return kept


class ScanForm(_Layered):
    """What to scan."""

    where: str = Field(
        "",
        title="Filter",
        description="Only these assets, e.g. label = 'shoes' and size > 100000 and "
        "tags.agency = 'north'; empty: all",
        max_length=4000,
    )
    look_for: LookFor = _LOOK_FOR
    dry_run: bool = Field(
        False,
        title="Dry run",
        description="Compute and show, but send no mail and write nothing to the bucket",
    )
    advanced: ScanOptions = Field(
        default_factory=ScanOptions, title="Advanced", description="Rarely needed"
    )

    def request(self, kind: Kind) -> ScanRequest:
        """The request of this form; which kind of scan it is, is said by the flow."""
        options = self.advanced
        return ScanRequest(
            kind=kind,
            where=self.where,
            dry_run=self.dry_run,
            threshold=options.threshold or self.look_for.threshold,
            source=options.source,
            fq=options.fq,
            across=options.across,
            mode=None if options.mode == "as the settings say" else options.mode,
            refresh_metadata=options.refresh_metadata,
        )


class CheckOptions(Form):
    """What is rarely needed."""

    source: str = _SOURCE
    fq: list[str] = _QUERIES
    threshold: float = _LOWEST
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


class CheckForm(_Layered):
    """Which image is checked; one of the first two fields."""

    asset: str = Field(
        "", max_length=1100, title="Asset", description="Key or id of an image of the collection"
    )
    url: str = Field(
        "", max_length=4000, title="URL", description="Address of an image, http or https"
    )
    where: str = Field(
        "",
        max_length=4000,
        title="Filter",
        description="Compare only with these assets, e.g. label = 'shoes'; empty: with all",
    )
    look_for: LookFor = _LOOK_FOR
    advanced: CheckOptions = Field(
        default_factory=CheckOptions, title="Advanced", description="Rarely needed"
    )

    @model_validator(mode="after")
    def _one_image(self) -> CheckForm:
        self.request()
        return self

    def request(self) -> CheckRequest:
        """The request of this form."""
        options = self.advanced
        return CheckRequest(
            asset=self.asset,
            url=self.url,
            where=self.where,
            threshold=options.threshold or self.look_for.threshold,
            source=options.source,
            fq=options.fq,
            limit=options.limit,
            offset=options.offset,
            exclude=options.exclude,
            mode=options.mode,
        )
