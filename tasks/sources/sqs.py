"""An SQS queue of S3 notifications: receive them, and delete those that were handled."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from tasks.errors import SettingsError, TransientSourceError
from tasks.settings import S3Settings
from tasks.sources.s3 import session_for

_HOST = re.compile(r"(?:sqs|queue)\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_MESSAGES = 10


class Queue:
    """An SQS queue by its URL.

    Raises:
        SettingsError: when the URL is not one of a queue.
    """

    def __init__(self, url: str, settings: S3Settings, client: Any = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or not parts.path.strip("/"):
            raise SettingsError(
                f"queue {url!r:.200}: write https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
            )
        self.url = url
        region = _HOST.fullmatch(parts.hostname or "")
        self._client = client or session_for(settings).client(
            "sqs",
            # The queue's URL names its own server, which is not the S3 endpoint of the settings.
            endpoint_url=f"{parts.scheme}://{parts.netloc}",
            region_name=region[1] if region else settings.region or "us-east-1",
        )

    def receive(self, wait: int = 20) -> list[tuple[str, str]]:
        """Up to ten messages (receipt, body); waits at most ``wait`` seconds for the first.

        Raises:
            TransientSourceError: when the queue cannot be asked.
        """
        try:
            found = self._client.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=_MESSAGES, WaitTimeSeconds=wait
            )
        except (ClientError, BotoCoreError) as error:
            raise TransientSourceError(f"cannot receive from {self.url}: {error}") from error
        return [(one["ReceiptHandle"], one["Body"]) for one in found.get("Messages", [])]

    def delete(self, receipt: str) -> None:
        """Delete a message from the queue; one that is not deleted is delivered again.

        Raises:
            TransientSourceError: when the queue refuses.
        """
        try:
            self._client.delete_message(QueueUrl=self.url, ReceiptHandle=receipt)
        except (ClientError, BotoCoreError) as error:
            raise TransientSourceError(f"{self.url} keeps what was followed: {error}") from error
