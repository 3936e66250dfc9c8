"""Assets in an S3 bucket.

Keys are opaque: never normalised, never joined as paths. Sources: the boto3 documentation of
``list_objects_v2``, ``get_object`` and ``get_object_tagging``.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from datetime import datetime
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.loaders
import botocore.session
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.utils import parse_timestamp

from tasks.errors import AssetChangedError, AssetGoneError, SourceError, TransientSourceError
from tasks.records import Listing, Probe
from tasks.settings import S3Settings
from tasks.sources.access import (
    authorities_of,
    config_of,
    end_of,
    ending,
    lance_options,
    pay_requests,
)
from tasks.sources.base import HEAD_BYTES
from tasks.sources.s3_listing import list_objects

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

_GONE = {"NoSuchKey", "404", "NotFound", "NoSuchVersion"}
_CHANGED = {"PreconditionFailed", "412"}
_ARCHIVED = {"InvalidObjectState"}
_TAGS_DENIED = {"AccessDenied", "403"}
_PERMANENT = {"AccessDenied", "403", "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch"}


@cache
def _loader() -> botocore.loaders.Loader:
    """One loader for all sessions: each would parse megabytes of service descriptions anew."""
    return botocore.loaders.create_loader()


def moment_of(told: Any) -> datetime:
    """A moment as a store writes it: of a listing in ISO 8601, of a header as mail writes it.

    botocore's own reader, which guesses among all ways to write a date, takes 50 microseconds,
    and so a twelfth of all that a merge does.
    """
    if isinstance(told, str):
        with contextlib.suppress(ValueError):
            found = (
                datetime.fromisoformat(told) if told[:4].isdigit() else parsedate_to_datetime(told)
            )
            if found.tzinfo is not None:
                return found
    return parse_timestamp(told)


def session_for(settings: S3Settings) -> boto3.Session:
    """A boto3 session with the credentials of the settings or, without any, those AWS tools find.

    Raises:
        SourceError: when the AWS configuration is wrong.
    """
    key, secret = settings.access_key_id, settings.secret_access_key
    token = settings.session_token
    try:
        core = botocore.session.get_session()
        core.register_component("data_loader", _loader())
        parsers = core.get_component("response_parser_factory")
        parsers.set_parser_defaults(timestamp_parser=moment_of)
        core.get_scoped_config()  # raises for a profile that is not there, as boto3 would later
        return boto3.Session(
            botocore_session=core,
            aws_access_key_id=key.get_secret_value() if key else None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            aws_session_token=token.get_secret_value() if token else None,
            region_name=settings.region,
        )
    except BotoCoreError as error:
        raise SourceError(f"{error}; check AWS_PROFILE and the AWS configuration file") from error


def client_for(settings: S3Settings) -> S3Client:
    """A boto3 S3 client that retries throttling and broken connections by itself.

    Raises:
        SourceError: when the AWS configuration, or the endpoint in it, is wrong.
    """
    try:
        client = session_for(settings).client(
            "s3",
            endpoint_url=settings.endpoint_url,
            config=config_of(settings),
            verify=authorities_of(settings),
        )
    except ValueError as error:  # also for an endpoint of AWS's own variables and files
        raise SourceError(
            f"{error}; the endpoint must begin with http:// or https:// "
            "(DAM_DEDUP_S3__ENDPOINT_URL, AWS_ENDPOINT_URL or the AWS configuration)"
        ) from error
    if settings.request_payer:
        pay_requests(client)
    return client


def storage_options(settings: S3Settings) -> dict[str, str]:
    """The access of the settings as LanceDB's storage options name it."""
    session = session_for(settings)
    endpoint = client_for(settings).meta.endpoint_url
    region = session.region_name or "us-east-1"
    return lance_options(settings, endpoint, region, session.get_credentials())


def links_end(settings: S3Settings) -> tuple[datetime | None, bool]:
    """When the credentials end that sign links, and whether they end at all.

    A link that is signed with a role's credentials ends with them, however long it was made for.
    """
    credentials = session_for(settings).get_credentials()
    return end_of(credentials), ending(credentials)


