"""Takes the site's screenshots, of a demo that was left running.

    dam-dedup demo --keep
    python docs/_generate/screenshots.py var/demo

Needs Debian's chromium and the extra ``dev``. What is shown is the demo's small DAM alone; the gate
is started here, with a secret of its own, and stopped again. Half of the groups are merged for the
page that shows it, and put back.
"""

from __future__ import annotations

import email
import email.policy
import io
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

PLACE = Path(__file__).parents[1] / "images" / "screens"
CHROMIUM = "/usr/bin/chromium"
#: CSS pixels of the window; most pages are made for a laptop.
SIZE = {"width": 1280, "height": 800}
#: Screenshots are photographs of pages: WebP of this quality is a tenth of PNG's size.
QUALITY = 80


def main(demo: Path) -> None:
    """Take all of them.

    Args:
        demo: the folder of a demo that was left running with ``--keep``.
    """
    from playwright.sync_api import sync_playwright

    PLACE.mkdir(parents=True, exist_ok=True)
    env = environment(demo)
    with sync_playwright() as play, serving(env) as gate:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        report(page, demo)
        mailed(page, demo)
        pages(page, env | gate)
        prefect(page, env)
        browser.close()


def environment(demo: Path) -> dict[str, str]:
    """The settings that the demo's own worker has."""
    stack = json.loads((demo / "stack" / "stack.json").read_text())["env"]
    catalog = sorted((demo / "catalogs").iterdir())[-1]
    return {
        **os.environ,
        **stack,
        "DAM_DEDUP_COLLECTION": "demo",
        "DAM_DEDUP_SOURCE__URI": f"s3://{catalog.name}",
        "DAM_DEDUP_CATALOG__URI": str(catalog),
        "DAM_DEDUP_MERGE__POLICY": str(demo / "policy.yaml"),
    }


@contextmanager
def serving(env: dict[str, str]) -> Iterator[dict[str, str]]:
    """A gate over the demo's catalog; gives the settings that its links need."""
    port = "18088"
    own = {
        "DAM_DEDUP_MERGE__SECRET": secrets.token_hex(16),
        "DAM_DEDUP_MERGE__GATE_URL": f"http://127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "deployments.cli", "gate", "--port", port]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, env=env | own, stdout=log, stderr=log) as process,
    ):
        try:
            until_ready(f"http://127.0.0.1:{port}/health")
            yield own
        finally:
            process.terminate()


def until_ready(url: str) -> None:
    """Wait for a server to answer, three minutes at most."""
    for _ in range(360):
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise SystemExit(f"{url} does not answer")


def save(page: Any, name: str, height: int | None = None) -> None:
    """A screenshot of the window as WebP; ``height``: of its upper part, in CSS pixels."""
    clip = {"x": 0, "y": 0, "width": SIZE["width"], "height": height or SIZE["height"]}
    shot = page.screenshot(clip=clip)
    Image.open(io.BytesIO(shot)).convert("RGB").save(
        PLACE / f"{name}.webp", quality=QUALITY, method=6
    )
    print(name, (PLACE / f"{name}.webp").stat().st_size)


def report(page: Any, demo: Path) -> None:
    """The report page of the last scan: its beginning, a group, the light table, the batches."""
    folder = sorted((demo / "reports").iterdir())[-1]
    groups = json.loads((folder / "groups.json").read_text())["groups"]
    cup = next(one["id"] for one in groups if "coffee" in one["members"][0]["key"])
    for name, place, key in (
        ("report", "", None),
        ("report-group", f"#{cup}", None),
        ("light-table", f"#{cup}", "t"),
        ("batches", "", "v"),
    ):
        page.goto("about:blank")
        page.goto((folder / "report.html").as_uri() + place)
        page.wait_for_timeout(1500)
        if key:
            page.keyboard.press(key)
            page.wait_for_timeout(1500)
        save(page, name)


def mailed(page: Any, demo: Path) -> None:
    """The mail after the first scan, as a mail program shows it."""
    path = sorted((demo / "stack" / "mail").glob("*.eml"))[0]
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    text = mail.get_body(("html",)).get_content()
    for part in mail.walk():
        if part["Content-ID"]:
            place = Path(tempfile.gettempdir()) / f"dam-dedup-{part['Content-ID'].strip('<>')}"
            place.write_bytes(part.get_payload(decode=True))
            text = text.replace(f"cid:{part['Content-ID'].strip('<>')}", place.as_uri())
    with tempfile.NamedTemporaryFile("w", suffix=".html") as file:
        file.write(text)
        file.flush()
        page.goto(Path(file.name).as_uri())
        page.wait_for_timeout(1000)
        save(page, "mail")


def pages(page: Any, env: dict[str, str]) -> None:
    """The signed pages: a plan to decide on, and what was merged."""
    plan = json.loads(told(env, "plan", "make", "--again", "--json"))
    groups = [
        one["group_id"] for one in plan["groups"] if one["operations"] and not one["questions"]
    ]
    half = ",".join(groups[::2])
    page.goto(told(env, "link", plan["plan"], "--reviewer", "anna@example.test"))
    page.wait_for_timeout(3000)
    save(page, "review")
    told(env, "approve", plan["plan"], "--by", "anna", "--groups", half)
    told(env, "merge", plan["plan"], "--by", "anna")
    try:
        page.goto(told(env, "link", plan["plan"], "--reviewer", "anna@example.test", "--done"))
        page.locator("h1").first.wait_for(timeout=120_000)
        page.wait_for_timeout(3000)
        save(page, "done")
    finally:
        told(env, "undo", plan["plan"], "--by", "anna")


def told(env: dict[str, str], *words: str) -> str:
    """What a command prints on standard output."""
    command = [sys.executable, "-m", "deployments.cli", *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"dam-dedup {' '.join(words)}: {done.stderr}")
    return done.stdout.strip()


def prefect(page: Any, env: dict[str, str]) -> None:
    """Prefect's pages: deployments, the form of a scan, a scan's run, the form of a decision."""
    api, ui = env["PREFECT_API_URL"], env["PREFECT_UI_URL"]
    page.goto(f"{ui}/deployments")
    page.get_by_text("Demo: scan now").first.wait_for(timeout=60_000)
    page.wait_for_timeout(2000)
    save(page, "deployments")
    for name, deployment in (
        ("scan-form", "full-scan/Demo: full scan now"),
        ("decide-form", "merge-plan/Demo: decide on a merge plan"),
    ):
        found = asked(f"{api}/deployments/name/{urllib.request.quote(deployment)}")
        page.goto(f"{ui}/deployments/deployment/{found['id']}/run")
        page.locator("textarea, input").first.wait_for(timeout=60_000)
        page.wait_for_timeout(3000)
        page.set_viewport_size({"width": SIZE["width"], "height": 1400})
        page.wait_for_timeout(1500)
        save(page, name, 1400)
        page.set_viewport_size(SIZE)
    runs = asked(f"{api}/flow_runs/filter", {"sort": "START_TIME_DESC"})
    scan = next(run for run in runs if re.search(r"full", run["name"]))
    page.goto(f"{ui}/runs/flow-run/{scan['id']}?tab=Artifacts")
    page.wait_for_timeout(6000)
    save(page, "run")


def asked(url: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON that Prefect's API answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
