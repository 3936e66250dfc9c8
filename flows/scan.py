"""The flows of the two kinds of scan: incremental and full."""

from __future__ import annotations

from functools import partial

from prefect import flow

from flows.artifacts import publish
from flows.forms import ScanForm
from flows.order import Outcome, run_scan
from flows.telling import COVERAGE_LOW, MAIL_FAILED, SCANNED, run_name, tell_server
from tasks import steps
from tasks.records import Kind
from tasks.requests import ScanRequest

ALL = ScanForm()


@flow(name="incremental-scan", flow_run_name=run_name, persist_result=False)
def incremental_scan(request: ScanForm = ALL) -> dict[str, int]:
    """Compare new and changed assets with the whole collection.

    Args:
        request: what to scan; empty fields take the settings of the worker.
    """
    return _scan(request.request(Kind.INCREMENTAL))


@flow(name="full-scan", flow_run_name=run_name, persist_result=False)
def full_scan(request: ScanForm = ALL) -> dict[str, int]:
    """Compare every asset with every other, and rebuild the catalog's indexes.

    Args:
        request: what to scan; empty fields take the settings of the worker.
    """
    return _scan(request.request(Kind.FULL))


def _scan(request: ScanRequest) -> dict[str, int]:
    settings = steps.worker_settings()
    form = partial(steps.form_link, settings)
    outcome = run_scan(request, settings, run=steps.as_task, form_link=form)
    found = publish(outcome)
    steps.remove_progress()
    tell_alarms(outcome)
    outcome.check()
    return found


def tell_alarms(outcome: Outcome) -> None:
    """Send the events for which an operator may have asked to be told."""
    settings, coverage = outcome.scan.settings, outcome.summary.coverage
    failed = sum(coverage.failed.values())
    images = coverage.scanned + failed
    if images and coverage.scanned / images < settings.alarms.coverage:
        reasons = ", ".join(f"{number} {reason}" for reason, number in coverage.failed.items())
        said = f"{coverage.scanned:,} of {images:,} images were read; {reasons}"
        tell_server(COVERAGE_LOW, settings, said)
    if outcome.failed:
        tell_server(MAIL_FAILED, settings, "; ".join(outcome.failed))
    if not outcome.incomplete and not outcome.scan.dry_run:
        tell_server(SCANNED, settings, outcome.scan.id)
