"""The report page at a signed link: it shows the plan's scan, and its decisions come back as JSON.

The rules are those of the form (``review_actions.py``): a link decides on one plan, in one
reviewer's name; the first decision on a group holds until it is taken back, which can be done until
it is carried out. Looking at the page changes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import polars as pl
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from deployments.gate.review_actions import Replan, check_scope
from reports.highlights import only
from reports.page import Gate, page_policy, report_page
from reports.words import moment
from tasks.errors import CatalogBusyError, CatalogError, MergeError
from tasks.merging.approvals import Claim, sign_link
from tasks.merging.decide import decide_each
from tasks.merging.journal import read_decisions, read_events, read_plan
from tasks.merging.rules.decisions import Decisions, PairVerdict, parse_decisions
from tasks.merging.rules.plan_note import PlanNote, note_plan
from tasks.merging.rules.plans import Plan, PlannedGroup
from tasks.queries.verdicts import Verdict, record_verdicts, withdraw_verdicts
from tasks.reporting.summarize import approved_by_policy, last_scan, summarize_scan
from tasks.session import locate, open_catalog
from tasks.settings import Settings
from tasks.summary import Summary

log = logging.getLogger(__name__)

#: The most bytes of one request; the page sends some 200 groups at a time.
_BODY_LIMIT = 1_000_000
_STRANGE = "the request names pairs that are not in a group you may decide on; nothing was decided"


class ReportRoutes:
    """The two routes below a link's address: the report page, and its decisions."""

    def __init__(
        self,
        settings: Settings,
        claim_of: Callable[[str], Claim],
        plan_of: Callable[[Claim], Plan],
        replan: Replan | None = None,
    ) -> None:
        """Take how a token becomes a claim and a plan, which checks both."""
        self._settings, self._replan = settings, replan
        self._claim_of, self._plan_of = claim_of, plan_of
        self._lock = threading.Lock()
        self._kept: tuple[str, Summary] | None = None
        self.router = APIRouter()
        for path, act, methods in (
            ("/review/{token}/report", self.show, ["GET", "HEAD"]),
            ("/review/{token}/decisions", self.decide, ["POST"]),
        ):
            self.router.add_api_route(path, act, methods=methods, response_model=None)

    def show(self, token: str) -> Response:
        """The page of the plan's scan; changes nothing."""
        claim = self._claim_of(token)
        plan = self._plan_of(claim)
        gate = Gate(
            reviewer=claim.reviewer,
            until=moment(claim.until),
            post="decisions",  # relative, because a proxy may serve the gate below a path
            form=f"../{token}",
            decided=self._decided(plan),
            keepers=self._replan is not None,
            pictures="pictures/" if self._settings.gate.picture_bytes else "",
        )
        shown = _part(self._summary(plan), claim.groups(plan))
        body = report_page(shown, gate, self._settings.mail.language).body
        return Response(
            body,
            headers={
                "Content-Security-Policy": page_policy(gate=True) + "; frame-ancestors 'none'"
            },
            media_type="text/html; charset=utf-8",
        )

    async def decide(self, token: str, request: Request) -> Response:
        """Record decisions sent as JSON; the answer says which decisions hold now."""
        try:
            claim = await run_in_threadpool(self._claim_of, token)
            _check_origin(request, self._settings)
            found = await _read(request)
            said = await run_in_threadpool(self._decide, claim, found)
        except HTTPException as error:
            return JSONResponse({"error": str(error.detail)}, error.status_code)
        except CatalogBusyError:
            busy = "another process is writing to the catalog; nothing was decided"
            return JSONResponse({"error": busy}, 503, {"Retry-After": "60"})
        except MergeError as error:
            return JSONResponse({"error": str(error)}, 409)
        return JSONResponse(said)

    def _decide(self, claim: Claim, found: Decisions) -> dict[str, Any]:
        plan = self._plan_of(claim)
        if found.plan_hash != plan.hash:
            raise MergeError("these are decisions about another plan; nothing was decided")
        known = {group.group_id for group in plan.groups}
        if any(one.group not in known for one in found.groups):
            raise MergeError(
                "the request names groups that this plan does not have; nothing was decided"
            )
        check_scope(claim, plan, [one.group for one in found.groups])
        homes = self._homes(plan, claim, found.verdicts)
        before = self._decided(plan)
        outcome = decide_each(self._settings, plan, found.groups, by=claim.reviewer, channel="page")
        new = {one.group_id for one in outcome if one.new and one.decision}
        # The verdicts on a group's pairs count with its first decision: where that was made before,
        # they come too late. A group that nothing would be done to takes no decision; its verdicts
        # count by themselves.
        acting = {group.group_id for group in plan.groups if group.operations}
        verdicts = [
            Verdict(one.left, one.right, one.verdict)
            for one, home in zip(found.verdicts, homes, strict=True)
            if home in new or (home not in acting and home not in before)
        ]
        number = 0
        if verdicts:
            number = record_verdicts(self._settings, verdicts, by=claim.reviewer, channel="page")
        back = {one.group for one in found.groups if one.decision == "withdraw"}
        self._withdraw_verdicts(plan, claim, back - before.keys())
        log.info("plan %s: %d groups and %d pairs by %s", plan.id, len(new), number, claim.reviewer)
        problems = {
            one.group_id: one.why
            for one in outcome
            if one.why and (not one.decision or one.group_id in back)
        }
        link = self._replanned(claim, plan, found, problems)
        return {
            "decided": self._decided(plan),
            "problems": problems,
            "verdicts": number,
            "plan": link,
        }

    def _withdraw_verdicts(self, plan: Plan, claim: Claim, names: Collection[str]) -> None:
        """Take back the verdicts on pairs of groups that the plan does nothing with.

        Such a group has no decision; ``decide_each`` has taken back those of the others.
        """
        source, _ = locate(plan.source, self._settings)
        for group in plan.groups:
            if group.group_id in names and _may(claim, plan, group):
                who, assets = claim.reviewer, group.assets(source)
                withdraw_verdicts(self._settings, assets, said_by=who, by=who, channel="page")

    def _homes(self, plan: Plan, claim: Claim, verdicts: tuple[PairVerdict, ...]) -> list[str]:
        """The group of each pair, which must be one that the reviewer may decide on."""
        source, _ = locate(plan.source, self._settings)
        home = {
            asset: group.group_id
            for group in plan.groups
            if _may(claim, plan, group)
            for asset in group.assets(source)
        }
        found = [home.get(one.left, "") for one in verdicts]
        for one, where in zip(verdicts, found, strict=True):
            if not where or home.get(one.right) != where:
                raise MergeError(_STRANGE)
        return found

    def _replanned(
        self, claim: Claim, plan: Plan, found: Decisions, problems: dict[str, str]
    ) -> str:
        """The report of a new plan with the keepers and values that were picked."""
        decided = self._decided(plan)
        keepers: dict[str, str] = {}
        values: dict[str, dict[str, str]] = {}
        for one in found.groups:
            group = plan.group(one.group)
            if not one.plans_anew or group is None:
                continue
            if not _may(claim, plan, group) or one.group in decided:
                problems[one.group] = "it cannot be planned anew (any more)"
            elif one.keeper is not None and one.keeper not in group.duplicates:
                problems[one.group] = "this keeper cannot be chosen for it (any more)"
            elif not _had(group, one.values):
                problems[one.group] = "such a value cannot be chosen for it"
            else:
                keepers |= {one.group: one.keeper} if one.keeper is not None else {}
                values |= {one.group: dict(one.values)} if one.values else {}
        if not (keepers or values):
            return ""
        if self._replan is None:
            no_policy = "another keeper or value cannot be chosen here; ask for a new plan"
            problems |= dict.fromkeys([*keepers, *values], no_policy)
            return ""
        made = self._replan(plan.id, keepers, *([values] if values else []))
        new = read_plan(open_catalog(self._settings), made)
        # Of the new plan only what was planned anew is decided on; the rest was shown before.
        anew = {*keepers, *values}
        link = sign_link(self._settings, new, claim.reviewer, until=claim.until, groups=anew)
        return f"../{link.rsplit('/', 1)[-1]}/report"

    def _decided(self, plan: Plan) -> dict[str, list[str]]:
        """Group id to decision, by, when, and ``open`` while it can be taken back."""
        catalog = open_catalog(self._settings)
        begun = set(read_events(catalog, plan).filter(pl.col("number") >= 0)["group_id"])
        return {
            row["group_id"]: [
                row["decision"],
                row["by"],
                moment(row["at"]),
                "" if row["group_id"] in begun else "open",
            ]
            for row in read_decisions(catalog, plan).iter_rows(named=True)
        }

    def _note(self, plan: Plan) -> PlanNote:
        """The plan as its mail told it: with what the policy approved by itself."""
        rows = read_decisions(open_catalog(self._settings), plan)
        return note_plan(plan, approved_by_policy(rows))

    def _summary(self, plan: Plan) -> Summary:
        """The summary of the plan's scan. The last one is kept, since people return to one plan."""
        with self._lock:
            if self._kept is None or self._kept[0] != plan.hash:
                try:
                    scan, space, counts, finished = last_scan(self._settings, plan.scan_id)
                    summary = summarize_scan(scan, space, counts, finished, plan=self._note(plan))
                except CatalogError as error:
                    raise HTTPException(404, f"{error}. Use the form instead") from error
                self._kept = plan.hash, summary
            return self._kept[1]


