"""All that a duplicate says reaches the keeper or is asked about, and an undo takes it all back."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from tasks.embedding.metadata import read_sidecar
from tests.conftest import first_of
from tests.merging.blocks import (
    REGIONS,
    exif_of,
    jpeg_comment,
    packet,
    with_iptc,
)
from tests.merging.conftest import encoded, picture

POLICY = """
version: 1
name: all metadata
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, tier: [exact, near], keeper: [{prefix: [k/]}], action: quarantine}
"""
Files = dict[str, bytes]


@dataclass(frozen=True)
class Case:
    """A keeper, a duplicate that knows more, and what must become of that.

    Attributes:
        files: of the number of a picture: keys below ``d/`` to bytes.
        kept: texts in the keeper's sidecar afterwards.
        asked: texts in the group's questions.
        moved: keys that leave with the duplicate.
        stays: keys that do not.
        keeper: the keeper's file, where it is not a plain PNG.
    """

    files: Callable[[int], Files]
    kept: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    keeper: Callable[[int], tuple[str, bytes]] = field(
        default=lambda n: ("png", encoded(picture(n, 320)))
    )


def small(n: int, **options: Any) -> bytes:
    return encoded(picture(n, 240), "JPEG", quality=90, **options)


def motion(n: int) -> bytes:
    mark = packet('GCamera:MotionPhoto="1"')
    return small(n, xmp=mark) + b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(500)


def texts(n: int) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "Ada")
    info.add_text("parameters", "a harbour, seed 7")
    buffer = io.BytesIO()
    picture(n, 240).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def thumbnail(n: int) -> bytes:
    return encoded(picture(n, 64), "JPEG", exif=exif_of(Copyright="(c) by the thumbnail"))


HEIF = b"\0\0\0\x14ftypqt  " + bytes(40)
CASES = {
    "exif": Case(
        lambda n: {"exif.jpg": small(n, exif=exif_of(full=True))},
        kept=(
            "Kim Adler",
            "Opening of the hall",
            "<exif:DateTimeOriginal>2026-03-03T10:11:12.50+01:00<",
            "<exif:GPSLatitude>53,33.12S<",
            "<exif:GPSLongitude>9,59.6E<",
            "<exif:GPSAltitude>17/2<",
            "<exifEX:LensModel>NIKKOR 85mm<",
            "<tiff:Model>Z 9<",
            "<exif:ExposureTime>1/250<",
            "<exif:Fired>True<",
            "<exif:UserComment>",
        ),
        asked=("xmp.rights: the policy asks", "camera maker's note (9 bytes"),
    ),
    "iptc": Case(
        lambda n: {"iptc.jpg": with_iptc(small(n))},
        kept=("harbour", "2026", "The mayor opens", "<photoshop:City>Kiel<", "DateCreated>2026-03"),
        asked=("xmp.rights", "IPTC 2:118"),
    ),
    "embedded": Case(
        lambda n: {"embedded.jpg": small(n, xmp=packet('photoshop:City="Hamburg"', REGIONS))},
        kept=("Hamburg", "Places|Hamburg", 'mwg-rs:Name="Person A"', 'stArea:x="0.5"'),
    ),
    "sidecar": Case(
        lambda n: {
            "sidecar.jpg": small(n),
            "sidecar.jpg.xmp": packet('photoshop:City="Bonn" xmp:Rating="5"', REGIONS),
        },
        kept=("Bonn", "Places|Hamburg", "Person A", "<xmp:Rating>5<"),
        moved=("sidecar.jpg.xmp",),
    ),
    "two": Case(
        lambda n: {
            "two.jpg": small(n),
            "two.xmp": packet('xmp:Rating="3" photoshop:City="Ulm"'),
            "two.jpg.xmp": packet('photoshop:City="Bonn"'),
        },
        kept=("<xmp:Rating>3<",),
        asked=("xmp.photoshop:City: the values differ", "'Ulm' (d/two.xmp)"),
        moved=("two.xmp", "two.jpg.xmp"),
    ),
    "history": Case(
        lambda n: {
            "history.jpg": small(
                n, xmp=packet('xmpMM:DocumentID="xmp.did:7" crs:Exposure2012="+1" tiff:Make="N"')
            )
        },
        kept=("<xmpMM:DocumentID>xmp.did:7<", "<crs:Exposure2012>+1<", "d/history.jpg", ">N<"),
    ),
    "live": Case(
        lambda n: {"live.jpg": small(n), "live.MOV": HEIF, "live.aae": b"<plist/>"},
        asked=("no other file holds: d/live.MOV, d/live.aae",),
        moved=("live.MOV", "live.aae"),
    ),
    "shared": Case(
        lambda n: {
            "shared.jpg": small(n),
            "shared.NEF": b"II*\0\x10\0\0\0" + b"NIKON" * 200,
            "shared.xmp": packet('photoshop:City="Jena"'),
            "shared.jpg.aae": b"<plist/>",
        },
        kept=("Jena",),
        asked=("d/shared.jpg.aae",),
        moved=("shared.jpg.aae",),
        stays=("shared.xmp", "shared.NEF"),
    ),
    "motion": Case(lambda n: {"motion.jpg": motion(n)}, asked=("motion.jpg holds a video",)),
    "texts": Case(
        lambda n: {"texts.png": texts(n)}, kept=("<rdf:li>Ada<", "parameters: a harbour, seed 7")
    ),
    "comment": Case(lambda n: {"comment.jpg": jpeg_comment(small(n), "rack 7")}, kept=("rack 7",)),
    "thumbnail": Case(
        lambda n: {"thumbnail.jpg": small(n), "thumbnail.thm": thumbnail(n)},
        asked=("xmp.rights", "(c) by the thumbnail"),
        moved=("thumbnail.thm",),
    ),
    "lists": Case(
        lambda n: {"lists.jpg": small(n, xmp=packet("", REGIONS))},
        kept=("Places|Hamburg", "Places|Rome"),
        keeper=lambda n: (
            "jpg",
            encoded(
                picture(n, 320),
                "JPEG",
                quality=97,
                xmp=packet("", REGIONS.replace("Places|Hamburg", "Places|Rome")),
            ),
        ),
    ),
}


@pytest.mark.long
def test_every_block_reaches_the_keeper_or_is_asked_about(site: Any) -> None:
    keepers: Files = {}
    for number, (name, case) in enumerate(CASES.items(), 1):
        kind, body = case.keeper(number)
        keepers[f"k/{name}.{kind}"] = body
        for key, data in case.files(number).items():
            site.put(f"d/{key}", data)
    for key, body in keepers.items():
        site.put(key, body)
    before = site.snapshot()
    site.scan()
    plan = site.plan(policy=POLICY)
    groups = {group.keeper.split("/")[1].split(".")[0]: group for group in plan.groups}
    assert groups.keys() == CASES.keys()
    assert {name: group.refused for name, group in groups.items()} == dict.fromkeys(CASES, "")
    for name, case in CASES.items():
        asked = "\n".join(groups[name].questions)
        assert all(text in asked for text in case.asked), (name, asked)
        assert bool(asked) == bool(case.asked), (name, asked)
    site.approve(plan)
    assert site.merge(plan).complete
    keys = set(site.keys())
    for name, case in CASES.items():
        said = site.body(f"{groups[name].keeper}.xmp").decode() if case.kept else ""
        missing = [text for text in case.kept if text not in said]
        assert not missing, (name, missing, said)
        assert not keys & {f"d/{key}" for key in case.moved}, name
        assert keys >= {f"d/{key}" for key in case.stays}, name
        shown = {one.field for one in groups[name].fields}
        assert bool(shown) == bool(case.kept or "xmp." in "".join(case.asked)), name
    for key in sorted(keys):
        if key.endswith(".xmp") and key.startswith("k/"):
            assert read_sidecar(key, site.body(key)).packet, "each can be read again"
    again = {key: site.body(key) for key in keys}
    site.undo(plan.id)
    assert site.snapshot() == before
    assert again.keys() != before.keys()


@pytest.mark.parametrize("bad", first_of(b"<a>" * 200_000, b"<" * 1000, b"\xff" * 5 * 1024**2))
def test_a_sidecar_that_cannot_be_read_stops_its_group_alone(site: Any, bad: bytes) -> None:
    for number, name in ((1, "bad"), (2, "good")):
        site.put(f"k/{name}.png", encoded(picture(number, 320)))
        site.put(f"d/{name}.jpg", small(number))
    site.put("d/bad.jpg.xmp", bad)
    site.scan()
    refused = {group.keeper: group.refused for group in site.plan(policy=POLICY).groups}
    assert refused["k/good.png"] == ""
    assert "'d/bad.jpg.xmp' cannot be read" in refused["k/bad.png"]


@pytest.mark.long
def test_merging_what_was_merged_says_nothing_twice(site: Any) -> None:
    """A keeper that becomes a duplicate brings what it took over, and what it recorded."""
    history = packet('xmpMM:DocumentID="xmp.did:7" photoshop:City="Kiel"')
    site.put("k/a.png", encoded(picture(1, 240)))
    site.put("d/a.jpg", small(1, xmp=history))
    site.scan()
    plan = site.plan(policy=POLICY)
    site.approve(plan)
    assert site.merge(plan).complete
    first = site.body("k/a.png.xmp")
    site.put("k/z.png", encoded(picture(1, 320)))
    site.scan()
    policy = POLICY.replace("[k/]", "[k/z]")
    second = site.plan(policy=policy)
    site.approve(second)
    assert site.merge(second).complete
    assert site.body("k/z.png.xmp").count(b"xmp.did:7") == 1
    assert first.count(b"xmp.did:7") == 1
    assert b"Kiel" in site.body("k/z.png.xmp")


def test_faces_of_another_crop_are_asked_about(site: Any) -> None:
    whole = picture(1, 320)
    site.put("k/a.png", encoded(whole))
    cropped = whole.crop((0, 0, 300, 240)).resize((200, 160), Image.Resampling.LANCZOS)
    site.put("d/a.jpg", encoded(cropped, "JPEG", quality=92, xmp=packet("", REGIONS)))
    site.scan()
    (group,) = site.plan(policy=POLICY).groups
    asked = "\n".join(group.questions)
    assert "mwg-rs:Regions: places inside a picture of another shape" in asked
