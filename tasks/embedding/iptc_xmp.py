"""IPTC-IIM as XMP (IPTC Photo Metadata standard, "IIM - XMP mapping"). In the decoder processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

from tasks.xmp.forms import alt, bag, seq
from tasks.xmp.packet import DC, IPTC_CORE, PHOTOSHOP, XMP
from tasks.xmp.properties import simple

_TEXTS = {
    4: IPTC_CORE + "IntellectualGenre",
    10: PHOTOSHOP + "Urgency",
    15: PHOTOSHOP + "Category",
    40: PHOTOSHOP + "Instructions",
    85: PHOTOSHOP + "AuthorsPosition",
    90: PHOTOSHOP + "City",
    92: IPTC_CORE + "Location",
    95: PHOTOSHOP + "State",
    100: IPTC_CORE + "CountryCode",
    101: PHOTOSHOP + "Country",
    103: PHOTOSHOP + "TransmissionReference",
    105: PHOTOSHOP + "Headline",
    110: PHOTOSHOP + "Credit",
    115: PHOTOSHOP + "Source",
    122: PHOTOSHOP + "CaptionWriter",
}
_ALTS = {5: DC + "title", 116: DC + "rights", 120: DC + "description"}
_BAGS = {
    12: IPTC_CORE + "SubjectCode",
    20: PHOTOSHOP + "SupplementalCategories",
    25: DC + "subject",
}
_DATES = ((55, 60, PHOTOSHOP + "DateCreated"), (62, 63, XMP + "CreateDate"))
#: Dates and times, the record's version, and the program that wrote the file.
_NOT_TOLD = {0, 55, 60, 62, 63, 65, 70}
_CREATOR = 80
_MOST_ITEMS = 5000


def iptc_properties(records: Mapping[tuple[int, int], Any]) -> tuple[list[Element], list[str]]:
    """What IPTC-IIM says, as XMP properties, and which of its data sets cannot be said so.

    Args:
        records: record and data set to bytes, or to a list of bytes, as Pillow reads them.
    """
    utf8 = b"\x1b%G" in _all(records.get((1, 90)))
    values = {
        number: [text for text in (_text(one, utf8) for one in _all(value)) if text]
        for (record, number), value in records.items()
        if record == 2
    }
    found: list[Element] = []
    for number, texts in values.items():
        if not texts:
            continue
        if number in _TEXTS:
            found.append(simple(_TEXTS[number], texts[0]))
        elif number in _ALTS:
            found.append(alt(_ALTS[number], texts[0]))
        elif number in _BAGS:
            found.append(bag(_BAGS[number], texts))
        elif number == _CREATOR:
            found.append(seq(DC + "creator", texts))
    for day, time, name in _DATES:
        if when := _moment(values.get(day), values.get(time)):
            found.append(simple(name, when))
    known = {*_TEXTS, *_ALTS, *_BAGS, _CREATOR, *_NOT_TOLD}
    left = sorted(
        {f"2:{number}" for number, texts in values.items() if texts}
        - {f"2:{number}" for number in known}
    )
    return found, [f"IPTC {', '.join(left[:20])}"] if left else []


def _all(value: Any) -> list[bytes]:
    found = value if isinstance(value, list) else [value]
    return [one for one in found[:_MOST_ITEMS] if isinstance(one, bytes)]


def _text(data: bytes, utf8: bool) -> str:
    """UTF-8 where the file says so or it is; else the Latin letters of Windows."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8" if utf8 else "cp1252", "replace")
    return text.replace("\0", "").strip()


def _moment(days: list[str] | None, times: list[str] | None) -> str:
    """IIM 4.2: CCYYMMDD and HHMMSS+HHMM."""
    day = days[0] if days else ""
    if len(day) != 8 or not day.isdigit() or day == "00000000":
        return ""
    date = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    time = times[0] if times else ""
    if len(time) < 6 or not time[:6].isdigit():
        return date
    zone = time[6:]
    told = f"{zone[:3]}:{zone[3:5]}" if len(zone) == 5 and zone[1:].isdigit() else ""
    return f"{date}T{time[:2]}:{time[2:4]}:{time[4:6]}{told}"
