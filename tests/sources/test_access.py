"""How S3 is reached: by TLS with a private authority, by a proxy, and with a role that ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.credentials import Credentials, RefreshableCredentials

from reports.words import link_end
from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.delivery.bucket import put_documents
from tasks.errors import CatalogError, DamDedupError, SettingsError
from tasks.records import Document, now
from tasks.session import open_catalog, pa_table
from tasks.settings import S3Settings, load_settings
from tasks.sources.access import end_of
from tasks.sources.s3 import S3Source, client_for, links_end, storage_options
from tests.sources.roles import Role, role
from tests.sources.wires import proxy, tls

ROWS = [{"asset_id": str(n), "key": f"k{n}"} for n in range(3)]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment that says nothing of AWS or of authorities."""
    for name in [n for n in os.environ if n.startswith(("AWS_", "DAM_DEDUP_"))]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_FILE", "to be put back afterwards")
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def catalog_at(bucket: str, access: S3Settings) -> Catalog:
    settings = load_settings(catalog={"uri": f"s3://{bucket}/cat"})
    return open_catalog(settings.model_copy(update={"s3": access}))


def write(catalog: Catalog) -> None:
    with catalog.writing():
        catalog.upsert("assets", pa_table(ROWS, schema.LISTING))


# ---- TLS and proxies -------------------------------------------------------------------------


@pytest.mark.parametrize("proxied", [False, True])
def test_source_and_catalog_by_tls_of_a_private_authority(
    s3: Any, tmp_path: Path, proxied: bool
) -> None:
    bucket = s3.bucket()
    s3.client.put_object(Bucket=bucket, Key="a.jpg", Body=b"x" * 10)
    with tls(s3.endpoint, tmp_path) as (address, authority), proxy() as between:
        told = {"endpoint_url": address, "ca_bundle": authority}
        told |= {"proxy": between.address} if proxied else {}
        access = s3.settings.model_copy(update=told)
        source = S3Source(f"s3://{bucket}", access)
        assert [item.key for page in source.list_pages() for item in page] == ["a.jpg"]
        seen = len(between.asked)
        catalog = catalog_at(bucket, access)
        write(catalog)
        assert catalog.count("assets") == 3
        place = address.removeprefix("https://")
        assert set(between.asked) == ({place} if proxied else set())
        assert (len(between.asked) > seen) == proxied, "LanceDB takes the same way"
        trusted = Path(os.environ["SSL_CERT_FILE"]).read_text()
        assert authority.read_text().strip() in trusted
        assert trusted.count("BEGIN CERTIFICATE") > 50, "and the usual ones stay"


def test_an_unknown_authority_is_refused(s3: Any, tmp_path: Path) -> None:
    with tls(s3.endpoint, tmp_path) as (address, _):
        access = s3.settings.model_copy(update={"endpoint_url": address})
        with pytest.raises(DamDedupError, match=r"(?i)certificate"):
            list(S3Source("s3://bucket", access).list_pages())


def test_a_file_of_authorities_that_is_not_there_is_named(s3: Any, tmp_path: Path) -> None:
    access = s3.settings.model_copy(update={"ca_bundle": tmp_path / "nosuch.pem"})
    with pytest.raises(SettingsError, match=r"CA_BUNDLE=.*nosuch\.pem"):
        client_for(access)


# ---- what goes with the requests -------------------------------------------------------------


def sent(access: S3Settings, operation: str, **asked: Any) -> dict[str, str]:
    """The headers of a request, as it is signed."""
    client, seen = client_for(access), dict[str, str]()
    client.meta.events.register(
        "before-sign.s3", lambda request, **_: seen.update(request.headers.items())
    )
    getattr(client, operation)(**asked)
    return {name.lower(): str(value) for name, value in seen.items()}


def test_who_pays_and_which_checksums_is_said_where_it_is_set(s3: Any) -> None:
    pays = s3.settings.model_copy(update={"request_payer": True, "checksums": "when_required"})
    bucket = s3.bucket()
    one = {"Bucket": bucket, "Key": "k"}
    put = {**one, "Body": b"x"}
    for operation, asked in (
        ("put_object", put),
        ("list_objects_v2", {"Bucket": bucket}),
        ("get_object", one),
        ("head_object", one),
        ("get_object_tagging", one),
    ):
        assert sent(pays, operation, **asked)["x-amz-request-payer"] == "requester"
        assert "x-amz-request-payer" not in sent(s3.settings, operation, **asked)
    assert not [name for name in sent(pays, "put_object", **put) if "checksum" in name]
    assert [name for name in sent(s3.settings, "put_object", **put) if "checksum" in name]
    link = client_for(pays).generate_presigned_url("get_object", Params=one)
    assert "payer" not in link, "a browser could not follow it"


