"""Count missing: the images that the storage did not show because it failed in passing.

Storage that refuses everybody for a minute leaves most of a collection out of a scan. So a scan
that misses more than a set share of its images waits and reads them again, and is no success when
they stay missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.catalog.catalog import quote
from tasks.queries.objects import UNANSWERED
from tasks.records import Scan
from tasks.session import open_catalog, open_source, scope_sql

#: So few missing images are told in the report, whatever share they are: one object that its store
#: never shows must not fail every scan of a small collection.
_FEW = 3


@dataclass(frozen=True, slots=True)
class MissingCount:
    """How many images of a scan's scope the storage failed to show.

    Attributes:
        images: all that the scan is about, the missing ones included.
        missing: of these, how many the storage failed to show in passing.
        too_many: whether that is more than the settings allow.
    """

    images: int
    missing: int
    too_many: bool

    def __str__(self) -> str:
        """For messages and for the scan's row."""
        return f"{self.missing:,} of {self.images:,} images"


def count_missing(scan: Scan) -> MissingCount:
    """Count the images of the scan's scope that the storage failed to show, as the catalog has it.

    An object that was never looked at has no tags and no format: whatever the scan's filter says,
    it counts as an image that is missing.
    """
    catalog = open_catalog(scan.settings)
    source = open_source(scan.source, scan.settings)
    unread = f"failed = {quote(UNANSWERED)}"
    inside = scope_sql(scan, source)
    unseen = f"source = {quote(source.id)} AND removed_at IS NULL AND skipped = {quote(UNANSWERED)}"
    if source.prefix:
        unseen += f" AND starts_with(key, {quote(source.prefix)})"
    hidden = catalog.count("assets", unseen)
    missing = hidden + catalog.count("assets", f"({inside}) AND {unread}")
    images = hidden + catalog.count("assets", inside)
    allowed = max(_FEW, images * scan.settings.source.missing_share)
    return MissingCount(images, missing, missing > allowed)
