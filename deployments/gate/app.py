"""The web application: routes for checks and uploads, and the pages that signed links lead to.

Mail scanners follow links. So GET and HEAD never change anything; a decision takes a POST.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from deployments.gate import schemas
from deployments.gate.api import native_routes
from deployments.gate.compat import compat_routes
from deployments.gate.done import DoneRoutes
from deployments.gate.forms import (
    BODY_LIMIT,
    Form,
    check_form,
    parse_form,
    read_form_body,
)
from deployments.gate.health import upkeep_routes
from deployments.gate.keys import Keys
from deployments.gate.middleware import guard
from deployments.gate.pictures import PictureRoutes
from deployments.gate.report import ReportRoutes
from deployments.gate.review_actions import Replan, decide_form, problems, replan_form
from deployments.gate.service import Service
from deployments.gate.thumbnails import read_looks
from reports.review import (
    Review,
    confirm_page,
    groups_of_page,
    page_of,
    pages,
    review_page,
)
from tasks.errors import MergeError
from tasks.merging.approvals import Claim, check_secret, read_token, sign_link
from tasks.merging.journal import group_state, last_events, read_decisions, read_events, read_plan
from tasks.merging.rules.plans import Plan
from tasks.records import now
from tasks.session import open_catalog
from tasks.settings import Settings

log = logging.getLogger(__name__)

_DECISIONS = {"approve", "reject", "approve-all", "approve-all-asked", "keeper", "withdraw"}
#: Notices that an address may ask for; their words are ours alone (``form.note.*``).
_NOTICES = {"recorded", "before", "withdrawn", "planned"}


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
    if settings.merge.secret is not None:
        check_secret(settings)  # at the start: otherwise the first click would fail
    service = Service(settings)
    gate = _Gate(service.settings, replan) if settings.merge.secret is not None else None
    pictures = PictureRoutes(service.settings, gate.claim, gate.plan) if gate else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield
        if pictures is not None:
            pictures.close()

    async def check_key(request: Request) -> None:
        keys.check(request)

    app = FastAPI(
        title="dam-dedup gate",
        version="1",
        description=schemas.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    guard(app, service)
    for routes in (native_routes(service), compat_routes(service)):
        app.include_router(routes, dependencies=[Depends(check_key)])
    app.include_router(upkeep_routes(app, service, check_key))
    if gate is not None and pictures is not None:
        app.add_api_route(
            "/review/{token}",
            gate.show,
            methods=["GET", "HEAD"],
            response_model=None,
            include_in_schema=False,
        )
        app.add_api_route(
            "/review/{token}",
            gate.act,
            methods=["POST"],
            response_model=None,
            include_in_schema=False,
        )
        app.include_router(
            ReportRoutes(service.settings, gate.claim, gate.plan, replan).router,
            include_in_schema=False,
        )
        app.include_router(pictures.router, include_in_schema=False)
        app.include_router(DoneRoutes(service.settings).router, include_in_schema=False)
    return app


class _Gate:
    """The approval pages: what a signed link shows, and what its form does."""

    def __init__(self, settings: Settings, replan: Replan | None) -> None:
        self._settings = settings
        self._replan = replan

    def show(self, token: str, page: str = "1", note: str = "", group: str = "") -> Response:
        """Show one page of the plan as it is now, by number or by a group on it."""
        claim = self.claim(token)
        plan = self.plan(claim)
        mine = claim.groups(plan)
        number = page_of(plan, group, mine) or _page_number(page, pages(plan, mine))
        return self._page(
            claim, plan, number, report=f"{token}/report", notice=note if note in _NOTICES else ""
        )

    async def act(self, token: str, request: Request, page: str = "1") -> Response:
        """Record the decision of a form, or make a plan with other keepers."""
        claim = await run_in_threadpool(self.claim, token)
        form = await _read_form(request)
        return await run_in_threadpool(self._act, claim, form, token, page)

    def _act(self, claim: Claim, form: Form, token: str, page: str) -> Response:
        plan = self.plan(claim)
        number = _page_number(page, pages(plan, claim.groups(plan)))
        if form.decision == "approve-all" and not form.keepers:
            return self._ask(claim, plan, number, form)
        try:
            if form.decision == "keeper":
                return self._replanned(claim, plan, form)
            outcome = decide_form(self._settings, claim, plan, form)
        except MergeError as error:
            said = [str(error)]
            return self._page(
                claim,
                plan,
                number,
                problems=said,
                comment=form.comment,
                status=409,
                report=f"{token}/report",
            )
        log.info(
            "plan %s: %s by %s, %d groups",
            plan.id,
            form.decision,
            claim.reviewer,
            sum(1 for one in outcome if one.new),
        )
        left = problems(outcome, form.decision)
        if left:
            status = 200 if any(one.new for one in outcome) else 409
            return self._page(
                claim,
                plan,
                number,
                problems=left,
                comment=form.comment,
                status=status,
                report=f"{token}/report",
            )
        made = "withdrawn" if form.decision == "withdraw" else "recorded"
        note = made if any(one.new for one in outcome) else "before"
        # A relative address, because a proxy may serve the gate below a path.
        return _see_other(f"{token}?page={number}&note={note}")

    def _ask(self, claim: Claim, plan: Plan, number: int, form: Form) -> Response:
        """Before everything is approved: what that would be. Decides nothing."""
        review = Review(
            plan,
            claim.reviewer,
            claim.until,
            decisions=read_decisions(open_catalog(self._settings), plan),
            page=number,
            only=claim.groups(plan),
            comment=form.comment,
            language=self._settings.mail.language,
        )
        return _html(confirm_page(review), 200)

    def _replanned(self, claim: Claim, plan: Plan, form: Form) -> Response:
        new_id = replan_form(self._settings, claim, plan, form, self._replan)
        new = read_plan(open_catalog(self._settings), new_id)
        # Of the new plan only what was planned anew is decided on; the rest was shown before.
        anew = set(form.keepers)
        link = sign_link(self._settings, new, claim.reviewer, until=claim.until, groups=anew)
        return _see_other(f"{link.rsplit('/', 1)[-1]}?note=planned")

    def claim(self, token: str) -> Claim:
        """What a link says; 403 where it is none, or no longer."""
        try:
            return read_token(self._settings, token)
        except MergeError as error:
            raise HTTPException(403, str(error)) from error

    def plan(self, claim: Claim) -> Plan:
        """The plan that a link is for; 404 where there is none."""
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
        mine = claim.groups(plan)
        shown = groups_of_page(plan, number, mine)
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
            only=mine,
            keepers=self._replan is not None,
            now=now(),
            language=self._settings.mail.language,
            **said,
        )
        return _html(review_page(review), status)


async def _read_form(request: Request) -> Form:
    check_form(request, "nothing was decided")
    body = await read_form_body(request, BODY_LIMIT, "nothing was decided")
    try:
        form = parse_form(body)
    except ValueError as error:
        raise HTTPException(400, "the form cannot be read; nothing was decided") from error
    if form.decision not in _DECISIONS:
        raise HTTPException(400, "the form says neither approve nor reject; nothing was decided")
    return form


def _page_number(text: str, last: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 1
    return min(max(number, 1), last)


def _html(body: bytes, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "text/html; charset=utf-8")


def _see_other(place: str) -> Response:
    return Response(status_code=303, headers={"Location": place})
