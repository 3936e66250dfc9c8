"""The summary mail: plain text and HTML of the same facts, small pictures inline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup, escape

from reports import words
from reports.highlights import (
    above_words,
    decisions,
    merged_words,
    narrow,
    openings,
    others,
    since_words,
    theirs,
    top_groups,
)
from reports.page import environment, headline, news, totals
from tasks.records import Receipt, digest
from tasks.settings import MailSettings
from tasks.summary import Summary

__all__ = ["HTML_LIMIT", "PICTURE_LIMIT", "letter", "narrow", "scan_mail"]

#: Bytes of the HTML; some programs cut off what is beyond 100 kB.
HTML_LIMIT = 80_000
#: Bytes of all pictures as they travel, in base64.
PICTURE_LIMIT = 5_000_000
_GROUPS, _MEMBERS = 10, 4
#: What is longer is cut in its middle: the start of a key says where, its end says what.
_KEY, _TEXT = 160, 400
_NO_DOMAIN = "dam-dedup.invalid"


def scan_mail(
    summary: Summary,
    receipts: Sequence[Receipt],
    settings: MailSettings,
    to: Sequence[str],
    *,
    part: bool = False,
) -> EmailMessage:
    """A multipart/alternative mail about one scan.

    Args:
        summary: the scan, or of it what is the reader's (:func:`narrow`).
        receipts: where the documents went; links come from here.
        settings: who sends it, and how it can be stopped.
        to: the recipients.
        part: whether the summary holds only what is the reader's.
    """
    with words.speaking(settings.language):
        return _scan_mail(summary, receipts, settings, to, part=part)


def _scan_mail(
    summary: Summary,
    receipts: Sequence[Receipt],
    settings: MailSettings,
    to: Sequence[str],
    *,
    part: bool,
) -> EmailMessage:
    mail = letter(
        (summary.collection, summary.source),
        f"{news(summary)}: {headline(summary)}",
        summary.finished,
        summary.scan_id,
        settings,
        to,
    )
    values = _values(summary, receipts, to, part=part)
    values["unsubscribe"] = next(iter(settings.unsubscribe), "")
    pictures: dict[str, tuple[str, bytes]] = {}
    shown = top_groups(summary, _GROUPS, _MEMBERS, to)
    _place_pictures(summary, shown, pictures, mail["Message-ID"])
    text, html = _fitting(values, shown)
    mail.set_content(text)
    mail.add_alternative(html, subtype="html")
    related = mail.get_payload()[1]  # type: ignore[index]
    for cid, jpeg in pictures.values():
        if f"cid:{cid}" in html:
            related.add_related(  # type: ignore[union-attr]
                jpeg, "image", "jpeg", cid=f"<{cid}>", disposition="inline"
            )
    return mail


def letter(
    collection: tuple[str, str],
    subject: str,
    when: datetime,
    name: str,
    settings: MailSettings,
    to: Sequence[str],
) -> EmailMessage:
    """A mail about a collection, still without text.

    Args:
        collection: its name and its source.
        subject: what the subject says after the collection's name.
        when: the mail's date.
        name: of what it tells: the same mail sent twice has the same id.
        settings: who sends it, and how it can be stopped.
        to: the recipients.
    """
    title, source = collection
    mail = EmailMessage()
    domain = _domain(settings.sender)
    # Header values with a line break are refused by EmailMessage: no header can be injected.
    mail["Subject"] = f"[{title}] {subject}"
    mail["From"] = settings.sender
    mail["To"] = ", ".join(to)
    mail["Date"] = format_datetime(when)
    # The same mail sent twice has the same id: the second copy is known as one.
    mail["Message-ID"] = f"<{name}.{digest(*to)[:16]}@{domain}>"
    # All mails of a collection answer one that never was: reading programs keep them together.
    thread = f"<{digest('collection', title, source)[:16]}.thread@{domain}>"
    mail["In-Reply-To"] = thread
    mail["References"] = thread
    mail["Thread-Topic"] = words.text("mail.topic", collection=title)
    mail["List-Id"] = f"Duplicates in {title} <{title}.dam-dedup.{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    if settings.unsubscribe:
        mail["List-Unsubscribe"] = ", ".join(f"<{one}>" for one in settings.unsubscribe)
        if any(one.startswith("https:") for one in settings.unsubscribe):
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return mail


def _domain(sender: str) -> str:
    name = sender.rpartition("@")[2].rstrip(">").lower()
    plain = name.replace("-", "").replace(".", "")
    return name if plain.isascii() and plain.isalnum() and "." in name else _NO_DOMAIN


def _values(
    summary: Summary, receipts: Sequence[Receipt], to: Sequence[str], *, part: bool
) -> dict[str, Any]:
    pages = summary.plan.pages if summary.plan else {}
    report = next((r for r in receipts if r.name == "report.html" and r.link), None)
    later, first = openings(summary)
    found = decisions(summary, to)
    page = pages.get(to[0]) if len(to) == 1 else None
    shared = 0 if part else len(others(summary, to))
    reviewers = sum(1 for person in summary.shares if theirs(summary, person))
    return {
        "summary": summary,
        "headline": headline(summary),
        "news": news(summary),
        "totals": totals(summary),
        "receipts": receipts,
        "report": report,
        "report_until": words.link_end(report, "mail.report") if report else "",
        "plan": summary.plan,
        "later": later,
        "first": words.soon(first, summary.finished) if first else "",
        "above": above_words(summary),
        # A reviewer's part has no share in what merges of the whole collection did.
        "merged": [] if part else merged_words(summary),
        "since": "" if part else since_words(summary),
        "decisions": found,
        "what_all": _merging_all(
            found, summary.plan.quarantine_days if summary.plan else 0, on_page=bool(page)
        ),
        "when": _when(summary, on_page=bool(page), part=part),
        "if_nothing": _doing_nothing(found),
        # The signed page of a mail's only reader; nobody gets another's.
        "page": page,
        "page_until": words.until(summary.plan.pages_until) if page and summary.plan else "",
        "part": part,
        "shared": shared,
        "shared_words": _shared(shared, reviewers),
    }


def _when(summary: Summary, *, on_page: bool, part: bool) -> str:
    """Where a reader decides, when that is carried out, and how it is taken back."""
    if part or on_page or summary.plan is None:
        return words.text("mail.when.part" if part else "mail.when")
    if summary.plan.form:
        return words.text("mail.when.form")
    return words.text("mail.when.command", plan=summary.plan.id)


def _merging_all(found: dict[str, int], days: int, *, on_page: bool) -> str:
    """What happens when all groups that wait are merged, there on the page or elsewhere."""
    if not found["open_files"]:
        kind = "tagged"
    else:
        kind = "quarantine" if days and found["removed"] < found["open_files"] else "moved"
        kind += ".one" if found["open_files"] == 1 else ".other"
    what = words.text(
        f"mail.all.{kind}",
        files=words.counted(found["open_files"], "file"),
        bytes=words.human_bytes(found["open_bytes"]),
        groups=words.counted(found["waiting"], "group"),
        days=words.counted(days, "day"),
    )
    return words.text("mail.all" if on_page else "mail.all.bare", what=what)


def _doing_nothing(found: dict[str, int]) -> str:
    """What happens when nobody decides: nothing, or what the policy has approved."""
    if not found["approved"]:
        return words.text("mail.nothing")
    return words.text(
        "mail.nothing.but",
        groups=words.counted(found["approved"], "group"),
        files=words.counted(found["files"] - found["open_files"], "file"),
        bytes=words.human_bytes(found["bytes"] - found["open_bytes"]),
    )


def _shared(groups: int, reviewers: int) -> str:
    """How many of an owner's groups others were asked about too."""
    parts = words.text(
        f"mail.parts.{'one' if reviewers == 1 else 'other'}",
        reviewers=words.counted(reviewers, "reviewer"),
    )
    name = f"mail.shared.{'one' if groups == 1 else 'other'}"
    return words.text(name, groups=words.counted(groups, "group"), parts=parts)


