"""What a store can do, found out by trying: some ignore preconditions without a word.

A conditional delete that is not conditional deletes what somebody has just uploaded. So the
preconditions are tried on scratch objects before anything is written, whatever the server is
called.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from tasks.sources.answers import CHANGED, DENIED, code_of, explained, is_transient
from tasks.sources.versions import versions_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: No object ever has this ETag.
_WRONG = '"00000000000000000000000000000000"'
_PERMISSION = (
    "s3:PutObject, s3:GetObject, s3:DeleteObject, s3:PutObjectTagging and s3:GetObjectTagging"
)
#: Properties that every copy must keep, what they are called, and what a scratch object is given;
#: the last is tried alone, for some stores refuse it.
_TOLD = {
    "ContentEncoding": ("content encoding", "identity"),
    "ContentLanguage": ("content language", "de"),
    "ContentDisposition": ("content disposition", "inline"),
    "CacheControl": ("cache control", "max-age=1"),
    "Expires": ("expires", "Thu, 01 Jan 2037 00:00:00 GMT"),
    "WebsiteRedirectLocation": ("website redirect", "/elsewhere"),
}
_WORDS = {
    "if_none_match": "PUT with If-None-Match",
    "if_match": "PUT with If-Match",
    "delete_if_match": "DELETE with If-Match",
    "copy_if_match": "copy with x-amz-copy-source-if-match",
    "copy_if_none_match": "copy with If-None-Match",
    "tags": "object tags",
}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store honours; ``versioned`` is the bucket's own setting.

    Attributes:
        forgets: properties of an object, in words, that the store takes and never tells again: a
            merge cannot keep what it is not told.
    """

    if_none_match: bool
    if_match: bool
    delete_if_match: bool
    copy_if_match: bool
    copy_if_none_match: bool
    tags: bool
    versioned: bool
    forgets: tuple[str, ...] = ()

    @property
    def writable(self) -> bool:
        """Whether merges may write here at all: copies and tags have ways round, these have not."""
        return self.if_none_match and self.if_match and self.delete_if_match

    @property
    def missing(self) -> list[str]:
        """What the store does not do, in words; versioning is not counted."""
        names = [field.name for field in fields(self) if field.name in _WORDS]
        return [_WORDS[name] for name in names if not getattr(self, name)]


class Bucket(Protocol):
    """What a probe needs to know of a store."""

    @property
    def client(self) -> S3Client:
        """Makes the requests."""

    @property
    def bucket(self) -> str:
        """The bucket's name."""

    @property
    def versioned(self) -> bool:
        """Whether the bucket keeps versions."""


def probe(store: Bucket, prefix: str = ".dam-dedup/probe/") -> Capabilities:
    """Try every precondition on scratch objects below the prefix, and remove them again.

    Raises:
        StoreRefusedError: when the credentials may not write, tag or delete below the prefix.
        TransientSourceError: when the store did not answer.
        SourceError: when there is no such bucket.
    """
    trial = _Trial(store, f"{prefix}{uuid.uuid4().hex}")
    try:
        with explained(f"probe below {prefix!r}", store.bucket, _PERMISSION):
            return Capabilities(
                if_none_match=trial.if_none_match(),
                if_match=trial.if_match(),
                delete_if_match=trial.delete_if_match(),
                copy_if_match=trial.copy_if_match(),
                copy_if_none_match=trial.copy_if_none_match(),
                tags=trial.tags(),
                versioned=store.versioned,
                forgets=trial.forgets(),
            )
    finally:
        trial.tidy()


