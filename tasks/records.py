"""The nouns. Anything counted in millions is an Arrow table or a polars frame instead."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.settings import Settings

if TYPE_CHECKING:  # decoder processes import this module: they should not pay for polars
    import numpy as np
    import numpy.typing as npt
    import polars as pl

#: Long side of stored thumbnails, and of what is compared.
THUMBNAIL_SIDE = 384


class Kind(StrEnum):
    """The one word in which scans differ: which assets are queried, is the index rebuilt."""

    INCREMENTAL = "incremental"
    FULL = "full"


class Tier(StrEnum):
    """How sure a match is (see docs/design.md, "Words")."""

    EXACT = "exact"
    NEAR = "near"
    SIMILAR = "similar"


class Role(StrEnum):
    """What an asset is in its duplicate group."""

    KEEPER = "keeper"
    DUPLICATE = "duplicate"


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


class Decision(StrEnum):
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
    decision: Decision
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


@dataclass(frozen=True, slots=True)
class PlanNote:
    """A merge plan in the words of a report.

    Attributes:
        acting: groups that would be acted on.
        asking: of these, how many have open questions.
        refused: groups that may not be merged.
        approved: groups that the policy approved by itself.
        bytes: size of what would leave.
        form: link to the Prefect UI's form, filled in but for the decision.
        pages: reviewer to the link of the signed page.
    """

    id: str
    acting: int
    asking: int
    refused: int
    approved: int
    bytes: int
    form: str | None = None
    pages: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan: handed from stage to stage; the catalog carries the bulk.

    Attributes:
        scope: names the set of assets that are compared with one another: source and filter.
    """

    id: str
    kind: Kind
    source: str
    where: str
    scope: str
    threshold: float
    dry_run: bool
    refresh_metadata: bool
    started: datetime
    settings: Settings = field(repr=False)


@dataclass(frozen=True, slots=True)
class SearchNote:
    """How the candidates of a scan were searched for, and what that found.

    Attributes:
        mode: exact, balanced or speed.
        recall: share of the exact nearest that the lists of a sample hold.
        best: share of the sample whose best hit is in its list.
        sample: contents drawn for it; 0: nothing was estimated.
        ranked: share of the contents that each is compared with.
        neighbours: length of a list.
    """

    mode: str
    recall: float = 1.0
    best: float = 1.0
    sample: int = 0
    ranked: float = 1.0
    neighbours: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """One object as a listing shows it."""

    key: str
    etag: str
    size: int
    last_modified: datetime
    storage_class: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What one small request tells of an object: its head bytes and its metadata."""

    head: bytes
    etag: str
    size: int
    last_modified: datetime
    version_id: str | None = None
    content_type: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ObjectState:
    """An object as a merge finds it, and as it must still be when the merge is applied.

    Attributes:
        etag: empty where there is no such object.
        metadata: user metadata as the store hands it out, undecoded.
        headers: what else a copy must keep: ContentType, CacheControl, StorageClass ...
        held: why it may not be removed (``legal hold``, ``retained until 2030-01-01``), or nothing.
    """

    key: str
    etag: str = ""
    size: int = 0
    version_id: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    held: str = ""

    @property
    def exists(self) -> bool:
        """Whether there is such an object."""
        return bool(self.etag)


@dataclass(frozen=True, slots=True)
class Picture:
    """All that one read of an image gives.

    Attributes:
        sha256: of the bytes, hex.
        content: of the decoded, upright pixels, hex; equal pixels give equal content.
        phash: 64-bit perceptual hash.
        pixels: uint8 array (side, side, 3), RGB, the model's input.
        thumbnail: JPEG, longest side at most 384 px.
        quality: JPEG quality as the IJG library counts it, of a JPEG.
        flags: what a careful merge must know (``flat``, ``tiny``, ``aspect``, ``multi_frame``).
    """

    sha256: str
    content: str
    phash: int
    width: int
    height: int
    mode: str
    format: str
    thumbnail: bytes
    pixels: npt.NDArray[np.uint8]
    quality: int | None = None
    flags: tuple[str, ...] = ()
    exif: dict[str, str] = field(default_factory=dict)
    xmp: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Space:
    """An embedding space; scores compare only inside one."""

    model: str
    revision: str
    preprocessing: str
    dim: int

    @property
    def id(self) -> str:
        """A short name for the space, the same on every machine."""
        return digest(self.model, self.revision, self.preprocessing, str(self.dim))


@dataclass(frozen=True, slots=True)
class Coverage:
    """What became of every object seen: ``seen = scanned + skipped + failed``, always.

    Attributes:
        skipped: reason to count, objects that are no images of the collection.
        failed: reason to count, images that gave no picture.
        outcomes: frame (key, outcome, reason, message), one row for each skipped or failed object.
    """

    seen: int
    scanned: int
    skipped: dict[str, int]
    failed: dict[str, int]
    outcomes: pl.DataFrame

    @property
    def adds_up(self) -> bool:
        """Whether nothing was dropped silently."""
        return self.seen == (self.scanned + sum(self.skipped.values()) + sum(self.failed.values()))


@dataclass(frozen=True, slots=True)
class Summary:
    """All a renderer needs of one scan.

    Attributes:
        groups: one row a group: group_id, tier, size, bytes, savings, score, state.
        members: one row a member: group_id, asset_id, key, role, tier, score, content and facts.
        pairs: one row a match: left, right (keys, left < right), score, tier, relation, and the
            evidence in words and as JSON.
        links: left, right (keys), reason: assets that belong together without being duplicates.
        thumbnails: content to JPEG bytes, for the groups that are drawn.
        plan: what the policy would do, where there is one.
        search: mode, recall, best, sample, ranked, neighbours (see :class:`SearchNote`).
    """

    scan_id: str
    kind: Kind
    collection: str
    source: str
    where: str
    threshold: float
    dry_run: bool
    started: datetime
    finished: datetime
    coverage: Coverage
    counts: dict[str, int]
    space: Space
    versions: dict[str, str]
    groups: pl.DataFrame
    members: pl.DataFrame
    pairs: pl.DataFrame
    links: pl.DataFrame
    thumbnails: dict[str, bytes] = field(repr=False)
    plan: PlanNote | None = None
    search: dict[str, str | float | int] = field(default_factory=dict)

    @property
    def has_news(self) -> bool:
        """Whether any group is new or changed since the last scan of this scope."""
        return bool((self.groups["state"] != "known").any())


@dataclass(frozen=True, slots=True)
class Document:
    """Something to deliver."""

    name: str
    media_type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a document went."""

    name: str
    place: str
    link: str | None = None


def digest(*parts: str) -> str:
    """128-bit hex digest of a sequence of texts; ``("ab", "c")`` and ``("a", "bc")`` differ."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()


def asset_id(source: str, key: str) -> str:
    """The id of the asset at a key of a source."""
    return digest(source, key)


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


def as_text(values: dict[str, Any]) -> dict[str, str]:
    """Values as text, for metadata that may hold anything."""
    return {str(key): str(value) for key, value in values.items() if value not in (None, "")}
