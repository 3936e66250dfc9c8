"""All stages under one name: what `flows.order` runs when there is no Prefect."""

from tasks.ask import check_image
from tasks.begin import begin_scan, catalog_turn
from tasks.deliver import deliver_documents, send_mail
from tasks.embed import embed_assets
from tasks.finish import fail_scan, finish_scan
from tasks.follow import check_keys
from tasks.group import group_assets
from tasks.history import keep_mailed, keep_report
from tasks.match import match_assets
from tasks.merge import decide_and_merge, merge_approved
from tasks.plan import plan_scan
from tasks.quarantine import empty_quarantine
from tasks.screen import screen_assets
from tasks.summarize import summarize_scan
from tasks.sync import sync_assets
from tasks.undo import undo_merge
from tasks.verdict import give_verdict

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
