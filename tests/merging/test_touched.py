"""What others touched since: left as it is by merges and undos, and nothing of it is lost."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.merging.quarantine import list_quarantine
from tasks.sources.store import Store
from tests.merging.conftest import png

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>sea</rdf:li>'
    b"</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
)
KEEPER, COPY = "k/1.png", "d/1.png"


@pytest.fixture
def pair(site: Any) -> Any:
    """An asset and its copy; both know something."""
    site.put(KEEPER, png(), {"owner": "north"}, {"shot": "7"}, ContentType="image/png")
    site.put(COPY, png(), {"word": "sea"}, {"client": "a"}, ContentType="image/png")
    site.list()
    return site


def by_prefix(site: Any, action: str, **options: Any) -> Any:
    """A plan that keeps what is below k/."""
    policy = site.template.replace("action: %s", "keeper: [{prefix: [k/]}]\n    action: %s")
    plan = site.plan(action, policy, **options)
    assert [group.keeper for group in plan.groups] == [KEEPER]
    return plan


def merged(site: Any, action: str) -> Any:
    plan = by_prefix(site, action)
    site.approve(plan)
    assert [one.state for one in site.merge(plan).groups] == ["merged"]
    return plan


def retag(site: Any, key: str) -> None:
    site.s3.client.put_object_tagging(
        Bucket=site.bucket, Key=key, Tagging={"TagSet": [{"Key": "new", "Value": "word"}]}
    )


@pytest.mark.long
def test_an_undo_leaves_a_link_record_that_others_tagged(pair):
    plan = merged(pair, "replace")
    link = f"{COPY}.duplicate-of.json"
    retag(pair, link)
    states = {one.key: one.state for one in pair.undo(plan.id)}
    assert states[link] == "left"
    assert pair.tags(link) == {"new": "word"}
    assert pair.tags(COPY) == {"word": "sea"}


@pytest.mark.long
def test_tags_of_the_original_outlive_an_upload_of_the_same_bytes(pair, versioned):
    plan = merged(pair, "quarantine")
    pair.put(COPY, png(), {"else": "1"}, ContentType="image/png")
    states = {(one.kind, one.key): one.state for one in pair.undo(plan.id)}
    assert states[("delete", COPY)] == states[("copy", COPY)] == "left"
    assert pair.tags(COPY) == {"else": "1"}
    kept = list_quarantine(pair.settings)
    assert [entry.key for entry in kept] == [COPY], "what an undo leaves there is still shown"
    assert pair.tags(kept[0].at) == {"word": "sea"}


@pytest.mark.long
def test_a_copy_tagged_amid_the_merge_stays(pair, monkeypatch):
    copy = Store.copy

    def then_tagged(self: Store, *args: Any) -> Any:
        made = copy(self, *args)
        retag(pair, COPY)
        return made

    monkeypatch.setattr(Store, "copy", then_tagged)
    plan = by_prefix(pair, "quarantine")
    pair.approve(plan)
    assert [one.state for one in pair.merge(plan).groups] == ["failed"]
    assert pair.tags(COPY) == {"new": "word"}


@pytest.mark.long
def test_a_keeper_tagged_amid_the_merge_keeps_its_tags(pair, monkeypatch):
    read = Store.check_readable

    def then_tagged(self: Store, state: Any) -> None:
        read(self, state)
        retag(pair, KEEPER)

    monkeypatch.setattr(Store, "check_readable", then_tagged)
    plan = by_prefix(pair, "metadata")
    pair.approve(plan)
    assert [one.state for one in pair.merge(plan).groups] == ["failed"]
    assert pair.tags(KEEPER) == {"new": "word"}


@pytest.mark.long
def test_metadata_that_is_not_ascii_is_merged_and_undone(site):
    site.put(KEEPER, png(), {}, {"shot": "7"}, ContentType="image/png")
    site.put(COPY, png(), {}, {"client": "=?utf-8?b?w7w=?="}, ContentType="image/png")
    site.list()
    before = site.snapshot()
    plan = merged(site, "metadata")
    assert site.snapshot() != before
    assert {one.state for one in site.undo(plan.id)} == {"undone"}
    assert site.snapshot() == before


@pytest.mark.long
@pytest.mark.parametrize("word", ["undone", "rejected"])
def test_an_older_approval_does_not_outlive_a_later_word(pair, word):
    older = by_prefix(pair, "tag")
    pair.approve(older)
    plan = by_prefix(pair, "quarantine")
    before = pair.snapshot()
    if word == "undone":
        pair.approve(plan)
        pair.merge(plan)
        pair.undo(plan.id)
    else:
        from tasks.merging.decide import decide

        decide(pair.settings, plan.id, "reject", by="anna")
    outcome = pair.merge(older)
    assert [one.state for one in outcome.groups] == ["refused"]
    assert word in outcome.groups[0].why
    assert pair.snapshot() == before


@pytest.mark.parametrize("other", ["d/1.nef", "d/1.txt"])
def test_a_sidecar_that_serves_another_file_stays(pair, other):
    pair.put(other, b"no picture that anything here can read")
    pair.put("d/1.xmp", XMP, ContentType="application/rdf+xml")
    pair.list()
    plan = by_prefix(pair, "quarantine")
    assert "d/1.xmp" not in {operation.key for operation in plan.groups[0].operations}


def test_a_sidecar_that_went_since_the_scan(pair):
    pair.put("d/1.xmp", XMP, ContentType="application/rdf+xml")
    pair.list()
    pair.s3.client.delete_object(Bucket=pair.bucket, Key="d/1.xmp")
    plan = by_prefix(pair, "quarantine")
    assert "scan again" in plan.groups[0].refused
    assert not plan.groups[0].operations


def test_an_undo_leaves_what_others_deleted_again(pair, versioned):
    if not versioned:
        pytest.skip("there are no markers")
    plan = merged(pair, "delete")
    client, name = pair.s3.client, {"Bucket": pair.bucket, "Key": COPY}
    found = client.list_object_versions(Bucket=pair.bucket, Prefix=COPY)["DeleteMarkers"]
    client.delete_object(**name, VersionId=found[0]["VersionId"])
    client.delete_object(**name)
    states = {one.key: one.state for one in pair.undo(plan.id)}
    assert states[COPY] == "left"
    assert not {COPY} & set(pair.keys())
