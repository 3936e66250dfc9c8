"""Resemblance without pixels: perceptual hash and vector, both of which must agree.

Where only hashes and vectors are kept nobody can align two pictures and look. What is found this
way is unverified, and every place that shows it says so.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

#: Measured on planted edits of photographs (docs/benchmarks.md, "Resemblance").
PHASH_DISTANCE = 10
COSINE = 0.8
_BLOCK = 4096


def resembling(
    phashes: npt.NDArray[np.uint64],
    vectors: npt.NDArray[np.float16],
    known_phashes: npt.NDArray[np.uint64],
    known_vectors: npt.NDArray[np.float16],
) -> Iterator[tuple[int, int, int, float]]:
    """Pairs near by both measures: row, known row, hash distance, cosine.

    Args:
        phashes: (n,) of what came.
        vectors: (n, dim), unit length.
        known_phashes: (m,) of what it is held against.
        known_vectors: (m, dim), unit length.
    """
    known = known_vectors.astype(np.float32).T
    for start in range(0, len(phashes), _BLOCK):
        cosines = vectors[start : start + _BLOCK].astype(np.float32) @ known
        rows, columns = np.nonzero(cosines >= COSINE)
        words = phashes[start + rows] ^ known_phashes[columns]
        distances = np.bitwise_count(words)
        for row, column, distance in zip(rows, columns, distances, strict=True):
            if distance <= PHASH_DISTANCE:
                at = int(row), int(column)
                yield start + at[0], at[1], int(distance), min(1.0, float(cosines[at]))
