"""Runs the whole product once on real servers (``make demo``)."""

from __future__ import annotations

import email
import email.policy
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from deployments.bootstrap import bootstrap, pause_schedules
from deployments.local import stack
from deployments.local.pictures import Upload, demo_uploads, folder_uploads, later_uploads
from tasks.errors import DamDedupError
from tasks.settings import load_settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Say = Callable[[str], None]
_RUN_SECONDS = 1800
#: The demo's merge policy, as a careful person would begin.
_POLICY = """\
version: 1
name: demo
minimum_age_hours: 0        # the demo's pictures are minutes old
caps: {share: 1.0}          # and nearly all of them are copies
rules:
  - name: copies
    keeper: [{prefix: [masters/]}]   # else what pixels cannot tell is asked
    action: quarantine      # moved aside, kept for 30 days, and back with one command
    metadata:
      - {field: tags.agency, rule: union, separator: " "}
      - {field: tags.project, rule: union, separator: " "}
      - {field: metadata.uploader, rule: keeper}
"""


class DemoError(DamDedupError):
    """The demo did not end as it should."""


def run_demo(folder: Path, *, images: Path | None, keep: bool, say: Say) -> None:
    """Start the stack, fill a bucket, scan it through the deployments, say what was found.

    Args:
        folder: where everything of the demo is kept; may be deleted afterwards.
        images: a folder to scan instead of the demo's own pictures.
        keep: leave the stack running.
        say: called with each line that the demo tells.

    Raises:
        DemoError: when a run fails or finds nothing.
    """
    started = time.monotonic()
    folder = folder.resolve()
    if images is not None and not images.is_dir():
        raise DemoError(f"{images}: no such folder")
    say("Starting S3, mail and Prefect servers on this machine ...")
    bucket = f"dam-{time.strftime('%Y%m%d-%H%M%S')}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.yaml").write_text(_POLICY)
    os.environ |= _demo_settings(folder, bucket)
    try:
        # Stopped first: a worker that a demo with --keep left running has that demo's settings.
        stack.down(folder / "stack", say=say)
        state = stack.up(folder / "stack", say=say)
        os.environ |= state.env
        _fill_and_scan(folder, bucket, images, say)
        say(f"\nDone in {time.monotonic() - started:.0f} s.")
        if keep:
            command, place = sys.argv[0], folder / "stack"
            say(f"\nPrefect UI: {state.env['PREFECT_UI_URL']}")
            say("The stack is still running; to use it from a shell, with the demo's catalog:")
            say(f'  eval "$({command} stack up --dir {place})"')
            for name in ("DAM_DEDUP_SOURCE__URI", "DAM_DEDUP_CATALOG__URI"):
                say(f"  export {name}={os.environ[name]}")
            say(f"and to stop it:\n  {command} stack down --dir {place}")
    finally:
        if not keep:
            stack.down(folder / "stack", say=say)


def _demo_settings(folder: Path, bucket: str) -> dict[str, str]:
    """The settings a worker of the demo runs with."""
    return {
        "DAM_DEDUP_COLLECTION": "demo",
        "DAM_DEDUP_SOURCE__URI": f"s3://{bucket}",
        "DAM_DEDUP_CATALOG__URI": str(folder / "catalogs" / bucket),
        "DAM_DEDUP_DELIVERY__FOLDER": str(folder / "reports"),
        "DAM_DEDUP_DELIVERY__BUCKET": f"s3://{bucket}/.dam-dedup/reports",
        "DAM_DEDUP_MERGE__POLICY": str(folder / "policy.yaml"),
        "DAM_DEDUP_MAIL__TO": "admin@example.test",
        "DAM_DEDUP_MAIL__SENDER": "dam-dedup@example.test",
    }


def _fill_and_scan(folder: Path, bucket: str, images: Path | None, say: Say) -> None:
    from tasks.sources.s3 import client_for

    client = client_for(load_settings().s3)
    client.create_bucket(Bucket=bucket)
    uploads = folder_uploads(images) if images else demo_uploads()
    number = _put_all(client, bucket, uploads)
    say(f"Put {number} objects into s3://{bucket}.")
    bootstrap(say=say)
    # An hourly scan that came due now would find the copies first, and the demo nothing new.
    pause_schedules()
    _scan("full-scan/Demo: full scan now", "full", folder, say)
    number = _put_all(client, bucket, _later(images))
    say(f"\nPut {number} more objects into the bucket.")
    _scan("incremental-scan/Demo: scan now", "incremental", folder, say)
    _merge_and_undo(client, bucket, say)
    _tell_mails(Path(os.environ["DAM_DEDUP_STACK_MAIL_DIR"]), say)


