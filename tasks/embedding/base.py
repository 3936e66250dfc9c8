"""What an embedder offers, and how one is chosen."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from tasks.records import Space
from tasks.settings import EmbeddingSettings


class Embedder(Protocol):
    """Turns pixels into vectors.

    Attributes:
        space: where the vectors live.
        side: width and height of the input it wants.
        device: where it runs, for people to read.
        batch: how many images it wants at once.
    """

    space: Space
    side: int
    device: str
    batch: int

    def embed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Unit vectors (n, dim) of uint8 RGB pixels (n, side, side, 3).

        An image the model gives no vector for has values that are not finite.
        """


def load_embedder(settings: EmbeddingSettings) -> Embedder:
    """The embedder that the settings name, its weights loaded.

    Raises:
        ModelError: when there is no such model, or it is no image model.
    """
    if settings.model == "bundled":
        from tasks.embedding.bundled import load_bundled

        return load_bundled(settings)
    from tasks.embedding.vision import load_vision

    return load_vision(settings)
