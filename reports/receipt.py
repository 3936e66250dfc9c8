"""The receipt of a merge, an undo or an emptying of the quarantine: its words, and its mail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import TYPE_CHECKING

from reports import words
from reports.mail import letter, render
from tasks.records import digest
from tasks.settings import MailSettings

if TYPE_CHECKING:
    from tasks.reporting.receipts import MergeReceipt

#: Groups and refusals that a mail names; the page has all.
_GROUPS = 20


@dataclass(frozen=True, slots=True)
class ReceiptLinks:
    """The signed addresses of one reader; empty where there is no gate.

    Attributes:
        undo: of the page that asks before it undoes these groups.
        done: of the page with all that was merged.
        until: when both end.
    """

    undo: str = ""
    done: str = ""
    until: datetime | None = None


def receipt_headline(receipt: MergeReceipt) -> str:
    """What was done, in one line; and how much was not."""
    groups = words.counted(len(receipt.groups), "group")
    said = {
        "groups": groups,
        "files": words.counted(receipt.files, "file"),
        "bytes": words.human_bytes(receipt.bytes),
    }
    name = f"receipt.{receipt.kind}"
    if not receipt.groups:
        name = f"receipt.nothing.{receipt.kind}"
    elif not receipt.files:
        name += ".none"
    elif receipt.kind == "merge" and not receipt.quarantined:
        name += ".removed"
    elif receipt.kind == "undo" and receipt.files == 1:
        name += ".one"
    line = words.text(name, **said)
    number = len(receipt.refused)
    return f"{line}; {words.text('receipt.refused', number=number)}" if number else line


def receipt_facts(receipt: MergeReceipt) -> list[tuple[str, str]]:
    """What was done, a line each: what it is called, and the fact."""
    text, size = words.text, words.human_bytes
    found = [(text("receipt.by"), receipt.by)] if receipt.by else []
    if receipt.approved_by:
        found.append((text("receipt.approved"), ", ".join(receipt.approved_by)))
    found.append((text("receipt.at"), words.moment(receipt.at)))
    if not receipt.groups:
        return found
    files = f"{words.counted(receipt.files, 'file')} ({size(receipt.bytes)})"
    moved = {"merge": "moved" if receipt.quarantined else "removed", "undo": "back"}
    found.append((text(f"receipt.{moved.get(receipt.kind, 'gone')}"), files))
    if receipt.quarantined and receipt.until:
        until = words.moment(receipt.until)
        kept = text("receipt.until", bytes=size(receipt.quarantined), until=until)
        found.append((text("receipt.quarantined"), kept))
    if receipt.noncurrent:
        kept = text("receipt.noncurrent.why", bytes=size(receipt.noncurrent))
        found.append((text("receipt.noncurrent"), kept))
    if receipt.kind != "undo":
        found.append((text("receipt.freed"), _freed(receipt)))
    return found


def receipt_mail(
    receipt: MergeReceipt,
    collection: str,
    settings: MailSettings,
    to: Sequence[str],
    links: ReceiptLinks,
) -> EmailMessage:
    """A multipart/alternative mail about one run.

    Args:
        receipt: what was done.
        collection: its name.
        settings: who sends it, and how it can be stopped.
        to: the recipients.
        links: what they may open.
    """
    with words.speaking(settings.language):
        return _mail(receipt, collection, settings, to, links)


def _mail(
    receipt: MergeReceipt,
    collection: str,
    settings: MailSettings,
    to: Sequence[str],
    links: ReceiptLinks,
) -> EmailMessage:
    headline = receipt_headline(receipt)
    name = digest(receipt.kind, receipt.plan_id, receipt.at.isoformat(), headline)[:24]
    mail = letter((collection, receipt.source), headline, receipt.at, name, settings, to)
    values = {
        "receipt": receipt,
        "collection": collection,
        "headline": headline,
        "facts": receipt_facts(receipt),
        "undoing": _undoing(receipt),
        "links": links,
        "groups": receipt.groups[:_GROUPS],
        "more": max(0, len(receipt.groups) - _GROUPS),
        "refused": receipt.refused[:_GROUPS],
        "more_refused": max(0, len(receipt.refused) - _GROUPS),
        "command": f"dam-dedup undo {receipt.plan_id} --by NAME",
        "unsubscribe": next(iter(settings.unsubscribe), ""),
    }
    mail.set_content(render("receipt.txt", values))
    mail.add_alternative(render("receipt.html", values), subtype="html")
    return mail


def _freed(receipt: MergeReceipt) -> str:
    if receipt.freed or receipt.noncurrent:
        return words.human_bytes(receipt.freed)
    return words.text("receipt.freed.later" if receipt.files else "receipt.freed.none")


def _undoing(receipt: MergeReceipt) -> str:
    """Whether this can be undone, and until when."""
    if not receipt.groups:
        return ""
    if receipt.kind == "purge":
        return words.text("receipt.undo.not")
    if receipt.kind == "undo":
        return words.text("receipt.undo.again")
    if receipt.until:
        return words.text("receipt.undo.until", until=words.moment(receipt.until))
    return words.text("receipt.undo.versions" if receipt.files else "receipt.undo.plain")
