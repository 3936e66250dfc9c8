"""Any vision model of Hugging Face transformers as an embedder."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tasks.embedding.gpu_lanes import GpuLanes
from tasks.errors import ModelError
from tasks.records import Space
from tasks.settings import EmbeddingSettings

log = logging.getLogger(__name__)

Pool = Callable[[Any], torch.Tensor]

#: What a model without a preprocessor file was most likely trained with (ImageNet statistics).
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def choose_device(wanted: str) -> torch.device:
    """``auto``: a GPU when there is one.

    Raises:
        ModelError: when the wanted device is not there.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"DAM_DEDUP_EMBEDDING__DEVICE={wanted}: not available here "
            f"({str(error).splitlines()[0]}); use auto or cpu"
        ) from error
    return device


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """``auto``: bfloat16 on a GPU that has it, else float16; float32 on a CPU."""
    if wanted != "auto":
        return {
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
        }[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float32


class VisionEmbedder:
    """A loaded model with its preprocessing.

    Args:
        model: called as ``model(pixel_values)``.
        pool: from the model's output to (n, dim).
        space: without its dimension, which is measured here.
        side: width and height of the input.
        mean: per channel, for values in 0..1.
        std: per channel.
        settings: device and number format.
        native: turn the weights into the number format, instead of each operation's inputs. Faster,
            for models whose numbers stay within the format's range.

    Attributes:
        batch: how many images it wants at once.
    """

    def __init__(
        self,
        model: Callable[[torch.Tensor], Any],
        pool: Pool,
        *,
        name: str,
        revision: str,
        preprocessing: str,
        side: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        settings: EmbeddingSettings,
        native: bool = False,
    ) -> None:
        target = choose_device(settings.device)
        self._dtype = choose_dtype(settings.dtype, target)
        self._target = target
        self._native = native
        self._chunk = self.batch = settings.batch_size
        self._threads: ThreadPoolExecutor | None = None
        self._lanes: GpuLanes | None = None
        if target.type == "cpu":
            # One thread a chunk, no barriers between threads: 32 images per CPU second against 14
            # with two threads on one batch of 32, and no collapse when decoders want the cores.
            _keep_memory()
            self._chunk = min(4, settings.batch_size)
            self._threads = ThreadPoolExecutor(
                len(os.sched_getaffinity(0)), "model", initializer=lambda: torch.set_num_threads(1)
            )
        if isinstance(model, torch.nn.Module):
            # channels_last: 25 against 17 images/s for the default on two CPU cores.
            module = model.eval().to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
            model = module.to(self._dtype) if native else module
        self._model = model
        self._pool = pool
        self._mean = torch.tensor(mean, device=target).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=target).view(1, 3, 1, 1)
        self.side = side
        self.device = f"{target.type} {str(self._dtype).removeprefix('torch.')}"
        try:
            if target.type == "cuda":
                wanted = settings.batch_size if "batch_size" in settings.model_fields_set else None
                self._lanes = GpuLanes(self._forward, target, side, wanted)
                self._chunk = self.batch = self._lanes.batch
            dim = self.embed(np.full((1, side, side, 3), 127, dtype=np.uint8), check=False).shape[1]
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"the model {name} does not take {side} x {side} images: {error}; is "
                "DAM_DEDUP_EMBEDDING__MODEL a vision model? If so, set "
                "DAM_DEDUP_EMBEDDING__IMAGE_SIZE or DAM_DEDUP_EMBEDDING__POOLING"
            ) from error
        self.space = Space(name, revision, preprocessing, dim)

    def embed(
        self, pixels: npt.NDArray[np.uint8], *, check: bool = True
    ) -> npt.NDArray[np.float32]:
        """Unit vectors (n, dim), float32; not finite for an image that has none.

        Threads may call it at once.

        Raises:
            ModelError: when no image of the batch has one.
        """
        if self._lanes is not None:
            vectors = self._lanes.embed(pixels)
        else:
            chunks = [pixels[at : at + self._chunk] for at in range(0, len(pixels), self._chunk)]
            run = self._threads.map if self._threads else map
            vectors = np.concatenate(list(run(self._embed_chunk, chunks)))
        if check and not np.isfinite(vectors).any():
            raise ModelError(f"the model {self.space.model} gives vectors that are not finite")
        return np.asarray(vectors, dtype=np.float32)

    def _embed_chunk(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        # Always the same shape: kernels are chosen by shape, and an image's vector must not
        # depend on how many others happened to come with it.
        padded = np.concatenate([pixels, np.repeat(pixels[-1:], self._chunk - len(pixels), 0)])
        with torch.inference_mode():
            vectors = self._forward(torch.from_numpy(padded).to(self._target))
            return np.asarray(vectors[: len(pixels)].cpu().numpy())

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        """From uint8 (n, side, side, 3) on the device to unit vectors (n, dim) there."""
        values = batch.permute(0, 3, 1, 2).to(torch.float32).div_(255.0)
        values = values.sub_(self._mean).div_(self._std)
        values = values.contiguous(memory_format=torch.channels_last)
        if self._native:
            values = values.to(self._dtype)
        with self._precision():
            pooled = self._pool(self._model(values))
        pooled = pooled.to(torch.float32)
        unit: torch.Tensor = pooled / pooled.norm(dim=1, keepdim=True)
        return unit

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self._dtype == torch.float32 or self._native:
            return contextlib.nullcontext()
        return torch.autocast(self._target.type, dtype=self._dtype)


@cache
def _keep_memory() -> None:
    """Let glibc keep freed memory instead of returning it at every layer.

    A model's activations are megabytes each, which malloc maps and unmaps anew every time: the
    page faults were 40 % of the embedding's CPU time. Values: M_MMAP_THRESHOLD (-3) at its
    maximum of 32 MiB, M_TRIM_THRESHOLD (-1) at 512 MiB (glibc manual, "Malloc Tunable Parameters").
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library: only slower
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 32 << 20)
        libc.mallopt(-1, 512 << 20)


def gem(hidden: torch.Tensor, power: float = 3.0) -> torch.Tensor:
    """Generalised-mean pooling of (n, channels, h, w).

    Source: Radenovic, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation",
    2018, with their default p = 3.
    """
    return hidden.float().clamp(min=1e-6).pow(power).mean(dim=(2, 3)).pow(1.0 / power)


def load_vision(settings: EmbeddingSettings) -> VisionEmbedder:
    """Load a model by Hugging Face id or from a local folder; code from a hub is never run.

    Raises:
        ModelError: saying which setting to look at.
    """
    from transformers import AutoModel

    why = "" if Path(settings.model).is_dir() else _hub_problem()
    try:
        model, loading = AutoModel.from_pretrained(
            settings.model,
            revision=settings.revision,
            trust_remote_code=False,
            output_loading_info=True,
            local_files_only=bool(why),
        )
    except Exception as error:
        raise ModelError(
            f"cannot load DAM_DEDUP_EMBEDDING__MODEL={settings.model!r}: "
            f"{why or str(error).splitlines()[0]}; give a Hugging Face id that this machine can "
            "reach or has loaded before, or a folder with config.json and model.safetensors"
        ) from error
    config = getattr(model.config, "vision_config", model.config)
    side = settings.image_size or _image_size(config)
    mean, std = _statistics(settings, bool(why))
    forward: Any = model
    if hasattr(model, "get_image_features"):  # CLIP, SigLIP: the image half alone
        forward = _ImageHalf(model)
    pooling: str = "pooler" if forward is not model else settings.pooling
    pooling = _without_made_up(sorted(loading["missing_keys"]), pooling, settings.model)
    revision = _revision(settings, model)
    return VisionEmbedder(
        forward,
        _pooling(pooling),
        name=settings.model if not Path(settings.model).is_dir() else Path(settings.model).name,
        revision=revision,
        preprocessing=f"squeeze{side} mean{mean} std{std} {pooling}",
        side=side,
        mean=mean,
        std=std,
        settings=settings,
    )


def _hub_problem() -> str:
    """Why the model hub cannot be reached; empty where it can.

    Asked once and briefly: without an answer, the hub's own client tries each of a model's files
    six times, 25 s a file, before it looks into its cache.
    """
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, and the model is not in the cache"
    try:
        httpx.head(constants.ENDPOINT, timeout=3)
    except httpx.TransportError as error:
        return (
            f"{constants.ENDPOINT} cannot be reached ({error}), and the model is not in the cache"
        )
    return ""


def _without_made_up(missing: list[str], pooling: str, model: str) -> str:
    """The pooling that uses no weight the checkpoint lacks.

    transformers fills such weights with random numbers, anew in every process: vectors that no
    other run could be compared with. A classifier's checkpoint typically lacks the pooler.

    Raises:
        ModelError: when the model cannot do without them.
    """
    if not missing or (pooling in {"cls", "mean", "gem"} and _only_pooler(missing)):
        return pooling
    if pooling == "auto" and _only_pooler(missing):
        return "cls"
    raise ModelError(
        f"the checkpoint of DAM_DEDUP_EMBEDDING__MODEL={model!r} lacks weights that the model "
        f"needs ({', '.join(missing[:3])}); give a checkpoint of the bare vision model"
        + (", or set DAM_DEDUP_EMBEDDING__POOLING=cls" if _only_pooler(missing) else "")
    )


def _only_pooler(names: list[str]) -> bool:
    return all(name.startswith("pooler.") for name in names)


class _ImageHalf(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    def forward(self, pixel_values: torch.Tensor) -> Any:
        features = self._model.get_image_features(pixel_values=pixel_values)
        return features if isinstance(features, torch.Tensor) else features.pooler_output


def _pooling(name: str) -> Pool:
    def pool(output: Any) -> torch.Tensor:
        if isinstance(output, torch.Tensor):
            return output
        hidden: torch.Tensor = output.last_hidden_state
        pooled: torch.Tensor | None = getattr(output, "pooler_output", None)
        if name == "pooler" or (name == "auto" and pooled is not None):
            if pooled is None:
                raise ModelError("the model has no pooler; set DAM_DEDUP_EMBEDDING__POOLING=mean")
            return pooled.flatten(1)
        if hidden.ndim == 4:  # a convolutional map (n, channels, h, w)
            return gem(hidden) if name in {"gem", "auto"} else hidden.mean(dim=(2, 3))
        if name == "gem":
            raise ModelError("gem pooling needs a convolutional model; use cls or mean")
        return hidden[:, 1:].mean(dim=1) if name == "mean" else hidden[:, 0]

    return pool


def _image_size(config: Any) -> int:
    size = getattr(config, "image_size", None) or 224
    if isinstance(size, (list, tuple)):
        size = size[0]
    # Models trained at 518 (DINOv2) interpolate their positions: 224 costs a fifth.
    return int(size) if int(size) <= 384 else 224


def _statistics(
    settings: EmbeddingSettings, offline: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    from transformers.utils import cached_file

    with contextlib.suppress(Exception):  # a model without the file is used with the usual values
        path = cached_file(
            settings.model,
            "preprocessor_config.json",
            revision=settings.revision,
            local_files_only=offline,
        )
        values = json.loads(Path(path).read_text())
        return tuple(values["image_mean"]), tuple(values["image_std"])
    log.info("%s has no preprocessor_config.json: ImageNet mean and std are used", settings.model)
    return _MEAN, _STD


def _revision(settings: EmbeddingSettings, model: Any) -> str:
    """What pins the weights: a commit, or for a folder the digest of what is in it."""
    folder = Path(settings.model)
    if not folder.is_dir():
        return str(getattr(model.config, "_commit_hash", None) or settings.revision or "unknown")
    state = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in {".safetensors", ".bin", ".json"}:
            state.update(path.name.encode() + b"\0" + os.fsencode(str(path.stat().st_size)))
            with path.open("rb") as file:
                state.update(hashlib.file_digest(file, "sha256").digest())
    return state.hexdigest()[:16]
