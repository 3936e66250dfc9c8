"""The browser in which pages are measured: Debian's Chromium, without a window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.errors import SettingsError

_CHROMIUM = Path("/usr/bin/chromium")


def need_browser() -> Callable[[], Any]:
    """What starts a browser's driver; asked before work of minutes whose end needs it.

    Raises:
        SettingsError: where there is no Chromium, or nothing to drive it.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise SettingsError("install the development tools: pip install -e .[dev]") from error
    if not _CHROMIUM.exists():
        raise SettingsError(f"there is no {_CHROMIUM}: apt install chromium")
    return sync_playwright


@contextmanager
def open_browser() -> Iterator[Any]:
    """A running Chromium.

    Raises:
        SettingsError: where there is none, or nothing to drive it.
    """
    with need_browser()() as play:
        yield play.chromium.launch(executable_path=str(_CHROMIUM), args=["--no-sandbox"])
