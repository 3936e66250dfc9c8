"""The routes that clients of another image search service use, answered in that service's shape.

The collection that has the name of the settings' ``collection`` is their source, and is only read.
Any other name is a collection that lives in the catalog alone (``gate://NAME``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from deployments.gate import compat_words as words
from deployments.gate import schemas
from deployments.gate.body import Body, read_data_uri, read_json
from deployments.gate.compat_words import Params, Rank
from deployments.gate.cores import Collection, find_collection
from deployments.gate.problems import Problem, wrong
from deployments.gate.service import Service
from deployments.gate.updates import Update, enter
from tasks.intake.update import remove_assets
from tasks.records import Analysis, CheckQuestion

_PLACES = ("/api/cores/{collection}", "/solr/{collection}")
#: The most documents of one update.
_MOST_DOCUMENTS = 1000


def compat_routes(service: Service) -> APIRouter:
    """The routes of one gate."""
    routes = APIRouter(tags=["compatible"], responses=schemas.PROBLEMS)
    compat = _Compat(service)
    for place in _PLACES:
        for path, answer, methods, summary, extra in (
            ("", compat.alive, ["GET"], "Whether the collection answers", {}),
            ("/", compat.alive, ["GET"], "Whether the collection answers", {}),
            ("/select", compat.select, ["GET"], "What is in the collection", schemas.SELECT),
            (
                "/select",
                compat.select_posted,
                ["POST"],
                "What is in the collection",
                schemas.SELECT_BODY,
            ),
            (
                "/analyze",
                compat.analyze_url,
                ["GET"],
                "Analyse the image at a URL",
                schemas.COMPAT_ANALYZE,
            ),
            ("/analyze", compat.analyze, ["POST"], "Analyse an image", schemas.COMPAT_ANALYZE_BODY),
            (
                "/duplicate",
                compat.duplicate_of,
                ["GET"],
                "Duplicates of an image",
                schemas.COMPAT_DUPLICATE,
            ),
            (
                "/duplicate",
                compat.duplicate,
                ["POST"],
                "Duplicates of an image",
                schemas.COMPAT_DUPLICATE_BODY,
            ),
            ("/update", compat.update, ["POST"], "Add or delete documents", schemas.COMPAT_UPDATE),
        ):
            routes.add_api_route(
                place + path,
                answer,
                methods=methods,
                summary=summary,
                openapi_extra=extra,
                include_in_schema=place == _PLACES[0] and path != "",
                operation_id=f"compat_{answer.__name__}_{place[1]}{len(path)}",
            )
    return routes


class _Compat:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def alive(self, collection: str) -> JSONResponse:
        """200 when the gate answers."""
        started = time.perf_counter()
        find_collection(collection, self._service.settings)
        return _answer(started, {"status": "OK"})

    async def select(self, collection: str, request: Request) -> JSONResponse:
        """Documents by filter, sorted, in pages or with a cursor."""
        return await self._select(collection, _params(request))

    async def select_posted(self, collection: str, request: Request) -> JSONResponse:
        """The same with parameters in a form, for those too long for an address."""
        async with self._service.body(request) as body:
            if body.document is not None or body.file is not None:
                raise wrong(
                    "the parameters are not a form", "Send application/x-www-form-urlencoded"
                )
            return await self._select(collection, _params(request, body))

    async def analyze_url(self, collection: str, request: Request) -> JSONResponse:
        """The analysis of the image at ``input.url``."""
        return await self._analyze(collection, _params(request), Body())

    async def analyze(self, collection: str, request: Request) -> JSONResponse:
        """The analysis of ``input.data``, a data URI, of ``input.url``, or of an upload."""
        async with self._service.body(request) as body:
            return await self._analyze(collection, _params(request, body), body)

    async def duplicate_of(self, collection: str, request: Request) -> JSONResponse:
        """Documents that the image matches, the best first; see POST."""
        return await self._duplicate(collection, _params(request))

    async def duplicate(self, collection: str, request: Request) -> JSONResponse:
        """Documents that the image matches, the best first.

        With ``rank.by.id`` the document itself comes first, with score 1.
        """
        async with self._service.body(request) as body:
            if body.document is not None:
                raise wrong(
                    "the parameters are not a form",
                    "Send application/x-www-form-urlencoded, or an image",
                )
            return await self._duplicate(collection, _params(request, body), body.file)

    async def update(self, collection: str, request: Request) -> JSONResponse:
        """Add documents, or delete some; what is done is seen at once, committed or not.

        A commit says that much was added: the catalog is tidied, after the answer.
        """
        started = time.perf_counter()
        chosen = find_collection(collection, self._service.settings)
        params = _params(request)
        params.check(words.UPDATING)
        async with self._service.body(request) as body:
            for document in _documents(body.document):
                if set(document) == {"delete"}:
                    await self._delete(chosen, document["delete"])
                else:
                    await self._add(chosen, document)
            if words.asks_for_commit(params) or _commits(body.document):
                self._service.tidy()
        return _answer(started, {})

    # ---- inside ------------------------------------------------------------------------------

    async def _select(self, collection: str, params: Params) -> JSONResponse:
        started = time.perf_counter()
        chosen = find_collection(collection, self._service.settings)
        wanted = words.read_select(params, self._service.settings.gate.page_rows)
        page = await self._service.run(lambda: chosen.page(wanted))
        return _answer(started, page)

    async def _analyze(self, collection: str, params: Params, body: Body) -> JSONResponse:
        started = time.perf_counter()
        find_collection(collection, self._service.settings)
        params.check(words.ANALYSING)
        image = body.file
        if image is None and params.last("input.data"):
            image = read_data_uri(params.last("input.data"), self._service.settings.gate)
        if image is None and params.last("input.url"):
            image = await self._service.fetch(params.last("input.url"))
        if image is None:
            raise wrong("there is no image", "Send input.data as a data URI, or input.url")
        analysis = await self._service.analyze(image)
        return _answer(started, {"outputs": self._service.document(analysis)})

    async def _duplicate(
        self, collection: str, params: Params, sent: bytes | None = None
    ) -> JSONResponse:
        started = time.perf_counter()
        settings = self._service.settings
        chosen = find_collection(collection, settings)
        rank = words.read_rank(params, settings, sent=sent is not None)
        where = await self._service.run(lambda: chosen.filter_of(rank.fq))
        if rank.id:
            response = await self._by_id(chosen, rank, where)
        else:
            analysis = await self._ranked(rank, sent)
            checked = await self._service.check(
                analysis, _question(chosen, rank, where, rank.start, rank.rows)
            )
            docs = [words.finding_doc(one, rank.fl) for one in checked.found[: rank.rows]]
            best = checked.found[0].score if checked.found else 0.0
            response = words.response(checked.total, rank.start, docs, best)
        return _answer(started, response)

    async def _by_id(self, chosen: Collection, rank: Rank, where: str) -> dict[str, Any]:
        """The queried document is the first of all, unless the filter leaves it out."""
        itself, passes = await self._service.run(lambda: chosen.find(rank.id, where))
        before = 1 if passes else 0
        offset, rows = max(rank.start - before, 0), rank.rows
        shows = passes and rank.start == 0 and rank.rows > 0
        checked = await self._service.check_asset(
            itself["asset_id"], _question(chosen, rank, where, offset, rows - shows)
        )
        docs = [words.row_doc(itself, rank.fl, score=1.0)] if shows else []
        docs += [words.finding_doc(one, rank.fl) for one in checked.found[: rows - shows]]
        best = 1.0 if passes else max((one.score for one in checked.found), default=0.0)
        return words.response(checked.total + before, rank.start, docs, best)

    async def _ranked(self, rank: Rank, sent: bytes | None) -> Analysis:
        if sent is not None:
            return await self._service.analyze(sent)
        if rank.preprocessed:
            return await self._service.read_document(_output(read_json(rank.preprocessed)))
        if rank.data:
            image = read_data_uri(rank.data, self._service.settings.gate)
        else:
            image = await self._service.fetch(rank.url)
        return await self._service.analyze(image)

    async def _add(self, chosen: Collection, document: dict[str, Any]) -> None:
        key = document.get("id")
        if isinstance(key, bool) or not isinstance(key, str | int) or not str(key):
            raise wrong("a document has no id", 'Send {"id": ..., "import": ...}')
        facts = words.stored_fields(document)
        if document.get("import") is not None:
            analysis = await self._service.read_document(_output(document["import"]))
        elif facts.get("image", "").startswith(("http://", "https://")):
            analysis = await self._service.analyze(await self._service.fetch(facts["image"]))
        else:
            raise wrong(
                f"the document {str(key)[:100]!r} has no analysis",
                "Send what /analyze put into outputs as import",
            )
        name = facts.pop("filename", "")
        wanted = Update(str(key), source=chosen.uri, name=name, metadata=facts)
        said = await enter(self._service, analysis, wanted)
        if not said.get("added", True):
            raise Problem(
                409,
                said["decision"],
                f"{wanted.key[:200]!r}: {said['reason']}",
                "Look at what it matches: /duplicate with rank.by.preprocessed",
            )

    async def _delete(self, chosen: Collection, wanted: Any) -> None:
        if not chosen.gated:
            raise Problem(
                403,
                "not_deleted",
                f"the collection {chosen.name!r} is {chosen.uri}: its assets are not deleted here",
                "Delete the objects where they are; the next scan sees it. Or merge duplicates",
            )
        keys = await self._service.run(lambda: chosen.keys_to_delete(wanted))
        await self._service.write(lambda: remove_assets(self._service.settings, chosen.uri, keys))


def _question(chosen: Collection, rank: Rank, where: str, offset: int, rows: int) -> CheckQuestion:
    return CheckQuestion(
        source=chosen.uri,
        where=where,
        threshold=rank.threshold,
        limit=max(rows, 1),
        offset=offset,
        mode=rank.mode,
    )


def _params(request: Request, body: Body | None = None) -> Params:
    return Params([*request.query_params.multi_items(), *(body.pairs if body else ())])


def _documents(found: Any) -> list[dict[str, Any]]:
    """The documents of an update; none for a bare commit."""
    if found is None:
        return []
    if isinstance(found, dict) and isinstance(found.get("add"), dict):
        found = found["add"].get("doc")
    listed: Sequence[Any] = found if isinstance(found, list) else [found]
    if len(listed) > _MOST_DOCUMENTS:
        raise Problem(
            413, "too_large", f"{len(listed)} documents at once", f"Send {_MOST_DOCUMENTS} at most"
        )
    if not all(isinstance(one, dict) for one in listed):
        raise wrong("a document is not a JSON object", 'Send {"id": ..., "import": ...}')
    return [dict(one) for one in listed if not _commits(one)]


def _commits(document: Any) -> bool:
    """Whether a document of an update is none, but says that enough was added."""
    return isinstance(document, dict) and len(document) == 1 and set(document) <= words.COMMITS


def _output(found: Any) -> Any:
    """The analysis in a document, which clients send as an object or as JSON text."""
    if isinstance(found, str):
        found = read_json(found)
    if isinstance(found, dict) and "outputs" in found:
        found = found["outputs"]
    return found


def _answer(started: float, document: dict[str, Any]) -> JSONResponse:
    taken = round((time.perf_counter() - started) * 1000)
    return JSONResponse({"responseHeader": {"status": 0, "QTime": taken}, **document})
