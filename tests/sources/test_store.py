"""Writes of merges, on a real S3 server; what that server does right is taken away by hand."""

from __future__ import annotations

import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from tasks.errors import (
    AssetChangedError,
    AssetGoneError,
    SourceError,
    StoreRefusedError,
    TransientSourceError,
)
from tasks.records import ObjectState
from tasks.sources import store as module
from tasks.sources.capabilities import Capabilities, probe
from tasks.sources.s3 import client_for
from tasks.sources.store import Store

ALL = Capabilities(True, True, True, True, True, True, True)
ODD = [
    "a b.jpg",
    "100%25+plus%2B.jpg",
    "new\nline\r\n.jpg",
    "quo'te\".jpg",
    "what?versionId=#&=.jpg",
    "<xml>&amp;.jpg",
    "日本/עברית/🎈.jpg",
    "Zoe\u0308.jpg",
]


def store(s3: Any, *, versioned: bool = False) -> Store:
    """A store on a bucket of its own, with a client of its own."""
    return Store(s3.bucket(versioned=versioned), s3.settings)


@pytest.fixture(params=[False, True], ids=["plain", "versioned"])
def any_store(s3: Any, request: pytest.FixtureRequest) -> Store:
    return store(s3, versioned=request.param)


def rich(to: Store, key: str = "a", body: bytes = b"body") -> ObjectState:
    """An object with all that an object can have."""
    return to.put(
        key,
        body,
        expected="",
        content_type="image/jpeg",
        metadata={"Note": "Zürich & 東京", "plain": "yes"},
        headers={
            "CacheControl": "max-age=3",
            "ContentDisposition": 'inline; filename="x y"',
            "ContentLanguage": "de",
            "ContentEncoding": "identity",
            "Expires": "Wed, 21 Oct 2026 07:28:00 GMT",
            "StorageClass": "STANDARD_IA",
        },
        tags={"agency": "north & south", "key+2": "a=b"},
    )


def upload(to: Store, key: str = "a", body: bytes = b"somebody else's") -> str:
    return str(to.client.put_object(Bucket=to.bucket, Key=key, Body=body)["ETag"])


def body_of(to: Store, key: str = "a") -> bytes:
    return bytes(to.client.get_object(Bucket=to.bucket, Key=key)["Body"].read())


def deny(s3: Any, to: Store, *actions: str) -> None:
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": list(actions),
        "Resource": [f"arn:aws:s3:::{to.bucket}", f"arn:aws:s3:::{to.bucket}/*"],
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.client.put_bucket_policy(Bucket=to.bucket, Policy=json.dumps(policy))


def ignoring(to: Store, operation: str, *parameters: str) -> None:
    """Let the server not see some parameters, as one that does not know them."""

    def drop(params: dict[str, Any], **_: Any) -> None:
        for name in parameters:
            params.pop(name, None)

    to.client.meta.events.register(f"before-parameter-build.s3.{operation}", drop)


def just_before(to: Store, operation: str, act: Any) -> None:
    """Let something happen once, when the next such request is about to go out."""
    done: list[bool] = []

    def once(**_: Any) -> None:
        if not done:
            done.append(True)
            act()

    to.client.meta.events.register(f"before-send.s3.{operation}", once)


