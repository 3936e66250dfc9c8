"""The inverted lists (IVF) of a large scope: its centroids, and the assignment of each content.

A *cell* is one inverted list: the vectors that are nearest to one centre (centroid). A content's
*own cell* is the one it is in; it is compared with the contents of the cells nearest to it. Centres
and assignments are kept in the catalog. What comes later is assigned by the same centres, so that
an incremental scan ends with the neighbour lists of a full one. The cells are made anew when the
scope has doubled or halved since, or when another mode is asked for (ADR 10).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.queries.candidates import lists_where
from tasks.records import Scan, SearchNote, Space, digest
from tasks.session import pa_table

log = logging.getLogger(__name__)

EXACT, BALANCED, SPEED, AUTO = "exact", "balanced", "speed", "auto"
#: Up to how many contents the mode ``auto`` is exact, and balanced. Beyond 100,000, comparing all
#: pairs costs more than making the features of the pictures.
EXACT_UP_TO, BALANCED_UP_TO = 100_000, 1_000_000
#: With how many cells each content is compared: at least, at most, and between these the share of
#: all cells. The upper bound keeps the assignments of all contents small enough for memory.
PROBES = {BALANCED: (32, 160, 0.08), SPEED: (12, 96, 0.048)}
#: Contents of a cell, on average, and the most cells there are.
_PER_CELL, _MOST_CELLS = 500, 4096
#: Vectors that are looked at for each centre.
SAMPLED = 32
#: Centroids are made anew when the scope has grown or shrunk by this factor.
_OUTGROWN = 2.0
_BLOCK = 1 << 15
#: Attribute of :class:`SearchNote` to the column that holds it.
_MEASURED = {
    "mode": "mode",
    "recall": "recall",
    "best": "recall_at_1",
    "sample": "sample_size",
    "ranked": "compared_share",
    "neighbours": "list_length",
}


def choose_scan_mode(count: int, mode: str) -> str:
    """How the neighbour lists of ``count`` contents are made: exact, balanced or speed."""
    if mode != AUTO:
        return mode
    if count <= EXACT_UP_TO:
        return EXACT
    return BALANCED if count <= BALANCED_UP_TO else SPEED


def cell_count(count: int) -> int:
    """Into how many cells a scope of ``count`` contents is divided."""
    return min(max(count // _PER_CELL, 1), _MOST_CELLS)


def probes_for(mode: str, cells: int) -> int:
    """With how many of ``cells`` cells each content is compared."""
    least, most, share = PROBES[mode]
    return min(max(least, min(int(cells * share), most)), cells)


@dataclass(frozen=True, slots=True)
class Centroids:
    """The cells of a scope.

    Attributes:
        count: how many contents were in scope when the cells were made.
        centres: float32 (cells, dim), of unit length.
        note: what was last measured of the neighbour lists made with them.
    """

    mode: str
    count: int
    centres: npt.NDArray[np.float32]
    note: SearchNote

    def fit(self, count: int, mode: str) -> bool:
        """Whether these cells can still be used for ``count`` contents in this mode."""
        grown = count / max(self.count, 1)
        return self.mode == mode and 1 / _OUTGROWN <= grown <= _OUTGROWN


def read_centroids(catalog: Catalog, scan: Scan, space: Space) -> Centroids | None:
    """The cells that the scope's lists were made with; None when they are exact, or none are."""
    found = catalog.read(
        "centroids", schema.CENTROIDS.names, f"centroids_id = {quote(_id(scan, space))}"
    )
    if found.is_empty():
        return None
    row = found.row(0, named=True)
    centres = np.frombuffer(row["centroids"], np.float32).reshape(-1, space.dim).copy()
    note = SearchNote(**{name: row[column] for name, column in _MEASURED.items()})
    return Centroids(row["mode"], row["trained_on"], centres, note)


def forget_centroids(catalog: Catalog, scan: Scan, space: Space) -> None:
    """Remove the scope's cells; its lists must be gone by then."""
    # In this order: contents must never be placed in cells of before.
    catalog.delete_where("assignments", lists_where(scan, space))
    catalog.delete_keys("centroids", [_id(scan, space)])


def write_centroids(catalog: Catalog, scan: Scan, space: Space, cells: Centroids) -> None:
    """Write the scope's cells, or what was measured with them."""
    row = {
        "centroids_id": _id(scan, space),
        "scope": scan.scope,
        "space": space.id,
        "trained_on": cells.count,
        "centroids": cells.centres.tobytes(),
        **_measured(cells.note),
        "mode": cells.mode,
    }
    catalog.upsert("centroids", pa_table([row], schema.CENTROIDS))


