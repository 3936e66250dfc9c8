"""Events, as Prefect runs their check."""

from __future__ import annotations

import pytest
from prefect.artifacts import Artifact

from flows.events import check_keys
from tasks.errors import EventError
from tasks.records import Kind
from tasks.requests import KeysRequest
from tests.conftest import blobs


@pytest.mark.e2e
def test_the_keys_of_a_request_are_checked_and_shown(library, monkeypatch, prefect_api) -> None:
    library.add("a.png", 1)
    settings = library.scan(Kind.FULL).scan.settings
    for name, value in {
        "CATALOG__URI": settings.catalog.uri,
        "SOURCE__URI": str(library.folder),
        "EMBEDDING__MODEL": str(library.model),
        "EMBEDDING__POOLING": "cls",
        "EMBEDDING__DEVICE": "cpu",
        "EMBEDDING__DECODERS": "1",
    }.items():
        monkeypatch.setenv(f"DAM_DEDUP_{name}", value)
    library.write("b.jpg", blobs(1), quality=80)
    foreign = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "theirs"}, "object": {"key": "a.png"}},
    }
    done = check_keys(KeysRequest(names=["b.jpg"]))
    again = check_keys(KeysRequest(names=["b.jpg"]))
    artifact = Artifact.get("default-keys")
    with pytest.raises(EventError, match="theirs"):
        check_keys(KeysRequest(events=[{"Records": [foreign]}]))
    assert [(one["key"], one["matches"]) for one in done["found"]] == [("b.jpg", 1)]
    assert done["found"][0]["listed"][0]["key"] == "a.png"
    assert (again["found"], again["passed_over"]) == ([], {"known": 1})
    assert artifact is not None
    assert "passed over: 1 known" in str(artifact.data)
