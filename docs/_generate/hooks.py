"""What mkdocs calls while it builds the site (mkdocs.yml names this file)."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # mkdocs is called as a program: this folder is not where it looks

from docs._generate.drawings import with_drawings  # noqa: E402


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are written from the program, and the list of decisions."""
    from mkdocs.structure.files import File

    from docs._generate import pages

    for place, content in (
        ("reference/settings.md", pages.settings_page()),
        ("reference/commands.md", pages.commands_page()),
        ("reference/http.md", pages.routes_page()),
        ("adr/index.md", decisions_page()),
    ):
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the drawn picture where a page has the drawing's text."""
    return with_drawings(markdown, page.file.src_uri)


def decisions_page() -> str:
    """Markdown: every ADR by its title, in their order."""
    lines = [
        "# Decisions",
        "",
        "Why it is built so, each with the alternatives that were looked at.",
        "[Design](../design.md) says how it works.",
        "",
    ]
    for path in sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")):
        title = re.search(r"^# (.+)$", path.read_text("utf-8"), re.MULTILINE)
        lines.append(f"- [{title[1] if title else path.stem}]({path.name})")
    return "\n".join(lines) + "\n"


#: The one script that the theme loads from another host, for the search in a site that is read from
#: a folder, and where its copy (iframe-worker 1.0.4, MIT) lies in the site.
_SHIM = "https://unpkg.com/iframe-worker/shim"
_OWN_SHIM = "javascripts/iframe-worker.js"


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that loads something from another host: the site works offline.

    Raises:
        PluginError: naming what is loaded.
    """
    from mkdocs.exceptions import PluginError

    output = output.replace(_SHIM, "../" * page.url.count("/") + _OWN_SHIM)
    found = loaded_from_elsewhere(output)
    if found:
        raise PluginError(f"{page.file.src_uri} loads {', '.join(found)}")
    return output


def loaded_from_elsewhere(html: str) -> list[str]:
    """Addresses of other hosts that a page loads by itself; links to be clicked are none."""
    tags = re.findall(r"<(?:script|link|img|iframe|source|video)\b[^>]*>", html)
    inside = (re.search(r'(?:src|href)="((?:https?:)?//[^"]+)"', tag) for tag in tags)
    return [one[1] for one in inside if one] + re.findall(
        r"url\(['\"]?((?:https?:)?//[^)'\"]+)", html
    )
