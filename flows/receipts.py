"""Receipts by mail: after every merge, undo and emptying of the quarantine, whoever started it.

A mail that cannot be sent undoes nothing and fails nothing: its reason is given back, to be told.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from email.message import EmailMessage

from reports.receipt import ReceiptLinks, receipt_mail
from reports.words import text
from tasks.delivery.smtp import send
from tasks.errors import DamDedupError
from tasks.merging.approvals import link_end, sign_undo_link
from tasks.merging.journal import read_plan
from tasks.merging.merge import MergeOutcome
from tasks.merging.quarantine import Quarantined
from tasks.merging.undo import UndoOutcome
from tasks.reporting.receipts import MERGE, PURGE, UNDO, MergeReceipt, NotDone, read_receipt
from tasks.session import open_catalog
from tasks.settings import Settings

log = logging.getLogger(__name__)


def mail_merge(
    settings: Settings, outcome: MergeOutcome, *, by: str, scheduled: bool = False
) -> str:
    """Mail the receipt of a merge to the collection's owners.

    Args:
        settings: who gets it, and how.
        outcome: of the merge.
        by: who ran it, where the journal has no row of it.
        scheduled: a merge that is tried again every few minutes: what failed and left everything
            as it was is not told each time; an alarm tells of merges that have waited for long.

    Returns:
        Why it could not be mailed; nothing when it was, or when there was nothing to tell.
    """
    if outcome.dry_run or not outcome.groups:
        return ""
    if scheduled and not {"merged", "refused"} & {group.state for group in outcome.groups}:
        return ""
    refused = [
        NotDone(group.keeper, group.state, group.why)
        for group in outcome.groups
        if group.state in {"refused", "failed", "waiting"}
    ]
    runs = {(outcome.plan_id, outcome.run_id)} if outcome.run_id else set()
    return _mail(settings, MERGE, runs, refused, outcome.plan_id, by)


def mail_undo(settings: Settings, outcomes: Sequence[UndoOutcome], *, by: str) -> str:
    """Mail the receipt of an undo; returns as :func:`mail_merge` does."""
    acted = [one for one in outcomes if one.run_id]
    if not acted:
        return ""
    refused = [
        NotDone(one.key, one.state, one.why) for one in acted if one.state in {"left", "failed"}
    ]
    plan_id = acted[0].operation.partition("/")[0]
    return _mail(settings, UNDO, {(plan_id, acted[0].run_id)}, refused, plan_id, by)


def mail_purge(settings: Settings, removed: Sequence[Quarantined], *, by: str) -> str:
    """Mail a receipt for each source whose quarantine was emptied; returns as the others do."""
    acted = [entry for entry in removed if entry.run_id]
    if not acted or not settings.mail.to:
        return ""
    catalog = open_catalog(settings)
    source_of = dict(catalog.read("plans", ["plan_id", "source"]).iter_rows())
    wrong = []
    for source in dict.fromkeys(source_of[entry.plan_id] for entry in acted):
        mine = [entry for entry in acted if source_of[entry.plan_id] == source]
        runs = dict.fromkeys((entry.plan_id, entry.run_id) for entry in mine)
        refused = [NotDone(one.key, one.state, one.why) for one in mine if one.state == "failed"]
        wrong.append(_mail(settings, PURGE, runs, refused, mine[0].plan_id, by))
    return next(filter(None, wrong), "")


def _mail(
    settings: Settings,
    kind: str,
    runs: Iterable[tuple[str, str]],
    refused: Sequence[NotDone],
    plan_id: str,
    by: str,
) -> str:
    if not settings.mail.to:
        return ""
    try:
        receipt = read_receipt(settings, kind, list(runs), refused, plan_id=plan_id, by=by)
        for mail in compose_receipt(settings, receipt) if receipt else ():
            send(settings.mail, mail)
    except Exception as error:  # what was merged is merged, whatever is wrong with its receipt
        log.exception("the receipt of plan %s was not mailed", plan_id)
        why = str(error) if isinstance(error, DamDedupError) else type(error).__name__
        return text("receipt.unsent", why=why)
    return ""


def compose_receipt(settings: Settings, receipt: MergeReceipt) -> list[EmailMessage]:
    """The mails of a receipt: with signed pages one for each owner, else one for all."""
    mail = settings.mail
    if not (settings.merge.gate_url and settings.merge.secret):
        return [receipt_mail(receipt, settings.collection, mail, mail.to, ReceiptLinks())]
    return [
        receipt_mail(
            receipt, settings.collection, mail, [person], _links(settings, receipt, person)
        )
        for person in mail.to
    ]


def _links(settings: Settings, receipt: MergeReceipt, person: str) -> ReceiptLinks:
    plan = read_plan(open_catalog(settings), receipt.plan_id)
    mine = {group.group_id for group in receipt.groups}
    undo = ""
    if receipt.kind == MERGE and mine:
        undo = sign_undo_link(settings, plan, person, groups=mine) + "?undo=all"
    until = link_end(settings)
    return ReceiptLinks(undo, sign_undo_link(settings, plan, person), until)
