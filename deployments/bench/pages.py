"""How the report page holds up: a made-up scan of so many groups, its page, and a browser."""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageFilter

from deployments.bench.browser import open_browser
from reports.page import report_page
from tasks.records import Kind, Space
from tasks.reporting.summarize import share_out
from tasks.summary import Coverage, Summary

_START = datetime(2026, 1, 1, tzinfo=UTC)
#: Different pictures; more would only take longer to make.
_PICTURES = 60
_STEPS = 30


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening one page took.

    Attributes:
        seconds: of the processor to write the page.
        bytes: of the file.
        interactive: seconds from opening it until a key is answered.
        busy: of these, seconds of the page's main thread, whatever else the machine does.
        heap: bytes of the script's heap after the review of some groups.
        step: seconds from a key to the next group on the screen, the slowest of some.
        graph: seconds to the graph.
        pictures: how many of the members have one.
    """

    groups: int
    seconds: float
    bytes: int
    interactive: float
    busy: float
    heap: int
    step: float
    graph: float
    pictures: float


def made_up(groups: int) -> Summary:
    """A scan of so many groups of two to four files."""
    random = np.random.default_rng(7)
    members: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for number in range(groups):
        name, near = f"g{number:015x}", bool(random.random() < 0.6)
        found = [_member(number, copy, near) for copy in range(int(random.integers(2, 5)))]
        sizes = [row["size"] for row in found]
        rows.append(
            {
                "group_id": name,
                "state": ("new", "changed", "known")[number % 3],
                "tier": "near" if near else "exact",
                "size": len(found),
                "bytes": sum(sizes),
                "savings": sum(sizes[1:]),
                "score": 0.91 if near else 0.97,
                "keeper": found[0]["key"],
            }
        )
        members += [row | {"group_id": name} for row in found]
        pairs += [_pair(found[0], row) for row in found[1:]]
    frame = pl.DataFrame(members, schema_overrides={"quality": pl.Int32, "label": pl.String})
    large, small = share_out(_pictures(frame), 500)
    described = frame.select(
        "asset_id",
        tags=pl.lit('{"agency":"north","licence":"editorial","project":"p3"}'),
        metadata=pl.lit('{"uploader":"user2"}'),
        xmp=pl.lit(None, pl.String),
        sidecar_xmp=pl.lit(None, pl.String),
        exif=pl.lit(None, pl.String),
    )
    outcomes = pl.DataFrame(
        {"key": ["a.pdf"], "outcome": ["skipped"], "reason": ["format_pdf"], "message": [""]}
    )
    return Summary(
        scan_id=f"bench-{groups}",
        kind=Kind.FULL,
        collection="bench",
        source="s3://bench",
        where="",
        threshold=0.7,
        dry_run=False,
        started=_START,
        finished=_START,
        coverage=Coverage(frame.height + 1, frame.height, {"format_pdf": 1}, {}, outcomes),
        counts={"seen": frame.height + 1},
        space=Space("model", "revision", "squeeze", 8),
        versions={"dam-dedup": "bench"},
        groups=pl.DataFrame(rows),
        members=frame,
        pairs=pl.DataFrame(pairs),
        thumbnails=large,
        small=small,
        described=described,
        links=pl.DataFrame(schema={"left": pl.String, "right": pl.String, "reason": pl.String}),
    )


def measure(groups: int) -> Opened:
    """Write the page of a made-up scan and open it.

    Raises:
        SettingsError: where there is no Chromium, or nothing to drive it.
    """
    summary = made_up(groups)
    start = time.process_time()
    body = report_page(summary).body
    seconds = time.process_time() - start
    shown = len(summary.thumbnails) + len(summary.small)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_bytes(body)
        interactive, busy, heap, step, graph = _drive(file)
    return Opened(
        groups,
        seconds,
        len(body),
        interactive,
        busy,
        heap,
        step,
        graph,
        shown / max(1, summary.members["content"].n_unique()),
    )


def _drive(file: Path) -> tuple[float, float, int, float, float]:
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        start = time.perf_counter()
        page.goto(file.as_uri())
        page.keyboard.press("j")  # is answered: the page is interactive
        page.wait_for_selector("#group[data-group]")
        interactive = time.perf_counter() - start
        metrics = session.send("Performance.getMetrics")["metrics"]
        busy = next(one["value"] for one in metrics if one["name"] == "TaskDuration")
        steps = page.evaluate(
            """async (times) => {
              const found = [];
              for (let n = 0; n < times; n += 1) {
                const start = performance.now();
                dispatchEvent(new KeyboardEvent("keydown", { key: n % 3 ? "j" : "a" }));
                await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
                found.push(performance.now() - start);
              }
              return found;
            }""",
            _STEPS,
        )
        start = time.perf_counter()
        page.evaluate("location.hash = 'graph'")
        page.wait_for_selector(".star")
        graph = time.perf_counter() - start
        session.send("HeapProfiler.collectGarbage")
        heap = session.send("Runtime.getHeapUsage")["usedSize"]
        browser.close()
    return interactive, busy, int(heap), max(steps) / 1000, graph


def _member(group: int, copy: int, near: bool) -> dict[str, Any]:
    folder = ("masters/2026/spring", "web/shop/en", "social/campaign", "agency/north")[copy]
    less = 2**copy
    return {
        "asset_id": f"{group:024x}{copy:08x}",
        "key": f"{folder}/product {group:06} view {copy}.jpg",
        "content": f"c{group}-{copy if near else 0}",
        "role": "duplicate" if copy else "keeper",
        "tier": "near" if near and copy else "exact",
        "score": 0.91 if near and copy else 1.0,
        "sha256": f"{group:064x}",
        "size": (9_000_000 + 1013 * (group % 977)) // less,
        "width": 6000 // less,
        "height": 4000 // less,
        "format": "jpeg",
        "quality": 90,
        "label": None,
        "last_modified": _START + timedelta(hours=group % 6000),
        "flags": [],
    }


def _pair(keeper: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    share = 0.81
    evidence = {
        "method": "features",
        "scale": 1.11,
        "rotation": 0.4,
        "mirrored": False,
        "aspect": 1.0,
        "shear": 0.0,
        "share_left": share,
        "share_right": 1.0,
        "box_left": [0.048, 0.047, 0.952, 0.953],
        "box_right": [0, 0, 1, 1],
        "inliers": 140,
        "matches": 160,
        "others": 3,
        "residual": 0.4,
        "agree": 0.99,
        "agree_else": 0.99,
        "fine": 0.9,
        "texture": 0.7,
        "parallax": 0.1,
        "covered": 0.03,
        "covered_at": [0.8, 0.9],
        "gain": 0.2,
        "contrast": 1.0,
        "saturation": 1.0,
        "hue_error": 0.1,
        "tint": 0.2,
        "sharpness": 1.0,
        "ink": 0.0,
    }
    equal = row["content"] == keeper["content"]
    flipped = keeper["key"] > row["key"]
    left, right = sorted((keeper["key"], row["key"]))
    return {
        "left": left,
        "right": right,
        "score": row["score"],
        "tier": row["tier"],
        "relation": "duplicate",
        "changes": "same pixels" if equal else "cropped to 81% of the picture, scaled 0.5x",
        "original": "either" if equal else ("right" if flipped else "left"),
        "reasons": "" if equal else "higher resolution (6000 x 4000 against 3000 x 2000)",
        "flipped": flipped,
        "evidence": None if equal else json.dumps(evidence),
    }


def _pictures(members: pl.DataFrame) -> Iterator[tuple[str, int, bytes]]:
    random = np.random.default_rng(11)
    made = []
    for _ in range(_PICTURES):
        rough = random.integers(0, 255, (20, 30, 3), dtype=np.uint8)
        image = Image.fromarray(rough).resize((384, 256), Image.Resampling.BICUBIC)
        grain = Image.effect_noise((384, 256), 40).convert("RGB").filter(ImageFilter.BoxBlur(1))
        buffer = io.BytesIO()
        Image.blend(image, grain, 0.25).save(buffer, "JPEG", quality=85)
        made.append(buffer.getvalue())
    seen: set[str] = set()
    homes = {name: at for at, name in enumerate(members["group_id"].unique(maintain_order=True))}
    for name, content in members.select("group_id", "content").iter_rows():
        if content not in seen:
            seen.add(content)
            yield content, homes[name], made[len(seen) % _PICTURES]
