"""What the OpenAPI document says beyond the types of the routes: bodies, answers, examples."""

from __future__ import annotations

from typing import Any

from tasks.settings import Settings

DESCRIPTION = (
    "Check before you add: is this image already in the collection? Every match is verified on "
    "the pixels and carries a score, a tier and its evidence. Ask with the header X-API-Key "
    "where the gate has keys."
)

_IMAGE = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
_FOUND = {
    "asset_id": "5d0c9a8f3e7b41c2a6d80f9b1e2c3d4a",
    "key": "masters/boots.tif",
    "source": "s3://dam",
    "score": 0.98,
    "tier": "exact",
    "relation": "verified",
    "changes": "scaled to 50 %",
    "verdict": "",
}
_PROBLEM = {
    "type": "object",
    "properties": {
        "error": {"type": ["string", "object"]},
        "detail": {"type": "string"},
        "remedy": {"type": "string"},
        "responseHeader": {"type": "object"},
    },
    "required": ["error", "detail", "remedy"],
}


def _json(schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    found: dict[str, Any] = {"schema": schema}
    if example is not None:
        found["example"] = example
    return {"application/json": found}


def _answer(description: str, schema: dict[str, Any], example: Any) -> dict[int | str, Any]:
    return {200: {"description": description, "content": _json(schema, example)}}


def _problem(description: str, error: str, detail: str, remedy: str) -> dict[str, Any]:
    example = {"error": error, "detail": detail, "remedy": remedy}
    return {"description": description, "content": _json(_PROBLEM, example)}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: _problem(
        "The request is wrong", "wrong_filter", "unknown column 'lable'", "Correct the filter"
    ),
    401: _problem(
        "No key, or a wrong one",
        "no_key",
        "this needs a key",
        "Send the header X-API-Key with a key of this gate",
    ),
    403: _problem(
        "Not allowed",
        "not_deleted",
        "its assets are not deleted here",
        "Delete the objects where they are",
    ),
    404: _problem("Not there", "not_found", "there is no asset 'x'", "Name one that is there"),
    408: _problem(
        "The request came too slowly", "too_slow", "the request came too slowly", "Send it faster"
    ),
    409: _problem(
        "Another state than expected", "refused", "the object has another ETag", "Look again"
    ),
    413: _problem(
        "Too large", "too_large", "the request is larger than 67108864 bytes", "Send less"
    ),
    415: _problem(
        "Not a type that is read",
        "wrong_type",
        "a body of type text/html is not read",
        "Send an image",
    ),
    422: _problem(
        "Understood, and cannot be done",
        "no_picture",
        "not an image that is read here",
        "Send an image in a format that is read here",
    ),
    429: _problem(
        "Too much at once; see Retry-After",
        "busy",
        "64 images wait to be analysed",
        "Try again in 1 s, with fewer requests at once",
    ),
    503: _problem(
        "Not now; see Retry-After",
        "catalog_busy",
        "another process is writing to the catalog",
        "Try again in a minute",
    ),
    504: _problem("It took too long", "timeout", "this took too long", "Try again"),
}

_OBJECT: dict[str, Any] = {"type": "object"}
ANALYSIS = _answer(
    "The analysis; keep it and send it instead of the image",
    {"type": "object", "required": ["version", "space", "picture", "vector"]},
    {
        "version": 1,
        "space": {"model": "bundled", "dim": 1280},
        "picture": {"width": 6000},
        "thumbnail": "/9j/4AAQ...",
        "vector": "pDx...",
        "seal": "9f86d08...",
    },
)
CHECKED = _answer(
    "One page of matches, the best first",
    {
        "type": "object",
        "required": ["total", "offset", "next", "found"],
        "properties": {
            "total": {"type": "integer"},
            "offset": {"type": "integer"},
            "next": {"type": ["integer", "null"]},
            "found": {"type": "array", "items": _OBJECT},
        },
    },
    {
        "total": 1,
        "offset": 0,
        "next": None,
        "threshold": 0.7,
        "mode": "exact",
        "candidates": 21,
        "verified": 21,
        "silenced": 0,
        "space": "3f1c",
        "found": [_FOUND],
    },
)
UPDATED = _answer(
    "What became of it",
    {"type": "object", "required": ["decision", "added", "id", "alerts"]},
    {
        "decision": "reject",
        "added": False,
        "id": "boots-1",
        "asset_id": None,
        "admission": "7c1e",
        "rule": "no copies",
        "reason": "is an exact copy of masters/boots.tif",
        "match": _FOUND,
        "matches": 1,
        "alerts": [],
    },
)
READY: dict[int | str, dict[str, Any]] = {503: {"description": "The model is not loaded yet"}}
METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Counters", "content": {"text/plain": {"schema": {"type": "string"}}}},
    401: PROBLEMS[401],
    403: PROBLEMS[403],
}

_URL = {"type": "string", "maxLength": 4096}
_URL_BODY = {"type": "object", "properties": {"url": _URL}, "required": ["url"]}
_FILE_FORM = {
    "schema": {
        "type": "object",
        "properties": {"file": {"type": "string", "format": "binary"}},
        "required": ["file"],
    }
}


