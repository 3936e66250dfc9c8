"""Merges among everything else that happens to a bucket: nothing is ever lost.

A state machine uploads, overwrites, deletes, tags, scans, plans, decides, merges, undoes, and kills
all of it between any two requests and any two writes of the journal. After every step every content
that was ever there, and that nobody but us could have lost, can be got back.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tasks.begin import begin_scan, record_scan
from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.decide import decide
from tasks.dedup.plans import Plan
from tasks.dedup.policy import load_policy
from tasks.errors import DamDedupError
from tasks.group import group_assets
from tasks.journal import DONE, INTENDED, group_state, last_events, read_events
from tasks.merge import merge_plan
from tasks.plan import plan_merges
from tasks.records import Kind, ScanRequest, Space, now
from tasks.session import open_catalog, pa_table
from tasks.settings import Settings
from tasks.summarize import last_scan
from tasks.sync import sync_assets
from tasks.undo import undo_merge

pytestmark = pytest.mark.e2e
KEYS = ["a/1.jpg", "a/2.jpg", "b/ü 3.jpg", "b/+%.jpg", "c/5.png"]
BODIES = [b"first", b"second picture"]
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
#: What was done how often: a machine that does nothing proves nothing.
STEPS: dict[str, int] = {}


class Killed(BaseException):
    """The process dies here."""


class Killer:
    """Kills at the nth request, before it goes out or after its answer came, or at a write."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.when = "before"

    def tick(self, when: str) -> None:
        if self.left is None or when != self.when:
            return
        if self.left == 0:
            self.left = None
            raise Killed
        self.left -= 1


KILLER = Killer()


