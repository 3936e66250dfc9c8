"""What goes wrong between a plan and its merge, and amid it: refused, said, nothing lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tasks.merge import MergeOutcome, merge_approved

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
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes([0, 0, 0, 40, 0, 0, 0, 30]) + bytes(
        f"picture {seed}", "ascii"
    )


def fill(site: Any, *names: str) -> None:
    """Two assets a name, k/NAME.png and its copy d/NAME.png; each knows something of its own."""
    for seed, name in enumerate(names):
        site.put(f"k/{name}.png", png(seed), {"owner": "north"}, {"shot": "7"},
                 ContentType="image/png")  # fmt: skip
        site.put(f"d/{name}.png", png(seed), {"keywords": "sea"}, {"client": "acme"},
                 ContentType="image/png")  # fmt: skip
        if name.startswith("sidecar") and name != "sidecar-appeared":
            site.put(f"d/{name}.xmp", xmp("harbour"), ContentType="application/rdf+xml")
    site.list()


def part(snapshot: dict[str, Any], name: str) -> dict[str, Any]:
    """What of a snapshot belongs to one group, our own copies included."""
    return {key: value for key, value in snapshot.items() if f"/{name}." in key}


# ---- between plan and merge ------------------------------------------------------------------


def copied_onto_itself(site: Any, key: str, **changes: Any) -> None:
    site.s3.client.copy_object(
        Bucket=site.bucket, Key=key, CopySource={"Bucket": site.bucket, "Key": key},
        MetadataDirective="REPLACE", **changes,
    )  # fmt: skip


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
        lambda s: copied_onto_itself(s, "d/retyped.png", Metadata={"client": "acme"},
                                     ContentType="image/x-png"),
        "d/retyped.png",
    ),
    "removed": (lambda s: remove(s, "d/removed.png"), "d/removed.png"),
    "keeper-removed": (lambda s: remove(s, "k/keeper-removed.png"), "k/keeper-removed.png"),
    "keeper-changed": (
        lambda s: s.put("k/keeper-changed.png", png(1001)), "k/keeper-changed.png",
    ),
    "keeper-tagged": (lambda s: retag(s, "k/keeper-tagged.png"), "k/keeper-tagged.png"),
    "sidecar-changed": (
        lambda s: s.put("d/sidecar-changed.xmp", xmp("lake")), "d/sidecar-changed.xmp",
    ),
    "sidecar-removed": (lambda s: remove(s, "d/sidecar-removed.xmp"), "d/sidecar-removed.xmp"),
    "sidecar-taken": (  # where the keeper's would be written
        lambda s: s.put("k/sidecar-taken.png.xmp", xmp("somebody else's")),
        "k/sidecar-taken.png.xmp",
    ),
    "sidecar-appeared": (
        lambda s: s.put("d/sidecar-appeared.xmp", xmp("new")), "d/sidecar-appeared.xmp",
    ),
}  # fmt: skip
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
    params=[("plain", "quarantine"), ("versioned", "quarantine"), ("versioned", "delete")],
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
    site.put("d/same-bytes.png", png(seed), {"keywords": "sea"}, {"client": "acme"},
             ContentType="image/png")  # fmt: skip
    moved = site.snapshot(ours=True)
    outcome = site.merge(plan)
    merged = site.snapshot(ours=True)
    again = site.merge(plan)
    undone = site.undo(plan.id)
    return Wounded(site, plan, moved, outcome, merged, again, undone, site.snapshot(ours=True))


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
