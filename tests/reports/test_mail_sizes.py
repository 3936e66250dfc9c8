"""How large mails get: prints a line a size (docs/benchmarks.md, "Mail")."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from reports.mail import HTML_LIMIT, PICTURE_LIMIT, scan_mail
from tasks.merging.rules.plan_note import GroupNote, PlanNote
from tasks.records import Receipt
from tasks.settings import MailSettings

REPORT = Receipt("report.html", "s3://bucket/reports/x/report.html", "https://x/" + "y" * 600)


def photo(seed: int) -> bytes:
    """As heavy as a thumbnail of 384 px gets: 30 to 40 kB."""
    random = np.random.default_rng(seed)
    rough = random.normal(128, 30, (256, 384, 3)) + random.normal(0, 50, (32, 48, 3)).repeat(
        8, 0
    ).repeat(8, 1)
    body = io.BytesIO()
    Image.fromarray(rough.clip(0, 255).astype(np.uint8)).save(body, "JPEG", quality=80)
    return body.getvalue()


@pytest.mark.bench
@pytest.mark.long
@pytest.mark.parametrize("groups", [100, 1_000, 10_000])
def test_sizes(make_summary, groups):
    names = [
        [f"masters/2026/shoot-{n % 40:02}/picture-{n:05}.tif"]
        + [f"web/2026/shoot-{n % 40:02}/picture-{n:05}-{m}.jpg" for m in range(1 + n % 5)]
        for n in range(groups)
    ]
    summary = make_summary(*names, tiers=("near", "exact"))
    members = summary.members.with_columns(content=pl.col("key"))
    contents = members["content"].head(1000)
    photos = [photo(seed) for seed in range(40)]
    notes = {
        name: GroupNote("quarantine", True, 1, 1500, questions=("tags.agency: a or b?",))
        for name in summary.groups["group_id"]
    }
    pages = {"anna@example.com": "https://gate.example/review/" + "t" * 300}
    plan = PlanNote("a1b2c3d4e5f6", groups, 0, 0, 0, 1, pages=pages, groups=notes)
    summary = replace(
        summary,
        plan=plan,
        members=members,
        thumbnails={name: photos[n % 40] for n, name in enumerate(contents)},
    )
    start = time.perf_counter()
    mail = scan_mail(summary, [REPORT] * 9, MailSettings(), ["anna@example.com"])
    seconds = time.perf_counter() - start
    parts = {kind: mail.get_body((kind,)).get_content() for kind in ("plain", "html")}
    images = [part.as_bytes() for part in mail.walk() if part.get_content_maintype() == "image"]
    whole = mail.as_bytes()
    print(  # noqa: T201 - this is what it is for
        f"\n{groups} groups: text {len(parts['plain'].encode()) / 1e3:.1f} kB, html "
        f"{len(parts['html'].encode()) / 1e3:.1f} kB, {len(images)} pictures "
        f"{sum(map(len, images)) / 1e6:.2f} MB, whole {len(whole) / 1e6:.2f} MB, {seconds:.2f} s"
    )
    assert len(parts["html"].encode()) <= HTML_LIMIT
    assert sum(map(len, images)) <= PICTURE_LIMIT
