"""Partition: the cells of a large scope, and which of them each content looks into.

The centres are kept in the catalog, as are the cells of every content: what comes later is put into
the same cells, so that its lists and those it enters are what a full scan would make. The cells are
made anew when the scope has doubled or halved since, or another mode is asked for.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.records import Scan, SearchNote, Space, digest
from tasks.search.centroids import nearest_cells, train_cells
from tasks.session import pa_table

log = logging.getLogger(__name__)

EXACT, BALANCED, SPEED, AUTO = "exact", "balanced", "speed", "auto"
#: Where ``auto`` changes over: all pairs of more cost more than the pictures' features.
EXACT_UP_TO, BALANCED_UP_TO = 100_000, 1_000_000
#: Cells that each content looks into: so many at least and at most, between them a share of all.
#: What is looked into grows with the collection only to where the cells of contents fill memory.
PROBES = {BALANCED: (32, 160, 0.08), SPEED: (12, 96, 0.048)}
#: Vectors of a cell, about, and those looked at for its centre.
_PER_CELL, _MOST_CELLS = 500, 4096
SAMPLED = 32
#: Made anew when the scope has grown or shrunk so much.
_OUTGROWN = 2.0
_BLOCK = 1 << 15


def choose_scan_mode(count: int, mode: str) -> str:
    """How the lists of so many contents are made: exact, balanced or speed."""
    if mode != AUTO:
        return mode
    if count <= EXACT_UP_TO:
        return EXACT
    return BALANCED if count <= BALANCED_UP_TO else SPEED


def cells_for(count: int) -> int:
    """How many cells so many contents are put in."""
    return min(max(count // _PER_CELL, 1), _MOST_CELLS)


def probes_for(mode: str, cells: int) -> int:
    """How many of so many cells each content looks into."""
    least, most, share = PROBES[mode]
    return min(max(least, min(int(cells * share), most)), cells)


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a scope.

    Attributes:
        count: contents there were when they were made.
        centres: float32 (cells, dim).
        note: what was last measured of the lists made with them.
    """

    mode: str
    count: int
    centres: npt.NDArray[np.float32]
    note: SearchNote

    def fit(self, count: int, mode: str) -> bool:
        """Whether they serve for so many contents in this mode."""
        grown = count / max(self.count, 1)
        return self.mode == mode and 1 / _OUTGROWN <= grown <= _OUTGROWN


def read_cells(catalog: Catalog, scan: Scan, space: Space) -> Cells | None:
    """The cells that the scope's lists were made with; None when they are exact, or none are."""
    found = catalog.read("cells", schema.CELLS.names, f"cells_id = {quote(_id(scan, space))}")
    if found.is_empty():
        return None
    row = found.row(0, named=True)
    centres = np.frombuffer(row["centres"], np.float32).reshape(-1, space.dim).copy()
    note = SearchNote(
        row["mode"], row["recall"], row["best"], row["sample"], row["ranked"], row["neighbours"]
    )
    return Cells(row["mode"], row["count"], centres, note)


def forget_cells(catalog: Catalog, scan: Scan, space: Space) -> None:
    """Remove the scope's cells; its lists must be gone by then."""
    # In this order: contents must never be placed in cells of before.
    catalog.delete_where("homes", _where(scan, space))
    catalog.delete_keys("cells", [_id(scan, space)])


def write_cells(catalog: Catalog, scan: Scan, space: Space, cells: Cells) -> None:
    """Write the scope's cells, or what was measured with them."""
    row = {
        "cells_id": _id(scan, space),
        "scope": scan.scope,
        "space": space.id,
        "mode": cells.mode,
        "count": cells.count,
        "centres": cells.centres.tobytes(),
        "recall": cells.note.recall,
        "best": cells.note.best,
        "sample": cells.note.sample,
        "ranked": cells.note.ranked,
        "neighbours": cells.note.neighbours,
    }
    catalog.upsert("cells", pa_table([row], schema.CELLS))


