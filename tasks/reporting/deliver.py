"""Deliver: put documents where people and programs find them, and send the mail."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path

from tasks.delivery.bucket import put_documents
from tasks.delivery.folder import write_documents
from tasks.delivery.pushgateway import Sample, push_samples
from tasks.delivery.smtp import send
from tasks.errors import DeliveryError
from tasks.records import Document, Receipt, Scan
from tasks.requests import ScanRequest
from tasks.settings import Settings
from tasks.sources.s3 import client_for, links_end

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
        # Asked for before the client that signs: what is fetched later does not end earlier.
        ends = links_end(scan.settings.s3)
        receipts += put_documents(
            client_for(scan.settings.s3),
            f"{settings.bucket.rstrip('/')}/{scan.id}",
            documents,
            public_url=settings.public_url,
            link_days=settings.link_days,
            links_end=ends,
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


def send_numbers(request: ScanRequest, settings: Settings, samples: Sequence[Sample]) -> None:
    """Send a scan's numbers to the Pushgateway, where there is one; a dry run sends none.

    A Pushgateway that does not take them is told in the log: no scan fails for that. The numbers
    are told apart by collection, kind of scan and source.
    """
    if not settings.metrics.pushgateway or request.dry_run:
        return
    source = (request.source or settings.source.uri or "").rstrip("/")
    group = {"collection": settings.collection, "kind": request.kind.value, "source": source}
    try:
        push_samples(settings.metrics, samples, group)
    except DeliveryError as error:
        log.warning("%s", error)
