"""Synthetic collections of vectors: clustered as pictures are, with planted neighbours.

A vector is its topic's centre, its subject's centre inside that, and noise whose power falls along
the dimensions, as embeddings' does. A fifth are copies of others, at cosines from 0.8 to 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

#: Vectors of one subject (a shelf, a garment), and subjects of one topic.
_PER_SUBJECT = 25
_PER_TOPIC = 40
#: Parts of a vector's square length: topic, subject; the rest is its own.
_TOPIC, _SUBJECT = 0.25, 0.3
#: Noise power along the dimensions falls with this power of their number.
_FALL = 0.5
#: Share of the rows that are copies of other rows, and how near they are.
COPIES = 0.2
_NEAREST, _FARTHEST = 1.0, 0.8
_CHUNK = 16_384


def collection(count: int, dim: int, seed: int) -> npt.NDArray[np.float16]:
    """Unit vectors (count, dim); the last ones are copies of earlier ones."""
    rng = np.random.default_rng(seed)
    originals = count - int(count * COPIES)
    subjects = max(count // _PER_SUBJECT, 2)
    topics = _unit(_noise(rng, max(subjects // _PER_TOPIC, 2), dim))
    subject_of = rng.integers(0, subjects, originals)
    topic_of = rng.integers(0, len(topics), subjects)
    vectors = np.empty((count, dim), np.float16)
    for start in range(0, originals, _CHUNK):
        of = subject_of[start : min(start + _CHUNK, originals)]
        # Centres of subjects by the million need no room of their own: each is drawn by its seed.
        names, at = np.unique(of, return_inverse=True)
        centres = np.stack([_drawn(seed, int(name), dim) for name in names])
        rows = math.sqrt(1 - _TOPIC - _SUBJECT) * _unit(_noise(rng, len(of), dim))
        rows += math.sqrt(_SUBJECT) * centres[at] + math.sqrt(_TOPIC) * topics[topic_of[of]]
        vectors[start : start + len(of)] = _unit(rows)
    for start in range(originals, count, _CHUNK):
        end = min(start + _CHUNK, count)
        of = rng.integers(0, originals, end - start)
        vectors[start:end] = copies(vectors[of].astype(np.float32), rng)
    return vectors


def copies(vectors: Vectors, rng: np.random.Generator) -> Vectors:
    """One copy of each, at cosines drawn evenly."""
    cosines = rng.uniform(_FARTHEST, _NEAREST, (len(vectors), 1)).astype(np.float32)
    away = _noise(rng, *vectors.shape)
    away = _unit(away - (away * vectors).sum(1, keepdims=True) * vectors)
    return _unit(cosines * vectors + np.sqrt(1 - cosines**2) * away)


def _drawn(seed: int, number: int, dim: int) -> Vectors:
    drawn = _unit(_noise(np.random.default_rng((seed, number)), 1, dim))
    return np.asarray(drawn[0])


def _noise(rng: np.random.Generator, count: int, dim: int) -> Vectors:
    falling = np.arange(1, dim + 1, dtype=np.float32) ** (-_FALL)
    return np.asarray(rng.standard_normal((count, dim), np.float32) * falling)


def _unit(rows: npt.NDArray[Any]) -> Vectors:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / length, np.float32)
