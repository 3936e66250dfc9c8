"""What is done around every route: time limit, headers, counters, and answers to errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from deployments.gate.problems import Problem, problem_of
from deployments.gate.service import Service
from reports.review import content_policy, message_page
from tasks.errors import CatalogBusyError, DamDedupError
from tasks.settings import Settings

log = logging.getLogger(__name__)

_PAGES = ("/review/", "/done/")
_COMPATIBLE = ("/api/cores/", "/solr/")
_UNEXPECTED = "The program failed, and has logged why. Please tell whoever runs it."
_BUSY = "Another process is writing to the catalog just now. Nothing was decided."
_GOES_ON = (
    "This takes longer than a page waits. It goes on: open the link again in a few minutes to see "
    "what became of it."
)


def guard(app: FastAPI, service: Service) -> None:
    """Install this module's handling of requests and errors in an application."""
    app.state.service = service
    app.middleware("http")(_guard)
    for kind in (HTTPException, RequestValidationError, Problem):
        app.add_exception_handler(kind, _refusal)


async def _guard(request: Request, follow: Callable[[Request], Awaitable[Response]]) -> Response:
    """Answer a request within its time, count the answer, and set its headers; errors as well."""
    service: Service = request.app.state.service
    started = time.perf_counter()
    try:
        if {"transfer-encoding", "content-length"} <= set(request.headers):
            # Two lengths: a proxy may go by the other one, and take the rest for another request.
            raise Problem(
                400,
                "wrong_request",
                "the request says its length twice",
                "Send Content-Length or Transfer-Encoding",
                {"Connection": "close"},
            )
        async with asyncio.timeout(_seconds(request, service.settings)):
            response = await follow(request)
    except Exception as error:  # nothing further out turns an error into an answer
        response = _failure(request, error)
    response.headers.setdefault("Content-Security-Policy", content_policy())
    response.headers.update(
        {
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
        return Response(status_code=400)  # the caller is gone and reads no answer
    answer = problem_of(error)
    page = request.url.path.startswith(_PAGES)
    if page or (answer.status >= 500 and answer.status != 504):
        log.error(
            "%s %s failed: %s",
            request.method,
            _route(request),
            error,
            exc_info=not isinstance(error, DamDedupError),
        )
    if not page:
        return _json(request, answer)
    if isinstance(error, CatalogBusyError):
        return _message(request, 503, _BUSY, {"Retry-After": "60"})
    if isinstance(error, TimeoutError):  # a thread is not cut off: what it began, it ends
        return _message(request, 504, _GOES_ON)
    return _message(request, 500, _UNEXPECTED)


async def _refusal(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        if request.url.path.startswith(_PAGES):
            text = str(error.detail)
            text = text[:1].upper() + text[1:].rstrip(".") + "."
            return _message(request, error.status_code, text, headers)
        answer = Problem(
            error.status_code,
            "refused",
            str(error.detail).lower(),
            "See /docs for what can be asked",
            headers,
        )
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
        answer = Problem(422, "wrong_parameter", f"{where}: {first['msg']}", f"Correct {where}")
    else:
        answer = problem_of(error)
    return _json(request, answer)


def _json(request: Request, answer: Problem) -> Response:
    """A refusal in the shape of the route: the native one, or that of compatible clients."""
    document: dict[str, object] = dict(answer.document)
    if request.url.path.startswith(_COMPATIBLE):
        document["responseHeader"] = {"status": answer.status, "QTime": 0}
        document["error"] = {"code": answer.status, "msg": document["detail"]}
    return JSONResponse(document, answer.status, answer.headers)


def _seconds(request: Request, settings: Settings) -> float:
    """The time limit of a request: that of its upload, which is set apart, and that of the work."""
    gate = settings.gate
    return gate.request_seconds + (gate.upload_seconds if request.method == "POST" else 0)


def _route(request: Request) -> str:
    """The route's pattern and not its address: addresses are many, and some hold a signed token."""
    return str(getattr(request.scope.get("route"), "path", "none"))


def _method(request: Request) -> str:
    return request.method if request.method in {"GET", "HEAD", "POST"} else "other"


def _message(
    request: Request, status: int, text: str, headers: dict[str, str] | None = None
) -> Response:
    language = request.app.state.service.settings.mail.language
    page = message_page(status, text, language)
    return Response(page, status, headers, "text/html; charset=utf-8")
