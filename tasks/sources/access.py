"""How S3 is reached: authorities, proxy, checksums, who pays; for boto3 and for LanceDB alike."""

from __future__ import annotations

import atexit
import os
import ssl
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
from botocore.config import Config
from botocore.credentials import RefreshableCredentials

from tasks.errors import SettingsError
from tasks.settings import S3Settings

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from mypy_boto3_s3 import S3Client

#: Where botocore may find credentials that end and are fetched anew, and where LanceDB's AWS SDK
#: finds and renews the same ones by itself.
_SAME_CHAIN = {
    "assume-role",
    "assume-role-with-web-identity",
    "container-role",
    "custom-process",
    "iam-role",
    "sso",
}
#: LanceDB's TLS knows no setting for authorities but this variable.
_TRUST = "SSL_CERT_FILE"
_lock = threading.Lock()


def config_of(settings: S3Settings) -> Config:
    """What botocore is told beside credentials and endpoint."""
    more: dict[str, Any] = {}
    if settings.checksums:
        more["request_checksum_calculation"] = settings.checksums
        more["response_checksum_validation"] = settings.checksums
    if settings.proxy:
        more["proxies"] = {"http": settings.proxy, "https": settings.proxy}
    return Config(
        signature_version="s3v4",  # also for presigned links, which newer regions insist on
        max_pool_connections=settings.connections,
        connect_timeout=min(10.0, settings.timeout_seconds),
        read_timeout=settings.timeout_seconds,
        retries={"mode": "adaptive", "max_attempts": 6},
        s3={"addressing_style": "path" if settings.path_style else "auto"},
        **more,
    )


def authorities_of(settings: S3Settings) -> str | None:
    """The file of authorities that S3 servers are known by; None: those that AWS's tools trust.

    Raises:
        SettingsError: when there is no such file.
    """
    if settings.ca_bundle is None:
        return None
    if not settings.ca_bundle.is_file():
        raise SettingsError(f"DAM_DEDUP_S3__CA_BUNDLE={settings.ca_bundle}: there is no such file")
    return str(settings.ca_bundle)


def pay_requests(client: S3Client) -> None:
    """Say with each request that its sender pays; not in presigned links, whose readers do not."""

    def pay(params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        shape = model.input_shape
        if shape and "RequestPayer" in shape.members and not context.get("is_presign_request"):
            params.setdefault("RequestPayer", "requester")

    client.meta.events.register("before-parameter-build.s3.*", pay)


def lance_options(
    settings: S3Settings, endpoint: str, region: str, credentials: Credentials | None
) -> dict[str, str]:
    """The access of the settings as LanceDB's storage options name it.

    Credentials that end are left out: LanceDB then asks AWS's chain itself, and again when they
    end, also in the middle of a read that takes hours.

    Args:
        settings: with authorities and proxy.
        endpoint: that botocore would use.
        region: of the bucket.
        credentials: that botocore would use.
    """
    options = {"region": region}
    if settings.endpoint_url or "amazonaws.com" not in endpoint:
        options["endpoint"] = endpoint
        options["allow_http"] = "true" if endpoint.startswith("http://") else "false"
    if settings.proxy:
        options["proxy_url"] = settings.proxy
    if settings.request_payer:
        options["request_payer"] = "true"
    if bundle := authorities_of(settings) or os.environ.get("AWS_CA_BUNDLE"):
        _trust(bundle)
    if credentials is not None and not _renewed_by_lance(credentials):
        frozen = credentials.get_frozen_credentials()
        options["access_key_id"] = frozen.access_key or ""
        options["secret_access_key"] = frozen.secret_key or ""
        if frozen.token:
            options["session_token"] = frozen.token
    return options


def _renewed_by_lance(credentials: Credentials) -> bool:
    return isinstance(credentials, RefreshableCredentials) and credentials.method in _SAME_CHAIN


def end_of(credentials: Credentials | None) -> datetime | None:
    """When credentials end, and with them every link that is signed by them; None where unknown.

    botocore tells it nowhere but in this attribute.
    """
    found = getattr(credentials, "_expiry_time", None)
    return found if isinstance(found, datetime) else None


def ending(credentials: Credentials | None) -> bool:
    """Whether credentials end at some time: those of a role or a session do, a user's do not."""
    return credentials is not None and bool(credentials.get_frozen_credentials().token)


def _trust(bundle: str) -> None:
    """Let LanceDB know a server by these authorities too.

    The variable that says so replaces all others, for everything in this process that heeds it, as
    Prefect's client does. So what it names holds the usual ones as well. Where somebody has set it,
    it stays.
    """
    with _lock:
        if _TRUST in os.environ:
            return
        number, name = tempfile.mkstemp(prefix="dam-dedup-authorities-", suffix=".pem")
        with os.fdopen(number, "w", encoding="ascii", errors="ignore") as file:
            file.writelines(_authorities(Path(bundle)))
        atexit.register(Path(name).unlink, missing_ok=True)
        os.environ[_TRUST] = name


def _authorities(bundle: Path) -> Iterator[str]:
    system = ssl.get_default_verify_paths().cafile
    for path in (bundle, Path(certifi.where()), *([Path(system)] if system else [])):
        yield path.read_text(encoding="ascii", errors="ignore") + "\n"
