"""What a scan says of two files, without a scan: by their thumbnails, and claims by originals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.dedup.features import Features, extract_features
from tasks.dedup.originals import fit_of, with_proofs
from tasks.dedup.proof_job import compare_originals
from tasks.dedup.verify import NEAR_SCORE, verify_pair
from tasks.embedding.images import read_picture, read_pixels
from tasks.settings import LimitSettings

_ANSWER: dict[str, Any] = {
    "left": pl.String,
    "right": pl.String,
    "score": pl.Float32,
    "evidence": pl.String,
}
_NAMES = {"left": "l", "right": "r"}


@dataclass(frozen=True, slots=True)
class Known:
    """A file as a scan knows it.

    Attributes:
        content: digest of its pixels.
        features: of its thumbnail.
        size: width and height, pixels, upright.
        exif: what it says of itself.
        data: the file.
    """

    content: str
    features: Features
    size: tuple[int, int]
    exif: Mapping[str, str]
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said of a pair.

    Attributes:
        score: with the proof, as a scan settles it.
        claim: of the thumbnails alone.
        proof: what the originals say: ``same``, ``differs`` or ``unknown``; empty where nothing
            was claimed, or the pixels are equal.
        excess: how much they differ where they do most, in units of the pair's own noise.
    """

    score: float
    claim: float
    proof: str = ""
    excess: float = 0.0


def read_known(data: bytes) -> Known:
    """Read a file as a scan does.

    Raises:
        ImageError: when it is no picture.
    """
    picture = read_picture(data, LimitSettings(), 32)
    features = extract_features(picture.thumbnail)
    return Known(picture.content, features, (picture.width, picture.height), picture.exif, data)


@lru_cache(maxsize=16)
def _pixels(data: bytes) -> npt.NDArray[np.uint8]:
    """A file at full size; kept for the next pairs, which mostly share one of their files."""
    return read_pixels(data, LimitSettings())


def answer_pair(pair: tuple[Known, Known]) -> Answer:
    """Verify two files, and prove what the thumbnails call a copy."""
    left, right = sorted(pair, key=lambda known: known.content)
    if left.content == right.content:
        return Answer(1.0, 1.0)
    found = verify_pair(left.features, right.features)
    if found.score < NEAR_SCORE:
        return Answer(found.score, found.score)
    text = found.evidence.as_json() if found.evidence else None
    one, two = (_pixels(side.data) for side in (left, right))
    said = compare_originals(one, two, fit_of(text, left.size, right.size))
    answer = pl.DataFrame([_NAMES | {"score": found.score, "evidence": text}], _ANSWER)
    proof = pl.DataFrame([_NAMES | {"verdict": said["verdict"], "box": said["box"]}])
    score = float(with_proofs(answer, proof)["score"][0])
    return Answer(score, found.score, said["verdict"], said["excess"])
