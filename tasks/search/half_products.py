"""Exact search on a GPU: products of halves find the candidates, exact products rank them.

A GPU multiplies halves ten times as fast as float32, and keeps each product as a half: off by no
more than half a unit in its last place. So the best of these products hold the nearest vectors,
unless too many others are nearly as near. The candidates' cosines are then summed in double
precision, and a row whose candidates cannot be told from what was left out is compared in full in
float32. The lists are those of :func:`tasks.search.brute_force.nearest`.

The products of a block of queries stay in the GPU's memory. They are read once, for the highest of
each group of 128: the best k products lie in the k groups whose highest are the best.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from tasks.search.apart import Apart
from tasks.search.brute_force import DIGITS, ROUNDING, NeighbourBlock

#: How many more than k are ranked by their exact cosines.
_SPARE = 18
#: Products whose highest is looked at first.
_GROUP = 128
#: The most queries of a block, and the most vectors of one product: an index of the products of
#: both stays below 2**31.
_ROWS, _COLUMNS = 8192, 1 << 17
#: Half a unit in the last place of a half, as a share of the number; and what sums of products may
#: be off besides.
_HALF_UNIT, _SUMMED = 2.0**-11, 2e-5
#: Share of the GPU's free memory that products may take; bytes where there is no GPU.
_SHARE, _BYTES = 0.25, 64 << 20
#: Numbers of vectors that are multiplied exactly at once, and rows compared in full at once.
_EXACT, _IN_FULL = 1 << 27, 64
#: Below every cosine: what is no neighbour. Above it, what is one.
_NEVER, _REAL = -2.0, -1.5


def nearest_by_halves(
    vectors: npt.NDArray[np.float16],
    queries: int,
    k: int,
    kth: npt.NDArray[np.float32],
    rank: npt.NDArray[np.int64],
    *,
    block: int = 2048,
    device: str = "cuda",
    sides: npt.NDArray[np.uint8] | None = None,
    progress: Callable[[int], None] | None = None,
    memory: int | None = None,
) -> Iterator[NeighbourBlock]:
    """The k nearest of each query, and which older lists the queries belong in.

    Args:
        vectors: unit vectors (n, d), the queries first.
        queries: how many of the rows are queries; n for a full scan.
        k: length of a list.
        kth: float32 (n - queries,), for each other row the last cosine of its list.
        rank: int64 (n,), which of equal cosines goes first: the lowest; below 2**32.
        block: the fewest queries of a block; more where the memory suffices.
        device: where the products are computed.
        sides: as in :func:`tasks.search.brute_force.nearest`.
        progress: told how many queries are done.
        memory: bytes that products may take; default: a quarter of what the GPU has free.

    Yields:
        As :func:`tasks.search.brute_force.nearest`, but no more than k for each query.
    """
    search = _Search(vectors, queries, k, kth, rank, device, sides)
    memory = memory or _free(device)
    width = -(-max(len(vectors), 1) // _GROUP) * _GROUP
    rows = min(_ROWS, max(block, memory // (2 * width)), max(queries, 1))
    columns = min(width, max(_GROUP, memory // (2 * rows) // _GROUP * _GROUP))
    held = torch.empty((rows, columns), dtype=torch.float16, device=device)
    for first in range(0, queries, rows):
        end = min(first + rows, queries)
        with _whole_sums():
            found = search.block(first, end, held)
        yield found
        if progress:
            progress(end)


def _free(device: str) -> int:
    if torch.device(device).type != "cuda":
        return _BYTES
    return int(torch.cuda.mem_get_info(device)[0] * _SHARE)


@contextlib.contextmanager
def _whole_sums() -> Iterator[None]:
    """Sums of products of halves in float32; torch may else add parts of them as halves."""
    flags = torch.backends.cuda.matmul
    before = flags.allow_fp16_reduced_precision_reduction
    flags.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        flags.allow_fp16_reduced_precision_reduction = before


def _slack(cosines: torch.Tensor) -> torch.Tensor:
    """The most by which a half, the product of two vectors, differs from their cosine."""
    return cosines.abs() * _HALF_UNIT + _SUMMED


class _Search:
    """One search: the vectors, on the GPU where they fit, and what the lists are made by."""

    def __init__(
        self,
        vectors: npt.NDArray[np.float16],
        queries: int,
        k: int,
        kth: npt.NDArray[np.float32],
        rank: npt.NDArray[np.int64],
        device: str,
        sides: npt.NDArray[np.uint8] | None,
    ) -> None:
        self._device = device
        self._all = torch.from_numpy(vectors)
        if self._all.nbytes <= 2 * _free(device):
            self._all = self._all.to(device)
        self._queries, self._k = queries, k
        self._ends = torch.from_numpy(kth).to(device)
        self._ranks = torch.from_numpy(rank).to(device)
        self._apart = Apart(sides, device)

    def block(self, first: int, end: int, held: torch.Tensor) -> NeighbourBlock:
        """The lists of some queries; ``held`` takes their products with some of the vectors."""
        mine = self._part(first, end)
        wanted = self._k + _SPARE
        best = torch.zeros((end - first, 0), dtype=torch.float16, device=self._device)
        names = torch.zeros((end - first, 0), dtype=torch.int64, device=self._device)
        reached: list[tuple[torch.Tensor, ...]] = []
        for start in range(0, len(self._all), held.shape[1]):
            stop = min(start + held.shape[1], len(self._all))
            if self._apart.wholly(first, end, start, stop):
                continue
            scores = self._scores(mine, first, start, stop, held)
            if stop > self._queries:
                reached.append(self._reaching(scores, mine, first, start, stop))
            values, columns = _highest(scores, wanted)
            best, names = torch.cat([best, values], 1), torch.cat([names, columns + start], 1)
            best, at = best.topk(min(wanted, best.shape[1]), dim=1)
            names = names.gather(1, at)
        names.clamp_(max=len(self._all) - 1)  # the filling of the last group is no vector
        cosines, names = self._ranked(mine, first, best, names)
        owner = torch.arange(first, end, device=self._device)[:, None].expand_as(names)
        real = cosines > _REAL
        parts = [(owner[real], names[real], cosines[real]), *reached]
        whose, whom, cosine = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
        return NeighbourBlock((first, end), whose, whom, cosine)

    def _part(self, start: int, stop: int) -> torch.Tensor:
        return self._all[start:stop].to(self._device)

    def _rows(self, at: torch.Tensor) -> torch.Tensor:
        return self._all[at.to(self._all.device)].to(self._device)

    def _scores(
        self, mine: torch.Tensor, first: int, start: int, stop: int, held: torch.Tensor
    ) -> torch.Tensor:
        """Products as halves (queries, whole groups); what may be no neighbour is below all."""
        end, width = first + len(mine), stop - start
        scores = held[: len(mine), : -(-width // _GROUP) * _GROUP]
        for begin in range(start, stop, _COLUMNS):
            part = self._part(begin, min(begin + _COLUMNS, stop))
            place = scores[:, begin - start : begin - start + len(part)]
            torch.mm(mine, part.T, out=place)
        scores[:, width:] = _NEVER
        own = torch.arange(
            max(first, start), max(first, start, min(end, stop)), device=self._device
        )
        scores[own - first, own - start] = _NEVER
        self._apart.bar(scores[:, :width], first, start)
        return scores

    def _reaching(
        self, scores: torch.Tensor, mine: torch.Tensor, first: int, start: int, stop: int
    ) -> tuple[torch.Tensor, ...]:
        """(owner, neighbour, cosine) of the other rows whose older lists a query belongs in."""
        begin = max(start, self._queries)
        part = scores[:, begin - start : stop - start]
        limit = self._ends[begin - self._queries : stop - self._queries] - ROUNDING
        row, column = (part >= (limit - _slack(limit))[None, :]).nonzero(as_tuple=True)
        exact = [torch.zeros(0, device=self._device)]
        step = max(1, _EXACT // max(1, mine.shape[1]))
        for at in range(0, len(row), step):
            there = self._rows(column[at : at + step] + begin)
            exact.append(_products(mine[row[at : at + step]], there[:, None])[:, 0].float())
        cosines = torch.cat(exact)
        near = (cosines >= limit[column]) & (part[row, column] > _REAL)
        return column[near] + begin, row[near] + first, cosines[near]

    def _ranked(
        self, mine: torch.Tensor, first: int, best: torch.Tensor, names: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The k nearest of each query, cosine and row, the lowest rank first among equals."""
        cosines, found = self._by_rank(mine, best > _REAL, names)
        if best.shape[1] < self._k + _SPARE or cosines.shape[1] < self._k:
            return cosines, found  # all there are were candidates
        last = best[:, -1].float()
        near = last + _slack(last) + 10.0**-DIGITS >= cosines[:, self._k - 1]
        unsure = ((last > _REAL) & near).nonzero()[:, 0]
        for some in torch.split(unsure, _IN_FULL) if len(unsure) else ():
            cosines[some], found[some] = self._in_full(mine[some], some + first)
        return cosines, found

    def _by_rank(
        self, mine: torch.Tensor, real: torch.Tensor, names: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cosines, found = [], []
        step = max(1, _EXACT // max(1, names.shape[1] * mine.shape[1]))
        for at in range(0, len(mine), step):
            part = slice(at, at + step)
            exact = _products(mine[part], self._rows(names[part]))
            exact[~real[part]] = _NEVER
            order = self._keys(exact, names[part]).topk(min(self._k, names.shape[1]), 1).indices
            cosines.append(exact.gather(1, order).float())
            found.append(names[part].gather(1, order))
        return torch.cat(cosines), torch.cat(found)

    def _keys(self, cosines: torch.Tensor, names: torch.Tensor) -> torch.Tensor:
        """One number that sorts by rounded cosine, then by rank; exact in a double."""
        steps = (cosines.double() * 10**DIGITS).round()
        return torch.sub(steps * 2**32, self._ranks[names])

    def _in_full(self, mine: torch.Tensor, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The k nearest of some rows among all vectors, whose products are float32."""
        query = mine.float().T
        parts = range(0, len(self._all), _COLUMNS)
        scores = torch.cat([self._part(at, at + _COLUMNS).float() @ query for at in parts]).T
        scores[torch.arange(len(own), device=self._device), own] = _NEVER
        for row, number in zip(scores, own.tolist(), strict=True):
            self._apart.bar(row[None, :], number, 0)
        everyone = torch.arange(len(self._all), device=self._device)
        most = min(self._k + _SPARE, len(everyone))
        at = self._keys(scores, everyone).topk(most, 1).indices
        return self._by_rank(mine, scores.gather(1, at) > _REAL, at)


def _highest(scores: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest of each row, (rows, count), and their columns; scores are whole groups."""
    groups = scores.view(len(scores), -1, _GROUP)
    if groups.shape[1] <= count:
        values, columns = scores.topk(min(count, scores.shape[1]), dim=1)
        return values, columns
    held = groups.amax(2).topk(count, dim=1, sorted=False).indices
    inside = groups.gather(1, held[:, :, None].expand(-1, -1, _GROUP)).flatten(1)
    values, at = inside.topk(count, dim=1)
    return values, held.gather(1, at // _GROUP) * _GROUP + at % _GROUP


def _products(one: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Cosines (n, m) of halves (n, d) and (n, m, d), as double: each product is exact in float32.

    So the sum depends neither on the block that a pair is in, nor on the order of the two.
    """
    return (others.float() * one.float()[:, None]).sum(2, dtype=torch.float64)
