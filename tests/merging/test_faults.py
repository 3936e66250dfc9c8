"""What goes wrong between a plan and its merge, and amid it: refused, said, nothing lost."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from tasks.catalog import schema
from tasks.errors import MergeError, SourceError
from tasks.merging.journal import group_state, last_events, read_events
from tasks.merging.merge import MergeOutcome, merge_approved
from tasks.merging.rules.caps import caps_note, next_lot
from tasks.records import Tier
from tasks.session import open_catalog, pa_table
from tests.conftest import first_of
from tests.merging.conftest import EITHER_KIND

BY_PREFIX = """
version: 1
name: by prefix
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, keeper: [{prefix: [k/]}], action: %s}
"""


def xmp(*words: str) -> bytes:
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in words)
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>{items}</rdf:Bag>'
        "</dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def png(seed: int) -> bytes:
    """Bytes that pass for a picture; each seed its own."""
    return (
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
        + bytes([0, 0, 0, 40, 0, 0, 0, 30])
        + bytes(f"picture {seed}", "ascii")
    )


def fill(site: Any, *names: str) -> None:
    """Two assets a name, k/NAME.png and its copy d/NAME.png; each knows something of its own."""
    for seed, name in enumerate(names):
        site.put(
            f"k/{name}.png", png(seed), {"owner": "north"}, {"shot": "7"}, ContentType="image/png"
        )
        site.put(
            f"d/{name}.png",
            png(seed),
            {"keywords": "sea"},
            {"client": "acme"},
            ContentType="image/png",
        )
        if name.startswith("sidecar") and name != "sidecar-appeared":
            site.put(f"d/{name}.xmp", xmp("harbour"), ContentType="application/rdf+xml")
    site.list()


def part(snapshot: dict[str, Any], name: str) -> dict[str, Any]:
    """What of a snapshot belongs to one group, our own copies included."""
    return {key: value for key, value in snapshot.items() if f"/{name}." in key}


# ---- between plan and merge ------------------------------------------------------------------


def copied_onto_itself(site: Any, key: str, **changes: Any) -> None:
    site.s3.client.copy_object(
        Bucket=site.bucket,
        Key=key,
        CopySource={"Bucket": site.bucket, "Key": key},
        MetadataDirective="REPLACE",
        **changes,
    )


def retag(site: Any, key: str) -> None:
    site.s3.client.put_object_tagging(
        Bucket=site.bucket, Key=key, Tagging={"TagSet": [{"Key": "new", "Value": "word"}]}
    )


def remove(site: Any, key: str) -> None:
    site.s3.client.delete_object(Bucket=site.bucket, Key=key)


#: Name of the group to what is done to it, and the key that the message has to name.
FAULTS = {
    "overwritten": (lambda s: s.put("d/overwritten.png", png(1000)), "d/overwritten.png"),
    "tagged": (lambda s: retag(s, "d/tagged.png"), "d/tagged.png"),
    "described": (
        lambda s: copied_onto_itself(s, "d/described.png", Metadata={"client": "other"}),
        "d/described.png",
    ),
    "retyped": (
        lambda s: copied_onto_itself(
            s, "d/retyped.png", Metadata={"client": "acme"}, ContentType="image/x-png"
        ),
        "d/retyped.png",
    ),
    "removed": (lambda s: remove(s, "d/removed.png"), "d/removed.png"),
    "keeper-removed": (lambda s: remove(s, "k/keeper-removed.png"), "k/keeper-removed.png"),
    "keeper-changed": (
        lambda s: s.put("k/keeper-changed.png", png(1001)),
        "k/keeper-changed.png",
    ),
    "keeper-tagged": (lambda s: retag(s, "k/keeper-tagged.png"), "k/keeper-tagged.png"),
    "sidecar-changed": (
        lambda s: s.put("d/sidecar-changed.xmp", xmp("lake")),
        "d/sidecar-changed.xmp",
    ),
    "sidecar-removed": (lambda s: remove(s, "d/sidecar-removed.xmp"), "d/sidecar-removed.xmp"),
    "sidecar-taken": (  # where the keeper's would be written
        lambda s: s.put("k/sidecar-taken.png.xmp", xmp("somebody else's")),
        "k/sidecar-taken.png.xmp",
    ),
    "sidecar-appeared": (
        lambda s: s.put("d/sidecar-appeared.xmp", xmp("new")),
        "d/sidecar-appeared.xmp",
    ),
}
CALM = ["calm", "sidecar-calm"]


@dataclass
class Wounded:
    """A bucket whose plan was merged after all that happened to it."""

    site: Any
    plan: Any
    moved: dict[str, Any]
    outcome: MergeOutcome
    merged: dict[str, Any]
    again: MergeOutcome
    undone: list[Any]
    ended: dict[str, Any]

    def group(self, name: str) -> Any:
        return next(one for one in self.plan.groups if one.keeper == f"k/{name}.png")

    def of(self, outcome: MergeOutcome, name: str) -> Any:
        wanted = self.group(name).group_id
        return next(one for one in outcome.groups if one.group_id == wanted)


@pytest.fixture(
    scope="module",
    params=first_of(("plain", "quarantine"), ("versioned", "delete")),
    ids=lambda pair: "-".join(pair),
)
def wounded(make_site: Any, request: pytest.FixtureRequest) -> Wounded:
    kind, action = request.param
    site = make_site(kind)
    fill(site, *FAULTS, "same-bytes", *CALM)
    plan = site.plan(action, BY_PREFIX)
    assert [one.refused for one in plan.groups] == [""] * (len(FAULTS) + 3)
    site.approve(plan)
    for act, _ in FAULTS.values():
        act(site)
    seed = list(FAULTS).index("sidecar-appeared") + 1
    site.put(
        "d/same-bytes.png",
        png(seed),
        {"keywords": "sea"},
        {"client": "acme"},
        ContentType="image/png",
    )
    moved = site.snapshot(ours=True)
    outcome = site.merge(plan)
    merged = site.snapshot(ours=True)
    again = site.merge(plan)
    undone = site.undo(plan.id)
    return Wounded(site, plan, moved, outcome, merged, again, undone, site.snapshot(ours=True))


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
def test_a_group_that_moved_is_refused_whole(wounded: Wounded, name: str) -> None:
    for outcome in (wounded.outcome, wounded.again):
        one = wounded.of(outcome, name)
        assert one.state == "refused"
        assert repr(FAULTS[name][1]) in one.why
        assert "scan and plan again" in one.why
        assert "nothing was done" in one.why
        assert not outcome.complete
    assert part(wounded.merged, name) == part(wounded.moved, name)
    assert part(wounded.ended, name) == part(wounded.moved, name)


def test_an_equal_upload_is_another_version(wounded: Wounded) -> None:
    one = wounded.of(wounded.outcome, "same-bytes")
    if wounded.group("same-bytes").states[0].version_id is None:
        assert one.state == "merged", "nothing tells it from what was approved"
    else:
        assert one.state == "refused"
        assert part(wounded.merged, "same-bytes") == part(wounded.moved, "same-bytes")


@pytest.mark.parametrize("name", CALM)
def test_the_other_groups_are_merged(wounded: Wounded, name: str) -> None:
    assert wounded.of(wounded.outcome, name).state == "merged"
    assert wounded.of(wounded.again, name).state == "already merged"
    assert f"d/{name}.png" not in wounded.merged
    keeper = wounded.merged[f"k/{name}.png"]
    assert dict(keeper[1]) == {"owner": "north", "keywords": "sea"}
    assert dict(keeper[2]) == {"shot": "7", "client": "acme"}


def test_undo_touches_only_what_was_merged(wounded: Wounded) -> None:
    assert {one.state for one in wounded.undone} == {"undone"}
    merged = {one.group_id[:8] for one in wounded.outcome.groups if one.state == "merged"}
    assert {one.operation.split("/")[1] for one in wounded.undone} == merged
    assert wounded.ended == wounded.moved


def test_a_refusal_waits_for_another_plan(wounded: Wounded) -> None:
    """The schedule does not try it every minute, and does not redo what was undone."""
    assert merge_approved(wounded.site.settings, by="schedule") == []
    assert wounded.site.snapshot(ours=True) == wounded.ended


# ---- amid a merge ----------------------------------------------------------------------------


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Functions (request) -> answer or nothing that stand before the server, for the product."""
    import botocore.endpoint

    import tasks.sources.bucket as bucket
    from tasks.sources import access

    made: list[Any] = []

    def answer(request: Any, **_: Any) -> Any:
        for function in made:
            if (found := function(request)) is not None:
                return found
        return None

    def client(given: Any) -> Any:
        new = client_for(given)
        new.meta.events.register("before-send.s3", answer)
        return new

    client_for, config = bucket.client_for, access.Config
    # As many attempts as ever, without the adaptive mode's waits.
    monkeypatch.setattr(
        access,
        "Config",
        lambda **kw: config(**kw | {"retries": {"mode": "standard", "max_attempts": 6}}),
    )
    monkeypatch.setattr(bucket, "client_for", client)
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None))
    return made