class _Trial:
    """Scratch objects, and one question after the other about them.

    Each condition is tried both ways: one that is not met must stop the request and leave the
    object as it was; one that is met must let it through.
    """

    def __init__(self, store: Bucket, stem: str) -> None:
        self._client = store.client
        self._bucket = store.bucket
        self._stem = stem
        self._keys: list[str] = []

    def if_none_match(self) -> bool:
        put = self._client.put_object
        old, etag = self._made()
        return self._stopped(old, etag, put, Body=b"new", IfNoneMatch="*") and self._passed(
            self._name(), put, Body=b"new", IfNoneMatch="*"
        )

    def if_match(self) -> bool:
        put = self._client.put_object
        key, etag = self._made()
        return self._stopped(key, etag, put, Body=b"new", IfMatch=_WRONG) and self._passed(
            key, put, Body=b"new", IfMatch=etag
        )

    def delete_if_match(self) -> bool:
        delete = self._client.delete_object
        key, etag = self._made()
        return (
            self._stopped(key, etag, delete, IfMatch=_WRONG)
            and self._passed(key, delete, IfMatch=etag)
            and self._etag(key) == ""
        )

    def copy_if_match(self) -> bool:
        source, etag = self._made()
        target, copy = self._name(), self._copy(source)
        return self._stopped(target, "", copy, CopySourceIfMatch=_WRONG) and self._passed(
            target, copy, CopySourceIfMatch=etag
        )

    def copy_if_none_match(self) -> bool:
        source, _ = self._made()
        old, etag = self._made()
        copy = self._copy(source)
        return self._stopped(old, etag, copy, IfNoneMatch="*") and self._passed(
            self._name(), copy, IfNoneMatch="*"
        )

    def tags(self) -> bool:
        key, _ = self._made()
        wanted = [{"Key": "dam-dedup", "Value": "probe 1"}]
        if not self._passed(key, self._client.put_object_tagging, Tagging={"TagSet": wanted}):
            return False
        try:
            found = self._client.get_object_tagging(Bucket=self._bucket, Key=key)["TagSet"]
        except ClientError as error:
            _raise_unless_answer(error)
            return False
        return [dict(tag) for tag in found] == wanted

    def forgets(self) -> tuple[str, ...]:
        """Which properties are not told again; one that is refused is none that is forgotten."""
        found: set[str] = set()
        for names in (tuple(_TOLD)[:-1], tuple(_TOLD)[-1:]):
            key = self._name()
            request = {name: _TOLD[name][1] for name in names}
            if self._passed(key, self._client.put_object, Body=b"told", **request):
                answer: Any = self._client.head_object(Bucket=self._bucket, Key=key)
                told = answer | {"Expires": answer.get("ExpiresString")}
                found |= {name for name in names if told.get(name) != _TOLD[name][1]}
        return tuple(_TOLD[name][0] for name in _TOLD if name in found)

    def tidy(self) -> None:
        """Remove the scratch objects, versions and all, as far as that is allowed."""
        for key in self._keys:
            with contextlib.suppress(ClientError, BotoCoreError, KeyError):
                for version in list(versions_of(self._client, self._bucket, key)):
                    self._client.delete_object(
                        Bucket=self._bucket, Key=key, VersionId=version.version_id
                    )
            with contextlib.suppress(ClientError, BotoCoreError):
                if self._etag(key):
                    self._client.delete_object(Bucket=self._bucket, Key=key)

    def _name(self) -> str:
        self._keys.append(f"{self._stem}-{len(self._keys)}")
        return self._keys[-1]

    def _made(self) -> tuple[str, str]:
        """A new scratch object and its ETag; no two have one body."""
        key = self._name()
        made = self._client.put_object(Bucket=self._bucket, Key=key, Body=key.encode())
        return key, made["ETag"]

    def _copy(self, source: str) -> Callable[..., Any]:
        def copy(**request: Any) -> Any:
            return self._client.copy_object(
                CopySource={"Bucket": self._bucket, "Key": source}, **request
            )

        return copy

    def _stopped(self, key: str, etag: str, call: Callable[..., Any], **request: Any) -> bool:
        """Whether the store says that the condition is not met, and does nothing."""
        try:
            call(Bucket=self._bucket, Key=key, **request)
        except ClientError as error:
            _raise_unless_answer(error)
            return code_of(error) in CHANGED and self._etag(key) == etag
        return False

    def _passed(self, key: str, call: Callable[..., Any], **request: Any) -> bool:
        try:
            call(Bucket=self._bucket, Key=key, **request)
        except ClientError as error:
            _raise_unless_answer(error)
            return False
        return True

    def _etag(self, key: str) -> str:
        try:
            return self._client.head_object(Bucket=self._bucket, Key=key)["ETag"]
        except ClientError as error:
            _raise_unless_answer(error)
            return ""


def _raise_unless_answer(error: ClientError) -> None:
    """A throttled, failed or forbidden request tells nothing about what the store can do."""
    if is_transient(error) or code_of(error) in DENIED:
        raise error
