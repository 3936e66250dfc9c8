"""What reading an image's pixels leaves in the catalog."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.embedding.images import READER_VERSION
from tasks.records import Picture, Space, digest
from tasks.session import pa_table
from tasks.settings import Settings

#: Takes the place of a picture's pixels when they are no longer needed.
NO_PIXELS = np.empty((0, 0, 3), dtype=np.uint8)

#: Filter columns that only a reading fills. A match inside a text value does no harm: then more
#: images are read than the filter needs.
_READING_COLUMN = re.compile(r"\b(width|height|mode|sha256)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one attempt to read an image gave: a picture, or why there is none.

    Attributes:
        revision: names the bytes that were read (see :func:`tasks.queries.objects.revision_of`).
        failed: why there is no picture, as one of the codes in ``reports/words.py``.
        message: the same in a sentence.
    """

    key: str
    asset_id: str
    revision: str
    picture: Picture | None
    failed: str | None = None
    message: str | None = None


def names_reading_column(where: str) -> bool:
    """Whether a filter names a column that is only filled when the image is read."""
    return bool(_READING_COLUMN.search(where))


def reader_of(settings: Settings) -> str:
    """A name for the way in which images are read: the reader's version and the limits.

    A failed image is tried again when this name has changed.
    """
    limits = settings.limits.model_dump_json(exclude={"inflight_bytes"})
    return digest(str(READER_VERSION), limits)[:16]


def record_space(catalog: Catalog, space: Space) -> None:
    """Write the model, revision, preprocessing and dimension that a space's id stands for.

    What is known is not written again: even a write that adds nothing makes a version.
    """
    if catalog.has("spaces") and catalog.count("spaces", f"space = {quote(space.id)}"):
        return
    row = {
        "space": space.id,
        "model": space.model,
        "revision": space.revision,
        "preprocessing": space.preprocessing,
        "dim": space.dim,
    }
    catalog.upsert("spaces", pa_table([row], schema.SPACES), only_new=True)


def picture_row(asset: str, revision: str, picture: Picture, settings: Settings) -> dict[str, Any]:
    """The columns of the table of assets for a picture that was read outside of a scan."""
    return reading_row(Reading("", asset, revision, picture), reader_of(settings))


def reading_row(reading: Reading, reader: str) -> dict[str, Any]:
    """A reading as columns of the table of assets; ``reader`` is from :func:`reader_of`."""
    row: dict[str, Any] = {
        "asset_id": reading.asset_id,
        "read_revision": reading.revision,
        "reader": reader,
        "failed": reading.failed,
        "message": reading.message,
        "flags": [],
        "exif": "{}",
        "xmp": "{}",
    }
    picture = reading.picture
    if picture is None:
        return row
    return row | {
        "sha256": picture.sha256,
        "content": picture.content,
        "phash": picture.phash,
        "width": picture.width,
        "height": picture.height,
        "mode": picture.mode,
        "quality": picture.quality,
        "flags": list(picture.flags),
        "exif": json.dumps(picture.exif),
        "xmp": json.dumps(picture.xmp),
    }