def busy(request: Any) -> AWSResponse:
    body = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
    raw = SimpleNamespace(stream=lambda **_: iter([body]), read=lambda *_: body)
    return AWSResponse(request.url, 503, {"content-type": "application/xml"}, raw)


def touches(request: Any, method: str, text: str) -> bool:
    return request.method == method and text in request.url and "/probe/" not in request.url


def states(outcome: MergeOutcome) -> dict[str, str]:
    return {one.keeper[2:-4]: one.state for one in outcome.groups}


def why(outcome: MergeOutcome, name: str) -> str:
    return next(one.why for one in outcome.groups if one.keeper == f"k/{name}.png")


def approved(site: Any, *names: str, action: str = "quarantine") -> tuple[Any, Any]:
    """A plan of these groups, approved; and the bucket before."""
    fill(site, *names)
    plan = site.plan(action, BY_PREFIX)
    assert [one.refused for one in plan.groups] == [""] * len(names)
    site.approve(plan)
    return plan, site.snapshot(ours=True)


@pytest.mark.long
@pytest.mark.parametrize("kind", EITHER_KIND)
def test_throttled(make_site: Any, answers: list[Any], kind: str) -> None:
    site = make_site(kind)
    plan, before = approved(site, "look", "half", "calm")
    seen: dict[tuple[str, str], int] = {}

    def at_times(request: Any) -> Any:
        """Every write is refused twice; what concerns two groups, for ever."""
        if touches(request, "HEAD", "/d/look.png") or touches(request, "DELETE", "/d/half.png"):
            return busy(request)
        name = (request.method, request.url)
        seen[name] = seen.get(name, 0) + 1
        return busy(request) if request.method != "GET" and seen[name] < 3 else None

    answers.append(at_times)
    outcome = site.merge(plan)
    assert states(outcome) == {"look": "failed", "half": "failed", "calm": "merged"}
    assert not outcome.complete
    assert "'d/look.png'" in why(outcome, "look")
    assert "try again" in why(outcome, "look")
    assert "'d/half.png'" in why(outcome, "half")
    assert "run the merge again to go on, or `dam-dedup undo" in why(outcome, "half")
    now = site.snapshot(ours=True)
    assert part(now, "look") == part(before, "look"), "nothing was written"
    assert now["d/half.png"] == before["d/half.png"], "nothing is lost"
    answers.clear()
    (again,) = merge_approved(site.settings, by="schedule")
    assert states(again) == {"look": "merged", "half": "merged"}
    assert again.complete
    assert {one.state for one in site.undo(plan.id)} == {"undone"}
    assert site.snapshot(ours=True) == before


