"""Drawings: pages hold them as Mermaid text, the site shows them as pictures.

Mermaid's script is 3 MB, and themes load it from another host. So each drawing is drawn once,
into `docs/images/drawings`, under a name that is made of its text; a test holds that every drawing
has its picture. After a change of a drawing (with chromium and the extra ``dev``):

    npm pack mermaid@11 && tar xzf mermaid-*.tgz package/dist/mermaid.min.js
    python docs/_generate/drawings.py package/dist/mermaid.min.js
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parents[1]
PLACE = DOCS / "images" / "drawings"
_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r"^\s*accTitle:\s*(.+)$", re.MULTILINE)


def name_of(text: str) -> str:
    """The file of a drawing's picture."""
    return hashlib.sha256(text.encode()).hexdigest()[:12] + ".svg"


def drawings(docs: Path = DOCS) -> Iterator[tuple[Path, str]]:
    """Every drawing: its page and its text."""
    for path in sorted(docs.rglob("*.md")):
        for text in _BLOCK.findall(path.read_text("utf-8")):
            yield path, text


def title_of(text: str) -> str:
    """What a drawing shows, for who cannot see it; its line ``accTitle:``."""
    found = _TITLE.search(text)
    return found[1].strip() if found else ""


def with_drawings(markdown: str, page: str) -> str:
    """A page with pictures in place of its drawings' texts.

    Args:
        markdown: the page.
        page: its place below ``docs``; pictures are named from there.
    """
    up = "../" * page.count("/")

    def picture(found: re.Match[str]) -> str:
        shown = f"{up}images/drawings/{name_of(found[1])}"
        return f"![{title_of(found[1])}]({shown}){{ .drawing }}"

    return _BLOCK.sub(picture, markdown)


def draw(script: Path) -> None:
    """Draw what has no picture yet, and remove pictures that no page shows any more."""
    from playwright.sync_api import sync_playwright

    PLACE.mkdir(parents=True, exist_ok=True)
    wanted = {name_of(text): text for _, text in drawings()}
    for path in PLACE.glob("*.svg"):
        if path.name not in wanted:
            path.unlink()
    setup = {
        "startOnLoad": False,
        "theme": "neutral",
        "htmlLabels": False,  # labels of HTML are not shown in an <img>
        "flowchart": {"htmlLabels": False},
        "fontFamily": "Helvetica, Arial, sans-serif",
    }
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content("<body></body>")
        page.add_script_tag(path=str(script))
        page.evaluate(f"mermaid.initialize({json.dumps(setup)})")
        for name, text in wanted.items():
            if not (PLACE / name).exists():
                call = f"mermaid.render('d{name[:12]}', {json.dumps(text)}).then((one) => one.svg)"
                (PLACE / name).write_text(sized(page.evaluate(call)), "utf-8")
        browser.close()


def sized(svg: str) -> str:
    """A drawing in its own size; Mermaid's is as wide as the page, whatever is in it."""
    box = re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ([\d.]+)"', svg)
    if not box:
        return svg
    size = f'width="{float(box[1]):.0f}" height="{float(box[2]):.0f}"'
    return svg.replace('width="100%"', size, 1)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
