from __future__ import annotations

import json
import os
import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.utils import parse_timestamp
from pydantic import SecretStr

from tasks.catalog import lease, schema
from tasks.catalog.catalog import Catalog
from tasks.errors import (
    AssetChangedError,
    AssetGoneError,
    CatalogBusyError,
    CatalogError,
    SourceError,
)
from tasks.records import now
from tasks.session import pa_table
from tasks.settings import S3Settings
from tasks.sources.base import HEAD_BYTES
from tasks.sources.s3 import S3Source, client_for, moment_of, storage_options
from tests.conftest import first_of

ODD = [
    "a b.jpg",
    " lead/trail /x",
    "100%25+plus%2B.jpg",
    "new\nline\r\n.jpg",
    "tab\t.jpg",
    "quo'te\".jpg",
    "what?#&=.jpg",
    "<xml>&amp;.jpg",
    "日本/עברית/🎈.jpg",
    unicodedata.normalize("NFC", "Zoë.jpg"),
    unicodedata.normalize("NFD", "Zoë.jpg"),
    "/".join([*["x" * 255] * 3, "y" * 254, "z"]),
    "CASE.JPG",
    "case.jpg",
]


def source(s3: Any, bucket: str, prefix: str = "") -> S3Source:
    return S3Source(f"s3://{bucket}/{prefix}", s3.settings, s3.client)


def keys(source: S3Source) -> list[str]:
    return [item.key for page in source.list_pages() for item in page]


@pytest.mark.long
def test_a_listing_goes_on_beyond_a_page(s3: Any) -> None:
    bucket = s3.bucket()
    names = [f"{n % 2}/{n:04}" for n in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.client.put_object(Bucket=bucket, Key=key, Body=b"x"), names))
    pages = list(source(s3, bucket).list_pages())
    assert sorted(len(page) for page in pages) == [501, 502], "a folder beside the other"
    assert sorted(keys(source(s3, bucket))) == sorted(names)
    assert keys(source(s3, bucket, "1/")) == sorted(names)[502:]
    assert keys(source(s3, bucket, "none/")) == []


def test_odd_keys_are_listed_probed_and_read(s3: Any) -> None:
    bucket = s3.bucket()
    for key in ODD:
        s3.client.put_object(Bucket=bucket, Key=key, Body=key.encode() * 9)
    assert max(len(key.encode()) for key in ODD) == 1024
    odd = source(s3, bucket)
    found = {item.key: item for page in odd.list_pages() for item in page}
    assert set(found) == set(ODD)
    for key, item in found.items():
        data = key.encode() * 9
        assert item.size == len(data)
        probe = odd.probe(key)
        assert (probe.head, probe.size, probe.etag) == (data[:HEAD_BYTES], len(data), item.etag)
        assert odd.read(key, item.etag, len(data)) == data


@pytest.mark.parametrize("prefix", ["what?#", "100%25+", "a b"])
def test_a_prefix_is_taken_as_it_is_written(s3: Any, prefix: str) -> None:
    bucket = s3.bucket()
    for key in ODD[:7]:
        s3.client.put_object(Bucket=bucket, Key=key, Body=b"x")
    odd = source(s3, bucket, prefix)
    assert (odd.id, odd.prefix) == (f"s3://{bucket}", prefix)
    assert keys(odd) == [key for key in ODD if key.startswith(prefix)]


def test_a_probe_brings_all_that_is_known(s3: Any) -> None:
    bucket = s3.bucket(versioned=True)
    body = bytes(range(256)) * 9
    put = s3.client.put_object(
        Bucket=bucket,
        Key="a",
        Body=body,
        ContentType="image/jpeg",
        Metadata={"Owner": "me", "place": "=?UTF-8?B?WsO8cmljaA==?="},
        Tagging="agency=north&my%20key=a%20b",
    )
    probe = source(s3, bucket).probe("a")
    assert probe.head == body[:HEAD_BYTES]
    assert (probe.size, probe.etag) == (len(body), put["ETag"])
    assert probe.version_id == put["VersionId"]
    assert probe.content_type == "image/jpeg"
    assert probe.metadata == {"owner": "me", "place": "Zürich"}
    assert probe.tags == {"agency": "north", "my key": "a b"}
    assert abs(probe.last_modified.timestamp() - time.time()) < 60


