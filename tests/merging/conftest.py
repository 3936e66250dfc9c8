"""A bucket of pictures with copies, and everything that is done about them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import time_ns
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image

from flows.order import Outcome, run_scan
from tasks.catalog import schema
from tasks.merging import quarantine
from tasks.merging.decide import Decided, decide
from tasks.merging.merge import MergeOutcome, merge_plan
from tasks.merging.plan import plan_merges
from tasks.merging.quarantine import empty_quarantine
from tasks.merging.rules.plans import Plan
from tasks.merging.rules.policy import load_policy
from tasks.merging.undo import UndoOutcome, undo_merge
from tasks.queries.scans import record_scan
from tasks.records import Kind, Space, now
from tasks.reporting.summarize import last_scan
from tasks.requests import ScanRequest
from tasks.scan.begin import begin_scan
from tasks.scan.group import group_assets
from tasks.scan.sync import sync_assets
from tasks.session import open_catalog, open_source, pa_table
from tasks.settings import Settings, load_settings
from tasks.sources.bucket import Bucket
from tests.conftest import cheaply, undisturbed
from tests.merging.world import NOTES

POLICY = """
version: 1
name: test
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - name: all
    action: %s
"""

KINDS = ["plain", "versioned"]  # of buckets
#: For a test that takes seconds: on a bucket with versions once more, in ``make test-all``.
EITHER_KIND = ["plain", pytest.param("versioned", marks=pytest.mark.long)]
Snapshot = dict[str, tuple[str, tuple[tuple[str, str], ...], tuple[tuple[str, str], ...], str]]


def picture(seed: int, width: int = 240) -> Image.Image:
    """Rough blobs: the same seed, the same picture."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC)
    return image.resize((width, width * 3 // 4))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(seed: int = 0) -> bytes:
    """Bytes that pass for a picture; each seed its own."""
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(7) + bytes(f"picture {seed}", "ascii")


def other_catalog(site: Site, folder: Path) -> Site:
    """The same bucket, as another catalog knows it."""
    catalog = site.settings.catalog.model_copy(update={"uri": str(folder)})
    return Site(site.s3, site.bucket, site.settings.model_copy(update={"catalog": catalog}))


def later(patch: pytest.MonkeyPatch, passed: timedelta) -> None:
    """Let the quarantine be looked at so much later, by this machine's clock and the store's."""
    age = _AGE

    def aged(self: Bucket, key: str) -> timedelta | None:
        found = age(self, key)
        return None if found is None else found + passed

    patch.setattr(quarantine, "now", lambda: now() + passed)
    patch.setattr(Bucket, "age", aged)


_AGE = Bucket.age


@dataclass
class Site:
    """A bucket, its catalog, and who works on them."""

    s3: Any
    bucket: str
    settings: Settings
    template: str = POLICY

    def put(
        self,
        key: str,
        body: bytes,
        tags: dict[str, str] | None = None,
        metadata: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.s3.client.put_object(
            Bucket=self.bucket,
            Key=key,
            Body=body,
            Tagging=urlencode(tags or {}),
            Metadata=metadata or {},
            **options,
        )

    def scan(self, **settings: Any) -> Outcome:
        chosen = self.settings.model_copy(update=settings)
        return run_scan(ScanRequest(source=f"s3://{self.bucket}"), chosen)

    def list(self) -> None:
        """A scan without a model: equal bytes are equal pictures."""
        list_and_group(self)

    def plan(self, action: str = "quarantine", policy: str = POLICY, **options: Any) -> Plan:
        scan, space, _, _ = last_scan(self.settings)
        text = policy % action if "%s" in policy else policy
        return plan_merges(scan, space, load_policy(text, "policy.yaml"), **options)

    def approve(self, plan: Plan, **options: Any) -> list[Decided]:
        options = {"by": "anna", "accept_questions": True} | options
        return decide(self.settings, plan.id, "approve", **options)

    def merge(self, plan: Plan, **options: Any) -> MergeOutcome:
        return merge_plan(self.settings, plan.id, **({"by": "anna"} | options))

    def undo(self, target: str, *, settle: bool = True, **options: Any) -> list[UndoOutcome]:
        """Undo; and let two hours pass, after which the copies are gone."""
        outcome = undo_merge(self.settings, target, **({"by": "anna"} | options))
        if settle:
            self.settle()
        return outcome

    def settle(self) -> None:
        """Two hours later, when the copies of what an undo put back are removed."""
        with pytest.MonkeyPatch.context() as patch:
            later(patch, timedelta(hours=2))
            empty_quarantine(self.settings, by="schedule")

    def keys(self, *, ours: bool = False) -> list[str]:
        """Keys of all objects; with ``ours`` quarantine and probes too, never what merges note."""
        pages = self.s3.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        keys = [key for key in keys if not key.startswith(NOTES)]
        return sorted(key for key in keys if ours or not key.startswith(".dam-dedup/"))

    def body(self, key: str) -> bytes:
        return self.s3.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def tags(self, key: str) -> dict[str, str]:
        found = self.s3.client.get_object_tagging(Bucket=self.bucket, Key=key)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in found}

    def snapshot(self, *, ours: bool = False) -> Snapshot:
        """Every current object: bytes, tags, user metadata, content type."""
        found = {}
        for key in self.keys(ours=ours):
            got = self.s3.client.get_object(Bucket=self.bucket, Key=key)
            found[key] = (
                hashlib.sha256(got["Body"].read()).hexdigest(),
                tuple(sorted(self.tags(key).items())),
                tuple(sorted(got["Metadata"].items())),
                got["ContentType"],
            )
        return found


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.long)], ids=KINDS)
def versioned(request: pytest.FixtureRequest) -> bool:
    """Whether the bucket keeps versions; with them a whole test again, in ``make test-all``."""
    return bool(request.param)


