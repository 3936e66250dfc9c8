"""Runs a model on a GPU with batches that do not wait for one another.

A *lane* is a stream with two pairs of buffers in pinned memory. While the GPU works on one batch,
the next is copied into the other pair, and neither copying nor the model's start waits for a
result. Each thread that embeds has a lane of its own, so two threads keep the GPU busy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

#: From uint8 (n, side, side, 3) on the GPU to unit vectors (n, dim) float32 there.
Forward = Callable[[torch.Tensor], torch.Tensor]

#: The most images of a batch: more gain nothing on the GPUs that were measured.
MOST = 128
#: Images by which the memory of one is measured, and the share of the free memory to be used.
_PROBED, _SHARE = 16, 0.4


@dataclass(slots=True)
class _Slot:
    """Buffers of one batch; ``count``: how many of its images are wanted, 0 when it is free."""

    pixels: torch.Tensor
    vectors: torch.Tensor
    done: torch.cuda.Event
    count: int = 0


class GpuLanes:
    """Runs batches of one shape.

    Kernels are chosen by shape, and an image's vector must not depend on how many came with it.

    Args:
        forward: the model with its preprocessing.
        device: the GPU.
        side: width and height of the input.
        batch: images of each batch; None: as many as the memory allows, 128 at most.
    """

    def __init__(
        self, forward: Forward, device: torch.device, side: int, batch: int | None
    ) -> None:
        self._forward, self._device, self._side = forward, device, side
        self._own = threading.local()
        self.batch = batch or fitting_batch(*self._probe())
        with torch.inference_mode():
            empty = torch.zeros((self.batch, side, side, 3), dtype=torch.uint8, device=device)
            self._dim = forward(empty).shape[1]
        torch.cuda.synchronize(device)  # lanes do not wait for the stream that the weights came by

    def embed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Vectors (n, dim) of pixels (n, side, side, 3)."""
        lane: tuple[torch.cuda.Stream, list[_Slot]] | None = getattr(self._own, "lane", None)
        if lane is None:
            lane = self._own.lane = self._lane()
        stream, slots = lane
        found = np.empty((len(pixels), self._dim), np.float32)
        starts = list(range(0, len(pixels), self.batch))
        with torch.inference_mode(), torch.cuda.stream(stream):
            for number, start in enumerate(starts):
                slot = slots[number % 2]
                if number >= 2:
                    _collect(slot, found, starts[number - 2])
                slot.count = min(self.batch, len(pixels) - start)
                slot.pixels.numpy()[: slot.count] = pixels[start : start + slot.count]
                there = slot.pixels.to(self._device, non_blocking=True)
                slot.vectors.copy_(self._forward(there), non_blocking=True)
                slot.done.record(stream)
            for number in range(max(0, len(starts) - 2), len(starts)):
                _collect(slots[number % 2], found, starts[number])
        return found

    def _lane(self) -> tuple[torch.cuda.Stream, list[_Slot]]:
        shape = (self.batch, self._side, self._side, 3)
        slots = [
            _Slot(
                torch.zeros(shape, dtype=torch.uint8, pin_memory=True),
                torch.zeros((self.batch, self._dim), pin_memory=True),
                torch.cuda.Event(),  # type: ignore[no-untyped-call]
            )
            for _ in range(2)
        ]
        return torch.cuda.Stream(self._device), slots  # type: ignore[no-untyped-call]

    def _probe(self) -> tuple[int, int]:
        """Bytes that one image takes on its way through the model, and bytes that are free."""
        shape = (_PROBED, self._side, self._side, 3)
        with torch.inference_mode():
            pixels = torch.zeros(shape, dtype=torch.uint8, device=self._device)
            self._forward(pixels)
            before = torch.cuda.memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            self._forward(pixels)
            used = torch.cuda.max_memory_allocated(self._device) - before
        return max(1, used // _PROBED), torch.cuda.mem_get_info(self._device)[0]


def fitting_batch(image_bytes: int, free_bytes: int) -> int:
    """The largest power of two of images, at most 128, for two batches at work at a time."""
    fits = int(free_bytes * _SHARE / 2 / image_bytes)
    return min(MOST, 1 << max(0, fits.bit_length() - 1))


def _collect(slot: _Slot, found: npt.NDArray[np.float32], start: int) -> None:
    slot.done.synchronize()
    found[start : start + slot.count] = slot.vectors.numpy()[: slot.count]
