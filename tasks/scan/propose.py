"""Propose: which pairs of contents are worth a look at their pixels.

Every content in scope has a list of its nearest; a pair is a candidate when either side lists the
other, or both have one perceptual hash. The lists of an incremental scan are those of a full one:
what is new is looked up, and is entered in every older list it belongs in.

In a scan across, lists hold only what lies on the other side, however crowded the own one is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.cross_filter import BOTH, crossing, facing, pairs_sharing, undivided, with_side
from tasks.embedding.vision import choose_device
from tasks.progress import Progress
from tasks.queries.assignments import (
    EXACT,
    choose_scan_mode,
    forget_cells,
    note_search,
    partition_scope,
    read_cells,
    write_cells,
)
from tasks.records import Kind, Scan, SearchNote, Space, digest
from tasks.search.brute_force import DIGITS, NeighbourBlock, nearest
from tasks.search.centroids import nearest_cosines, reorder, share_found
from tasks.search.ivf_join import CellOrder, nearest_in_cells

log = logging.getLogger(__name__)

#: Contents of one hash that are all compared; of more, each with the first of them.
_ALL_OF_ONE_HASH = 12
#: Contents whose lists are compared with exact ones, where these are not exact themselves.
_SAMPLE = 200
#: In cells, queries of one block share what they look into: more of them, more is shared.
_QUERY_BLOCKS = 4
_READ = 1 << 15


def refresh_lists(
    catalog: Catalog,
    scan: Scan,
    space: Space,
    contents: pl.Series,
    progress: Progress,
    sides: pl.Series | None = None,
) -> int:
    """Bring the scope's lists up to date; returns how many contents were looked up.

    A list that names a content which left the scope is made anew: it misses what lay behind. So
    is the list of a content whose side changed, and one that names a content now on no other side.
    All are, when the mode of the search changes, or the scope outgrew its cells.

    Args:
        catalog: the catalog.
        scan: the scan.
        space: where the vectors are.
        contents: all contents in scope.
        progress: told what is done.
        sides: of each content in a scan across; see :mod:`tasks.dedup.cross_filter`.
    """
    lists = _lists(catalog, scan, space)
    here = with_side(
        pl.DataFrame({"content": contents} | ({} if sides is None else {"side": sides}))
    )
    k = scan.settings.match.neighbours
    # Cells know no sides: a scan across multiplies one side with the other, and only that.
    mode = EXACT if scan.across else choose_scan_mode(here.height, scan.settings.match.mode)
    cells = read_cells(catalog, scan, space)
    alike = cells.fit(here.height, mode) if cells else mode == EXACT
    kept = _of_one_side(lists, here, scan, space).filter(pl.col("k") == k)
    kept = kept.join(_astray(kept, here), on="content", how="anti")
    if scan.kind is Kind.FULL or not alike:
        kept = kept.clear()
    # All of them now: after a kill half-way a list not yet made anew would pass for a whole one.
    outdated = lists.join(kept, on="content", how="anti")
    if kept.is_empty() and outdated.height:  # by the million, not a thousand at a time
        catalog.delete_where("neighbours", _where(scan, space))
    else:
        catalog.delete_keys("neighbours", outdated["list_id"].to_list())
    if mode == EXACT and cells:
        forget_cells(catalog, scan, space)
    queries = facing(here).join(kept, on="content", how="anti").sort("side", "content")
    kept = kept.join(here, on="content").sort("side", "content")
    progress("match", 0, queries.height)
    if queries.is_empty() or here.height < 2:  # one alone has no list
        known = cells.note if cells and mode != EXACT else SearchNote(mode, neighbours=k)
        note_search(catalog, scan, known)
        return 0
    look_up = _look_up if mode == EXACT else _look_up_in_cells
    note_search(catalog, scan, look_up(catalog, scan, space, mode, queries, kept, progress))
    return queries.height


def _look_up(
    catalog: Catalog,
    scan: Scan,
    space: Space,
    mode: str,
    queries: pl.DataFrame,
    kept: pl.DataFrame,
    progress: Progress,
) -> SearchNote:
    """Compare the queries with everything, and write the lists that this makes or changes."""
    k = scan.settings.match.neighbours
    rows = pl.concat([queries, kept.select("content", "side")])
    ordered = rows["content"]
    blocks = nearest(
        read_vectors(catalog, space, ordered),
        queries.height,
        k,
        _ends(kept, min(k, len(ordered) - 1)),
        ordered.rank("ordinal").cast(pl.Int64).to_numpy(writable=True),
        block=scan.settings.match.block,
        device=choose_device(scan.settings.embedding.device).type,
        progress=lambda done: progress("compare", done, queries.height),
        sides=None if undivided(rows) else rows["side"].to_numpy(writable=True),
    )
    _write(catalog, scan, space, blocks, rows, kept)
    return SearchNote(mode, neighbours=k)


def _look_up_in_cells(
    catalog: Catalog,
    scan: Scan,
    space: Space,
    mode: str,
    queries: pl.DataFrame,
    kept: pl.DataFrame,
    progress: Progress,
) -> SearchNote:
    """The same, but each content is compared with the cells nearest to it; says how well."""
    k = scan.settings.match.neighbours
    device = choose_device(scan.settings.embedding.device).type
    both = [queries.select("content"), kept.select("content")]
    ordered = pl.concat(both)["content"].sort()
    vectors = read_vectors(catalog, space, ordered)
    cells, probes = partition_scope(catalog, scan, space, ordered, vectors, mode, device)
    by_home = np.argsort(probes[:, 0], kind="stable")
    reorder(vectors, by_home)
    ordered, probes = ordered.gather(by_home), probes[by_home]
    rows = pl.DataFrame({"content": ordered})
    ends = kept.select("content").with_columns(
        pl.Series("end", _ends(kept, min(k, len(ordered) - 1)))
    )
    ends = rows.join(ends, on="content", how="left", maintain_order="left")
    order = CellOrder(
        probes,
        ends["end"].is_null().to_numpy(),
        ends["end"].fill_null(0.0).to_numpy(),
        by_home.astype(np.int64),
    )
    blocks = nearest_in_cells(
        vectors,
        order,
        k,
        block=scan.settings.match.block * _QUERY_BLOCKS,
        device=device,
        progress=lambda done: progress("compare", done, queries.height),
    )
    _write(catalog, scan, space, blocks, with_side(rows), kept)
    sampled = np.unique(np.linspace(0, len(ordered) - 1, _SAMPLE).astype(np.int64))
    best = nearest_cosines(vectors, sampled, k, device=device)
    found = _lists(catalog, scan, space, ordered.gather(sampled)).select("content", "cosines")
    found = rows.select(pl.col("content").gather(sampled)).join(
        found, on="content", how="left", maintain_order="left"
    )
    recall, top = share_found(best, found["cosines"].to_list())
    sizes = np.bincount(probes[:, 0], minlength=len(cells.centres))
    ranked = float(sizes[probes[sampled]].sum(1).mean() / len(ordered))
    note = SearchNote(mode, recall, top, len(sampled), ranked, k)
    write_cells(catalog, scan, space, replace(cells, note=note))
    log.info("%s search: %s", mode, note)
    return note


def _write(
    catalog: Catalog,
    scan: Scan,
    space: Space,
    blocks: Iterator[NeighbourBlock],
    rows: pl.DataFrame,
    kept: pl.DataFrame,
) -> None:
    """Write the lists that each block makes or changes, as it comes; rows: content, side."""
    k = scan.settings.match.neighbours
    old = kept.select("content", "names", "cosines")
    for block in blocks:
        changed = _merged(block, rows["content"], old, k)
        placed = with_side(changed) if undivided(rows) else changed.join(rows, on="content")
        catalog.upsert("neighbours", _rows(placed, scan, space, k))
        # A later block may enter the same older list again; those of queries are whole.
        entered = changed.join(old, on="content", how="semi")
        old = pl.concat([old.join(entered, on="content", how="anti"), entered])


def list_candidates(
    catalog: Catalog, scan: Scan, space: Space, contents: pl.DataFrame
) -> pl.DataFrame:
    """The candidate pairs of a scope: left, right (left < right), each once, in order.

    ``contents`` has content and phash, one row each; and side, in a scan across.
    """
    # In numbers, in the order of the names: twenty million names would not fit into memory twice.
    names = contents["content"].unique().sort()
    numbers = pl.DataFrame({"name": names}).with_row_index("at")

    def numbered(pairs: pl.DataFrame) -> pl.DataFrame:
        for side in ("a", "b"):
            pairs = (
                pairs.join(numbers, left_on=side, right_on="name")
                .with_columns(pl.col("at").alias(side))
                .drop("at")
            )
        return pairs.select(
            pl.min_horizontal("a", "b").alias("left"), pl.max_horizontal("a", "b").alias("right")
        )

    parts = [numbered(pairs_sharing(contents, "phash", "content", _ALL_OF_ONE_HASH))]
    where = _where(scan, space)
    for batch in catalog.stream("neighbours", ["content", "names"], where, _READ):
        lists = pl.DataFrame(pl.from_arrow(batch)).rename({"content": "a", "names": "b"})
        parts.append(numbered(lists.explode("b", empty_as_null=True).drop_nulls("b")).unique())
    both = pl.concat(parts).unique().sort("left", "right")
    pairs = both.select(
        names.gather(both["left"]).alias("left"), names.gather(both["right"]).alias("right")
    )
    return crossing(pairs, contents)


def _of_one_side(lists: pl.DataFrame, here: pl.DataFrame, scan: Scan, space: Space) -> pl.DataFrame:
    """Lists of contents that are here, made when these were on the sides they are on now."""
    found = lists.join(here, on="content", how="semi")
    if not scan.across:
        return found
    placed = found.select("content").join(here, on="content", maintain_order="left")
    return found.filter(pl.col("list_id") == _ids(placed, scan, space))


def _astray(lists: pl.DataFrame, here: pl.DataFrame) -> pl.DataFrame:
    """Lists (content) that name what is not here, or does not lie across."""
    found = [here.select("content").clear()]
    for part in lists.select("content", "names").iter_slices(_READ):
        named = part.explode("names", empty_as_null=True).drop_nulls("names")
        gone = named.join(here, left_on="names", right_on="content", how="anti").select("content")
        found.append(gone.unique())
        if not undivided(here):
            pairs = named.select(pl.col("content").alias("left"), pl.col("names").alias("right"))
            facing_each_other = crossing(pairs, here)
            beside = pairs.join(facing_each_other, on=["left", "right"], how="anti")
            found.append(beside.select(pl.col("left").alias("content")).unique())
    return pl.concat(found)


def _lists(
    catalog: Catalog, scan: Scan, space: Space, contents: pl.Series | None = None
) -> pl.DataFrame:
    where = _where(scan, space)
    if contents is not None:
        where += f" AND content IN ({', '.join(quote(name) for name in contents)})"
    return catalog.read("neighbours", ["list_id", "content", "k", "names", "cosines"], where)


def _where(scan: Scan, space: Space) -> str:
    return f"scope = {quote(scan.scope)} AND space = {quote(space.id)}"


def _ends(kept: pl.DataFrame, full: int) -> npt.NDArray[np.float32]:
    """The last cosine of each list; of one that is not full, the lowest there is."""
    ends = kept.select(
        pl.when(pl.col("cosines").list.len() < full)
        .then(pl.lit(-1.0))
        .otherwise(pl.col("cosines").list.min())
        .cast(pl.Float32)
        .alias("end")
    )
    return ends["end"].to_numpy().copy()


def read_vectors(catalog: Catalog, space: Space, contents: pl.Series) -> npt.NDArray[np.float16]:
    """Vectors (n, dim) in the order of ``contents``; none is in memory twice."""
    wanted = pl.DataFrame({"content": contents}).with_row_index("at")
    vectors = np.zeros((len(contents), space.dim), np.float16)
    for names, part in catalog.stream_vectors(f"vectors_{space.id}", _READ):
        here = pl.DataFrame({"content": names}).with_row_index("row").join(wanted, on="content")
        vectors[here["at"].to_numpy()] = part[here["row"].to_numpy()]
    return vectors


def _merged(block: NeighbourBlock, names: pl.Series, old: pl.DataFrame, k: int) -> pl.DataFrame:
    """The lists that a block makes or changes: content, names, cosines."""
    found = pl.DataFrame(
        {
            "content": names.gather(block.owner),
            "names": names.gather(block.neighbour),
            "cosines": block.cosine,
        }
    )
    touched = old.join(found, on="content", how="semi").explode(
        "names", "cosines", empty_as_null=True
    )
    return (
        pl.concat([found, touched.drop_nulls("names")])
        .with_columns(pl.col("cosines").round(DIGITS))
        .unique(["content", "names"])
        .sort("content", "cosines", "names", descending=[False, True, False])
        .group_by("content", maintain_order=True)
        .agg(pl.col("names").head(k), pl.col("cosines").head(k))
    )


def _rows(lists: pl.DataFrame, scan: Scan, space: Space, k: int) -> object:
    frame = lists.select(
        _ids(lists, scan, space),
        pl.lit(scan.scope).alias("scope"),
        "content",
        pl.lit(space.id).alias("space"),
        pl.lit(k, pl.Int32).alias("k"),
        "names",
        "cosines",
    )
    return frame.to_arrow().cast(schema.NEIGHBOURS)


def _ids(contents: pl.DataFrame, scan: Scan, space: Space) -> pl.Series:
    """The ids of the lists of contents on their sides (content, side)."""
    ids = [
        digest(scan.scope, content, space.id, *(() if side == BOTH else (str(side),)))
        for content, side in contents.select("content", "side").iter_rows()
    ]
    return pl.Series("list_id", ids, dtype=pl.String)
