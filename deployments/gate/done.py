"""The page of what was merged, at a link signed for it: it shows, asks, and undoes.

Looking at it changes nothing; only a POST undoes. A link is for some groups of one plan, or, of an
owner, for all that was merged at the plan's source.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from deployments.gate.forms import check_form, read_form_body
from flows.receipts import mail_undo
from reports.done import MOST_AT_ONCE, DonePage, confirm_undo_page, done_page
from tasks.errors import MergeError, SourceError
from tasks.merging.approvals import Claim, read_undo_token
from tasks.merging.journal import read_plan
from tasks.merging.rules.plans import Plan
from tasks.merging.undo import UndoOutcome, undo_merge
from tasks.records import now
from tasks.reporting.receipts import Done, DoneGroup, read_done
from tasks.session import open_catalog
from tasks.settings import Settings

log = logging.getLogger(__name__)

#: The most bytes of a form: the names of as many groups as one click undoes.
_BODY_LIMIT = 16_000
#: So long an undo waits for a scan or a merge that is at work; the browser waits with it.
_WAIT_SECONDS = 5.0
#: Notices that an address may ask for; their words are ours alone.
_NOTICES = {"undone", "undone-unsent", "undone-quiet", "none"}


class DoneRoutes:
    """The route of the page: GET shows it or asks, POST undoes."""

    def __init__(self, settings: Settings) -> None:
        waiting = min(_WAIT_SECONDS, settings.catalog.scan_wait_seconds)
        catalog = settings.catalog.model_copy(update={"scan_wait_seconds": waiting})
        self._settings = settings.model_copy(update={"catalog": catalog})
        self.router = APIRouter()
        for act, methods in ((self.show, ["GET", "HEAD"]), (self.act, ["POST"])):
            self.router.add_api_route("/done/{token}", act, methods=methods, response_model=None)

    def show(self, token: str, page: str = "1", note: str = "", undo: str = "") -> Response:
        """Show what was merged; with ``undo``, ask whether to undo it. Changes nothing."""
        claim, plan = self._read(token)
        done = read_done(self._settings, plan, claim.groups(plan))
        notice = note if note in _NOTICES else ""
        number = int(page) if page.isascii() and page.isdigit() and len(page) <= 6 else 1
        shown = self._page(claim, plan, done, page=number, notice=notice)
        if not undo:
            return _html(done_page(shown))
        chosen = _chosen(claim, done, [undo])
        return _html(confirm_undo_page(shown, chosen, f"dam-dedup undo {plan.id} --by NAME"))

    async def act(self, token: str, request: Request) -> Response:
        """Undo the groups of a form, and mail the receipt."""
        names = await _read_form(request)
        return await run_in_threadpool(self._undo, token, names)

    def _undo(self, token: str, names: list[str]) -> Response:
        claim, plan = self._read(token)
        mine = claim.groups(plan)
        chosen = _chosen(claim, read_done(self._settings, plan, mine), names)
        if len(chosen) > MOST_AT_ONCE:
            raise HTTPException(413, f"more than {MOST_AT_ONCE} groups at once; nothing was undone")
        problems: list[str] = []
        outcomes: list[UndoOutcome] = []
        unsent = ""
        for plan_id in dict.fromkeys(group.plan_id for group in chosen):
            groups = {group.group_id for group in chosen if group.plan_id == plan_id}
            try:
                ended = undo_merge(self._settings, plan_id, by=claim.reviewer, groups=groups)
            except (MergeError, SourceError) as error:
                problems.append(str(error))
                continue
            unsent = mail_undo(self._settings, ended, by=claim.reviewer) or unsent
            outcomes += ended
        problems += [f"{one.key}: {one.why}" for one in outcomes if one.state != "undone"]
        log.info("plan %s: %d groups undone by %s", plan.id, len(chosen), claim.reviewer)
        if problems:
            done = read_done(self._settings, plan, mine)
            return _html(done_page(self._page(claim, plan, done, problems=problems)), 409)
        note = "none"
        if outcomes:
            quiet = "undone" if self._settings.mail.to else "undone-quiet"
            note = "undone-unsent" if unsent else quiet
        # A relative address, because a proxy may serve the gate below a path.
        return Response(status_code=303, headers={"Location": f"{token}?note={note}"})

    def _page(self, claim: Claim, plan: Plan, done: Done, **said: Any) -> DonePage:
        language = self._settings.mail.language
        return DonePage(
            done, plan.source, claim.reviewer, claim.until, now(), language=language, **said
        )

    def _read(self, token: str) -> tuple[Claim, Plan]:
        """What a link says, and its plan; 403 where it is no link, 404 where there is no plan."""
        try:
            claim = read_undo_token(self._settings, token)
        except MergeError as error:
            raise HTTPException(403, str(error)) from error
        try:
            plan = read_plan(open_catalog(self._settings), claim.hash)
        except MergeError as error:
            raise HTTPException(404, f"{error}. This link is of no use any more") from error
        if (plan.id, plan.hash) != (claim.plan_id, claim.hash):
            raise HTTPException(403, "this link is for another plan; ask for a new one")
        return claim, plan


def _chosen(claim: Claim, done: Done, names: Collection[str]) -> list[DoneGroup]:
    """The groups that an address or a form names; ``all`` only of a link that is for some groups.

    Raises:
        HTTPException: 403 when the link is not for one of them.
    """
    if list(names) == ["all"] and claim.scope is not None:
        return list(done.groups)
    known = {f"{group.plan_id}/{group.group_id}": group for group in done.groups}
    if not names or not known.keys() >= set(names):
        raise HTTPException(403, "this link is not for these groups; nothing was undone")
    return [known[name] for name in dict.fromkeys(names)]


async def _read_form(request: Request) -> list[str]:
    check_form(request, "nothing was undone")
    body = await read_form_body(request, _BODY_LIMIT, "nothing was undone")
    try:
        return parse_qs(body.decode("ascii"), max_num_fields=2 * MOST_AT_ONCE).get("undo", [])
    except ValueError as error:
        raise HTTPException(400, "the form cannot be read; nothing was undone") from error


def _html(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="text/html; charset=utf-8")