def test_an_object_shorter_than_the_head(s3: Any) -> None:
    bucket = s3.bucket()
    s3.client.put_object(Bucket=bucket, Key="a", Body=b"x")
    probe = source(s3, bucket).probe("a")
    assert (probe.head, probe.size, probe.version_id) == (b"x", 1, None)
    assert probe.tags == probe.metadata == {}


def test_an_object_emptied_since_it_was_listed(s3: Any) -> None:
    bucket = s3.bucket()
    s3.client.put_object(Bucket=bucket, Key="a", Body=b"")
    with pytest.raises(SourceError, match="'a'"):  # not a traceback: the scan goes on
        source(s3, bucket).probe("a")


def test_a_replaced_object_is_not_read(s3: Any) -> None:
    bucket = s3.bucket()
    old = s3.client.put_object(Bucket=bucket, Key="a", Body=b"old")["ETag"]
    new = s3.client.put_object(Bucket=bucket, Key="a", Body=b"new")["ETag"]
    with pytest.raises(AssetChangedError, match=r"'a'.*next scan"):
        source(s3, bucket).read("a", old, 10)
    assert source(s3, bucket).read("a", new, 10) == b"new"


@pytest.mark.parametrize("versioned", [False, True])
def test_a_missing_object_is_gone(s3: Any, versioned: bool) -> None:
    bucket = s3.bucket(versioned=versioned)
    etag = s3.client.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"]
    s3.client.delete_object(Bucket=bucket, Key="a")
    with pytest.raises(AssetGoneError, match="'a'"):
        source(s3, bucket).probe("a")
    with pytest.raises(AssetGoneError, match="'a'"):
        source(s3, bucket).read("a", etag, 10)


def test_an_object_over_the_limit_is_refused(s3: Any) -> None:
    bucket = s3.bucket()
    etag = s3.client.put_object(Bucket=bucket, Key="a", Body=b"12345")["ETag"]
    assert source(s3, bucket).read("a", etag, 5) == b"12345"
    with pytest.raises(SourceError, match="5 bytes, over 4"):
        source(s3, bucket).read("a", etag, 4)


def test_a_missing_bucket_is_named(s3: Any) -> None:
    missing = source(s3, "never-made")
    with pytest.raises(SourceError, match="there is no bucket 'never-made'"):
        keys(missing)
    with pytest.raises(SourceError, match="there is no bucket 'never-made'"):
        missing.probe("a")


@pytest.mark.parametrize("wrong", ["access_key_id", "secret_access_key"])
def test_wrong_credentials_say_what_to_check(s3: Any, wrong: str) -> None:
    stranger = s3.settings.model_copy(update={wrong: SecretStr("nobody-knows-this")})
    with pytest.raises(SourceError, match=r"check the credentials .*s3:ListBucket") as caught:
        keys(S3Source(f"s3://{s3.bucket()}", stranger))
    assert "nobody-knows-this" not in str(caught.value)


