"""A bucket as a merge sees it: an object with all that belongs to it, tags and locks too.

What cannot be read is an error here, never an empty answer: tags that may not be read must not be
taken for no tags, or a merge would lose them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tasks.errors import AssetChangedError, AssetGoneError, SourceError
from tasks.records import ObjectState, now
from tasks.settings import S3Settings
from tasks.sources.answers import DENIED, code_of, explained, is_transient
from tasks.sources.s3 import client_for

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mypy_boto3_s3 import S3Client

#: The properties in the answer to a HEAD request that a copy must keep.
_HEADERS = (
    "ContentType",
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "StorageClass",
    "WebsiteRedirectLocation",
    "ServerSideEncryption",
    "SSEKMSKeyId",
)
#: Checksums that somebody chose; the CRCs are what stores and SDKs add by themselves.
_CHECKSUMS = {"ChecksumSHA256": "SHA256", "ChecksumSHA1": "SHA1"}
_NO_LOCK = {
    "NoSuchObjectLegalHold",
    "NoSuchObjectLockConfiguration",
    "ObjectLockConfigurationNotFoundError",
    "InvalidRequest",  # the bucket has no object lock
    "NotImplemented",
    "MethodNotAllowed",
}
#: Permission in an access control list to the parameter that grants it.
GRANTS = {
    "FULL_CONTROL": "GrantFullControl",
    "READ": "GrantRead",
    "READ_ACP": "GrantReadACP",
    "WRITE_ACP": "GrantWriteACP",
    "WRITE": "GrantWrite",
}
_GRANTEES = {"ID": "id", "URI": "uri", "EmailAddress": "emailAddress"}
_GRANTEE = re.compile(r'(id|uri|emailAddress)="([^"]*)"')
_EXPIRY = re.compile(r'expiry-date="([^"]*)"')
_NO_GRANTS = {"AccessControlListNotSupported", "NotImplemented", "MethodNotAllowed"}
_NO_LISTING = " (and s3:ListBucket: without it a missing object looks forbidden)"


class Bucket:
    """A bucket, to be looked at.

    Attributes:
        bucket: its name.
        client: what reaches it.
    """

    def __init__(self, bucket: str, settings: S3Settings, client: S3Client | None = None) -> None:
        self.bucket = bucket
        self.client = client or client_for(settings)
        self._lockable: bool | None = None
        self._grantable: bool | None = None

    @property
    def versioned(self) -> bool:
        """Whether versioning is enabled; asked each time, because it may be suspended at any time.

        Raises:
            StoreRefusedError: when s3:GetBucketVersioning is not allowed.
        """
        return self._versioning() == "Enabled"

    @property
    def suspended(self) -> bool:
        """Whether versioning is suspended; then a delete may destroy the only copy of the data.

        Raises:
            StoreRefusedError: when s3:GetBucketVersioning is not allowed.
        """
        return self._versioning() == "Suspended"

    def state(self, key: str) -> ObjectState:
        """An object as it is now, with tags and locks; one without ETag where there is none.

        Raises:
            StoreRefusedError: when object, tags or locks may not be read.
            TransientSourceError: when the store did not answer.
            SourceError: when there is no such bucket.
        """
        # Asked first, for it fails when the bucket is missing; a HEAD only says 404 for either.
        locks = self._has_locks()
        try:
            with self._explained(f"look at {key!r}", "s3:GetObject" + _NO_LISTING):
                found: Any = self.client.head_object(
                    Bucket=self.bucket, Key=key, ChecksumMode="ENABLED"
                )
            tags = self._tags(key)
            grants = self._grants(key) if self._has_grants() else {}
            held = self._held(key) if locks else ""
        except AssetGoneError:
            return ObjectState(key)
        headers = {name: found[name] for name in _HEADERS if found.get(name)} | grants
        if expires := found.get("ExpiresString"):
            headers["Expires"] = expires
        if found.get("BucketKeyEnabled"):
            headers["BucketKeyEnabled"] = "true"
        for name, algorithm in _CHECKSUMS.items():
            if found.get(name):
                headers["ChecksumAlgorithm"] = algorithm
        return ObjectState(
            key=key,
            etag=found["ETag"],
            size=found["ContentLength"],
            version_id=found.get("VersionId"),
            tags=tags,
            metadata=dict(found["Metadata"]),
            headers=headers,
            held=held,
            expires=_expiry(found.get("Expiration", "")),
        )

    def age(self, key: str) -> timedelta | None:
        """How long ago an object was last written; None where there is none.

        By the store's clock alone, which tells both moments in one answer. This machine's clock may
        be wrong by any amount.

        Raises:
            StoreRefusedError: when it may not be looked at.
            SourceError: when the store does not tell its time.
        """
        try:
            with self._explained(f"look at {key!r}", "s3:GetObject" + _NO_LISTING):
                found = self.client.head_object(Bucket=self.bucket, Key=key)
        except AssetGoneError:
            return None
        told = found["ResponseMetadata"]["HTTPHeaders"].get("date")
        if not told:
            raise SourceError(f"the store of s3://{self.bucket} does not tell its time")
        return parsedate_to_datetime(told).astimezone(UTC) - found["LastModified"]

    def states(self, keys: Iterable[str], workers: int = 16) -> dict[str, ObjectState]:
        """The states of many objects, ``workers`` at a time; raises as `state` does."""
        wanted = list(dict.fromkeys(keys))
        with ThreadPoolExecutor(max(1, workers)) as pool:
            return dict(zip(wanted, pool.map(self.state, wanted), strict=True))

    def listed(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Keys below a prefix with the time of their last change, in order.

        Raises:
            StoreRefusedError: when s3:ListBucket is not allowed.
        """
        with self._explained(f"list {prefix!r}", "s3:ListBucket"):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix
            )
            for page in pages:
                for item in page.get("Contents", []):
                    yield item["Key"], item["LastModified"]

    def beside(self, stem: str) -> list[str]:
        """Keys of the first 1,000 objects that are named as a stem, a dot and something.

        Raises:
            StoreRefusedError: when s3:ListBucket is not allowed.
        """
        with self._explained(f"list {stem + '.'!r}", "s3:ListBucket"):
            found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=f"{stem}.")
        return [item["Key"] for item in found.get("Contents", [])]

    def read(self, key: str, etag: str, limit: int) -> bytes:
        """The bytes of an object, as long as it still has this ETag.

        Raises:
            AssetChangedError: when it has another.
            AssetGoneError: when there is none.
            SourceError: when it cannot be read, or holds more than ``limit`` bytes.
        """
        with self._explained(f"read {key!r}", "s3:GetObject" + _NO_LISTING):
            found = self.client.get_object(Bucket=self.bucket, Key=key, IfMatch=etag)
            if found["ContentLength"] > limit:
                found["Body"].close()
                raise SourceError(f"{key!r} holds {found['ContentLength']} bytes, over {limit}")
            data = found["Body"].read()
        if bare(found["ETag"]) != bare(etag):  # a store that ignores If-Match
            raise AssetChangedError(f"{key!r} in s3://{self.bucket} changed while it was read")
        return bytes(data)

    def read_version(self, key: str, version: str, limit: int) -> bytes:
        """The bytes of one version of an object; raises as `read` does."""
        with self._explained(f"read a version of {key!r}", "s3:GetObjectVersion"):
            found = self.client.get_object(Bucket=self.bucket, Key=key, VersionId=version)
            if found["ContentLength"] > limit:
                found["Body"].close()
                raise SourceError(f"{key!r} holds {found['ContentLength']} bytes, over {limit}")
            return bytes(found["Body"].read())

    def check_readable(self, state: ObjectState) -> None:
        """Read an object to its end to see that it can be read; raises as `read` does."""
        with self._explained(f"read {state.key!r}", "s3:GetObject" + _NO_LISTING):
            found = self.client.get_object(Bucket=self.bucket, Key=state.key, IfMatch=state.etag)
            size = sum(len(part) for part in found["Body"].iter_chunks(1 << 20))
        if bare(found["ETag"]) != bare(state.etag) or size != state.size:
            raise AssetChangedError(
                f"{state.key!r} in s3://{self.bucket} changed while it was read"
            )

    def _explained(self, action: str, permission: str) -> AbstractContextManager[None]:
        return explained(action, self.bucket, permission)

    def _changed(self, key: str, what: str) -> AssetChangedError:
        return AssetChangedError(f"{key!r} in s3://{self.bucket} {what}")

    def _gone(self, key: str) -> AssetGoneError:
        return AssetGoneError(f"{key!r} is no longer in s3://{self.bucket}")

    def _versioning(self) -> str:
        with self._explained("ask for versioning", "s3:GetBucketVersioning"):
            return self.client.get_bucket_versioning(Bucket=self.bucket).get("Status", "")

    def _has_grants(self) -> bool:
        """Whether objects may have access control lists; asked once. Assumed where denied."""
        if self._grantable is None:
            with self._explained("ask for ownership", "s3:GetBucketOwnershipControls"):
                try:
                    found = self.client.get_bucket_ownership_controls(Bucket=self.bucket)
                    rules = found["OwnershipControls"]["Rules"]
                    owned = [rule["ObjectOwnership"] for rule in rules]
                    self._grantable = owned != ["BucketOwnerEnforced"]
                except ClientError as error:
                    if code_of(error) in {"NoSuchBucket", "404"} or is_transient(error):
                        raise
                    self._grantable = True
        return self._grantable

    def _grants(self, key: str) -> dict[str, str]:
        """Who may do what with an object, as parameters of a PUT; nothing where only its owner may.

        Raises:
            StoreRefusedError: when neither that nor the bucket's ownership may be asked: a copy
                would lose the grants unseen.
        """
        permission = "s3:GetObjectAcl (or s3:GetBucketOwnershipControls, where lists are disabled)"
        with self._explained(f"read the access control list of {key!r}", permission):
            try:
                found = self.client.get_object_acl(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if code_of(error) in _NO_GRANTS:
                    self._grantable = False
                    return {}
                raise
        owner = found.get("Owner", {}).get("ID", "")
        grants: dict[str, list[str]] = {}
        for grant in found.get("Grants", []):
            whom: Any = grant["Grantee"]
            kind, value = next(
                (kind, whom[name]) for name, kind in _GRANTEES.items() if whom.get(name)
            )
            grants.setdefault(GRANTS[grant["Permission"]], []).append(f'{kind}="{value}"')
        if grants in ({}, {"GrantFullControl": [f'id="{owner}"']}):
            return {}
        return {name: ", ".join(sorted(whom)) for name, whom in grants.items()}

    def _has_locks(self) -> bool:
        """Whether objects may be locked; asked once. Assumed where we may not ask."""
        if self._lockable is None:
            self._lockable = self._ask_locks()
        return self._lockable

    def _ask_locks(self) -> bool:
        with self._explained("ask for object lock", "s3:GetBucketObjectLockConfiguration"):
            try:
                self.client.get_object_lock_configuration(Bucket=self.bucket)
            except ClientError as error:
                if code_of(error) in _NO_LOCK:
                    return False
                if code_of(error) not in DENIED:
                    raise
        return True

    def _held(self, key: str) -> str:
        """Why an object may not be removed, or nothing."""
        hold = self._lock(key, "s3:GetObjectLegalHold", self.client.get_object_legal_hold)
        if hold.get("LegalHold", {}).get("Status") == "ON":
            return "legal hold"
        kept = self._lock(key, "s3:GetObjectRetention", self.client.get_object_retention)
        until = kept.get("Retention", {}).get("RetainUntilDate")
        return f"retained until {until:%Y-%m-%d}" if until and until > now() else ""

    def _lock(self, key: str, permission: str, ask: Callable[..., Any]) -> Any:
        with self._explained(f"look for locks on {key!r}", permission):
            try:
                return ask(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if code_of(error) in _NO_LOCK:
                    return {}
                raise

    def _tags(self, key: str) -> dict[str, str]:
        with self._explained(f"read the tags of {key!r}", "s3:GetObjectTagging"):
            try:
                found = self.client.get_object_tagging(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if code_of(error) == "NotImplemented":
                    return {}  # a store without tags
                raise
        return {tag["Key"]: tag["Value"] for tag in found["TagSet"]}


def grants_of(headers: Mapping[str, str]) -> list[Any]:
    """The grants that a state's headers tell, as an access control list has them."""
    names = {kind: name for name, kind in _GRANTEES.items()}
    types = {"id": "CanonicalUser", "uri": "Group", "emailAddress": "AmazonCustomerByEmail"}
    return [
        {"Grantee": {"Type": types[kind], names[kind]: value}, "Permission": permission}
        for permission, parameter in GRANTS.items()
        for kind, value in _GRANTEE.findall(headers.get(parameter, ""))
    ]


def _expiry(told: str) -> str:
    """The day that a store's ``x-amz-expiration`` names, or nothing (``GetObject``, AWS's API)."""
    found = _EXPIRY.search(told)
    try:
        return f"{parsedate_to_datetime(found[1]):%Y-%m-%d}" if found else ""
    except ValueError:
        return told


def bare(etag: str) -> str:
    """An ETag without quotes, which some answers leave out."""
    return etag.strip('"')
