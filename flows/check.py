"""The flow that checks on demand whether an image is already there."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.artifacts import publish_check
from flows.scan import settings
from tasks import steps
from tasks.intake.check_request import check_image
from tasks.requests import CheckRequest


@flow(name="check-asset", persist_result=False)
def check_asset(request: CheckRequest) -> dict[str, Any]:
    """Compare one image with a collection, or with the part of it that passes a filter.

    Args:
        request: an asset or a URL, and what it is compared with. Nothing is added to the catalog.
    """
    known = settings()
    checked = steps.as_task(check_image, request, known)
    return publish_check(request, checked, known)
