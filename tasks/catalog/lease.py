"""One writer at a time.

Two writers that ``merge_insert`` the same new keys can double them without an error, and eight
starve one another. A local catalog is guarded by an OS file lock, which a killed process gives
up; one on S3 by a lease object, which a dead holder loses.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import filelock
from botocore.exceptions import BotoCoreError, ClientError

from tasks.errors import CatalogBusyError, CatalogError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

#: A lease that did not change for this long, by the clock of who wants it, is free again.
LEASE_SECONDS = 90.0
_POLL_SECONDS = 2.0
#: How much longer a taker watches than the term says: two machines' seconds are not quite equal.
_MARGIN = 1.1
#: A lease says no longer term than this, and has some 300 bytes.
_LONGEST_TERM = 3600.0
_MOST_BYTES = 64 * 1024
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_MISSING = {"NoSuchKey", "404", "NotFound"}


class Lease(Protocol):
    """What says whether a lease is still ours."""

    def check(self, seconds: float = 0.0) -> None:
        """Raise unless it is surely ours for so many more seconds."""


class FileLock:
    """A lock of the operating system: it is ours until we give it up or die."""

    def check(self, seconds: float = 0.0) -> None:
        """Never raises."""


_LOCKED = FileLock()


class Held:
    """A lease as one process holds it: by one thread, which may enter again; the others wait.

    What is nested in it may open the catalog anew: the lease belongs to the place, not to the
    object that took it.

    Attributes:
        written: the tables that this process has written and not looked at for doubled keys since.
    """

    def __init__(self) -> None:
        self.written: set[str] = set()
        self._lock = threading.RLock()
        self._depth = 0
        self._owner: int | None = None
        self._lease: Lease = _LOCKED

    @property
    def mine(self) -> bool:
        """Whether this thread holds it."""
        return self._owner == threading.get_ident()

    def check(self) -> None:
        """Raise once the lease is lost."""
        self._lease.check()

    @contextlib.contextmanager
    def hold(
        self,
        place: str,
        wait: float,
        take: Callable[[float], contextlib.AbstractContextManager[Lease]],
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
                    self._lease = stack.enter_context(take(left))
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
def file_lease(folder: Path, wait: float, name: str = "writer") -> Iterator[Lease]:
    """Hold a lock of a catalog in a folder.

    Raises:
        CatalogBusyError: when another process holds it for longer than ``wait`` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = filelock.FileLock(folder / f".{name}.lock")
    try:
        with lock.acquire(timeout=wait, poll_interval=0.05):
            yield _LOCKED
    except filelock.Timeout:
        raise CatalogBusyError(
            f"another process is writing to the catalog {folder} (waited {wait:.0f} s); "
            "let it finish, or raise DAM_DEDUP_CATALOG__BUSY_SECONDS"
        ) from None


def elapsed() -> float:
    """Seconds that passed on this machine since some moment, also while it slept.

    A clock that stands still in sleep would tell a laptop that wakes up that its lease is fresh.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class _Found:
    """A lease object as it was read."""

    etag: str
    holder: str
    fence: int
    term: float
    process: str
    work: str = ""

    @property
    def died(self) -> bool:
        """Whether its holder was a process of this very machine that is no more."""
        machine, _, rest = self.process.rpartition("/")
        pid, _, started = rest.partition(":")
        if not machine or machine != _machine() or not pid.isdigit():
            return False
        return _started(int(pid)) != started


def _parse(etag: str, body: bytes) -> _Found:
    """A lease as its object says; one that nobody holds where the object is something else."""
    try:
        lease = json.loads(body)
        holder = str(lease.get("holder") or "")
        fence, term = int(lease.get("fence") or 0), float(lease.get("term") or LEASE_SECONDS)
        process, work = str(lease.get("process") or ""), str(lease.get("work") or "")
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return _Found(etag, "", 0, LEASE_SECONDS, "")
    # JSON may say NaN, which is no number of seconds that could ever be over.
    term = min(max(term, 0.1), _LONGEST_TERM) if math.isfinite(term) else LEASE_SECONDS
    return _Found(etag, holder, max(0, fence), term, process, work)


#: Place of a lease object to its ETag and the moment since which this process saw no other there.
#: No two bodies of a lease are equal, so that the same ETag means that nobody wrote in between.
_SEEN: dict[str, tuple[str, float]] = {}
#: Leases that this process is going to take after the one that it waits for.
_WANTED: list[S3Lease] = []


def _unchanged_since(place: str, etag: str, begun: float) -> float:
    """Since when a lease object has had this ETag, as far as this process has watched it."""
    known, since = _SEEN.get(place, ("", begun))
    if known != etag:
        _SEEN[place], since = (etag, begun), begun
    return since


def _machine() -> str:
    """This machine since its last start, and the container on it; empty where that is not told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process began, in the kernel's ticks; empty where there is no such process."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    after = state.rpartition(")")[2].split()  # the name may hold spaces
    return "" if after[0] in "ZX" else after[19]