def partition_scope(
    catalog: Catalog,
    scan: Scan,
    space: Space,
    contents: pl.Series,
    vectors: npt.NDArray[np.float16],
    mode: str,
    device: str,
) -> tuple[Cells, npt.NDArray[np.uint16]]:
    """The scope's cells, and those that each content looks into (n, probes), its home first.

    Args:
        catalog: the catalog.
        scan: the scan.
        space: where the vectors are.
        contents: all contents in scope, sorted.
        vectors: theirs (n, dim).
        mode: balanced or speed.
        device: where the products are computed.
    """
    cells = read_cells(catalog, scan, space)
    if cells is None or not cells.fit(len(contents), mode):
        if cells:
            forget_cells(catalog, scan, space)
        number = cells_for(len(contents))
        # Contents are named by their pixels' hash: in their order, every so many are a fair sample.
        step = max(1, len(contents) // (number * SAMPLED))
        centres = train_cells(vectors[::step], number, device=device)
        note = SearchNote(mode, neighbours=scan.settings.match.neighbours)
        cells = Cells(mode, len(contents), centres, note)
        write_cells(catalog, scan, space, cells)
        log.info("%d contents in %d cells", len(contents), number)
    return cells, _homes(catalog, scan, space, contents, vectors, cells, device)


def _homes(
    catalog: Catalog,
    scan: Scan,
    space: Space,
    contents: pl.Series,
    vectors: npt.NDArray[np.float16],
    cells: Cells,
    device: str,
) -> npt.NDArray[np.uint16]:
    """The cells of each content; those of contents that have none yet are found and written."""
    probes = probes_for(cells.mode, len(cells.centres))
    found = np.zeros((len(contents), probes), np.uint16)
    placed = np.zeros(len(contents), bool)
    places = pl.DataFrame({"content": contents}).with_row_index("row")
    for batch in catalog.stream("homes", ["content", "cells"], _where(scan, space), _BLOCK):
        known = pl.DataFrame(pl.from_arrow(batch)).join(places, on="content")
        known = known.filter(pl.col("cells").list.len() == probes)
        rows = known["row"].to_numpy()
        found[rows] = known["cells"].explode().to_numpy().reshape(-1, probes)
        placed[rows] = True
    new = np.flatnonzero(~placed)
    for start in range(0, len(new), _BLOCK):
        rows = new[start : start + _BLOCK]
        found[rows] = nearest_cells(vectors[rows], cells.centres, probes, device=device)
        names = contents.gather(rows)
        table = pl.DataFrame(
            {
                "home_id": [digest(scan.scope, content, space.id) for content in names],
                "scope": scan.scope,
                "space": space.id,
                "content": names,
                "cells": found[rows].astype(np.int32),
            }
        )
        table = table.with_columns(pl.col("cells").arr.to_list())
        catalog.upsert("homes", table.to_arrow().cast(schema.HOMES))
    return found


def note_search(catalog: Catalog, scan: Scan, note: SearchNote) -> None:
    """Write down how a scan searched, and what was measured of it."""
    row = {
        "scan_id": scan.id,
        "mode": note.mode,
        "recall": note.recall,
        "best": note.best,
        "sample": note.sample,
        "ranked": note.ranked,
        "neighbours": note.neighbours,
    }
    catalog.upsert("searches", pa_table([row], schema.SEARCHES))


def read_search(catalog: Catalog, scan: Scan) -> dict[str, str | float | int]:
    """How a scan searched; empty for one of before this was written down."""
    columns = schema.SEARCHES.names
    found = catalog.read("searches", columns, f"scan_id = {quote(scan.id)}").drop("scan_id")
    if found.is_empty():
        return {}
    return {
        name: round(value, 6) if isinstance(value, float) else value  # float32 in the table
        for name, value in found.row(0, named=True).items()
    }


def _id(scan: Scan, space: Space) -> str:
    return digest(scan.scope, space.id)


def _where(scan: Scan, space: Space) -> str:
    return f"scope = {quote(scan.scope)} AND space = {quote(space.id)}"
