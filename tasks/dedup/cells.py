"""Candidate pairs of large collections: each vector is compared with the cells nearest to it.

Vectors belong to the cell whose centre is nearest (their home). A vector's list is the k nearest of
all vectors whose homes are among the cells nearest to it, with exact cosines. That depends on the
centres and on the vectors alone: with the centres kept, what comes later is entered exactly as if
all had come at once. Floor: the products of all vectors with the centres, and with the vectors of
the cells they look into, at the matrix-product peak.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tasks.dedup.pairs import DIGITS, NeighbourBlock

Half = npt.NDArray[np.float16]
Vectors = npt.NDArray[np.float32]

#: Rounds of k-means; later ones move the centres little.
_ROUNDS = 8
_BLOCK = 8192
#: Two products of the same vectors may differ by so much when blocks differ.
_ROUNDING = 1e-4
#: Above any cosine, rounding included.
_HIGHEST = 1.01
#: Below the key of any neighbour.
_NOBODY = -(2**62)


def train_cells(sample: Half, cells: int, *, device: str = "cpu") -> Vectors:
    """Centres of so many cells (cells, dim), by k-means of unit vectors; always the same.

    A centre nobody is nearest to is moved to a vector of the largest cell.
    """
    generator = torch.Generator().manual_seed(0)
    start = torch.randperm(len(sample), generator=generator)[:cells]
    centres = torch.from_numpy(sample[start.numpy()]).to(device, torch.float32)
    for _ in range(_ROUNDS):
        sums = torch.zeros_like(centres)
        counts = torch.zeros(len(centres), device=device)
        homes = []
        for rows in _parts(sample, device):
            home = (rows @ centres.T).argmax(1)
            sums.index_add_(0, home, rows)
            counts += torch.bincount(home, minlength=len(centres))
            homes.append(home)
        _refill(sums, counts, torch.cat(homes), sample)
        centres = torch.nn.functional.normalize(sums, dim=1)
    return np.asarray(centres.cpu().numpy())


def nearest_cells(
    vectors: Half, centres: Vectors, probes: int, *, device: str = "cpu"
) -> npt.NDArray[np.int32]:
    """The cells (n, probes) nearest to each vector, its home first."""
    there = torch.from_numpy(centres).to(device).T.contiguous()
    probes = min(probes, len(centres))
    found = [(rows @ there).topk(probes, dim=1).indices.cpu() for rows in _parts(vectors, device)]
    cells = torch.cat(found) if found else torch.zeros((0, probes), dtype=torch.int64)
    return np.asarray(cells.to(torch.int32).numpy())


@dataclass(frozen=True, slots=True)
class CellOrder:
    """Rows ordered by their homes, so that a cell is a slice.

    Attributes:
        probes: int32 (n, p), the cells nearest to each row, its home first; the first column never
            falls.
        query: bool (n,), the rows whose lists are made; the others have lists already.
        ends: float32 (n,), the last cosine of the lists of the others.
        rank: int64 (n,), which of equal cosines goes first: the lowest; below 2**32.
        sides: uint8 (n,), the sides (1, 2, 3) of a scan across; only rows that lie across are
            neighbours.
    """

    probes: npt.NDArray[np.int32]
    query: npt.NDArray[np.bool_]
    ends: Vectors
    rank: npt.NDArray[np.int64]
    sides: npt.NDArray[np.uint8] | None = None


def nearest_in_cells(
    vectors: Half,
    order: CellOrder,
    k: int,
    *,
    block: int = 8192,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Iterator[NeighbourBlock]:
    """The k nearest of each query among the cells it looks into, and the older lists it belongs in.

    As :func:`tasks.dedup.pairs.nearest`, but queries are where ``order`` has them, not before all
    other rows; ``queries`` of a block counts them.
    """
    join = _Join(vectors, order, device)
    queries = np.flatnonzero(order.query)
    for first in range(0, len(queries), block):
        rows = queries[first : first + block]
        parts = [join.lists(rows, k), *join.reached(rows)]
        owner, neighbour, cosine = (np.concatenate(part) for part in zip(*parts, strict=True))
        yield NeighbourBlock((first, first + len(rows)), owner, neighbour, cosine)
        if progress:
            progress(first + len(rows))


_Entries = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Vectors]


class _Join:
    """Rows in cells, and who looks into which."""

    def __init__(self, vectors: Half, order: CellOrder, device: str) -> None:
        self._vectors = torch.from_numpy(vectors)
        self._order = order
        self._device = device
        cells = int(order.probes.max(initial=0)) + 1
        self._starts = np.searchsorted(order.probes[:, 0], np.arange(cells + 1))
        # Older rows by the cells they look into, where a query is at home: it may enter their
        # lists. (A list that ends above any cosine is entered by nothing.)
        older = np.flatnonzero(~order.query & (order.ends < _HIGHEST))
        asked = np.zeros(cells, bool)
        asked[order.probes[order.query, 0]] = True
        at, column = np.nonzero(asked[order.probes[older]])
        looked = order.probes[older[at], column].astype(np.uint16)  # sorted in linear time
        by_cell = np.argsort(looked, kind="stable")
        self._looked, self._lookers = looked[by_cell], older[at][by_cell]
        self._rank = torch.from_numpy(order.rank).to(device)

    def lists(self, rows: npt.NDArray[np.int64], k: int) -> _Entries:
        """The k nearest of each of the rows."""
        wanted = self._order.probes[rows]
        asked = self._floats(rows)
        best = torch.full((len(rows), k), _NOBODY, dtype=torch.int64, device=self._device)
        names = torch.zeros_like(best)
        by_cell = np.argsort(wanted, None, "stable")
        sorted_cells = wanted.reshape(-1)[by_cell]
        bounds = np.flatnonzero(np.diff(sorted_cells, prepend=-1, append=-1))
        for begin, end in itertools.pairwise(bounds.tolist()):
            cell = int(sorted_cells[begin])
            start, stop = int(self._starts[cell]), int(self._starts[cell + 1])
            if start == stop:
                continue
            at = torch.from_numpy(by_cell[begin:end] // wanted.shape[1]).to(self._device)
            there = self._floats(slice(start, stop))
            keys = self._keys(asked[at] @ there.T, rows[at.cpu().numpy()], np.arange(start, stop))
            values, columns = keys.topk(min(k, stop - start), dim=1)
            both = torch.cat([best[at], values], 1)
            known = torch.cat([names[at], columns + start], 1)
            best[at], chosen = both.topk(k, dim=1)
            names[at] = known.gather(1, chosen)
        real = best > _NOBODY
        owner = torch.from_numpy(rows).to(self._device)[:, None].expand_as(names)[real]
        # Of what stays, the cosine itself: the key holds only its first digits.
        cosine = self._cosines(owner.cpu().numpy(), names[real].cpu().numpy())
        return owner.cpu().numpy(), names[real].cpu().numpy(), cosine

    def reached(self, rows: npt.NDArray[np.int64]) -> Iterator[_Entries]:
        """Of older rows that look into the rows' homes, those whose lists the rows belong in."""
        homes = self._order.probes[rows, 0]  # which never falls
        for cell in np.unique(homes).tolist():
            mine = rows[np.searchsorted(homes, cell) : np.searchsorted(homes, cell, "right")]
            number = np.uint16(cell)  # of another type, all would be copied for each cell
            begin = int(np.searchsorted(self._looked, number))
            end = int(np.searchsorted(self._looked, number, "right"))
            for start in range(begin, end, _BLOCK):
                older = self._lookers[start : min(start + _BLOCK, end)]
                scores = self._floats(mine) @ self._floats(older).T
                self._bar(scores, mine, older)
                limit = torch.from_numpy(self._order.ends[older] - _ROUNDING).to(self._device)
                row, column = (scores >= limit[None, :]).nonzero(as_tuple=True)
                found = scores[row, column].cpu().numpy()
                yield older[column.cpu().numpy()], mine[row.cpu().numpy()], found

    def _floats(self, rows: npt.NDArray[np.int64] | slice) -> torch.Tensor:
        index = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        return self._vectors[index].to(self._device, torch.float32)

    def _keys(
        self, scores: torch.Tensor, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
    ) -> torch.Tensor:
        """Numbers in the order of neighbours: the higher cosine, and of equal ones the lower rank.

        A cosine is rounded, or products of other block sizes would put equal ones in another order.
        """
        steps = (scores * 10**DIGITS).round().to(torch.int64)
        keys: torch.Tensor = steps * 2**32 - self._rank[columns[0] : columns[-1] + 1]
        self._bar(keys, rows, columns)
        return keys

    def _bar(
        self,
        scores: torch.Tensor,
        rows: npt.NDArray[np.int64],
        columns: npt.NDArray[np.int64],
    ) -> None:
        """Set rows with themselves, and those that do not lie across, below all others."""
        barred = rows[:, None] == columns[None, :]
        if self._order.sides is not None:
            barred |= ~_across(self._order.sides[rows], self._order.sides[columns])
        lowest = -2.0 if scores.is_floating_point() else _NOBODY
        scores.masked_fill_(torch.from_numpy(barred).to(self._device), lowest)

    def _cosines(self, one: npt.NDArray[np.int64], two: npt.NDArray[np.int64]) -> Vectors:
        found = np.empty(len(one), np.float32)
        for start in range(0, len(one), _BLOCK):
            part = slice(start, start + _BLOCK)
            products = self._floats(one[part]) * self._floats(two[part])
            found[part] = products.sum(1).cpu().numpy()
        return found


