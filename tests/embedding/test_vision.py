"""Models: the bundled one, and any of transformers' architectures."""

from __future__ import annotations

import io
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from tasks.embedding.base import load_embedder
from tasks.errors import ModelError
from tasks.settings import EmbeddingSettings

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}


@pytest.fixture(scope="module")
def bundled():
    return load_embedder(EmbeddingSettings(device="cpu"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny checkpoints of five architectures, randomly initialised: name to folder."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    made = {
        "vit": ViTModel(ViTConfig(**TINY)),
        "dinov2": Dinov2Model(Dinov2Config(**TINY)),
        "clip": CLIPModel(
            CLIPConfig(
                vision_config=TINY,
                text_config=TINY | {"vocab_size": 99, "max_position_embeddings": 8},
                projection_dim=16,
            )
        ),
        "resnet": ResNetModel(
            ResNetConfig(embedding_size=8, hidden_sizes=[8, 24], depths=[1, 1], layer_type="basic")
        ),
        "bert": BertModel(
            BertConfig(
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                vocab_size=99,
            )
        ),
    }
    for name, model in made.items():
        model.save_pretrained(folder / name)
    return folder


def load(path, **settings):
    return load_embedder(EmbeddingSettings(model=str(path), device="cpu", **settings))


def noise(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def lengths(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1)


# ---- the bundled model -----------------------------------------------------------------------


def test_bundled_gives_unit_vectors(bundled):
    vectors = bundled.embed(noise(3, bundled.side))
    assert vectors.shape == (3, 1280)
    assert vectors.dtype == np.float32
    assert bundled.space.dim == 1280
    assert np.allclose(lengths(vectors), 1, atol=1e-5)


@pytest.mark.long
def test_bundled_loads_without_a_network(bundled):
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from tasks.embedding.base import load_embedder\n"
        "from tasks.settings import EmbeddingSettings\n"
        "print(load_embedder(EmbeddingSettings(device='cpu')).space.id)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == bundled.space.id


@pytest.mark.parametrize("others", [1, 6, 17])
def test_a_vector_does_not_depend_on_its_batch(bundled, others):
    one = noise(1, bundled.side, seed=7)
    alone = bundled.embed(one)[0]
    for position in {0, others // 2, others}:
        batch = np.insert(noise(others, bundled.side), position, one[0], axis=0)
        assert np.array_equal(bundled.embed(batch)[position], alone)


def test_bundled_tells_copies_from_strangers(bundled, photo):
    astronaut, coffee = photo("astronaut"), photo("coffee")
    buffer = io.BytesIO()
    astronaut.resize((256, 256)).save(buffer, "JPEG", quality=75)
    images = [astronaut, Image.open(buffer), coffee]
    side = (bundled.side, bundled.side)
    vectors = bundled.embed(np.stack([np.asarray(image.resize(side)) for image in images]))
    copy, stranger = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert copy > 0.95
    assert stranger < 0.8


def test_bundled_flat_images_have_a_vector(bundled):
    flat = np.stack([np.full((224, 224, 3), level, np.uint8) for level in (0, 128, 255)])
    assert np.isfinite(bundled.embed(flat)).all()


# ---- other models ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dim"), [("vit", 32), ("dinov2", 32), ("clip", 16), ("resnet", 24)]
)
def test_architectures_load_from_a_folder(models, name, dim):
    settings = {"image_size": 32} if name == "resnet" else {}
    embedder = load(models / name, **settings)
    assert (embedder.side, embedder.space.dim, embedder.space.model) == (32, dim, name)
    vectors = embedder.embed(noise(5, 32))
    assert vectors.shape == (5, dim)
    assert np.allclose(lengths(vectors), 1, atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-4)
    assert np.array_equal(embedder.embed(noise(5, 32)[2:3])[0], vectors[2])


def test_clip_embeds_with_its_projection(models):
    model = CLIPModel.from_pretrained(models / "clip").eval()
    embedder = load(models / "clip")
    pixels = noise(2, 32)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    values = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        wanted = model.visual_projection(model.vision_model(values).pooler_output)
    wanted = wanted / wanted.norm(dim=1, keepdim=True)
    assert np.allclose(embedder.embed(pixels), wanted.numpy(), atol=1e-4)


def test_poolings_differ(models):
    pixels = noise(1, 32)
    vectors = {
        name: load(models / "vit", pooling=name).embed(pixels)[0]
        for name in ("cls", "mean", "pooler")
    }
    assert vectors["cls"] @ vectors["mean"] < 0.99
    assert vectors["cls"] @ vectors["pooler"] < 0.99
    assert vectors["mean"] @ vectors["pooler"] < 0.99


@pytest.mark.parametrize("pooling", ["gem", "mean", "pooler"])
def test_poolings_of_a_convolutional_model(models, pooling):
    embedder = load(models / "resnet", pooling=pooling, image_size=32)
    assert embedder.embed(noise(2, 32)).shape == (2, 24)


def test_the_space_names_all_that_changes_vectors(models, tmp_path):
    torch.manual_seed(1)
    ViTModel(ViTConfig(**TINY)).save_pretrained(tmp_path / "vit")  # the same name, other weights
    spaces = [
        load(models / "vit").space,
        load(tmp_path / "vit").space,
        load(models / "vit", pooling="mean").space,
        load(models / "vit", pooling="cls").space,
        load(models / "dinov2").space,
        load(models / "dinov2", image_size=64).space,
    ]
    assert len({space.id for space in spaces}) == len(spaces)
    assert load(models / "vit").space.id == spaces[0].id


def test_the_preprocessor_file_is_used(models, tmp_path):
    model = ViTModel.from_pretrained(models / "vit")
    model.save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}'
    )
    ours, usual = load(tmp_path / "vit"), load(models / "vit")
    assert "0.25" in ours.space.preprocessing
    assert ours.space.id != usual.space.id
    assert not np.array_equal(ours.embed(noise(1, 32)), usual.embed(noise(1, 32)))


