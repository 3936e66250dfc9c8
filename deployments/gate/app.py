"""The web application: a link shows a plan, a button decides on it.

Mail scanners follow links: GET and HEAD change nothing, whatever they are asked.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from deployments.gate.acts import Replan, decide_form, problems, replan_form
from deployments.gate.forms import BODY_LIMIT, Form, parse_form
from deployments.gate.looks import read_looks
from deployments.gate.report import ReportRoutes
from reports.review import (
    Review,
    content_policy,
    groups_of_page,
    message_page,
    pages,
    review_page,
)
from tasks.approvals import Claim, check_secret, read_token, sign_link
from tasks.dedup.plans import Plan
from tasks.errors import CatalogBusyError, DamDedupError, MergeError
from tasks.journal import group_state, last_events, read_decisions, read_events, read_plan
from tasks.session import open_catalog
from tasks.settings import Settings

log = logging.getLogger(__name__)

#: How long a click waits for another writer: a person is waiting, not a scan.
_PATIENCE = 20.0
#: Notices that an address may ask for; their words are ours alone.
_NOTICES = {
    "recorded": "Your decision is recorded. Thank you.",
    "before": "This was decided before; the first decision holds.",
    "planned": "This is the new plan, with the keepers you picked. Nothing is approved yet.",
}
_TITLES = {
    400: "That cannot be done",
    403: "This link does not work",
    404: "There is no such page",
    405: "That cannot be done",
    409: "Nothing was decided",
    413: "That is too much at once",
    415: "That cannot be done",
    503: "Please try again in a minute",
}


def create_app(settings: Settings, *, replan: Replan | None = None) -> FastAPI:
    """The application.

    Args:
        settings: where the catalog is, and what signs the links.
        replan: makes a plan with other keepers; None: the page offers no other keeper.

    Raises:
        SettingsError: when the secret is missing or too short.
    """
    check_secret(settings)  # now, and not at the first click
    gate = _Gate(_impatient(settings), replan)
    app = FastAPI(title="dam-dedup gate", docs_url=None, redoc_url=None, openapi_url=None,
                  redirect_slashes=False)  # fmt: skip
    app.middleware("http")(_guard)
    app.add_exception_handler(HTTPException, _refusal)
    app.add_api_route("/review/{token}", gate.show, methods=["GET", "HEAD"], response_model=None)
    app.add_api_route("/review/{token}", gate.act, methods=["POST"], response_model=None)
    app.include_router(ReportRoutes(gate._settings, gate._claim, gate._plan, replan).router)
    app.add_api_route("/health", _health, methods=["GET", "HEAD"])
    return app


class _Gate:
    """The two things a link can do."""

    def __init__(self, settings: Settings, replan: Replan | None) -> None:
        self._settings = settings
        self._replan = replan

    def show(self, token: str, page: str = "1", note: str = "") -> Response:
        """The plan as it stands now; changes nothing."""
        claim = self._claim(token)
        plan = self._plan(claim)
        return self._page(claim, plan, _page_number(page, plan), report=f"{token}/report",
                          notice=_NOTICES.get(note, ""))  # fmt: skip

    async def act(self, token: str, request: Request, page: str = "1") -> Response:
        """A decision, or a new plan."""
        claim = await run_in_threadpool(self._claim, token)
        form = await _read_form(request)
        return await run_in_threadpool(self._act, claim, form, token, page)

    def _act(self, claim: Claim, form: Form, token: str, page: str) -> Response:
        plan = self._plan(claim)
        number = _page_number(page, plan)
        try:
            if form.decision == "keeper":
                return self._replanned(claim, plan, form)
            outcome = decide_form(self._settings, claim, plan, form)
        except MergeError as error:
            said = [str(error)]
            return self._page(claim, plan, number, problems=said, comment=form.comment, status=409,
                              report=f"{token}/report")  # fmt: skip
        log.info("plan %s: %s by %s, %d groups", plan.id, form.decision, claim.reviewer,
                 sum(1 for one in outcome if one.new))  # fmt: skip
        left = problems(outcome)
        if left:
            status = 200 if any(one.new for one in outcome) else 409
            return self._page(
                claim, plan, number, problems=left, comment=form.comment, status=status,
                report=f"{token}/report",
            )  # fmt: skip
        note = "recorded" if any(one.new for one in outcome) else "before"
        # Relative: the gate may be reached under a path of its own.
        return _see_other(f"{token}?page={number}&note={note}")

    def _replanned(self, claim: Claim, plan: Plan, form: Form) -> Response:
        new_id = replan_form(self._settings, claim, plan, form, self._replan)
        new = read_plan(open_catalog(self._settings), new_id)
        link = sign_link(self._settings, new, claim.reviewer, until=claim.until)
        return _see_other(f"{link.rsplit('/', 1)[-1]}?note=planned")

    def _claim(self, token: str) -> Claim:
        try:
            return read_token(self._settings, token)
        except MergeError as error:
            raise HTTPException(403, str(error)) from error

    def _plan(self, claim: Claim) -> Plan:
        try:
            plan = read_plan(open_catalog(self._settings), claim.hash)
        except MergeError as error:
            raise HTTPException(404, f"{error}. This link is of no use any more") from error
        if (plan.id, plan.hash) != (claim.plan_id, claim.hash):
            raise HTTPException(403, "this link is for another plan; ask for a new one")
        return plan

    def _page(
        self, claim: Claim, plan: Plan, number: int, *, status: int = 200, **said: Any
    ) -> Response:
        catalog = open_catalog(self._settings)
        shown = groups_of_page(plan, number)
        events = read_events(catalog, plan)
        review = Review(
            plan,
            claim.reviewer,
            claim.until,
            decisions=read_decisions(catalog, plan),
            states={
                group.group_id: group_state(group, last_events(events, group.group_id))
                for group in shown
            },
            looks=read_looks(self._settings, catalog, plan, shown),
            page=number,
            keepers=self._replan is not None,
            **said,
        )
        return _html(review_page(review), status)


async def _guard(request: Request, follow: Callable[[Request], Awaitable[Response]]) -> Response:
    """Every answer, errors too: as a page, and with the headers that keep it to itself."""
    try:
        response = await follow(request)
    except CatalogBusyError:
        busy = "Another process is writing to the catalog just now. Nothing was decided."
        response = _html(message_page(_TITLES[503], busy), 503)
        response.headers["Retry-After"] = "60"
    except Exception as error:  # the last place where it can become a page
        log.error("%s failed: %s", request.method, error, exc_info=not _expected(error))
        text = "The program failed, and has logged why. Please tell whoever runs it."
        response = _html(message_page("Something went wrong", text), 500)
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
    return response


def _expected(error: Exception) -> bool:
    return isinstance(error, DamDedupError)


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for no other
    title = _TITLES.get(error.status_code, "That cannot be done")
    text = str(error.detail)
    text = text[:1].upper() + text[1:].rstrip(".") + "."
    return _html(message_page(title, text), error.status_code, dict(error.headers or {}))


async def _read_form(request: Request) -> Form:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "use the buttons of the page; nothing was decided")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise HTTPException(413, "the form is too large; nothing was decided")
    try:
        form = parse_form(body)
    except ValueError as error:
        raise HTTPException(400, "the form cannot be read; nothing was decided") from error
    if form.decision not in {"approve", "reject", "approve-all", "keeper"}:
        raise HTTPException(400, "the form says neither approve nor reject; nothing was decided")
    return form


def _page_number(text: str, plan: Plan) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 1
    return min(max(number, 1), pages(plan))


def _html(body: bytes, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "text/html; charset=utf-8")


def _see_other(place: str) -> Response:
    return Response(status_code=303, headers={"Location": place})


def _health() -> dict[str, str]:
    return {"status": "ok"}


def _impatient(settings: Settings) -> Settings:
    wait = min(_PATIENCE, settings.catalog.busy_seconds)
    catalog = settings.catalog.model_copy(update={"busy_seconds": wait})
    return settings.model_copy(update={"catalog": catalog})
