"""The vector index of a space: inverted lists (cells) of vectors, kept as one bit a dimension.

The index only says where to look. Its own distances are rough, so what it finds is ranked anew by
the stored vectors, and no threshold is ever handed to it. LanceDB compares rows that are not in the
index yet one by one. The metric is the dot product of unit vectors: with another metric, bounds and
distances of quantised indexes are off by a factor of two, and nothing says so.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import pyarrow as pa
from lancedb.index import IvfFlat, IvfRq

log = logging.getLogger(__name__)

#: From how many vectors a space gets an index: below, comparing with all takes less than 0.1 s.
INDEX_FROM = 10_000
#: How many cells there are, as a multiple of the root of the number of vectors. More cells make a
#: search cheaper and the index dearer: making it multiplies all vectors with all cells in float16,
#: which processors without units for it do slowly. The number is rounded to a power of two, so
#: that the index is seldom made anew as a collection grows.
_ROOTS = 0.5
_NAME = "vector_cells_"
#: To train the cells' centres: vectors for each cell, and rounds of k-means.
_SAMPLE_RATE, _ROUNDS = 32, 10
#: Rows outside the index cost a search 2 ms a thousand. They are taken in when they are more than
#: this share of the table, and more than this number.
_OUTSIDE, _LEAST_OUTSIDE = 0.1, 5_000


def cell_count(rows: int) -> int:
    """Into how many cells the index of ``rows`` vectors is divided; 0 for no index."""
    return int(2 ** round(math.log2(_ROOTS * math.sqrt(rows)))) if rows >= INDEX_FROM else 0


def indexed_cells(table: Any) -> int:
    """How many cells a table's index has; 0 without an index."""
    found = [int(name.removeprefix(_NAME)) for name in _names(table)]
    return max(found, default=0)


def index_due(table: Any) -> bool:
    """Whether the index is missing, or so many rows are outside it that searches are slow."""
    rows = table.count_rows()
    names = _names(table)
    if not names:
        return bool(rows >= INDEX_FROM)
    outside = table.index_stats(names[-1]).num_unindexed_rows
    return bool(outside > max(_LEAST_OUTSIDE, rows * _OUTSIDE))


def index_vectors(table: Any) -> None:
    """Make the index anew where there is none, or the table has outgrown it."""
    rows = table.count_rows()
    cells = cell_count(rows)
    names = _names(table)
    wanted = f"{_NAME}{cells}"
    if not cells or names == [wanted]:
        return
    if wanted not in names:
        config = _config(table.schema.field("vector").type, cells)
        table.create_index("vector", config=config, name=wanted)
        log.info("indexed %d vectors in %d cells", rows, cells)
    for name in names:
        if name != wanted:
            table.drop_index(name)


def _names(table: Any) -> list[str]:
    return sorted(index.name for index in table.list_indices() if index.name.startswith(_NAME))


def _config(kind: pa.DataType, cells: int) -> IvfRq | IvfFlat:
    options = {
        "distance_type": "dot",
        "num_partitions": cells,
        "sample_rate": _SAMPLE_RATE,
        "max_iterations": _ROUNDS,
    }
    if kind.list_size % 8:  # bits are packed in bytes
        return IvfFlat(**options)
    return IvfRq(num_bits=1, **options)
