"""Batches on a GPU: of a size that fits, with the vectors that a CPU gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tasks.embedding.base import load_embedder
from tasks.embedding.gpu_lanes import MOST, fitting_batch
from tasks.settings import EmbeddingSettings

MIB = 1024**2


@pytest.mark.parametrize(
    ("image", "free", "batch"),
    [
        (20 * MIB, 100_000 * MIB, MOST),
        (20 * MIB, 4_000 * MIB, 32),  # 0.4 of it for two batches: 40 images each
        (20 * MIB, 8_000 * MIB, 64),
        (900 * MIB, 500 * MIB, 1),
    ],
)
def test_a_batch_is_a_power_of_two_that_fits_twice(image, free, batch):
    assert fitting_batch(image, free) == batch
    assert batch == 1 or 2 * batch * image <= free


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_vectors_of_a_cpu():
    ours, theirs = (load_embedder(EmbeddingSettings(device=name)) for name in ("cuda", "cpu"))
    pixels = np.random.default_rng(0).integers(0, 256, (300, ours.side, ours.side, 3), np.uint8)
    with ThreadPoolExecutor(2) as threads:  # each on a lane of its own
        first, second = threads.map(ours.embed, [pixels, pixels[::-1].copy()])
    assert np.array_equal(first, second[::-1])
    assert np.array_equal(ours.embed(pixels[7:8])[0], first[7])
    assert (first[:16] * theirs.embed(pixels[:16])).sum(1).min() >= 0.999
