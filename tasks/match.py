"""Match: compare contents, keep the pairs that hold, and remember what was compared.

Contents (equal pixels) are compared, not assets: ten thousand copies of one logo are one row.
After each block of queries its matches are written, then its marks; a killed incremental scan goes
on after the last block, a full one compares everything anew.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.pairs import PairBlock, close_pairs
from tasks.dedup.verify import cosine_floor, phash_distance, rule_id, score_pairs
from tasks.embedding.vision import choose_device
from tasks.progress import Progress, silent
from tasks.records import Kind, Scan, Space, digest
from tasks.session import open_catalog, open_source, scope_sql

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MatchCounts:
    """What a match stage did.

    Attributes:
        compared: contents compared with everything in scope.
        candidates: raw neighbours looked at.
        matches: of these, how many reach the threshold.
    """

    compared: int
    candidates: int
    matches: int


def match_assets(scan: Scan, space: Space, progress: Progress = silent) -> MatchCounts:
    """Compare what must be compared: all contents in a full scan, unmatched ones otherwise."""
    source = open_source(scan.source, scan.settings)
    catalog = open_catalog(scan.settings)
    with catalog.writing(scan.settings.catalog.busy_seconds):
        contents = (
            catalog.read("assets", ["content", "phash"], scope_sql(scan, source))
            .drop_nulls("content")
            .unique("content", keep="first")
            .sort("content")
        )
        # Another scan may have brought assets since ours embedded: they wait for their own scan.
        embedded = catalog.known_contents(space.id)
        contents = contents.filter(pl.col("content").is_in(embedded.implode()))
        marked = _prune_marks(catalog, scan, space, contents)
        if scan.kind is Kind.FULL:
            marked = marked.clear()
        ordered = _queries_first(contents, marked)
        queries = contents.height - marked.height
        counts = _compare(catalog, scan, space, ordered, queries, progress)
    log.info("match: %s", counts)
    return counts


def _prune_marks(
    catalog: Catalog, scan: Scan, space: Space, contents: pl.DataFrame
) -> pl.DataFrame:
    """The contents in scope that were compared already; marks of others are deleted.

    A content that left the scope (removed, changed, filtered out) and comes back has missed what
    came meanwhile, so its mark must not outlive its leaving.
    """
    where = (
        f"scope = {quote(scan.scope)} AND space = {quote(space.id)} AND rule = {quote(rule_id())}"
    )
    marks = catalog.read("matched", ["mark_id", "content", "threshold"], where)
    gone = marks.join(contents, on="content", how="anti")
    catalog.delete_keys("matched", gone["mark_id"].to_list())
    # float32 in the table: compare with a margin below its precision.
    enough = marks.filter(pl.col("threshold") <= scan.threshold + 1e-6)
    return enough.join(contents, on="content", how="semi").select("content")


def _queries_first(contents: pl.DataFrame, marked: pl.DataFrame) -> pl.DataFrame:
    queries = contents.join(marked, on="content", how="anti").sort("content")
    rest = contents.join(marked, on="content", how="semi").sort("content")
    return pl.concat([queries, rest])


def _compare(
    catalog: Catalog,
    scan: Scan,
    space: Space,
    contents: pl.DataFrame,
    queries: int,
    progress: Progress,
) -> MatchCounts:
    progress("match", 0, queries)
    if not queries:
        return MatchCounts(0, 0, 0)
    vectors = _vectors(catalog, space, contents["content"])
    hashes = contents["phash"].to_numpy()
    names = contents["content"]
    candidates = matches = 0
    device = choose_device(scan.settings.embedding.device).type
    for block in close_pairs(
        vectors,
        queries,
        cosine_floor(scan.threshold),
        block=scan.settings.match.block,
        device=device,
        progress=lambda done: progress("match", done, queries),
    ):
        rows = _verified(block, hashes, names, space, scan.threshold)
        catalog.upsert("matches", rows)
        catalog.upsert("matched", _marks(names.slice(*_span(block)), scan, space))
        candidates += len(block.left)
        matches += rows.num_rows
    return MatchCounts(queries, candidates, matches)


def _span(block: PairBlock) -> tuple[int, int]:
    first, end = block.queries
    return first, end - first


def _vectors(catalog: Catalog, space: Space, contents: pl.Series) -> npt.NDArray[np.float16]:
    """Vectors (n, dim) in the order of ``contents``."""
    table = catalog.read_arrow(f"vectors_{space.id}", ["content", "vector"])
    wanted = pl.DataFrame({"content": contents}).with_row_index("at")
    have = pl.DataFrame({"content": pl.from_arrow(table["content"])}).with_row_index("row")
    found = wanted.join(have, on="content").sort("at")
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    return np.asarray(flat.reshape(-1, space.dim)[found["row"].to_numpy()])


def _verified(
    block: PairBlock,
    hashes: npt.NDArray[np.uint64],
    names: pl.Series,
    space: Space,
    threshold: float,
) -> pa.Table:
    """The candidates that reach the threshold, as rows of the matches table."""
    bits = phash_distance(hashes[block.left], hashes[block.right])
    scores = score_pairs(block.cosine, bits)
    keep = scores >= threshold
    a, b = names.gather(block.left[keep]), names.gather(block.right[keep])
    frame = pl.DataFrame(
        {
            "a": a,
            "b": b,
            "score": scores[keep],
            "cosine": block.cosine[keep],
            "phash_distance": bits[keep],
        }
    ).select(
        pl.min_horizontal("a", "b").alias("left"),
        pl.max_horizontal("a", "b").alias("right"),
        pl.lit(space.id).alias("space"),
        pl.lit(rule_id()).alias("rule"),
        "score",
        "cosine",
        "phash_distance",
    )
    keys = [digest(left, right, space.id) for left, right in frame.select("left", "right").rows()]
    frame = frame.insert_column(0, pl.Series("match_id", keys, dtype=pl.String))
    return frame.to_arrow().cast(schema.MATCHES)


def _marks(contents: pl.Series, scan: Scan, space: Space) -> pa.Table:
    ids = [digest(scan.scope, content, space.id) for content in contents]
    return pa.table(
        [
            pa.array(ids, pa.string()),
            pa.array([scan.scope] * len(ids), pa.string()),
            contents.to_arrow().cast(pa.string()),
            pa.array([space.id] * len(ids), pa.string()),
            pa.array([rule_id()] * len(ids), pa.string()),
            pa.array([scan.threshold] * len(ids), pa.float32()),
        ],
        schema=schema.MATCHED,
    )
