"""The gate's routes, for people: drawn from the OpenAPI document, without a script."""

from __future__ import annotations

import json
from typing import Any

from reports.review import render_page


def api_page(document: dict[str, Any]) -> bytes:
    """The page, as HTML.

    Args:
        document: the OpenAPI document.
    """
    routes = [
        _route(path, method, said)
        for path, methods in document.get("paths", {}).items()
        for method, said in methods.items()
    ]
    tags = list(dict.fromkeys(route["tag"] for route in routes))
    return render_page(
        "api.html",
        title=document["info"]["title"],
        description=document["info"].get("description", ""),
        sections=[(tag, [route for route in routes if route["tag"] == tag]) for tag in tags],
    )


def _route(path: str, method: str, said: dict[str, Any]) -> dict[str, Any]:
    bodies = said.get("requestBody", {}).get("content", {})
    answer = said.get("responses", {}).get("200", {}).get("content", {})
    return {
        "tag": (said.get("tags") or ["other"])[0],
        "path": path,
        "method": method.upper(),
        "summary": said.get("summary", ""),
        "text": said.get("description", "").strip(),
        "parameters": [
            {
                "name": one["name"],
                "where": one["in"],
                "text": one.get("description") or one["schema"].get("description", ""),
                "example": _example(one),
            }
            for one in said.get("parameters", [])
        ],
        "bodies": [(kind, _shown(body.get("example"))) for kind, body in bodies.items()],
        "answer": next((_shown(body.get("example")) for body in answer.values()), ""),
        "problems": sorted(code for code in said.get("responses", {}) if code >= "400"),
    }


def _example(parameter: dict[str, Any]) -> str:
    examples = parameter["schema"].get("examples") or [parameter.get("example")]
    value = examples[0]
    while isinstance(value, list):
        value = value[0] if value else None
    return "" if value is None else str(value)


def _shown(example: Any) -> str:
    return "" if example is None else json.dumps(example, indent=2, ensure_ascii=False)
