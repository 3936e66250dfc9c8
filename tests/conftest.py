"""What tests share: a library of pictures with a model that costs nothing, and an S3 server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from deployments.local import services, stack
from deployments.local.processes import launch, marked, stop
from flows.order import Outcome, run_scan
from tasks import stages
from tasks.embedding.decoder import DecoderPool
from tasks.embedding.images import read_picture
from tasks.records import Kind, Picture, ScanRequest
from tasks.settings import S3Settings, load_settings
from tasks.sources.s3 import client_for

# Files that take minutes: begun last, one of them keeps a worker busy while the other has nothing
# left to do.
LONGEST = (
    "merging/test_machine.py",
    "flows/test_deployed.py",
    "flows/test_crash.py",
    "merging/test_killed.py",
    "flows/test_check.py",
    "deployments/test_stack.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first, the others as they were found."""
    rank = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def blobs(seed: int) -> Image.Image:
    """A picture that is like no other seed's."""
    grid = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(grid).resize((160, 120), Image.Resampling.BICUBIC)


class Library:
    """A folder of pictures, and scans of it.

    Attributes:
        folder: the source.
        model: the embedding model's folder.
    """

    def __init__(self, place: Path, model: Path) -> None:
        self.folder = place / "library"
        self.folder.mkdir()
        self.model = model
        self._place = place
        self._time = 1_700_000_000

    def add(self, name: str, seed: int, *, width: int = 160, **options: Any) -> Path:
        """Write a picture; the same seed gives the same picture, in whatever format."""
        image = blobs(seed)
        return self.write(name, image.resize((width, width * 3 // 4)), **options)

    def write(self, name: str, image: Image.Image | bytes, **options: Any) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path, **options)
        self._time += 1  # no two files are of one time, and no run differs from another
        os.utime(path, (self._time, self._time))
        return path

    def scan(
        self,
        kind: Kind = Kind.INCREMENTAL,
        *,
        catalog: str = "catalog",
        model: Path | None = None,
        limits: dict[str, Any] | None = None,
        **request: Any,
    ) -> Outcome:
        settings = load_settings(
            catalog={"uri": str(self._place / catalog)},
            delivery={"folder": self._place / "reports"},
            embedding={
                "model": str(model or self.model),
                "pooling": "cls",
                "device": "cpu",
                "decoders": 1,
            },
            limits=limits or {},
        )
        return run_scan(
            stages, ScanRequest(kind=kind, source=str(self.folder), **request), settings
        )


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory):
    """Saves a tiny ViT of random weights; the seed makes the model."""
    import torch
    from transformers import ViTConfig, ViTModel

    def make(seed: int) -> Path:
        torch.manual_seed(seed)
        config = ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=32,
            patch_size=8,
            initializer_range=0.3,  # spreads the vectors: copies > 0.96, others < 0.83
        )
        folder = tmp_path_factory.mktemp("tiny") / "vit"
        ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_model(make_model) -> Path:
    return make_model(0)


@pytest.fixture
def library(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """An empty library, away from the settings of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DAM_DEDUP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(DecoderPool, "decode", _decode_here)
    return Library(tmp_path, tiny_model)


def _decode_here(pool: DecoderPool, data: bytes) -> Picture:
    """Without a process of its own, which takes longer to start than all these pictures."""
    decoder = pool._all[0]
    return read_picture(data, decoder._limits, decoder._side)


@dataclass(frozen=True)
class S3:
    """An S3 server as strict as AWS where it matters: unknown keys and buckets are refused."""

    endpoint: str
    key: str
    secret: str
    settings: S3Settings
    client: Any

    def bucket(self, *, versioned: bool = False) -> str:
        """Make an empty bucket."""
        name = f"b{time.monotonic_ns()}"
        self.client.create_bucket(Bucket=name)
        if versioned:
            self.client.put_bucket_versioning(
                Bucket=name, VersioningConfiguration={"Status": "Enabled"}
            )
        return name


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """The local stack's S3 server alone, ready in about a second."""
    folder = tmp_path_factory.mktemp("s3")
    keys, ports = stack._identity(folder)
    env = services.exports(folder, keys, ports)
    (folder / "s3").mkdir()
    try:
        service = launch(
            "s3",
            services.server_commands(folder, ports)["s3"],
            folder=folder,
            env=services.inside(env),
            cwd=folder,
            port=ports["s3"],
        )
        stack._await(service, env, time.monotonic() + 60, print)
        settings = S3Settings(
            endpoint_url=env["AWS_ENDPOINT_URL_S3"],
            path_style=True,
            region="us-east-1",
            access_key_id=SecretStr(keys["access_key"]),
            secret_access_key=SecretStr(keys["secret_key"]),
        )
        client = client_for(settings)
        yield S3(
            env["AWS_ENDPOINT_URL_S3"], keys["access_key"], keys["secret_key"], settings, client
        )
    finally:
        stop(marked(folder), grace=0)
        stack.down(folder)