def _fitting(values: dict[str, Any], shown: list[dict[str, Any]]) -> tuple[str, str]:
    """Text and HTML with as many of the groups as fit."""
    whole = values["summary"].groups.height
    for number in range(len(shown), -1, -1):
        given = values | {"groups": shown[:number], "more": whole - number}
        html = render("mail.html", given)
        if len(html.encode()) <= HTML_LIMIT:
            break
    return render("mail.txt", given), html


def render(name: str, values: dict[str, Any]) -> str:
    """A template of the mail, with every text from elsewhere cut to a length that a mail bears."""
    return _environment().get_template(name).render(values)


@cache
def _environment() -> jinja2.Environment:
    made = environment().overlay()
    made.filters = made.filters | {
        "key": lambda text: cut(text, _KEY),
        "said": lambda text: cut(text, _TEXT),
        "breakable": breakable,
    }
    return made


def cut(text: str, most: int) -> str:
    """A text with what is invisible made visible, and its middle left out where it is long."""
    shown = words.shown_key(text)
    half = (most - 3) // 2
    return shown if len(shown) <= most else f"{shown[: most - 3 - half]}...{shown[-half:]}"


def breakable(text: str) -> Markup:
    """A key as HTML whose lines may break after each slash, which mail programs honour."""
    return Markup("/<wbr>").join(escape(part) for part in cut(text, _KEY).split("/"))


def _place_pictures(
    summary: Summary,
    shown: list[dict[str, Any]],
    pictures: dict[str, tuple[str, bytes]],
    message_id: str,
) -> None:
    """Give members their picture's cid while there is room."""
    spent, domain = 0, message_id.rpartition("@")[2].rstrip(">")
    for group in shown:
        for member in group["members"]:
            content = member["content"]
            jpeg = summary.thumbnails.get(content)
            size = -(-len(jpeg or b"") // 3) * 4 * 78 // 76 + 200  # base64 in lines, and headers
            if jpeg and content not in pictures and spent + size <= PICTURE_LIMIT:
                pictures[content] = (f"{content}@{domain}", jpeg)
                spent += size
            member["cid"] = pictures.get(content, (None, b""))[0]