@contextmanager
def deadly(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every client of the product, and every write to its catalog, may be its last."""
    import tasks.sources.bucket as module

    make = module.client_for

    def client(given: Any) -> Any:
        made = make(given)
        made.meta.events.register("before-send.s3", lambda **_: KILLER.tick("before"))
        made.meta.events.register("after-call.s3", lambda **_: KILLER.tick("after"))
        return made

    upsert = Catalog.upsert

    def write(self: Catalog, name: str, *args: Any, **options: Any) -> int:
        if name == "journal":
            KILLER.tick("journal before")
        done = upsert(self, name, *args, **options)
        if name == "journal":
            KILLER.tick("journal after")
        return done

    patch.setattr(module, "client_for", client)
    patch.setattr(Catalog, "upsert", write)
    yield


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


KILLS = st.none() | st.tuples(
    st.sampled_from(["before", "after", "journal before", "journal after"]), st.integers(0, 40)
)


class Merges(RuleBasedStateMachine):
    """Needs ``make``: gives a bucket's client, its name, settings, and whether it is versioned."""

    make: Callable[[], tuple[Any, str, Settings, bool]]

    def __init__(self) -> None:
        super().__init__()
        self.client, self.bucket, self.settings, self.versioned = type(self).make()
        self.source = f"s3://{self.bucket}"
        #: Contents that must be reachable: everything ever put, less what the outside destroyed.
        self.owed: set[str] = set()
        self.plans: list[Plan] = []
        self.rejected: set[str] = set()
        self.audited = 0
        self.scanned = False
        self.outside = itertools.count()

    def count(self, name: str) -> None:
        STEPS[name] = STEPS.get(name, 0) + 1

    # ---- the outside world -------------------------------------------------------------------

    @initialize(bodies=st.lists(st.sampled_from(BODIES), min_size=4, max_size=5))
    def fill(self, bodies: list[bytes]) -> None:
        for key, body in zip(KEYS, bodies, strict=False):
            self._put(key, body, {"n": key[0]})
        self._scan()

    def _current(self, prefix: str = "") -> dict[str, bytes]:
        listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return {
            item["Key"]: self.client.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read()
            for item in listed
        }

    def _put(self, key: str, body: bytes, tags: dict[str, str]) -> None:
        self.client.put_object(
            Bucket=self.bucket, Key=key, Body=body, Tagging=urlencode(tags),
            Metadata={"m": f"{len(body)}"},
        )  # fmt: skip
        self.owed.add(digest_of(body))

    def _forgive(self) -> None:
        """What the outside just destroyed on a bucket without versions is not owed any more."""
        if not self.versioned:
            here = {digest_of(body) for body in self._current().values()}
            self.owed &= here

    @rule(key=st.sampled_from(KEYS), body=st.sampled_from(BODIES), tag=st.sampled_from("xyz"))
    def upload(self, key: str, body: bytes, tag: str) -> None:
        self.count("upload")
        self._put(key, body, {"n": tag})
        self._forgive()

    @rule(key=st.sampled_from(KEYS))
    def upload_something_new(self, key: str) -> None:
        self.count("upload new")
        self._put(key, f"new {next(self.outside)} {self.bucket}".encode(), {})
        self._forgive()

    @rule(key=st.sampled_from(KEYS))
    def delete_from_outside(self, key: str) -> None:
        self.count("delete outside")
        self.client.delete_object(Bucket=self.bucket, Key=key)
        self._forgive()

    @rule(key=st.sampled_from(KEYS), tag=st.sampled_from("xyz"))
    def tag_from_outside(self, key: str, tag: str) -> None:
        if key in self._current():
            self.count("tag outside")
            tags = {"TagSet": [{"Key": "n", "Value": tag}]}
            self.client.put_object_tagging(Bucket=self.bucket, Key=key, Tagging=tags)

    # ---- the product -------------------------------------------------------------------------

    def _scan(self) -> None:
        """A real sync and real groups; what a decoder would say is the bytes' own digest."""
        scan = begin_scan(ScanRequest(kind=Kind.FULL, source=self.source), self.settings)
        sync_assets(scan)
        catalog = open_catalog(self.settings)
        rows = []
        assets = catalog.read("assets", ["key", "asset_id", "revision", "skipped"],
                              f"source = '{self.source}' AND removed_at IS NULL")  # fmt: skip
        bodies = self._current()
        for row in assets.iter_rows(named=True):
            if row["skipped"] in (None, "not_an_image") and row["key"] in KEYS:
                sha = digest_of(bodies[row["key"]])
                rows.append({
                    "asset_id": row["asset_id"], "read_revision": row["revision"], "sha256": sha,
                    "content": sha, "width": 4, "height": 3, "flags": [], "exif": "{}", "xmp": "{}",
                })  # fmt: skip
        listing = pl.DataFrame(
            [{"asset_id": row["asset_id"]} for row in rows], schema={"asset_id": pl.String}
        ).with_columns(pl.lit(None, pl.String).alias("skipped"))
        with catalog.writing():
            catalog.upsert("assets", pa_table(rows, schema.READING))
            catalog.upsert("assets", listing.to_arrow().cast(
                pa_table([], schema.ASSETS).select(["asset_id", "skipped"]).schema))  # fmt: skip
            catalog.upsert("spaces", pa_table([{
                "space": SPACE.id, "model": SPACE.model, "revision": SPACE.revision,
                "preprocessing": SPACE.preprocessing, "dim": SPACE.dim}], schema.SPACES))  # fmt: skip
            name = catalog.vectors_table(SPACE.id, SPACE.dim)
            vectors = [{"content": row["content"], "vector": [1.0, 0.0, 0.0, 0.0]} for row in rows]
            catalog.upsert(name, pa_table(vectors, schema.embeddings(SPACE.dim)))
        group_assets(scan, SPACE)
        with catalog.writing():
            record_scan(catalog, scan, "finished", finished=now(), space=SPACE.id,
                        counts={"seen": 0})  # fmt: skip
        self.scanned = True

    @rule()
    def scan(self) -> None:
        self.count("scan")
        self._scan()

    @precondition(lambda self: self.scanned)
    @rule(action=st.sampled_from(ACTIONS), again=st.booleans())
    def plan(self, action: str, again: bool) -> None:
        self.count(f"plan {action}")
        scan, space, _, _ = last_scan(self.settings)
        plan = plan_merges(scan, space, load_policy(POLICY % action, "p"), again=again)
        if not again:
            for group in plan.groups:
                assert not (group.fingerprint in self.rejected and group.operations), (
                    "a group that a person rejected is planned again"
                )
        if plan.id not in {known.id for known in self.plans}:
            self.plans = [*self.plans[-3:], plan]

    @precondition(lambda self: self.plans)
    @rule(which=st.integers(0, 3), decision=st.sampled_from(["approve", "approve", "reject"]))
    def decide(self, which: int, decision: Any) -> None:
        self.count(decision)
        plan = self.plans[which % len(self.plans)]
        for one in decide(self.settings, plan.id, decision, by="anna", accept_questions=True):
            if one.new and one.decision == "reject":
                group = plan.group(one.group_id)
                assert group is not None
                self.rejected.add(group.fingerprint)
            elif one.new:
                group = plan.group(one.group_id)
                assert group is not None
                self.rejected.discard(group.fingerprint)

    def _survive(self, name: str, work: Callable[[], Any], kill: tuple[str, int] | None) -> None:
        """Do something that may be refused, and die on the way if told so."""
        KILLER.when, KILLER.left = kill or ("before", None)
        try:
            work()
        except Killed:
            self.count(f"killed {name}")
        except DamDedupError:
            self.count(f"refused {name}")
        else:
            self.count(name)
        finally:
            KILLER.left = None

    @precondition(lambda self: self.plans)
    @rule(which=st.integers(0, 3), kill=KILLS)
    def merge(self, which: int, kill: tuple[str, int] | None) -> None:
        plan = self.plans[which % len(self.plans)]
        self._survive("merge", lambda: self._merge(plan), kill)

    def _merge(self, plan: Plan) -> None:
        outcome = merge_plan(self.settings, plan.id, by="anna")
        for group in outcome.groups:
            self.count(f"group {group.action} {group.state}")
            if group.state == "merged":
                self._check_merged(plan, group.group_id)

    def _check_merged(self, plan: Plan, group_id: str) -> None:
        group = plan.group(group_id)
        assert group is not None
        here = self._current()
        assert group.keeper in here
        for operation in group.operations:
            if operation.kind.value == "delete":
                assert operation.key not in here
            elif operation.kind.value == "copy":
                assert operation.to in here

    def _approved(self, action: str) -> Plan:
        """A plan, approved, that has something to do: two copies are put where there are none."""
        for key in KEYS[:2]:
            self._put(key, BODIES[0], {"n": key[2]})
        self._forgive()
        self._scan()
        scan, space, _, _ = last_scan(self.settings)
        plan = plan_merges(scan, space, load_policy(POLICY % action, "p"), again=True)
        decide(self.settings, plan.id, "approve", by="anna", accept_questions=True)
        self.plans = [*self.plans[-3:], plan]
        self.rejected -= {group.fingerprint for group in plan.groups}
        return plan

    @rule(action=st.sampled_from(ACTIONS), kill=KILLS, change=st.none() | st.sampled_from(KEYS))
    def one_round(self, action: str, kill: tuple[str, int] | None, change: str | None) -> None:
        """Scan, plan, approve, perhaps an upload in between, merge."""
        plan = self._approved(action)
        if change is not None:
            self._put(change, f"between {next(self.outside)} {self.bucket}".encode(), {})
            self._forgive()
        self._survive(f"round {action}", lambda: self._merge(plan), kill)

    @precondition(lambda self: self.plans)
    @rule(which=st.integers(0, 3), part=st.sampled_from(["plan", "group", "operation"]), kill=KILLS)
    def undo(self, which: int, part: str, kill: tuple[str, int] | None) -> None:
        plan = self.plans[which % len(self.plans)]
        target = plan.id
        acting = [group for group in plan.groups if group.operations]
        if part != "plan" and acting:
            target += f"/{acting[0].group_id}"
            if part == "operation":
                target += "/0"
        self._survive("undo", lambda: undo_merge(self.settings, target, by="anna"), kill)

    @rule(action=st.sampled_from(ACTIONS), kill=KILLS)
    def merged_at_once_and_undone(self, action: str, kill: tuple[str, int] | None) -> None:
        """With nobody else about, an undo restores the very state before, killed runs included."""
        plan = self._approved(action)
        before = self._snapshot()
        self._survive("merge at once", lambda: self._merge(plan), kill)
        self._survive("undo at once", lambda: undo_merge(self.settings, plan.id, by="anna"), kill)
        left = undo_merge(self.settings, plan.id, by="anna")
        assert all(one.state == "undone" for one in left), left
        assert self._snapshot() == before

    def _snapshot(self) -> dict[str, Any]:
        found = {}
        for key, body in self._current().items():
            if key.startswith(".dam-dedup/probe/"):
                continue
            tags = self.client.get_object_tagging(Bucket=self.bucket, Key=key)["TagSet"]
            head = self.client.head_object(Bucket=self.bucket, Key=key)
            found[key] = body, sorted((t["Key"], t["Value"]) for t in tags), head["Metadata"]
        return found

    # ---- what always holds -------------------------------------------------------------------

    @invariant()
    def nothing_is_lost(self) -> None:
        if not self.owed:
            return
        reachable = {digest_of(body) for body in self._current().values()}
        if self.versioned and not self.owed <= reachable:
            found = self.client.list_object_versions(Bucket=self.bucket).get("Versions", [])
            for item in found:
                body = self.client.get_object(
                    Bucket=self.bucket, Key=item["Key"], VersionId=item["VersionId"]
                )["Body"].read()
                reachable.add(digest_of(body))
        assert self.owed <= reachable

    @invariant()
    def the_journal_is_whole(self) -> None:
        events = read_events(open_catalog(self.settings))
        assert events.height >= self.audited, "the audit only grows"
        self.audited = events.height
        intended = events.filter(event=INTENDED).select("plan_id", "group_id", "number")
        done = events.filter(event=DONE).select("plan_id", "group_id", "number")
        assert done.join(intended, on=["plan_id", "group_id", "number"], how="anti").is_empty()
        for text in events["detail"]:
            json.loads(text)
        for plan in self.plans:
            for group in plan.groups:
                group_state(group, last_events(events.filter(plan_id=plan.id), group.group_id))


@pytest.mark.timeout(900)
def test_nothing_is_ever_lost(
    s3: Any, versioned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_settings: Any
) -> None:
    numbers = itertools.count()

    def make() -> tuple[Any, str, Settings, bool]:
        chosen = make_settings(tmp_path / f"catalog{next(numbers)}")
        return s3.client, s3.bucket(versioned=versioned), chosen, versioned

    machine = type("Machine", (Merges,), {"make": staticmethod(make)})
    before = sum(STEPS.values())
    with deadly(monkeypatch):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES, stateful_step_count=STEPS_EACH, deadline=None,
                derandomize=True, suppress_health_check=list(HealthCheck), database=None,
                phases=[Phase.generate],
            ),
        )  # fmt: skip
    assert sum(STEPS.values()) - before >= 500, "with the other kind of bucket: 1,000"
    assert STEPS["killed merge at once"] > 3
    assert STEPS["undo at once"] > 10


EXAMPLES, STEPS_EACH = 15, 40
