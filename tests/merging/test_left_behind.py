"""Metadata and files that a merge does not take over: taken to the sidecar, or asked about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from PIL import ExifTags, Image

from tasks.embedding.images import read_picture
from tasks.merging.rules.blocks import belongs_to, exif_as_xmp, left_behind, what_it_holds
from tasks.merging.rules.keeper_choice import choose_keeper
from tasks.merging.rules.metadata import merge_metadata
from tasks.merging.rules.plans import Member
from tasks.merging.rules.policy import DEFAULT_METADATA, load_policy
from tasks.records import now
from tasks.settings import LimitSettings
from tests.conftest import blobs
from tests.merging.conftest import encoded, picture

POLICY = """
version: 1
name: left behind
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, tier: [exact, near], keeper: [{prefix: [k/]}], action: quarantine}
"""
PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
    'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" %s/></rdf:RDF></x:xmpmeta>'
)


def exif() -> Image.Exif:
    found = Image.Exif()
    found[ExifTags.Base.Copyright] = "(c) Studio"
    found[ExifTags.Base.Artist] = "Kim"
    found[ExifTags.Base.ImageDescription] = "The hall opens"
    found.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2026:03:03 10:11:12"
    gps = found.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLatitude] = "S", (53.0, 30.0, 36.0)
    gps[ExifTags.GPS.GPSLongitudeRef], gps[ExifTags.GPS.GPSLongitude] = "E", (9.0, 45.0, 0.0)
    return found


def with_iptc(jpeg: bytes) -> bytes:
    body = b"\x1c\x02\x19\x00\x07harbour"
    body += b"\0" * (len(body) % 2)
    part = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(body).to_bytes(4, "big") + body
    return jpeg[:2] + b"\xff\xed" + (len(part) + 2).to_bytes(2, "big") + part + jpeg[2:]


def jpeg(**options: Any) -> bytes:
    return encoded(blobs(1), "JPEG", **options)


def told(data: bytes) -> dict[str, str]:
    return read_picture(data, LimitSettings(), 32).exif


def test_what_a_file_holds_is_told() -> None:
    assert "Holds" not in told(jpeg())
    assert told(jpeg(exif=exif()))["GPSPosition"] == "-53.510000, 9.750000"
    assert told(with_iptc(jpeg()))["Holds"] == "IPTC"
    packet = PACKET % 'xmp:Rating="5" photoshop:City="Bonn" tiff:Orientation="1"'
    assert told(jpeg(xmp=packet.encode()))["Holds"] == "XMP: City"
    assert "Holds" not in told(jpeg(xmp=(PACKET % 'xmp:Rating="5"').encode()))
    motion = jpeg(xmp=(PACKET % 'GCamera:MotionPhoto="1"').encode())
    assert told(motion)["Holds"].endswith("a video")
    assert told(jpeg() + b"\0\0\0\x18ftypmp42MotionPhoto_Data")["Holds"] == "a video"


@pytest.mark.parametrize("broken", [b"\xff", b"<x", b"\0" * 100, b"<!DOCTYPE x [<!ENTITY a 'b'>]>"])
def test_a_broken_block_is_no_block(broken: bytes) -> None:
    assert "Holds" not in told(jpeg(xmp=broken))
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
    held = member("d", holds=what_it_holds({"GPSPosition": "1, 2", "Holds": "IPTC"}), sha256="s")
    (question,) = left_behind(member("k", sha256="t"), [held])
    assert question.startswith("d holds a position (1, 2); IPTC, which")
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


def test_exif_comes_to_the_keepers_sidecar_and_the_rest_is_asked(site: Any) -> None:
    site.put("k/big.png", encoded(picture(1, 320)), ContentType="image/png")
    small = with_iptc(encoded(picture(1, 200), "JPEG", quality=85, exif=exif()))
    site.put("d/small.jpg", small, ContentType="image/jpeg")
    for name in ("MOV", "aae"):
        site.put(f"d/small.{name}", b"\0\0\0\x14ftypqt  " + bytes(40))
    site.put("d/small.jpg.xmp", (PACKET % 'photoshop:City="Bonn"').encode())
    site.put("d/small.xmp", (PACKET % 'photoshop:City="Ulm"').encode())
    before = site.snapshot()
    site.scan()
    plan = site.plan(policy=POLICY)
    (group,) = plan.groups
    asked = "\n".join(group.questions)
    assert "a position (-53.510000, 9.750000); IPTC" in asked
    assert "d/small.MOV, d/small.aae" in asked
    assert "d/small.jpg.xmp" in asked or "d/small.xmp" in asked, "one of two sidecars stays"
    assert "rights" in asked, "the default policy asks about rights"
    assert {field.field: field.kept for field in group.fields}["xmp.creator"] == "Kim"
    assert [one.decision for one in site.approve(plan, accept_questions=False)] == [""]
    site.approve(plan)
    assert site.merge(plan).complete
    sidecar = site.body("k/big.png.xmp").decode()
    for text in ("Kim", "The hall opens", "2026-03-03T10:11:12"):
        assert text in sidecar
    site.undo(plan.id)
    assert site.snapshot() == before