@pytest.mark.long
@pytest.mark.parametrize(("kind", "at"), [("plain", (0, 2, 3, 5)), ("versioned", (1, 4, 5))])
def test_undo_after_a_failure_at_a_write(
    make_site: Any, answers: list[Any], kind: str, at: tuple[int, ...]
) -> None:
    site = make_site(kind)
    plan, before = approved(site, "sidecar-one")
    writes = len(plan.groups[0].operations)
    assert writes == 6, "metadata, sidecar, and two objects copied and deleted"
    for allowed in at:
        left = [allowed]

        def closing(request: Any, left: list[int] = left) -> Any:
            # Ours are the probe, the lease and the journal, which come before the operations.
            ours = "/.dam-dedup/" in request.url and "/.dam-dedup/quarantine/" not in request.url
            if request.method in ("GET", "HEAD") or ours:
                return None
            if left[0] <= 0:
                return busy(request)
            left[0] -= 1
            return None

        answers[:] = [closing]
        outcome = site.merge(plan)
        assert states(outcome) == {"sidecar-one": "failed"}
        assert f"{allowed} of {writes} operations are done" in why(outcome, "sidecar-one")
        answers.clear()
        assert {one.state for one in site.undo(plan.id)} == {"undone"}
        assert site.snapshot(ours=True) == before
        assert site.undo(plan.id) == []
        assert states(site.merge(plan)) == {"sidecar-one": "refused"}, "it was undone"
        site.list()  # what a rewrite left is another version
        plan = site.plan("quarantine", BY_PREFIX, again=True)
        assert plan.groups[0].refused == ""
        site.approve(plan)


