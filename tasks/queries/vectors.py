"""Vectors of contents, read from the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.catalog.catalog import Catalog, quote
from tasks.records import Space

Vectors = npt.NDArray[np.float16]

#: Rows read at once when a whole table of vectors is read: 80 MB of 1,280 dimensions.
_ROWS = 1 << 15
#: Contents that are named in one filter.
_NAMES = 1000
#: When more than this share of a table's vectors is wanted, the whole table is streamed once;
#: otherwise only the wanted rows are read.
_SHARE = 0.1


def read_vectors(catalog: Catalog, space: Space, contents: pl.Series) -> Vectors:
    """Vectors of contents, in the order given, written into one array as they are read.

    Args:
        catalog: the catalog.
        space: where the vectors are.
        contents: their names; a content without a vector gets zeros.

    Returns:
        float16 (len(contents), dim), of unit length.
    """
    wanted = pl.DataFrame({"content": contents}).with_row_index("at")
    vectors = np.zeros((len(contents), space.dim), np.float16)
    for names, part in _parts(catalog, space.id, contents):
        here = pl.DataFrame({"content": names}).with_row_index("row").join(wanted, on="content")
        vectors[here["at"].to_numpy()] = part[here["row"].to_numpy()]
    return vectors


def vectors_by_content(catalog: Catalog, space: str, contents: Iterable[str]) -> dict[str, Vectors]:
    """Vectors (dim,) of a few contents, by their names; those that have none are left out."""
    wanted = sorted(set(contents))
    if not catalog.count(f"vectors_{space}"):
        return {}
    return {
        name: vector
        for names, part in _named(catalog, space, wanted)
        for name, vector in zip(names, part, strict=True)
    }


def _parts(
    catalog: Catalog, space: str, contents: pl.Series
) -> Iterator[tuple[Sequence[str] | pl.Series, Vectors]]:
    table = f"vectors_{space}"
    if len(contents) <= catalog.count(table) * _SHARE:
        return _named(catalog, space, contents.to_list())
    return catalog.stream_vectors(table, _ROWS)


def _named(
    catalog: Catalog, space: str, wanted: Sequence[str]
) -> Iterator[tuple[Sequence[str], Vectors]]:
    for start in range(0, len(wanted), _NAMES):
        names = ", ".join(quote(name) for name in wanted[start : start + _NAMES])
        table = catalog.read_arrow(
            f"vectors_{space}", ["content", "vector"], f"content IN ({names})"
        )
        if table.num_rows:
            flat = table["vector"].combine_chunks().flatten().to_numpy()
            yield table["content"].to_pylist(), flat.reshape(table.num_rows, -1)
