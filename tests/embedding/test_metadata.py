"""What files say of their pictures, as XMP; and hostile blocks, which cost no picture."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import ExifTags, Image

from tasks.embedding.exif_xmp import words
from tasks.embedding.images import read_picture
from tasks.embedding.iptc_xmp import iptc_properties
from tasks.embedding.metadata import read_sidecar
from tasks.errors import MergeError
from tasks.settings import LimitSettings
from tasks.xmp.packet import DC, EXIF, OURS, PHOTOSHOP, read_packet
from tasks.xmp.properties import as_text, canonical, properties
from tests.conftest import blobs
from tests.merging.blocks import REGIONS, exif_of, packet, with_iptc
from tests.merging.conftest import encoded


def said(data: bytes) -> tuple[dict[str, str], str]:
    """Properties of a file as texts, and what it holds besides."""
    found = read_picture(data, LimitSettings(), 32)
    holds = found.exif.get("Holds", "")
    if not found.packet:
        return {}, holds
    whole = properties(read_packet(found.packet.encode(), "it"))
    return {name: as_text(element) for name, element in whole.items()}, holds


def jpeg(**options: Any) -> bytes:
    return encoded(blobs(1), "JPEG", **options)


def test_a_plain_file_says_nothing() -> None:
    assert said(jpeg()) == ({}, "")


def test_xmp_counts_before_exif_and_exif_before_iptc_and_the_other_is_told() -> None:
    mine = "<dc:creator><rdf:Seq><rdf:li>Ada</rdf:li></rdf:Seq></dc:creator>"
    data = jpeg(
        exif=exif_of(Artist="Kim", Copyright="(c) Studio"),
        xmp=packet("", mine + "<dc:subject><rdf:Bag><rdf:li>sea</rdf:li></rdf:Bag></dc:subject>"),
    )
    found, holds = said(with_iptc(data))
    assert found[DC + "creator"] == "Ada"
    assert found[DC + "rights"] == "(c) Studio"
    assert found[DC + "subject"] == "sea; harbour; 2026", "keywords are united"
    assert "another dc:creator 'Kim' in its EXIF" in holds
    assert "another dc:rights '(c) Norda' in its IPTC" in holds


def test_blocks_that_say_the_same_in_their_own_way_do_not_differ() -> None:
    same = packet('exif:GPSLatitude="53,33,7.2S" exif:ExposureTime="2/500" photoshop:City="Kiel"')
    _, holds = said(with_iptc(jpeg(exif=exif_of(full=True), xmp=same)))
    assert "GPSLatitude" not in holds
    assert "ExposureTime" not in holds
    assert "City" not in holds


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        (EXIF + "GPSLatitude", "53,33.12N", "53,33,7.2N"),
        (EXIF + "ExposureTime", "10/2500", "1/250"),
        (PHOTOSHOP + "DateCreated", "2026-03-03T10:11:12.00", "2026-03-03T10:11:12"),
        (DC + "title", "e\u0301t\u00e9", "\u00e9t\u00e9 "),
    ],
)
def test_one_value_has_one_spelling(name: str, one: str, other: str) -> None:
    assert canonical(name, one) == canonical(name, other)


def test_structures_are_one_whichever_way_they_are_written() -> None:
    other = REGIONS.replace(
        '<rdf:Description mwg-rs:Name="Person A" mwg-rs:Type="Face">',
        "<rdf:Description><mwg-rs:Type>Face</mwg-rs:Type><mwg-rs:Name>Person A</mwg-rs:Name>",
    )
    one, two = (properties(read_packet(packet("", text), "it")) for text in (REGIONS, other))
    assert [as_text(element) for element in one.values()] == [
        as_text(element) for element in two.values()
    ]


def test_what_is_too_large_is_named_and_the_rest_kept() -> None:
    large = f"<crs:Map>{'x' * 70_000}</crs:Map>"
    data = packet('photoshop:City="Kiel"', large)
    picture = encoded(blobs(1), "PNG", pnginfo=_info("XML:com.adobe.xmp", data.decode()))
    found, holds = said(picture)
    assert found == {PHOTOSHOP + "City": "Kiel"}
    assert "XMP too large to take over: crs:Map (70" in holds


def _info(name: str, text: str) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(name, text)
    return info


def test_texts_of_exif_in_the_codes_that_programs_use() -> None:
    assert words("M\u00c3\u00bcller\0") == "M\u00fcller"
    assert words("M\u00fcller") == "M\u00fcller"
    exif = exif_of(full=True)
    exif[0x9C9E] = "sea;gull\0".encode("utf-16-le")
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.UserComment] = b"UNICODE\0" + "h\u00f6fe".encode("utf-16-le")
    inner[ExifTags.Base.DateTimeOriginal] = "0000:00:00 00:00:00"
    found, _ = said(jpeg(exif=exif))
    assert found[DC + "subject"] == "sea; gull"
    assert found[EXIF + "UserComment"] == "h\u00f6fe"
    assert EXIF + "DateTimeOriginal" not in found


def test_tags_without_a_property_are_kept_under_our_name_or_told() -> None:
    exif = exif_of(DocumentName="sheet 4")
    exif[0xFDE8] = b"private"
    found, holds = said(jpeg(exif=exif))
    assert found[OURS + "DocumentName"] == "sheet 4"
    assert holds == "EXIF tags 0xfde8"


def test_iptc_in_latin_letters_and_broken_dates() -> None:
    records = {(2, 90): b"M\xfcnchen", (2, 55): b"2026", (2, 25): [b"a", b"b"], (2, 200): b"x"}
    found, holds = iptc_properties(records)
    assert {as_text(one) for one in found} == {"M\u00fcnchen", "a; b"}
    assert holds == ["IPTC 2:200"]


# ---- hostile ---------------------------------------------------------------------------------

SPACES = b"".join(b'<a%d:x xmlns:a%d="u%d"/>' % (n, n, n) for n in range(60_000))
WHOLE = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">%s</rdf:RDF>'
HOSTILE = {
    "more than 1000 namespaces": WHOLE % SPACES,
    "more than 100000 elements": WHOLE % (b"<rdf:li/>" * 200_000),
    "nested more than 100 deep": WHOLE % (b"<a>" * 100_000),
    "DTDForbidden": b"<!DOCTYPE r [<!ENTITY a 'ha'>]>" + WHOLE % b"&a;",
    "larger than": b"<a>" + b" " * 4 * 1024**2 + b"</a>",
}


@pytest.mark.parametrize("limit", sorted(HOSTILE))
def test_a_hostile_packet_is_refused_at_a_limit(limit: str) -> None:
    """60,000 namespaces took minutes: each was looked for among all before it."""
    with pytest.raises(MergeError, match=limit):
        read_sidecar("a.xmp", HOSTILE[limit])


def test_many_entries_of_exif_cost_no_picture() -> None:
    exif = Image.Exif()
    for tag in range(0xE000, 0xE000 + 3000):
        exif[tag] = "x"
    _, holds = said(encoded(blobs(1), "PNG", exif=exif))
    assert holds.endswith("and 2990 more")


def test_a_thumbnail_file_is_a_sidecar_too() -> None:
    data = jpeg(exif=exif_of(Copyright="(c) Studio"))
    assert "(c) Studio" in read_sidecar("a.THM", data).packet
    with pytest.raises(MergeError, match="no thumbnail"):
        read_sidecar("a.thm", b"<xml/>")