@pytest.fixture
def no_chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> pytest.MonkeyPatch:
    """Nobody's credentials."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return monkeypatch


def test_no_credentials_say_what_to_set(s3: Any, no_chain: pytest.MonkeyPatch) -> None:
    bare = S3Settings(endpoint_url=s3.endpoint, path_style=True, region="us-east-1")
    with pytest.raises(SourceError, match=r"AWS_ACCESS_KEY_ID.*DAM_DEDUP_S3__CREDENTIALS_BLOCK"):
        keys(S3Source(f"s3://{s3.bucket()}", bare))


def test_the_aws_chain_is_used(s3: Any, no_chain: pytest.MonkeyPatch) -> None:
    no_chain.setenv("AWS_ACCESS_KEY_ID", s3.key)
    no_chain.setenv("AWS_SECRET_ACCESS_KEY", s3.secret)
    no_chain.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    bare = S3Settings(path_style=True, region="us-east-1")
    assert keys(S3Source(f"s3://{s3.bucket()}", bare)) == []
    options = storage_options(bare)
    assert options["endpoint"] == s3.endpoint
    assert (options["access_key_id"], options["secret_access_key"]) == (s3.key, s3.secret)


def test_an_unknown_profile_is_named(s3: Any, no_chain: pytest.MonkeyPatch) -> None:
    no_chain.setenv("AWS_PROFILE", "no-such-profile")
    bare = S3Settings(endpoint_url=s3.endpoint, region="us-east-1")
    source = S3Source("s3://bucket", bare)
    assert (source.id, source.prefix) == ("s3://bucket", ""), (
        "who asks the id alone needs no access"
    )
    with pytest.raises(SourceError, match="no-such-profile"):
        keys(source)


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "http://bucket/key"])
def test_a_uri_without_a_bucket_is_refused(s3: Any, uri: str) -> None:
    with pytest.raises(SourceError, match="write s3://bucket"):
        S3Source(uri, s3.settings)


# ---- a catalog on S3 -------------------------------------------------------------------------


def catalog(s3: Any, bucket: str) -> Catalog:
    return Catalog(f"s3://{bucket}/cat", storage_options(s3.settings), client_for(s3.settings))


def leases(s3: Any, bucket: str) -> list[str]:
    found = s3.client.list_objects_v2(Bucket=bucket, Prefix="cat/.writer")
    return [item["Key"] for item in found.get("Contents", [])]


def test_a_catalog_on_s3(s3: Any) -> None:
    bucket = s3.bucket()
    first = catalog(s3, bucket)
    rows = pa_table([{"asset_id": str(n), "key": f"k{n}"} for n in range(20)], schema.LISTING)
    with first.writing():
        assert first.upsert("assets", rows) == 20
        assert leases(s3, bucket) == ["cat/.writer.lease"]
        first.upsert("assets", rows)
        first.tidy(rebuild=True)
    assert leases(s3, bucket) == []
    second = catalog(s3, bucket)
    assert second.count("assets") == 20
    assert second.duplicate_keys() == {}
    assert second.read_keys("assets", ["key"], ["3"])["key"].to_list() == ["k3"]


def test_the_lease_shuts_out_a_second_writer(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.05)
    bucket = s3.bucket()
    first, second = catalog(s3, bucket), catalog(s3, bucket)
    with first.writing():
        with (
            pytest.raises(CatalogBusyError, match=r"writer.lease.*CATALOG__BUSY_SECONDS"),
            lease.s3_lease(s3.client, second.uri, 0.2),  # as another process takes it
        ):
            pass
        assert leases(s3, bucket)  # the loser has not taken it away
    with second.writing(0):
        pass


def test_a_lease_is_renewed_as_long_as_it_is_held(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.6)
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.05)
    bucket = s3.bucket()
    first = catalog(s3, bucket)
    with (
        first.writing(),
        pytest.raises(CatalogBusyError),
        lease.s3_lease(s3.client, first.uri, 2.5),
    ):
        pass
    assert leases(s3, bucket) == []


def left_behind(s3: Any, bucket: str, term: float = 1.0) -> None:
    """A lease whose holder died."""
    body = {"holder": "the dead", "fence": 7, "term": term, "until": time.time() + 10**6}
    s3.client.put_object(Bucket=bucket, Key="cat/.writer.lease", Body=json.dumps(body).encode())


def test_the_lease_of_a_dead_writer_is_taken_when_it_has_not_changed_for_its_term(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.05)
    bucket = s3.bucket()
    writer = catalog(s3, bucket)
    left_behind(s3, bucket)
    with pytest.raises(CatalogBusyError, match="the dead"), writer.writing(0):
        pass
    begun = time.monotonic()
    with lease.s3_lease(s3.client, writer.uri, 10) as taken:
        assert leases(s3, bucket)
        assert taken.fence == 8
    assert time.monotonic() - begun >= 1.0
    assert leases(s3, bucket) == []


@pytest.mark.parametrize("skew", first_of(-120, 120, 10**6))
def test_no_clock_of_another_machine_is_believed(
    s3: Any, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    """A machine whose clock is ahead took the lease of a living holder at once."""
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.2)
    uri = f"s3://{s3.bucket()}/cat"

    class Skewed:
        def __getattr__(self, name: str) -> Any:
            return getattr(time, name)

        def time(self) -> float:
            return time.time() + skew

    with lease.s3_lease(s3.client, uri, 0) as first:
        monkeypatch.setattr(lease, "time", Skewed())
        with pytest.raises(CatalogBusyError), lease.s3_lease(s3.client, uri, 2.5):
            pass
        first.check()


def test_a_holder_that_stood_still_finds_its_lease_gone(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing renews the lease, as while a process is stopped; then it goes on."""
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.8)
    monkeypatch.setattr(lease.S3Lease, "_keep_alive", lambda self: None)
    uri = f"s3://{s3.bucket()}/cat"
    with lease.s3_lease(s3.client, uri, 0, keep=True) as first:
        first.check(0.1)
        with pytest.raises(CatalogError, match="lost the writer lease"):
            first.check(0.9)  # more than a whole term is never sure
        with lease.s3_lease(s3.client, uri, 5, keep=True) as second:
            assert (first.fence, second.fence) == (1, 2)
            assert first.left() < 0
            with pytest.raises(CatalogError, match="lost the writer lease"):
                first.check()
            second.check()
        with pytest.raises(CatalogError, match="lost the writer lease"):
            first.check()
    with lease.s3_lease(s3.client, uri, 0, keep=True) as third:
        assert third.fence == 3, "a lease that was given up goes on counting"


