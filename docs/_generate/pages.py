"""Pages of the site that are written from the program itself: settings, commands, HTTP routes.

They are made at each build and committed nowhere: a setting, an option or a route has one place,
and a page that is made from it cannot be out of date.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

#: How the examples in a command's help begin (deployments/cli/help_pages.py shows them unwrapped).
PROGRAMS = ("dam-dedup ", "curl ", "aws ", "eval ", "PREFECT_API_URL=")
#: What each part of the settings is about, as the heading of its table; in the settings' order.
PARTS = {
    "source": "The source",
    "s3": "S3",
    "limits": "Limits of one image",
    "embedding": "The embedding model",
    "match": "Matching",
    "catalog": "The catalog",
    "delivery": "Delivery of reports",
    "mail": "Mail",
    "merge": "Merging",
    "gate": "The gate",
    "alarms": "Alarms",
}


def settings_page() -> str:
    """Markdown: a table of variables for each part of the settings, with meaning and default."""
    from tasks.settings import PREFIX, Settings

    lines = [
        "# All settings",
        "",
        "Written from the program at each build of this site; `dam-dedup settings` prints the same",
        "for the release that you have, and `dam-dedup settings --effective` what is in force and",
        "where each value came from. How settings are given, and the tasks that need them:",
        "[configuration](../configuration.md).",
        "",
        "Numbers are written plainly, lists separated by commas or as JSON, tables as JSON.",
    ]
    plain, parts = [], list[tuple[str, type[BaseModel]]]()
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            parts.append((name, kind))
        elif not field.exclude:
            plain.append((name, field))
    lines += [
        "",
        "## The collection",
        "",
        *_rows([(PREFIX + name, field) for name, field in plain]),
    ]
    for name, kind in parts:
        inner = [
            (f"{PREFIX}{name}__{field}", info)
            for field, info in kind.model_fields.items()
            if not info.exclude
        ]
        heading = PARTS.get(name, name.replace("_", " ").capitalize())
        lines += ["", f"## {heading}", "", *_rows(inner)]
    return "\n".join(lines) + "\n"


def _rows(fields: list[tuple[str, FieldInfo]]) -> Iterator[str]:
    yield "| variable | means | default |"
    yield "|---|---|---|"
    for name, field in fields:
        means = _cell(field.description or "")
        yield f"| `{name.upper()}` | {means} | {_default(field)} |"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value in (None, "", {}, [], ()):
        return "none"
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    return f"`{value}`"


def _cell(text: str) -> str:
    """A text inside a table: on one line, its bars and angle brackets as they are."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def commands_page() -> str:
    """Markdown: every command with its help, arguments and options, under the help's panels."""
    from typer.main import get_command

    from deployments.cli.help_pages import PANELS
    from deployments.cli.main import app

    root: Any = get_command(app)
    panels: dict[str, list[tuple[str, Any]]] = {panel: [] for panel in PANELS}
    for name, command in root.commands.items():
        if not command.hidden:
            panels[command.rich_help_panel].append((name, command))
    lines = [
        "# All commands",
        "",
        "Written from the program at each build of this site; `dam-dedup COMMAND --help` says the",
        "same for the release that you have.",
        "",
        "Options of the program itself stand before the command:",
        "",
        *_options(root),
        "",
        "What exit codes mean: [configuration](../configuration.md#exit-codes).",
    ]
    for panel, commands in panels.items():
        lines += ["", f"## {panel}"]
        for name, command in commands:
            lines += _command(f"dam-dedup {name}", command, "###")
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any, mark: str) -> Iterator[str]:
    yield from ("", f"{mark} {name}", "")
    yield from _help(command.help or "")
    inner = getattr(command, "commands", None)
    if inner:
        for word, one in inner.items():
            if not one.hidden:
                yield from _command(f"{name} {word}", one, mark + "#")
        return
    usage = command.get_usage(_context(command, name)).removeprefix("Usage: ")
    yield from ("", "```text", *usage.splitlines(), "```", "", *_options(command))


def _context(command: Any, name: str) -> Any:
    from typer import Context

    return Context(command, info_name=name, terminal_width=100, max_content_width=100)


