"""The native routes: analyse, look for duplicates, update."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from deployments.gate import schemas
from deployments.gate.answers import checked_document
from deployments.gate.body import Body, read_json
from deployments.gate.problems import Problem, wrong
from deployments.gate.service import Service
from deployments.gate.updates import Update, update
from tasks.catalog.fq import fq_to_sql
from tasks.records import Analysis, CheckQuestion

_Text = Annotated[str, Query(max_length=1024)]
_Url = Annotated[str, Query(max_length=4096, description="http(s) address of the image")]
_Id = Annotated[str, Query(max_length=1024, description="An asset's id, or its key")]
_Source = Annotated[
    str,
    Query(
        max_length=1024,
        description="A source of the catalog, or gate://NAME; empty: the default",
        examples=["gate://uploads"],
    ),
]
_Where = Annotated[
    str,
    Query(
        max_length=4000,
        description="SQL-style filter of what it is compared with",
        examples=["label = 'shoes' AND tags.agency = 'north'"],
    ),
]
_Queries = Annotated[
    list[str],
    Query(
        max_length=50,
        description="field:value or -field:value; all of them hold",
        examples=[["label:shoes"]],
    ),
]
_Words = Annotated[list[str], Query(max_length=1000)]
_Mode = Annotated[
    Literal["auto", "exact", "balanced", "speed"],
    Query(description="auto: by the size of the collection"),
]


#: What the body of /update may hold beside an image.
_UPDATE_FIELDS = ("id", "url", "source", "name", "etag", "analysis", "tags", "metadata")


def native_routes(service: Service) -> APIRouter:
    """The routes of one gate."""
    routes = APIRouter(
        tags=["gate"], responses=schemas.PROBLEMS, dependencies=[Depends(_only_known_parameters)]
    )
    native = _Native(service)
    routes.add_api_route(
        "/analyze",
        native.analyze_url,
        methods=["GET"],
        summary="Analyse the image at a URL",
        responses=schemas.ANALYSIS,
    )
    routes.add_api_route(
        "/analyze",
        native.analyze,
        methods=["POST"],
        summary="Analyse an image",
        responses=schemas.ANALYSIS,
        openapi_extra=schemas.IMAGE_BODY,
    )
    routes.add_api_route(
        "/duplicate",
        native.duplicate_of,
        methods=["GET"],
        summary="Duplicates of an asset, or of the image at a URL",
        responses=schemas.CHECKED,
    )
    routes.add_api_route(
        "/duplicate",
        native.duplicate,
        methods=["POST"],
        summary="Duplicates of an image",
        responses=schemas.CHECKED,
        openapi_extra=schemas.ANY_BODY,
    )
    routes.add_api_route(
        "/update",
        native.update,
        methods=["POST"],
        summary="Add an image to a collection",
        responses=schemas.UPDATED,
        openapi_extra=schemas.UPDATE_BODY,
    )
    return routes


def _only_known_parameters(request: Request) -> None:
    """Refuse a parameter that the route does not know: to ignore it would answer another question.

    Raises:
        Problem: naming it, and what may have been meant.
    """
    known = [str(one.alias) for one in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        _check_name(name, known, "parameter")


def _only_known_fields(body: Body, *known: str) -> None:
    document = body.document
    if isinstance(document, dict) and "vector" in document and "vector" not in known:
        return  # the body is what /analyze answered, and is checked as a whole
    for name in document if isinstance(document, dict) else body.fields:
        _check_name(name, known, "field of the body")


def _check_name(name: str, known: Sequence[str], kind: str) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    raise wrong(
        f"there is no {kind} {name[:50]!r} here",
        f"Send {near[0]}" if near else f"Known: {', '.join(sorted(known))}",
    )


class _Native:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def analyze_url(self, url: _Url) -> JSONResponse:
        """The analysis of the image at a URL; see POST."""
        return await self._analyzed(await self._service.fetch(url))

    async def analyze(self, request: Request, url: _Url = "") -> JSONResponse:
        """All that /duplicate and /update need of an image, to be kept and sent instead of it.

        The answer holds hashes, vector, thumbnail and image facts; it is good for as long as the
        gate uses the same model.
        """
        async with self._service.body(request) as body:
            _only_known_fields(body, "url")
            image = await self._image(body, url)
            if image is None:
                raise wrong("there is no image", "Send an image, the part `file`, or a url")
            return await self._analyzed(image)

    async def duplicate_of(
        self,
        id: _Id = "",  # noqa: A002 - what callers call it
        url: _Url = "",
        source: _Source = "",
        where: _Where = "",
        fq: _Queries = [],  # noqa: B006 - FastAPI copies it
        threshold: Annotated[float | None, Query(ge=0.5, le=1)] = None,
        limit: Annotated[int, Query(ge=1, le=100_000)] = 10,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
        fields: _Words = [],  # noqa: B006
        exclude: _Words = [],  # noqa: B006
        mode: _Mode = "auto",
    ) -> JSONResponse:
        """Assets that an asset or the image at a URL matches, the best first; see POST."""
        question = self._question(source, where, fq, threshold, limit, offset, exclude, mode)
        return await self._duplicates(Body(), id, url, question, fields)

    async def duplicate(
        self,
        request: Request,
        id: _Id = "",  # noqa: A002
        url: _Url = "",
        source: _Source = "",
        where: _Where = "",
        fq: _Queries = [],  # noqa: B006
        threshold: Annotated[float | None, Query(ge=0.5, le=1)] = None,
        limit: Annotated[int, Query(ge=1, le=100_000)] = 10,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
        fields: _Words = [],  # noqa: B006
        exclude: _Words = [],  # noqa: B006
        mode: _Mode = "auto",
    ) -> JSONResponse:
        """Assets that an image matches, the best first; nothing is stored.

        The image is an upload, a URL, an asset of the catalog, or what /analyze answered. Every
        match is verified on the pixels. `total` counts all of them; ask for more with `offset`
        until `next` is null.
        """
        question = self._question(source, where, fq, threshold, limit, offset, exclude, mode)
        async with self._service.body(request) as body:
            _only_known_fields(body, "id", "url", "analysis")
            return await self._duplicates(body, id, url, question, fields)

    async def update(
        self,
        request: Request,
        id: _Id = "",  # noqa: A002
        url: _Url = "",
        source: _Source = "",
        name: _Text = "",
        etag: _Text = "",
    ) -> JSONResponse:
        """Put an image into a collection under an id; the same call again changes nothing.

        It is checked first, and the policy's section `ingest` decides: `decision` is add, link,
        overwrite, ask or reject, with the match and the rule that made it so. Of identical
        uploads at the same time the later ones see the first. Without a policy all are added.

        `source` is `gate://NAME` for a collection that lives in the catalog alone. For an object
        of a bucket the id is its key, and the object has to be there.
        """
        async with self._service.body(request) as body:
            _only_known_fields(body, *_UPDATE_FIELDS)
            said = _texts(body)
            key = id or said.get("id", "")
            if not key:
                raise wrong("there is no id", "Send id=... with the image")
            analysis = await self._analysis(body, url)
            if analysis is None:
                raise wrong("there is no image", "Send an image, a url, or what /analyze answered")
            wanted = Update(
                key,
                source=await self._service.source(source or said.get("source", "")),
                name=name or said.get("name", ""),
                etag=etag or said.get("etag", ""),
                tags=_map(body, "tags"),
                metadata=_map(body, "metadata"),
            )
            return JSONResponse(await update(self._service, analysis, wanted))

    # ---- inside ------------------------------------------------------------------------------

    async def _analyzed(self, image: bytes) -> JSONResponse:
        return JSONResponse(self._service.document(await self._service.analyze(image)))

    async def _duplicates(
        self, body: Body, name: str, url: str, question: CheckQuestion, fields: Sequence[str]
    ) -> JSONResponse:
        source = await self._service.source(question.source)
        name = name or _texts(body).get("id", "")
        analysis = await self._analysis(body, url)
        if bool(name) == (analysis is not None):
            raise wrong(
                "there is no image, or more than one", "Send an id, a url, an image, or an analysis"
            )
        question = CheckQuestion(
            source,
            question.where,
            question.threshold,
            question.limit,
            question.offset,
            question.exclude,
            question.mode,
        )
        if analysis is None:
            checked = await self._service.check_asset(name, question)
        else:
            checked = await self._service.check(analysis, question)
        return JSONResponse(checked_document(checked, question, _split(fields)))

    async def _analysis(self, body: Body, url: str) -> Analysis | None:
        document = _document(body)
        image = await self._image(body, url)
        if document is not None and image is not None:
            raise wrong("there are two images", "Send one of: image, url, analysis")
        if document is not None:
            return await self._service.read_document(document)
        return await self._service.analyze(image) if image is not None else None

    async def _image(self, body: Body, url: str) -> bytes | None:
        address = url or _texts(body).get("url", "")
        if address and body.file is not None:
            raise wrong("there are two images", "Send either an image or a url")
        return await self._service.fetch(address) if address else body.file

    def _question(
        self,
        source: str,
        where: str,
        fq: Sequence[str],
        threshold: float | None,
        limit: int,
        offset: int,
        exclude: Sequence[str],
        mode: str,
    ) -> CheckQuestion:
        settings = self._service.settings
        most = settings.gate.page_rows
        if limit > most:
            raise wrong(f"limit is {limit}, and {most} the most here", "Ask for more with offset")
        filters = [text for text in (where.strip(), fq_to_sql(fq)) if text]
        return CheckQuestion(
            source=source,
            where=" AND ".join(f"({text})" for text in filters)
            if filters[1:]
            else "".join(filters),
            threshold=settings.match.threshold if threshold is None else threshold,
            limit=limit,
            offset=offset,
            exclude=tuple(exclude),
            mode=mode,
        )


def _texts(body: Body) -> dict[str, str]:
    """The texts of a form, or of a JSON object."""
    if isinstance(body.document, dict):
        found = body.document
        for name in ("id", "url", "source", "name", "etag"):
            if name in found and not isinstance(found[name], str):
                raise wrong(f"{name} is not a text", "Send it as a JSON string")
        return {name: value for name, value in found.items() if isinstance(value, str)}
    if body.document is not None:
        raise wrong("the JSON document is not an object", 'Send {"url": ...} or {"analysis": ...}')
    return body.fields


def _document(body: Body) -> Any:
    """The analysis in a body: as `analysis`, or the document itself."""
    if isinstance(body.document, dict):
        if "analysis" in body.document:
            return body.document["analysis"]
        return body.document if "vector" in body.document else None
    return read_json(body.fields["analysis"]) if "analysis" in body.fields else None


def _map(body: Body, name: str) -> dict[str, str]:
    """A map of texts in a body, which a form carries as JSON."""
    if isinstance(body.document, dict):
        found = body.document.get(name, {})
    else:
        found = read_json(body.fields[name]) if body.fields.get(name) else {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise wrong(f"{name} is not a map of texts", 'Send {"agency": "north"}')
    if len(json.dumps(found)) > 16_384 or len(found) > 64:
        raise Problem(413, "too_large", f"{name} is too large", "Send 64 values, 16 kB at most")
    return found


def _split(fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.strip() for text in fields for name in text.split(",") if name.strip())
