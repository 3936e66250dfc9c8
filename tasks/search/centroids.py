"""Inverted lists (IVF): a vector is in the list, or cell, whose centroid is nearest to it.

That is the vector's *own cell*. Which cells are compared with one another is in
:mod:`tasks.search.ivf_join`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from tasks.search.brute_force import ROUNDING

Half = npt.NDArray[np.float16]
Vectors = npt.NDArray[np.float32]

#: Rounds of k-means; further ones move the centres little.
_ROUNDS = 8
_BLOCK = 8192


def train_centroids(sample: Half, cells: int, *, device: str = "cpu") -> Vectors:
    """Centres of cells by k-means of unit vectors; the same sample always gives the same centres.

    A centre that no vector is nearest to is moved to a vector of one of the largest cells.

    Args:
        sample: vectors (n, dim), at least as many as cells.
        cells: how many centres.
        device: where the products are computed.

    Returns:
        float32 (cells, dim), of unit length.
    """
    generator = torch.Generator().manual_seed(0)
    start = torch.randperm(len(sample), generator=generator)[:cells]
    centres = torch.from_numpy(sample[start.numpy()]).to(device, torch.float32)
    for _ in range(_ROUNDS):
        sums = torch.zeros_like(centres)
        counts = torch.zeros(len(centres), device=device)
        own_cells = []
        for rows in float_parts(sample, device):
            own = (rows @ centres.T).argmax(1)
            sums.index_add_(0, own, rows)
            counts += torch.bincount(own, minlength=len(centres))
            own_cells.append(own)
        _refill(sums, counts, torch.cat(own_cells), sample)
        centres = torch.nn.functional.normalize(sums, dim=1)
    return np.asarray(centres.cpu().numpy())


def nearest_cells(
    vectors: Half, centres: Vectors, probes: int, *, device: str = "cpu"
) -> npt.NDArray[np.uint16]:
    """The numbers of the cells nearest to each vector (n, probes), its own first."""
    there = torch.from_numpy(centres).to(device).T.contiguous()
    probes = min(probes, len(centres))
    found = [
        (rows @ there).topk(probes, dim=1).indices.cpu() for rows in float_parts(vectors, device)
    ]
    cells = torch.cat(found) if found else torch.zeros((0, probes), dtype=torch.int64)
    return np.asarray(cells.numpy().astype(np.uint16))


def reorder(vectors: Half, order: npt.NDArray[np.int64]) -> None:
    """Put rows in another order in place, 64 columns at a time, without a copy of the whole."""
    for start in range(0, vectors.shape[1], 64):
        vectors[:, start : start + 64] = vectors[order, start : start + 64]


def nearest_cosines(
    vectors: Half,
    rows: npt.NDArray[np.int64],
    k: int,
    *,
    device: str = "cpu",
) -> Vectors:
    """The k highest cosines of some rows with all others, descending; exact."""
    asked = torch.from_numpy(vectors[rows]).to(device, torch.float32)
    best = torch.zeros((len(rows), 0), device=device)
    for number, part in enumerate(float_parts(vectors, device)):
        scores = asked @ part.T
        first = number * _BLOCK
        inside = np.flatnonzero((rows >= first) & (rows < first + len(part)))
        scores[inside, rows[inside] - first] = -2.0
        best = torch.cat([best, scores.topk(min(k, len(part)), dim=1).values], 1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    return np.asarray(best.cpu().numpy())


def share_found(best: Vectors, found: Sequence[Sequence[float] | None]) -> tuple[float, float]:
    """How good neighbour lists are, measured against exact ones.

    Lists are compared by their cosines and not by the names in them: of vectors with equal
    cosines, any will do.

    Args:
        best: the exact cosines of some queries (n, k), descending.
        found: the cosines in the list of each, in any order; None where there is no list.

    Returns:
        The share of the exact neighbours that the lists hold, and the share of the queries whose
        nearest neighbour is in their list.
    """
    held, first, wanted = 0, 0, 0
    for cosines, listed in zip(best, found, strict=True):
        real = cosines[cosines > -1.5]
        if not len(real):
            continue
        near = np.sort(np.asarray(listed or [], np.float32))[::-1]
        held += min(len(real), int((near >= real[-1] - 2 * ROUNDING).sum()))
        first += bool(len(near) and near[0] >= real[0] - 2 * ROUNDING)
        wanted += len(real)
    return (held / wanted, first / len(best)) if wanted else (1.0, 1.0)


def float_parts(vectors: Half, device: str) -> Iterator[torch.Tensor]:
    """The vectors as float32, some at a time."""
    for start in range(0, len(vectors), _BLOCK):
        part = torch.from_numpy(vectors[start : start + _BLOCK])
        yield part.to(device, torch.float32)


def _refill(
    sums: torch.Tensor, counts: torch.Tensor, own_cells: torch.Tensor, sample: Half
) -> None:
    """Move each centre that no vector is nearest to to a vector of one of the largest cells."""
    empty = (counts == 0).nonzero()[:, 0].tolist()
    if not empty:
        return
    crowded = counts.argsort(descending=True, stable=True)[: max(1, len(empty) // 4)].tolist()
    spare = torch.cat([(own_cells == cell).nonzero()[1:, 0] for cell in crowded])
    for cell, row in zip(empty, spare.tolist(), strict=False):
        sums[cell] = torch.from_numpy(sample[row]).to(sums.device, torch.float32)
