"""Routes about the gate itself: health, counters, documentation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from deployments.gate import schemas
from deployments.gate.service import Service
from reports.api import api_page


def upkeep_routes(
    app: FastAPI, service: Service, check_key: Callable[[Request], Awaitable[None]]
) -> APIRouter:
    """The routes of one gate; health and documentation need no key."""
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
    routes.add_api_route(
        "/health/ready",
        ready,
        methods=["GET"],
        summary="Whether it can analyse",
        responses=schemas.READY,
    )
    routes.add_api_route(
        "/metrics",
        metrics,
        methods=["GET"],
        summary="Counters",
        dependencies=[Depends(check_key)],
        responses=schemas.METRICS,
    )
    routes.add_api_route("/openapi.json", openapi, methods=["GET"], include_in_schema=False)
    routes.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)
    return routes