@pytest.mark.long
@pytest.mark.parametrize("kind", EITHER_KIND)
def test_an_undo_that_was_stopped_is_not_merged_again(
    make_site: Any, answers: list[Any], kind: str
) -> None:
    site = make_site(kind)
    plan, before = approved(site, "one")
    site.merge(plan)
    answers.append(lambda request: busy(request) if touches(request, "PUT", "/k/one.png") else None)
    failed = site.undo(plan.id)
    assert [one.state for one in failed][-1] == "failed"
    stopped = site.snapshot(ours=True)
    answers.clear()
    assert merge_approved(site.settings, by="schedule") == []
    outcome = site.merge(plan)
    assert states(outcome) == {"one": "refused"}
    assert f"dam-dedup undo {plan.id}/" in why(outcome, "one")
    assert site.snapshot(ours=True) == stopped, "what a person undoes is not done again"
    events = read_events(open_catalog(site.settings), plan)
    assert group_state(plan.groups[0], last_events(events, plan.groups[0].group_id)) == "undoing"
    assert {one.state for one in site.undo(plan.id)} == {"undone"}
    assert site.snapshot(ours=True) == before


def deny(site: Any, action: str, key: str) -> None:
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": f"arn:aws:s3:::{site.bucket}/{key}",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    site.s3.client.put_bucket_policy(Bucket=site.bucket, Policy=policy)


@pytest.mark.long
@pytest.mark.parametrize("kind", EITHER_KIND)
def test_permission_denied(make_site: Any, kind: str) -> None:
    site = make_site(kind)
    plan, before = approved(site, "kept", "calm")
    deny(site, "s3:PutObject", "*")
    with pytest.raises(SourceError, match="allow s3:PutObject"):
        site.merge(plan)
    site.s3.client.delete_bucket_policy(Bucket=site.bucket)
    assert site.snapshot(ours=True) == before, "found out before the first write"
    deny(site, "s3:DeleteObject", "d/kept.png")
    outcome = site.merge(plan)
    assert states(outcome) == {"kept": "failed", "calm": "merged"}
    assert "'d/kept.png'" in why(outcome, "kept")
    assert "allow s3:DeleteObject" in why(outcome, "kept")
    assert not outcome.complete
    (again,) = merge_approved(site.settings, by="schedule")
    assert states(again) == {"kept": "failed"}
    site.s3.client.delete_bucket_policy(Bucket=site.bucket)
    assert {one.state for one in site.undo(plan.id)} == {"undone"}
    assert site.snapshot(ours=True) == before


def hold(site: Any, key: str, status: str = "ON") -> None:
    site.s3.client.put_object_legal_hold(Bucket=site.bucket, Key=key, LegalHold={"Status": status})


