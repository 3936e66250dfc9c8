"""How many copies are still among the nearest when a collection is large, by the vectors' form.

Copies are planted on some photographs; all others, which share no pixel with those, give crops that
crowd the lists: of 2,500 photographs 40 crops each make 100,000 strangers. They come in clusters,
as the pictures of one brand do, which is harder than as many unrelated photographs. The vectors are
compared as they are, and after a principal component analysis with whitening that is learned from
the collection's own vectors, without labels (Jegou and Chum, "Negative evidences and co-occurences
in image retrieval: the benefit of PCA and whitening", ECCV 2012).
"""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from deployments.bench.ladder import LADDER
from tasks.embedding.images import read_picture
from tasks.errors import SettingsError
from tasks.progress import Progress, silent
from tasks.settings import LimitSettings

Vectors = npt.NDArray[np.float32]
Embed = Callable[[npt.NDArray[np.uint8]], Vectors]

#: As many as a scan's lists hold.
NEIGHBOURS = 30
_BATCH = 512
_ROWS = 2048


@dataclass(frozen=True, slots=True)
class Found:
    """What one form of the vectors proposes.

    Attributes:
        numbers: of each vector.
        whitened: after the analysis, or as they are.
        strangers: in the collection beside photographs and copies.
        pairs: of a photograph and its copy, by level.
        shares: of them where one is among the other's nearest, by level.
    """

    numbers: int
    whitened: bool
    strangers: int
    pairs: dict[str, int]
    shares: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Job:
    path: str
    seed: int
    side: int
    crops: int
    edits: int


