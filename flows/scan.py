"""Scans: what is new, and everything."""

from __future__ import annotations

from prefect import flow

from flows.artifacts import publish
from flows.order import run_scan
from tasks import steps
from tasks.records import FullScanRequest, ScanRequest
from tasks.settings import Settings, load_settings

INCREMENTAL = ScanRequest()
FULL = FullScanRequest()


@flow(name="incremental-scan", flow_run_name="{request.kind}", persist_result=False)
def incremental_scan(request: ScanRequest = INCREMENTAL) -> dict[str, int]:
    """Find duplicates of what is new, among everything.

    Args:
        request: what to scan; empty fields take the settings of the worker.
    """
    return publish(run_scan(steps, request, settings()))


@flow(name="full-scan", flow_run_name="{request.kind}", persist_result=False)
def full_scan(request: FullScanRequest = FULL) -> dict[str, int]:
    """Compare everything with everything, and rebuild the catalog's indexes.

    Args:
        request: what to scan; empty fields take the settings of the worker.
    """
    return publish(run_scan(steps, request, settings()))


def settings() -> Settings:
    """The worker's settings, its credentials loaded at run time."""
    return steps.with_credentials(load_settings())
