"""Upper bounds of cosines from a few numbers of each vector, its *sketch*.

A vector is turned to the principal axes of the collection, so that its first dimensions (the head)
hold most of its length; of the rest only the length is kept. By the Cauchy-Schwarz inequality the
product of two rests is at most the product of their lengths, so

    head(x) . head(y) + |rest(x)| |rest(y)|  >=  x . y

A vector whose bound lies below the lowest cosine of a neighbour list cannot enter it, and need not
be multiplied in full. The lists are exactly what they would be without bounds. The method is that
of Li et al., "FEXIPRO: fast and exact inner product retrieval in recommender systems", SIGMOD 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tasks.search.centroids import float_parts

Half = npt.NDArray[np.float16]

#: The largest share of the squared length that may be left to the rest, where half of the
#: dimensions are enough for that. With a share of 0.1, 1 in 1,000 of the vectors passes the bound;
#: with 0.25, 2 in 100.
_REST = 0.12
_STEP = 32
_SAMPLE = 20_000
#: The most by which a bound may be too low because sketches are float16: twice half a unit in the
#: last place.
ROUGHNESS = 1.5e-3


@dataclass(frozen=True, slots=True)
class Sketches:
    """Sketches of vectors.

    Attributes:
        rows: float16 (n, heads + 1), the length of the rest last.
    """

    rows: Half

    def floats(self, rows: npt.NDArray[np.int64] | slice, device: str) -> torch.Tensor:
        """Some sketches as float32; the product of two is the bound of their vectors' cosine."""
        index = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        return torch.from_numpy(self.rows)[index].to(device, torch.float32)


def sketch(vectors: Half, *, device: str = "cpu") -> Sketches:
    """Sketches of unit vectors (n, dim), each about half as long or less."""
    axes = torch.from_numpy(_axes(vectors, device)).to(device)
    rows = np.empty((len(vectors), axes.shape[1] + 1), np.float16)
    start = 0
    for part in float_parts(vectors, device):
        heads = part @ axes
        rest = (part.square().sum(1) - heads.square().sum(1)).clamp_min(0).sqrt()
        both = torch.cat([heads, rest[:, None]], 1)
        rows[start : start + len(part)] = both.to(torch.float16).cpu().numpy()
        start += len(part)
    return Sketches(rows)


def _axes(vectors: Half, device: str) -> npt.NDArray[np.float32]:
    """Orthonormal columns (dim, heads): the first principal axes about the origin."""
    step = max(1, len(vectors) // _SAMPLE)
    sample = torch.from_numpy(vectors[::step]).to(device, torch.float32)
    power, axes = torch.linalg.eigh((sample.T @ sample).double())
    power, axes = power.flip(0).clamp_min(0), axes.flip(1)
    rest = 1 - power.cumsum(0) / power.sum().clamp_min(1e-30)
    heads = int((rest > _REST).sum()) + 1
    heads = min(-(-heads // _STEP) * _STEP, max(1, vectors.shape[1] // 2))
    return np.asarray(axes[:, :heads].float().contiguous().cpu().numpy())