@pytest.fixture
def make_settings(
    s3: Any, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], Settings]:
    """Settings with a catalog of their own, away from those of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DAM_DEDUP_")]:
        monkeypatch.delenv(name)

    def make(catalog: Path) -> Settings:
        settings = load_settings(
            catalog={"uri": str(catalog), "busy_seconds": 30, "scan_wait_seconds": 30},
            delivery={"folder": tmp_path / "reports"},
            embedding={"model": str(tiny_model), "pooling": "cls", "device": "cpu", "decoders": 1},
        )
        return settings.model_copy(update={"s3": s3.settings})

    return make


@pytest.fixture
def site(
    s3: Any,
    versioned: bool,
    tmp_path: Path,
    make_settings: Callable[[Path], Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    """An empty bucket with an empty catalog."""
    cheaply(monkeypatch)
    return Site(s3, s3.bucket(versioned=versioned), make_settings(tmp_path / "catalog"))


SIDECAR = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def sidecar(*words: str) -> bytes:
    return SIDECAR.format(items="".join(f"<rdf:li>{word}</rdf:li>" for word in words)).encode()


@pytest.fixture
def filled(site: Site) -> Site:
    """Three copies of one picture with what people wrote about them, and two others, scanned."""
    big = picture(1, 320)
    site.put(
        "a/big.png",
        encoded(big),
        {"owner": "north", "keywords": "sea"},
        {"shot": "7"},
        ContentType="image/png",
        CacheControl="max-age=60",
    )
    site.put(
        "b/small copy.jpg",
        encoded(picture(1, 200), "JPEG", quality=80),
        {"keywords": "sea boat", "agency": "x y"},
        {"shot": "7", "client": "acme"},
        ContentType="image/jpeg",
    )
    site.put("b/small copy.xmp", sidecar("harbour", "gull"), ContentType="application/rdf+xml")
    site.put("c/équal.png", encoded(big), {}, {"note": "second"}, ContentType="image/png")
    site.put("d/other.png", encoded(picture(2)), {"keywords": "dog"}, ContentType="image/png")
    site.put("d/third.png", encoded(picture(3)), ContentType="image/png")
    site.scan()
    return site


# ---- many groups at once ---------------------------------------------------------------------

SPACE = Space("none", "0", "none", 4)


def list_and_group(site: Site) -> None:
    """A scan that takes the bytes' digest for the picture: real sync and groups, no model."""
    request = ScanRequest(kind=Kind.FULL, source=f"s3://{site.bucket}")
    scan = begin_scan(request, site.settings)
    sync_assets(scan)
    catalog = open_catalog(site.settings)
    source = open_source(scan.source, site.settings).id
    wanted = f"source = '{source}' AND removed_at IS NULL AND skipped IS NULL"
    rows = []
    for row in catalog.read("assets", ["key", "asset_id", "revision"], wanted).iter_rows(
        named=True
    ):
        sha = hashlib.sha256(site.body(row["key"])).hexdigest()
        rows.append(
            {
                "asset_id": row["asset_id"],
                "read_revision": row["revision"],
                "sha256": sha,
                "content": sha,
                "width": 40,
                "height": 30,
                "flags": [],
                "exif": "{}",
                "xmp": "{}",
            }
        )
    space = {"space": SPACE.id, "model": "none", "revision": "0", "preprocessing": "none", "dim": 4}
    vectors = [
        {"content": sha, "vector": [1.0, 0.0, 0.0, 0.0]} for sha in {row["content"] for row in rows}
    ]
    with catalog.writing():
        said = [{"file": row["sha256"][:32], "packet": ""} for row in rows]
        catalog.upsert("packets", pa_table(said, schema.PACKETS))
        catalog.upsert("assets", pa_table(rows, schema.READING))
        catalog.upsert("spaces", pa_table([space], schema.SPACES))
        table = catalog.vectors_table(SPACE.id, SPACE.dim)
        catalog.upsert(table, pa_table(vectors, schema.embeddings(SPACE.dim)))
    group_assets(scan, SPACE)
    with catalog.writing():
        record_scan(catalog, scan, "finished", finished=now(), space=SPACE.id, counts={"seen": 0})


@pytest.fixture(scope="module")
def make_site(
    s3: Any, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Site]]:
    """Makes buckets with catalogs that several tests look at; for those that only look."""
    with sites_at(s3, tmp_path_factory, str(tiny_model)) as make:
        yield make


@pytest.fixture(scope="module")
def make_bare_site(
    s3: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Site]]:
    """The same without a model, for whoever lists alone: torch is not imported for it."""
    with sites_at(s3, tmp_path_factory, "none") as make:
        yield make


@contextmanager
def sites_at(
    s3: Any, tmp_path_factory: pytest.TempPathFactory, model: str
) -> Iterator[Callable[[str], Site]]:
    """What makes a bucket of a kind with an empty catalog, away from the user's settings."""

    def make(kind: str) -> Site:
        folder = tmp_path_factory.mktemp("site")
        settings = load_settings(
            catalog={"uri": str(folder / "catalog")},
            delivery={"folder": folder / "reports"},
            embedding={"model": model, "pooling": "cls", "device": "cpu", "decoders": 1},
        )
        name = s3.bucket(versioned=kind == "versioned") if kind != "locked" else f"lock{time_ns()}"
        if kind == "locked":
            s3.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        return Site(s3, name, settings.model_copy(update={"s3": s3.settings}))

    with undisturbed(tmp_path_factory.mktemp("cwd")):
        yield make