def reorder(vectors: Half, order: npt.NDArray[np.int64]) -> None:
    """Put rows in another order within the memory they have: some columns at a time."""
    for start in range(0, vectors.shape[1], 64):
        vectors[:, start : start + 64] = vectors[order, start : start + 64]


def nearest_cosines(
    vectors: Half,
    rows: npt.NDArray[np.int64],
    k: int,
    *,
    sides: npt.NDArray[np.uint8] | None = None,
    device: str = "cpu",
) -> Vectors:
    """The k highest cosines of some rows with all others, or all across, descending; exact."""
    asked = torch.from_numpy(vectors[rows]).to(device, torch.float32)
    best = torch.zeros((len(rows), 0), device=device)
    for number, part in enumerate(_parts(vectors, device)):
        scores = asked @ part.T
        first = number * _BLOCK
        inside = np.flatnonzero((rows >= first) & (rows < first + len(part)))
        scores[inside, rows[inside] - first] = -2.0
        if sides is not None:
            barred = ~_across(sides[rows], sides[first : first + len(part)])
            scores.masked_fill_(torch.from_numpy(barred).to(device), -2.0)
        best = torch.cat([best, scores.topk(min(k, len(part)), dim=1).values], 1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    return np.asarray(best.cpu().numpy())


def share_found(best: Vectors, found: Sequence[Sequence[float] | None]) -> tuple[float, float]:
    """Which share of the highest cosines lists hold, and of how many lists the first is right.

    By cosines, not by names: of equal ones any will do.
    """
    held, first, wanted = 0, 0, 0
    for cosines, listed in zip(best, found, strict=True):
        real = cosines[cosines > -1.5]
        if not len(real):
            continue
        near = np.sort(np.asarray(listed or [], np.float32))[::-1]
        held += min(len(real), int((near >= real[-1] - 2 * _ROUNDING).sum()))
        first += bool(len(near) and near[0] >= real[0] - 2 * _ROUNDING)
        wanted += len(real)
    return (held / wanted, first / len(best)) if wanted else (1.0, 1.0)


def _across(own: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which of some rows lie across from which of others."""
    facing = other // 2 + other % 2 * 2
    return np.asarray((own[:, None] & facing[None, :]) != 0)


def _parts(vectors: Half, device: str) -> Iterator[torch.Tensor]:
    for start in range(0, len(vectors), _BLOCK):
        part = torch.from_numpy(vectors[start : start + _BLOCK])
        yield part.to(device, torch.float32)


def _refill(sums: torch.Tensor, counts: torch.Tensor, homes: torch.Tensor, sample: Half) -> None:
    """Move centres nobody is nearest to, each to another member of the largest cells."""
    empty = (counts == 0).nonzero()[:, 0].tolist()
    if not empty:
        return
    crowded = counts.argsort(descending=True, stable=True)[: max(1, len(empty) // 4)].tolist()
    spare = torch.cat([(homes == cell).nonzero()[1:, 0] for cell in crowded])
    for cell, row in zip(empty, spare.tolist(), strict=False):
        sums[cell] = torch.from_numpy(sample[row]).to(sums.device, torch.float32)