class S3Lease:
    """A lease object, held by this process.

    No two machines' clocks are ever compared. The holder rewrites the object every quarter of its
    term; who wants it watches it, and takes it over when it has not changed for the whole term on
    the watcher's own clock. The holder counts its term from before each rewriting, so that it stops
    before anybody else may begin. Nobody waits for a process of the same machine that has died.

    Attributes:
        fence: goes up with every holder of the lease: a later holder has the larger number.
        term: seconds for which it is ours after each renewal.
        cut_off: what the holder before was at (its `note`), where it never gave the lease up and
            may still be alive; empty otherwise.
    """

    def __init__(
        self, client: S3Client, bucket: str, key: str, *, what: str, term: float, keep: bool
    ) -> None:
        self.fence = 0
        self.cut_off = ""
        self._work = ""
        self._client, self._bucket, self._key = client, bucket, key
        self.term = term
        self._what, self._keep = what, keep
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._process = f"{_machine()}/{os.getpid()}:{_started(os.getpid())}"
        self._etag = ""
        self._until = -math.inf
        self._beat = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def place(self) -> str:
        """Where the lease object is."""
        return f"s3://{self._bucket}/{self._key}"

    def left(self) -> float:
        """Seconds for which the lease is surely ours; negative once it may be another's."""
        return self._until - elapsed()

    def check(self, seconds: float = 0.0) -> None:
        """Raise unless the lease is surely ours for so many more seconds; renews it where needed.

        Raises:
            CatalogError: when it is lost, or cannot be renewed now.
        """
        if self.left() <= seconds:
            self._renew()
        if self.left() <= seconds:
            raise CatalogError(
                f"lost the {self._what} lease {self.place}: it could not be renewed for "
                f"{self.term:.0f} s, and another process may be writing. Scan again"
            )

    def note(self, work: str) -> None:
        """Write into the lease what we are about to do, for whoever takes it over from us.

        Raises:
            CatalogError: when that could not be written: then it must not be done.
        """
        if work == self._work:
            return
        self._work, self.cut_off = work, ""
        before = self._until
        self._renew()
        if self._until <= before:
            raise CatalogError(f"cannot write to the {self._what} lease {self.place} now")

    def take(self, wait: float) -> None:
        """Take the lease, and go on renewing it.

        Raises:
            CatalogBusyError: when somebody else holds it for longer than ``wait`` seconds.
            CatalogError: when it cannot be written, or the store ignores preconditions.
        """
        try:
            self._acquire(wait)
        except (ClientError, BotoCoreError) as error:
            raise CatalogError(f"cannot take the lease {self.place}: {error}") from error
        self._check_preconditions()
        self._thread = threading.Thread(target=self._keep_alive, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let others have it at once."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
        with contextlib.suppress(ClientError, BotoCoreError):
            if self._keep:  # the fence must go on counting
                self._put(self._body(free=True), IfMatch=self._etag)
            else:
                self._client.delete_object(Bucket=self._bucket, Key=self._key, IfMatch=self._etag)
        self._until = -math.inf

    # ---- inside ------------------------------------------------------------------------------

    def _acquire(self, wait: float) -> None:
        deadline = elapsed() + wait
        while True:
            begun = elapsed()
            found = self._read()
            if found is None:
                if self._took(begun, 1, IfNoneMatch="*"):
                    return
            elif found.died:
                if self._took(begun, found.fence + 1, IfMatch=found.etag):
                    return
            elif not found.holder:
                if self._took(begun, found.fence + 1, found.work, IfMatch=found.etag):
                    return
            elif begun - _unchanged_since(
                self.place, found.etag, begun
            ) > found.term * _MARGIN and self._took(
                begun, found.fence + 1, found.work, IfMatch=found.etag
            ):
                log.warning(
                    "took over %s: %s did not renew it for %.0f s",
                    self.place,
                    found.holder,
                    found.term,
                )
                return
            if elapsed() > deadline:
                raise CatalogBusyError(
                    f"{found.holder if found else 'somebody'} holds the {self._what} lease "
                    f"({self.place}, waited {wait:.0f} s); let it finish, or raise "
                    "DAM_DEDUP_CATALOG__BUSY_SECONDS. A process that died is waited for for "
                    f"{found.term if found else self.term:.0f} s"
                )
            self._watch_the_next()
            time.sleep(min(_POLL_SECONDS, max(0.01, deadline - elapsed())))

    def _watch_the_next(self) -> None:
        """Look at the leases that will be wanted after this one, which may be one process's too."""
        for lease in _WANTED:
            if lease.place == self.place:
                continue
            with contextlib.suppress(ClientError, BotoCoreError):
                begun = elapsed()
                if (found := lease._read()) is not None:
                    _unchanged_since(lease.place, found.etag, begun)

    def _took(self, begun: float, fence: int, work: str = "", **condition: str) -> bool:
        """Whether the lease became ours; of several that try, one succeeds."""
        self.fence = fence
        # It stays in the lease until it is dealt with: we may die at once, too.
        self.cut_off = self._work = work
        try:
            etag = self._put(self._body(), **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _TAKEN | _MISSING:
                raise
            return False
        self._etag, self._until = etag, begun + self.term
        return True

    def _keep_alive(self) -> None:
        while not self._stop.wait(self.term / 4):
            self._renew()

    def _renew(self) -> None:
        with self._lock:
            if self._stop.is_set() or self._until == -math.inf:
                return
            begun = elapsed()
            self._beat += 1
            try:
                self._etag = self._put(self._body(), IfMatch=self._etag)
                self._until = begun + self.term
            except Exception as error:  # whatever it is, a lease that is not renewed runs out
                log.warning("cannot renew the lease %s: %s", self.place, error)
                self._look_whose(begun)

    def _look_whose(self, begun: float) -> None:
        """After a renewal without an answer: it may have been made, or another may be there."""
        with contextlib.suppress(Exception):
            found = self._read()
            if found is not None and found.holder == self._holder:
                if found.etag != self._etag:  # only the answer was lost
                    self._etag, self._until = found.etag, begun + self.term
            else:  # taken over, or removed: not a write more
                self._until = -math.inf

    def _body(self, *, free: bool = False) -> bytes:
        # The beat makes each body another one: an ETag is the digest of the bytes. ``until`` is for
        # older releases alone, which would take a lease without it for expired.
        return json.dumps(
            {
                "holder": "" if free else self._holder,
                "fence": self.fence,
                "term": self.term,
                "beat": self._beat,
                "work": self.cut_off if free else self._work,
                "process": self._process,
                "until": 0 if free else time.time() + self.term,
            }
        ).encode()

    def _put(self, body: bytes, **condition: Any) -> str:
        return self._client.put_object(Bucket=self._bucket, Key=self._key, Body=body, **condition)[
            "ETag"
        ]

    def _read(self) -> _Found | None:
        """The lease object; nothing where there is none. What cannot be read counts as free."""
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=self._key)
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return None
            raise
        return _parse(found["ETag"], found["Body"].read(_MOST_BYTES))

    def _check_preconditions(self) -> None:
        """A store that lets a second ``If-None-Match: *`` through would let two writers in."""
        try:
            self._put(b"{}", IfNoneMatch="*")
        except ClientError:
            return
        raise CatalogError(
            f"the store of s3://{self._bucket} ignores If-None-Match, so a catalog there is not "
            "safe; keep the catalog in a local folder (DAM_DEDUP_CATALOG__URI)"
        )


def _lease_of(client: S3Client, uri: str, name: str, *, keep: bool) -> S3Lease:
    parts = urlsplit(uri)
    key = f"{parts.path.strip('/')}/.{name}.lease".lstrip("/")
    return S3Lease(client, parts.netloc, key, what=name, term=LEASE_SECONDS, keep=keep)


@contextlib.contextmanager
def lease_wanted(client: S3Client, uri: str, name: str) -> Iterator[None]:
    """Inside the block, waiting for any lease also counts as waiting for this one.

    A process that stood still may hold several. Waited for one after another, three of them took
    305 seconds; watched together, one term is enough for all.
    """
    lease = _lease_of(client, uri, name, keep=True)
    _WANTED.append(lease)
    try:
        yield
    finally:
        _WANTED.remove(lease)


@contextlib.contextmanager
def s3_lease(
    client: S3Client, uri: str, wait: float, name: str = "writer", *, keep: bool = False
) -> Iterator[S3Lease]:
    """Hold a lease object below ``s3://bucket/prefix``, renewing it while the block runs.

    Args:
        client: reaches the bucket.
        uri: below which the object is.
        wait: seconds, for another to give it up.
        name: of the lease.
        keep: leave the object there afterwards, marked free, so that its fence goes on counting.

    Raises:
        CatalogBusyError: when somebody else holds it for longer than ``wait`` seconds.
        CatalogError: when the store ignores preconditions, so that no lease can be trusted.
    """
    lease = _lease_of(client, uri, name, keep=keep)
    lease.take(wait)
    try:
        yield lease
    finally:
        lease.release()
