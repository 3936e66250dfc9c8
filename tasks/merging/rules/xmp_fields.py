"""XMP properties as fields of a merge: which are merged, under which name, and which stay. Pure.

Three kinds are told apart. What describes the picture is merged. What describes one file (its size,
its orientation) leaves with the file. What tells how one file came about (its identities, its
history, its raw development) would be wrong of the keeper, and is kept in its sidecar as what it
is: a record of a file that was merged away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.etree.ElementTree import Element

from tasks.xmp.packet import (
    CRS,
    DC,
    EXIF,
    OURS,
    PHOTOSHOP,
    TIFF,
    XMP,
    XMP_MM,
    XMP_RIGHTS,
    qualified,
    split_name,
)
from tasks.xmp.properties import ALT, BAG, SEQ, as_text, form_of, items_of

#: Our reader's name of a field to its property and form (XMP specification, parts 1 and 2).
#: Identities are not among them: they are never merged.
TEXT = ""
NAMED_FIELDS = {
    "title": (DC + "title", ALT),
    "description": (DC + "description", ALT),
    "rights": (DC + "rights", ALT),
    "usage_terms": (XMP_RIGHTS + "UsageTerms", ALT),
    "creator": (DC + "creator", SEQ),
    "keywords": (DC + "subject", BAG),
    "rating": (XMP + "Rating", TEXT),
    "label": (XMP + "Label", TEXT),
    "create_date": (XMP + "CreateDate", TEXT),
    "creator_tool": (XMP + "CreatorTool", TEXT),
    "credit": (PHOTOSHOP + "Credit", TEXT),
}
_NAME_OF = {tag: name for name, (tag, _) in NAMED_FIELDS.items()}
#: Namespaces whose properties tell how one file came about.
OF_ONE_FILE = {XMP_MM, CRS}
#: What our sidecars keep of files that were merged away.
FILES = OURS + "Files"
#: Namespaces of how one file is laid out: its further pictures, its gain map, its video.
_LAYOUTS = {
    "{http://ns.adobe.com/xmp/note/}",
    "{http://ns.adobe.com/hdr-gain-map/1.0/}",
    "{http://ns.google.com/photos/1.0/camera/}",
    "{http://ns.google.com/photos/1.0/container/}",
    "{http://ns.google.com/photos/1.0/container/item/}",
}
#: Properties that describe a file and not its picture: a keeper with a duplicate's orientation
#: would be shown lying on its side.
DESCRIBES_FILE = {
    DC + "format",
    *(XMP + name for name in ("MetadataDate", "ModifyDate", "Thumbnails")),
    *(
        PHOTOSHOP + name
        for name in ("ColorMode", "ICCProfile", "SidecarForExtension", "DocumentAncestors")
    ),
    *(
        TIFF + name
        for name in (
            "Orientation",
            "ImageWidth",
            "ImageLength",
            "BitsPerSample",
            "Compression",
            "PhotometricInterpretation",
            "SamplesPerPixel",
            "PlanarConfiguration",
            "YCbCrSubSampling",
            "YCbCrPositioning",
            "XResolution",
            "YResolution",
            "ResolutionUnit",
            "NativeDigest",
        )
    ),
    *(
        EXIF + name
        for name in (
            "PixelXDimension",
            "PixelYDimension",
            "ColorSpace",
            "ComponentsConfiguration",
            "CompressedBitsPerPixel",
            "ExifVersion",
            "FlashpixVersion",
            "NativeDigest",
        )
    ),
}
#: Fields that name places inside the picture: on another crop they would point elsewhere.
_PLACES_INSIDE = (
    "xmp.mwg-rs:Regions",
    "xmp.MP:RegionInfo",
    "xmp.Iptc4xmpExt:ImageRegion",
    "xmp.{http://ns.acdsee.com/regions/}Regions",
)


def is_merged(tag: str) -> bool:
    """Whether a property describes the picture, so that a merge brings it to the keeper."""
    space = split_name(tag)[0]
    return not (space in OF_ONE_FILE or space in _LAYOUTS or tag in DESCRIBES_FILE or tag == FILES)


def fields_of(found: Mapping[str, Element]) -> dict[str, str]:
    """Properties as a merge names and compares them: ``title``, ``photoshop:City``, ..."""
    fields = {}
    for tag, element in found.items():
        if not is_merged(tag):
            continue
        name = _NAME_OF.get(tag)
        text = "; ".join(items_of(element)) if name else as_text(element)
        if text:
            fields[name or qualified(tag)] = text
    return fields


def list_names(found: Mapping[str, Element]) -> frozenset[str]:
    """Names of the properties that are lists without an order: a merge unites them."""
    return frozenset(
        qualified(tag)
        for tag, element in found.items()
        if tag not in _NAME_OF and is_merged(tag) and form_of(element) == "Bag"
    )


def names_places(field: str) -> bool:
    """Whether a field of a merge names places inside the picture, such as faces."""
    return field in _PLACES_INSIDE


def tags_by_name(packets: Iterable[Mapping[str, Element]]) -> dict[str, str]:
    """A field's name to its property, of all that some packets have."""
    return {qualified(tag): tag for packet in packets for tag in packet}
