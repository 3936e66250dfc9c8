"""Merges among everything else that happens to a bucket: nothing is ever lost.

A state machine uploads, overwrites, deletes, tags, scans, plans, decides, merges and undoes. It
kills the product between any two requests and any two writes of the journal, lets somebody else
change the bucket between any two requests, and has the store let an upload slip in under a delete
marker. Two catalogs work on the bucket, clocks go ahead and behind, quarantines are in other
places, a process sleeps for minutes and goes on, and a catalog is lost and rebuilt from the bucket.
After every step every content that was ever there, and that nobody but us could have lost, can be
got back, and its picture has a live file; what others changed is never touched; what is undone is
as it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from tasks.catalog import schema
from tasks.errors import DamDedupError
from tasks.merging import journal
from tasks.merging import merge as merge_module
from tasks.merging import undo as undo_module
from tasks.merging.decide import decide
from tasks.merging.journal import (
    DONE,
    INTENDED,
    LEFT,
    UNDOING,
    UNDONE,
    group_state,
    last_events,
    read_events,
)
from tasks.merging.late_hands import LATE_PREFIX
from tasks.merging.merge import merge_plan
from tasks.merging.plan import plan_merges
from tasks.merging.quarantine import empty_quarantine
from tasks.merging.recover import recover
from tasks.merging.rules.plans import Operation, OperationKind, Plan, PlannedGroup
from tasks.merging.rules.policy import load_policy
from tasks.merging.undo import undo_merge
from tasks.queries.scans import record_scan
from tasks.records import Kind, Space, now
from tasks.reporting.summarize import last_scan
from tasks.requests import ScanRequest
from tasks.scan.begin import begin_scan
from tasks.scan.group import group_assets
from tasks.scan.sync import sync_assets
from tasks.session import open_catalog, pa_table
from tests.merging.conftest import later as later_by
from tests.merging.world import (
    BETWEEN,
    BODIES,
    KEYS,
    PICTURES,
    STEPS,
    BucketWorld,
    Killed,
    Thing,
    World,
    die,
    digest_of,
    others_go_on,
)

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
WHENS = ["before", "after", "journal before", "journal after"]
KILLS = st.none() | st.tuples(st.sampled_from(WHENS), st.integers(0, 40))

#: Quarantines of a policy's own, below which nobody uploads.
PLACES = ("trash/", "c/aside/")


class Merges(BucketWorld):
    """The product at work in such a bucket.

    What may be done next never depends on what is there: requests run in threads, so the same
    kill does not leave the same behind twice, and hypothesis wants the same choices twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.plans: list[Plan] = []
        #: Fingerprint of a group to the last word on it; empty where a kill leaves it open.
        self.words: dict[str, str] = {}
        #: What the product left, where it wrote last.
        self.ours: dict[str, Thing | None] = {}
        self.audit: set[str] = set()
        #: Keys of the plan at work of which the journal did not tell whether they are there.
        self.open_keys: set[str] = set()
        self.slips = 0
        #: The other catalog of the bucket: settings, plans, words, audit, begun.
        other = f"{self.settings.catalog.uri}-other"
        catalog = self.settings.catalog.model_copy(update={"uri": other})
        self.other: tuple[Any, ...] = (
            self.settings.model_copy(update={"catalog": catalog}),
            [],
            {},
            set(),
            [],
        )
        self.elsewhere: list[Plan] = []
        #: What the other catalog left while the process of this one slept.
        self.by_the_other: dict[str, Thing | None] = {}

    def look(self) -> None:
        self.quarantine = ""
        self.set_the_clock(0)
        self._scan()

    # ---- other catalogs, other clocks, other places -------------------------------------------

    @rule(
        what=st.sampled_from(
            ["nothing", "nothing", "nothing", "catalog", "clock", "place", "lost"]
        ),
        seconds=st.sampled_from([-86_400, -90, 90, 86_400, 0]),
        prefix=st.sampled_from([*PLACES, ""]),
    )
    def all_is_otherwise(self, what: str, seconds: int, prefix: str) -> None:
        """One rule for all of it: rules of their own would leave no steps for merges."""
        if what == "catalog":
            self.go_on_with_the_other_catalog()
        elif what == "clock":
            self.set_the_clock(seconds)
        elif what == "place":
            self.move_the_quarantine(prefix)
        elif what == "lost":
            self.lose_the_catalog()

    def go_on_with_the_other_catalog(self) -> None:
        """Whoever works here knows nothing of what the other catalog did."""
        STEPS["other catalog"] += 1
        self._switch()
        self._scan()

    def _switch(self) -> None:
        mine = self.settings, self.plans, self.words, self.audit, self.begun
        self.settings, self.plans, self.words, self.audit, self.begun = self.other
        self.other, self.elsewhere = mine, mine[-1]

    def set_the_clock(self, seconds: int) -> None:
        """From now on the machine that works is ahead of the others, or behind."""
        STEPS["clock"] += 1
        for module in (journal, merge_module, undo_module):
            module.now = lambda: now() + timedelta(seconds=seconds)  # type: ignore[attr-defined]

    def move_the_quarantine(self, prefix: str) -> None:
        STEPS["quarantine elsewhere"] += 1
        self.quarantine = f"quarantine: {{prefix: {prefix}}}\n" if prefix else ""

    def lose_the_catalog(self) -> None:
        """All that was done is known from the bucket again, and can be undone."""
        STEPS["catalog lost"] += 1
        shutil.rmtree(self.settings.catalog.uri, ignore_errors=True)
        found = recover(self.settings, self.source)
        assert not found.unreadable
        known = set(found.plans)
        assert {plan.id for plan in self.begun} <= known, "a plan that was begun is forgotten"
        self.plans, self.words, self.audit = [], {}, set()
        self._scan()

    def _settle(self, plan: Plan, kill: tuple[str, int] | None) -> None:
        def later() -> Any:
            with pytest.MonkeyPatch.context() as patch:
                later_by(patch, timedelta(days=3))
                return empty_quarantine(self.settings, by="anna", plan_id=plan.id)

        found, _, _ = self._run("settle", plan, later, kill)
        for entry in found or ():
            STEPS[f"  settled {entry.state}"] += 1

    @rule(which=st.integers(0, 3), kill=KILLS)
    def settle(self, which: int, kill: tuple[str, int] | None) -> None:
        """The time is over for which copies of what was put back are kept."""
        if self.begun:
            self._settle(self.begun[-1 - which % len(self.begun)], kill)

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
        policy = load_policy(POLICY % action + self.quarantine, "p")
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
        before = self._known_world()
        self.touching.clear()
        self.open_keys = self._open_keys(plan)
        if kill is not None:
            BETWEEN.when, BETWEEN.left = kill
            BETWEEN.act = die
        elif foreign is not None:
            BETWEEN.when, BETWEEN.left, BETWEEN.act = "before", *foreign
        BETWEEN.slip = slip
        self.running = True
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
            self.running = False
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
        events = read_events(open_catalog(self.settings), plan)
        new = plan.id not in {known.id for known in self.begun}
        if new and not events.filter(event=INTENDED).is_empty():
            self.begun.append(plan)
        return found, before, after

    def _open_keys(self, plan: Plan) -> set[str]:
        """Keys that an undo puts back when they are missing, whoever removed them.

        Cut off: no store tells whether an object was removed by us or by others (see `_write_end`),
        but for our own delete markers, which the first undo finds. Left: something else was there,
        and somebody made room for the original, and asks again.
        """
        unknown = {INTENDED} if self.versioned else {INTENDED, UNDOING, LEFT}
        events = read_events(open_catalog(self.settings), plan)
        return {
            group.operations[number].key
            for group in plan.groups
            for number, (event, _) in last_events(events, group.group_id).items()
            if event in unknown
        }

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
        if name.startswith("undo") and was is None and key in self.open_keys:
            STEPS["  put back again"] += 1
            self.mixed.add(key)
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
            state.headers.get("ServerSideEncryption", ""),
            state.held,
        )

    @rule(which=st.integers(0, 3), kill=KILLS)
    def merge(self, which: int, kill: tuple[str, int] | None) -> None:
        if self.plans:
            self.merge_now("merge", self.plans[which % len(self.plans)], kill)

    def merge_now(
        self, name: str, plan: Plan, kill: tuple[str, int] | None = None, **options: Any
    ) -> Any:
        """Carry out a plan, and look at what became of it; None where that was cut off."""
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

    def ready(self, action: str, again: bool = True) -> Plan:
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
        plan = self.ready(action)
        if change is not None:
            self._put(change, self._new(), {}, {})
        self.merge_now(f"round {action}", plan, kill)

    @rule(
        action=st.sampled_from(ACTIONS),
        at=st.integers(0, 60),
        key=st.sampled_from(KEYS),
        how=st.sampled_from(["put", "same", "tag", "metadata", "delete"]),
        back=st.booleans(),
    )
    def disturbed(self, action: str, at: int, key: str, how: str, back: bool) -> None:
        """Somebody else changes an object in the middle of a merge, or of an undo."""
        plan = self.ready(action)
        changes: dict[str, Callable[[], Any]] = {
            "put": lambda: self._put(key, self._new(), {}, {}),
            "same": lambda: self._put(key, BODIES[0], {"other": "1"}, {"other": "1"}),
            "tag": lambda: self._retag(key, "w"),
            "metadata": lambda: self._redescribe(key, "w"),
            "delete": lambda: self.delete_from_outside(key),
        }
        if back:
            self.merge_now(f"merge {action}", plan, None)
            self._undo(f"undo disturbed by {how}", plan, plan.id, None, foreign=(at, changes[how]))
        else:
            self.merge_now(f"merge disturbed by {how}", plan, None, foreign=(at, changes[how]))

    @rule(
        action=st.sampled_from(["quarantine", "replace", "metadata", "delete"]),
        at=st.integers(0, 60),
        back=st.booleans(),
    )
    def stands_still(self, action: str, at: int, back: bool) -> None:
        """The process sleeps for minutes before one of its requests, and goes on with it."""
        plan = self.ready(action)
        self.by_the_other = {}
        if back:
            self.merge_now(f"merge {action}", plan, None)
            self._undo("undo that slept", plan, plan.id, None, foreign=(at, self._meanwhile))
        else:
            self.merge_now("merge that slept", plan, None, foreign=(at, self._meanwhile))
        here = self._known_world()
        self.ours |= {key: one for key, one in self.by_the_other.items() if here.get(key) == one}
        # An hour later: what the sleeper was at may be touched again.
        for key in self.client.list_objects_v2(Bucket=self.bucket, Prefix=LATE_PREFIX).get(
            "Contents", []
        ):
            self.client.delete_object(Bucket=self.bucket, Key=key["Key"])

    def _meanwhile(self) -> None:
        """The other catalog merges the same pictures, with another keeper where it may."""
        STEPS["slept"] += 1
        before = self._world()
        self._switch()
        plan: Plan | None = None
        try:
            with others_go_on(self.settings.s3):
                self._scan()
                plan = self._plan("quarantine", True, keeper=0)
                self._decide(plan, "approve", [])
                for one in merge_plan(self.settings, plan.id, by="ben").groups:
                    STEPS[f"  meanwhile {one.state}"] += 1
        except DamDedupError as error:
            STEPS[f"  meanwhile {str(error)[:60]}"] += 1
        finally:
            if plan is not None:
                self._forget_words(plan)
                events = read_events(open_catalog(self.settings), plan)
                if not events.filter(event=INTENDED).is_empty():
                    self.begun.append(plan)
            self._switch()
        after = self._world()
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        self.touching |= changed
        self.by_the_other = {key: after.get(key) for key in changed}

    @rule(action=st.sampled_from(["quarantine", "replace", "delete"]), kill=KILLS)
    def upload_under_a_marker(self, action: str, kill: tuple[str, int] | None) -> None:
        """The store deletes what was uploaded after it had looked at the condition."""
        if not self.versioned or self.slips == 3:  # they take a second each
            return
        plan = self.ready(action)
        self.slips += 1
        new: dict[str, str] = {}

        def slip(key: str) -> None:
            body = self._new()
            new[key] = digest_of(body)
            self._put(key, body, {}, {})

        outcome = self.merge_now("merge with a slip", plan, kill, slip=slip)
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
            if one.state == "left" and "of an asset that is gone" in one.why:
                # Somebody removed it while the merge was at its group. Without versions nothing
                # tells that from a loss, so that the keeper keeps what was known of it.
                self.mixed.add(one.key)
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
        plan = self.ready(action)
        before = self._world()
        self.merge_now("merge at once", plan, kill)
        if replay:
            self.merge_now("merge replayed", plan, None)
        self._undo("undo at once", plan, plan.id, kill_undo)
        left = self._undo("undo at once", plan, plan.id, None)
        assert all(one.state == "undone" for one in left), left
        self._settle(plan, None)
        assert self._world() == before
        assert self._undo("undo at once", plan, plan.id, None) == [], "twice is once"

    @rule()
    def undo_everything(self) -> None:
        """What nobody else changed meanwhile is as they left it."""
        for _ in range(4):  # what lay below another merge's work comes back the next time
            left = []
            for _ in range(2):
                left += [
                    self._undo("undo everything", plan, plan.id, None)
                    for plan in reversed(self.begun)
                ]
                self._switch()
            if not any(left):
                break
        here = self._world()
        for key in here.keys() | self.theirs.keys():
            # Copies in quarantine stay for an hour after an undo, wherever that was.
            if key not in self.mixed and not key.startswith((".dam-dedup/", *PLACES)):
                assert here.get(key) == self.theirs.get(key), key

    # ---- what always holds -------------------------------------------------------------------

    @invariant()
    def nothing_is_lost(self) -> None:
        STEPS["steps"] += 1
        assert self.owed <= self._reachable()

    @invariant()
    def every_picture_has_a_live_file(self) -> None:
        """Of all that others left, unless they removed the last one themselves."""
        theirs = {PICTURES.get(thing.sha, "") for thing in self.theirs.values()} - {""}
        assert theirs - self.removed <= self._live()

    @invariant()
    def what_is_held_stays(self) -> None:
        """Held or retained, a version stays the newest of its key, and stays held as it was."""
        for key, (version, how) in self.held.items():
            head = self.client.head_object(Bucket=self.bucket, Key=key)
            assert head["VersionId"] == version, f"{key!r} was {how}, and is another version now"
            assert self._how_held(key, version) == how

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
