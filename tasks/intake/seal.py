"""The key under which analyses are sealed, so that nobody else can write one.

It is ``DAM_DEDUP_GATE__SECRET`` where that is set. Without it a random key of 32 bytes is made at
the first use and kept beside the catalog: whoever may read it may write the catalog itself anyway,
and every gate of that catalog finds the same key. There is no seal without a key: a plain digest
could be made by anybody, who would then tell the catalog what a picture shows.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tasks.errors import SettingsError
from tasks.settings import S3Settings, Settings
from tasks.sources.answers import CHANGED, CONFLICT, GONE, code_of
from tasks.sources.s3 import client_for

_NAME = ".seal.key"
_BYTES = 32


def sealing_key(settings: Settings) -> bytes:
    """The key of the seal: the secret of the settings, else the one kept with the catalog.

    Raises:
        SettingsError: when there is no secret, and no key can be kept beside the catalog.
    """
    secret = settings.gate.secret
    if secret is not None:
        return secret.get_secret_value().encode()
    try:
        return _kept(settings.catalog.uri, settings.s3)
    except (OSError, ClientError, BotoCoreError) as error:
        raise SettingsError(
            f"no key for the seal can be kept beside the catalog {settings.catalog.uri}: {error}; "
            "set DAM_DEDUP_GATE__SECRET"
        ) from error


def _kept(uri: str, access: S3Settings) -> bytes:
    if uri.startswith("s3://"):
        return _kept_in_bucket(uri.rstrip("/"), access.endpoint_url or "", access)
    return _kept_in_folder(Path(uri).expanduser().resolve() / _NAME)


def _kept_in_folder(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        # Written aside and linked: no reader sees half a key, and of two writers one wins.
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(secrets.token_bytes(_BYTES))
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        except FileExistsError:
            pass  # somebody else was faster: theirs counts
        finally:
            draft.unlink(missing_ok=True)
    return _whole(path.read_bytes(), str(path))


_IN_BUCKETS: dict[tuple[str, str], bytes] = {}


def _kept_in_bucket(uri: str, endpoint: str, access: S3Settings) -> bytes:
    known = _IN_BUCKETS.get((uri, endpoint))
    if known is not None:
        return known
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    key = f"{prefix}/{_NAME}" if prefix else _NAME
    client = client_for(access)
    try:
        found = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if code_of(error) not in GONE:
            raise
        try:
            client.put_object(
                Bucket=bucket, Key=key, Body=secrets.token_bytes(_BYTES), IfNoneMatch="*"
            )
        except ClientError as refused:
            if code_of(refused) not in CHANGED | CONFLICT:
                raise
        found = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return _IN_BUCKETS.setdefault((uri, endpoint), _whole(found, f"{uri}/{_NAME}"))


def _whole(key: bytes, place: str) -> bytes:
    if len(key) != _BYTES:
        raise OSError(f"{place} holds {len(key)} bytes instead of {_BYTES}; remove it")
    return key
