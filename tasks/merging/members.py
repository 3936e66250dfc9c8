"""The members of a scan's groups, with all that the catalog knows of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import polars as pl

from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.keepers import wraps
from tasks.merging.rules.blocks import exif_as_xmp, what_it_holds
from tasks.merging.rules.bursts import time_taken
from tasks.merging.rules.plans import Member
from tasks.merging.rules.voices import said_by
from tasks.queries.asset_pairs import list_pairs
from tasks.queries.matches import read_matches
from tasks.queries.packets import read_packets
from tasks.queries.scope_assets import read_assets
from tasks.records import ARCHIVES, Scan, Space, Tier

_FACTS = [
    "key",
    "asset_id",
    "content",
    "sha256",
    "size",
    "width",
    "height",
    "format",
    "quality",
    "last_modified",
    "storage_class",
    "flags",
    "etag",
    "tags",
    "metadata",
    "exif",
    "xmp",
    "sidecar_xmp",
    "sidecars",
]


def read_members(catalog: Catalog, scan: Scan, space: Space) -> list[tuple[str, list[Member]]]:
    """Group id to members, the groups with the most to save first.

    What they hold of tags, metadata and states is the last listing's: nothing is asked of the
    bucket here.
    """
    rows = catalog.read(
        "groups", ["group_id", "asset_id", "role", "tier", "score"], f"scan_id = {quote(scan.id)}"
    )
    assets = read_assets(catalog, scan, _FACTS)
    facts = rows.join(assets, on="asset_id", how="inner")
    inside = assets.join(facts.select("asset_id"), on="asset_id", how="semi")
    originals, copies = _originals(catalog, scan, space, inside, facts)
    packets = read_packets(catalog, facts["sha256"].drop_nulls())
    groups: dict[str, list[Member]] = {}
    for row in facts.sort("group_id", "key").iter_rows(named=True):
        key, member = row["key"], _member(row, packets.get(row["sha256"] or ""))
        member = replace(member, original=key in originals, copy=key in copies)
        groups.setdefault(row["group_id"], []).append(member)

    def order(item: tuple[str, list[Member]]) -> tuple[int, str]:
        sizes = sorted(member.size for member in item[1])
        return -sum(sizes[:-1]), item[0]

    return sorted(((name, found) for name, found in groups.items() if len(found) > 1), key=order)


def _originals(
    catalog: Catalog, scan: Scan, space: Space, assets: pl.DataFrame, members: pl.DataFrame
) -> tuple[set[str], set[str]]:
    """Keys of assets that some pair calls the original and none the copy, and of the copies."""
    inside = assets["content"].implode()
    matches = read_matches(catalog, scan, space).filter(
        pl.col("left").is_in(inside) & pl.col("right").is_in(inside)
    )
    pairs = list_pairs(assets, matches, members).filter(pl.col("relation") == "duplicate")
    left, right = pairs.filter(original="left"), pairs.filter(original="right")
    copies = {*left["right"], *right["left"], *assets.filter(wraps())["key"]}
    wrapped = assets.filter(wraps().any().over("content"))["key"]
    return {*left["left"], *right["right"], *wrapped} - copies, copies


def _member(row: dict[str, Any], packet: str | None) -> Member:
    exif = json.loads(row["exif"] or "{}")
    said = said_by(packet or "")
    xmp = exif_as_xmp(exif) if packet is None else {}
    xmp |= json.loads(row["xmp"] or "{}") | said.fields
    xmp |= json.loads(row["sidecar_xmp"] or "{}")
    sidecars = sorted(key for key in row["sidecars"] or [] if key.lower().endswith(".xmp"))
    return Member(
        asset_id=row["asset_id"],
        key=row["key"],
        content=row["content"],
        size=row["size"],
        width=row["width"],
        height=row["height"],
        format=row["format"],
        last_modified=row["last_modified"],
        tier=Tier(row["tier"]),
        score=round(row["score"], 4),
        quality=row["quality"],
        flags=tuple(row["flags"] or ()),
        tags=json.loads(row["tags"] or "{}"),
        metadata=json.loads(row["metadata"] or "{}"),
        xmp=xmp,
        held=row["etag"],  # the listing's, until the object has been looked at
        sidecar=sidecars[0] if sidecars else None,
        sha256=row["sha256"] or "",
        holds=what_it_holds(exif, packet),
        sidecars=tuple(sidecars),
        packet=packet or "",
        lists=said.lists,
        taken=time_taken(exif),
        archived=row["storage_class"] in ARCHIVES,
    )
