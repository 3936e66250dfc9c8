"""How things are written for people: sizes, counts, keys, pictures inside a page."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any


def human_bytes(size: int) -> str:
    """``1.5 MB``; decimal units, as storage is sold and billed."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < (1000 if unit == "B" else 999.95):  # which rounds to 1000.0
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 group``, ``2 groups``, ``1,200 copies``."""
    word = noun if number == 1 else (plural or noun + "s")
    return f"{number:,} {word}"


def shown_key(key: str) -> str:
    """A key with everything invisible made visible.

    Newlines, control characters and the marks that turn text around could make one key look like
    another, or break out of a line.
    """
    return "".join(
        char
        if unicodedata.category(char)[0] != "C" and char not in "\u2028\u2029"
        else char.encode("unicode_escape").decode()
        for char in key
    )


def moment(when: datetime) -> str:
    """``2026-11-22 14:05 UTC``."""
    return f"{when:%Y-%m-%d %H:%M} UTC"


def change_words(changes: str, reasons: str, *, keeper_is_original: bool) -> str:
    """What was done to the keeper to get this one, or a warning that it was the other way round."""
    if keeper_is_original:
        return changes
    return f"looks like the original of the keeper ({reasons}); the keeper: {changes}"


def search_words(search: Mapping[str, str | float | int]) -> str:
    """How the candidates of a scan were searched for, and what share of them that found."""
    if not search:
        return "not written down"
    mode, listed = search["mode"], f"the {search['neighbours']} nearest of each content"
    if not search["sample"]:
        return f"{mode}: {listed}, all of them"
    return (
        f"{mode}: {listed}, among {search['ranked']:.0%} of the contents; of a sample of "
        f"{search['sample']:,} it found {search['recall']:.1%} of the nearest, and the very "
        f"nearest of {search['best']:.1%}"
    )


def label_words(said: Mapping[str, Any] | None) -> str:
    """Where a collection's thresholds come from (``dam-dedup calibrate``)."""
    if said is None:
        return "as shipped; no labels of this collection"
    advised = said["recommended"]
    return f"{said['labelled']:,} labels of this collection, {said['made'][:10]}: " + (
        f"they advise {advised:g}" if advised is not None else "too few to advise a threshold"
    )


def data_uri(jpeg: bytes | None) -> str | None:
    """A picture as a page that stands alone holds it; None where there is none."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else None


#: What a reason code means, for people who did not write this program.
REASONS: dict[str, str] = {
    "folder": "folder markers",
    "zero_bytes": "empty objects",
    "sidecar": "XMP sidecars, attached to their assets",
    "not_an_image": "not an image",
    "archived": "archived: restore them first to have them scanned",
    "gone": "removed while the scan ran",
    "unreadable": "the storage refused; tried again by the next scan",
    "filtered": "outside the filter",
    "format_svg": "SVG, a format that is not read",
    "format_pdf": "PDF, a format that is not read",
    "format_eps": "EPS, a format that is not read",
    "format_raw": "camera raw, a format that is not read",
    "format_jxl": "JPEG XL, a format that is not read",
    "format_video": "video",
    "format_psb": "Photoshop large document, a format that is not read",
    "format_indd": "InDesign, a format that is not read",
    "format_exr": "OpenEXR, a format that is not read",
    "format_xcf": "GIMP, a format that is not read",
    "format_dicom": "DICOM, a format that is not read",
    "raw": "camera raw: the embedded preview is not the picture",
    "thumbnail_first": "a TIFF whose first page is a small version of another one",
    "planes_not_supported": "a TIFF of deep colour planes that is not read",
    "truncated": "cut off: the file ends before the picture does",
    "cannot_decode": "broken, or not what it claims to be",
    "too_many_pixels": "more pixels than allowed",
    "too_many_bytes": "more bytes than allowed",
    "too_many_scans": "a JPEG made to cost time",
    "too_long_side": "a side longer than allowed",
    "too_much_memory": "needs more memory than allowed",
    "timeout": "takes longer to decode than allowed",
    "crashed": "kills the decoder",
    "format_not_supported": "a format that is not read",
    "no_vector": "the model gives no vector for it",
    "storage_error": "the storage failed; tried again by the next scan",
    "not_read": "not read: please report this",
}


def reason_words(code: str) -> str:
    """The reason in words."""
    return REASONS.get(code, code.replace("_", " "))
