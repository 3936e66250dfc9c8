"""A bucket as others see and change it, and what may happen to it between two requests."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import tasks.sources.bucket
import tasks.sources.s3
from tasks.catalog import lease
from tasks.catalog.catalog import Catalog
from tasks.merging import journal, merge, undo
from tasks.merging.rules.plans import Plan
from tasks.records import now
from tasks.settings import Settings
from tests.merging.frugal import frugally

#: Two that share a sidecar, and names that are hard to pass on.
KEYS = ["a/1.jpg", "a/1.png", "b/ü 3.jpg", "b/+%&.jpg", "c/5.png"]
SIDECARS = ["a/1.xmp", "a/1.jpg.xmp", "b/ü 3.jpg.xmp", "c/5.xmp"]
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>%s</rdf:li>'
    "</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
)
#: What merges write about themselves: the lease, the list of quarantines, the journal, what others
#: were at, the register.
NOTES = (
    ".dam-dedup/.merge.lease",
    ".dam-dedup/quarantine-places.json",
    ".dam-dedup/journal/",
    ".dam-dedup/late/",
    ".dam-dedup/catalogs/",
)
#: What was run, over all machines of a test.
STEPS: Counter[str] = Counter()


def body_of(picture: int, variant: object = 0) -> bytes:
    """A file of one of a few pictures; variants are other bytes of the same picture."""
    info = PngInfo()
    info.add_text("variant", str(variant))
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (picture * 40, 9, 9)).save(buffer, "PNG", pnginfo=info)
    PICTURES[digest_of(buffer.getvalue())] = f"picture {picture}"
    return buffer.getvalue()


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


PICTURES: dict[str, str] = {}
BODIES = [body_of(0), body_of(0, 1), body_of(1)]

# ---- what may happen between two requests ----------------------------------------------------


class Killed(BaseException):
    """The process dies here."""


class Between:
    """Something that happens at the nth request or write of the journal."""

    def __init__(self) -> None:
        self.rest()

    def rest(self) -> None:
        self.when, self.left, self.act = "", 0, lambda: None
        self.slip: Callable[[str], None] | None = None

    def tick(self, when: str) -> None:
        if when != self.when:
            return
        if self.left == 0:
            act = self.act
            self.when = ""
            act()
        self.left -= 1


BETWEEN = Between()


def die() -> None:
    raise Killed


def _slip(params: dict[str, Any], **_: Any) -> None:
    """A store whose check of a condition and whose delete are two steps."""
    if BETWEEN.slip is not None and "IfMatch" in params and params["Key"] in KEYS:
        slip, BETWEEN.slip = BETWEEN.slip, None
        del params["IfMatch"]
        slip(params["Key"])


class Asleep:
    """Which process is at work, and what its clock says.

    Attributes:
        client: what the product is given to reach the bucket.
        passed: seconds that a clock of this machine is ahead, because somebody slept.
        awake: whether whoever is at work waits for real; else each of its pauses takes 40 seconds.
        holders: leases that are held.
        sleeping: those that nobody renews, for their process stands still.
    """

    client: Any = None
    passed = 0.0
    awake = True
    holders: ClassVar[set[lease.S3Lease]] = set()
    sleeping: ClassVar[set[lease.S3Lease]] = set()


@contextmanager
def others_go_on(given: Any) -> Iterator[None]:
    """The process that was at work stands still; who works in the block is another one.

    Time passes as fast as the other one wants it to: it waits for the sleeper's lease.
    """
    sleeper, Asleep.client = (
        Asleep.client,
        tasks.sources.s3.session_for(given).client(
            "s3", endpoint_url=given.endpoint_url, config=Asleep.client.meta.config
        ),
    )
    Asleep.sleeping, Asleep.awake = set(Asleep.holders), False
    try:
        yield
    finally:
        Asleep.client, Asleep.awake = sleeper, True
        Asleep.sleeping = set()


def _let_time_pass(patch: pytest.MonkeyPatch) -> None:
    """Leases live by a clock that `others_go_on` moves."""
    take, release, renew = lease.S3Lease.take, lease.S3Lease.release, lease.S3Lease._renew
    real = lease.elapsed

    class Time:
        def __getattr__(self, name: str) -> Any:
            return getattr(time, name)

        def sleep(self, seconds: float) -> None:
            if Asleep.awake:
                time.sleep(min(seconds, 0.1))
            else:
                Asleep.passed += 40.0

    def taken(self: lease.S3Lease, wait: float) -> None:
        take(self, wait if Asleep.awake else 600.0)
        Asleep.holders.add(self)

    def released(self: lease.S3Lease) -> None:
        Asleep.holders.discard(self)
        release(self)

    def renewed(self: lease.S3Lease) -> None:
        if self not in Asleep.sleeping:
            renew(self)

    patch.setattr(lease, "time", Time())
    patch.setattr(lease, "elapsed", lambda: real() + Asleep.passed)
    patch.setattr(lease.S3Lease, "take", taken)
    patch.setattr(lease.S3Lease, "release", released)
    patch.setattr(lease.S3Lease, "_renew", renewed)


@contextmanager
def watched(patch: pytest.MonkeyPatch, given: Any) -> Iterator[None]:
    """Every request of the product, and every write of its journal, may be its last."""
    frugally(patch)  # no probing: our slips are over before the delete is sent
    _let_time_pass(patch)
    client = tasks.sources.s3.client_for(given)  # one for all: to make one takes longer than a scan
    Asleep.client = client
    client.meta.events.register("before-send.s3", lambda **_: BETWEEN.tick("before"))
    client.meta.events.register("after-call.s3", lambda **_: BETWEEN.tick("after"))
    client.meta.events.register("before-parameter-build.s3.DeleteObject", _slip)
    upsert = Catalog.upsert

    def write(self: Catalog, name: str, *args: Any, **options: Any) -> int:
        if name == "journal":
            BETWEEN.tick("journal before")
        done = upsert(self, name, *args, **options)
        if name == "journal":
            BETWEEN.tick("journal after")
        return done

    patch.setattr(tasks.sources.bucket, "client_for", lambda _: Asleep.client)
    patch.setattr(tasks.sources.s3, "client_for", lambda _: Asleep.client)
    patch.setattr(Catalog, "upsert", write)
    for module in (journal, merge, undo):  # whose clocks the machine sets
        patch.setattr(module, "now", now)
    yield


# ---- the world ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thing:
    """An object as anybody sees it."""

    sha: str
    tags: tuple[tuple[str, str], ...]
    metadata: tuple[tuple[str, str], ...]
    content_type: str
    encryption: str = ""
    held: str = ""


World = dict[str, Thing]


class BucketWorld(RuleBasedStateMachine):
    """A bucket that people and programs other than ours work on.

    Needs ``make``: gives a bucket's client, its name, settings, and what kind it is of: plain,
    versioned or locked. In one that is locked, versions may be under a hold or a retention.
    """

    make: Callable[[], tuple[Any, str, Settings, str]]

    def __init__(self) -> None:
        super().__init__()
        self.client, self.bucket, self.settings, kind = type(self).make()
        self.versioned, self.locked = kind != "plain", kind == "locked"
        #: Key to the version of it that others hold, as the newest of its key, and how.
        self.held: dict[str, tuple[str, str]] = {}
        self.source = f"s3://{self.bucket}"
        #: Contents that must be reachable: everything ever put, less what the outside destroyed.
        self.owed: set[str] = set()
        self.shas: dict[str, str] = {}  # by ETag
        #: What others left, where they wrote last, and the keys where the product wrote too.
        self.theirs: World = {}
        self.mixed: set[str] = set()
        self.touching: set[str] = set()  # by others, since the product began its last run
        self.begun: list[Plan] = []
        self.elsewhere: list[Plan] = []  # begun by another catalog
        self.fresh = itertools.count()
        self.stale = True  # the last scan does not know all
        self.known: World | None = None
        self.running = False  # a merge, an undo or an emptying is under way
        #: Pictures of which others removed the last live file, or one under our very hands.
        self.removed: set[str] = set()

    # ---- looking -----------------------------------------------------------------------------

    def _sha(self, key: str, etag: str, **version: Any) -> str:
        if etag not in self.shas:
            found = self.client.get_object(Bucket=self.bucket, Key=key, **version)
            self.shas[etag] = digest_of(found["Body"].read())
        return self.shas[etag]

    def _listed(self) -> dict[str, str]:
        listed = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {item["Key"]: item["ETag"] for item in listed if not item["Key"].startswith(NOTES)}

    def _thing(self, key: str) -> Thing | None:
        try:
            head = self.client.head_object(Bucket=self.bucket, Key=key)
        except self.client.exceptions.ClientError:
            return None
        tags = self.client.get_object_tagging(Bucket=self.bucket, Key=key)["TagSet"]
        return Thing(
            self._sha(key, head["ETag"]),
            tuple(sorted((tag["Key"], tag["Value"]) for tag in tags)),
            tuple(sorted(head["Metadata"].items())),
            head["ContentType"],
            head.get("ServerSideEncryption", ""),
            self._how_held(key, head.get("VersionId", "")) if self.locked else "",
        )

    def _how_held(self, key: str, version: str) -> str:
        """How a version is held, in the words of an object's state."""
        which = {"Bucket": self.bucket, "Key": key, "VersionId": version}
        try:
            if self.client.get_object_legal_hold(**which)["LegalHold"]["Status"] == "ON":
                return "legal hold"
        except self.client.exceptions.ClientError:
            pass  # it has never been under one
        try:
            until = self.client.get_object_retention(**which)["Retention"]["RetainUntilDate"]
        except self.client.exceptions.ClientError:
            return ""
        return f"retained until {until:%Y-%m-%d}" if until > now() else ""

    def _world(self) -> World:
        found = {key: self._thing(key) for key in self._listed()}
        self.known = {key: thing for key, thing in found.items() if thing is not None}
        return dict(self.known)

    def _known_world(self) -> World:
        """As it was looked at last, with what others changed since: to look takes half a step."""
        return self._world() if self.known is None else dict(self.known)

    def _live(self) -> set[str]:
        """The pictures that some file shows which is no copy in a quarantine."""
        found = {key: etag for key, etag in self._listed().items() if key in KEYS}
        return {PICTURES.get(self._sha(key, etag), "") for key, etag in found.items()}

    def _reachable(self) -> set[str]:
        """What the bucket holds, and what an undo would write into it: a plan keeps the sidecars
        that its merge wrote over."""
        kept = {
            digest_of(base64.b64decode(operation.had))
            for plan in (*self.begun, *self.elsewhere)
            for group in plan.groups
            for operation in group.operations
            if operation.had is not None
        }
        return kept | self._stored()

    def _stored(self) -> set[str]:
        if not self.versioned:
            return {self._sha(key, etag) for key, etag in self._listed().items()}
        found = self.client.list_object_versions(Bucket=self.bucket).get("Versions", [])
        return {self._sha(v["Key"], v["ETag"], VersionId=v["VersionId"]) for v in found}

    # ---- the outside world -------------------------------------------------------------------

    @initialize(bodies=st.lists(st.sampled_from(BODIES), min_size=4, max_size=5))
    def fill(self, bodies: list[bytes]) -> None:
        for key, body in zip(KEYS, bodies, strict=False):
            self._put(key, body, {"n": key[0]}, {"m": "1"})
        self.look()

    def look(self) -> None:
        """Called when the bucket is filled."""

    @contextmanager
    def _outside(self, key: str) -> Iterator[None]:
        """Somebody else changes an object: what they destroy is theirs to lose, and only that."""
        self.touching.add(key)
        self.stale = True
        before = self._thing(key)
        yield
        after = self._thing(key)
        self.held.pop(key, None)  # what becomes of the newest version is theirs to say
        if after is not None and after.held:
            version = self.client.head_object(Bucket=self.bucket, Key=key)["VersionId"]
            self.held[key] = version, after.held
        if before != self.theirs.get(key):
            self.mixed.add(key)
        if after is None:
            self.theirs.pop(key, None)
        else:
            self.theirs[key] = after
            self.owed.add(after.sha)
        if self.known is not None:
            self.known.pop(key, None)
            self.known |= {} if after is None else {key: after}
        if after is not None:
            self.removed.discard(PICTURES.get(after.sha, ""))
        if before is not None and (after is None or after.sha != before.sha):
            picture = PICTURES.get(before.sha, "")
            if picture and (self.running or picture not in self._live()):
                self.removed.add(picture)
        if before is not None and before.sha not in self._reachable():
            assert not self.versioned
            self.owed.discard(before.sha)

    def _put(
        self,
        key: str,
        body: bytes,
        tags: dict[str, str],
        metadata: dict[str, str],
        parts: bool = False,
        content_type: str = "image/png",
        encrypted: bool = False,
    ) -> None:
        request: Any = {
            "Bucket": self.bucket,
            "Key": key,
            "ContentType": content_type,
            "Tagging": urlencode(tags),
            "Metadata": metadata,
        }
        if encrypted:
            request["ServerSideEncryption"] = "AES256"
        with self._outside(key):
            if not parts:
                etag = self.client.put_object(Body=body, **request)["ETag"]
            else:
                made = self.client.create_multipart_upload(**request)
                where: Any = {"Bucket": self.bucket, "Key": key, "UploadId": made["UploadId"]}
                part = self.client.upload_part(PartNumber=1, Body=body, **where)
                whole = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
                etag = self.client.complete_multipart_upload(MultipartUpload=whole, **where)["ETag"]
            self.shas[etag] = digest_of(body)

    @rule(
        key=st.sampled_from(KEYS),
        body=st.sampled_from(BODIES),
        tag=st.sampled_from("xyz"),
        note=st.sampled_from(["", "1", "=?utf-8?b?w7w=?="]),
        how=st.sampled_from(["", "", "parts", "encrypted"]),
    )
    def upload(self, key: str, body: bytes, tag: str, note: str, how: str) -> None:
        STEPS[f"upload {how}"] += 1
        metadata = {"note": note} if note else {}
        self._put(
            key,
            body,
            {tag: tag},
            metadata | {"m": tag},
            how == "parts",
            encrypted=how == "encrypted",
        )

    def _new(self) -> bytes:
        return body_of(2, f"{next(self.fresh)} {self.bucket}")

    @rule(key=st.sampled_from(KEYS))
    def upload_something_new(self, key: str) -> None:
        STEPS["upload new"] += 1
        self._put(key, self._new(), {}, {})

    @rule(key=st.sampled_from(SIDECARS), word=st.sampled_from(["sea", "boat"]))
    def upload_sidecar(self, key: str, word: str) -> None:
        STEPS["upload sidecar"] += 1
        self._put(key, (XMP % word).encode(), {}, {}, content_type="application/rdf+xml")

    @rule(key=st.sampled_from([*KEYS, *SIDECARS]))
    def delete_from_outside(self, key: str) -> None:
        STEPS["delete outside"] += 1
        with self._outside(key):
            self.client.delete_object(Bucket=self.bucket, Key=key)

    @rule(which=st.integers(0, 19), tag=st.sampled_from("xyz"))
    def tag_from_outside(self, which: int, tag: str) -> None:
        self._retag(self._some(which), tag)

    def _some(self, which: int) -> str:
        here = sorted(key for key in self._listed() if not key.startswith(".dam-dedup/"))
        return here[which % len(here)] if here else "nothing"

    def _retag(self, key: str, tag: str) -> None:
        if self._thing(key) is not None:
            STEPS["tag outside"] += 1
            with self._outside(key):
                self.client.put_object_tagging(
                    Bucket=self.bucket, Key=key, Tagging={"TagSet": [{"Key": "n", "Value": tag}]}
                )

    @precondition(lambda self: self.locked)
    @rule(
        which=st.integers(0, 19),
        how=st.sampled_from(["hold", "hold", "release", "retain", "upload held"]),
    )
    def hold_from_outside(self, which: int, how: str) -> None:
        """A person puts an object under a legal hold or a retention, or takes a hold away."""
        self.hold(self._some(which), how)

    def hold(self, key: str, how: str) -> None:
        """``hold``, ``release`` or ``retain`` what is there, or upload it anew, held at once."""
        if self._thing(key) is None:
            return
        STEPS[f"{how} outside"] += 1
        where: Any = {"Bucket": self.bucket, "Key": key}
        with self._outside(key):
            if how == "upload held":
                body = self.client.get_object(**where)["Body"].read()
                self.client.put_object(
                    Body=body, ContentType="image/png", ObjectLockLegalHoldStatus="ON", **where
                )
            elif how == "retain":
                until = now() + timedelta(days=2)
                retention: Any = {"Mode": "GOVERNANCE", "RetainUntilDate": until}
                self.client.put_object_retention(Retention=retention, **where)
            else:
                status: Any = {"Status": "ON" if how == "hold" else "OFF"}
                self.client.put_object_legal_hold(LegalHold=status, **where)

    @rule(which=st.integers(0, 19), text=st.sampled_from("pq"))
    def rewrite_from_outside(self, which: int, text: str) -> None:
        self._redescribe(self._some(which), text)

    def _redescribe(self, key: str, text: str) -> None:
        if self._thing(key) is not None:
            STEPS["rewrite outside"] += 1
            with self._outside(key):
                self.client.copy_object(
                    Bucket=self.bucket,
                    Key=key,
                    CopySource={"Bucket": self.bucket, "Key": key},
                    Metadata={"m": text},
                    MetadataDirective="REPLACE",
                    TaggingDirective="COPY",
                    ContentType=f"image/{text}",
                )