def partition_scope(
    catalog: Catalog,
    scan: Scan,
    space: Space,
    contents: pl.Series,
    vectors: npt.NDArray[np.float16],
    mode: str,
    device: str,
) -> tuple[Centroids, npt.NDArray[np.uint16]]:
    """The scope's cells, and the numbers of those that each content is compared with.

    Args:
        catalog: the catalog.
        scan: the scan.
        space: where the vectors are.
        contents: all contents in scope, sorted.
        vectors: theirs (n, dim).
        mode: balanced or speed.
        device: where the products are computed.

    Returns:
        The cells, and the assignments (n, probes): the nearest cell first, which is its own.
    """
    cells = read_centroids(catalog, scan, space)
    if cells is None or not cells.fit(len(contents), mode):
        if cells:
            forget_centroids(catalog, scan, space)
        number = cell_count(len(contents))
        # Contents are named by a hash of their pixels and sorted by name, so that every nth is a
        # random sample.
        from tasks.search.centroids import train_centroids  # imports torch: 1.8 CPU s

        step = max(1, len(contents) // (number * SAMPLED))
        centres = train_centroids(vectors[::step], number, device=device)
        note = SearchNote(mode, neighbours=scan.settings.match.neighbours)
        cells = Centroids(mode, len(contents), centres, note)
        write_centroids(catalog, scan, space, cells)
        log.info("%d contents in %d cells", len(contents), number)
    return cells, _assign(catalog, scan, space, contents, vectors, cells, device)


def _assign(
    catalog: Catalog,
    scan: Scan,
    space: Space,
    contents: pl.Series,
    vectors: npt.NDArray[np.float16],
    cells: Centroids,
    device: str,
) -> npt.NDArray[np.uint16]:
    """The assignments of all contents; those that are missing are computed and written."""
    from tasks.search.centroids import nearest_cells

    probes = probes_for(cells.mode, len(cells.centres))
    found = np.zeros((len(contents), probes), np.uint16)
    placed = np.zeros(len(contents), bool)
    places = pl.DataFrame({"content": contents}).with_row_index("row")
    for batch in catalog.stream(
        "assignments", ["content", "lists"], lists_where(scan, space), _BLOCK
    ):
        known = pl.DataFrame(pl.from_arrow(batch)).join(places, on="content")
        known = known.filter(pl.col("lists").list.len() == probes)
        rows = known["row"].to_numpy()
        found[rows] = known["lists"].explode().to_numpy().reshape(-1, probes)
        placed[rows] = True
    new = np.flatnonzero(~placed)
    for start in range(0, len(new), _BLOCK):
        rows = new[start : start + _BLOCK]
        found[rows] = nearest_cells(vectors[rows], cells.centres, probes, device=device)
        names = contents.gather(rows)
        table = pl.DataFrame(
            {
                "assignment_id": [digest(scan.scope, content, space.id) for content in names],
                "scope": scan.scope,
                "space": space.id,
                "content": names,
                "lists": found[rows].astype(np.int32),
            }
        )
        table = table.with_columns(pl.col("lists").arr.to_list())
        catalog.upsert("assignments", table.to_arrow().cast(schema.ASSIGNMENTS))
    return found


def note_search(catalog: Catalog, scan: Scan, note: SearchNote) -> None:
    """Write down how a scan searched, and what was measured of it."""
    row = {"scan_id": scan.id, **_measured(note)}
    catalog.upsert("searches", pa_table([row], schema.SEARCHES))


def read_search(catalog: Catalog, scan: Scan) -> dict[str, str | float | int]:
    """How a scan searched; empty for one of before this was written down."""
    columns = list(_MEASURED.values())
    found = catalog.read("searches", columns, f"scan_id = {quote(scan.id)}")
    if found.is_empty():
        return {}
    row = found.row(0, named=True)
    return {
        name: round(row[column], 6) if isinstance(row[column], float) else row[column]  # float32
        for name, column in _MEASURED.items()
    }


def _measured(note: SearchNote) -> dict[str, str | float | int]:
    return {column: getattr(note, name) for name, column in _MEASURED.items()}


def _id(scan: Scan, space: Space) -> str:
    return digest(scan.scope, space.id)
