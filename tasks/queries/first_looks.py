"""The first look at many pairs, with features from the catalog: made once, read in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.features import use_one_thread
from tasks.dedup.first_look import (
    RECORD,
    Records,
    features_rule,
    make_features,
    unpack,
    votes_for,
)
from tasks.process.heap import keep_freed_memory

#: Pictures whose compact features are held at once, on either side of a block of pairs: 255 MB.
_BLOCK = 16_384
#: Rows read from the table at a time: 32 MB.
_ROWS = 2048
#: When more than this share of the table is wanted, a range of it is read instead of single keys.
_SHARE = 0.05
#: Pictures whose candidates are compared between two returns to Python's lock.
_LEFTS = 64
#: Pairs that are told of at once.
_TOLD = 65_536


def look_at_pairs(catalog: Catalog, pairs: pl.DataFrame, workers: int) -> Iterator[pl.DataFrame]:
    """The first look's votes for pairs of contents, in parts, in no order that means anything.

    Features that are missing, or of another rule, are made from the thumbnails and written. No more
    than two blocks of features, half a gigabyte, are in memory, however many pairs there are. No
    features are read that no pair needs, so what is read grows with the pairs and not with the
    square of the contents.

    Args:
        catalog: the caller holds the writer's lease.
        pairs: left, right.
        workers: threads; the work is free of Python's lock.

    Yields:
        left, right, votes (see :func:`tasks.dedup.first_look.votes_for`).
    """
    names = pl.concat([pairs["left"], pairs["right"]]).unique().sort()
    numbers = pl.DataFrame({"name": names}).with_row_index("at")
    left, right = (
        pairs.select(pl.col(side).alias("name"))
        .join(numbers, on="name", how="left", maintain_order="left")["at"]
        .to_numpy()
        .astype(np.int64)
        for side in ("left", "right")
    )
    # In order of their blocks, so that each block of the left side is read once.
    block = 2 * _BLOCK if len(names) <= 2 * _BLOCK else _BLOCK
    order = np.lexsort((right, left, right // block != left // block, left // block))
    left, right = left[order], right[order]
    edges = np.flatnonzero(np.diff(left // block)) + 1
    use_one_thread()
    keep_freed_memory()
    with (
        threadpool_limits(1, "blas"),
        ThreadPoolExecutor(workers, "look") as pool,
    ):
        known = _Known(catalog, names, pool)
        for rows in np.split(np.arange(len(left)), edges):
            if not len(rows):
                continue
            first = int(left[rows[0]] // block) * block
            ones = known.records(np.arange(first, min(first + block, len(names))))
            inside = (right[rows] // block) * block == first
            here, there = rows[inside], rows[~inside]
            yield from _votes_of_block(
                names, left[here], right[here], (ones, first), (ones, right[here] - first), pool
            )
            wanted = np.unique(right[there])
            for start in range(0, len(wanted), block):
                part = wanted[start : start + block]
                some = there[(right[there] >= part[0]) & (right[there] <= part[-1])]
                at = np.searchsorted(part, right[some])
                yield from _votes_of_block(
                    names, left[some], right[some], (ones, first), (known.records(part), at), pool
                )


class _Known:
    """The features of some contents (sorted by name), which are there once this is made."""

    def __init__(self, catalog: Catalog, names: pl.Series, pool: ThreadPoolExecutor) -> None:
        self._catalog, self._names = catalog, names
        rule = f"rule = {quote(features_rule())}"
        there = catalog.row_ids("features", rule)
        for part in (
            names.filter(~names.is_in(there["_key"].implode())).to_frame("m").iter_slices(_ROWS)
        ):
            read_records(catalog, part["m"], pool, keep=True)
        rows = catalog.row_ids("features", rule).rename({"_key": "content"})
        self._ids = pl.DataFrame({"content": names}).join(
            rows, on="content", how="left", maintain_order="left"
        )["_rowid"]

    def records(self, at: npt.NDArray[np.int64]) -> Records:
        """The records of contents by their numbers; without features where there are none."""
        records = np.zeros(len(at), RECORD)
        names = pl.DataFrame({"content": self._names.gather(at)}).with_row_index("at")
        ids = self._ids.gather(at).drop_nulls().to_list()
        for start in range(0, len(ids), _ROWS):
            part = self._catalog.take("features", ["content", "data"], ids[start : start + _ROWS])
            rows = pl.DataFrame(pl.from_arrow(part)).join(names, on="content")
            records[rows["at"].to_numpy()] = unpack(rows["data"].to_list())
        return records


def _votes_of_block(
    names: pl.Series,
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
    ones: tuple[Records, int],
    others: tuple[Records, npt.NDArray[np.int64]],
    pool: ThreadPoolExecutor,
) -> Iterator[pl.DataFrame]:
    """The votes of pairs whose left sides are in one block.

    Args:
        names: of all contents.
        left: numbers of the left sides, sorted.
        right: numbers of the right sides.
        ones: records of the left sides' block, and the number of its first.
        others: records that hold the right sides, and the place of each pair's in them.
        pool: looks.
    """
    (mine, first), (theirs, place) = ones, others

    def look(part: npt.NDArray[np.intp]) -> list[int]:
        found: list[int] = []
        for rows in _runs(left[part]):
            at = part[rows]
            found += votes_for(mine[int(left[at[0]]) - first], theirs[place[at]]).tolist()
        return found

    for told in _together(_runs(left) if len(left) else [], _TOLD):
        parts = _together_lefts(told)
        votes = [vote for found in pool.map(look, parts) for vote in found]
        rows = np.concatenate(parts)
        yield pl.DataFrame(
            {
                "left": names.gather(left[rows]),
                "right": names.gather(right[rows]),
                "votes": pl.Series(votes, dtype=pl.Int32),
            }
        )


def _runs(left: npt.NDArray[np.int64]) -> list[npt.NDArray[np.intp]]:
    """The places of each picture's pairs; pairs are in order of it."""
    return np.split(np.arange(len(left)), np.flatnonzero(np.diff(left)) + 1)