# ---- refusals --------------------------------------------------------------------------------


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="DAM_DEDUP_EMBEDDING__MODEL"):
        load(tmp_path)
    with pytest.raises(ModelError, match="DAM_DEDUP_EMBEDDING__MODEL"):
        load(tmp_path / "nothing")


def test_a_model_of_texts(models):
    with pytest.raises(ModelError, match="DAM_DEDUP_EMBEDDING__"):
        load(models / "bert")


@pytest.mark.parametrize(("name", "pooling"), [("vit", "gem"), ("dinov2", "gem")])
def test_a_pooling_the_model_does_not_have(models, name, pooling):
    with pytest.raises(ModelError, match="pooling"):
        load(models / name, pooling=pooling)


def test_an_image_size_the_model_does_not_take(models):
    with pytest.raises(ModelError, match="DAM_DEDUP_EMBEDDING__IMAGE_SIZE"):
        load(models / "vit", image_size=64)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "no-such-device"])
def test_a_device_that_is_not_there(models, device):
    with pytest.raises(ModelError, match="DAM_DEDUP_EMBEDDING__DEVICE"):
        load_embedder(EmbeddingSettings(model=str(models / "vit"), device=device))


def test_weights_the_checkpoint_lacks_are_not_made_up(tmp_path):
    # A classifier's checkpoint has no pooler; a random one gives other vectors in every process.
    ViTForImageClassification(ViTConfig(**TINY)).save_pretrained(tmp_path / "vit")
    pixels = noise(1, 32)
    first, second = (load(tmp_path / "vit").embed(pixels) for _ in range(2))
    assert np.array_equal(first, second)
    with pytest.raises(ModelError, match=r"lacks weights.*pooler"):
        load(tmp_path / "vit", pooling="pooler")


def test_weights_that_give_no_numbers_are_refused(models, tmp_path):
    model = ViTModel.from_pretrained(models / "vit")
    with torch.no_grad():
        model.embeddings.cls_token.fill_(float("nan"))
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="not finite"):
        load(tmp_path, pooling="cls").embed(noise(1, 32))


@pytest.mark.long
def test_idle_threads_leave_the_cores_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "VERBOSE")
    loaded = subprocess.run(
        [sys.executable, "-c", "import tasks.embedding.vision"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "GOMP_SPINCOUNT = '0'" in loaded.stderr


def test_a_model_of_a_hub_that_is_out_of_reach_is_told_at_once(monkeypatch):
    """The hub's own client would ask six times for each file, half a minute a file."""
    import transformers
    from huggingface_hub import constants

    asked = []

    def from_pretrained(_, **options):
        asked.append(options["local_files_only"])
        raise OSError("We couldn't connect")

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", from_pretrained)
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ModelError, match=f"{nobody} cannot be reached .*not in the cache"):
        load("someone/vision-model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        load("someone/vision-model")
    assert asked == [True, True], "its cache alone is asked"
