"""What leaves with a file and is not taken over: EXIF as XMP fields, blocks, companions. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tasks.merging.rules.plans import Member

#: EXIF and the XMP field that says the same (XMP specification part 2, Exif 2.32 for XMP).
_SAME = {
    "Copyright": "rights",
    "Artist": "creator",
    "ImageDescription": "description",
    "DateTimeOriginal": "create_date",
}
_EXIF_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)")
#: Files that belong to the picture of the same name: sidecars, a Live Photo's video, edits, a
#: camera's thumbnail.
_COMPANIONS = {"mov", "mp4", "aae", "thm", "xmp"}
_RAW = {
    "3fr",
    "arw",
    "cr2",
    "cr3",
    "crw",
    "dng",
    "erf",
    "iiq",
    "kdc",
    "mef",
    "mos",
    "mrw",
    "nef",
    "nrw",
    "orf",
    "pef",
    "raf",
    "raw",
    "rw2",
    "rwl",
    "sr2",
    "srf",
    "srw",
    "x3f",
}


def exif_as_xmp(exif: Mapping[str, str]) -> dict[str, str]:
    """The fields of EXIF that XMP has too, by the names our reader of XMP gives them."""
    found = {_SAME[name]: text for name, text in exif.items() if name in _SAME and text.strip()}
    time = _EXIF_TIME.fullmatch(found.get("create_date", "").strip())
    if time:
        found["create_date"] = f"{time[1]}-{time[2]}-{time[3]}T{time[4]}"
    elif "create_date" in found:
        del found["create_date"]  # "0000:00:00 00:00:00" and the like say nothing
    return found


#: What files hold that were read by a release which did not tell.
UNKNOWN = "what an older release did not read (scan with --kind full into a new catalog to know)"


def what_it_holds(exif: Mapping[str, str], packet: str | None) -> str:
    """What a merge does not take over, in words.

    Args:
        exif: of the asset, as the catalog has it.
        packet: what its file says; None where an older release read it.
    """
    return "; ".join(filter(None, [exif.get("Holds", ""), UNKNOWN if packet is None else ""]))


def left_behind(keeper: Member, duplicates: Sequence[Member]) -> list[str]:
    """Questions about blocks and frames that only a duplicate holds; equal bytes hold the same."""
    mine = set(keeper.holds.split("; "))
    questions = []
    for one in sorted(duplicates, key=lambda member: (member.key, member.asset_id)):
        if "multi_frame" in one.flags and one.content != keeper.content:
            questions.append(
                f"{one.key} has further frames or pages, which {keeper.key} may not have: may they "
                "go with it?"
            )
        alone = [part for part in one.holds.split("; ") if part and part not in mine]
        if alone and not (one.sha256 and one.sha256 == keeper.sha256):
            held = "; ".join(alone)
            questions.append(
                f"{one.key} holds {held}, which a merge does not take over: may it go with it?"
            )
    return questions


def is_companion(key: str) -> bool:
    """Whether a key is that of a file that belongs to a picture, by its extension."""
    return key.rpartition(".")[2].lower() in _COMPANIONS


def belongs_to(key: str, picture: str) -> bool:
    """Whether a key beside a picture is that of a file that belongs to it.

    ``a.mov``, ``a.aae`` and ``a.xmp`` belong to ``a.heic``, and so does ``a.heic.xmp``; but
    ``a.jpg.xmp`` is that of ``a.jpg``.
    """
    stem, _, last = key.rpartition(".")
    of_picture = stem in (picture, picture.rpartition(".")[0] or picture)
    return of_picture and last.lower() in _COMPANIONS


def is_raw(member: Member) -> bool:
    """Whether an asset is a camera raw file, by what was read of it or by its name."""
    return member.format == "raw" or member.key.rpartition(".")[2].lower() in _RAW