def test_a_catalog_pays_too(s3: Any) -> None:
    """LanceDB takes the setting; the real server asks nobody for money."""
    access = s3.settings.model_copy(update={"request_payer": True})
    catalog = catalog_at(s3.bucket(), access)
    write(catalog)
    assert catalog.count("assets") == 3
    assert storage_options(access)["request_payer"] == "true"
    assert "request_payer" not in storage_options(s3.settings)


# ---- roles -----------------------------------------------------------------------------------


@pytest.fixture
def short_role(s3: Any, plain: pytest.MonkeyPatch) -> Iterator[Role]:
    """Credentials end after four seconds; LanceDB fetches new ones from the third on."""
    with role(s3, lasts=4, says=63) as made:
        plain.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", made.desk)
        yield made


@pytest.mark.long
def test_a_catalog_outlives_the_credentials_it_was_opened_with(
    s3: Any, short_role: Role, plain: pytest.MonkeyPatch
) -> None:
    bucket = s3.bucket()
    access = S3Settings(endpoint_url=short_role.front, path_style=True, region="us-east-1")
    catalog = catalog_at(bucket, access)
    write(catalog)
    view, _ = catalog.at(catalog.versions(["assets"]))
    stream = catalog.stream("assets", ["key"], "", 1)
    assert next(stream).num_rows == 1
    first = set(short_role.given)
    time.sleep(5)
    assert not any(short_role.holds(token) for token in first), "they have ended"
    refused, served = short_role.refused, short_role.served
    assert sum(batch.num_rows for batch in stream) == 2
    write(catalog)
    catalog.tidy(rebuild=True)
    assert catalog.count("assets") == 3
    assert view.count("assets") == 3
    assert short_role.refused == refused
    assert short_role.served > served
    assert set(short_role.given) > first


def test_credentials_that_are_given_are_not_looked_for_elsewhere(s3: Any, short_role: Role) -> None:
    bucket = s3.bucket()
    given = s3.settings.model_copy(update={"endpoint_url": short_role.front})
    with pytest.raises((CatalogError, DamDedupError)):
        catalog_at(bucket, given)  # the front knows the role alone
    assert not short_role.given


# ---- links -----------------------------------------------------------------------------------

DOCUMENT = Document("report.html", "text/html", b"<!doctype html>")


def put(s3: Any, bucket: str, **more: Any) -> Any:
    (receipt,) = put_documents(
        s3.client,
        f"s3://{bucket}/reports/x",
        [DOCUMENT],
        **{"link_days": 7, "public_url": None} | more,
    )
    return receipt


def test_a_link_says_when_it_ends(s3: Any) -> None:
    bucket, week = s3.bucket(), now() + timedelta(days=7)
    user = put(s3, bucket)
    assert abs(user.until - week) < timedelta(minutes=1)
    assert link_end(user) == f"The link works until {user.until:%Y-%m-%d %H:%M} UTC."
    assert httpx.get(user.link).content == DOCUMENT.body
    soon = now() + timedelta(hours=1)
    assert put(s3, bucket, links_end=(soon, True)).until == soon
    later = put(s3, bucket, links_end=(week + timedelta(days=9), True))
    assert later.until < week + timedelta(minutes=1)
    unknown = put(s3, bucket, links_end=(None, True))
    assert link_end(unknown).endswith("it ends with the credentials that signed it.")
    public = put(s3, bucket, public_url="https://reports.example.org")
    assert link_end(public) == ""
    assert link_end(put(s3, bucket, link_days=0)) == ""


def test_the_end_of_a_role_is_known(s3: Any, short_role: Role, plain: pytest.MonkeyPatch) -> None:
    access = S3Settings(endpoint_url=short_role.front, path_style=True, region="us-east-1")
    end, ends = links_end(access)
    assert ends
    assert end is not None
    assert end < now() + timedelta(seconds=70)
    assert links_end(s3.settings) == (None, False)
    token = s3.settings.model_copy(update={"session_token": s3.settings.secret_access_key})
    assert links_end(token) == (None, True)


def test_botocore_still_tells_when_credentials_end() -> None:
    """It is an attribute of its own, so a release may call it otherwise."""
    end = datetime.now(UTC) + timedelta(hours=1)
    role = RefreshableCredentials("a", "b", "c", end, dict, "iam-role")
    assert end_of(role) == end
    assert end_of(Credentials("a", "b")) is None