def measure_candidates(
    embed: Embed,
    side: int,
    photographs: Sequence[Path],
    *,
    strangers: int,
    sources: int = 200,
    edits: int = 12,
    numbers: Sequence[int] = (384, 256),
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
) -> list[Found]:
    """Plant copies among crops of other photographs and look for them in lists of 30.

    Args:
        embed: gives unit vectors (n, dim) of pictures (n, side, side, 3).
        side: of the model's input.
        photographs: files.
        strangers: how many crops.
        sources: photographs that get copies.
        edits: copies of each.
        numbers: lengths to which vectors are whitened.
        seed: draws photographs, edits and crops.
        device: where the products are made.
        progress: told how many pictures were embedded.

    Raises:
        SettingsError: when there are too few photographs.
    """
    if len(photographs) < 2 * sources:
        raise SettingsError(f"{len(photographs)} photographs are too few for {sources} with copies")
    draw = random.Random(seed)  # noqa: S311 - draws samples, keeps no secret
    shuffled = draw.sample(list(photographs), len(photographs))
    others = shuffled[sources:]
    each = -(-strangers // len(others))
    jobs = [_Job(str(path), draw.randrange(2**32), side, 0, edits) for path in shuffled[:sources]]
    jobs += [_Job(str(path), draw.randrange(2**32), side, each, 0) for path in others]
    owners: list[int] = []
    levels: list[str] = []
    parts: list[Vectors] = []
    held: list[npt.NDArray[np.uint8]] = []
    total = sources * (1 + edits) + each * len(others)

    def flush() -> None:
        if held:
            parts.append(embed(np.stack(held)))
            held.clear()
            progress("embed", sum(map(len, parts)), total)

    for number, made in enumerate(_made(jobs)):
        for level, pixels in made:
            owners.append(number)
            levels.append(level)
            held.append(pixels)
            if len(held) == _BATCH:
                flush()
    flush()
    vectors = np.concatenate(parts)
    owner = np.array(owners)
    found = [_look(vectors, owner, levels, each * len(others), device, whitened=False)]
    mean, axes, variances = principal_axes(vectors, device)
    for most in numbers:
        short = whiten(vectors, mean, axes, variances, most)
        found.append(_look(short, owner, levels, each * len(others), device, whitened=True))
    return found


def principal_axes(vectors: Vectors, device: str = "cpu") -> tuple[Vectors, Vectors, Vectors]:
    """Mean (dim,), axes (dim, dim) as columns, and variances along them, the largest first."""
    mean = vectors.mean(0, dtype=np.float64)
    dim = vectors.shape[1]
    covariance = torch.zeros(dim, dim, dtype=torch.float64, device=device)
    for start in range(0, len(vectors), 65_536):
        part = torch.from_numpy(vectors[start : start + 65_536] - mean.astype(np.float32))
        part = part.to(device)
        covariance += (part.T @ part).to(torch.float64)
    variances, axes = torch.linalg.eigh(covariance / len(vectors))
    return (
        mean.astype(np.float32),
        axes.flip(1).to(torch.float32).cpu().numpy(),
        variances.flip(0).to(torch.float32).cpu().numpy(),
    )


def whiten(
    vectors: Vectors, mean: Vectors, axes: Vectors, variances: Vectors, numbers: int
) -> Vectors:
    """Unit vectors of the leading components, each with variance 1: (n, numbers)."""
    scale = axes[:, :numbers] / np.sqrt(np.maximum(variances[:numbers], 1e-12))
    short = (vectors - mean) @ scale
    return np.asarray(short / np.linalg.norm(short, axis=1, keepdims=True), np.float32)


def _look(
    vectors: Vectors,
    owner: npt.NDArray[np.int64],
    level: Sequence[str],
    strangers: int,
    device: str,
    *,
    whitened: bool,
) -> Found:
    """Who is among whose nearest, of photographs and copies."""
    rows = np.array([at for at, name in enumerate(level) if name != "stranger"])
    halves = torch.from_numpy(vectors).to(device)
    if device != "cpu":
        halves = halves.to(torch.float16)
    nearest = np.empty((len(rows), NEIGHBOURS), np.int64)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        scores = halves[torch.from_numpy(part).to(device)] @ halves.T
        scores[torch.arange(len(part)), torch.from_numpy(part)] = -2.0
        nearest[start : start + len(part)] = scores.topk(NEIGHBOURS, dim=1).indices.cpu().numpy()
    lists = dict(zip(rows.tolist(), nearest, strict=True))
    hits: dict[str, list[bool]] = {}
    originals = {int(owner[row]): int(row) for row in rows if level[row] == "original"}
    for row in rows:
        if level[row] != "original":
            source = originals[int(owner[row])]
            hit = source in lists[int(row)] or int(row) in lists[source]
            hits.setdefault(level[row], []).append(bool(hit))
    return Found(
        vectors.shape[1],
        whitened,
        strangers,
        {name: len(hits[name]) for name in sorted(hits)},
        {name: float(np.mean(hits[name])) for name in sorted(hits)},
    )


def _made(jobs: Sequence[_Job]) -> Iterator[list[tuple[str, npt.NDArray[np.uint8]]]]:
    """What each job makes, in order; by processes that are begun anew, not forked."""
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        for start in range(0, len(jobs), 16 * cores):
            yield from pool.map(_make, jobs[start : start + 16 * cores])


def _make(job: _Job) -> list[tuple[str, npt.NDArray[np.uint8]]]:
    draw = random.Random(job.seed)  # noqa: S311
    with Image.open(job.path) as opened:
        image = opened.convert("RGB")
    if job.crops:
        made = [("stranger", _crop(image, draw)) for _ in range(job.crops)]
    else:
        made = [("original", _saved(image, 90))]
        for edit in draw.sample(list(LADDER), job.edits):
            made.append((edit.level, edit.bytes_of(image, draw)))
    limits = LimitSettings()
    return [(level, read_picture(data, limits, job.side).pixels) for level, data in made]


def _crop(image: Image.Image, draw: random.Random) -> bytes:
    width = round(image.width * draw.uniform(0.35, 1.0))
    height = round(image.height * draw.uniform(0.35, 1.0))
    left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
    return _saved(image.crop((left, top, left + width, top + height)), draw.randint(75, 95))


def _saved(image: Image.Image, quality: int) -> bytes:
    found = io.BytesIO()
    image.save(found, "JPEG", quality=quality)
    return found.getvalue()
