"""Search by inverted lists: each vector is compared with those of the cells nearest to it.

A vector's neighbour list is the k nearest of all vectors whose own cells are among the cells
nearest to it, with exact cosines. That depends on the centres and the vectors alone. So with the
centres kept, what comes later is entered as if everything had come at once.

A query is multiplied in full with the vectors of its own cell, which gives its list a lowest cosine
so far (its *end*). Of the other cells, only vectors whose bound (:mod:`tasks.search.pca_bounds`)
reaches that end are multiplied. What remains is the product of the bounds themselves.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tasks.search.brute_force import DIGITS, ROUNDING, NeighbourBlock
from tasks.search.pca_bounds import ROUGHNESS, Sketches, sketch

Half = npt.NDArray[np.float16]
Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
_Entries = tuple[Rows, Rows, Vectors]

#: Pairs multiplied at once on an accelerator.
_PAIRS = 1 << 18
#: How many of the nearest cells are compared first. They fill the lists with good neighbours, so
#: that fewer vectors of the other cells can still enter.
_NEAR = 8
#: How many new entries are collected before the lists are sorted again.
_WAITING = 200_000
#: How many entries of older rows are looked at together; bounds the memory.
_LOOKED = 1 << 23
_BLOCK = 8192
#: A number above any cosine, one below any cosine, and one below the key of any neighbour.
_HIGHEST, _LOWEST, _NOBODY = 1.01, -2.0, -(2**62)

# The first sparse matrix of a process makes torch warn that they are in beta: that happens here.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
    _none = torch.zeros(0, dtype=torch.int64)
    torch.sparse_csr_tensor(
        torch.tensor([0, 0]), _none, torch.zeros(0), (1, 1), check_invariants=False
    )


@dataclass(frozen=True, slots=True)
class CellOrder:
    """What each row is compared with. Rows are in the order of their cells: a cell is a slice.

    Attributes:
        probes: uint16 (n, p), the cells nearest to each row, its own first; the first column is
            sorted.
        query: bool (n,), the rows whose lists are made; the others have lists already.
        ends: float32 (n,), the lowest cosine in the list of each of the others.
        rank: int64 (n,), which of equal cosines goes first: the lowest; below 2**32.
    """

    probes: npt.NDArray[np.uint16]
    query: npt.NDArray[np.bool_]
    ends: Vectors
    rank: Rows


def nearest_in_cells(
    vectors: Half,
    order: CellOrder,
    k: int,
    *,
    block: int = 8192,
    device: str = "cpu",
    sketches: Sketches | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[NeighbourBlock]:
    """The k nearest of each query in the cells nearest to it, and the older lists it belongs in.

    Args:
        vectors: unit vectors (n, dim), in the order of ``order``.
        order: which rows are queries, and with which cells each row is compared.
        k: length of a list.
        block: queries at once.
        device: where the products are computed.
        sketches: the bounds of the vectors, where they are made already.
        progress: told how many queries are done.

    Yields:
        Blocks as :func:`tasks.search.brute_force.nearest` does. Here the queries are not the first
        rows: a block's ``queries`` counts them in their order.
    """
    join = _Join(vectors, order, sketches or sketch(vectors, device=device), k, device)
    queries = np.flatnonzero(order.query)
    for first in range(0, len(queries), block):
        rows = queries[first : first + block]
        join.multiplied = 0
        parts = [join.lists(rows), *join.reached(rows)]
        owner, neighbour, cosine = (np.concatenate(part) for part in zip(*parts, strict=True))
        done = (first, first + len(rows))
        yield NeighbourBlock(done, owner, neighbour, cosine, join.multiplied)
        if progress:
            progress(done[1])


class _Join:
    """One search: the rows, their cells, and which older rows are compared with which cell.

    A row *looks into* the cells that it is compared with.
    """

    def __init__(
        self, vectors: Half, order: CellOrder, sketches: Sketches, k: int, device: str
    ) -> None:
        self._vectors = torch.from_numpy(vectors)
        self._sketches = sketches
        self._order = order
        self._k = k
        self._device = device
        self._cells = int(order.probes.max(initial=0)) + 1
        self._starts = np.searchsorted(order.probes[:, 0], np.arange(self._cells + 1))
        #: The rows that are no queries, whose lists a query may have to be entered in.
        self._older = np.flatnonzero(~order.query & (order.ends < _HIGHEST))
        self._lookers = self._count_lookers()
        #: Pairs of vectors that were multiplied in full.
        self.multiplied = 0

    # ---- lists of queries --------------------------------------------------------------------

    def lists(self, rows: Rows) -> _Entries:
        """The k nearest of each of the rows."""
        best = _Best(len(rows), self._k)
        asked = self._floats(rows)
        for begin, end in _runs(self._order.probes[rows, 0]):
            self._compare_own_cell(rows, begin, end, asked, best)
        sketches = self._sketches.floats(rows, self._device)
        for others in (self._order.probes[rows, 1:_NEAR], self._order.probes[rows, _NEAR:]):
            by_cell = np.argsort(others, None, "stable")
            flat = others.reshape(-1)[by_cell]
            for begin, end in _runs(flat):
                at = by_cell[begin:end] // others.shape[1]
                self._look_into(int(flat[begin]), at, sketches, asked, best)
            best.settle()
        at, column = np.nonzero(best.keys > _NOBODY)
        return rows[at], best.names[at, column], best.cosines[at, column]

    def _compare_own_cell(
        self, rows: Rows, begin: int, end: int, asked: torch.Tensor, best: _Best
    ) -> None:
        """Compare rows of one cell with all vectors of that cell."""
        start, stop = self._slice(int(self._order.probes[rows[begin], 0]))
        there = self._floats(slice(start, stop))
        scores = asked[begin:end] @ there.T
        own = torch.from_numpy(rows[begin:end] - start).to(self._device)
        scores[torch.arange(end - begin, device=self._device), own] = _LOWEST
        self.multiplied += scores.numel()
        last = scores.topk(min(self._k, stop - start), dim=1).values[:, -1:]
        row, column = _reaching(scores, last.clamp_min(-1.5) - ROUNDING)
        cosines = _products(asked[begin:end], there, row, column)
        self._enter(row + begin, column + start, cosines, best)

    def _look_into(
        self, cell: int, at: Rows, sketches: torch.Tensor, asked: torch.Tensor, best: _Best
    ) -> None:
        """Compare some rows with the vectors of another cell whose bounds reach their lists."""
        start, stop = self._slice(cell)
        index = torch.from_numpy(at).to(self._device)
        bounds = sketches[index] @ self._sketches.floats(slice(start, stop), self._device).T
        ends = torch.from_numpy(best.ends[at, None] - ROUGHNESS).to(self._device)
        row, column = _reaching(bounds, ends)
        if len(row):
            self.multiplied += len(row)
            cosines = _products(asked[index], self._floats(slice(start, stop)), row, column)
            self._enter(at[row], column + start, cosines, best)

    def _enter(self, at: Rows, names: Rows, cosines: Vectors, best: _Best) -> None:
        """Enter pairs in the lists that they may belong in."""
        near = cosines >= best.ends[at] - ROUNDING
        at, names, cosines = at[near], names[near], cosines[near]
        # The key sorts by the rounded cosine, then by rank, so that equal vectors are sorted by
        # rank whatever the last digits of their cosines are.
        steps = np.round(cosines * 10**DIGITS).astype(np.int64)
        best.add(at, names, steps * 2**32 - self._order.rank[names], cosines)

    # ---- older lists -------------------------------------------------------------------------

    def reached(self, rows: Rows) -> Iterator[_Entries]:
        """The older lists that some rows belong in, of older rows that look into their cells."""
        own_cells = self._order.probes[rows, 0]  # sorted, since the rows are
        runs = list(_runs(own_cells))
        for part in self._portions(own_cells, runs):
            wanted = np.zeros(self._cells, bool)
            wanted[[own_cells[begin] for begin, _ in part]] = True
            cells, lookers = self._looking(wanted)
            for begin, end in part:
                low, high = np.searchsorted(cells, [own_cells[begin], own_cells[begin] + 1])
                for start in range(low, high, _BLOCK):
                    older = lookers[start : min(start + _BLOCK, high)]
                    yield self._entered(rows[begin:end], older)

    def _entered(self, mine: Rows, older: Rows) -> _Entries:
        sketches = self._sketches
        bounds = sketches.floats(older, self._device) @ sketches.floats(mine, self._device).T
        ends = self._order.ends[older, None]
        row, column = _reaching(bounds, torch.from_numpy(ends - ROUGHNESS).to(self._device))
        asked, row_of = np.unique(row, return_inverse=True)
        cosines = _products(self._floats(older[asked]), self._floats(mine), row_of, column)
        self.multiplied += len(row)
        near = cosines >= ends[row, 0] - ROUNDING
        return older[row[near]], mine[column[near]], cosines[near]

    def _portions(
        self, own_cells: npt.NDArray[np.uint16], runs: list[tuple[int, int]]
    ) -> Iterator[list[tuple[int, int]]]:
        """Portions of runs; the older rows that look into the own cells of one fit into memory."""
        part: list[tuple[int, int]] = []
        held = 0
        for run in runs:
            lookers = int(self._lookers[own_cells[run[0]]])
            if part and held + lookers > _LOOKED:
                yield part
                part, held = [], 0
            part.append(run)
            held += lookers
        if part:
            yield part

    def _count_lookers(self) -> Rows:
        """How many older rows look into each cell."""
        counts = np.zeros(self._cells, np.int64)
        for start in range(0, len(self._older), _BLOCK):
            looked = self._order.probes[self._older[start : start + _BLOCK]]
            counts += np.bincount(looked.reshape(-1), minlength=self._cells)
        return counts

    def _looking(self, wanted: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.uint16], Rows]:
        """The older rows that look into wanted cells: cell and row of each, sorted by cell."""
        cells, lookers = [np.zeros(0, np.uint16)], [np.zeros(0, np.int64)]
        for start in range(0, len(self._older), _BLOCK):
            older = self._older[start : start + _BLOCK]
            looked = self._order.probes[older]
            at, column = np.nonzero(wanted[looked])
            cells.append(looked[at, column])
            lookers.append(older[at])
        found = np.concatenate(cells)
        by_cell = np.argsort(found, kind="stable")  # linear time, a radix sort, for uint16
        return found[by_cell], np.concatenate(lookers)[by_cell]

    # ---- products ----------------------------------------------------------------------------

    def _slice(self, cell: int) -> tuple[int, int]:
        return int(self._starts[cell]), int(self._starts[cell + 1])

    def _floats(self, rows: Rows | slice) -> torch.Tensor:
        index = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        return self._vectors[index].to(self._device, torch.float32)


class _Best:
    """The best entries of some neighbour lists so far.

    Attributes:
        keys: int64 (n, k), what entries are sorted by, the best first: the higher rounded cosine
            and, of equal ones, the lower rank.
        names: int64 (n, k), the row number of each entry.
        cosines: float32 (n, k), the cosine of each entry.
        ends: float32 (n,), the lowest cosine that may still enter each list.
    """

    def __init__(self, rows: int, k: int) -> None:
        self.keys = np.full((rows, k), _NOBODY, np.int64)
        self.names = np.zeros((rows, k), np.int64)
        self.cosines = np.zeros((rows, k), np.float32)
        self.ends = np.full(rows, _LOWEST, np.float32)
        self._waiting: list[tuple[Rows, Rows, Rows, Vectors]] = []
        self._held = 0

    def add(self, at: Rows, names: Rows, keys: Rows, cosines: Vectors) -> None:
        """Add entries to lists; they are sorted in when enough have come (:meth:`settle`)."""
        self._waiting.append((at, names, keys, cosines))
        self._held += len(at)
        if self._held > _WAITING or (len(at) and self.ends[at].min() == _LOWEST):
            self.settle()

    def settle(self) -> None:
        """Sort the waiting entries into their lists and cut these to k."""
        if not self._waiting:
            return
        at, names, keys, cosines = (
            np.concatenate(part) for part in zip(*self._waiting, strict=True)
        )
        self._waiting, self._held = [], 0
        lists, of = np.unique(at, return_inverse=True)
        k = self.keys.shape[1]
        of = np.concatenate([np.repeat(np.arange(len(lists)), k), of])
        names = np.concatenate([self.names[lists].reshape(-1), names])
        keys = np.concatenate([self.keys[lists].reshape(-1), keys])
        cosines = np.concatenate([self.cosines[lists].reshape(-1), cosines])
        order = np.lexsort((-keys, of))
        of = of[order]
        place = np.arange(len(of)) - np.searchsorted(of, np.arange(len(lists)))[of]
        first = place < k
        order, to = order[first], (lists[of[first]], place[first])
        self.names[to], self.keys[to], self.cosines[to] = names[order], keys[order], cosines[order]
        last = self.keys[lists, -1]
        steps = (last // 2**32).astype(np.float32)  # one too low where the rank is not 0
        ends = np.where(last > _NOBODY, steps / 10**DIGITS - ROUNDING, _LOWEST)
        self.ends[lists] = ends


def _runs(values: npt.NDArray[np.generic]) -> Iterator[tuple[int, int]]:
    """Where equal values stand together: (begin, end) of each run."""
    if not len(values):
        return
    bounds = np.flatnonzero(values[1:] != values[:-1]) + 1
    yield from itertools.pairwise([0, *bounds.tolist(), len(values)])


def _products(one: torch.Tensor, two: torch.Tensor, row: Rows, column: Rows) -> Vectors:
    """The products of pairs of rows: ``one[row[i]] . two[column[i]]``; ``row`` is sorted.

    The product of a pair does not depend on the other pairs, nor on the order of the two.
    """
    if one.is_cuda:
        parts = [np.zeros(0, np.float32)]
        for start in range(0, len(row), _PAIRS):
            part = slice(start, start + _PAIRS)
            both = one[torch.from_numpy(row[part])] * two[torch.from_numpy(column[part])]
            parts.append(both.sum(1).cpu().numpy())
        return np.concatenate(parts)
    # A sampled product over a sparse matrix of the wanted pairs takes a tenth of the time of
    # gathering both rows of every pair.
    ends = np.searchsorted(row, np.arange(len(one) + 1))
    wanted = torch.sparse_csr_tensor(
        torch.from_numpy(ends),
        torch.from_numpy(column),
        torch.zeros(len(row)),
        (len(one), len(two)),
        check_invariants=False,
    )
    return np.asarray(torch.sparse.sampled_addmm(wanted, one, two.T, beta=0.0).values().numpy())


def _reaching(scores: torch.Tensor, ends: torch.Tensor) -> tuple[Rows, Rows]:
    """Rows and columns of the scores that reach their row's end (n, 1)."""
    if scores.is_cuda:
        row, column = (scores >= ends).nonzero(as_tuple=True)
        return row.cpu().numpy(), column.cpu().numpy()
    # NumPy's flatnonzero is four times as fast here as torch's nonzero.
    flat = np.flatnonzero(scores.numpy() >= ends.numpy())
    return flat // scores.shape[1], flat % scores.shape[1]
