"""Propose: which pairs of contents are worth a look at their pixels.

Every content in scope has a list of its nearest; a pair is a candidate when either side lists the
other, or both have one perceptual hash. The lists of an incremental scan are those of a full one:
what is new is looked up, and is entered in every older list it belongs in.

In a scan across, lists hold only what lies on the other side, however crowded the own one is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.pairs import DIGITS, NeighbourBlock, nearest
from tasks.dedup.sides import BOTH, crossing, facing, pairs_sharing, undivided, with_side
from tasks.embedding.vision import choose_device
from tasks.progress import Progress
from tasks.records import Kind, Scan, Space, digest

#: Contents of one hash that are all compared; of more, each with the first of them.
_ALL_OF_ONE_HASH = 12


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

    Args:
        catalog: the catalog.
        scan: the scan.
        space: where the vectors are.
        contents: all contents in scope.
        progress: told what is done.
        sides: of each content in a scan across; see :mod:`tasks.dedup.sides`.
    """
    lists = _lists(catalog, scan, space)
    here = with_side(
        pl.DataFrame({"content": contents} | ({} if sides is None else {"side": sides}))
    )
    k = scan.settings.match.neighbours
    kept = _of_one_side(lists, here, scan, space).filter(pl.col("k") == k)
    named = kept.explode("names", "cosines", empty_as_null=True).drop_nulls("names")
    stale = _astray(named, here)
    kept = kept.join(stale, on="content", how="anti")
    if scan.kind is Kind.FULL:
        kept = kept.clear()
    # All of them now: after a kill half-way a list not yet made anew would pass for a whole one.
    outdated = lists.join(kept, on="content", how="anti")
    catalog.delete_keys("neighbours", outdated["list_id"].to_list())
    queries = facing(here).join(kept, on="content", how="anti").sort("side", "content")
    kept = kept.join(here, on="content").sort("side", "content")
    progress("match", 0, queries.height)
    if queries.is_empty() or here.height < 2:  # one alone has no list
        return 0
    rows = pl.concat([queries, kept.select("content", "side")])
    ordered = rows["content"]
    ends = _ends(kept, min(k, len(ordered) - 1))
    old = kept.select("content", "names", "cosines")
    for block in nearest(
        _vectors(catalog, space, ordered),
        queries.height,
        k,
        ends,
        ordered.rank("ordinal").cast(pl.Int64).to_numpy(writable=True),
        block=scan.settings.match.block,
        device=choose_device(scan.settings.embedding.device).type,
        progress=lambda done: progress("compare", done, queries.height),
        sides=None if undivided(rows) else rows["side"].to_numpy(writable=True),
    ):
        changed = _merged(block, ordered, old, k)
        placed = with_side(changed) if undivided(here) else changed.join(here, on="content")
        catalog.upsert("neighbours", _rows(placed, scan, space, k))
        # A later block may enter the same older list again.
        old = pl.concat([old.join(changed, on="content", how="anti"), changed])
    return queries.height


def list_candidates(
    catalog: Catalog, scan: Scan, space: Space, contents: pl.DataFrame
) -> pl.DataFrame:
    """The candidate pairs of a scope: left, right (left < right), each once, in order.

    ``contents`` has content and phash, one row each; and side, in a scan across.
    """
    lists = _lists(catalog, scan, space)
    near = lists.explode("names", empty_as_null=True).drop_nulls("names")
    near = near.select(pl.col("content").alias("a"), pl.col("names").alias("b"))
    for side in ("a", "b"):
        near = near.join(contents, left_on=side, right_on="content", how="semi")
    both = pl.concat([near, pairs_sharing(contents, "phash", "content", _ALL_OF_ONE_HASH)])
    pairs = both.select(
        pl.min_horizontal("a", "b").alias("left"), pl.max_horizontal("a", "b").alias("right")
    ).unique()
    return crossing(pairs, contents).sort("left", "right")


def _of_one_side(lists: pl.DataFrame, here: pl.DataFrame, scan: Scan, space: Space) -> pl.DataFrame:
    """Lists of contents that are here, made when these were on the sides they are on now."""
    found = lists.join(here, on="content", how="semi")
    if not scan.across:
        return found
    placed = found.select("content").join(here, on="content", maintain_order="left")
    return found.filter(pl.col("list_id") == _ids(placed, scan, space))


def _astray(named: pl.DataFrame, here: pl.DataFrame) -> pl.DataFrame:
    """Entries of lists (content, names) that name what is not here, or does not lie across."""
    gone = named.join(here, left_on="names", right_on="content", how="anti").select("content")
    if undivided(here):
        return gone
    pairs = named.select(pl.col("content").alias("left"), pl.col("names").alias("right"))
    facing_each_other = crossing(pairs, here)
    beside = pairs.join(facing_each_other, on=["left", "right"], how="anti")
    return pl.concat([gone, beside.select(pl.col("left").alias("content"))])


def _lists(catalog: Catalog, scan: Scan, space: Space) -> pl.DataFrame:
    where = f"scope = {quote(scan.scope)} AND space = {quote(space.id)}"
    columns = ["list_id", "content", "k", "names", "cosines"]
    return catalog.read("neighbours", columns, where)


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


def _vectors(catalog: Catalog, space: Space, contents: pl.Series) -> npt.NDArray[np.float16]:
    """Vectors (n, dim) in the order of ``contents``."""
    table = catalog.read_arrow(f"vectors_{space.id}", ["content", "vector"])
    wanted = pl.DataFrame({"content": contents}).with_row_index("at")
    have = pl.DataFrame({"content": pl.from_arrow(table["content"])}).with_row_index("row")
    found = wanted.join(have, on="content").sort("at")
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    return np.asarray(flat.reshape(-1, space.dim)[found["row"].to_numpy()])


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