class S3Source:
    """The objects of a bucket below a prefix.

    Raises:
        SourceError: when the URI names no bucket.
    """

    def __init__(self, uri: str, settings: S3Settings, client: S3Client | None = None) -> None:
        parts = urlsplit(uri, allow_fragments=False)
        self.bucket = parts.netloc
        if parts.scheme != "s3" or not self.bucket:
            raise SourceError(f"source {uri!r}: write s3://bucket or s3://bucket/prefix")
        # Not parts.path: there, a '?' in a key would begin a query.
        self.prefix = uri.removeprefix(f"s3://{self.bucket}").removeprefix("/")
        self.id = f"s3://{self.bucket}"
        self.workers = settings.connections
        self._tags_denied = False
        self._settings = settings
        self._made = client
        self._making = threading.Lock()

    @property
    def _client(self) -> S3Client:
        """What reaches the bucket, made by the first request: most who open a source ask its id.

        To make a client takes 10 ms, and was 40 % of what planning and merging a few files took.
        """
        with self._making:
            if self._made is None:
                self._made = client_for(self._settings)
            return self._made

    def list_pages(self) -> Iterator[list[Listing]]:
        """All objects below the prefix, a page of at most 1,000 at a time, in any order."""
        try:
            yield from list_objects(self._client, self.bucket, self.prefix, self.workers)
        except (ClientError, BotoCoreError) as error:
            raise self._as_source_error(f"list s3://{self.bucket}/{self.prefix}", error) from error

    def probe(self, key: str) -> Probe:
        """Head bytes, headers, user metadata and tags of one object.

        A ranged GET answers all that a HEAD does and brings the signature too, so one request
        does the work of two. An archived object, whose bytes cannot be read, gets the HEAD.
        """
        try:
            found: Any = self._client.get_object(
                Bucket=self.bucket, Key=key, Range=f"bytes=0-{HEAD_BYTES - 1}"
            )
            head = found["Body"].read(HEAD_BYTES)  # a store may ignore the range
            size = int(found.get("ContentRange", f"/{found['ContentLength']}").rsplit("/", 1)[1])
        except ClientError as error:
            if error.response["Error"]["Code"] not in _ARCHIVED:
                raise self._as_source_error(f"read {key!r}", error) from error
            head = b""
            found = self._head(key)
            size = found["ContentLength"]
        except BotoCoreError as error:
            raise self._as_source_error(f"read {key!r}", error) from error
        return Probe(
            head=head,
            etag=found["ETag"],
            size=size,
            last_modified=found["LastModified"],
            version_id=found.get("VersionId"),
            content_type=found.get("ContentType"),
            metadata={name.lower(): _decode(value) for name, value in found["Metadata"].items()},
            tags=self._tags(key),
            storage_class=found.get("StorageClass", "STANDARD"),  # S3 leaves that one out
        )

    def read(self, key: str, etag: str, limit: int) -> bytes:
        """The bytes of an object, on the condition that it still has the ETag."""
        try:
            found = self._client.get_object(Bucket=self.bucket, Key=key, IfMatch=etag)
            if found["ContentLength"] > limit:
                found["Body"].close()
                raise SourceError(f"{key!r} holds {found['ContentLength']} bytes, over {limit}")
            data = found["Body"].read()
        except (ClientError, BotoCoreError) as error:
            raise self._as_source_error(f"read {key!r}", error) from error
        if found["ETag"] != etag:  # a store that ignores If-Match
            raise AssetChangedError(f"{key!r} changed while it was read; the next scan reads it")
        return bytes(data)

    def _head(self, key: str) -> Any:
        try:
            return self._client.head_object(Bucket=self.bucket, Key=key)
        except (ClientError, BotoCoreError) as error:
            raise self._as_source_error(f"read {key!r}", error) from error

    def _tags(self, key: str) -> dict[str, str] | None:
        """All tags; None where they may not be read. A grant may end at a prefix: each is asked."""
        try:
            found = self._client.get_object_tagging(Bucket=self.bucket, Key=key)
        except (ClientError, BotoCoreError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
            if code == "NotImplemented":
                return {}  # a store without tags
            if code not in _TAGS_DENIED:
                raise self._as_source_error(f"read the tags of {key!r}", error) from error
            if not self._tags_denied:
                log.warning(
                    "%s: tags cannot be read (%s); allow s3:GetObjectTagging to filter by tags",
                    self.id,
                    code,
                )
            self._tags_denied = True
            return None
        return {tag["Key"]: tag["Value"] for tag in found["TagSet"]}

    def _as_source_error(self, action: str, error: ClientError | BotoCoreError) -> SourceError:
        if isinstance(error, ClientError):
            code = error.response["Error"].get("Code", "")
            if code in _GONE:
                return AssetGoneError(f"cannot {action}: no longer in the bucket")
            if code in _CHANGED:
                return AssetChangedError(f"cannot {action}: changed; the next scan reads it")
            if code == "NoSuchBucket":
                return SourceError(f"cannot {action}: there is no bucket {self.bucket!r}")
            if code in _PERMANENT:
                return SourceError(
                    f"cannot {action}: {code}; check the credentials and that they allow "
                    "s3:ListBucket, s3:GetObject and s3:GetObjectTagging"
                )
            return TransientSourceError(f"cannot {action}: {code}: {error}")
        if isinstance(error, NoCredentialsError):
            return SourceError(
                f"cannot {action}: no AWS credentials; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or DAM_DEDUP_S3__CREDENTIALS_BLOCK"
            )
        return TransientSourceError(f"cannot {action}: {error}")


def _decode(value: str) -> str:
    """User metadata as text: S3 hands out non-ASCII values as RFC 2047 words."""
    text = value
    if "=?" in value:
        with contextlib.suppress(Exception):  # anybody can write anything into metadata
            text = str(make_header(decode_header(value)))
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