def _body(json_schema: dict[str, Any], example: Any, form: dict[str, Any]) -> dict[str, Any]:
    content = {
        "application/octet-stream": _IMAGE,
        "multipart/form-data": form,
        **_json(json_schema, example),
    }
    return {"requestBody": {"required": False, "content": content}}


IMAGE_BODY = _body(_URL_BODY, {"url": "https://example.org/boots.jpg"}, _FILE_FORM)
_TEXT = {"type": "string", "maxLength": 1024}
ANY_BODY = _body(
    {
        "type": "object",
        "properties": {"id": _TEXT, "url": _URL, "analysis": _OBJECT},
        "minProperties": 1,
    },
    {"id": "masters/boots.tif"},
    {
        "schema": {
            "type": "object",
            "properties": {
                "file": {"type": "string", "format": "binary"},
                "analysis": {"type": "string", "description": "what /analyze answered, as JSON"},
            },
        }
    },
)
_MAP = {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 64}
_UPDATE_FIELDS = {
    "id": _TEXT,
    "source": _TEXT,
    "name": _TEXT,
    "etag": _TEXT,
    "url": _URL,
}
UPDATE_BODY = _body(
    {
        "type": "object",
        "properties": {**_UPDATE_FIELDS, "analysis": _OBJECT, "tags": _MAP, "metadata": _MAP},
    },
    {
        "id": "boots-1",
        "source": "gate://uploads",
        "url": "https://example.org/boots.jpg",
        "tags": {"agency": "north"},
    },
    {
        "schema": {
            "type": "object",
            "properties": {
                **_UPDATE_FIELDS,
                "file": {"type": "string", "format": "binary"},
                "analysis": {"type": "string"},
                "tags": {"type": "string", "description": "JSON object of texts"},
                "metadata": {"type": "string", "description": "JSON object of texts"},
            },
        }
    },
)


def _query(name: str, description: str, example: Any, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": {"type": "string", "maxLength": 4096, **schema},
        "example": example,
    }


_FQ = _query(
    "fq",
    "field:value or -field:value; may come several times",
    ["label:shoes"],
    type="array",
    items={"type": "string"},
    maxItems=20,
    maxLength=None,
)
_FQ["schema"].pop("maxLength")
_ROWS = _query("rows", "how many documents", 10, type="integer", minimum=0, maximum=1000)
_START = _query("start", "from which on", 0, type="integer", minimum=0, maximum=1_000_000)
for _one in (_ROWS, _START):
    _one["schema"].pop("maxLength")
_FL = _query("fl", "fields, with commas between them", "id,score,filename,image")

SELECT = {
    "parameters": [
        _query("q", "*:* or a filter", "*:*"),
        _FQ,
        _ROWS,
        _START,
        _FL,
        _query("sort", "a field, then asc or desc", "id asc"),
        _query("cursorMark", "* first, then nextCursorMark until it stays the same", "*"),
    ]
}
_RANK = [
    _query("rank.by.id", "a document of the collection", "boots-1"),
    _query("rank.by.url", "an image's http(s) address", "https://example.org/boots.jpg"),
    _query("rank.by.preprocessed", "what /analyze put into outputs, as JSON", "{}"),
    _query("rank.threshold", "lowest score, 0 to 1; below 0.5 nothing is a match", "0.6"),
    _query("rank.approximate", "false: exact search", "false", enum=["true", "false"]),
    _query(
        "rank.smartfilter",
        "how strong the filter before the search is",
        "off",
        enum=["off", "low", "medium", "high"],
    ),
    _FQ,
    _ROWS,
    _START,
    _FL,
]
_MODULES = _query("modules.apply", "always duplicate", "duplicate")
_INPUT_URL = _query("input.url", "an image's http(s) address", "https://example.org/boots.jpg")
_FORM = "application/x-www-form-urlencoded"


def _form(**fields: str) -> dict[str, Any]:
    properties = {
        name.replace("_", "."): {"type": "string", "description": text}
        for name, text in fields.items()
    }
    schema = {"type": "object", "properties": properties}
    return {"requestBody": {"content": {_FORM: {"schema": schema}}}}


SELECT_BODY = _form(q="*:* or a filter", fq="a filter", fl="fields", sort="id asc")
COMPAT_ANALYZE = {"parameters": [_MODULES, _INPUT_URL]}
COMPAT_ANALYZE_BODY = {
    "parameters": [_MODULES],
    **_form(input_data="data:image/jpeg;base64,...", input_url="http(s) address"),
}
COMPAT_DUPLICATE = {"parameters": _RANK}
COMPAT_DUPLICATE_BODY = {
    "parameters": _RANK[3:],
    **_form(
        rank_by_preprocessed="what /analyze put into outputs, as JSON",
        rank_by_data="data:image/jpeg;base64,...",
    ),
}
COMPAT_UPDATE = {
    "parameters": [_query("commit", "has no meaning here: all is seen at once", "true")],
    "requestBody": {
        "required": False,
        "content": _json(
            {"type": ["object", "array"]},
            {
                "id": "boots-1",
                "filename": "boots.jpg",
                "image": "https://example.org/boots.jpg",
                "import": {"version": 1},
            },
        ),
    },
}


def finish(document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The finished document, with the API key described where one is asked for."""
    if not settings.gate.api_keys:
        return document
    parts = dict(document.get("components", {}))
    parts["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    return {**document, "components": parts, "security": [{"key": []}]}
