"""The web application: check before you add, and the pages that decide about merge plans."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from deployments.gate import schemas
from deployments.gate.acts import Replan
from deployments.gate.api import native_routes
from deployments.gate.compat import compat_routes
from deployments.gate.keys import Keys
from deployments.gate.pages import approval_routes, message
from deployments.gate.problems import Problem, problem_of
from deployments.gate.service import Service
from reports.api import api_page
from reports.review import content_policy
from tasks.errors import CatalogBusyError, DamDedupError
from tasks.settings import Settings

log = logging.getLogger(__name__)

_PAGES = "/review/"
_COMPATIBLE = ("/api/cores/", "/solr/")
_UNEXPECTED = "The program failed, and has logged why. Please tell whoever runs it"
_BUSY = "Another process is writing to the catalog just now. Nothing was decided"


def create_app(
    settings: Settings, *, replan: Replan | None = None, keys: Keys | None = None
) -> FastAPI:
    """The application.

    Args:
        settings: where the catalog is, who may ask, and what signs the links; without
            ``merge.secret`` there are no approval pages.
        replan: makes a plan with other keepers; None: the page offers no other keeper.
        keys: who may ask; by default what the settings say.

    Raises:
        SettingsError: when a secret or a key is too short.
    """
    keys = keys or Keys(settings)
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="dam-dedup gate", version="1", description=schemas.DESCRIPTION, docs_url=None,
        redoc_url=None, openapi_url=None, redirect_slashes=False, lifespan=lifespan,
    )  # fmt: skip
    app.state.service = service
    app.middleware("http")(_guard)
    for kind in (HTTPException, RequestValidationError, Problem):
        app.add_exception_handler(kind, _refusal)
    if settings.merge.secret is not None:
        app.include_router(approval_routes(service.settings, replan))

    async def check_key(request: Request) -> None:
        keys.check(request)

    for routes in (native_routes(service), compat_routes(service)):
        app.include_router(routes, dependencies=[Depends(check_key)])
    app.include_router(_upkeep(app, service, check_key))
    return app


def _upkeep(
    app: FastAPI, service: Service, check_key: Callable[[Request], Awaitable[None]]
) -> APIRouter:
    """What is asked about the gate itself."""
    routes = APIRouter(tags=["upkeep"])

    async def health() -> dict[str, object]:
        """Alive whenever it answers; ready once the model is loaded."""
        return {"status": "ok", "ready": service.ready}

    async def ready() -> JSONResponse:
        """200 once the model is loaded, 503 before."""
        return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)

    async def metrics() -> Response:
        """Counters, as Prometheus reads them."""
        return Response(service.metrics.text(), media_type=service.metrics.media_type)

    async def openapi() -> JSONResponse:
        return JSONResponse(schemas.finish(app.openapi(), service.settings))

    async def docs() -> Response:
        page = api_page(schemas.finish(app.openapi(), service.settings))
        return Response(page, media_type="text/html; charset=utf-8")

    routes.add_api_route("/health", health, methods=["GET"], summary="Whether it is alive")
    routes.add_api_route("/health", health, methods=["HEAD"], include_in_schema=False)
    routes.add_api_route("/health/ready", ready, methods=["GET"],
                         summary="Whether it can analyse", responses=schemas.READY)  # fmt: skip
    routes.add_api_route("/metrics", metrics, methods=["GET"], summary="Counters",
                         dependencies=[Depends(check_key)], responses=schemas.METRICS)  # fmt: skip
    routes.add_api_route("/openapi.json", openapi, methods=["GET"], include_in_schema=False)
    routes.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)
    return routes


async def _guard(request: Request, follow: Callable[[Request], Awaitable[Response]]) -> Response:
    """Every answer, errors too: within its time, counted, and with the headers of its own."""
    service: Service = request.app.state.service
    started = time.perf_counter()
    try:
        async with asyncio.timeout(_seconds(request, service.settings)):
            response = await follow(request)
    except Exception as error:  # the last place where it can become an answer
        response = _failure(request, error)
    response.headers.update(
        {
            "Content-Security-Policy": content_policy(),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "X-Robots-Tag": "noindex, nofollow",
            "Cross-Origin-Opener-Policy": "same-origin",
        }
    )
    service.metrics.count(
        _route(request), _method(request), response.status_code, time.perf_counter() - started
    )
    return response


def _failure(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # nobody reads it
    answer = problem_of(error)
    if answer.status >= 500 and answer.status != 504:
        log.error("%s %s failed: %s", request.method, _route(request), error,
                  exc_info=not isinstance(error, DamDedupError))  # fmt: skip
    if not request.url.path.startswith(_PAGES):
        return _json(request, answer)
    if isinstance(error, CatalogBusyError):
        return message(503, _BUSY, {"Retry-After": "60"})
    return message(500, _UNEXPECTED)


async def _refusal(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        if request.url.path.startswith(_PAGES):
            return message(error.status_code, str(error.detail), headers)
        answer = Problem(error.status_code, "refused", str(error.detail).lower(),
                         "See /docs for what can be asked", headers)  # fmt: skip
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
        answer = Problem(422, "wrong_parameter", f"{where}: {first['msg']}", f"Correct {where}")
    else:
        answer = problem_of(error)
    return _json(request, answer)


def _json(request: Request, answer: Problem) -> Response:
    """An answer that says no, in the shape that who asked knows."""
    document: dict[str, object] = dict(answer.document)
    if request.url.path.startswith(_COMPATIBLE):
        document["responseHeader"] = {"status": answer.status, "QTime": 0}
        document["error"] = {"code": answer.status, "msg": answer.detail}
    return JSONResponse(document, answer.status, answer.headers)


def _seconds(request: Request, settings: Settings) -> float:
    """An upload's time, which has its own limit, and then that of the work."""
    gate = settings.gate
    return gate.request_seconds + (gate.upload_seconds if request.method == "POST" else 0)


def _route(request: Request) -> str:
    """The route's pattern: an address may be a key to a decision, and there are many."""
    return str(getattr(request.scope.get("route"), "path", "none"))


def _method(request: Request) -> str:
    return request.method if request.method in {"GET", "HEAD", "POST"} else "other"