@pytest.mark.long
def test_locked_since_the_plan(make_site: Any) -> None:
    site = make_site("locked")
    plan, _ = approved(site, "held", "calm")
    hold(site, "d/held.png")
    before = site.snapshot(ours=True)
    outcome = site.merge(plan)
    assert states(outcome) == {"held": "refused", "calm": "merged"}
    assert "'d/held.png'" in why(outcome, "held")
    assert not outcome.complete
    now = site.snapshot(ours=True)
    assert part(now, "held") == part(before, "held")
    later = site.plan("quarantine", BY_PREFIX)
    group = next(one for one in later.groups if "d/held.png" in (one.keeper, *one.duplicates))
    assert group.keeper == "d/held.png", "what is held can only be the keeper"
    hold(site, "d/held.png", "OFF")


@pytest.mark.parametrize("action", ["quarantine", "delete"])
def test_versioning_suspended_since_the_plan(make_site: Any, action: str) -> None:
    site = make_site("versioned")
    plan, before = approved(site, "one", action=action)
    site.s3.client.put_bucket_versioning(
        Bucket=site.bucket, VersioningConfiguration={"Status": "Suspended"}
    )
    with pytest.raises(MergeError, match=r"suspended.*nothing was done; turn versioning on"):
        site.merge(plan)
    assert site.snapshot(ours=True) == before


@pytest.mark.parametrize(
    ("operation", "parameter", "words"),
    [
        ("PutObject", "IfNoneMatch", "PUT with If-None-Match"),
        ("PutObject", "IfMatch", "PUT with If-Match"),
        ("DeleteObject", "IfMatch", "DELETE with If-Match"),
    ],
)
def test_a_store_that_ignores_conditions(
    make_site: Any, monkeypatch: pytest.MonkeyPatch, operation: str, parameter: str, words: str
) -> None:
    import tasks.sources.bucket as bucket

    site = make_site("plain")
    plan, before = approved(site, "one")
    real = bucket.client_for

    def careless(given: Any) -> Any:
        client = real(given)
        client.meta.events.register(
            f"before-parameter-build.s3.{operation}",
            lambda params, **_: params.pop(parameter, None) and None,
        )
        return client

    monkeypatch.setattr(bucket, "client_for", careless)
    with pytest.raises(MergeError, match=f"may only be read: .*{words}.*nothing was done"):
        site.merge(plan)
    assert site.snapshot(ours=True) == before
    assert site.merge(plan, dry_run=True).complete, "to look is allowed"


@pytest.mark.parametrize("kind", first_of("plain", "versioned"))
def test_an_upload_in_the_moment_of_the_delete(
    make_site: Any, answers: list[Any], kind: str
) -> None:
    site = make_site(kind)
    plan, _ = approved(site, "raced", "calm")
    done: list[bool] = []

    def racing(request: Any) -> None:
        if touches(request, "DELETE", "/d/raced.png") and not done:
            done.append(True)
            site.put("d/raced.png", png(77))

    answers.append(racing)
    outcome = site.merge(plan)
    assert states(outcome) == {"raced": "failed", "calm": "merged"}
    assert "'d/raced.png'" in why(outcome, "raced")
    assert site.body("d/raced.png") == png(77)
    again = site.merge(plan)
    assert states(again) == {"raced": "refused", "calm": "already merged"}
    assert "nothing was done" not in why(again, "raced"), "some of it was"
    assert "undo what is done of it" in why(again, "raced")
    undone = {(one.kind, one.key): one for one in site.undo(plan.id)}
    assert undone["rewrite", "k/raced.png"].state == "undone"
    assert undone["copy", "d/raced.png"].state == "left"
    assert site.body("d/raced.png") == png(77)
    copy = next(
        key
        for key in site.keys(ours=True)
        if key.endswith("/d/raced.png") and key.startswith(".dam-dedup/quarantine/")
    )
    assert site.body(copy) == png(0), "the old one is kept"


