"""What files say of their pictures, as the catalog keeps it for merges."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.records import Picture
from tasks.session import pa_table

#: Digits of a file's SHA-256 that name it here: 128 bits.
_DIGITS = 32


def write_packets(catalog: Catalog, pictures: Iterable[Picture]) -> None:
    """Keep the packets of pictures that were read; before the assets' rows, which point to them."""
    rows = {picture.sha256[:_DIGITS]: picture.packet for picture in pictures}
    if rows:
        found = [{"file": name, "packet": packet} for name, packet in rows.items()]
        catalog.upsert("packets", pa_table(found, schema.PACKETS))


def read_packets(catalog: Catalog, files: Iterable[str]) -> dict[str, str]:
    """SHA-256 of a file to its packet; files read by an older release are left out."""
    wanted = {sha[:_DIGITS]: sha for sha in files if sha}
    found = catalog.read_keys("packets", ["file", "packet"], wanted)
    if not found.width:
        return {}
    return {wanted[row[0]]: row[1] or "" for row in found.iter_rows()}
