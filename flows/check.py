"""The flow that checks on demand whether an image is already there."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.artifacts import publish_check
from flows.forms import CheckForm
from flows.telling import run_name
from tasks import steps
from tasks.intake.check_request import check_image


@flow(name="check-asset", flow_run_name=run_name, persist_result=False)
def check_asset(request: CheckForm) -> dict[str, Any]:
    """Compare one image with a collection, or with the part of it that passes a filter.

    Args:
        request: an asset or a URL, and what it is compared with. Nothing is added to the catalog.
    """
    asked, known = request.request(), steps.worker_settings()
    checked = steps.as_task(check_image, asked, known)
    return publish_check(asked, checked, known)