@pytest.mark.long
def test_a_multipart_keeper_is_undone_where_nothing_has_versions(make_site: Any) -> None:
    """Written in one part it has another ETag, with the same bytes."""
    site = make_site("plain")
    body = png(1)
    for key, metadata in (("k/m.png", {"shot": "7"}), ("d/m.png", {"client": "acme"})):
        place = {"Bucket": site.bucket, "Key": key}
        upload = site.s3.client.create_multipart_upload(
            **place, Metadata=metadata, ContentType="image/png"
        )
        part_ = site.s3.client.upload_part(
            **place, UploadId=upload["UploadId"], PartNumber=1, Body=body
        )
        site.s3.client.complete_multipart_upload(
            **place,
            UploadId=upload["UploadId"],
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part_["ETag"]}]},
        )
    site.list()
    before = site.snapshot(ours=True)
    plan = site.plan("quarantine", BY_PREFIX)
    assert "-" in plan.groups[0].states[0].etag
    site.approve(plan)
    assert site.merge(plan).complete
    assert {one.state for one in site.undo(plan.id)} == {"undone"}
    assert site.snapshot(ours=True) == before


@pytest.mark.long
def test_a_dry_run_writes_nothing_at_all(make_site: Any) -> None:
    """Nor does it look again at what an earlier run left to be looked at."""
    site = make_site("versioned")
    plan, _ = approved(site, "one", "two")
    site.merge(plan, groups=[plan.groups[0].group_id])
    catalog = open_catalog(site.settings)
    checked = read_events(catalog, plan).filter(event="checked")
    assert checked.height == 1
    names = catalog.read("journal", ["event_id", "event"]).filter(event="checked")["event_id"]
    with catalog.writing():
        catalog.delete_keys("journal", names.to_list())
    before, bucket = read_events(catalog, plan), site.snapshot(ours=True)
    site.merge(plan, dry_run=True)
    assert read_events(catalog, plan).equals(before)
    assert site.snapshot(ours=True) == bucket
    site.merge(plan, groups=[plan.groups[0].group_id])
    assert read_events(catalog, plan).filter(event="checked").height == 1


def test_an_edited_plan_is_refused(make_site: Any) -> None:
    site = make_site("plain")
    plan, before = approved(site, "one", "two")
    other = site.plan("tag", BY_PREFIX)
    site.approve(other, groups=[other.groups[0].group_id])
    catalog = open_catalog(site.settings)
    row = catalog.read("plans", schema.PLANS.names, f"plan_id = '{plan.id}'").row(0, named=True)
    row["body"] = row["body"].replace('"d/one.png"', '"d/two.png"')
    with catalog.writing():
        catalog.upsert("plans", pa_table([row], schema.PLANS))
    for act in (site.merge, site.approve, lambda plan: site.undo(plan.id)):
        with pytest.raises(MergeError, match="was changed since it was made"):
            act(plan)
    assert site.snapshot(ours=True) == before
    (done,) = merge_approved(site.settings, by="schedule")
    assert done.plan_id == other.id, "the others go on"
    assert done.complete


@pytest.mark.long
def test_a_plan_above_a_cap_is_carried_out_in_lots(make_site: Any) -> None:
    site = make_site("plain")
    fill(site, "one", "two")
    policy = BY_PREFIX.replace("caps: {share: 1.0}", "caps: {share: 1.0, objects: 2}")
    plan = site.plan("quarantine", policy)
    assert "in lots" in caps_note(plan), "told before anybody approves"
    assert "4 objects would be touched, the cap is 2" in caps_note(plan)
    site.approve(plan)
    first = site.merge(plan)
    assert sorted(states(first).values()) == ["merged", "waiting"]
    assert first.complete
    (late,) = merge_approved(site.settings, by="schedule")
    assert set(states(late).values()) == {"merged"}
    assert set(states(site.merge(plan)).values()) == {"already merged"}
    assert merge_approved(site.settings, by="schedule") == []


def test_lots_take_equal_pictures_first_and_the_largest_of_them(make_site: Any) -> None:
    plan_of = make_site("plain")
    fill(plan_of, "one", "two", "three")
    whole = plan_of.plan("quarantine", BY_PREFIX)
    groups = [
        replace(group, bytes=size, tier=tier)
        for group, size, tier in zip(
            whole.groups, (10, 99, 50), (Tier.EXACT, Tier.NEAR, Tier.EXACT), strict=True
        )
    ]
    plan = replace(whole, caps=whole.caps | {"objects": 4}, groups=tuple(groups))
    assert [group.bytes for group in next_lot(plan, plan.groups)] == [50, 10]
    assert [group.bytes for group in next_lot(plan, groups[:1], groups[1:2])] == [99, 10]


