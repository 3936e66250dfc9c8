"""Pictures kept of assets whose files nobody can read again, to prove copies with.

An asset of a collection ``gate://`` is a file that was handed in once. A small one is kept as it
is, of a larger one a JPEG: so large that lettering of a page can be read on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.errors import SourceError
from tasks.queries.comparison import Original
from tasks.session import pa_table

#: Contents named in one condition.
_AT_ONCE = 500


def write_rendition(catalog: Catalog, content: str, data: bytes, width: int, height: int) -> None:
    """Keep a picture of a content, unless there is one.

    Args:
        catalog: held for writing.
        content: digest of the pixels.
        data: a file that shows them.
        width: pixels, of this file.
        height: the same.
    """
    row = {
        "content": content,
        "width": width,
        "height": height,
        "size": len(data),
        "data": data,
    }
    catalog.upsert("renditions", pa_table([row], schema.RENDITIONS), only_new=True)


def read_renditions(catalog: Catalog, contents: Iterable[str]) -> dict[str, Original]:
    """Of contents that have a rendition: what stands for their original in a proof."""
    columns = ["content", "width", "height", "size"]
    found = catalog.read_keys("renditions", columns, contents)
    return {
        content: Original(partial(_read, catalog, content), size, width, height)
        for content, width, height, size in found.select(
            pl.col("content", "width", "height", "size")
        ).iter_rows()
    }


def forget_renditions(catalog: Catalog, contents: Iterable[str]) -> None:
    """Remove the renditions of contents that no asset of a collection shows any more.

    Args:
        catalog: held for writing.
        contents: of assets that were removed, or that show something else now.
    """
    names = sorted({content for content in contents if content})
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        listed = ", ".join(quote(name) for name in part)
        where = f"content IN ({listed}) AND removed_at IS NULL AND source LIKE 'gate://%'"
        shown = set(catalog.read("assets", ["content"], where)["content"])
        gone = ", ".join(quote(name) for name in part if name not in shown)
        if gone:
            catalog.delete_where("renditions", f"content IN ({gone})")


def _read(catalog: Catalog, content: str) -> bytes:
    rows = catalog.read_keys("renditions", ["content", "data"], [content])
    if rows.is_empty():
        raise SourceError("the picture kept of it is gone")
    return bytes(rows["data"][0])
