"""What one merge removed and a later one wrote anew, on a bucket with versions: both undone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import StoreRefusedError, TransientSourceError
from tasks.merging import undo
from tasks.merging.bucket_journal import JOURNAL_PREFIX
from tasks.merging.undo_operations import Undoer
from tasks.sources.bucket import Bucket
from tests.merging.conftest import other_catalog, png, sidecar
from tests.merging.world import Killed

POLICY = """
version: 1
name: own markers
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, keeper: [{prefix: [%s]}], action: %s}
"""
pytestmark = pytest.mark.long  # each is two merges and two undos with versions: 6 s

KEY = "d/1.png.xmp"


def merged(site: Any, keeper: str, action: str) -> Any:
    site.list()
    plan = site.plan(policy=POLICY % (keeper, action))
    site.approve(plan)
    assert site.merge(plan).complete
    return plan


def two_merges(site: Any, other: Any, action: str) -> tuple[Any, Any]:
    """The first removes d/1.png and its sidecar; the second keeps a new d/1.png and writes one."""
    site.put("k/1.png", png(1), ContentType="image/png")
    site.put("d/1.png", png(1), ContentType="image/png")
    site.put(KEY, sidecar("harbour"), {"by": "anna"}, {"shot": "7"}, ContentType="text/xml")
    first = merged(site, "k/", action)
    assert site.keys() == ["k/1.png", "k/1.png.xmp"]
    site.put("d/1.png", png(2), ContentType="image/png")
    site.put("e/1.png", png(2), ContentType="image/png")
    site.put("e/1.png.xmp", sidecar("gull"), ContentType="application/rdf+xml")
    second = merged(other, "d/", action)
    assert b"gull" in site.body(KEY)
    return first, second


def refusing(error: Exception) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise error

    return refuse


def gone(site: Any) -> bool:
    return KEY not in set(site.keys())


@pytest.fixture
def site(make_bare_site: Any) -> Any:
    return make_bare_site("versioned")


@pytest.mark.parametrize("action", ["quarantine", "delete"])
def test_both_undone_it_is_what_it_was(site: Any, action: str) -> None:
    first, second = two_merges(site, site, action)
    site.undo(second.id)
    assert gone(site)
    said = {one.key: one.state for one in site.undo(first.id) if one.kind == "delete"}
    assert said[KEY] == "undone"
    assert said["d/1.png"] == "left", "another picture is there"
    assert site.body(KEY) == sidecar("harbour")
    assert site.tags(KEY) == {"by": "anna"}
    found = site.s3.client.head_object(Bucket=site.bucket, Key=KEY)
    assert (found["Metadata"], found["ContentType"]) == ({"shot": "7"}, "text/xml")
    assert {one.key for one in site.undo(first.id)} == {"d/1.png"}, "twice is once"


def test_another_catalog_knows_it_from_the_bucket(site: Any, tmp_path: Path) -> None:
    other = other_catalog(site, tmp_path / "other")
    first, second = two_merges(site, other, "quarantine")
    other.undo(second.id)
    site.undo(first.id)
    assert site.body(KEY) == sidecar("harbour")


@pytest.mark.parametrize("busy", [False, True], ids=["", "and the next finds the store busy"])
def test_an_undo_that_died_before_it_wrote_the_marker_down(
    site: Any, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    first, second = two_merges(site, site, "quarantine")
    write = undo.write_events

    def killed(catalog: Any, run: Any, group: Any, event: str, operations: Any) -> None:
        if event == "undone" and any(one.key == KEY for _, one, _ in operations):
            raise Killed
        write(catalog, run, group, event, operations)

    with monkeypatch.context() as patch:
        patch.setattr(undo, "write_events", killed)
        with pytest.raises(Killed):
            site.undo(second.id)
    assert gone(site), "it was removed, and that is not written down"
    if busy:
        with monkeypatch.context() as patch:
            patch.setattr(Bucket, "read_version", refusing(TransientSourceError("SlowDown")))
            assert "failed" in {one.state for one in site.undo(second.id)}
    site.undo(second.id)
    site.undo(first.id)
    assert site.body(KEY) == sidecar("harbour")


@pytest.mark.parametrize("when", ["before the second merge", "after it", "after its undo"])
def test_what_a_person_deleted_stays_deleted(site: Any, when: str) -> None:
    """Whoever deletes what lies there has the last word, whatever our merges did beside it."""

    def delete() -> None:
        site.s3.client.delete_object(Bucket=site.bucket, Key=KEY)

    if when == "before the second merge":
        site.put("d/1.png", png(1), ContentType="image/png")
        site.put("k/1.png", png(1), ContentType="image/png")
        site.put(KEY, sidecar("harbour"), ContentType="text/xml")
        first = merged(site, "k/", "quarantine")
        site.put(KEY, sidecar("quay"), ContentType="text/xml")
        delete()
        site.put("d/1.png", png(2), ContentType="image/png")
        site.put("e/1.png", png(2), ContentType="image/png")
        site.put("e/1.png.xmp", sidecar("gull"), ContentType="application/rdf+xml")
        site.undo(merged(site, "d/", "quarantine").id)
    else:
        first, second = two_merges(site, site, "quarantine")
        if when == "after it":
            delete()
        site.undo(second.id)
        if when == "after its undo":
            site.put(KEY, sidecar("quay"), ContentType="text/xml")
            delete()
    said = {one.key: one.state for one in site.undo(first.id) if one.kind == "delete"}
    assert said[KEY] == "left"
    assert gone(site)


def test_what_a_person_deleted_after_an_undo_that_failed_stays_deleted(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The undo of the second merge had begun, and had not come to this object."""
    first, second = two_merges(site, site, "quarantine")
    with monkeypatch.context() as patch:
        patch.setattr(Undoer, "undo", refusing(TransientSourceError("SlowDown")))
        assert {one.state for one in site.undo(second.id, settle=False)} == {"failed"}
    site.s3.client.delete_object(Bucket=site.bucket, Key=KEY)
    site.undo(second.id)
    site.undo(first.id)
    assert gone(site)