def _help(text: str) -> Iterator[str]:
    """A help text as Markdown: examples become blocks, paragraphs stay."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines = [line.strip() for line in paragraph.split("\n")]
        if lines[0].startswith(PROGRAMS):
            yield from ("", "```console", *lines, "```", "")
        else:
            yield from (*(line.replace("<", "&lt;").replace("*", "\\*") for line in lines), "")


def _options(command: Any) -> Iterator[str]:
    """A table of arguments and options, without --help, which all have."""
    context = _context(command, "")
    rows = []
    for param in command.params:
        record = param.get_help_record(context)
        if record is None or param.name == "help":
            continue
        word, said = record
        more = " May be given several times." if getattr(param, "multiple", False) else ""
        rows.append(f"| `{word}` | {_cell(said + more)} |")
    if rows:
        yield from ("| argument, option | means |", "|---|---|", *rows)


def routes_page() -> str:
    """Markdown: the gate's routes, from its OpenAPI document."""
    document = openapi()
    lines = [
        "# HTTP API",
        "",
        "Written from the gate's own OpenAPI document at each build of this site. A running gate",
        "shows the same at `/docs`, with examples, and as JSON at `/openapi.json`. What the",
        "routes are for, who may ask and what is too much: [the gate](../gate.md).",
        "",
    ]
    about = document.get("info", {}).get("description")
    lines += [about, ""] if about else []
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            lines += _route(method.upper(), path, route, document)
    return "\n".join(lines) + "\n"


def openapi() -> dict[str, Any]:
    """The OpenAPI document as a gate with default settings serves it."""
    from deployments.gate import schemas
    from deployments.gate.app import create_app
    from tasks.settings import Settings

    settings = Settings()
    return schemas.finish(create_app(settings).openapi(), settings)


def _route(
    method: str, path: str, route: dict[str, Any], document: dict[str, Any]
) -> Iterator[str]:
    yield from (f"## {method} {path.replace('{', chr(92) + '{')}", "")
    told = [route.get("summary", ""), route.get("description", "")]
    for text in told:
        if text:
            yield from (inspect.cleandoc(text).replace("<", "&lt;"), "")
    parameters = route.get("parameters", [])
    if parameters:
        yield from ("| parameter | in | means |", "|---|---|---|")
        for one in parameters:
            one = _followed(one, document)
            schema = one.get("schema", {})
            means = _cell(one.get("description") or schema.get("description") or "")
            need = " (required)" if one.get("required") else ""
            yield f"| `{one['name']}` | {one['in']} | {means}{need}{_limits(schema)} |"
        yield ""
    body = _followed(route.get("requestBody", {}), document)
    if body.get("content"):
        kinds = ", ".join(f"`{kind}`" for kind in body["content"])
        yield from (f"Body: {kinds}.", "")
    yield from ("| answer | means |", "|---|---|")
    for code, answer in route.get("responses", {}).items():
        answer = _followed(answer, document)
        yield f"| {code} | {_cell(answer.get('description', ''))} |"
    yield ""
    example = _example(route, document)
    if example is not None:
        yield from ("```json", json.dumps(example, indent=1, ensure_ascii=False), "```", "")


def _followed(node: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """What a ``$ref`` refers to, or the node itself."""
    if "$ref" not in node:
        return node
    found: Any = document
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def _limits(schema: dict[str, Any]) -> str:
    known = {"minimum": ">=", "maximum": "<="}
    said = [f"{sign} {schema[name]:g}" for name, sign in known.items() if name in schema]
    if schema.get("enum"):
        said.append("one of " + ", ".join(f"`{one}`" for one in schema["enum"]))
    if schema.get("default") not in (None, [], ""):
        said.append(f"default: `{schema['default']}`")
    return f" ({'; '.join(said)})" if said else ""


def _example(route: dict[str, Any], document: dict[str, Any]) -> Any:
    """The first example of an answer of 200, where the document has one."""
    answer = _followed(route.get("responses", {}).get("200", {}), document)
    for media in answer.get("content", {}).values():
        if "example" in media:
            return media["example"]
        schema = _followed(media.get("schema", {}), document)
        if schema.get("example") or schema.get("examples"):
            return schema.get("example") or schema["examples"][0]
    return None
