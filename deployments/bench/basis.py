"""Makes ``tasks/dedup/first_look.npz``: what the first look's descriptors are projected by.

``python -m deployments.bench.basis`` learns it from pictures that anybody has: the photographs that
come with scikit-image (its ``data/README.txt`` names authors and licences) and the drawn documents
of :mod:`deployments.bench.families`. None of them is measured with by ``dam-dedup bench``'s
reporting families. Another basis makes other features: all are made anew, and all
pairs verified anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from deployments.bench.families import FAMILIES
from tasks.dedup.features import extract_features
from tasks.dedup.first_look import SIDE, make_basis
from tasks.embedding.images import make_thumbnail

#: Files of scikit-image that are photographs or pages.
_PHOTOGRAPHS = (
    "astronaut brick camera cell chelsea clock_motion coffee coins grass gravel hubble_deep_field "
    "ihc moon motorcycle_left motorcycle_right page retina rocket text"
)
#: Sides at which each is looked at, in pixels: a thumbnail's and smaller ones.
_SIDES = (SIDE, 192, 384)


def main() -> None:
    """Learn the basis, and write it beside the first look."""
    found = [
        extract_features(make_thumbnail(small)).descriptors
        for image in _pictures()
        for side in _SIDES
        for small in [_at(image, side)]
    ]
    made = make_basis(np.concatenate(found))
    place = Path(__file__).parents[2] / "tasks" / "dedup" / "first_look.npz"
    np.savez_compressed(
        place, mean=made.mean, axes=made.axes.astype(np.float16), even=np.array(made.even)
    )
    count = sum(map(len, found))
    text = f"{place}: {count} descriptors, {made.even} of {made.axes.shape[1]} axes even"
    print(text)  # noqa: T201 - a script


def _pictures() -> Iterator[Image.Image]:
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    for name in _PHOTOGRAPHS.split():
        path = next(folder.glob(f"{name}.*"))
        with Image.open(path) as opened:
            yield opened.convert("RGB")
    for family in FAMILIES:
        if family.fitting:
            for _, image in family.things("basis", 3):
                yield image.convert("RGB")


def _at(image: Image.Image, side: int) -> Image.Image:
    scale = min(1.0, side / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


if __name__ == "__main__":
    main()
