"""By what the files of a group differ: the batches that are looked at and decided on at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.dedup.evidence import Evidence
from tasks.dedup.explain import kinds_of
from tasks.dedup.origin import PictureFacts, turn_around

#: The batches, what needs least thought first. Each group is in one of them: the last that any of
#: its pairs belongs to.
BATCHES = (
    "bytes",
    "saved",
    "resized",
    "format",
    "format_resized",
    "tones",
    "cropped",
    "framed",
    "turned",
    "added",
    "detail",
    "other",
)


def batch_of(pairs: Iterable[Mapping[str, Any]], rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The batch of a group.

    Args:
        pairs: those of its file that stays with each other file, as a summary lists them.
        rows: its members by key; the first is the file that stays.

    Returns:
        One of :data:`BATCHES`; ``other`` where a file was never compared with the one that stays.
    """
    keeper = next(iter(rows))
    if len({row.get("sha256") for row in rows.values()}) == 1 and rows[keeper].get("sha256"):
        return "bytes"
    found = {
        _other(pair, keeper): _kinds(pair, rows, keeper)
        for pair in pairs
        if keeper in (pair["left"], pair["right"])
    }
    if len(found) < len(rows) - 1 or None in found.values():
        return "other"
    kinds = frozenset().union(*(kinds for kinds in found.values() if kinds is not None))
    for name in reversed(BATCHES[BATCHES.index("tones") :]):
        if name in kinds:
            return name
    if {"format", "resized"} <= kinds:
        return "format_resized"
    if kinds & {"format", "resized"}:
        return "format" if "format" in kinds else "resized"
    return "saved"


def _other(pair: Mapping[str, Any], keeper: str) -> str:
    return str(pair["right"] if pair["left"] == keeper else pair["left"])


def _kinds(
    pair: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]], keeper: str
) -> frozenset[str] | None:
    """What was done to the keeper to get the other; None where that is not known."""
    one, two = _facts(rows[keeper]), _facts(rows[_other(pair, keeper)])
    if pair["evidence"] is None:
        if pair["tier"] == "exact":  # equal pixels need no evidence
            return frozenset({"format"} if one.format != two.format else ())
        return None
    try:
        evidence = Evidence.from_json(pair["evidence"])
    except (KeyError, TypeError, ValueError):  # of another release: the words remain
        return None
    # It tells right against left, or the other way round where it is flipped.
    keeper_is_left = (pair["left"] == keeper) != bool(pair["flipped"])
    return kinds_of(evidence if keeper_is_left else turn_around(evidence), one, two)


def _facts(row: Mapping[str, Any]) -> PictureFacts:
    return PictureFacts(row["width"], row["height"], row["size"], row["format"], row.get("quality"))