def _merge_and_undo(client: S3Client, bucket: str, say: Say) -> None:
    """Approve the plan as its form in the Prefect UI does, carry it out, and undo it."""
    from tasks.merging.journal import read_plan
    from tasks.session import open_catalog

    plan = read_plan(open_catalog(load_settings()), "latest")
    acting = [group for group in plan.groups if group.operations]
    say(
        f"\nPlan {plan.id}: {len(acting)} of {len(plan.groups)} groups would be acted on, for "
        "example:"
    )
    for group in acting[:2]:
        say(
            f"  {group.action.value} {len(group.duplicates)} of {group.keeper!r}: "
            f"{'; '.join(group.reasons)}"
        )
    before = _listed(client, bucket)
    request = {"plan_id": plan.id, "decision": "approve", "approved_by": "demo", "dry_run": False}
    _run("merge-plan/Demo: decide on a merge plan", request, say)
    after = _listed(client, bucket)
    gone = {key for key, _ in before} - {key for key, _ in after}
    if not gone:
        raise DemoError(f"the merge of plan {plan.id} moved nothing")
    say(
        f"Approved and merged: {len(gone)} objects moved into quarantine, what their tags and "
        "metadata said is with the keepers."
    )
    _run(
        "undo-merge/Demo: undo a merge",
        {"target": plan.id, "undone_by": "demo", "dry_run": False},
        say,
    )
    if _listed(client, bucket) != before:
        raise DemoError("the undo did not bring back what was there")
    say("Undone: every object is back, byte for byte.")


def _listed(client: S3Client, bucket: str) -> set[tuple[str, str]]:
    """Key and ETag of the assets."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {
        (item["Key"], item["ETag"])
        for page in pages
        for item in page.get("Contents", [])
        if not item["Key"].startswith(".dam-dedup/")
    }


def _later(images: Path | None) -> Iterable[Upload]:
    """Five more assets: the demo's own, or five of the user's under other names."""
    if images is None:
        return later_uploads()
    first = [upload for upload, _ in zip(folder_uploads(images), range(5), strict=False)]
    return [Upload(f"inbox/{n}-{Path(u.key).name}", u.body) for n, u in enumerate(first)]


def _put_all(client: S3Client, bucket: str, uploads: Iterable[Upload]) -> int:
    def put(upload: Upload) -> None:
        client.put_object(
            Bucket=bucket,
            Key=upload.key,
            Body=upload.body,
            ContentType=upload.content_type,
            Metadata=upload.metadata,
            Tagging=urlencode(upload.tags),
        )

    with ThreadPoolExecutor(8) as pool:
        return sum(1 for _ in pool.map(put, uploads))


def _scan(deployment: str, kind: str, folder: Path, say: Say) -> None:
    """Run a scan's deployment, and tell what it found."""
    begun = time.monotonic()
    _run(deployment, None, say)
    reports = sorted((folder / "reports").iterdir())[-1]
    found = json.loads((reports / "groups.json").read_text())
    if found["scan"]["kind"] != kind:
        raise DemoError(f"{reports} holds no {kind} scan")
    _tell(found, reports, time.monotonic() - begun, say)


def _run(deployment: str, request: dict[str, Any] | None, say: Say) -> None:
    """Trigger a deployment and wait for its run."""
    from prefect.deployments import run_deployment

    say(f"\nRunning the deployment {deployment} ...")
    given = None if request is None else {"request": request}
    run: Any = run_deployment(deployment, parameters=given, timeout=_RUN_SECONDS, poll_interval=1)
    name = run.state.name if run.state else "unknown"
    if name != "Completed":
        raise DemoError(
            f"the run {run.name} of {deployment} ended as {name}: "
            f"{run.state.message if run.state else ''}; its log is the worker's: "
            "stack/logs/worker.log in the demo's folder"
        )


def _tell(found: dict[str, Any], reports: Path, seconds: float, say: Say) -> None:
    coverage, groups, counts = found["coverage"], found["groups"], found["counts"]
    tiers = [m["tier"] for group in groups for m in group["members"] if m["role"] == "duplicate"]
    states = [group["state"] for group in groups]
    say(
        f"The {found['scan']['kind']} scan took {seconds:.0f} s: {coverage['seen']} objects seen, "
        f"{coverage['scanned']} images scanned, {counts['embedded']} embedded now."
    )
    say(
        f"{len(groups)} groups with {len(tiers)} duplicates ({tiers.count('exact')} exact, "
        f"{tiers.count('near')} near); groups: {states.count('new')} new, "
        f"{states.count('changed')} changed."
    )
    for group in groups[:3]:
        keeper, *others = group["members"]
        say(
            f"  keep {keeper['key']!r}, {len(others)} duplicates, e.g. {others[0]['key']!r} "
            f"({others[0]['tier']}, score {others[0]['score']:.2f})"
        )
    for outcome in ("skipped", "failed"):
        for reason, number in coverage[outcome].items():
            keys = coverage["keys"][f"{outcome}:{reason}"]
            say(f"  {outcome}: {number} {reason}, e.g. {keys[0]!r}")
    say(f"  report: {reports / 'report.html'}")


def _tell_mails(folder: Path, say: Say) -> None:
    mails = sorted(folder.glob("*.eml"))[-4:]  # of two scans, a merge and its undo
    if not mails:
        raise DemoError(f"no mail arrived in {folder}")
    say("\nMails:")
    for path in mails:
        mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        say(f"  {mail['Subject']}\n    {path}")
