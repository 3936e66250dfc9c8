"""One writer at a time.

Two writers that ``merge_insert`` the same new keys can double them without an error, and eight
starve one another. A local catalog is guarded by an OS file lock, which a killed process gives
up; one on S3 by a lease object written with ``If-None-Match: *`` that expires when its holder dies.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import filelock
from botocore.exceptions import BotoCoreError, ClientError

from tasks.errors import CatalogBusyError, CatalogError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

#: A lease nobody renewed for this long is free again.
LEASE_SECONDS = 90.0
_POLL_SECONDS = 2.0


class Held:
    """A lease as one process holds it: by one thread, which may enter again; the others wait.

    What is nested in it may open the catalog anew: the lease belongs to the place, not to the
    object that took it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._owner: int | None = None
        self._check: Callable[[], None] = lambda: None

    @property
    def mine(self) -> bool:
        """Whether this thread holds it."""
        return self._owner == threading.get_ident()

    def check(self) -> None:
        """Raise once the lease is lost."""
        self._check()

    @contextlib.contextmanager
    def hold(
        self,
        place: str,
        wait: float,
        take: Callable[[float], contextlib.AbstractContextManager[Callable[[], None]]],
    ) -> Iterator[bool]:
        """Hold it while the block runs; gives whether it was taken now.

        Args:
            place: for messages.
            wait: seconds, for the threads of this process and other processes together.
            take: takes the lease itself, given the seconds that are left.

        Raises:
            CatalogBusyError: when somebody else holds it for longer.
        """
        begun = time.monotonic()
        if not self._lock.acquire(timeout=max(0.0, wait)):
            raise CatalogBusyError(
                f"another request is writing to the catalog {place} (waited {wait:.0f} s); let it "
                "finish, or raise DAM_DEDUP_CATALOG__BUSY_SECONDS"
            )
        try:
            with contextlib.ExitStack() as stack:
                first = self._depth == 0
                if first:
                    left = max(0.0, wait - (time.monotonic() - begun))
                    self._check = stack.enter_context(take(left))
                    self._owner = threading.get_ident()
                self._depth += 1
                try:
                    yield first
                finally:
                    self._depth -= 1
                    if first:
                        self._owner = None
        finally:
            self._lock.release()


_HELD: dict[str, Held] = {}
_HELD_LOCK = threading.Lock()


def held(place: str) -> Held:
    """This process's hold on the writer's lease of a catalog."""
    with _HELD_LOCK:
        return _HELD.setdefault(place, Held())


