"""The templates, and what lets a page's own style and script through its policy."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from reports import words


@cache
def environment() -> jinja2.Environment:
    """HTML templates escape every value: keys, tags and metadata come from strangers."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=jinja2.select_autoescape(["html"], default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "bytes": _spoken(words.human_bytes),
        "decimal": _spoken(words.decimal),
        "grouped": _spoken(words.grouped),
        "key": words.shown_key,
        "moment": words.moment,
        "reason": _spoken(words.reason_words),
        "tier": _spoken(words.tier_words),
    }
    made.globals |= {"counted": words.counted, "text": words.text}
    return made


def _spoken(tell: Callable[..., str]) -> Callable[..., str]:
    """A filter that is asked each time a page is made.

    Jinja puts constants through filters once, when it compiles a template: they would then be told
    in the language of the first page for good. What takes the context is never put in ahead.
    """

    @jinja2.pass_context
    def told(_: object, *values: Any) -> str:
        return tell(*values)

    return told


def hashed(text: str) -> str:
    """The source that lets exactly this inline text through a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def part(*names: str) -> Markup:
    """Files of templates/ as they are, one after the other: our own styles and scripts."""
    loader = environment().loader
    assert loader is not None  # noqa: S101 - set where the environment is made
    texts = [loader.get_source(environment(), name)[0] for name in names]
    return Markup("\n".join(texts))  # noqa: S704 - our own files


def data_json(value: Any) -> Markup:
    """JSON inside a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)  # noqa: S704 - has no character that means anything in HTML
