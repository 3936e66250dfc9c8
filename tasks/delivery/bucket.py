"""Documents into a bucket."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from tasks.errors import DeliveryError
from tasks.records import Document, Receipt, now

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def put_documents(
    client: S3Client,
    uri: str,
    documents: list[Document],
    *,
    public_url: str | None,
    link_days: int,
    links_end: tuple[datetime | None, bool] = (None, False),
) -> list[Receipt]:
    """Put each document below ``uri`` (``s3://bucket/prefix``).

    Args:
        client: for the bucket.
        uri: below which prefix.
        documents: what to put there.
        public_url: the address at which people read that prefix; such links need no signature.
        link_days: without a public URL, how many days a presigned link is valid; 0: no link.
        links_end: when the credentials end that sign them, where that is known, and whether they
            end at all: a link ends with them.

    Raises:
        DeliveryError: when the bucket refuses.
    """
    parts = urlsplit(uri)
    bucket, prefix = parts.netloc, parts.path.strip("/")
    receipts = []
    until, sooner = _until(link_days, *links_end)
    for document in documents:
        key = f"{prefix}/{document.name}"
        try:
            client.put_object(
                Bucket=bucket, Key=key, Body=document.body, ContentType=document.media_type
            )
            link = None
            if public_url:
                folder = prefix.rsplit("/", 1)[-1]
                link = f"{public_url.rstrip('/')}/{quote(folder)}/{quote(document.name)}"
            elif link_days:
                link = client.generate_presigned_url(
                    "get_object",
                    Params={"Bucket": bucket, "Key": key},
                    ExpiresIn=link_days * 86_400,
                )
        except (ClientError, BotoCoreError) as error:
            raise DeliveryError(
                f"cannot write s3://{bucket}/{key}: {error}; check DAM_DEDUP_DELIVERY__BUCKET and "
                "that the credentials allow s3:PutObject there"
            ) from error
        signed = link is not None and not public_url
        receipts.append(
            Receipt(
                document.name,
                f"s3://{bucket}/{key}",
                link,
                until if signed else None,
                sooner and signed,
            )
        )
    return receipts


def _until(link_days: int, end: datetime | None, ends: bool) -> tuple[datetime, bool]:
    """When links of so many days end, and whether they may end sooner than that."""
    until = now() + timedelta(days=link_days)
    return (min(until, end), False) if end else (until, ends)
