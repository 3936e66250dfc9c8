"""bench candidates: copies are found by what their vectors share, and only so."""

from __future__ import annotations

import numpy as np
import pytest

from deployments.bench.candidates import measure_candidates, principal_axes, whiten
from tasks.errors import SettingsError


def test_whitened_numbers_vary_alike_and_nothing_but_the_rest_is_lost():
    draw = np.random.default_rng(0)
    vectors = (draw.normal(size=(4000, 6)) * [5, 3, 2, 1, 0.1, 0.1]).astype(np.float32) + 7
    turned, _ = np.linalg.qr(draw.normal(size=(6, 6)))
    mean, axes, variances = principal_axes((vectors @ turned).astype(np.float32))
    assert variances == pytest.approx([25, 9, 4, 1, 0.01, 0.01], rel=0.1)
    short = whiten((vectors @ turned).astype(np.float32), mean, axes, variances, 4)
    assert short.shape == (4000, 4)
    assert np.linalg.norm(short, axis=1) == pytest.approx(1, abs=1e-5)
    assert short.std(0) == pytest.approx(0.5, rel=0.05), "each carries a quarter of the length"


@pytest.mark.long
def test_copies_are_told_from_crops_of_other_photographs(library, tmp_path):
    for seed in range(8):
        library.add(f"p{seed}.jpg", seed, width=160)
    photographs = sorted(library.folder.glob("*.jpg"))

    def colours(pixels):
        """A model that sees a picture as sixteen patches."""
        patches = pixels.reshape(len(pixels), 4, 8, 4, 8, 3).mean((2, 4)).reshape(len(pixels), -1)
        patches = patches - patches.mean(1, keepdims=True)
        return (patches / np.linalg.norm(patches, axis=1, keepdims=True)).astype(np.float32)

    plain, white = measure_candidates(
        colours, 32, photographs, strangers=60, sources=3, edits=6, numbers=(8,), seed=1
    )
    assert (plain.numbers, plain.whitened, white.numbers, white.whitened) == (48, False, 8, True)
    assert sum(plain.pairs.values()) == sum(white.pairs.values()) == 3 * 6
    assert plain.strangers == 60
    assert plain.shares["exact"] == white.shares["exact"] == 1.0

    def blind(pixels):
        draw = np.random.default_rng(pixels.shape[0])
        found = draw.normal(size=(len(pixels), 16)).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    nothing, _ = measure_candidates(
        blind, 32, photographs, strangers=400, sources=3, edits=6, numbers=(8,), seed=1
    )
    assert nothing.shares["exact"] < 0.7, "who sees nothing finds little"
    with pytest.raises(SettingsError, match="too few"):
        measure_candidates(colours, 32, photographs, strangers=60, sources=5)