def test_three_leases_of_one_stopped_process_are_waited_for_together(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after another they took three terms: 305 seconds for an undo."""

    class Clock:
        now = 0.0

        def __getattr__(self, name: str) -> Any:
            return getattr(time, name)

        def sleep(self, seconds: float) -> None:
            Clock.now += seconds

    bucket = s3.bucket()
    body = json.dumps({"holder": "the stopped", "fence": 1, "term": 90}).encode()
    for name in ("cat/.scan.lease", "cat/.writer.lease", "place/.merge.lease"):
        s3.client.put_object(Bucket=bucket, Key=name, Body=body)
    place = f"s3://{bucket}/place"
    writer = catalog(s3, bucket)
    monkeypatch.setattr(lease, "time", Clock())
    monkeypatch.setattr(lease, "elapsed", lambda: Clock.now)
    monkeypatch.setattr(lease.S3Lease, "_keep_alive", lambda self: None)
    with (
        lease.lease_wanted(s3.client, place, "merge"),
        writer.turn(1000),
        lease.s3_lease(s3.client, place, 1000, "merge"),
        writer.writing(1000),
    ):
        assert 90 < Clock.now < 120


@pytest.mark.parametrize("body", [b"{}", b"[]", b"", b"\xff"])
def test_a_lease_that_says_nothing_is_taken(s3: Any, body: bytes) -> None:
    bucket = s3.bucket()
    s3.client.put_object(Bucket=bucket, Key="cat/.writer.lease", Body=body)
    with lease.s3_lease(s3.client, f"s3://{bucket}/cat", 0):
        assert leases(s3, bucket)
    assert leases(s3, bucket) == []


def test_who_lost_the_lease_writes_no_more(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    bucket = s3.bucket()
    first = catalog(s3, bucket)
    rows = pa_table([{"asset_id": "a"}], schema.LISTING)
    with first.writing():
        first.upsert("assets", rows)
        s3.client.put_object(Bucket=bucket, Key="cat/.writer.lease", Body=b'{"holder": "other"}')
        time.sleep(1.3)
        with pytest.raises(CatalogError, match="lost the writer lease"):
            first.upsert("assets", rows)
        with pytest.raises(CatalogError, match="lost the writer lease"):
            first.delete_keys("assets", ["a"])
    assert leases(s3, bucket)  # it is the other's
    assert first.count("assets") == 1


def test_of_many_that_see_a_lease_expire_one_takes_it(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.02)
    bucket = s3.bucket()
    left_behind(s3, bucket, 0.5)
    barrier = threading.Barrier(6)
    done = threading.Event()

    def take(_: int) -> bool:
        barrier.wait()
        try:
            with lease.s3_lease(s3.client, f"s3://{bucket}/cat", 3):
                done.wait(10)
        except CatalogBusyError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        takers = [pool.submit(take, n) for n in range(6)]
        while sum(taker.done() for taker in takers) < 5:
            time.sleep(0.05)
        done.set()
        assert sum(taker.result() for taker in takers) == 1


def test_a_store_without_preconditions_is_refused(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.bucket()
    careless = client_for(s3.settings)
    put = careless.put_object

    def ignore(**request: Any) -> Any:
        return put(**{name: value for name, value in request.items() if "Match" not in name})

    monkeypatch.setattr(careless, "put_object", ignore)
    with (
        pytest.raises(CatalogError, match="ignores If-None-Match"),
        lease.s3_lease(careless, f"s3://{bucket}/cat", 0),
    ):
        pass


def test_a_lease_on_a_missing_bucket_says_so(s3: Any) -> None:
    with (
        pytest.raises(CatalogError, match=r"never-made.*NoSuchBucket"),
        lease.s3_lease(s3.client, "s3://never-made/cat", 0),
    ):
        pass


def test_the_server_is_strict(s3: Any) -> None:
    """What the tests above lean on."""
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3.client.put_object(Bucket="never-made", Key="a", Body=b"")


@pytest.mark.parametrize(
    "value", ["=?utf-8?b?A?=", "=?unicode_escape?q?=5Cud800?=", "=?nosuch?q?x?=", "=?=?=?"]
)
def test_broken_metadata_stops_nothing(s3: Any, value: str) -> None:
    bucket = s3.bucket()
    s3.client.put_object(Bucket=bucket, Key="a", Body=b"x", Metadata={"note": value})
    note = S3Source(f"s3://{bucket}", s3.settings).probe("a").metadata["note"]
    note.encode()  # Arrow takes no lone surrogates
    assert "\0" not in note


@pytest.mark.parametrize(
    "told",
    [
        "Fri, 27 Nov 2026 00:39:54 GMT",
        "2026-11-27T00:39:54.123Z",
        "2026-11-27T00:39:54Z",
        "2026-11-27T02:39:54.123456789+02:00",
        "Fri, 27 Nov 2026 00:39:54 -0000",
        "1700000000",
        1700000000,
    ],
)
def test_moments_are_read_as_the_sdk_reads_them(told: str | int) -> None:
    assert moment_of(told) == parse_timestamp(told)


def test_the_clients_moments_are_the_stores(s3: Any) -> None:
    bucket = s3.bucket()
    client = client_for(s3.settings)
    client.put_object(Bucket=bucket, Key="a", Body=b"a")
    head = client.head_object(Bucket=bucket, Key="a")
    (listed,) = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert head["LastModified"] == listed["LastModified"].replace(microsecond=0)
    assert abs(now() - head["LastModified"]) < timedelta(days=1)
