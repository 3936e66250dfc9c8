"""What tests share: a library of pictures with a model that costs nothing, and an S3 server."""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import typer.main
from PIL import Image
from pydantic import SecretStr

from deployments.local import services, stack
from deployments.local.processes import launch, marked, stop
from flows.order import Outcome, run_scan
from tasks.embedding import base
from tasks.embedding.decoder import DecoderPool
from tasks.embedding.images import read_picture, read_pixels
from tasks.records import Kind, Picture
from tasks.requests import ScanRequest
from tasks.settings import EmbeddingSettings, S3Settings, load_settings
from tasks.sources.s3 import client_for
from tests.servers import session_folder, shared

# An example that takes long on a busy machine is no failure.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")
# All commands are built for each call, which takes a tenth of a second; tests call them 400 times.
typer.main.get_command = functools.cache(typer.main.get_command)

# Files that take longest. Begun last, one of them keeps a worker busy while the other has nothing
# left to do.
LONGEST = (
    "tests/flows/test_deployed.py",
    "tests/flows/test_check.py",
    "tests/flows/test_events.py",
    "tests/flows/test_collections.py",
    "tests/merging/test_machine.py",
    "tests/flows/test_deployed_long.py",
    "tests/deployments/local/test_stack.py",
    "tests/flows/test_crash.py",
    "tests/merging/test_killed.py",
    "tests/merging/test_faults.py",
)
#: Files whose tests share nothing, so that all workers may take of them.
DIVISIBLE = ("tests/merging/test_machine.py",)
#: Files that share servers which take long to start, and so are one worker's.
TOGETHER = LONGEST[:4]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first, the others as they were found."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker whole files, whose tests share fixtures."""
    from xdist.scheduler import LoadFileScheduling

    class LoadFiles(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return nodeid if path in DIVISIBLE else TOGETHER[0] if path in TOGETHER else path

    return LoadFiles(config, log) if config.getoption("dist") == "loadfile" else None


def first_of(first: Any, *more: Any) -> list[Any]:
    """Parameters of a test that takes seconds: the first always, the others in ``make test-all``.

    A single number stands for as many.
    """
    if not more and isinstance(first, int):
        first, *more = range(first)
    return [first, *(pytest.param(other, marks=pytest.mark.long) for other in more)]


def blobs(seed: int) -> Image.Image:
    """A picture that is like no other seed's."""
    grid = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(grid).resize((160, 120), Image.Resampling.BICUBIC)


class Library:
    """A folder of pictures, and scans of it.

    Attributes:
        place: what scans leave: catalogs and reports.
        folder: the source.
        model: the embedding model's folder.
    """

    def __init__(self, place: Path, model: Path, folder: Path | None = None) -> None:
        self.place = place
        self.folder = folder or place / "library"
        self.folder.mkdir(exist_ok=folder is not None)
        self.model = model
        self._time = 1_700_000_000

    def lend(self, place: Path, *, catalog: bool = True) -> Library:
        """The same pictures, which are not to be changed, and a copy of the catalog, which may be.

        A scan of a dozen pictures takes most of a second, the copy a hundredth of that.
        """
        if catalog:
            shutil.copytree(self.place / "catalog", place / "catalog")
        return Library(place, self.model, self.folder)

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
            catalog={"uri": str(self.place / catalog)},
            delivery={"folder": self.place / "reports"},
            embedding={
                "model": str(model or self.model),
                "pooling": "cls",
                "device": "cpu",
                "decoders": 1,
            },
            limits=limits or {},
        )
        return run_scan(ScanRequest(kind=kind, source=str(self.folder), **request), settings)


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


@contextmanager
def undisturbed(folder: Path) -> Iterator[None]:
    """Work in this folder, away from the settings of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in [name for name in os.environ if name.startswith("DAM_DEDUP_")]:
            patch.delenv(name)
        cheaply(patch)
        yield


@pytest.fixture
def library(tmp_path: Path, tiny_model: Path) -> Iterator[Library]:
    """An empty library."""
    with undisturbed(tmp_path):
        yield Library(tmp_path, tiny_model)


@pytest.fixture(scope="module")
def make_stock(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> Callable[[Callable[[Library], object]], Library]:
    """Makes a library that a module's tests share: give what fills and scans it.

    Whoever may change the catalog takes a copy: ``stock.lend(tmp_path)``.
    """

    def make(fill: Callable[[Library], object]) -> Library:
        place = tmp_path_factory.mktemp("stock")
        with undisturbed(place):
            stock = Library(place, tiny_model)
            fill(stock)
        return stock

    return make


_load_embedder = base.load_embedder


@functools.cache
def _load_once(settings: str) -> Any:
    return _load_embedder(EmbeddingSettings.model_validate_json(settings))


def _decode_here(pool: DecoderPool, data: bytes) -> Picture:
    decoder = pool._all[0]
    return read_picture(data, decoder._limits, decoder._side)


def _compare_here(
    pool: DecoderPool, left: bytes, right: bytes, numbers: Sequence[float]
) -> dict[str, Any]:
    decoder = pool._all[0]
    sides = [read_pixels(data, decoder._limits) for data in (left, right)]
    return decoder._compares(*sides, numbers)


def cheaply(patch: pytest.MonkeyPatch) -> None:
    """Spare scans what takes longer than all these pictures.

    No process of its own decodes (0.5 s to start), and a model is loaded once a worker (0.12 of a
    scan's 0.7 CPU s).
    """
    patch.setattr(DecoderPool, "decode", _decode_here)
    patch.setattr(DecoderPool, "compare", _compare_here)
    patch.setattr(base, "load_embedder", lambda chosen: _load_once(chosen.model_dump_json()))


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
        name = f"b{os.getpid()}-{time.monotonic_ns()}"
        self.client.create_bucket(Bucket=name)
        if versioned:
            self.client.put_bucket_versioning(
                Bucket=name, VersioningConfiguration={"Status": "Enabled"}
            )
        return name


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """The local stack's S3 server alone, ready in about a second; one for all workers."""
    folder = session_folder(tmp_path_factory) / "s3"

    def start() -> dict[str, Any]:
        (folder / "s3").mkdir(parents=True)
        keys, ports = stack._identity(folder)
        env = services.exports(folder, keys, ports)
        service = launch(
            "s3",
            services.server_commands(folder, ports)["s3"],
            folder=folder,
            env=services.inside(env),
            cwd=folder,
            port=ports["s3"],
        )
        stack._await(service, env, time.monotonic() + 60, print)
        return env

    def end() -> None:
        stop(marked(folder), grace=0)
        stack.down(folder)

    with shared(folder, start, end) as env:
        endpoint = env["AWS_ENDPOINT_URL_S3"]
        key, secret = env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]
        settings = S3Settings(
            endpoint_url=endpoint,
            path_style=True,
            region="us-east-1",
            access_key_id=SecretStr(key),
            secret_access_key=SecretStr(secret),
        )
        yield S3(endpoint, key, secret, settings, client_for(settings))