def answer_lost(to: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a request succeed, its answer be lost, and boto3 send it again."""
    real = getattr(to.client, name)

    def twice(**request: Any) -> Any:
        real(**request)
        try:
            return real(**request)
        except ClientError as error:
            error.response["ResponseMetadata"]["RetryAttempts"] = 1
            raise

    monkeypatch.setattr(to.client, name, twice)


def fails(code: str, status: int, times: int, then: Any) -> Any:
    left = itertools.count(times, -1)

    def call(**request: Any) -> Any:
        if next(left) > 0:
            answer: Any = {
                "Error": {"Code": code, "Message": "m"},
                "ResponseMetadata": {"HTTPStatusCode": status},
            }
            raise ClientError(answer, "Any")
        return then(**request)

    return call


# ---- looking ---------------------------------------------------------------------------------


def test_a_state_has_all_that_an_object_has(any_store: Store) -> None:
    made = rich(any_store)
    assert any_store.state("a") == made
    assert (made.key, made.size, made.held, made.exists) == ("a", 4, "", True)
    assert (made.version_id is not None) == any_store.versioned
    assert made.tags == {"agency": "north & south", "key+2": "a=b"}
    assert made.headers == {
        "ContentType": "image/jpeg",
        "CacheControl": "max-age=3",
        "ContentDisposition": 'inline; filename="x y"',
        "ContentLanguage": "de",
        "ContentEncoding": "identity",
        "Expires": "Wed, 21 Oct 2026 07:28:00 GMT",
        "StorageClass": "STANDARD_IA",
    }
    assert made.metadata["plain"] == "yes"
    assert made.metadata["note"].startswith("=?utf-8?")  # as the store hands it out


def test_no_object_has_an_empty_state(any_store: Store) -> None:
    assert any_store.state("none") == ObjectState("none")
    any_store.delete(rich(any_store))
    assert any_store.state("a") == ObjectState("a")


def test_many_states_at_once(any_store: Store) -> None:
    made = {key: rich(any_store, key) for key in ODD}
    assert any_store.states([*ODD, *ODD, "none"], 4) == {**made, "none": ObjectState("none")}
    assert any_store.states([], 4) == {}


def test_a_missing_bucket_is_no_empty_state(s3: Any) -> None:
    missing = Store("never-made", s3.settings)
    with pytest.raises(SourceError, match="no such bucket"):
        missing.state("a")
    with pytest.raises(SourceError, match="no such bucket"):
        missing.put("a", b"", expected="")


def test_a_read_is_bound_to_the_etag(any_store: Store) -> None:
    old = rich(any_store)
    assert any_store.read("a", old.etag, 4) == b"body"
    with pytest.raises(SourceError, match="4 bytes, over 3"):
        any_store.read("a", old.etag, 3)
    upload(any_store)
    with pytest.raises(AssetChangedError, match="'a'"):
        any_store.read("a", old.etag, 99)
    ignoring(any_store, "GetObject", "IfMatch")
    with pytest.raises(AssetChangedError, match="'a'"):
        any_store.read("a", old.etag, 99)
    with pytest.raises(AssetGoneError):
        any_store.read("none", old.etag, 99)


# ---- put -------------------------------------------------------------------------------------


def test_a_put_where_nothing_is(any_store: Store) -> None:
    upload(any_store)
    with pytest.raises(AssetChangedError, match="'a'"):
        any_store.put("a", b"mine", expected="")
    assert body_of(any_store) == b"somebody else's"


def test_a_put_over_what_is_expected(any_store: Store) -> None:
    first = rich(any_store)
    second = any_store.put("a", b"2", expected=first.etag, tags={"x": "y"})
    assert (second.tags, second.metadata, body_of(any_store)) == ({"x": "y"}, {}, b"2")
    with pytest.raises(AssetChangedError):
        any_store.put("a", b"3", expected=first.etag)
    for body in (b"3", b""):
        with pytest.raises(AssetGoneError, match="no longer"):
            any_store.put("none", body, expected=first.etag)
    assert body_of(any_store) == b"2"
    assert not any_store.state("none").exists


def test_a_put_again_finds_its_own(any_store: Store) -> None:
    first = rich(any_store)
    assert rich(any_store) == first
    for change in ({"body": b"BODY"}, {"metadata": {}}, {"tags": {}}, {"content_type": "x/y"}):
        wanted: dict[str, Any] = {
            "body": b"body",
            "content_type": "image/jpeg",
            "metadata": first.metadata,
            "tags": first.tags,
        }
        with pytest.raises(AssetChangedError):
            any_store.put("a", expected="", **{**wanted, **change})
    assert any_store.state("a") == first


def test_a_put_whose_answer_was_lost(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_lost(any_store, "put_object", monkeypatch)
    assert rich(any_store).tags["agency"] == "north & south"


# ---- tags ------------------------------------------------------------------------------------


def test_tags_are_set_once(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rich(any_store)
    any_store.set_tags(before, {"a b": "ü/2"})
    assert any_store.state("a") == replace(before, tags={"a b": "ü/2"})
    monkeypatch.setattr(any_store.client, "put_object_tagging", None)  # not asked again
    any_store.set_tags(before, {"a b": "ü/2"})


def test_tags_can_be_taken_away(any_store: Store) -> None:
    any_store.set_tags(rich(any_store), {})
    assert any_store.state("a").tags == {}


def test_tags_are_not_set_on_something_else(any_store: Store) -> None:
    before = rich(any_store)
    any_store.set_tags(before, {"by": "a curator"})
    with pytest.raises(AssetChangedError, match="other tags"):
        any_store.set_tags(before, {"x": "y"})
    upload(any_store)
    with pytest.raises(AssetChangedError, match="another object"):
        any_store.set_tags(before, {"x": "y"})
    assert any_store.state("a").tags == {}
    any_store.delete(any_store.state("a"))
    with pytest.raises(AssetGoneError):
        any_store.set_tags(before, {"x": "y"})


def test_an_upload_amid_tagging_is_told(any_store: Store) -> None:
    before = rich(any_store)
    just_before(any_store, "PutObjectTagging", lambda: upload(any_store))
    with pytest.raises(AssetChangedError, match="another object"):
        any_store.set_tags(before, {"x": "y"})


def test_a_tag_that_the_store_does_not_take(any_store: Store) -> None:
    before = rich(any_store)
    with pytest.raises(StoreRefusedError, match="InvalidTag"):
        any_store.set_tags(before, {"x": "*?"})
    assert any_store.state("a") == before


# ---- copy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("carried", [False, True])
def test_a_copy_keeps_everything(any_store: Store, carried: bool) -> None:
    any_store.capabilities = replace(ALL, copy_if_match=not carried)
    before = rich(any_store)
    made = any_store.copy(before, "q/a")
    assert replace(made, key="a", version_id=before.version_id) == before
    assert body_of(any_store, "q/a") == b"body"
    assert any_store.state("a") == before
    assert any_store.copy(before, "q/a") == made  # again
    any_store.delete(before)
    assert any_store.copy(before, "q/a") == made  # and when the rest was done too


@pytest.mark.parametrize("carried", [False, True])
def test_a_copy_takes_no_place(any_store: Store, carried: bool) -> None:
    any_store.capabilities = replace(ALL, copy_if_none_match=not carried)
    before = rich(any_store)
    upload(any_store, "q/a", b"BODY")
    with pytest.raises(AssetChangedError, match="q/a"):
        any_store.copy(before, "q/a")
    just_before(any_store, "PutObject" if carried else "CopyObject", lambda: upload(any_store, "r"))
    with pytest.raises(AssetChangedError):
        any_store.copy(before, "r")
    assert (body_of(any_store, "q/a"), body_of(any_store, "r")) == (b"BODY", b"somebody else's")


@pytest.mark.parametrize("carried", [False, True])
def test_only_what_was_approved_is_copied(any_store: Store, carried: bool) -> None:
    any_store.capabilities = replace(ALL, copy_if_match=not carried)
    before = rich(any_store)
    just_before(any_store, "GetObject" if carried else "CopyObject", lambda: upload(any_store))
    with pytest.raises(AssetChangedError):
        any_store.copy(before, "q")
    with pytest.raises(AssetChangedError):
        any_store.copy(before, "q")
    with pytest.raises(AssetGoneError):
        any_store.copy(replace(before, key="none"), "q")
    with pytest.raises(StoreRefusedError, match="itself"):
        any_store.copy(before, "a")
    assert not any_store.state("q").exists


def test_tags_that_changed_are_not_copied(any_store: Store) -> None:
    before = rich(any_store)
    any_store.set_tags(before, {"by": "a curator"})
    with pytest.raises(AssetChangedError, match="other tags"):
        any_store.copy(before, "q")
    assert not any_store.state("q").exists


@pytest.mark.parametrize(
    ("lost", "word"), [("MetadataDirective", "metadata"), ("TaggingDirective", "tags")]
)
def test_a_copy_that_lost_something_is_told(any_store: Store, lost: str, word: str) -> None:
    before = rich(any_store)

    def replaced(params: dict[str, Any], **_: Any) -> None:
        params[lost] = "REPLACE"

    any_store.client.meta.events.register("before-parameter-build.s3.CopyObject", replaced)
    with pytest.raises(AssetChangedError, match=f"no true copy.*{word}"):
        any_store.copy(before, "q")


def test_a_copy_whose_answer_was_lost(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rich(any_store)
    answer_lost(any_store, "copy_object", monkeypatch)
    assert any_store.copy(before, "q").etag == before.etag


def multipart(to: Store, key: str, *parts: bytes) -> ObjectState:
    here = {"Bucket": to.bucket, "Key": key}
    upload_id = to.client.create_multipart_upload(**here)["UploadId"]
    done: list[Any] = [
        {
            "PartNumber": number,
            "ETag": to.client.upload_part(**here, UploadId=upload_id, PartNumber=number, Body=part)[
                "ETag"
            ],
        }
        for number, part in enumerate(parts, 1)
    ]
    to.client.complete_multipart_upload(**here, UploadId=upload_id, MultipartUpload={"Parts": done})
    return to.state(key)


def test_a_multipart_upload_is_compared_by_its_bytes(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = b"x" * 5 * 1024**2
    before = multipart(any_store, "a", big, b"end")
    assert before.etag.endswith('-2"')
    made = any_store.copy(before, "q")
    assert any_store.copy(before, "q") == made
    assert body_of(any_store, "q") == big + b"end"
    headers = (
        {"ContentType": before.headers["ContentType"]} if "ContentType" in before.headers else {}
    )
    any_store.put("other", big + b"END", expected="", headers=headers)
    with pytest.raises(AssetChangedError, match="other"):
        any_store.copy(before, "other")
    monkeypatch.setattr(module, "COMPARE_LIMIT", 99)
    assert any_store.copy(before, "r").size == before.size
    assert any_store.copy(before, "q") == made, "what is there is compared, however large it is"


def test_what_is_too_large_for_one_request_is_copied_in_parts(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above 5 GB a group was refused. The limit is lowered here."""
    monkeypatch.setattr(module, "COPY_LIMIT", 3)
    monkeypatch.setattr(module, "COPY_PART", 5 * 1024**2)
    before = rich(any_store, body=bytes(range(256)) * 24 * 1024)  # 6 MiB: two parts
    made = any_store.copy(before, "q/a")
    assert made.etag.endswith('-2"')
    assert replace(made, key="a", version_id=before.version_id, etag=before.etag) == before
    assert body_of(any_store, "q/a") == body_of(any_store)
    assert any_store.copy(before, "q/a") == made  # again
    any_store.delete(before)
    back = any_store.copy(made, "a")  # as an undo does
    assert (back.etag, body_of(any_store)) == (made.etag, body_of(any_store, "q/a"))


def test_a_copy_in_parts_is_bound_to_the_object_and_takes_no_place(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COPY_LIMIT", 3)
    before = rich(any_store)
    just_before(any_store, "UploadPartCopy", lambda: upload(any_store))
    with pytest.raises(AssetChangedError):
        any_store.copy(before, "q")
    assert not any_store.state("q").exists
    before = rich(any_store, "b")
    just_before(any_store, "CompleteMultipartUpload", lambda: upload(any_store, "r"))
    with pytest.raises(AssetChangedError):
        any_store.copy(before, "r")
    assert body_of(any_store, "r") == b"somebody else's"
    left = any_store.client.list_multipart_uploads(Bucket=any_store.bucket)
    assert not left.get("Uploads"), "no half copy is left, which would be paid for"


def test_what_is_too_large_is_not_carried(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rich(any_store)
    any_store.capabilities = replace(ALL, copy_if_match=False)
    monkeypatch.setattr(module, "CARRY_LIMIT", 3)
    with pytest.raises(StoreRefusedError, match="ignores conditions on copies"):
        any_store.copy(before, "q")
    assert not any_store.state("q").exists


# ---- delete ----------------------------------------------------------------------------------


def test_a_delete_in_a_plain_bucket(s3: Any) -> None:
    plain = store(s3)
    before = rich(plain)
    assert plain.delete(before) is None
    assert not plain.state("a").exists
    with pytest.raises(AssetGoneError):
        plain.delete(before)


def test_a_delete_in_a_versioned_bucket_can_be_undone(s3: Any) -> None:
    kept = store(s3, versioned=True)
    before = rich(kept)
    marker = kept.delete(before)
    assert marker
    found = kept.newest("a")
    assert [(v.version_id, v.is_marker, v.is_latest) for v in found] == [
        (marker, True, True),
        (before.version_id, False, False),
    ]
    assert (found[0].etag, found[1].etag) == ("", before.etag)
    assert not kept.hidden_upload("a", marker, before.version_id, before.etag)
    with pytest.raises(AssetGoneError):
        kept.delete(before)
    assert len(kept.newest("a")) == 2
    kept.remove_marker("a", marker)
    assert kept.state("a") == before
    kept.remove_marker("a", marker)  # again
    assert kept.state("a") == before
    assert not kept.hidden_upload("a", marker, before.version_id, before.etag)


def test_only_what_was_approved_is_deleted(any_store: Store) -> None:
    before = rich(any_store)
    just_before(any_store, "DeleteObject", lambda: upload(any_store))
    with pytest.raises(AssetChangedError):
        any_store.delete(before)
    with pytest.raises(AssetChangedError):
        any_store.delete(before)
    assert body_of(any_store) == b"somebody else's"


def test_equal_bytes_uploaded_anew_are_not_deleted(s3: Any) -> None:
    kept = store(s3, versioned=True)
    before = rich(kept)
    assert upload(kept, "a", b"body") == before.etag
    with pytest.raises(AssetChangedError, match="another object"):
        kept.delete(before)


@pytest.mark.parametrize("versioned", [False, True])
def test_a_delete_whose_answer_was_lost(
    s3: Any, versioned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = store(s3, versioned=versioned)
    before = rich(bucket)
    answer_lost(bucket, "delete_object", monkeypatch)
    marker = bucket.delete(before)
    assert marker == (bucket.newest("a")[0].version_id if versioned else None)
    assert [v.is_marker for v in bucket.newest("a")] == ([True, False] if versioned else [])


def test_where_versioning_is_suspended_nothing_is_deleted(s3: Any) -> None:
    bucket = store(s3, versioned=True)
    before = rich(bucket)
    s3.client.put_bucket_versioning(
        Bucket=bucket.bucket, VersioningConfiguration={"Status": "Suspended"}
    )
    assert not bucket.versioned
    with pytest.raises(StoreRefusedError, match=r"suspended.*enable versioning"):
        bucket.delete(before)
    assert body_of(bucket) == b"body"


# ---- versions and markers --------------------------------------------------------------------


def test_versions_are_told_in_their_order(s3: Any) -> None:
    kept = store(s3, versioned=True)
    wanted = []
    for number in range(6):  # within a second or two: their times do not tell
        etag = upload(kept, "a", str(number).encode())
        wanted.append((False, etag))
        if number % 2:
            kept.delete(kept.state("a"))
            wanted.append((True, ""))
    for key in ("a!", "a (1)", "a/b", "a1", "A"):
        upload(kept, key)
    assert [(v.is_marker, v.etag) for v in kept.newest("a", 99)] == wanted[::-1]
    assert [v.is_latest for v in kept.newest("a", 99)] == [True] + [False] * 8
    assert kept.newest("a", 2) == kept.newest("a", 99)[:2]
    assert kept.newest("a2") == []


def hide(to: Store) -> tuple[ObjectState, str]:
    """What a store does that checks first and writes its marker later."""
    before = rich(to)
    ignoring(to, "DeleteObject", "IfMatch")
    just_before(to, "DeleteObject", lambda: upload(to))
    marker = to.delete(before)
    assert marker
    return before, marker


def test_a_hidden_upload_is_told_and_brought_back(s3: Any) -> None:
    kept = store(s3, versioned=True)
    before, marker = hide(kept)
    assert not kept.state("a").exists
    assert kept.hidden_upload("a", marker, before.version_id, before.etag)
    assert kept.hidden_upload("a", marker, None, before.etag)
    kept.remove_marker("a", marker)
    assert body_of(kept) == b"somebody else's"


def test_a_marker_under_something_newer_stays(s3: Any) -> None:
    kept = store(s3, versioned=True)
    before = rich(kept)
    marker = kept.delete(before)
    assert marker
    upload(kept)
    assert not kept.hidden_upload("a", marker, before.version_id, before.etag)
    with pytest.raises(AssetChangedError, match="uploaded or deleted anew"):
        kept.remove_marker("a", marker)
    second = kept.delete(kept.state("a"))
    with pytest.raises(AssetChangedError, match="uploaded or deleted anew"):
        kept.remove_marker("a", marker)
    assert len(kept.newest("a", 9)) == 4
    assert second
    kept.remove_marker("a", second)
    assert body_of(kept) == b"somebody else's"


def test_no_data_is_ever_deleted_by_version(s3: Any) -> None:
    kept = store(s3, versioned=True)
    before = rich(kept)
    assert before.version_id
    for word in (before.version_id, "null", ""):
        with pytest.raises(StoreRefusedError, match="no delete marker"):
            kept.remove_marker("a", word)
    kept.delete(before)
    with pytest.raises(AssetChangedError, match="still deleted"):
        kept.remove_marker("a", "0" * 32)
    with pytest.raises(AssetChangedError, match="still deleted"):
        kept.hidden_upload("a", "0" * 32, before.version_id, before.etag)
    with pytest.raises(StoreRefusedError, match="no delete marker but data"):
        kept.remove_marker("a", before.version_id)
    assert len(kept.newest("a")) == 2


def test_a_racing_upload_is_never_lost(any_store: Store) -> None:
    """Whoever wins: the upload is there, or it is told that our marker hides it."""
    keys = [f"race/{number}" for number in range(40)]
    for key in keys:
        upload(any_store, key, b"old")
    approved = any_store.states(keys, 8)
    started = threading.Event()
    any_store.client.meta.events.register("before-send.s3.DeleteObject", lambda **_: started.set())

    def race(key: str) -> str | None:
        started.clear()
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(lambda: (started.wait(5), upload(any_store, key, b"new")))
            try:
                return any_store.delete(approved[key])
            except (AssetChangedError, AssetGoneError):
                return None
            finally:
                other.result()

    markers = {key: race(key) for key in keys}
    time.sleep(0.6)
    for key, marker in markers.items():
        before = approved[key]
        if marker and any_store.hidden_upload(key, marker, before.version_id, before.etag):
            any_store.remove_marker(key, marker)
        assert body_of(any_store, key) == b"new"


def test_of_many_deletes_one_wins(s3: Any) -> None:
    kept = store(s3, versioned=True)
    before = rich(kept)

    def delete(_: int) -> str | None:
        try:
            return kept.delete(before)
        except (AssetChangedError, AssetGoneError):
            return None

    with ThreadPoolExecutor(8) as pool:
        won = [marker for marker in pool.map(delete, range(8)) if marker]
    assert won
    assert {v.version_id for v in kept.newest("a", 20) if v.is_marker} == set(won)


# ---- odd keys --------------------------------------------------------------------------------


def test_odd_keys_go_all_the_way(any_store: Store) -> None:
    for key in ODD:
        before = rich(any_store, key, key.encode())
        copied = any_store.copy(before, f".dam-dedup/quarantine/run 1/{key}")
        assert any_store.read(copied.key, copied.etag, 999) == key.encode()
        any_store.set_tags(before, {"k": "v"})
        marker = any_store.delete(before)
        assert not any_store.state(key).exists
        if marker:
            assert not any_store.hidden_upload(key, marker, before.version_id, before.etag)
            any_store.remove_marker(key, marker)
            assert any_store.state(key) == replace(before, tags={"k": "v"})


# ---- refusals --------------------------------------------------------------------------------


def test_a_denied_delete_names_the_permission(s3: Any, any_store: Store) -> None:
    before = rich(any_store)
    deny(s3, any_store, "s3:DeleteObject")
    with pytest.raises(StoreRefusedError, match=r"delete 'a'.*allow s3:DeleteObject,"):
        any_store.delete(before)
    assert any_store.state("a") == before


def test_denied_tags_name_the_permission(s3: Any, any_store: Store) -> None:
    before = rich(any_store)
    deny(s3, any_store, "s3:PutObjectTagging")
    with pytest.raises(StoreRefusedError, match=r"tag 'a'.*allow s3:PutObjectTagging"):
        any_store.set_tags(before, {"x": "y"})
    deny(s3, any_store, "s3:GetObjectTagging")
    with pytest.raises(StoreRefusedError, match=r"tags of 'a'.*allow s3:GetObjectTagging"):
        any_store.state("a")  # unknown tags are not no tags


def test_a_denied_write_names_the_permission(s3: Any, any_store: Store) -> None:
    before = rich(any_store)
    deny(s3, any_store, "s3:PutObject")
    with pytest.raises(StoreRefusedError, match=r"write 'b'.*s3:PutObject and s3:PutObjectTagging"):
        rich(any_store, "b")
    with pytest.raises(StoreRefusedError, match=r"copy 'a' to 'b'.*s3:PutObject"):
        any_store.copy(before, "b")
    deny(s3, any_store, "s3:GetObject")
    with pytest.raises(StoreRefusedError, match=r"look at 'a'.*s3:GetObject .*s3:ListBucket"):
        any_store.state("a")


def test_a_marker_that_may_not_be_removed_stays(s3: Any) -> None:
    kept = store(s3, versioned=True)
    marker = kept.delete(rich(kept))
    assert marker
    deny(s3, kept, "s3:DeleteObjectVersion", "s3:DeleteObject")
    with pytest.raises(StoreRefusedError, match="allow s3:DeleteObjectVersion"):
        kept.remove_marker("a", marker)
    assert not kept.state("a").exists


@pytest.fixture
def locked(s3: Any) -> Store:
    name = f"lock{time.monotonic_ns()}"
    s3.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return Store(name, s3.settings)


def test_a_legal_hold_keeps_an_object(s3: Any, locked: Store) -> None:
    free = rich(locked)
    assert free.held == ""
    hold = {"Bucket": locked.bucket, "Key": "a"}
    s3.client.put_object_legal_hold(**hold, LegalHold={"Status": "ON"})
    assert locked.state("a").held == "legal hold"
    for before in (free, locked.state("a")):
        with pytest.raises(StoreRefusedError, match="legal hold"):
            locked.delete(before)
    s3.client.put_object_legal_hold(**hold, LegalHold={"Status": "OFF"})
    assert locked.delete(locked.state("a"))


def test_a_retention_keeps_an_object(s3: Any, locked: Store) -> None:
    before = rich(locked)
    until = datetime.now(UTC) + timedelta(days=2)
    s3.client.put_object_retention(
        Bucket=locked.bucket,
        Key="a",
        Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until},
    )
    assert locked.state("a").held.startswith("retained until 20")
    with pytest.raises(StoreRefusedError, match="retained until"):
        locked.delete(before)


def test_locks_are_looked_for_where_it_may_not_be_asked(
    s3: Any, locked: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rich(locked)
    other = Store(locked.bucket, s3.settings)
    real = other.client.get_object_lock_configuration
    monkeypatch.setattr(
        other.client, "get_object_lock_configuration", fails("AccessDenied", 403, 1, real)
    )
    here = {"Bucket": locked.bucket, "Key": "a"}
    s3.client.put_object_legal_hold(**here, LegalHold={"Status": "ON"})
    assert other.state("a").held == "legal hold"
    plain = store(s3)
    monkeypatch.setattr(
        plain.client, "get_object_lock_configuration", fails("AccessDenied", 403, 1, real)
    )
    assert rich(plain).held == ""


@pytest.mark.parametrize(
    "missing", ["if_none_match", "if_match", "delete_if_match"], ids=lambda name: name
)
def test_a_store_that_ignores_conditions_is_not_written_to(any_store: Store, missing: str) -> None:
    before = rich(any_store)
    any_store.capabilities = replace(ALL, **{missing: False})
    calls = {
        "if_none_match": lambda: any_store.put("b", b"", expected=""),
        "if_match": lambda: any_store.put("a", b"", expected=before.etag),
        "delete_if_match": lambda: any_store.delete(before),
    }
    with pytest.raises(StoreRefusedError, match=r"not safe to write to, it lacks: .*If-"):
        calls[missing]()
    assert any_store.state("a") == before


# ---- faults ----------------------------------------------------------------------------------


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CONFLICT_WAITS", (0.0, 0.0, 0.0))


def test_a_conflict_is_tried_again(
    any_store: Store, monkeypatch: pytest.MonkeyPatch, no_waits: None
) -> None:
    before = rich(any_store)
    real = any_store.client.delete_object
    monkeypatch.setattr(
        any_store.client, "delete_object", fails("ConditionalRequestConflict", 409, 3, real)
    )
    any_store.delete(before)
    assert not any_store.state("a").exists


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ConditionalRequestConflict", 409, TransientSourceError),
        ("SlowDown", 503, TransientSourceError),
        ("InternalError", 500, TransientSourceError),
        ("Anything", 429, TransientSourceError),
        ("NotImplemented", 501, StoreRefusedError),
        ("MethodNotAllowed", 405, StoreRefusedError),
        ("InvalidObjectState", 403, StoreRefusedError),
        ("Anything", 400, StoreRefusedError),
    ],
)
def test_faults_are_told_apart(
    any_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    no_waits: None,
    code: str,
    status: int,
    kind: type[SourceError],
) -> None:
    before = rich(any_store)
    for name in ("put_object", "put_object_tagging", "copy_object", "delete_object"):
        real = getattr(any_store.client, name)
        monkeypatch.setattr(any_store.client, name, fails(code, status, 99, real))
    for act in (
        lambda: any_store.put("b", b"", expected=""),
        lambda: any_store.set_tags(before, {}),
        lambda: any_store.copy(before, "b"),
        lambda: any_store.delete(before),
    ):
        with pytest.raises(kind, match=r"cannot .* in s3://") as caught:
            act()
        assert not isinstance(caught.value, (AssetChangedError, AssetGoneError))


def test_a_timeout_is_transient(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(**_: Any) -> Any:
        raise ReadTimeoutError(endpoint_url="http://x")

    monkeypatch.setattr(any_store.client, "head_object", slow)
    with pytest.raises(TransientSourceError, match="try again"):
        any_store.state("a")


def test_a_client_is_made_from_the_settings(s3: Any) -> None:
    bucket = s3.bucket()
    assert Store(bucket, s3.settings, client_for(s3.settings)).state("a") == ObjectState("a")


# ---- what few objects have -------------------------------------------------------------------

EVERYBODY = 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'


@pytest.fixture
def listed(any_store: Store) -> Store:
    """A bucket whose objects may have access control lists."""
    any_store.client.put_bucket_ownership_controls(
        Bucket=any_store.bucket,
        OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]},
    )
    return any_store


@pytest.mark.parametrize("large", [False, True])
def test_grants_stay_with_an_object(
    listed: Store, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    """A copy, or what was rewritten, had the default list: a public page lost its picture."""
    rich(listed)
    listed.client.put_object_acl(Bucket=listed.bucket, Key="a", ACL="public-read")
    before = listed.state("a")
    assert before.headers["GrantRead"] == EVERYBODY
    assert 'id="' in before.headers["GrantFullControl"]
    if large:
        monkeypatch.setattr(module, "COPY_LIMIT", 3)
    assert listed.copy(before, "q").headers == before.headers
    after = listed.put(
        "a", b"body", expected=before.etag, metadata={"n": "1"}, headers=before.headers
    )
    assert after.headers == before.headers
    private = rich(listed, "b")
    assert not [name for name in private.headers if name.startswith("Grant")]


def test_lists_that_may_not_be_read_are_not_taken_for_none(s3: Any, listed: Store) -> None:
    rich(listed)
    deny(s3, listed, "s3:GetObjectAcl")
    with pytest.raises(StoreRefusedError, match="s3:GetObjectAcl"):
        listed.state("a")


def test_where_lists_are_disabled_none_is_asked_for(s3: Any, any_store: Store) -> None:
    made = rich(any_store)
    deny(s3, any_store, "s3:GetObjectAcl")
    assert any_store.state("a") == made


RARE = {
    "ServerSideEncryption": "aws:kms",
    "SSEKMSKeyId": "arn:aws:kms:eu-central-1:1:key/abc",
    "BucketKeyEnabled": True,
    "WebsiteRedirectLocation": "/elsewhere",
}


def keeps_the_rare(to: Store) -> dict[str, dict[str, Any]]:
    """Let a store without KMS and redirects tell of them as AWS does; key to what it was given."""
    kept: dict[str, dict[str, Any]] = {}
    last: list[str] = []

    def given(params: dict[str, Any], **_: Any) -> None:
        kept[params["Key"]] = {name: params.pop(name) for name in RARE if name in params}

    def asked(params: dict[str, Any], **_: Any) -> None:
        last.append(params["Key"])

    def told(parsed: dict[str, Any], **_: Any) -> None:
        parsed.update(kept.get(last[-1], {}))

    events = to.client.meta.events
    for name in ("PutObject", "CopyObject", "CreateMultipartUpload"):
        events.register(f"before-parameter-build.s3.{name}", given)
    events.register("before-parameter-build.s3.HeadObject", asked)
    events.register("after-call.s3.HeadObject", told)
    return kept


@pytest.mark.parametrize("way", ["copy", "parts", "carried"])
def test_kms_key_bucket_key_and_redirect_stay(
    any_store: Store, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The test server has neither: what is asked for on the wire is looked at."""
    kept = keeps_the_rare(any_store)
    any_store.client.put_object(Bucket=any_store.bucket, Key="a", Body=b"body", **RARE)
    before = any_store.state("a")
    assert before.headers["BucketKeyEnabled"] == "true"
    if way == "parts":
        monkeypatch.setattr(module, "COPY_LIMIT", 3)
    elif way == "carried":
        any_store.capabilities = replace(ALL, copy_if_match=False)
    any_store.copy(before, "q")
    assert kept["q"] == RARE
    any_store.put("a", b"body", expected=before.etag, metadata={"n": "1"}, headers=before.headers)
    assert kept["a"] == RARE


def test_what_a_store_never_tells_is_found_out(any_store: Store) -> None:
    assert probe(any_store).forgets == ("website redirect",)
    keeps_the_rare(any_store)
    assert probe(any_store).forgets == ()
