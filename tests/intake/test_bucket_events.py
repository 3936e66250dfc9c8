"""Events of a real bucket: just the named keys, once, in whatever order they come."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import boto3
import botocore.stub
import pytest
from PIL import Image

from deployments.cli.events import drain
from flows.order import run_scan
from tasks.errors import EventError, SettingsError
from tasks.intake.blocklist import block_asset
from tasks.intake.bucket_events import Followed, Follower, check_keys
from tasks.requests import KeysRequest, ScanRequest
from tasks.session import open_catalog
from tasks.settings import Settings, load_settings
from tasks.sources.events import Change, ObjectEvent
from tasks.sources.s3 import S3Source
from tasks.sources.sqs import Queue
from tests.conftest import blobs


class Bucket:
    """A bucket, its catalog, and the notifications that it would send."""

    def __init__(self, s3: Any, settings: Settings, name: str) -> None:
        self.s3, self.settings, self.name = s3, settings, name
        self.clock = 0

    def put(self, key: str, image: Image.Image | bytes) -> dict[str, Any]:
        body = image
        if isinstance(image, Image.Image):
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            body = buffer.getvalue()
        etag = self.s3.client.put_object(Bucket=self.name, Key=key, Body=body)["ETag"]
        return self.event(key, eTag=etag.strip('"'))

    def remove(self, key: str) -> dict[str, Any]:
        self.s3.client.delete_object(Bucket=self.name, Key=key)
        return self.event(key, "ObjectRemoved:Delete")

    def event(self, key: str, name: str = "ObjectCreated:Put", **kept: Any) -> dict[str, Any]:
        self.clock += 1
        kept = {"key": key, "sequencer": f"{self.clock:016X}"} | kept
        return {"eventName": name, "s3": {"bucket": {"name": self.name}, "object": kept}}

    def follow(self, *events: dict[str, Any], keys: tuple[str, ...] = ()) -> Followed:
        request = KeysRequest(events=[{"Records": list(events)}], names=list(keys))
        return check_keys(request, self.settings)

    def scan(self) -> dict[str, int]:
        return run_scan(ScanRequest(), self.settings).summary.counts

    def live(self) -> list[str]:
        catalog = open_catalog(self.settings)
        return catalog.read("assets", ["key"], "removed_at IS NULL")["key"].to_list()


@pytest.fixture
def bucket(s3, library, tmp_path: Path) -> Bucket:
    name = s3.bucket()
    settings = load_settings(
        catalog={"uri": str(tmp_path / "catalog")},
        source={"uri": f"s3://{name}"},
        delivery={"folder": tmp_path / "reports"},
        embedding={"model": str(library.model), "pooling": "cls", "device": "cpu", "decoders": 1},
    ).model_copy(update={"s3": s3.settings})
    return Bucket(s3, settings, name)


def test_just_the_named_keys_are_checked_and_the_next_scan_reads_nothing_of_them(bucket) -> None:
    bucket.put("old.png", blobs(1))
    bucket.put("other.png", blobs(2))
    bucket.scan()
    bucket.s3.client.delete_object(Bucket=bucket.name, Key="other.png")  # no event of it came
    event = bucket.put("new one.png", blobs(1).crop((8, 6, 152, 114)))
    event["s3"]["object"]["key"] = "new+one.png"
    done = bucket.follow(event)
    (found,) = done.found
    assert (found.key, found.checked.total) == ("new one.png", 1)
    assert found.checked.found[0].key == "old.png"
    assert done.handled
    assert bucket.live() == ["new one.png", "old.png", "other.png"]  # not ours to say it is gone
    counts = bucket.scan()
    assert (counts["added"], counts["read"], counts["removed"]) == (0, 0, 1)


def test_the_same_event_twice_does_nothing_the_second_time(bucket, monkeypatch) -> None:
    event = bucket.put("a.png", blobs(1))
    assert len(bucket.follow(event, event).found) == 1
    before = {name: bucket_rows(bucket, name) for name in ("assets", "last_events", "pairs")}
    with monkeypatch.context() as patch:  # not even a request
        patch.setattr(S3Source, "probe", lambda *_: 1 / 0)
        again = bucket.follow(event)
    assert again == Followed(passed_over={"older": 1})
    del event["s3"]["object"]["sequencer"]  # another store's: known by what is there
    assert bucket.follow(event).passed_over == {"known": 1}
    assert before == {name: bucket_rows(bucket, name) for name in before}


def bucket_rows(bucket: Bucket, table: str) -> int:
    return int(open_catalog(bucket.settings).table(table).version)


def test_order_does_not_matter(bucket) -> None:
    created = bucket.put("a.png", blobs(1))
    removed = bucket.remove("a.png")
    late = bucket.follow(removed)
    assert (late.found, late.removed) == ((), ())
    assert bucket.follow(created).passed_over == {"older": 1}
    assert bucket.live() == []
    back = bucket.put("a.png", blobs(2))
    assert [one.key for one in bucket.follow(created, back, removed).found] == ["a.png"]
    gone = bucket.remove("a.png")
    assert bucket.follow(back, gone).removed == ("a.png",)
    assert bucket.live() == []


def test_an_event_tells_nothing_about_what_is_there_now(bucket) -> None:
    """A creation is announced, and meanwhile the object is gone, or another."""
    stale = bucket.put("a.png", blobs(1))
    bucket.put("a.png", blobs(2))
    bucket.put("b.png", blobs(2))
    done = bucket.follow(stale, keys=("b.png",))
    assert {one.key: one.checked.total for one in done.found} in (
        {"a.png": 0, "b.png": 1},
        {"a.png": 1, "b.png": 0},
    )
    catalog = open_catalog(bucket.settings)
    assert catalog.read("assets", ["key", "content"])["content"].n_unique() == 1


def test_tags_our_own_places_and_other_keys_are_passed_over(bucket, monkeypatch) -> None:
    monkeypatch.setattr(S3Source, "probe", lambda *_: 1 / 0)
    bucket.settings = bucket.settings.model_copy(
        update={
            "source": bucket.settings.source.model_copy(
                update={"uri": f"s3://{bucket.name}/photos/", "exclude": ["*.tmp"]}
            )
        }
    )
    done = bucket.follow(
        bucket.event("photos/a.png", "ObjectTagging:Put"),
        bucket.event("photos/a.png", "ObjectAcl:Put"),
        bucket.event(".dam-dedup/quarantine/a.png"),
        bucket.event("elsewhere/a.png"),
        bucket.event("photos/a.tmp"),
        bucket.event("photos/a.xmp"),
    )
    assert done.passed_over == {
        "left out": 2,
        "nothing about bytes": 1,
        "our own": 1,
        "outside the prefix": 1,
        "tags": 1,
    }
    assert done.handled


def test_a_tag_event_does_not_hide_the_upload_before_it(bucket) -> None:
    upload = bucket.put("a.png", blobs(1))
    done = bucket.follow(upload, bucket.event("a.png", "ObjectTagging:Put"))
    assert [one.key for one in done.found] == ["a.png"]


def test_what_a_merge_wrote_is_not_followed(bucket, monkeypatch) -> None:
    event = bucket.put("a.png", blobs(1))
    ours = {"a.png": {event["s3"]["object"]["eTag"]}}
    from tasks.catalog import schema
    from tasks.merging.journal import DONE
    from tasks.session import pa_table

    catalog = open_catalog(bucket.settings)
    row = {
        "event_id": "1",
        "sequence": 1,
        "key": "a.png",
        "event": DONE,
        "detail": json.dumps({"etag": f'"{next(iter(ours["a.png"]))}"'}),
    }
    with catalog.writing():
        catalog.upsert("journal", pa_table([row], schema.JOURNAL))
    assert bucket.follow(event).passed_over == {"our own": 1}
    assert len(bucket.follow(bucket.put("a.png", blobs(2))).found) == 1  # somebody else's


def test_other_buckets_are_refused(bucket) -> None:
    foreign = bucket.event("a.png")
    foreign["s3"]["bucket"]["name"] = "theirs"
    done = bucket.follow(foreign, bucket.put("b.png", blobs(1)))
    assert done.refused == {"theirs": 1}
    assert not done.handled
    assert [one.key for one in done.found] == ["b.png"]
    with pytest.raises(EventError):
        check_keys(KeysRequest(events=[{"hello": 1}]), bucket.settings)
    with pytest.raises(SettingsError, match="no objects that could change"):
        check_keys(KeysRequest(source="gate://shop"), bucket.settings)


def test_what_is_no_picture_and_what_fails(bucket, monkeypatch) -> None:
    note = bucket.put("note.txt", b"hello")
    broken = bucket.put("broken.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
    done = bucket.follow(note, broken)
    assert done.passed_over == {"not_an_image": 1}
    assert list(done.unreadable) == ["broken.png"]
    assert done.handled
    good = bucket.put("good.png", blobs(1))
    with monkeypatch.context() as patch:
        from tasks.errors import TransientSourceError

        def fail(*_: object) -> bytes:
            raise TransientSourceError("slow down")

        patch.setattr(S3Source, "read", fail)
        assert bucket.follow(good).failed == {"good.png": "slow down"}
    assert len(bucket.follow(good).found) == 1  # it was not noted: the redelivery counts


def test_a_run_that_died_between_writes_is_made_up_for(bucket, monkeypatch) -> None:
    bucket.put("old.png", blobs(1))
    bucket.scan()
    event = bucket.put("new.png", blobs(1))
    with monkeypatch.context() as patch:
        patch.setattr("tasks.intake.bucket_events.Checker.check_asset", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bucket.follow(event)
    assert bucket.live() == ["new.png", "old.png"]
    assert [one.checked.total for one in bucket.follow(event).found] == [1]


def test_the_blocklist_is_asked(bucket) -> None:
    bucket.put("bad.png", blobs(1))
    bucket.scan()
    block_asset(bucket.settings, "bad.png", reason="taken down", rule="rights", by="anna")
    done = bucket.follow(bucket.put("again.png", blobs(1)))
    assert [alert.relation for alert in done.found[0].alerts] == ["equal bytes"]


def test_a_queue_loses_only_what_was_followed(bucket) -> None:
    client = boto3.client(
        "sqs", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/dam"
    good = json.dumps({"Records": [bucket.put("a.png", blobs(1))]})
    foreign = bucket.event("b.png")
    foreign["s3"]["bucket"]["name"] = "theirs"
    bodies = {"good": good, "foreign": json.dumps({"Records": [foreign]}), "bad": "{"}
    asked = {"QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 20}
    with botocore.stub.Stubber(client) as stub, Follower(bucket.settings) as follower:
        messages = [{"ReceiptHandle": name, "Body": body} for name, body in bodies.items()]
        stub.add_response("receive_message", {"Messages": messages}, asked)
        stub.add_response("delete_message", {}, {"QueueUrl": url, "ReceiptHandle": "good"})
        stub.add_response("receive_message", {}, asked)
        shown: list[Followed] = []
        drain(Queue(url, bucket.settings.s3, client), follower, shown.append, once=True)
        stub.assert_no_pending_responses()
    assert [len(one.found) for one in shown] == [1, 0]


def test_only_a_queue_is_a_queue(bucket) -> None:
    for url in ("dam", "ftp://x/y", "https://sqs.eu-west-1.amazonaws.com"):
        with pytest.raises(SettingsError, match="REGION"):
            Queue(url, bucket.settings.s3)


def test_keys_of_a_folder(library, bucket) -> None:
    library.add("a.png", 1)
    settings = bucket.settings
    with Follower(settings, str(library.folder)) as follower:
        done = follower.follow([], ["a.png", "missing.png", "../secret.png"])
    assert [one.key for one in done.found] == ["a.png"]
    event = ObjectEvent("theirs", "a.png", Change.CREATED, "x")
    with Follower(settings, str(library.folder)) as follower:
        assert follower.follow([event]).refused == {"theirs": 1}