# ---- undo ------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("kind", EITHER_KIND)
def test_undo_leaves_what_others_did_since(make_site: Any, kind: str) -> None:
    site = make_site(kind)
    plan, before = approved(site, "new", "tagged", "calm")
    site.merge(plan)
    site.put("d/new.png", png(50))
    retag(site, "k/tagged.png")
    undone = site.undo(plan.id)
    left = {(one.kind, one.key): one.why for one in undone if one.state == "left"}
    assert "another object is at 'd/new.png' now" in left["delete", "d/new.png"]
    assert "'k/tagged.png' changed since" in left["rewrite", "k/tagged.png"]
    assert {key for _, key in left} == {"d/new.png", "k/tagged.png"}
    now = site.snapshot(ours=True)
    assert site.body("d/new.png") == png(50)
    assert part(now, "calm") == part(before, "calm")
    assert now["d/tagged.png"] == before["d/tagged.png"]
    assert now["k/new.png"] == before["k/new.png"]
    again = site.undo(plan.id)
    assert {(one.kind, one.key) for one in again} == set(left), "only these are still open"
    assert {one.state for one in again} == {"left"}
    assert site.snapshot(ours=True) == now


@pytest.mark.long
@pytest.mark.parametrize("kind", EITHER_KIND)
def test_undo_of_a_group_and_of_one_operation(make_site: Any, kind: str) -> None:
    site = make_site(kind)
    plan, before = approved(site, "one", "two")
    site.merge(plan)
    merged = site.snapshot(ours=True)
    one = next(group for group in plan.groups if group.keeper == "k/one.png")
    number = next(n for n, o in enumerate(one.operations) if o.kind.value == "copy")
    dry = site.undo(f"{plan.id}/{one.group_id[:8]}/{number}", dry_run=True)
    assert {o.state for o in dry} == {"would undo"}
    assert site.snapshot(ours=True) == merged
    site.undo(f"{plan.id[:6]}/{one.group_id[:8]}/{number}")
    now = site.snapshot(ours=True)
    assert now["d/one.png"] == before["d/one.png"], "a copy goes only when its original is back"
    assert now["k/one.png"] == merged["k/one.png"]
    assert part(now, "two") == part(merged, "two")
    assert states(site.merge(plan)) == {"one": "refused", "two": "already merged"}
    assert {o.state for o in site.undo(one.group_id)} == {"undone"}  # the rest of the group
    assert part(site.snapshot(ours=True), "one") == part(before, "one")
    site.undo(plan.id)
    assert site.snapshot(ours=True) == before
    assert site.undo(plan.id) == []


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nothing", "no plan 'nothing'"),
        ("{p}/nothing", "no group"),
        ("{p}/{g}/99", "no operation"),
        ("{p}//1", "write PLAN"),
        ("{p}/{g}/1/2", "write PLAN"),
        ("{p}/{g}/-1", "no operation"),
    ],
)
def test_undo_of_nothing(wounded: Wounded, target: str, words: str) -> None:
    group = wounded.plan.groups[0].group_id
    with pytest.raises(MergeError, match=words):
        wounded.site.undo(target.format(p=wounded.plan.id, g=group))


@pytest.mark.long
def test_markers_that_cannot_be_looked_at_again(make_site: Any, answers: list[Any]) -> None:
    """The groups are merged; what is not known of one is said, and found out by the next run."""
    site = make_site("versioned")
    plan, _ = approved(site, "one", "two")
    answers.append(
        lambda request: (
            busy(request)
            if touches(request, "GET", "versions") and "one.png" in request.url
            else None
        )
    )
    outcome = site.merge(plan)
    assert states(outcome) == {"one": "failed", "two": "merged"}
    assert "it is merged" in why(outcome, "one")
    assert "Run the merge again" in why(outcome, "one")
    answers.clear()
    again = site.merge(plan)
    assert states(again) == {"one": "already merged", "two": "already merged"}
    events = read_events(open_catalog(site.settings), plan).filter(event="checked")
    assert events["group_id"].n_unique() == 2
