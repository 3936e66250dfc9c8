"""The flows of the two kinds of scan: incremental and full."""

from __future__ import annotations

from prefect import flow

from flows.artifacts import publish
from flows.order import run_scan
from tasks import steps
from tasks.requests import FullScanRequest, ScanRequest
from tasks.settings import Settings, load_settings

INCREMENTAL = ScanRequest()
FULL = FullScanRequest()


@flow(name="incremental-scan", flow_run_name="{request.kind}", persist_result=False)
def incremental_scan(request: ScanRequest = INCREMENTAL) -> dict[str, int]:
    """Compare new and changed assets with the whole collection.

    Args:
        request: what to scan; empty fields take the settings of the worker.
    """
    return _scan(request)


@flow(name="full-scan", flow_run_name="{request.kind}", persist_result=False)
def full_scan(request: FullScanRequest = FULL) -> dict[str, int]:
    """Compare every asset with every other, and rebuild the catalog's indexes.

    Args:
        request: what to scan; empty fields take the settings of the worker.
    """
    return _scan(request)


def _scan(request: ScanRequest) -> dict[str, int]:
    outcome = run_scan(request, settings(), run=steps.as_task, form_link=steps.form_link)
    found = publish(outcome)
    outcome.check()
    return found


def settings() -> Settings:
    """The worker's settings, its credentials loaded at run time."""
    return steps.with_credentials(load_settings())
