"""Propose: keep the neighbour lists from which the candidate pairs are read.

Every content in scope has a list of its nearest contents. A pair is a candidate when either lists
the other, or when both have one perceptual hash (:mod:`tasks.queries.candidates`). An incremental
scan ends with the lists of a full one: it looks up what is new, and enters it in every older list
that it belongs in.

In a cross-filter scan a list holds only contents of the other side, so that many like pictures on
a content's own side cannot fill it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.cross_filter import BOTH, content_sides, crossing, facing, undivided, with_side
from tasks.progress import Progress, silent
from tasks.queries.assignments import (
    EXACT,
    choose_scan_mode,
    forget_centroids,
    note_search,
    partition_scope,
    read_centroids,
    write_centroids,
)
from tasks.queries.candidates import READ_ROWS, lists_where
from tasks.queries.scope_assets import embedded_assets
from tasks.queries.vectors import read_vectors
from tasks.records import Kind, Scan, SearchNote, Space, digest
from tasks.session import open_catalog

# The products need torch, whose import takes longer (1.8 CPU s) than most runs that merge, check or
# follow events: so what uses it is imported where it is used.
if TYPE_CHECKING:
    from tasks.search.brute_force import NeighbourBlock

log = logging.getLogger(__name__)

#: Contents whose lists are compared with exact ones, to measure a search that is not exact.
_SAMPLE = 200
#: A list as it is entered in.
_LISTED = pl.Schema(
    [
        ("content", pl.String()),
        ("names", pl.List(pl.String)),
        ("cosines", pl.List(pl.Float32)),
    ]
)
#: A search by inverted lists takes this many times the rows of a block at once: queries of one
#: block share the lists they look into, and a larger block shares more.
_QUERY_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class ProposeCounts:
    """What a propose stage did.

    Attributes:
        compared: contents whose nearest were looked up.
    """

    compared: int


def propose_candidates(scan: Scan, space: Space, progress: Progress = silent) -> ProposeCounts:
    """Look up the nearest of what is new; in a full scan, of everything."""
    catalog = open_catalog(scan.settings)
    with catalog.writing(scan.settings.catalog.busy_seconds):
        here = content_sides(embedded_assets(catalog, scan, space)).sort("content")
        compared = refresh_lists(catalog, scan, space, here["content"], progress, here["side"])
    counts = ProposeCounts(compared)
    log.info("propose: %s", counts)
    return counts


def refresh_lists(
    catalog: Catalog,
    scan: Scan,
    space: Space,
    contents: pl.Series,
    progress: Progress,
    sides: pl.Series | None = None,
) -> int:
    """Bring the scope's lists up to date; returns how many contents were looked up.

    A list is made anew when it names a content that left the scope, for the next nearest then
    belongs in its place; and when its content, or one that it names, is on another side than
    before. All lists are made anew when the mode of the search changes, or when the scope has
    outgrown its inverted lists.

    Args:
        catalog: the catalog.
        scan: the scan.
        space: where the vectors are.
        contents: all contents in scope.
        progress: told what is done.
        sides: of each content in a cross-filter scan; see :mod:`tasks.dedup.cross_filter`.
    """
    here = with_side(
        pl.DataFrame({"content": contents} | ({} if sides is None else {"side": sides}))
    )
    k = scan.settings.match.neighbours
    # Inverted lists hold no sides, so a cross-filter scan compares its two sides in full.
    mode = EXACT if scan.across else choose_scan_mode(here.height, scan.settings.match.mode)
    cells = read_centroids(catalog, scan, space)
    alike = cells.fit(here.height, mode) if cells else mode == EXACT
    anew = scan.kind is Kind.FULL or not alike
    lists, kept = _read_standing(catalog, scan, space, here, anew=anew)
    # Outdated lists are deleted before the first new one is written: after a kill half-way, one
    # that was not made anew yet would be taken for a good one.
    outdated = lists.join(kept, on="content", how="anti")
    # All of the scope's lists go in one request; by their keys it would be 1,000 a request.
    if kept.is_empty() and outdated.height:
        catalog.delete_where("neighbours", lists_where(scan, space))
    else:
        catalog.delete_keys("neighbours", outdated["list_id"].to_list())
    if mode == EXACT and cells:
        forget_centroids(catalog, scan, space)
    queries = facing(here).join(kept, on="content", how="anti").sort("side", "content")
    kept = kept.join(here, on="content").sort("side", "content")
    progress("compare", 0, queries.height)
    if queries.is_empty() or here.height < 2:  # a content alone in its scope has no neighbours
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
    """Compare the queries with all contents, and write the lists that this makes or changes."""
    from tasks.embedding.vision import choose_device
    from tasks.search.brute_force import nearest
    from tasks.search.half_products import nearest_by_halves

    device = choose_device(scan.settings.embedding.device).type
    find = nearest_by_halves if device == "cuda" else nearest
    k = scan.settings.match.neighbours
    rows = pl.concat([queries, kept.select("content", "side")])
    ordered = rows["content"]
    blocks = find(
        read_vectors(catalog, space, ordered),
        queries.height,
        k,
        _ends(kept, min(k, len(ordered) - 1)),
        ordered.rank("ordinal").cast(pl.Int64).to_numpy(writable=True),
        block=scan.settings.match.block_rows,
        device=device,
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
    """Compare each query with the inverted lists nearest to it, and write the neighbour lists.

    Returns:
        What share of the exact lists this found, measured on 200 contents.
    """
    from tasks.embedding.vision import choose_device
    from tasks.search.centroids import nearest_cosines, reorder, share_found
    from tasks.search.ivf_join import CellOrder, nearest_in_cells

    k = scan.settings.match.neighbours
    device = choose_device(scan.settings.embedding.device).type
    both = [queries.select("content"), kept.select("content")]
    ordered = pl.concat(both)["content"].sort()
    vectors = read_vectors(catalog, space, ordered)
    cells, probes = partition_scope(catalog, scan, space, ordered, vectors, mode, device)
    by_cell = np.argsort(probes[:, 0], kind="stable")
    reorder(vectors, by_cell)
    ordered, probes = ordered.gather(by_cell), probes[by_cell]
    rows = pl.DataFrame({"content": ordered})
    ends = kept.select("content").with_columns(
        pl.Series("end", _ends(kept, min(k, len(ordered) - 1)))
    )
    ends = rows.join(ends, on="content", how="left", maintain_order="left")
    order = CellOrder(
        probes,
        ends["end"].is_null().to_numpy(),
        ends["end"].fill_null(0.0).to_numpy(),
        by_cell.astype(np.int64),
    )
    blocks = nearest_in_cells(
        vectors,
        order,
        k,
        block=scan.settings.match.block_rows * _QUERY_BLOCKS,
        device=device,
        progress=lambda done: progress("compare", done, queries.height),
    )
    _write(catalog, scan, space, blocks, with_side(rows), kept)
    sampled = np.unique(np.linspace(0, len(ordered) - 1, _SAMPLE).astype(np.int64))
    best = nearest_cosines(vectors, sampled, k, device=device)
    found = _lists(catalog, scan, space, ordered.gather(sampled))
    found = rows.select(pl.col("content").gather(sampled)).join(
        found, on="content", how="left", maintain_order="left"
    )
    recall, top = share_found(best, found["cosines"].to_list())
    sizes = np.bincount(probes[:, 0], minlength=len(cells.centres))
    ranked = float(sizes[probes[sampled]].sum(1).mean() / len(ordered))
    note = SearchNote(mode, recall, top, len(sampled), ranked, k)
    write_centroids(catalog, scan, space, replace(cells, note=note))
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
    """Write the lists that each block makes or changes, as it comes.

    Args:
        catalog: the catalog.
        scan: the scan.
        space: where the vectors are.
        blocks: what was found; their numbers are rows of ``rows``.
        rows: content, side.
        kept: the older lists, as :func:`_read_standing` gives them.
    """
    k = scan.settings.match.neighbours
    old = _OlderLists(catalog, scan, space, kept)
    for block in blocks:
        changed = _merged(block, rows["content"], old, k)
        placed = with_side(changed) if undivided(rows) else changed.join(rows, on="content")
        catalog.upsert("neighbours", _rows(placed, scan, space, k))
        # A later block may change the same older list again, so these are carried on as they are
        # now. The lists of queries are complete after their own block.
        old.carry_on(changed)


class _OlderLists:
    """The older lists, of which only those that this scan changes are held in memory.

    A list takes 1.5 kB with its names, so all those of a million contents would not fit.

    Args:
        kept: list_id, content; of lists that nobody but this scan changes meanwhile.
    """

    def __init__(self, catalog: Catalog, scan: Scan, space: Space, kept: pl.DataFrame) -> None:
        self._catalog = catalog
        rows = catalog.row_ids("neighbours", lists_where(scan, space)) if kept.height else None
        self._ids = (
            pl.DataFrame(schema={"content": pl.String, "_rowid": pl.UInt64})
            if rows is None
            else kept.join(rows, left_on="list_id", right_on="_key").select("content", "_rowid")
        )
        self._changed = pl.DataFrame(schema=_LISTED)

    def of(self, contents: pl.Series) -> pl.DataFrame:
        """The older lists of some contents as they are now: content, names, cosines."""
        wanted = pl.DataFrame({"content": contents.unique()})
        ids = self._ids.join(wanted, on="content", how="semi")["_rowid"].to_list()
        held = [self._changed.join(wanted, on="content", how="semi")]
        for start in range(0, len(ids), READ_ROWS):
            part = self._catalog.take("neighbours", list(_LISTED), ids[start : start + READ_ROWS])
            held.append(pl.DataFrame(pl.from_arrow(part)).cast(_LISTED))
        return pl.concat(held)

    def carry_on(self, changed: pl.DataFrame) -> None:
        """Take notice of lists (content, names, cosines) that were written now."""
        known = [self._ids.select("content"), self._changed.select("content")]
        older = changed.join(pl.concat(known), on="content", how="semi")
        self._ids = self._ids.join(older, on="content", how="anti")
        others = self._changed.join(older, on="content", how="anti")
        self._changed = pl.concat([others, older.select(list(_LISTED)).cast(_LISTED)])


def _read_standing(
    catalog: Catalog, scan: Scan, space: Space, here: pl.DataFrame, *, anew: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All lists of the scope, and those that can be kept; read in parts, for the names are many.

    Args:
        catalog: the catalog.
        scan: the scan.
        space: where the vectors are.
        here: content, side of all in scope.
        anew: all lists are to be made anew, so none is kept.

    Returns:
        list_id, content of all; list_id, content, length and lowest cosine of those to be kept.
    """
    columns = ["list_id", "content"] if anew else ["list_id", "content", "k", "names", "cosines"]
    lists = [pl.DataFrame(schema={"list_id": pl.String, "content": pl.String})]
    kept = [
        lists[0].with_columns(
            pl.lit(0, pl.Int32).alias("length"), pl.lit(0.0, pl.Float64).alias("lowest")
        )
    ]
    for batch in catalog.stream("neighbours", columns, lists_where(scan, space), READ_ROWS):
        part = pl.DataFrame(pl.from_arrow(batch))
        lists.append(part.select("list_id", "content"))
        if anew:
            continue
        good = _of_one_side(part, here, scan, space)
        good = good.filter(pl.col("k") == scan.settings.match.neighbours)
        good = good.join(_stale_lists(good, here), on="content", how="anti")
        kept.append(
            good.select(
                "list_id",
                "content",
                pl.col("names").list.len().cast(pl.Int32).alias("length"),
                pl.col("cosines").list.min().cast(pl.Float64).alias("lowest"),
            )
        )
    return pl.concat(lists).sort("list_id"), pl.concat(kept).sort("list_id")


