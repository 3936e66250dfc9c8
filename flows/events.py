"""The flow that checks the keys which a bucket's events name."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.artifacts import key_of
from flows.telling import run_name
from reports.events import followed_data, followed_markdown
from tasks.errors import EventError, TransientSourceError
from tasks.intake.bucket_events import check_keys as check_bucket_keys
from tasks.requests import KeysRequest
from tasks.steps import worker_settings


@flow(name="check-keys", flow_run_name=run_name, persist_result=False)
def check_keys(request: KeysRequest) -> dict[str, Any]:
    """Bring just the named keys up to date, and say what they match and which alerts they raise.

    Notifications come at least once, and in any order. One that comes again changes nothing.

    Args:
        request: notifications as they came, or keys.
    """
    known = worker_settings()
    done = check_bucket_keys(request, known)
    create_markdown_artifact(
        followed_markdown(done), key=key_of(known, "keys"), description="What was checked"
    )
    if done.refused:
        raise EventError(f"events of other buckets were refused: {done.refused}")
    if done.failed:  # the run must fail: its caller then delivers these events again
        raise TransientSourceError(f"the storage did not show {done.failed}")
    return followed_data(done)
