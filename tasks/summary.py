"""What reports read: the summary of one scan."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tasks.merging.rules.plan_note import PlanNote
from tasks.merging.rules.plans import Plan
from tasks.records import Kind, Space

if TYPE_CHECKING:
    import polars as pl

#: Counts that begin so are milliseconds that a stage took.
STAGE = "ms_"


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
class MergedBytes:
    """Where the bytes are that merges took out of a collection.

    Attributes:
        removed: no longer at their place, and not brought back; the other numbers are parts of it
            or lie beside it.
        quarantined: moved into quarantine and still there.
        until: the first moment at which some of these may be removed for good.
        noncurrent: kept by the bucket as old versions, so not freed.
        freed: removed for good.
    """

    removed: int = 0
    quarantined: int = 0
    until: datetime | None = None
    noncurrent: int = 0
    freed: int = 0


@dataclass(frozen=True, slots=True)
class MergedSince:
    """What merges did since the last mail, or since the last scan where none was mailed.

    Attributes:
        groups: that were merged, with ``moved`` bytes that left their place.
        undone: groups that were undone.
        freed: bytes that were removed for good; none where the bucket keeps versions.
    """

    groups: int = 0
    moved: int = 0
    undone: int = 0
    freed: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """All a renderer needs of one scan.

    Where there is a merge plan, keepers, roles and ``savings`` are the plan's
    (``tasks.reporting.plan_view``).

    Attributes:
        groups: one row a group: group_id, tier, size, bytes, savings (bytes of the files that the
            plan would move out of their place), score, state, keeper, action and standing.
        members: one row a member: group_id, asset_id, key, role, tier, score, content, action and
            facts.
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
        merged: where the bytes are that merges moved or removed until then.
        since: what merges did since the last mail.
        decidable: ids of groups on which nobody could decide when they were last reported, because
            they were too young or under embargo, say, and on which somebody can now.
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
    planned: Plan | None = field(default=None, repr=False)
    cost_per_gb_month: float = 0.023
    search: dict[str, str | float | int] = field(default_factory=dict)
    merged: MergedBytes = MergedBytes()
    since: MergedSince = MergedSince()
    decidable: frozenset[str] = frozenset()

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
        """Whether any group is new, changed or to be decided on since the last scan."""
        return bool((self.groups["state"] != "known").any()) or self.now_decidable > 0

    @property
    def now_decidable(self) -> int:
        """How many of the groups can be decided on now that could not be before."""
        return len(self.decidable.intersection(self.groups["group_id"]))
