"""Writes to an S3 bucket that can lose nothing: each is bound to the state it was decided on.

Keys are whole and opaque. Every write is conditional, so a change by somebody else stops it; every
write may be repeated, and finds what it did before. Data is never deleted by version id. Sources:
the S3 documentation of conditional writes, conditional deletes, ``CopyObject`` and delete markers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from email.header import Header
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from botocore.exceptions import ClientError

from tasks.errors import (
    AssetChangedError,
    AssetGoneError,
    CatalogError,
    StoreRefusedError,
    TransientSourceError,
)
from tasks.records import ObjectState
from tasks.settings import S3Settings
from tasks.sources.answers import CONFLICT, code_of, was_retried
from tasks.sources.bucket import GRANTS, Bucket, bare, grants_of
from tasks.sources.capabilities import Capabilities
from tasks.sources.copy_parts import as_parameters, copy_in_parts
from tasks.sources.versions import Version, keep_order, versions_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Store", "Version", "same_description"]

#: Bytes that one server-side copy may have; more is copied in parts.
COPY_LIMIT = 5 * 1024**3
#: Bytes of such a part; at most 10,000 of them make 5 TiB, the largest object.
COPY_PART = 600 * 1024**2
#: Bytes that are copied by way of this machine where the store ignores conditions on copies.
CARRY_LIMIT = 64 * 1024**2
#: Bytes up to which two objects whose ETags cannot be compared are read and compared.
COMPARE_LIMIT = 256 * 1024**2
_CHUNK = 1024**2
#: Versions of one key that are looked through for a marker.
_ALL = 10_000
_CONFLICT_WAITS = (0.1, 0.4, 1.6)  # seconds


#: Requests that take something away or replace it; an overwrite is a PUT with If-Match.
_DESTROYING = (
    "DeleteObject",
    "DeleteObjects",
    "PutObject",
    "PutObjectTagging",
    "PutObjectAcl",
)


class Lease(Protocol):
    """Who says whether this process may still write to the bucket.

    Attributes:
        term: seconds for which it is ours after each renewal.
        fence: larger than that of anybody who held it before.
    """

    term: float
    fence: int

    def check(self, seconds: float = 0.0) -> None:
        """Raise CatalogError unless we may for so many more seconds."""

    def note(self, work: str) -> None:
        """Tell whoever takes it over what we are at; raises CatalogError where that fails."""


class Store(Bucket):
    """A bucket, to be written to with care.

    Attributes:
        bucket: its name.
        client: what reaches it.
        capabilities: what `probe` found, once it was asked; until then the store is trusted.
        lease: with one, every attempt of a request that destroys is made only while the lease is
            surely ours until that attempt has ended.
    """

    def __init__(self, bucket: str, settings: S3Settings, client: S3Client | None = None) -> None:
        super().__init__(bucket, settings, client)
        self.capabilities: Capabilities | None = None
        self.lease: Lease | None = None
        keep_order(self.client)
        for operation in _DESTROYING:
            self.client.meta.events.register_last(f"before-send.s3.{operation}", self._may_send)

    def announce(self, work: str) -> None:
        """Write into the lease what we are about to do, before its first request.

        Raises:
            TransientSourceError: when that could not be written: then it must not be done.
        """
        if self.lease is None:
            return
        try:
            self.lease.note(work)
        except CatalogError as error:
            raise TransientSourceError(
                f"nothing was sent to s3://{self.bucket}: {error}"
            ) from error

    # ---- writing -----------------------------------------------------------------------------

    def put(
        self,
        key: str,
        body: bytes,
        *,
        expected: str,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> ObjectState:
        """Write an object, and say how it is now.

        An object that is already all that was to be written counts as written.

        Args:
            key: where.
            body: what.
            expected: the ETag that the object must have now; empty: there must be none.
            content_type: wins over the one among the headers.
            metadata: user metadata; what is not ASCII is written as RFC 2047 words.
            headers: as an ObjectState has them.
            tags: all of them; an object that is replaced loses its own.

        Raises:
            AssetChangedError: when there is another object.
            AssetGoneError: when there is none and one was expected.
            StoreRefusedError: when it is forbidden, or the store ignores the condition.
        """
        self._need("if_match" if expected else "if_none_match", f"write {key!r}")
        wanted = {**(headers or {}), **({"ContentType": content_type} if content_type else {})}
        request: dict[str, Any] = {
            **as_parameters(wanted),
            "Metadata": _ascii(metadata or {}),
            **({"Tagging": urlencode(dict(tags), quote_via=quote)} if tags else {}),
            **({"IfMatch": expected} if expected else {"IfNoneMatch": "*"}),
        }
        permission = "s3:PutObject" + (" and s3:PutObjectTagging" if tags else "")
        try:
            with self._explained(f"write {key!r}", permission):
                made = _patiently(
                    self.client.put_object, Bucket=self.bucket, Key=key, Body=body, **request
                )
        except (AssetChangedError, AssetGoneError) as error:
            found = self.state(key)
            if found.exists and self._holds(found, body, wanted, metadata or {}, tags or {}):
                return found  # by an earlier try, whose answer was lost
            raise (error if found.exists else self._gone(key)) from error
        found = self._granted(self.state(key), wanted)
        if bare(found.etag) != bare(made["ETag"]):
            raise self._changed(key, "was written and replaced at once by somebody else")
        return found

    def set_tags(self, before: ObjectState, tags: Mapping[str, str]) -> None:
        """Give an object these tags and no others; nothing to do where it has them.

        Tags know no conditions: the object is looked at just before and just after.

        Raises:
            AssetChangedError: when object or tags are not those of ``before``, or were changed by
                somebody else meanwhile.
            AssetGoneError: when there is no object.
            StoreRefusedError: when it is forbidden, or the store does not take these tags.
        """
        found = self._same_object(before)
        if found.tags == tags:
            return
        if found.tags != before.tags:
            raise self._changed(before.key, "has other tags than it had")
        with self._explained(f"tag {before.key!r}", "s3:PutObjectTagging"):
            pairs: Any = [{"Key": name, "Value": value} for name, value in tags.items()]
            _patiently(
                self.client.put_object_tagging,
                Bucket=self.bucket,
                Key=before.key,
                Tagging={"TagSet": pairs},
            )
        if self._same_object(before).tags != tags:
            raise self._changed(before.key, "was given other tags by somebody else meanwhile")

    def copy(self, before: ObjectState, to: str) -> ObjectState:
        """Copy an object to a key where there is none, with all that belongs to it.

        A copy that is already there counts as made. Locks are not copied: what is held is refused.

        Raises:
            AssetChangedError: when the object is not ``before`` any more, or something else is
                where the copy should go.
            AssetGoneError: when there is no object.
            StoreRefusedError: when it is forbidden, archived, too large, or cannot be made safely.
        """
        if to == before.key:
            raise StoreRefusedError(f"cannot copy {to!r} onto itself")
        there = self.state(to)
        if there.exists:
            return self._earlier_copy(before, there)
        found = self._same_object(before)
        if not same_description(found, before):
            raise self._changed(before.key, "has other tags or metadata than it had")
        try:
            etag = self._copied(before, to)
        except AssetChangedError:
            there = self.state(to)
            if there.exists:  # made by an earlier try whose answer was lost, or by somebody else
                return self._earlier_copy(before, there)
            self._same_object(before)
            raise
        made = self._granted(self.state(to), before.headers)
        if bare(made.etag) != bare(etag):
            raise self._changed(to, "was copied and replaced at once by somebody else")
        self._check_copy(before, made)
        # Above the limit the store's word is taken: it copied this ETag, and the sizes agree.
        if made.size <= COMPARE_LIMIT and not self._equal_bytes(before, made):
            raise self._changed(to, f"does not hold the bytes of {before.key!r}")
        return made

    def delete(self, before: ObjectState) -> str | None:
        """Delete an object; a versioned bucket keeps it under a delete marker.

        Returns:
            The delete marker's version id, or none where the bucket is not versioned.

        Raises:
            AssetChangedError: when the object is not ``before`` any more.
            AssetGoneError: when there is none.
            StoreRefusedError: when it is held or forbidden, or versioning is suspended.
        """
        self._need("delete_if_match", f"delete {before.key!r}")
        held = before.held or self._same_object(before).held
        if held:
            raise StoreRefusedError(f"{before.key!r} in s3://{self.bucket} is not deleted: {held}")
        versioning = self._versioning()
        if versioning == "Suspended":
            raise StoreRefusedError(
                f"{before.key!r} is not deleted: versioning of s3://{self.bucket} is suspended, "
                "where a delete destroys data and still leaves a marker; enable versioning"
            )
        try:
            with self._explained(f"delete {before.key!r}", "s3:DeleteObject"):
                answer = _patiently(
                    self.client.delete_object,
                    Bucket=self.bucket,
                    Key=before.key,
                    IfMatch=before.etag,
                )
        except (AssetChangedError, AssetGoneError) as error:
            if self.state(before.key).exists:
                raise
            if not was_retried(error.__cause__):
                raise self._gone(before.key) from error
            answer = {}  # our own first try may have done it, and its answer was lost
        if versioning != "Enabled":
            return None
        return answer.get("VersionId") or self._marker_over(before)

    # ---- versions ----------------------------------------------------------------------------

    def newest(self, key: str, count: int = 3) -> list[Version]:
        """The newest versions and delete markers of a key, newest first.

        Raises:
            StoreRefusedError: when s3:ListBucketVersions is not allowed.
        """
        with self._explained(f"list the versions of {key!r}", "s3:ListBucketVersions"):
            return list(islice(versions_of(self.client, self.bucket, key), count))

    def hidden_upload(
        self, key: str, marker: str, approved_version: str | None, approved_etag: str
    ) -> bool:
        """Whether our delete marker hides an upload that nobody approved to be deleted.

        Some stores let an upload slip in between the check of a conditional delete and its marker.
        Ask half a second after the delete at the earliest, and once more at the end.

        Args:
            key: what was deleted.
            marker: the version id that `delete` gave.
            approved_version: the version that was to be deleted, where it is known.
            approved_etag: its ETag.

        Raises:
            AssetChangedError: when the marker is not found, and there is no object either.
        """
        found = iter(self.newest(key, _ALL))
        if not any(version.version_id == marker for version in found):
            if self.state(key).exists:
                return False  # somebody removed the marker
            raise self._changed(key, f"has no version {marker}, and is still deleted")
        below = next(found, None)
        if below is None or below.is_marker:
            return False
        if approved_version is not None and below.version_id != approved_version:
            return True
        return bare(below.etag) != bare(approved_etag)

    def remove_marker(self, key: str, marker: str) -> None:
        """Bring an object back by removing the delete marker that `delete` made; or do nothing.

        The only request for an asset that deletes by version id. A version never turns from marker
        to data, so what was seen to be a marker is one still.

        Raises:
            AssetChangedError: when something newer lies on top of the marker.
            StoreRefusedError: when it is no delete marker, or s3:DeleteObjectVersion is missing.
        """
        if marker in ("", "null"):  # the one id whose version can be replaced
            raise StoreRefusedError(f"{marker!r} is no delete marker that can be told from data")
        found = self.newest(key, _ALL)
        ours = next((version for version in found if version.version_id == marker), None)
        if ours is None:
            if self.state(key).exists:
                return  # removed before
            raise self._changed(key, f"has no version {marker}, and is still deleted")
        if not ours.is_marker:
            raise StoreRefusedError(f"version {marker} of {key!r} is no delete marker but data")
        if found[0] is not ours or not ours.is_latest:
            raise self._changed(key, "was uploaded or deleted anew since; the marker stays")
        with self._explained(f"bring back {key!r}", "s3:DeleteObjectVersion"):
            _patiently(self.client.delete_object, Bucket=self.bucket, Key=key, VersionId=marker)

    # ---- inside ------------------------------------------------------------------------------

    def _may_send(self, request: Any, **_: Any) -> None:
        """Stop a request that would come after somebody else began.

        It is called before each attempt, retries among them, as the last thing before the bytes
        leave: a process that stood still anywhere before it is found out here.

        Raises:
            TransientSourceError: when the lease is not surely ours to the end of the attempt.
        """
        if self.lease is None or (request.method == "PUT" and not _replaces(request)):
            return
        config: Any = self.client.meta.config
        attempt = config.connect_timeout + config.read_timeout
        try:
            self.lease.check(min(attempt, self.lease.term / 2))
        except CatalogError as error:
            raise TransientSourceError(
                f"nothing was sent to s3://{self.bucket}: {error}"
            ) from error

    def _need(self, capability: str, action: str) -> None:
        if self.capabilities is not None and not getattr(self.capabilities, capability):
            raise StoreRefusedError(
                f"cannot {action}: the store of s3://{self.bucket} is not safe to write to, it "
                f"lacks: {', '.join(self.capabilities.missing)}"
            )

    def _same_object(self, before: ObjectState) -> ObjectState:
        """The object as it is now, which must be the one of before; its tags may differ."""
        found = self.state(before.key)
        if not found.exists:
            raise self._gone(before.key)
        if found.etag != before.etag or before.version_id not in (None, found.version_id):
            raise self._changed(before.key, "is another object than it was")
        return found

    def _holds(
        self,
        found: ObjectState,
        body: bytes,
        headers: Mapping[str, str],
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> bool:
        """Whether an object is all that was to be written."""
        described = (
            found.size == len(body)
            and _ascii(found.metadata) == _ascii(metadata)
            and found.tags == tags
            and all(found.headers.get(name) == value for name, value in headers.items())
        )
        return described and self.read(found.key, found.etag, len(body)) == body

    def _copied(self, before: ObjectState, to: str) -> str:
        """Make the copy; gives its ETag."""
        known = self.capabilities
        if known is not None and not (known.copy_if_match and known.copy_if_none_match):
            return self._carried(before, to)
        if before.size > COPY_LIMIT:
            with self._explained(f"copy {before.key!r} to {to!r}", "s3:PutObject and s3:GetObject"):
                return copy_in_parts(self.client, self.bucket, before, to, COPY_PART)
        # A copy falls back to STANDARD and to the bucket's encryption, and loses the redirect.
        request: Any = as_parameters(
            {name: before.headers[name] for name in _NOT_COPIED if name in before.headers}
        )
        permission = (
            "s3:GetObject and s3:GetObjectTagging there, s3:PutObject and s3:PutObjectTagging "
            f"for {to!r}"
        )
        with self._explained(f"copy {before.key!r} to {to!r}", permission):
            answer = _patiently(
                self.client.copy_object,
                Bucket=self.bucket,
                Key=to,
                CopySource={"Bucket": self.bucket, "Key": before.key},
                CopySourceIfMatch=before.etag,
                IfNoneMatch="*",
                MetadataDirective="COPY",
                TaggingDirective="COPY",
                **request,
            )
        return str(answer["CopyObjectResult"]["ETag"])

    def _granted(self, found: ObjectState, headers: Mapping[str, str]) -> ObjectState:
        """Give an object that we have just written its grants, where the store took no notice."""
        wanted = {name: headers[name] for name in GRANTS.values() if name in headers}
        if not wanted or not found.exists:
            return found
        if {name: value for name, value in found.headers.items() if name in wanted} == wanted:
            return found
        with self._explained(f"grant what {found.key!r} had", "s3:PutObjectAcl"):
            owner: Any = self.client.get_object_acl(Bucket=self.bucket, Key=found.key)["Owner"]
            _patiently(
                self.client.put_object_acl,
                Bucket=self.bucket,
                Key=found.key,
                AccessControlPolicy={"Owner": owner, "Grants": grants_of(wanted)},
            )
        return self.state(found.key)

    def _carried(self, before: ObjectState, to: str) -> str:
        """Copy by way of this machine, where the store ignores conditions on copies."""
        if before.size > CARRY_LIMIT:
            raise StoreRefusedError(
                f"cannot copy {before.key!r}: the store ignores conditions on copies, and its "
                f"{before.size} bytes are over the {CARRY_LIMIT} that are read and written instead"
            )
        return self.put(
            to,
            self.read(before.key, before.etag, CARRY_LIMIT),
            expected="",
            metadata=before.metadata,
            headers=before.headers,
            tags=before.tags,
        ).etag

    def _earlier_copy(self, before: ObjectState, there: ObjectState) -> ObjectState:
        """What is where the copy should go, if it is that copy."""
        there = self._granted(there, before.headers)
        self._check_copy(before, there)
        if bare(there.etag) == bare(before.etag):
            return there
        if not self._equal_bytes(before, there):
            raise self._changed(there.key, f"is there, and is no copy of {before.key!r}")
        return there

    def _check_copy(self, before: ObjectState, copy: ObjectState) -> None:
        """Size, metadata, headers and tags must be the same; a storage class may move on."""
        pairs = {
            "size": (before.size, copy.size),
            "metadata": (_ascii(before.metadata), _ascii(copy.metadata)),
            "tags": (before.tags, copy.tags),
            "headers": (_described(before), _described(copy)),
        }
        if wrong := [name for name, (one, other) in pairs.items() if one != other]:
            raise self._changed(
                copy.key, f"is no true copy of {before.key!r}: other {', '.join(wrong)}"
            )

    def _equal_bytes(self, one: ObjectState, other: ObjectState) -> bool:
        if bare(one.etag) == bare(other.etag):
            return True
        return self._sha256(one) == self._sha256(other)

    def _sha256(self, state: ObjectState) -> str:
        digest = hashlib.sha256()
        with self._explained(f"read {state.key!r}", "s3:GetObject"):
            found = self.client.get_object(Bucket=self.bucket, Key=state.key, IfMatch=state.etag)
            for chunk in found["Body"].iter_chunks(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def _marker_over(self, before: ObjectState) -> str:
        """The delete marker on top of what was deleted, where no answer names it."""
        found = self.newest(before.key, 2)
        if [version.is_marker for version in found] == [True, False] and (
            before.version_id in (None, found[1].version_id)
        ):
            return found[0].version_id
        raise self._changed(
            before.key, "was deleted, but its delete marker cannot be told; look at its versions"
        )


#: What a server-side copy does not take over by itself.
_NOT_COPIED = (
    *GRANTS.values(),
    "StorageClass",
    "WebsiteRedirectLocation",
    "ServerSideEncryption",
    "SSEKMSKeyId",
    "BucketKeyEnabled",
    "ChecksumAlgorithm",
)


def _replaces(request: Any) -> bool:
    """Whether a PUT may replace something: new objects are written under If-None-Match."""
    return "If-None-Match" not in request.headers


def _patiently(call: Callable[..., Any], **request: Any) -> Any:
    """Send a request again that met another one; its condition is a fresh look each time."""
    for wait in _CONFLICT_WAITS:
        try:
            return call(**request)
        except ClientError as error:
            if code_of(error) not in CONFLICT:
                raise
        time.sleep(wait)
    return call(**request)


def same_description(one: ObjectState, other: ObjectState) -> bool:
    """Whether all is the same but for bytes, version and locks; a storage class may move on."""
    return (_ascii(one.metadata), one.tags, _described(one)) == (
        _ascii(other.metadata),
        other.tags,
        _described(other),
    )


def _described(state: ObjectState) -> dict[str, str]:
    return {name: value for name, value in state.headers.items() if name != "StorageClass"}


def _ascii(metadata: Mapping[str, str]) -> dict[str, str]:
    """User metadata as S3 takes it: lower-case names, and RFC 2047 words for what is not ASCII."""
    return {name.lower(): _word(value) for name, value in metadata.items()}


def _word(value: str) -> str:
    return value if value.isascii() else Header(value, "utf-8", maxlinelen=10**6).encode()
