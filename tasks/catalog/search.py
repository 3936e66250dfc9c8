"""Which contents are nearest to a vector: exact, by one product with all vectors of a space."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.catalog.catalog import Catalog
from tasks.records import Space

#: Spaces whose vectors are held.
_HELD = 2
_lock = threading.Lock()
_vectors: OrderedDict[tuple[str, str, int], tuple[pl.Series, npt.NDArray[np.float16]]] = (
    OrderedDict()
)


def choose_mode(count: int, mode: str) -> str:  # noqa: ARG001
    """The search that a collection of so many contents gets."""
    return "exact"


def nearest_contents(
    catalog: Catalog,
    space: Space,
    vectors: npt.NDArray[np.float32],
    k: int,
    *,
    mode: str = "auto",  # noqa: ARG001
    among: pl.Series | None = None,
) -> pl.DataFrame:
    """The nearest contents of some vectors.

    Args:
        catalog: the catalog.
        space: where the vectors live.
        vectors: unit vectors (n, dim).
        k: how many for each.
        mode: how they are searched.
        among: the only contents that count.

    Returns:
        query (row number), content, cosine; for each query the highest cosine first.
    """
    names, known = _read(catalog, space)
    rows = np.arange(len(names))
    if among is not None:
        rows = np.flatnonzero(names.is_in(among.implode()).to_numpy())
    parts = []
    for query, vector in enumerate(vectors):
        cosines = known[rows].astype(np.float32) @ vector
        best = np.argsort(-cosines, kind="stable")[:k]
        found = {"query": np.full(len(best), query), "content": names.gather(rows[best]),
                 "cosine": cosines[best]}  # fmt: skip
        parts.append(pl.DataFrame(found))
    empty = pl.DataFrame(schema={"query": pl.Int64, "content": pl.String, "cosine": pl.Float32})
    return pl.concat([empty, *parts], how="vertical_relaxed")


def _read(catalog: Catalog, space: Space) -> tuple[pl.Series, npt.NDArray[np.float16]]:
    name = f"vectors_{space.id}"
    if not catalog.count(name):
        return pl.Series(dtype=pl.String), np.zeros((0, space.dim), np.float16)
    key = (catalog.uri, name, catalog.version(name))
    with _lock:
        if key in _vectors:
            _vectors.move_to_end(key)
            return _vectors[key]
    table = catalog.read_arrow(name, ["content", "vector"])
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    names = pl.Series(table["content"].to_pylist(), dtype=pl.String)
    with _lock:
        _vectors[key] = (names, flat.reshape(-1, space.dim))
        while len(_vectors) > _HELD:
            _vectors.popitem(last=False)
        return _vectors[key]
