"""``overview.jpg``: the first groups at a glance, for places that show one picture and no page."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from PIL import Image

from reports.highlights import top_groups
from tasks.records import Document
from tasks.summary import Summary

_GROUPS, _SIDE = 8, 240
#: What belongs together stands close.
_INNER, _OUTER = 4, 32
_GROUND = (238, 240, 243)


def overview_picture(summary: Summary) -> Document | None:
    """Keeper and first duplicate of the first groups, two groups in a row; None without pictures.

    Thumbnails are this program's own JPEGs, and of one size: they are safe to open here.
    """
    rows = [
        pair
        for pair in (_pair(summary, group) for group in top_groups(summary, _GROUPS, 2))
        if pair
    ]
    if not rows:
        return None
    lines = -(-len(rows) // 2)
    across, down = 2 * _SIDE + _INNER + _OUTER, _SIDE + _OUTER
    sheet = Image.new("RGB", (2 * across + _OUTER, lines * down + _OUTER), _GROUND)
    for number, pair in enumerate(rows):
        for side, picture in enumerate(pair):
            left = _OUTER + number % 2 * across + side * (_SIDE + _INNER)
            top = _OUTER + number // 2 * down
            centred = ((_SIDE - picture.width) // 2, (_SIDE - picture.height) // 2)
            sheet.paste(picture, (left + centred[0], top + centred[1]))
    body = io.BytesIO()
    sheet.save(body, "JPEG", quality=82)
    return Document("overview.jpg", "image/jpeg", body.getvalue())


def _pair(summary: Summary, group: dict[str, Any]) -> list[Image.Image]:
    """Keeper and duplicate; nothing where one has no picture."""
    found = []
    for member in group["members"]:
        # A thumbnail that cannot be read must not cost the scan its report.
        with contextlib.suppress(KeyError, OSError):
            jpeg = summary.thumbnails[member["content"]]
            picture = Image.open(io.BytesIO(jpeg)).convert("RGB")
            picture.thumbnail((_SIDE, _SIDE))
            found.append(picture)
    return found if len(found) == 2 else []
