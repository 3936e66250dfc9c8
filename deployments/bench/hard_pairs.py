"""Hard negatives: different things that look alike, for the fit of the score's coefficients.

A planted collection holds other shots and strangers. What it does not hold is one template on many
pictures, and documents that differ in a word; of both, those pairs count here that no rule of their
own refuses, for there the coefficients alone decide.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

from deployments.bench.documents import features_of, make_sheets
from deployments.bench.families import FAMILIES
from deployments.bench.plant import find_photos, read_photo
from deployments.bench.templates import TEMPLATES
from tasks.dedup.features import Features, extract_features
from tasks.dedup.verify import copy_terms, reads_differently, verify_pair
from tasks.embedding.images import make_thumbnail
from tasks.records import THUMBNAIL_SIDE

Pair = tuple[Features, Features]


def measure_hard_pairs(pairs: Iterable[Pair]) -> list[dict[str, float]]:
    """What the logit is made of, of each pair that is aligned and that no other rule refuses."""
    found = []
    for left, right in pairs:
        evidence = verify_pair(left, right).evidence
        if evidence is not None and not reads_differently(evidence):
            found.append(copy_terms(evidence))
    return found


def template_pairs(images: Path, seed: int = 0, pictures: int = 6) -> Iterator[Pair]:
    """Different photographs in one template: all pairs of each.

    Args:
        images: a folder of photographs; where it holds fewer than three there are no pairs.
        seed: names the draw.
        pictures: how many photographs.
    """
    paths = list(find_photos(images).values())
    random.Random(f"{seed} hard").shuffle(paths)  # noqa: S311 - must be repeatable
    photos = [photo for path in paths[: pictures + 1] if (photo := read_photo(path))]
    if len(photos) < 3:
        return
    for photo in photos:
        photo.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    pattern = photos.pop()
    for name, make, shares in TEMPLATES:
        for share in shares:
            rng = random.Random(f"{seed} {name} {share}")  # noqa: S311 - must be repeatable
            filled = [make(photo, share, pattern, rng) for photo in photos]
            known = [extract_features(make_thumbnail(image)) for image in filled]
            yield from combinations(known, 2)


def document_pairs(seed: int = 0, things: int = 3) -> Iterator[Pair]:
    """Different documents of one family, of the families for fitting only."""
    for family in FAMILIES:
        if family.fitting:
            own = [sheet for sheet in make_sheets(family, seed, things) if not sheet.copy]
            yield from combinations([features_of(sheet.data) for sheet in own], 2)
