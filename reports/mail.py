"""The summary mail: plain text and HTML of the same facts, small pictures inline."""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any

from reports.page import environment, headline, news, totals
from tasks.records import Receipt, Role, Summary

_TOP_GROUPS = 5
_TOP_MEMBERS = 4
_PICTURE_BYTES = 2 * 1024**2


def scan_mail(
    summary: Summary, receipts: list[Receipt], sender: str, to: list[str]
) -> EmailMessage:
    """A multipart/alternative mail about one scan.

    Args:
        summary: the scan.
        receipts: where the documents went; links come from here.
        sender: the From address.
        to: the recipients.
    """
    mail = EmailMessage()
    # Header values with a line break are refused by EmailMessage: no header can be injected.
    mail["Subject"] = f"[{summary.collection}] {news(summary)}: {headline(summary)}"
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    mail["Date"] = format_datetime(summary.finished)
    mail["Message-ID"] = make_msgid(idstring=summary.scan_id, domain="dam-dedup.invalid")
    mail["Auto-Submitted"] = "auto-generated"
    pictures: dict[str, tuple[str, bytes]] = {}
    values = {
        "summary": summary,
        "headline": headline(summary),
        "news": news(summary),
        "totals": totals(summary),
        "receipts": receipts,
        "report": next((r for r in receipts if r.name == "report.html" and r.link), None),
        "groups": _top_groups(summary, pictures),
        "plan": summary.plan,
        "page": _page(summary, to),
        "more": max(0, summary.groups.height - _TOP_GROUPS),
    }
    mail.set_content(environment().get_template("mail.txt").render(values))
    mail.add_alternative(environment().get_template("mail.html").render(values), subtype="html")
    html = mail.get_payload()[1]  # type: ignore[index]
    for cid, jpeg in pictures.values():
        html.add_related(jpeg, "image", "jpeg", cid=f"<{cid}>", disposition="inline")  # type: ignore[union-attr]
    return mail


def _page(summary: Summary, to: list[str]) -> str | None:
    """The signed page of a mail's only reader; nobody gets another's."""
    pages = summary.plan.pages if summary.plan else {}
    return pages.get(to[0]) if len(to) == 1 else None


def _top_groups(summary: Summary, pictures: dict[str, tuple[str, bytes]]) -> list[dict[str, Any]]:
    found, spent = [], 0
    for group in summary.groups.head(_TOP_GROUPS).iter_rows(named=True):
        rows = summary.members.filter(summary.members["group_id"] == group["group_id"])
        members = []
        for row in rows.head(_TOP_MEMBERS).iter_rows(named=True):
            jpeg = summary.thumbnails.get(row["content"])
            if jpeg and row["content"] not in pictures and spent + len(jpeg) <= _PICTURE_BYTES:
                pictures[row["content"]] = (f"{row['content']}@dam-dedup.invalid", jpeg)
                spent += len(jpeg)
            cid = pictures.get(row["content"], (None, b""))[0]
            members.append(row | {"cid": cid, "is_keeper": row["role"] == Role.KEEPER.value})
        found.append(group | {"members": members, "more": rows.height - len(members)})
    return found
