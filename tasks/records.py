"""The nouns. Anything counted in millions is an Arrow table or a polars frame instead."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.settings import Settings

if TYPE_CHECKING:  # decoder processes import this module: they should not pay for polars
    import numpy as np
    import numpy.typing as npt
    import polars as pl

#: Long side of stored thumbnails, and of what is compared.
THUMBNAIL_SIDE = 384
#: Counts that begin so are milliseconds that a stage took.
STAGE = "ms_"


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

    @model_validator(mode="after")
    def _early_names_a_plan(self) -> EmptyRequest:
        if self.early and not self.plan_id.strip():
            raise ValueError("emptying a quarantine early needs one plan's id")
        return self


class Word(StrEnum):
    """What a person says of a pair."""

    DUPLICATE = "duplicate"
    LINKED = "linked"
    DISTINCT = "distinct"


class VerdictRequest(BaseModel):
    """A person's word on a pair, as the Prefect UI asks for it."""

    model_config = ConfigDict(extra="forbid")

    left: str = Field(min_length=1, max_length=1024, description="Key or asset id")
    right: str = Field(min_length=1, max_length=1024, description="Key or asset id of the other")
    verdict: Word = Field(
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


@dataclass(frozen=True, slots=True)
class GroupNote:
    """What a merge plan says of one group.

    Attributes:
        action: the policy's word: ``quarantine``, ``delete``, ``tag`` ...; ``report``: nothing.
        acting: whether anything would be done.
        files: how many objects would leave their place.
        bytes: size of these.
        questions: what a person has to decide.
        refused: why nothing may be done, or nothing.
        approved: whether the policy approved it by itself.
        approvers: who may decide; empty: anybody.
    """

    action: str
    acting: bool
    files: int
    bytes: int
    questions: tuple[str, ...] = ()
    refused: str = ""
    approved: bool = False
    approvers: tuple[str, ...] = ()


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
        policy: name and version of the policy.
        groups: group id to what is planned for it.
    """

    id: str
    acting: int
    asking: int
    refused: int
    approved: int
    bytes: int
    form: str | None = None
    pages: dict[str, str] = field(default_factory=dict)
    policy: str = ""
    groups: dict[str, GroupNote] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan: handed from stage to stage; the catalog carries the bulk.

    Attributes:
        scope: names the set of assets that are compared with one another: source and filter.
        across: filter of the other side; where there is one, only pairs between the assets of
            ``where`` and these are looked for.
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
    across: str = ""


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
class Analysis:
    """All that a scan, a check or an update needs to know of an image, without its bytes.

    Attributes:
        picture: without its pixels.
        vector: float16 (dim,), unit length.
        space: where the vector lives.
        size: bytes of the file.
    """

    picture: Picture
    vector: npt.NDArray[np.float16]
    space: Space
    size: int


@dataclass(frozen=True, slots=True)
class Question:
    """What a check asks for besides the image.

    Attributes:
        source: what it is compared with; empty: the default source.
        where: SQL-style filter of what it is compared with.
        threshold: lowest score found; below 0.5 nothing is alike.
        limit: findings on one page.
        offset: findings before the page.
        exclude: asset ids or keys that are left out.
        mode: how neighbours are searched: auto, balanced, speed or exact.
    """

    source: str = ""
    where: str = ""
    threshold: float = 0.7
    limit: int = 10
    offset: int = 0
    exclude: tuple[str, ...] = ()
    mode: str = "auto"


@dataclass(frozen=True, slots=True)
class Finding:
    """One asset that the image was verified against and matches.

    Attributes:
        relation: ``equal bytes``, ``equal pixels`` or ``verified``.
        evidence: the measurements, JSON as the catalog keeps it; empty where there are none.
        changes: the evidence in words.
        verdict: a person's word on the pair: duplicate, linked or nothing; linked also where both
            come from one document.
        facts: width, height, size, format, last_modified, label, tags, metadata ...
    """

    asset_id: str
    key: str
    source: str
    score: float
    tier: str
    content: str
    relation: str
    evidence: str
    changes: str
    verdict: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    Attributes:
        found: one page, highest score first, then by key.
        total: findings on all pages.
        candidates: contents that were worth a look.
        verified: of these, how many were looked at now; the others were known.
        silenced: findings that a person called distinct: counted, not listed.
        mode: the search that was used: exact, balanced or speed.
        space: where the neighbours were looked for.
    """

    found: tuple[Finding, ...]
    total: int
    candidates: int
    verified: int
    silenced: int
    mode: str
    space: Space


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
        alerts: one row an alert of the assets in scope: rule, left and right (keys), relation,
            score, evidence, state (``new`` or ``known``) ...; None in a summary made without.
        calibrated: what the collection's own labels say of its thresholds (``dam-dedup
            calibrate``): ``made``, ``labelled``, ``rule``, ``recommended``, ``thresholds``.
        shares: reviewer to the ids of the groups that lie in that person's part.
        past: the finished scans of this scope before this one (``tasks.reporting.history.PAST``).
        mailed: start of the last scan of this scope that was mailed.
        realised: bytes that merges had taken out of the collection by then.
        tables: catalog table to the version that this was read from.
        lost: of a scan of the past, what could not be read as it was then.
        small: content to WebP bytes, smaller pictures of the groups beyond those.
        described: one row a member: asset_id, and tags, metadata, xmp, exif as JSON.
        planned: the scan's merge plan (:class:`~tasks.merging.rules.plans.Plan`), if there is one.
        cost_per_gb_month: what storage costs.
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
    across: str = ""
    plan: PlanNote | None = None
    alerts: pl.DataFrame | None = None
    calibrated: dict[str, Any] | None = None
    shares: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    past: pl.DataFrame | None = field(default=None, repr=False)
    mailed: datetime | None = None
    realised: int = 0
    tables: dict[str, int] = field(default_factory=dict, repr=False)
    lost: tuple[str, ...] = ()
    small: dict[str, bytes] = field(default_factory=dict, repr=False)
    described: pl.DataFrame | None = None
    planned: object | None = field(default=None, repr=False)
    cost_per_gb_month: float = 0.023
    search: dict[str, str | float | int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the scan's start to its summary."""
        return (self.finished - self.started).total_seconds()

    @property
    def stages(self) -> dict[str, float]:
        """Stage to the seconds that it took."""
        return {
            name.removeprefix(STAGE): value / 1000
            for name, value in self.counts.items()
            if name.startswith(STAGE)
        }

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
