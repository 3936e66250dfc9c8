"""Merges: decide and carry out, what a schedule carries out, undo, and emptying quarantine."""

from __future__ import annotations

import time
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput

from flows.scan import settings
from reports.merge import merge_markdown, undo_markdown
from tasks import steps
from tasks.errors import MergeError
from tasks.merging.rules.plans import as_data
from tasks.records import EmptyRequest, MergeRequest, UndoRequest, VerdictRequest

#: The event of a run that waits for a person: no heartbeat is expected of it.
ASKING = "dam-dedup.flow-run.asking"


class Confirmation(RunInput):
    """The second word on what cannot be undone."""

    plan_id_again: str


@flow(name="merge-plan", flow_run_name="{request.decision}-{request.plan_id}", persist_result=False)
def merge_plan(request: MergeRequest) -> dict[str, Any]:
    """Approve or reject groups of a merge plan, and carry out what is approved.

    Args:
        request: which plan, what is decided, and by whom. A dry run decides and writes nothing.
    """
    outcome = steps.decide_and_merge(request, settings())
    create_markdown_artifact(merge_markdown(outcome), key="merge", description="What was merged")
    return as_data(outcome)  # type: ignore[no-any-return]


@flow(name="merge-approved", persist_result=False)
def merge_approved() -> list[dict[str, Any]]:
    """Carry out all that was approved, on whatever page, and is not done yet."""
    outcomes = steps.merge_approved(settings())
    for outcome in outcomes:
        create_markdown_artifact(
            merge_markdown(outcome), key="merge", description="What was merged"
        )
    return [as_data(outcome) for outcome in outcomes]


@flow(name="undo-merge", flow_run_name="undo-{request.target}", persist_result=False)
def undo_merge(request: UndoRequest) -> list[dict[str, Any]]:
    """Put back what a merge did.

    Args:
        request: a plan, a group or an operation, and who undoes it.
    """
    outcomes = steps.undo_merge(request, settings())
    create_markdown_artifact(undo_markdown(outcomes), key="undo", description="What was undone")
    return [as_data(outcome) for outcome in outcomes]


@flow(name="empty-quarantine", persist_result=False)
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
    return [as_data(entry) for entry in steps.empty_quarantine(request, settings())]


def _announce_question() -> None:
    """Say that no heartbeat follows: a run without one is marked crashed after two minutes.

    The server's own event of the suspension comes too early. A run's first heartbeat, sent a moment
    before, travels another way and arrives later; this event follows it on that way.
    """
    time.sleep(1)
    emit_event(ASKING, resource={"prefect.resource.id": f"prefect.flow-run.{runtime.flow_run.id}"})


@flow(name="give-verdict", flow_run_name="{request.verdict.value}", persist_result=False)
def give_verdict(request: VerdictRequest) -> int:
    """Say of two assets what they are to one another; every later scan keeps to it.

    Args:
        request: the pair, the verdict, and who gives it.
    """
    return steps.give_verdict(request, settings())
