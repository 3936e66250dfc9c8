"""The numbers of one scan as Prometheus takes them. What each is called and means is here alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from reports.page import totals
from tasks.delivery.pushgateway import Sample
from tasks.summary import STAGE, Summary

_PREFIX = "dam_dedup_scan_"
#: Name, without prefix, to what it is. Labels are in the name of the argument below.
SCAN_METRICS = {
    "finished_timestamp_seconds": "When the last scan that read enough ended, in seconds of 1970",
    "failed_timestamp_seconds": "When the last scan that failed did so, in seconds of 1970",
    "seconds": "How long the last scan took",
    "stage_seconds": "How long each stage of the last scan took, by stage",
    "objects": "Objects of the source, by what became of them: scanned, skipped, failed",
    "failed_images": "Images that gave no picture, by reason",
    "coverage_ratio": "Share of the images that could be read",
    "work": "What the last scan did, by step: added, changed, removed, read, embedded, compared",
    "groups": "Groups of duplicates, by state: new, changed, known",
    "duplicates": "Files that a group could do without, by tier: exact, near",
    "savings_bytes": "Bytes of these files",
    "mails_unsent": "Mails of the last scan that nobody got",
    "missing_images": "Images that the storage did not show, where too many for a whole scan",
}
_STEPS = ("added", "changed", "removed", "read", "embedded", "compared")


def _sample(name: str, value: float, **labels: str) -> Sample:
    return Sample(f"{_PREFIX}{name}", float(value), SCAN_METRICS[name], labels)


def scan_samples(summary: Summary, *, unsent: int, incomplete: bool) -> list[Sample]:
    """Every number of a scan that came to its end.

    Args:
        summary: of the scan.
        unsent: mails that nobody got.
        incomplete: whether the storage did not show so much that the scan counts as failed.
    """
    return list(_samples(summary, unsent, incomplete))


def failed_samples(moment: datetime) -> list[Sample]:
    """What is known of a scan that failed: when."""
    return [_sample("failed_timestamp_seconds", moment.timestamp())]


def _samples(summary: Summary, unsent: int, incomplete: bool) -> Iterator[Sample]:
    coverage, counts, found = summary.coverage, summary.counts, totals(summary)
    ended = "failed_timestamp_seconds" if incomplete else "finished_timestamp_seconds"
    yield _sample(ended, summary.finished.timestamp())
    yield _sample("seconds", (summary.finished - summary.started).total_seconds())
    for name, value in counts.items():
        if name.startswith(STAGE):
            yield _sample("stage_seconds", value / 1000, stage=name.removeprefix(STAGE))
    failed = sum(coverage.failed.values())
    yield _sample("objects", coverage.scanned, outcome="scanned")
    yield _sample("objects", sum(coverage.skipped.values()), outcome="skipped")
    yield _sample("objects", failed, outcome="failed")
    for reason, number in coverage.failed.items():
        yield _sample("failed_images", number, reason=reason)
    images = coverage.scanned + failed
    yield _sample("coverage_ratio", coverage.scanned / images if images else 1)
    for step in _STEPS:
        yield _sample("work", counts.get(step, 0), step=step)
    changed = found["new"] + found["changed"]
    for state, number in (
        ("new", found["new"]),
        ("changed", found["changed"]),
        ("known", found["groups"] - changed),
    ):
        yield _sample("groups", number, state=state)
    for tier in ("exact", "near"):
        yield _sample("duplicates", found[tier], tier=tier)
    yield _sample("savings_bytes", found["savings"])
    yield _sample("mails_unsent", unsent)
    yield _sample("missing_images", counts.get("missing", 0))
