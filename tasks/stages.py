"""All stages under one name: what `flows.order` runs when there is no Prefect."""

from tasks.intake.bucket_events import check_keys
from tasks.intake.check_request import check_image
from tasks.intake.screen import screen_assets
from tasks.merging.merge import decide_and_merge, merge_approved
from tasks.merging.plan import plan_scan
from tasks.merging.quarantine import empty_quarantine
from tasks.merging.undo import undo_merge
from tasks.queries.verdicts import give_verdict
from tasks.reporting.deliver import deliver_documents, send_mail
from tasks.reporting.history import keep_mailed, keep_report
from tasks.reporting.summarize import summarize_scan
from tasks.scan.begin import begin_scan, catalog_turn
from tasks.scan.embed import embed_assets
from tasks.scan.finish import fail_scan, finish_scan
from tasks.scan.group import group_assets
from tasks.scan.sync import sync_assets
from tasks.scan.verify import match_assets

__all__ = [
    "begin_scan",
    "catalog_turn",
    "check_image",
    "check_keys",
    "decide_and_merge",
    "deliver_documents",
    "embed_assets",
    "empty_quarantine",
    "fail_scan",
    "finish_scan",
    "give_verdict",
    "group_assets",
    "keep_mailed",
    "keep_report",
    "match_assets",
    "merge_approved",
    "plan_scan",
    "screen_assets",
    "send_mail",
    "summarize_scan",
    "sync_assets",
    "undo_merge",
]