@contextlib.contextmanager
def file_lease(folder: Path, wait: float, name: str = "writer") -> Iterator[Callable[[], None]]:
    """Hold a lock of a catalog in a folder; gives what raises once it is lost: never.

    Raises:
        CatalogBusyError: when another process holds it for longer than ``wait`` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / f".{name}.lock")
    try:
        with lock.acquire(timeout=wait, poll_interval=0.05):
            yield lambda: None
    except filelock.Timeout:
        raise CatalogBusyError(
            f"another process is writing to the catalog {folder} (waited {wait:.0f} s); "
            "let it finish, or raise DAM_DEDUP_CATALOG__BUSY_SECONDS"
        ) from None


@contextlib.contextmanager
def s3_lease(
    client: S3Client, uri: str, wait: float, name: str = "writer"
) -> Iterator[Callable[[], None]]:
    """Hold a lease object of a catalog on S3, renewing it while the block runs.

    Gives what is to be called before each write: it raises CatalogError once the lease is lost.

    Raises:
        CatalogBusyError: when somebody else holds it for longer than ``wait`` seconds.
        CatalogError: when the store ignores preconditions, so that no lease can be trusted.
    """
    parts = urlsplit(uri)
    bucket, key = parts.netloc, f"{parts.path.strip('/')}/.{name}.lease"
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    etag = _acquire(client, bucket, key, holder, wait)
    held_until = time.monotonic() + LEASE_SECONDS
    _check_preconditions(client, bucket, key)
    stop = threading.Event()

    def renew() -> None:
        nonlocal etag, held_until
        while not stop.wait(LEASE_SECONDS / 4):
            begun = time.monotonic()
            try:
                etag = client.put_object(Bucket=bucket, Key=key, Body=_body(holder), IfMatch=etag)[
                    "ETag"
                ]
                held_until = begun + LEASE_SECONDS
            except Exception:
                log.exception("cannot renew the writer lease s3://%s/%s", bucket, key)
                with contextlib.suppress(Exception):  # ours after all: only the answer was lost
                    found, lease = _read(client, bucket, key)
                    if lease.get("holder") == holder:
                        etag = found
                    else:  # somebody took it over: not a write more
                        held_until = 0.0

    def check() -> None:
        if time.monotonic() > held_until:
            raise CatalogError(
                f"lost the writer lease s3://{bucket}/{key}: it could not be renewed for "
                f"{LEASE_SECONDS:.0f} s, and another process may be writing. Scan again"
            )

    keeper = threading.Thread(target=renew, name="catalog-lease", daemon=True)
    keeper.start()
    try:
        yield check
    finally:
        stop.set()
        keeper.join(timeout=30)
        with contextlib.suppress(ClientError, BotoCoreError):
            client.delete_object(Bucket=bucket, Key=key, IfMatch=etag)


def _body(holder: str) -> bytes:
    return json.dumps({"holder": holder, "until": time.time() + LEASE_SECONDS}).encode()


def _read(client: S3Client, bucket: str, key: str) -> tuple[str, dict[str, Any]]:
    """The lease's ETag and what it says; nothing, when that cannot be read."""
    found = client.get_object(Bucket=bucket, Key=key)
    try:
        lease = json.loads(found["Body"].read())
    except ValueError:
        lease = None
    return found["ETag"], lease if isinstance(lease, dict) else {}


def _acquire(client: S3Client, bucket: str, key: str, holder: str, wait: float) -> str:
    deadline = time.monotonic() + wait
    while True:
        try:
            return client.put_object(Bucket=bucket, Key=key, Body=_body(holder), IfNoneMatch="*")[
                "ETag"
            ]
        except ClientError as error:
            if error.response["Error"]["Code"] not in {
                "PreconditionFailed",
                "ConditionalRequestConflict",
            }:
                raise CatalogError(f"cannot take the lease s3://{bucket}/{key}: {error}") from error
        except BotoCoreError as error:
            raise CatalogError(f"cannot take the lease s3://{bucket}/{key}: {error}") from error
        owner = "somebody"
        with contextlib.suppress(ClientError):  # gone between the two requests: try again
            etag, lease = _read(client, bucket, key)
            owner = lease.get("holder", owner)
            if lease.get("until", 0) < time.time():
                # If-Match: of several that see it expired, one takes it over.
                return client.put_object(Bucket=bucket, Key=key, Body=_body(holder), IfMatch=etag)[
                    "ETag"
                ]
        if time.monotonic() > deadline:
            raise CatalogBusyError(
                f"{owner} is writing to the catalog (lease s3://{bucket}/{key}, waited "
                f"{wait:.0f} s); let it finish, or raise DAM_DEDUP_CATALOG__BUSY_SECONDS"
            )
        time.sleep(_POLL_SECONDS)


def _check_preconditions(client: S3Client, bucket: str, key: str) -> None:
    """A store that lets a second ``If-None-Match: *`` through would let two writers in."""
    try:
        client.put_object(Bucket=bucket, Key=key, Body=b"{}", IfNoneMatch="*")
    except ClientError:
        return
    raise CatalogError(
        f"the store of s3://{bucket} ignores If-None-Match, so a catalog there is not safe; "
        "keep the catalog in a local folder (DAM_DEDUP_CATALOG__URI)"
    )
