"""Deliver: put documents where people and programs find them, and send the mail."""

from __future__ import annotations

import logging
from email.message import EmailMessage
from pathlib import Path

from tasks.delivery.bucket import put_documents
from tasks.delivery.folder import write_documents
from tasks.delivery.smtp import send
from tasks.records import Document, Receipt, Scan
from tasks.sources.s3 import client_for

log = logging.getLogger(__name__)


def deliver_documents(
    scan: Scan, documents: list[Document], folder: Path | None = None
) -> list[Receipt]:
    """Write the documents to the folder and, unless it is a dry run, to the bucket.

    Args:
        scan: the scan they report on.
        documents: what to deliver.
        folder: exactly where to write; default: a folder of the scan's id in the settings' one.

    Raises:
        DeliveryError: naming the place that refused.
    """
    settings = scan.settings.delivery
    receipts = []
    place = folder or (settings.folder / scan.id if settings.folder else None)
    if place:
        receipts += write_documents(place, documents)
    if settings.bucket and not scan.dry_run:
        receipts += put_documents(
            client_for(scan.settings.s3),
            f"{settings.bucket.rstrip('/')}/{scan.id}",
            documents,
            public_url=settings.public_url,
            link_days=settings.link_days,
        )
    for receipt in receipts:
        log.info("delivered %s", receipt.place)
    return receipts


def send_mail(scan: Scan, mail: EmailMessage) -> list[str]:
    """Send the summary mail.

    Returns:
        The addresses that the server refused while it took the mail for others.

    Raises:
        MailError: when nobody got it.
    """
    refused = send(scan.settings.mail, mail)
    log.info("mailed %s", mail["To"])
    return refused
