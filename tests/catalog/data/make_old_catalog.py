"""Makes ``schema2.tar.gz``: a catalog and its bucket as the first release (schema 2) wrote them.

It runs against a checkout of that release, never against the present code:

    git worktree add /tmp/old 3768f66
    PYTHONPATH=/tmp/old python tests/catalog/data/make_old_catalog.py tests/catalog/data

The archive holds ``catalog/`` (LanceDB tables), ``bucket/`` (the objects' bytes, in files named by
number), ``bucket.json`` (their keys, tags, metadata and headers), and ``told.json``: what the
release said of its own catalog, which a later release must still say. The bucket keeps no versions,
so that the same bytes uploaded to another server have the same ETags.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import numpy as np
from botocore.config import Config
from PIL import Image

BUCKET = "old-release"
POLICY = """
version: 1
name: archive
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, tier: [exact, near], action: quarantine}
ingest:
  rules:
    - {name: nothing twice, tier: exact, action: ask}
alerts:
  - name: agency against archive
    left: {where: "prefix = 'agency/'"}
    right: {where: "prefix = 'archive/'"}
"""
SIDECAR = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>harbour</rdf:li></rdf:Bag>
</dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def picture(seed: int, width: int = 200, kind: str = "JPEG", **options: Any) -> bytes:
    """An encoded picture; the same seed shows the same thing."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((200, 150), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.resize((width, width * 3 // 4)).save(buffer, kind, **options)
    return buffer.getvalue()


