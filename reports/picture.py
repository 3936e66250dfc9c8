"""``overview.jpg``: the first groups at a glance, for places that show one picture and no page."""

from __future__ import annotations

import io

from PIL import Image

from reports.highlights import top_groups
from tasks.records import Document, Summary

_GROUPS, _SIDE, _GAP = 8, 240, 12
_GROUND = (238, 240, 243)


def overview_picture(summary: Summary) -> Document | None:
    """Keeper and first duplicate of the first groups, two groups in a row; None without pictures.

    Thumbnails are this program's own JPEGs, and of one size: they are safe to open here.
    """
    rows = []
    for group in top_groups(summary, _GROUPS, 2):
        jpegs = [summary.thumbnails.get(member["content"]) for member in group["members"]]
        pair = [jpeg for jpeg in jpegs if jpeg]
        if len(group["members"]) == 2 and len({row["content"] for row in group["members"]}) == 1:
            pair = pair[:1] * 2
        if len(pair) == 2:
            rows.append(pair)
    if not rows:
        return None
    lines = -(-len(rows) // 2)
    width, height = 4 * _SIDE + 5 * _GAP, lines * (_SIDE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height), _GROUND)
    for number, pair in enumerate(rows):
        for side, jpeg in enumerate(pair):
            picture = Image.open(io.BytesIO(jpeg)).convert("RGB")
            picture.thumbnail((_SIDE, _SIDE))
            left = (number % 2 * 2 + side) * (_SIDE + _GAP) + _GAP
            top = number // 2 * (_SIDE + _GAP) + _GAP
            centred = ((_SIDE - picture.width) // 2, (_SIDE - picture.height) // 2)
            sheet.paste(picture, (left + centred[0], top + centred[1]))
    body = io.BytesIO()
    sheet.save(body, "JPEG", quality=82)
    return Document("overview.jpg", "image/jpeg", body.getvalue())
