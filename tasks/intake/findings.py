"""From a row of the table of assets to a finding: what a check tells of an asset that matches."""

from __future__ import annotations

import json
from typing import Any

from tasks.dedup.evidence import Evidence
from tasks.dedup.explain import explain_pair
from tasks.dedup.origin import PictureFacts, turn_around
from tasks.dedup.verify import tier_of
from tasks.records import Finding, Picture

#: The columns of the table of assets that a finding tells.
FACTS = [
    "asset_id",
    "key",
    "source",
    "content",
    "name",
    "sha256",
    "width",
    "height",
    "size",
    "format",
    "mode",
    "quality",
    "label",
    "last_modified",
    "etag",
    "flags",
    "tags",
    "metadata",
]
_PLACE = {"asset_id", "key", "source", "content"}
_JSON = ("tags", "metadata")


def finding(row: dict[str, Any], picture: Picture, side: PictureFacts) -> Finding:
    """A row of the assets (FACTS, and score, evidence, verdict) as a finding.

    Args:
        row: of the asset that was found.
        picture: the one that was asked about.
        side: what is known of its file.
    """
    score, evidence = float(row["score"]), row["evidence"] or ""
    if row["sha256"] == picture.sha256:
        relation, changes = "equal bytes", "the same bytes"
    elif row["content"] == picture.content:
        relation, changes = "equal pixels", "the same pixels"
    else:
        relation = "verified"
        changes = _words(row, evidence, picture.content, side)
    facts = {name: row[name] for name in FACTS if name not in _PLACE}
    facts |= {name: json.loads(facts[name] or "{}") for name in _JSON}
    return Finding(
        asset_id=row["asset_id"],
        key=row["key"],
        source=row["source"],
        score=round(score, 4),
        tier=tier_of(score, same_pixels=relation != "verified").value,
        content=row["content"],
        relation=relation,
        evidence=evidence,
        changes=changes,
        verdict=row["verdict"] or "",
        facts=facts,
    )


def _words(row: dict[str, Any], text: str, content: str, side: PictureFacts) -> str:
    """What was done to one picture to get the other, in words.

    Evidence as it is stored describes the content with the higher digest against the other one; it
    is turned around where the image that was asked about has the lower one.
    """
    if not text:
        if row["verdict"] == "duplicate":
            return "a person says so"
        return "no texture; the same colours everywhere"
    evidence = Evidence.from_json(text)
    if content < row["content"]:
        evidence = turn_around(evidence)
    there = PictureFacts(row["width"], row["height"], row["size"], row["format"], row["quality"])
    said = explain_pair(evidence, there, side)
    if said.original == "either":
        return said.changes
    which = "this image" if said.original == "left" else "the asset"
    return f"{which}: {said.changes} ({'; '.join(said.reasons)})"
