"""How fast the gate answers: a real server, real requests, a catalog of a chosen size."""

from __future__ import annotations

import io
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageEnhance

from deployments.bench.gate_catalog import COLLECTION, Made, fill_catalog
from deployments.bench.served_gate import ServedGate
from tasks.progress import Progress
from tasks.session import open_embedder
from tasks.settings import Settings

_UPLOADS = 64
_MODEL_RUNS = 8
#: The mixed round: in so many parts, with memory told after each; assets, and share of uploads.
_PARTS, _FEW, _UPLOAD_SHARE = 5, 100, 0.02


@dataclass(frozen=True, slots=True)
class Latency:
    """What callers waited, in seconds.

    Attributes:
        asked: by ``upload``, by ``id``, or ``mixed``.
        clients: how many asked at once, each one after the other.
        refused: answered 429.
        errors: answered anything else that is not 200, or not at all.
        cpu: seconds of processor time of the server for one request, without its decoders: what
            counts where other work shares the machine.
    """

    asked: str
    clients: int
    requests: int
    refused: int
    errors: int
    p50: float
    p95: float
    p99: float
    per_second: float
    cpu: float


@dataclass(frozen=True, slots=True)
class GateReport:
    """What was measured.

    Attributes:
        model_one: seconds of the model for one image, alone.
        model_batch: seconds of the model for each image of a full batch.
        memory: the server's resident bytes, at the start and after each round.
    """

    assets: int
    photographs: int
    dim: int
    cores: int
    load: float
    model_one: float
    model_batch: float
    rounds: tuple[Latency, ...]
    memory: tuple[int, ...]
    answers: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def run_gate(
    settings: Settings,
    images: Path,
    *,
    assets: int,
    clients: Sequence[int],
    requests: int,
    soak: int,
    work: Path,
    seed: int,
    progress: Progress,
) -> GateReport:
    """Fill a catalog, serve it, and ask it.

    Args:
        settings: which model, and how the gate is set up; the catalog is made in ``work``.
        images: photographs, whose thumbnails and vectors the catalog is made of.
        assets: the size of the catalog.
        clients: how many ask at once, round by round.
        requests: of each round, but one for each client at the least.
        soak: requests of a last, mixed round.
        work: a folder; the catalog in it is used again.
        seed: draws what is asked.
        progress: is told what is done.
    """
    settings = settings.model_copy(
        update={"catalog": settings.catalog.model_copy(update={"uri": str(work / "catalog")})}
    )
    made = fill_catalog(settings, images, assets, progress)
    one, batch = _model_seconds(settings)
    draw = random.Random(seed)  # noqa: S311 - draws samples, keeps no secret
    uploads = [_edited(made.photographs[n % len(made.photographs)], draw) for n in range(_UPLOADS)]
    rounds, memory, answers = [], [], Counter[str]()
    with ServedGate(settings, work) as server:
        memory.append(server.memory())
        by_upload, by_id = _by_upload(uploads), _by_id(made)
        plan = [("upload", by_upload, number, max(number, requests)) for number in clients]
        plan += [("id", by_id, number, max(number, requests)) for number in clients]
        if soak:
            mixed = _mixed(by_upload, made)
            parts = [soak // _PARTS + (n < soak % _PARTS) for n in range(_PARTS)]
            plan += [("mixed", mixed, max(clients), part) for part in parts if part]
        for asked, ask, number, total in plan:
            progress(f"{asked}, {number} clients", 0, None)
            found, codes = _round(server, asked, ask, number, total, draw)
            rounds.append(found)
            answers += codes
            memory.append(server.memory())
    return GateReport(
        assets=made.assets,
        photographs=len(made.photographs),
        dim=made.dim,
        cores=len(os.sched_getaffinity(0)),
        load=os.getloadavg()[0],
        model_one=one,
        model_batch=batch,
        rounds=tuple(rounds),
        memory=tuple(memory),
        answers=dict(answers),
    )


Ask = Callable[[httpx.Client, random.Random], httpx.Response]


def _by_upload(uploads: Sequence[bytes]) -> Ask:
    kind = {"content-type": "image/jpeg"}
    return lambda http, draw: http.post(
        f"/duplicate?source={COLLECTION}", content=draw.choice(uploads), headers=kind
    )


def _by_id(made: Made) -> Ask:
    return lambda http, draw: http.get(
        "/duplicate", params={"source": COLLECTION, "id": f"{draw.randrange(made.assets)}"}
    )


def _mixed(by_upload: Ask, made: Made) -> Ask:
    """Mostly assets that were asked about before, as reviewers do; some uploads."""
    few = Made(min(made.assets, _FEW), made.dim, made.photographs)
    by_id = _by_id(few)
    return lambda http, draw: (by_upload if draw.random() < _UPLOAD_SHARE else by_id)(http, draw)


def _round(
    server: ServedGate, asked: str, ask: Ask, clients: int, requests: int, draw: random.Random
) -> tuple[Latency, Counter[str]]:
    shares = [requests // clients + (n < requests % clients) for n in range(clients)]
    seeds = [draw.random() for _ in shares]

    def one(share: int, seed: float) -> list[tuple[float, str]]:
        mine, found = random.Random(seed), []  # noqa: S311
        with httpx.Client(base_url=server.address, timeout=900) as http:
            for _ in range(share):
                started = time.perf_counter()
                try:
                    said = str(ask(http, mine).status_code)
                except httpx.HTTPError as error:
                    said = type(error).__name__
                found.append((time.perf_counter() - started, said))
        return found

    before = server.figure("process_cpu_seconds_total")
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = [pair for part in pool.map(one, shares, seeds) for pair in part]
    taken = time.perf_counter() - started
    cpu = (server.figure("process_cpu_seconds_total") - before) / len(found)
    codes = Counter(said for _, said in found)
    waits = [wait for wait, said in found if said == "200"] or [float("nan")]
    p50, p95, p99 = (float(value) for value in np.percentile(waits, [50, 95, 99]))
    refused = codes["429"]
    errors = len(found) - refused - codes["200"]
    pace = len(found) / taken
    return Latency(asked, clients, len(found), refused, errors, p50, p95, p99, pace, cpu), codes


def _model_seconds(settings: Settings) -> tuple[float, float]:
    """The model alone: one image, and each image of a full batch; medians."""
    embedder = open_embedder(settings)
    side = embedder.side
    pixels = np.random.default_rng(0).integers(
        0, 256, (settings.embedding.batch_size, side, side, 3)
    )
    batch = pixels.astype(np.uint8)

    def median(images: Any) -> float:
        embedder.embed(images)
        taken = []
        for _ in range(_MODEL_RUNS):
            started = time.perf_counter()
            embedder.embed(images)
            taken.append(time.perf_counter() - started)
        return float(np.median(taken))

    return median(batch[:1]), median(batch) / len(batch)


def _edited(photograph: bytes, draw: random.Random) -> bytes:
    """A photograph as somebody else would upload it: other pixels, the same picture."""
    image = Image.open(io.BytesIO(photograph)).convert("RGB")
    edge = draw.randint(1, max(1, min(image.size) // 20))
    image = image.crop((edge, edge, image.width - edge, image.height - edge))
    image = ImageEnhance.Brightness(image).enhance(draw.uniform(0.9, 1.1))
    found = io.BytesIO()
    image.save(found, "JPEG", quality=draw.randint(70, 95))
    return found.getvalue()