def _had(group: PlannedGroup, values: Mapping[str, str]) -> bool:
    """Whether the files of a group have these values, by field."""
    known = {
        one.field: {(one.had or "").strip(), *(text.strip() for text in one.others.values())}
        for one in group.fields
    }
    return all(text.strip() in known.get(name, ()) for name, text in values.items())


def _may(claim: Claim, plan: Plan, group: PlannedGroup) -> bool:
    """Whether a link decides on a group."""
    mine = claim.groups(plan)
    asked = not group.approvers or claim.reviewer in group.approvers
    return asked and (mine is None or group.group_id in mine)


def _part(summary: Summary, mine: Collection[str] | None) -> Summary:
    """The part of a summary that a link may show: its groups, without the keys of any others."""
    if mine is None:
        return summary
    outcomes = summary.coverage.outcomes.clear()
    return replace(
        only(summary, mine), coverage=replace(summary.coverage, outcomes=outcomes), past=None
    )


def _check_origin(request: Request, settings: Settings) -> None:
    """Refuse a request that another site's page made: only our own page may send decisions."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a form of another site cannot send this type
        raise HTTPException(415, "decisions are sent as application/json; nothing was decided")
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise HTTPException(403, "use the page of the link; nothing was decided")
    origin = request.headers.get("origin")
    here = {request.headers.get("host", ""), urlsplit(settings.merge.gate_url or "").netloc}
    if origin is not None and urlsplit(origin).netloc not in here:
        raise HTTPException(403, "use the page of the link; nothing was decided")


async def _read(request: Request) -> Decisions:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_LIMIT:
            raise HTTPException(413, "that is too much at once; nothing was decided")
    try:
        return parse_decisions(body)
    except ValueError as error:
        raise HTTPException(400, f"{error}; nothing was decided") from error