@pytest.mark.parametrize("what", ["no plan", "no rows", "forged", "refused"])
def test_a_bad_note_neither_stops_an_undo_nor_restores_anything(
    site: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A note of another plan or of this one; and somebody deleted what he had uploaded anew."""
    first, second = two_merges(site, site, "quarantine")
    site.undo(second.id)
    site.put(KEY, sidecar("quay"), ContentType="text/xml")
    marker = site.s3.client.delete_object(Bucket=site.bucket, Key=KEY)["VersionId"]
    site.put("d/1.png", png(9), ContentType="image/png")
    site.s3.client.delete_object(Bucket=site.bucket, Key="d/1.png")
    folder = f"{JOURNAL_PREFIX}{'0123456789ab' if what == 'no plan' else second.id}/"
    name = "0000000000-00000000000000000001-undone-ab.json"
    body: Any = "no rows"
    if what == "forged":
        group = second.groups[0]
        number = next(n for n, one in enumerate(group.operations) if one.kind == "tag" or n == 0)
        body = [
            {
                "event_id": "f" * 32,
                "sequence": 1,
                "run_id": "r",
                "plan_id": second.id,
                "scope": second.scope,
                "group_id": group.group_id,
                "fingerprint": group.fingerprint,
                "number": number,
                "kind": group.operations[number].kind.value,
                "key": group.operations[number].key,
                "event": "intended",
                "by": "mallory",
                "at": "2026-11-27T00:00:00+00:00",
                "bytes": 1,
                "detail": json.dumps({"left_marker": marker}),
            }
        ]
    site.s3.client.put_object(Bucket=site.bucket, Key=folder + name, Body=json.dumps(body).encode())
    if what == "refused":
        read = Bucket.read

        def refuse(self: Bucket, key: str, *rest: Any) -> bytes:
            if name in key:
                raise StoreRefusedError("archived")
            return read(self, key, *rest)

        monkeypatch.setattr(Bucket, "read", refuse)
    said = {one.key: one.state for one in site.undo(first.id) if one.kind == "delete"}
    assert said == {KEY: "left", "d/1.png": "left"}
    assert gone(site)
    assert site.body("k/1.png") == png(1)
