"""The committed catalog of the first release, unpacked, and its bucket put back on a server.

``data/make_old_catalog.py`` made it and says what is in it.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import lancedb

ARCHIVE = Path(__file__).parent / "data" / "schema2.tar.gz"


@dataclass(frozen=True)
class OldRelease:
    """An unpacked copy of what the first release left.

    Attributes:
        folder: with ``catalog`` and ``bucket`` in it.
        told: what that release said of its catalog.
    """

    folder: Path
    told: dict[str, Any]

    @property
    def catalog(self) -> Path:
        return self.folder / "catalog"

    def copy(self, to: Path, tables: Collection[str] = ()) -> Path:
        """Another copy of the catalog, or of some of its tables."""
        for path in self.catalog.iterdir():
            if not tables or path.stem in tables:
                shutil.copytree(path, to / path.name)
        return to

    def fill(self, client: Any) -> None:
        """Put the bucket's objects on a server: the same bytes have the same ETags there."""
        name = self.told["bucket"]
        if name in [one["Name"] for one in client.list_buckets()["Buckets"]]:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
                for item in page.get("Contents", []):
                    client.delete_object(Bucket=name, Key=item["Key"])
        else:
            client.create_bucket(Bucket=name)
        for row in json.loads((self.folder / "bucket.json").read_text()):
            put = client.put_object(
                Bucket=name,
                Key=row["key"],
                Body=(self.folder / row["file"]).read_bytes(),
                Tagging=urlencode(row["tags"]),
                Metadata=row["metadata"],
                ContentType=row["content_type"],
            )
            assert put["ETag"] == row["etag"]


def unpack(folder: Path) -> OldRelease:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return OldRelease(folder, json.loads((folder / "told.json").read_text()))


def rows_of(uri: str | Path, options: dict[str, str] | None = None) -> dict[str, list[Any]]:
    """Every table's rows, by the first column; what LanceDB says, not what the product reads."""
    db = lancedb.connect(str(uri), storage_options=options)
    found = {}
    for name in sorted(db.list_tables(limit=1000).tables):
        try:
            table = db.open_table(name).to_arrow()
        except ValueError:  # an empty folder, which the S3 server of the tests still lists
            continue
        found[name] = sorted((tuple(row.items()) for row in table.to_pylist()), key=str)
    return found
