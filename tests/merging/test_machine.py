"""Merges among everything else that happens to a bucket: nothing is ever lost.

A state machine uploads, overwrites, deletes, tags, scans, plans, decides, merges and undoes. It
kills the product between any two requests and any two writes of the journal, lets somebody else
change the bucket between any two requests, and has the store let an upload slip in under a delete
marker. After every step every content that was ever there, and that nobody but us could have lost,
can be got back; what others changed is never touched; what is undone is as it was.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import tasks.sources.bucket
import tasks.sources.s3
from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.errors import DamDedupError
from tasks.merging import merge, undo
from tasks.merging.decide import decide
from tasks.merging.journal import (
    DONE,
    INTENDED,
    LEFT,
    UNDONE,
    group_state,
    last_events,
    read_events,
)
from tasks.merging.merge import merge_plan
from tasks.merging.plan import plan_merges
from tasks.merging.rules.plans import Operation, OperationKind, Plan, PlannedGroup
from tasks.merging.rules.policy import load_policy
from tasks.merging.undo import undo_merge
from tasks.records import Kind, ScanRequest, Space, now
from tasks.reporting.summarize import last_scan
from tasks.scan.begin import begin_scan, record_scan
from tasks.scan.group import group_assets
from tasks.scan.sync import sync_assets
from tasks.session import open_catalog, pa_table
from tasks.settings import Settings
from tasks.sources.capabilities import Capabilities

#: Two that share a sidecar, and names that are hard to pass on.
KEYS = ["a/1.jpg", "a/1.png", "b/ü 3.jpg", "b/+%&.jpg", "c/5.png"]
SIDECARS = ["a/1.xmp", "a/1.jpg.xmp", "b/ü 3.jpg.xmp", "c/5.xmp"]
ACTIONS = ["tag", "link", "metadata", "quarantine", "replace", "delete"]
POLICY = """
version: 1
name: machine
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, action: %s}
"""
SPACE = Space("none", "0", "none", 4)
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>%s</rdf:li>'
    "</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
)
#: What was run, over all machines of a test.
STEPS: Counter[str] = Counter()
EXAMPLES, STEPS_EACH = 22, 40  # some examples end early


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


def _kill() -> None:
    raise Killed


def _slip(params: dict[str, Any], **_: Any) -> None:
    """A store whose check of a condition and whose delete are two steps."""
    if BETWEEN.slip is not None and "IfMatch" in params and params["Key"] in KEYS:
        slip, BETWEEN.slip = BETWEEN.slip, None
        del params["IfMatch"]
        slip(params["Key"])


@contextmanager
def watched(patch: pytest.MonkeyPatch, given: Any) -> Iterator[None]:
    """Every request of the product, and every write of its journal, may be its last."""
    client = tasks.sources.s3.client_for(given)  # one for all: to make one takes longer than a scan
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

    def trusted(store: Any) -> Capabilities:
        return Capabilities(**dict.fromkeys(Capabilities.__slots__, True))

    patch.setattr(tasks.sources.bucket, "client_for", lambda _: client)
    patch.setattr(tasks.sources.s3, "client_for", lambda _: client)
    patch.setattr(Catalog, "upsert", write)
    patch.setattr(merge, "probe", trusted)
    patch.setattr(undo, "probe", trusted)
    patch.setattr(merge, "_SETTLED", 0.0)  # our slips are over before the delete is sent
    yield


WHENS = ["before", "after", "journal before", "journal after"]
KILLS = st.none() | st.tuples(st.sampled_from(WHENS), st.integers(0, 40))

# ---- the machine -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Thing:
    """An object as anybody sees it."""

    sha: str
    tags: tuple[tuple[str, str], ...]
    metadata: tuple[tuple[str, str], ...]
    content_type: str


World = dict[str, Thing]


class Merges(RuleBasedStateMachine):
    """What may be done next never depends on what is there: requests run in threads, so the same
    kill does not leave the same behind twice, and hypothesis wants the same choices twice.

    Needs ``make``: gives a bucket's client, its name, settings, and whether it is versioned."""

    make: Callable[[], tuple[Any, str, Settings, bool]]

    def __init__(self) -> None:
        super().__init__()
        self.client, self.bucket, self.settings, self.versioned = type(self).make()
        self.source = f"s3://{self.bucket}"
        #: Contents that must be reachable: everything ever put, less what the outside destroyed.
        self.owed: set[str] = set()
        self.shas: dict[str, str] = {}  # by ETag
        self.plans: list[Plan] = []
        #: Fingerprint of a group to the last word on it; empty where a kill leaves it open.
        self.words: dict[str, str] = {}
        #: What the product left, where it wrote last.
        self.ours: dict[str, Thing | None] = {}
        #: What others left, where they wrote last, and the keys where both did.
        self.theirs: World = {}
        self.mixed: set[str] = set()
        self.touching: set[str] = set()  # by others, since the product began its last run
        self.begun: list[Plan] = []
        self.audit: set[str] = set()
        self.fresh = itertools.count()
        self.slips = 0
        self.stale = True  # the last scan does not know all

    # ---- looking -----------------------------------------------------------------------------

    def _sha(self, key: str, etag: str, **version: Any) -> str:
        if etag not in self.shas:
            found = self.client.get_object(Bucket=self.bucket, Key=key, **version)
            self.shas[etag] = digest_of(found["Body"].read())
        return self.shas[etag]

    def _listed(self) -> dict[str, str]:
        listed = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {item["Key"]: item["ETag"] for item in listed}

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
        )

    def _world(self) -> World:
        found = {key: self._thing(key) for key in self._listed()}
        return {key: thing for key, thing in found.items() if thing is not None}

    def _reachable(self) -> set[str]:
        """What the bucket holds, and what an undo would write into it: a plan keeps the sidecars
        that its merge wrote over."""
        kept = {
            digest_of(base64.b64decode(operation.had))
            for plan in self.begun
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
        self._scan()

    @contextmanager
    def _outside(self, key: str) -> Iterator[None]:
        """Somebody else changes an object: what they destroy is theirs to lose, and only that."""
        self.touching.add(key)
        self.stale = True
        before = self._thing(key)
        yield
        after = self._thing(key)
        if before != self.theirs.get(key):
            self.mixed.add(key)
        if after is None:
            self.theirs.pop(key, None)
        else:
            self.theirs[key] = after
            self.owed.add(after.sha)
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
    ) -> None:
        request: Any = {
            "Bucket": self.bucket,
            "Key": key,
            "ContentType": content_type,
            "Tagging": urlencode(tags),
            "Metadata": metadata,
        }
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
        parts=st.sampled_from([False, False, True]),
    )
    def upload(self, key: str, body: bytes, tag: str, note: str, parts: bool) -> None:
        STEPS["upload"] += 1
        metadata = {"note": note} if note else {}
        self._put(key, body, {tag: tag}, metadata | {"m": tag}, parts)

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

    # ---- scanning, planning, deciding --------------------------------------------------------

    def _scan(self) -> None:
        """A real sync and real groups; what a decoder would say is known here."""
        scan = begin_scan(ScanRequest(kind=Kind.FULL, source=self.source), self.settings)
        sync_assets(scan)
        catalog = open_catalog(self.settings)
        assets = catalog.read(
            "assets",
            ["key", "asset_id", "revision", "etag"],
            "removed_at IS NULL AND skipped IS NULL",
        )
        rows = []
        for row in assets.iter_rows(named=True):
            sha = self._sha(row["key"], row["etag"])
            rows.append(
                {
                    "asset_id": row["asset_id"],
                    "read_revision": row["revision"],
                    "sha256": sha,
                    "content": PICTURES[sha],
                    "width": 4,
                    "height": 3,
                    "flags": [],
                    "exif": "{}",
                    "xmp": "{}",
                }
            )
        with catalog.writing():
            catalog.upsert("assets", pa_table(rows, schema.READING))
            catalog.upsert(
                "spaces",
                pa_table(
                    [
                        {
                            "space": SPACE.id,
                            "model": SPACE.model,
                            "revision": SPACE.revision,
                            "preprocessing": SPACE.preprocessing,
                            "dim": SPACE.dim,
                        }
                    ],
                    schema.SPACES,
                ),
            )
            name = catalog.vectors_table(SPACE.id, SPACE.dim)
            vectors = [{"content": row["content"], "vector": [1.0, 0.0, 0.0, 0.0]} for row in rows]
            catalog.upsert(name, pa_table(vectors, schema.embeddings(SPACE.dim)))
        group_assets(scan, SPACE)
        with catalog.writing():
            record_scan(
                catalog, scan, "finished", finished=now(), space=SPACE.id, counts={"seen": 0}
            )
        self.stale = False

    @rule()
    def scan(self) -> None:
        if self.stale:
            STEPS["scan"] += 1
            self._scan()

    def _plan(self, action: str, again: bool, keeper: int | None = None) -> Plan:
        scan, space, _, _ = last_scan(self.settings)
        policy = load_policy(POLICY % action, "p")
        plan = plan_merges(scan, space, policy, again=again)
        if keeper is not None and plan.groups:  # another keeper than the best
            group = plan.groups[keeper % len(plan.groups)]
            wanted = {group.group_id: group.duplicates[keeper % len(group.duplicates)]}
            plan = plan_merges(scan, space, policy, again=again, keepers=wanted)
        self.plans = [*[known for known in self.plans if known.id != plan.id][-3:], plan]
        return plan

    @rule(
        action=st.sampled_from(ACTIONS), again=st.booleans(), keeper=st.none() | st.integers(0, 3)
    )
    def plan(self, action: str, again: bool, keeper: int | None) -> None:
        STEPS[f"plan {action}"] += 1
        plan = self._plan(action, again, keeper)
        for group in plan.groups:
            if not again and self.words.get(group.fingerprint) in ("reject", "undone"):
                assert not group.operations, "what a person rejected or undid is planned again"

    @rule(
        which=st.integers(0, 3),
        decision=st.sampled_from(["approve", "approve", "reject"]),
        one=st.none() | st.integers(0, 3),
    )
    def decide(self, which: int, decision: Any, one: int | None) -> None:
        if not self.plans:
            return
        plan = self.plans[which % len(self.plans)]
        acting = [group.group_id for group in plan.groups if group.operations]
        names = [acting[one % len(acting)]] if one is not None and acting else []
        self._decide(plan, decision, names)

    def _decide(self, plan: Plan, decision: Any, names: list[str]) -> None:
        STEPS[decision] += 1
        for one in decide(
            self.settings, plan.id, decision, by="anna", groups=names, accept_questions=True
        ):
            group = plan.group(one.group_id)
            assert group is not None
            if one.new:
                self.words[group.fingerprint] = one.decision

    # ---- merging and undoing -----------------------------------------------------------------

    def _run(
        self,
        name: str,
        plan: Plan,
        work: Callable[[], Any],
        kill: tuple[str, int] | None,
        foreign: tuple[int, Callable[[], None]] | None = None,
        slip: Callable[[str], None] | None = None,
    ) -> tuple[Any, World, World]:
        """Do something that may be refused; die on the way, or be disturbed, if told so."""
        before = self._world()
        self.touching.clear()
        if kill is not None:
            BETWEEN.when, BETWEEN.left = kill
            BETWEEN.act = _kill
        elif foreign is not None:
            BETWEEN.when, BETWEEN.left, BETWEEN.act = "before", *foreign
        BETWEEN.slip = slip
        found = None
        try:
            found = work()
        except Killed:
            STEPS[f"killed {name}"] += 1
        except DamDedupError as error:
            STEPS[f"refused {name}"] += 1
            STEPS[f"  because {str(error)[:60]}"] += 1
        else:
            STEPS[name] += 1
        finally:
            BETWEEN.rest()
        after = self._world()
        for key in before.keys() | after.keys():
            if before.get(key) == after.get(key):
                continue
            if key in self.touching:
                self.mixed.add(key)
                self.ours.pop(key, None)
            else:
                self._check_touched(name, plan, key, before.get(key))
                self.ours[key] = after.get(key)
            self.stale = True
        if plan.id not in {known.id for known in self.begun}:
            events = read_events(open_catalog(self.settings), plan)
            if not events.filter(event=INTENDED).is_empty():
                self.begun.append(plan)
        return found, before, after

    def _check_touched(self, name: str, plan: Plan, key: str, was: Thing | None) -> None:
        """What the product changed was as the plan says, or as the product had left it."""
        mine = [
            operation
            for group in plan.groups
            for operation in group.operations
            if key in (operation.key, operation.to)
        ]
        assert mine, f"{name} changed {key!r}, which its plan does not name"
        if key in self.ours and self.ours[key] == was:
            return
        assert not name.startswith("undo"), f"{name} changed {key!r}, which others changed"
        known = [None if key == o.to and o.key != key else self._before(o) for o in mine]
        assert was in known, f"{name} changed {key!r}, which is not what was planned"

    def _before(self, operation: Operation) -> Thing | None:
        state = operation.before
        if not state.exists:
            return None
        return Thing(
            self.shas[state.etag],
            tuple(sorted(state.tags.items())),
            tuple(sorted(state.metadata.items())),
            state.headers.get("ContentType", ""),
        )

    @rule(which=st.integers(0, 3), kill=KILLS)
    def merge(self, which: int, kill: tuple[str, int] | None) -> None:
        if self.plans:
            self._merge("merge", self.plans[which % len(self.plans)], kill)

    def _merge(self, name: str, plan: Plan, kill: tuple[str, int] | None, **options: Any) -> Any:
        catalog = open_catalog(self.settings)
        events = read_events(catalog, plan)
        waiting = {
            group.group_id
            for group in plan.groups
            if group_state(group, last_events(events, group.group_id)) == "waiting"
        }
        words = dict(self.words)
        outcome, _, after = self._run(
            name, plan, lambda: merge_plan(self.settings, plan.id, by="anna"), kill, **options
        )
        if outcome is None:
            self._forget_words(plan)
            return None
        for one in outcome.groups:
            STEPS[f"  group {one.action} {one.state}"] += 1
            group = plan.group(one.group_id)
            assert group is not None
            if one.state in ("merged", "failed"):
                self.words[group.fingerprint] = ""
            if one.state == "merged":
                if one.group_id in waiting:
                    assert words.get(group.fingerprint) not in ("reject", "undone"), (
                        "merged what a person had rejected or undone since"
                    )
                if not options:
                    self._check_merged(group, after)
        return outcome

    def _forget_words(self, plan: Plan) -> None:
        """The process died: whether it came to a word is not known."""
        for group in plan.groups:
            self.words[group.fingerprint] = ""

    def _check_merged(self, group: PlannedGroup, after: World) -> None:
        assert group.keeper in after
        for operation in group.operations:
            here = after.get(operation.key)
            match operation.kind:
                case OperationKind.DELETE:
                    assert here is None
                case OperationKind.COPY:
                    assert after[operation.to or ""] == self._before(operation)
                case OperationKind.PUT:
                    assert here is not None
                case _:
                    assert here is not None
                    was = self._before(operation)
                    assert was is not None
                    assert dict(here.tags) == operation.tags
                    expected = replace(was, tags=here.tags)
                    if operation.kind is OperationKind.REWRITE:
                        expected = replace(expected, metadata=here.metadata)
                    assert here == expected

    def _ready(self, action: str, again: bool = True) -> Plan:
        """A plan, approved, that has something to do."""
        for key in KEYS[1:3]:
            self._put(key, BODIES[0], {key[2]: "1"}, {"note": key[0]})
        self._scan()
        plan = self._plan(action, again)
        self._decide(plan, "approve", [])
        return plan

    @rule(action=st.sampled_from(ACTIONS), kill=KILLS, change=st.none() | st.sampled_from(KEYS))
    def one_round(self, action: str, kill: tuple[str, int] | None, change: str | None) -> None:
        """Scan, plan, approve, perhaps an upload in between, merge."""
        plan = self._ready(action)
        if change is not None:
            self._put(change, self._new(), {}, {})
        self._merge(f"round {action}", plan, kill)

    @rule(
        action=st.sampled_from(ACTIONS),
        at=st.integers(0, 60),
        key=st.sampled_from(KEYS),
        how=st.sampled_from(["put", "same", "tag", "metadata", "delete"]),
        back=st.booleans(),
    )
    def disturbed(self, action: str, at: int, key: str, how: str, back: bool) -> None:
        """Somebody else changes an object in the middle of a merge, or of an undo."""
        plan = self._ready(action)
        changes: dict[str, Callable[[], Any]] = {
            "put": lambda: self._put(key, self._new(), {}, {}),
            "same": lambda: self._put(key, BODIES[0], {"other": "1"}, {"other": "1"}),
            "tag": lambda: self._retag(key, "w"),
            "metadata": lambda: self._redescribe(key, "w"),
            "delete": lambda: self.delete_from_outside(key),
        }
        if back:
            self._merge(f"merge {action}", plan, None)
            self._undo(f"undo disturbed by {how}", plan, plan.id, None, foreign=(at, changes[how]))
        else:
            self._merge(f"merge disturbed by {how}", plan, None, foreign=(at, changes[how]))

    @rule(action=st.sampled_from(["quarantine", "replace", "delete"]), kill=KILLS)
    def upload_under_a_marker(self, action: str, kill: tuple[str, int] | None) -> None:
        """The store deletes what was uploaded after it had looked at the condition."""
        if not self.versioned or self.slips == 3:  # they take a second each
            return
        plan = self._ready(action)
        self.slips += 1
        new: dict[str, str] = {}

        def slip(key: str) -> None:
            body = self._new()
            new[key] = digest_of(body)
            self._put(key, body, {}, {})

        outcome = self._merge("merge with a slip", plan, kill, slip=slip)
        if outcome is not None:
            for key, sha in new.items():
                thing = self._thing(key)
                assert thing is not None, "an upload is hidden under our marker"
                assert thing.sha == sha

    def _undo(
        self, name: str, plan: Plan, target: str, kill: tuple[str, int] | None, **options: Any
    ) -> Any:
        outcomes, _, _ = self._run(
            name, plan, lambda: undo_merge(self.settings, target, by="anna"), kill, **options
        )
        if outcomes is None:
            self._forget_words(plan)
            return None
        for one in outcomes:
            STEPS[f"  {one.kind} {one.state}"] += 1
            group = plan.group(one.operation.split("/")[1])
            assert group is not None
            self.words[group.fingerprint] = "undone" if one.state in ("undone", "left") else ""
        return outcomes

    @rule(
        which=st.integers(0, 3),
        part=st.sampled_from(["plan", "group", "operation"]),
        number=st.integers(0, 5),
        kill=KILLS,
    )
    def undo(self, which: int, part: str, number: int, kill: tuple[str, int] | None) -> None:
        if not self.begun:
            return
        plan = self.begun[-1 - which % len(self.begun)]
        target = plan.id
        acting = [group for group in plan.groups if group.operations]
        if part != "plan":
            group = acting[number % len(acting)]
            target += f"/{group.group_id}"
            if part == "operation":
                target += f"/{number % len(group.operations)}"
        self._undo(f"undo {part}", plan, target, kill)

    @rule(action=st.sampled_from(ACTIONS), kill=KILLS, kill_undo=KILLS, replay=st.booleans())
    def merged_at_once_and_undone(
        self, action: str, kill: Any, kill_undo: Any, replay: bool
    ) -> None:
        """With nobody else about, an undo restores the very state before, killed runs included."""
        plan = self._ready(action)
        before = self._world()
        self._merge("merge at once", plan, kill)
        if replay:
            self._merge("merge replayed", plan, None)
        self._undo("undo at once", plan, plan.id, kill_undo)
        left = self._undo("undo at once", plan, plan.id, None)
        assert all(one.state == "undone" for one in left), left
        assert self._world() == before
        assert self._undo("undo at once", plan, plan.id, None) == [], "twice is once"

    @rule()
    def undo_everything(self) -> None:
        """What nobody else changed meanwhile is as they left it."""
        for _ in range(3):  # what lay below another merge's work comes back the next time
            left = [
                self._undo("undo everything", plan, plan.id, None) for plan in reversed(self.begun)
            ]
            if not any(left):
                break
        here = self._world()
        for key in here.keys() | self.theirs.keys():
            if key not in self.mixed and not key.startswith(".dam-dedup/"):
                assert here.get(key) == self.theirs.get(key), key

    # ---- what always holds -------------------------------------------------------------------

    @invariant()
    def nothing_is_lost(self) -> None:
        STEPS["steps"] += 1
        assert self.owed <= self._reachable()

    @invariant()
    def the_journal_is_whole(self) -> None:
        catalog = open_catalog(self.settings)
        rows = catalog.read(
            "journal", ["event_id", "sequence", "plan_id", "group_id", "number", "event", "detail"]
        )
        audit = set(rows["event_id"])
        assert audit >= self.audit, "the audit only grows"
        self.audit = audit
        before: set[tuple[str, str, int]] = set()
        for row in rows.sort("sequence").iter_rows(named=True):
            json.loads(row["detail"])
            name = row["plan_id"], row["group_id"], row["number"]
            if row["event"] == INTENDED:
                before.add(name)
            elif row["event"] in (DONE, UNDONE, LEFT):
                assert name in before, "done before it was intended"


