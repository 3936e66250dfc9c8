"""The nearest contents of a vector: exact, or by the vector index with an exact ranking.

========  ==================  =====================================================
mode      by itself up to     looks at
========  ==================  =====================================================
exact     10,000 contents     every vector
balanced  100,000             3/16 of the cells (24 at least), then the best 10 k's vectors
speed     beyond              1/8 of the cells (16 at least), then the best 6 k's vectors
========  ==================  =====================================================

Cosines are always those of the stored vectors, in float32. Contents that are not in the index yet
are found all the same.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.catalog.catalog import Catalog
from tasks.catalog.vector_index import indexed_cells
from tasks.errors import CatalogError
from tasks.records import Space

Vectors = npt.NDArray[np.float32]

EXACT, BALANCED, SPEED, AUTO = "exact", "balanced", "speed", "auto"
MODES = (AUTO, EXACT, BALANCED, SPEED)
#: Up to how many contents the mode ``auto`` is exact, and balanced.
EXACT_UP_TO, BALANCED_UP_TO = 10_000, 100_000

#: Rows of one block of a product.
_BLOCK = 8192
#: Queries that are asked of the index at once; bounds the memory, because the vectors of all that
#: they find are held together.
_QUERIES = 64
#: Bytes of vectors that are held between searches, so that a small collection is not read anew
#: for each image.
_HELD_BYTES = 96 * 1024**2
#: The fewest contents that are asked of the index and ranked by their vectors: the index's own
#: order is rough.
LEAST_ASKED = 50
#: Where a filter leaves few contents, more must be asked of the index. Beyond this many, every
#: vector is compared instead.
_MOST_ASKED = 4096
#: When a filter leaves less than this share of the contents, their vectors are read by name.
_BY_NAME = 0.02

_FOUND = {"query": pl.Int64, "content": pl.String, "cosine": pl.Float32}


@dataclass(frozen=True, slots=True)
class Reach:
    """How far an approximate search goes.

    Attributes:
        least: the fewest cells that are looked into.
        share: the share of all cells that is looked into.
        spare: how many times k contents are ranked by their vectors.
    """

    least: int
    share: float
    spare: int

    def probes(self, cells: int) -> int:
        """How many of ``cells`` cells are looked into."""
        return min(max(self.least, math.ceil(cells * self.share)), cells)


REACH = {BALANCED: Reach(24, 3 / 16, 10), SPEED: Reach(16, 1 / 8, 6)}


def choose_mode(count: int, mode: str) -> str:
    """The search used among ``count`` contents: exact, balanced or speed.

    Raises:
        CatalogError: when there is no such mode.
    """
    if mode not in MODES:
        raise CatalogError(f"no search mode {mode!r}; use one of {', '.join(MODES)}")
    if mode != AUTO:
        return mode
    if count <= EXACT_UP_TO:
        return EXACT
    return BALANCED if count <= BALANCED_UP_TO else SPEED


def nearest_contents(
    catalog: Catalog,
    space: Space,
    vectors: Vectors,
    k: int,
    *,
    mode: str = AUTO,
    among: pl.Series | None = None,
) -> pl.DataFrame:
    """The k nearest contents of each query, the nearest first; of equals, by name.

    Args:
        catalog: the catalog.
        space: where the vectors are.
        vectors: unit vectors (n, dim).
        k: how many of each.
        mode: auto chooses by the number of contents searched (see :func:`choose_mode`).
        among: only these contents, sorted, each once; fewer than k come back only when they are
            fewer.

    Returns:
        query (row number), content, cosine.

    Raises:
        CatalogError: when the vectors do not belong to the space, or are not finite.
    """
    queries = _checked(vectors, space)
    name = f"vectors_{space.id}"
    total = catalog.count(name)
    wanted = among if among is None or among.flags["SORTED_ASC"] else among.unique().sort()
    size = total if wanted is None else min(total, len(wanted))
    used = choose_mode(size, mode)
    if not len(queries) or not size or k < 1:
        return pl.DataFrame(schema=_FOUND)
    cells = 0 if used == EXACT else indexed_cells(catalog.table(name))
    if not cells:
        return _exact(catalog, name, queries, k, wanted)
    reach, thinned = REACH[used], math.ceil(total / size)
    asked = max(k * reach.spare, LEAST_ASKED) * thinned
    probes = reach.probes(cells) * thinned
    if asked > _MOST_ASKED or (thinned > 1 and probes > cells / 2):
        return _exact(catalog, name, queries, k, wanted)
    found = _approximate(catalog, name, queries, asked, probes)
    if wanted is not None:
        found = found.filter(inside(found["content"], wanted))
    found = _first(found, k)
    if wanted is None:
        return found
    return _filled(catalog, name, queries, k, wanted, found)


def inside(names: pl.Series, among: pl.Series) -> pl.Series:
    """Which of some names are in ``among``, which is sorted: looked up by bisection."""
    if among.is_empty():
        return pl.repeat(False, len(names), eager=True)
    at = among.search_sorted(names).clip(0, len(among) - 1)
    return among.gather(at) == names


def _filled(
    catalog: Catalog, name: str, queries: Vectors, k: int, wanted: pl.Series, found: pl.DataFrame
) -> pl.DataFrame:
    """What was found; where the filter left a query too few, that query is compared with all."""
    counted = np.bincount(found["query"].to_numpy(), minlength=len(queries))
    short = np.flatnonzero(counted < min(k, len(wanted)))
    if not len(short):
        return found
    again = _exact(catalog, name, queries[short], k, wanted)
    again = again.with_columns(pl.Series("query", short[again["query"].to_numpy()], pl.Int64))
    kept = found.filter(~pl.col("query").is_in(short.tolist()))
    return _first(pl.concat([kept, again]), k)


def _checked(vectors: Vectors, space: Space) -> Vectors:
    queries = np.asarray(vectors, np.float32)
    if queries.ndim != 2 or queries.shape[1] != space.dim:
        raise CatalogError(
            f"vectors of shape {queries.shape} are not of the space {space.id}, which has "
            f"{space.dim} dimensions; analyse the image with this catalog's model"
        )
    if not np.isfinite(queries).all():
        raise CatalogError("a vector holds values that are not finite; analyse the image again")
    return queries


def _approximate(
    catalog: Catalog, name: str, queries: Vectors, asked: int, probes: int
) -> pl.DataFrame:
    """The contents that the index finds, with their exact cosines."""
    found = [pl.DataFrame(schema=_FOUND)]
    for start in range(0, len(queries), _QUERIES):
        part = queries[start : start + _QUERIES]
        rows = catalog.search_vectors(name, part, asked, probes)
        of = rows["query_index"].to_numpy().astype(np.int64)
        cosines = np.empty(len(of), np.float32)
        stored = _matrix(rows["vector"], queries.shape[1])
        for query in range(len(part)):
            at = np.flatnonzero(of == query)
            cosines[at] = stored[at].astype(np.float32) @ part[query]
        contents = pl.Series("content", pl.from_arrow(rows["content"]), pl.String)
        found.append(
            pl.DataFrame([pl.Series("query", of + start), contents, pl.Series("cosine", cosines)])
        )
    return pl.concat(found)


def _exact(
    catalog: Catalog, name: str, queries: Vectors, k: int, wanted: pl.Series | None
) -> pl.DataFrame:
    """The k nearest by comparing the queries with every vector."""
    found = [pl.DataFrame(schema=_FOUND)]
    ends = np.full((len(queries), 1), -np.inf, np.float32)
    total = catalog.count(name)
    if wanted is not None and len(wanted) < total * _BY_NAME:
        blocks = _named(catalog, name, queries.shape[1], wanted)
    else:
        blocks = _blocks(catalog, name, queries.shape[1], total)
    for contents, block in blocks:
        if wanted is not None:
            passing = inside(contents, wanted)
            contents, block = contents.filter(passing), block[passing.to_numpy()]
        if not len(contents):
            continue
        cosines = queries @ block.T
        if cosines.shape[1] > k:
            at = cosines.shape[1] - k
            ends = np.maximum(ends, np.partition(cosines, at, axis=1)[:, at : at + 1])
        # All contents whose cosine equals the last one are kept: their names decide between them.
        row, column = np.nonzero(cosines >= ends)
        part = {"query": row, "content": contents.gather(column), "cosine": cosines[row, column]}
        found.append(pl.DataFrame(part, _FOUND))
    return _first(pl.concat(found), k)


def _first(found: pl.DataFrame, k: int) -> pl.DataFrame:
    ordered = found.sort("query", "cosine", "content", descending=[False, True, False])
    return ordered.group_by("query", maintain_order=True).head(k).select(*_FOUND)


# ---- vectors of a whole table ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Held:
    """The vectors of one version of a table."""

    name: str
    version: int
    contents: pl.Series
    vectors: Vectors


_held: weakref.WeakKeyDictionary[Catalog, _Held] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _named(
    catalog: Catalog, name: str, dim: int, wanted: pl.Series
) -> Iterator[tuple[pl.Series, Vectors]]:
    """The vectors of some contents, in parts."""
    for names in (wanted[at : at + _BLOCK] for at in range(0, len(wanted), _BLOCK)):
        rows = catalog.read_keys(name, ["content", "vector"], names)
        flat = rows["vector"].explode().to_numpy().reshape(-1, dim)
        yield rows["content"], flat.astype(np.float32)


def _blocks(
    catalog: Catalog, name: str, dim: int, total: int
) -> Iterator[tuple[pl.Series, Vectors]]:
    """All vectors, in parts; those of a small table are kept for the next search."""
    if total * dim * 4 > _HELD_BYTES:
        for contents, block in catalog.stream_vectors(name, _BLOCK):
            yield contents, block.astype(np.float32)
        return
    held = _hold(catalog, name, dim)
    for start in range(0, len(held.contents), _BLOCK):
        yield held.contents[start : start + _BLOCK], held.vectors[start : start + _BLOCK]


def _hold(catalog: Catalog, name: str, dim: int) -> _Held:
    version = catalog.version(name)
    with _lock:
        held = _held.get(catalog)
        if held is not None and (held.name, held.version) == (name, version):
            return held
    parts = list(catalog.stream_vectors(name, _BLOCK))
    contents = pl.concat([names for names, _ in parts]) if parts else pl.Series([], dtype=pl.String)
    vectors = [block.astype(np.float32) for _, block in parts]
    held = _Held(
        name,
        version,
        contents,
        np.concatenate(vectors) if vectors else np.zeros((0, dim), np.float32),
    )
    with _lock:
        _held[catalog] = held
    return held


def _matrix(column: object, dim: int) -> npt.NDArray[np.float16]:
    flat = column.combine_chunks().flatten().to_numpy()  # type: ignore[attr-defined]
    return np.asarray(flat.reshape(-1, dim))
