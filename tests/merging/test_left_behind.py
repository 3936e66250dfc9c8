"""Metadata and files that a merge does not take over: taken to the sidecar, or asked about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.embedding.images import read_picture
from tasks.merging.rules.blocks import belongs_to, exif_as_xmp, left_behind, what_it_holds
from tasks.merging.rules.keeper_choice import choose_keeper
from tasks.merging.rules.metadata import merge_metadata
from tasks.merging.rules.plans import Member
from tasks.merging.rules.policy import DEFAULT_METADATA, load_policy
from tasks.records import now
from tasks.settings import LimitSettings
from tests.conftest import blobs
from tests.merging.blocks import packet, with_iptc
from tests.merging.conftest import encoded

POLICY = """
version: 1
name: left behind
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, tier: [exact, near], keeper: [{prefix: [k/]}], action: quarantine}
"""


def jpeg(**options: Any) -> bytes:
    return encoded(blobs(1), "JPEG", **options)


def told(data: bytes) -> dict[str, str]:
    return read_picture(data, LimitSettings(), 32).exif


def test_what_a_merge_cannot_take_over_is_told() -> None:
    assert "Holds" not in told(jpeg())
    assert "Holds" not in told(jpeg(xmp=packet('photoshop:City="Bonn" tiff:Orientation="1"')))
    assert told(with_iptc(jpeg()))["Holds"] == "IPTC 2:118"
    motion = jpeg(xmp=packet('GCamera:MotionPhoto="1"'))
    assert told(motion)["Holds"].endswith("a video")
    assert told(jpeg() + b"\0\0\0\x18ftypmp42MotionPhoto_Data")["Holds"] == "a video"
    assert told(jpeg() + b"jumdc2pa")["Holds"] == "content credentials (C2PA)"


@pytest.mark.parametrize("broken", [b"\xff", b"<x", b"<!DOCTYPE x [<!ENTITY a 'b'>]>"])
def test_a_broken_block_is_told_and_costs_no_picture(broken: bytes) -> None:
    assert told(jpeg(xmp=broken))["Holds"].startswith("XMP that cannot be read")
    cut = with_iptc(jpeg())
    assert isinstance(told(cut.replace(b"harbour", b"\xff" * 7)), dict)


def member(key: str, **more: Any) -> Member:
    base = Member(
        asset_id=key,
        key=key,
        content="c",
        size=1,
        width=1,
        height=1,
        format="jpeg",
        last_modified=datetime(2020, 1, 1, tzinfo=UTC),
    )
    return replace(base, **more)


def test_exif_says_what_xmp_has_a_field_for() -> None:
    assert exif_as_xmp(
        {"Copyright": "c", "Artist": "a", "DateTimeOriginal": "2026:03:03 10:11:12", "Make": "x"}
    ) == {"rights": "c", "creator": "a", "create_date": "2026-03-03T10:11:12"}
    assert exif_as_xmp({"DateTimeOriginal": "0000:00:00", "Artist": " "}) == {}


def test_only_what_others_do_not_hold_is_asked_about() -> None:
    held = member("d", holds=what_it_holds({"Holds": "IPTC 2:118; a video"}, ""), sha256="s")
    (question,) = left_behind(member("k", sha256="t"), [held])
    assert question.startswith("d holds IPTC 2:118; a video, which")
    (question,) = left_behind(member("k", sha256="t", holds="IPTC 2:118"), [held])
    assert question.startswith("d holds a video, which"), "the keeper holds the rest itself"
    moving = member("d", flags=("multi_frame",), content="frames")
    (question,) = left_behind(member("k"), [moving])
    assert question.startswith("d has further frames or pages")
    assert left_behind(member("k", content="frames"), [moving]) == []
    assert "older release" in what_it_holds({}, None)
    assert left_behind(replace(held, key="k"), [held]) == [], "equal bytes hold the same"
    assert left_behind(held, [member("d")]) == []


@pytest.mark.parametrize(
    ("key", "belongs"),
    [
        ("a/1.MOV", True),
        ("a/1.aae", True),
        ("a/1.xmp", True),
        ("a/1.heic.xmp", True),
        ("a/1.jpg.xmp", False),
        ("a/1.jpg", False),
        ("a/1.b.mov", False),
        ("a/10.mov", False),
    ],
)
def test_what_belongs_to_a_picture(key: str, belongs: bool) -> None:
    assert belongs_to(key, "a/1.heic") is belongs


@pytest.mark.parametrize(
    ("own", "other", "kept"), [("0", "5", "5"), ("4", "0", "4"), ("0", "", "0")]
)
def test_a_rating_of_zero_is_none(own: str, other: str, kept: str) -> None:
    keeper, duplicate = member("k", xmp={"rating": own}), member("d", xmp={"rating": other})
    merged = merge_metadata(keeper, [duplicate], DEFAULT_METADATA)
    assert (merged.xmp["rating"], merged.conflicts) == (kept, ())


def test_a_raw_master_never_leaves_for_its_jpeg() -> None:
    policy = load_policy(POLICY, "p")
    rule = policy.rules[0]
    jpg, raw = member("k/1.jpg"), member("d/1.NEF", format="tiff")
    assert "camera raw" in choose_keeper([jpg, raw], policy, rule, now()).refused
    assert choose_keeper([raw, jpg], policy, rule, now(), wanted="d/1.NEF").refused == ""
    other = member("d/2.nef", format="raw")
    assert choose_keeper([member("k/1.dng"), other], policy, rule, now()).refused == ""
