"""The flows of merging: deciding, carrying out what is approved, undoing, emptying quarantine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput

from flows.artifacts import key_of
from flows.receipts import mail_merge, mail_purge, mail_undo
from flows.telling import MAIL_FAILED, MERGE_WAITING, run_name, tell_server
from reports.merge import merge_headline, merge_markdown, undo_headline, undo_markdown
from tasks import steps
from tasks.errors import MergeError
from tasks.merging import merge, quarantine, undo
from tasks.merging.overdue import overdue_merges
from tasks.merging.rules.plans import as_data
from tasks.queries import verdicts
from tasks.requests import EmptyRequest, MergeRequest, UndoRequest, VerdictRequest
from tasks.settings import Settings

#: The event with which a run says that it waits for a person. The automation that marks runs
#: without a heartbeat as crashed leaves such a run alone.
ASKING = "dam-dedup.flow-run.asking"
#: What a run says that found nothing to carry out.
NOTHING = "Nothing was merged: no plan holds a group that is approved and not yet done"


class Confirmation(RunInput):
    """A second confirmation, asked for before something that cannot be undone."""

    plan_id_again: str


@flow(name="merge-plan", flow_run_name=run_name, persist_result=False)
def merge_plan(request: MergeRequest) -> dict[str, Any]:
    """Approve or reject groups of a merge plan, and carry out what is approved.

    Args:
        request: which plan, what is decided, and by whom. A dry run decides and writes nothing.
    """
    known = steps.worker_settings()
    outcome = merge.decide_and_merge(request, known, progress=steps.progress_bar())
    create_markdown_artifact(
        merge_markdown(outcome), key=key_of(known, "merge"), description=merge_headline(outcome)
    )
    tell_unsent(known, mail_merge(known, outcome, by=request.approved_by))
    refuse_nothing_done([outcome])
    return as_data(outcome)  # type: ignore[no-any-return]


@flow(name="merge-approved", flow_run_name=run_name, persist_result=False)
def merge_approved() -> list[dict[str, Any]]:
    """Carry out everything that was approved and is not done yet."""
    known = steps.worker_settings()
    outcomes = merge.merge_approved(known, by="schedule", progress=steps.progress_bar())
    for outcome in outcomes:
        create_markdown_artifact(
            merge_markdown(outcome), key=key_of(known, "merge"), description=merge_headline(outcome)
        )
        tell_unsent(known, mail_merge(known, outcome, by="schedule", scheduled=True))
    if not outcomes:
        create_markdown_artifact(NOTHING, key=key_of(known, "merge"), description=NOTHING)
    tell_overdue(known)
    refuse_nothing_done(outcomes)
    return [as_data(outcome) for outcome in outcomes]


def tell_overdue(known: Settings) -> None:
    """Send an event where approved merges have waited for longer than the settings allow."""
    found = overdue_merges(known, known.alarms.merge_days)
    if found.groups and found.since:
        said = (
            f"{found.groups} approved groups are not merged, the first since "
            f"{found.since:%d %B %Y}; plans {', '.join(found.plans)}"
        )
        tell_server(MERGE_WAITING, known, said)


def tell_unsent(known: Settings, why: str) -> None:
    """Send an event where a receipt could not be mailed; what was merged stays merged."""
    if why:
        tell_server(MAIL_FAILED, known, why)


def refuse_nothing_done(outcomes: Sequence[merge.MergeOutcome]) -> None:
    """Fail a run in which there was something to merge and nothing could be.

    A run that merged some of the groups has done its work, and says on its page what is left; a
    run with nothing to do has nothing to fail at.

    Raises:
        MergeError: naming how many groups could not be merged, and why the first could not.
    """
    groups = [group for outcome in outcomes for group in outcome.groups]
    wrong = [group for group in groups if group.state in {"failed", "refused"}]
    if wrong and len(wrong) == len([g for g in groups if g.state != "waiting"]):
        raise MergeError(
            f"nothing was merged: {len(wrong)} of {len(groups)} groups could not be, the first "
            f"({wrong[0].group_id[:8]}, {wrong[0].keeper}) because: {wrong[0].why}"
        )


@flow(name="undo-merge", flow_run_name=run_name, persist_result=False)
def undo_merge(request: UndoRequest) -> list[dict[str, Any]]:
    """Put back what a merge did.

    Args:
        request: a plan, a group or an operation, and who undoes it.
    """
    known = steps.worker_settings()
    outcomes = undo.undo_merge(
        known,
        request.target,
        by=request.undone_by,
        dry_run=request.dry_run,
        progress=steps.progress_bar(),
    )
    create_markdown_artifact(
        undo_markdown(outcomes), key=key_of(known, "undo"), description=undo_headline(outcomes)
    )
    tell_unsent(known, mail_undo(known, outcomes, by=request.undone_by))
    return [as_data(outcome) for outcome in outcomes]


@flow(name="empty-quarantine", flow_run_name=run_name, persist_result=False)
def empty_quarantine(request: EmptyRequest) -> list[dict[str, Any]]:
    """Remove for good what has been in quarantine long enough.

    Args:
        request: early emptying waits for a second confirmation on this run's page.
    """
    if request.early and not request.dry_run:
        _announce_question()
        text = (
            f"This removes everything that plan {request.plan_id} moved into quarantine, **for "
            "good**. Type the plan's id to go on."
        )
        said = suspend_flow_run(
            wait_for_input=Confirmation.with_initial_data(description=text, plan_id_again=""),
            timeout=7 * 24 * 3600,
        )
        if said.plan_id_again.strip() != request.plan_id:
            raise MergeError("the plan's id was not confirmed; nothing was removed")
    known = steps.worker_settings()
    removed = quarantine.empty_quarantine(
        known,
        by=request.emptied_by,
        plan_id=request.plan_id,
        early=request.early,
        dry_run=request.dry_run,
        progress=steps.progress_bar(),
    )
    tell_unsent(known, mail_purge(known, removed, by=request.emptied_by))
    return [as_data(entry) for entry in removed]


def _announce_question() -> None:
    """Tell the server that this run waits for a person, so that it is not marked as crashed.

    A run without a heartbeat for two minutes is marked as crashed, and a suspended run sends none.
    The server's own event of the suspension cannot be used for that: the run's first heartbeat,
    sent a moment before, takes another way and arrives after it. This event takes the heartbeat's
    way and so arrives after the heartbeat.
    """
    time.sleep(1)
    emit_event(ASKING, resource={"prefect.resource.id": f"prefect.flow-run.{runtime.flow_run.id}"})


@flow(name="give-verdict", flow_run_name=run_name, persist_result=False)
def give_verdict(request: VerdictRequest) -> int:
    """Record a person's verdict on two assets; every later scan keeps to it.

    Args:
        request: the pair, the verdict, and who gives it.
    """
    return verdicts.give_verdict(steps.worker_settings(), request)