def _together(runs: list[npt.NDArray[np.intp]], most: int) -> Iterator[list[npt.NDArray[np.intp]]]:
    """Runs of some ``most`` pairs in all."""
    part: list[npt.NDArray[np.intp]] = []
    count = 0
    for run in runs:
        part.append(run)
        count += len(run)
        if count >= most:
            yield part
            part, count = [], 0
    if part:
        yield part


def _together_lefts(runs: list[npt.NDArray[np.intp]]) -> list[npt.NDArray[np.intp]]:
    return [np.concatenate(runs[at : at + _LEFTS]) for at in range(0, len(runs), _LEFTS)]


def read_records(
    catalog: Catalog, contents: pl.Series, pool: ThreadPoolExecutor, *, keep: bool
) -> Records:
    """The compact features of contents, in the order given.

    Args:
        catalog: the catalog.
        contents: their names, each once.
        pool: makes the features that are missing.
        keep: write them; the caller holds the writer's lease.

    Returns:
        records (n,); without features where a content has no thumbnail that can be read.
    """
    records = np.zeros(len(contents), RECORD)
    places = {name: at for at, name in enumerate(contents.to_list())}
    for names, blobs in _kept(catalog, contents):
        ours = [(places.pop(name), blob) for name, blob in zip(names, blobs, strict=True)]
        if ours:
            records[[at for at, _ in ours]] = unpack([blob for _, blob in ours])
    missing = list(places)
    for start in range(0, len(missing), _ROWS):
        part = missing[start : start + _ROWS]
        jpegs = dict(catalog.read_keys("thumbnails", ["content", "jpeg"], part).iter_rows())
        blobs = list(pool.map(make_features, jpegs.values()))
        if jpegs:
            records[[places[name] for name in jpegs]] = unpack(blobs)
        if keep:
            catalog.upsert("features", features_table(jpegs, blobs))
    return records


def _kept(catalog: Catalog, contents: pl.Series) -> Iterator[tuple[list[str], list[bytes]]]:
    """Names and features of contents that the catalog has under the present rule."""
    rule, columns = f"rule = {quote(features_rule())}", ["content", "data"]
    if not len(contents):
        return
    wanted = set(contents.to_list())
    if len(contents) > catalog.count("features") * _SHARE:
        low, high = quote(str(contents.min())), quote(str(contents.max()))
        where = f"{rule} AND content >= {low} AND content <= {high}"
        for batch in catalog.stream("features", columns, where, _ROWS):
            rows = [
                (name, blob)
                for name, blob in zip(*(batch[c].to_pylist() for c in columns), strict=True)
                if name in wanted
            ]
            yield [name for name, _ in rows], [blob for _, blob in rows]
        return
    found = catalog.read_keys("features", [*columns, "rule"], wanted)
    found = found.filter(pl.col("rule") == features_rule())
    yield found["content"].to_list(), found["data"].to_list()


def features_table(contents: Sequence[str] | dict[str, bytes], blobs: Sequence[bytes]) -> pa.Table:
    """Rows of the table ``features``, of the present rule."""
    rules = [features_rule()] * len(blobs)
    columns = [
        pa.array(list(contents), pa.string()),
        pa.array(rules, pa.string()),
        pa.array(list(blobs), pa.large_binary()),
    ]
    return pa.table(columns, schema=schema.FEATURES)