@pytest.fixture
def run_machine(
    s3: Any, versioned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_settings: Any
) -> Callable[[type[Merges]], None]:
    numbers = itertools.count()

    def make() -> tuple[Any, str, Settings, bool]:
        chosen = make_settings(tmp_path / f"catalog{next(numbers)}")
        return s3.client, s3.bucket(versioned=versioned), chosen, versioned

    def run(machine: type[Merges]) -> None:
        with watched(monkeypatch, s3.settings):
            run_state_machine_as_test(
                type("Machine", (machine,), {"make": staticmethod(make)}),
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS_EACH,
                    deadline=None,
                    derandomize=True,
                    suppress_health_check=list(HealthCheck),
                    database=None,
                    # No shorter example: to find one would take an hour.
                    phases=[Phase.generate],
                    report_multiple_bugs=False,
                ),
            )

    return run


@pytest.mark.timeout(2700)  # against a hang: took 7 minutes on idle cores, over 15 on busy ones
def test_nothing_is_ever_lost(run_machine: Any) -> None:
    STEPS.clear()
    try:
        run_machine(Merges)
    finally:
        told = json.dumps(STEPS, indent=1, sort_keys=True, ensure_ascii=False)
        print(told)  # noqa: T201
    # Which steps follow which differs from run to run: names and times are part of what happens.
    assert STEPS["steps"] >= 500, "with the other kind of bucket: 1,000"
    assert sum(times for name, times in STEPS.items() if name.startswith("killed")) > 10
    assert sum(times for name, times in STEPS.items() if name.startswith("undo")) > 20