def _of_one_side(lists: pl.DataFrame, here: pl.DataFrame, scan: Scan, space: Space) -> pl.DataFrame:
    """The lists of contents in scope that were made while these were on the sides of now."""
    found = lists.join(here, on="content", how="semi")
    if not scan.across:
        return found
    placed = found.select("content").join(here, on="content", maintain_order="left")
    return found.filter(pl.col("list_id") == _ids(placed, scan, space))


def _stale_lists(lists: pl.DataFrame, here: pl.DataFrame) -> pl.DataFrame:
    """The contents whose lists name one that is not in scope, or not on the other side."""
    found = [here.select("content").clear()]
    for part in lists.select("content", "names").iter_slices(READ_ROWS):
        named = part.explode("names", empty_as_null=True).drop_nulls("names")
        gone = named.join(here, left_on="names", right_on="content", how="anti").select("content")
        found.append(gone.unique())
        if not undivided(here):
            pairs = named.select(pl.col("content").alias("left"), pl.col("names").alias("right"))
            facing_each_other = crossing(pairs, here)
            beside = pairs.join(facing_each_other, on=["left", "right"], how="anti")
            found.append(beside.select(pl.col("left").alias("content")).unique())
    return pl.concat(found)


def _lists(catalog: Catalog, scan: Scan, space: Space, contents: pl.Series) -> pl.DataFrame:
    named = ", ".join(quote(name) for name in contents)
    where = f"{lists_where(scan, space)} AND content IN ({named})"
    return catalog.read("neighbours", ["content", "cosines"], where)


def _ends(kept: pl.DataFrame, full: int) -> npt.NDArray[np.float32]:
    """The lowest cosine in each list; -1 where a list is not full, so that anything may enter."""
    ends = kept.select(
        pl.when(pl.col("length") < full)
        .then(pl.lit(-1.0))
        .otherwise(pl.col("lowest"))
        .cast(pl.Float32)
        .alias("end")
    )
    return ends["end"].to_numpy().copy()


def _merged(block: NeighbourBlock, names: pl.Series, old: _OlderLists, k: int) -> pl.DataFrame:
    """The lists that a block makes or changes: content, names, cosines."""
    from tasks.search.brute_force import DIGITS

    found = pl.DataFrame(
        {
            "content": names.gather(block.owner),
            "names": names.gather(block.neighbour),
            "cosines": block.cosine,
        }
    )
    touched = old.of(found["content"]).explode("names", "cosines", empty_as_null=True)
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
    """The list ids of some contents (content, side); a list belongs to a content on one side."""
    ids = [
        digest(scan.scope, content, space.id, *(() if side == BOTH else (str(side),)))
        for content, side in contents.select("content", "side").iter_rows()
    ]
    return pl.Series("list_id", ids, dtype=pl.String)