class Maker:
    """The old release's console command, and the bucket that it works on."""

    def __init__(self, folder: Path, client: Any, env: dict[str, str]) -> None:
        self.folder, self.client, self.env = folder, client, env

    def put(
        self,
        key: str,
        body: bytes,
        tags: dict[str, str] | None = None,
        metadata: dict[str, str] | None = None,
        kind: str = "image/jpeg",
    ) -> None:
        """Upload an object."""
        self.client.put_object(
            Bucket=BUCKET,
            Key=key,
            Body=body,
            Tagging=urlencode(tags or {}),
            Metadata=metadata or {},
            ContentType=kind,
        )

    def run(self, *words: str, given: str = "", codes: tuple[int, ...] = (0,)) -> Any:
        """What a command prints, as JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "deployments.cli", *words, "--json"],
            env=self.env,
            cwd=self.folder,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        sys.stderr.write(f"{' '.join(words)} -> {done.returncode}\n")
        if done.returncode not in codes:
            raise SystemExit(done.stderr[-3000:])
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    def objects(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Every object of the bucket: what it is, and its bytes."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        for key in sorted(item["Key"] for page in pages for item in page["Contents"]):
            got = self.client.get_object(Bucket=BUCKET, Key=key)
            tags = self.client.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]
            row = {
                "key": key,
                "etag": got["ETag"],
                "tags": {tag["Key"]: tag["Value"] for tag in tags},
                "metadata": got["Metadata"],
                "content_type": got["ContentType"],
            }
            yield row, got["Body"].read()


def fill(maker: Maker) -> dict[str, Any]:
    """Everything that the catalog is to hold, in the order in which it came about."""
    source = f"s3://{BUCKET}"
    # A group that is merged: bytes twice, and a smaller copy with a sidecar and words of its own.
    maker.put("a/big.jpg", picture(1, quality=92), {"owner": "north"}, {"shot": "7"})
    maker.put("a/same.jpg", picture(1, quality=92), {"keywords": "sea"}, {"client": "acme"})
    maker.put("b/small.jpg", picture(1, 160, quality=80), {"agency": "x y"})
    maker.put("b/small.xmp", SIDECAR, kind="application/rdf+xml")
    maker.put("archive/one.jpg", picture(2, quality=90))
    maker.put("archive/two.jpg", picture(3, quality=90))
    first = maker.run("scan", "--kind", "full", "--source", source)
    merged = maker.run("plan", "list")[-1]["plan_id"]
    maker.run("approve", merged, "--by", "anna", "--comment", "seen", "--accept-questions")
    maker.run("merge", merged, "--by", "anna")

    # What comes next: two groups for a plan that stays open, two pairs that people judge.
    maker.put("c/open.jpg", picture(4, quality=92), {"owner": "south"})
    maker.put("c/open copy.jpg", picture(4, 160, quality=85), {"keywords": "dune"})
    maker.put("c/second.png", picture(5, 120, "PNG"), kind="image/png")
    maker.put("c/second.jpg", picture(5, 120, quality=95))
    maker.put("d/left.jpg", picture(6, quality=92))
    maker.put("d/right.jpg", picture(6, 160, quality=80))
    maker.put("agency/taken.jpg", picture(2, 180, quality=85))
    second = maker.run("scan", "--source", source)
    maker.run("verdict", "d/left.jpg", "d/right.jpg", "distinct", "--by", "ben")
    maker.run("verdict", "archive/one.jpg", "archive/two.jpg", "linked", "--by", "ben")
    blocked = "archive/two.jpg"
    maker.run("blocklist", "add", blocked, "--reason", "rights", "--rule", "stock", "--by", "anna")
    filters = ("--where", "prefix = 'agency/'", "--across", "prefix = 'archive/'")
    crossed = maker.run("scan", "--source", source, *filters)
    upload = maker.folder / "upload.jpg"
    upload.write_bytes(picture(4, quality=92))
    asked = maker.run(
        "ingest", "put", "e/upload.jpg", str(upload), "--source", source, codes=(0, 4)
    )
    event = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": {"name": BUCKET},
            "object": {"key": "c/second.jpg", "sequencer": "0055AED6DCD90281E5"},
        },
    }
    maker.run("events", "-", "--source", source, given=json.dumps({"Records": [event]}))
    # The last scan puts vectors into inverted lists, as a collection beyond 100,000 would.
    last = maker.run("scan", "--source", source, "--mode", "balanced")
    opened = maker.run("plan", "list")[-1]["plan_id"]
    scans = [one["scan_id"] for one in maker.run("history")]
    return {
        "commit": "3768f66",
        "schema": 2,
        "bucket": BUCKET,
        "policy": POLICY,
        "merged": merged,
        "open": opened,
        "scans": scans,
        "first": first,
        "second": second,
        "crossed": crossed,
        "last": last,
        "upload": asked,
        "history": maker.run("history"),
        "plans": {name: maker.run("plan", "show", name) for name in (merged, opened)},
        "reports": {name: maker.run("report", name) for name in scans},
        "audit": maker.run("audit"),
        "alerts": maker.run("alerts"),
        "quarantine": maker.run("quarantine", "list"),
        "questions": maker.run("ingest", "list", "--all"),
        "blocklist": maker.run("blocklist", "list"),
    }


def pack(maker: Maker, told: dict[str, Any], to: Path) -> None:
    """Write the archive."""
    rows = []
    (maker.folder / "bucket").mkdir()
    for number, (row, body) in enumerate(maker.objects()):
        (maker.folder / "bucket" / str(number)).write_bytes(body)
        rows.append(row | {"file": f"bucket/{number}"})
    (maker.folder / "bucket.json").write_text(json.dumps(rows, indent=1))
    (maker.folder / "told.json").write_text(json.dumps(told, indent=1))
    with tarfile.open(to / "schema2.tar.gz", "w:gz") as archive:
        for name in ("catalog", "bucket", "bucket.json", "told.json"):
            archive.add(maker.folder / name, name, filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if Path(entry.name).name.startswith("."):  # locks
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def main(to: Path) -> None:
    """Start the old release's S3 server, fill catalog and bucket, write the archive."""
    from deployments.processes import launch, marked, stop  # type: ignore[import-not-found]

    from deployments import services, stack  # type: ignore[attr-defined]

    with tempfile.TemporaryDirectory() as name:
        server, folder = Path(name) / "server", Path(name) / "work"
        (server / "s3").mkdir(parents=True)
        folder.mkdir()
        keys, ports = stack._identity(server)
        env = services.exports(server, keys, ports)
        command = services.server_commands(server, ports)["s3"]
        try:
            service = launch(
                "s3", command, folder=server, env=services.inside(env), cwd=server, port=ports["s3"]
            )
            stack._await(service, env, time.monotonic() + 60, print)
            client = boto3.client(
                "s3",
                endpoint_url=env["AWS_ENDPOINT_URL_S3"],
                region_name="us-east-1",
                aws_access_key_id=keys["access_key"],
                aws_secret_access_key=keys["secret_key"],
                config=Config(s3={"addressing_style": "path"}),
            )
            client.create_bucket(Bucket=BUCKET)
            (folder / "policy.yaml").write_text(POLICY)
            ours = {
                "AWS_ACCESS_KEY_ID": keys["access_key"],
                "AWS_SECRET_ACCESS_KEY": keys["secret_key"],
                "DAM_DEDUP_S3__ENDPOINT_URL": env["AWS_ENDPOINT_URL_S3"],
                "DAM_DEDUP_S3__PATH_STYLE": "true",
                "DAM_DEDUP_S3__REGION": "us-east-1",
                "DAM_DEDUP_CATALOG__URI": str(folder / "catalog"),
                "DAM_DEDUP_DELIVERY__FOLDER": str(folder / "reports"),
                "DAM_DEDUP_MERGE__POLICY": str(folder / "policy.yaml"),
            }
            kept = {k: v for k, v in os.environ.items() if not k.startswith(("DAM_DEDUP_", "AWS_"))}
            maker = Maker(folder, client, kept | ours)
            pack(maker, fill(maker), to)
        finally:
            stop(marked(server), grace=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
