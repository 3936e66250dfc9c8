"""All that an object is goes with it, or the merge does not happen."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from tasks.merging import looks
from tasks.sources.places import OUR_PREFIX
from tests.merging.conftest import EITHER_KIND, png

POLICY = """
version: 1
name: kept
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, keeper: [{prefix: [k/]}], action: quarantine}
"""


def described(site: Any, key: str) -> dict[str, Any]:
    found = site.s3.client.head_object(Bucket=site.bucket, Key=key, ChecksumMode="ENABLED")
    names = (
        "ServerSideEncryption",
        "ChecksumSHA256",
        "CacheControl",
        "ContentType",
        "Expires",
        "ContentLanguage",
        "ContentDisposition",
        "ContentEncoding",
        "Metadata",
    )
    return {name: found.get(name) for name in names} | {"tags": site.tags(key)}


@pytest.mark.long
@pytest.mark.parametrize("kind", EITHER_KIND)
def test_encryption_checksum_and_headers_stay_with_the_object(make_site: Any, kind: str) -> None:
    """Rewritten or copied, an object lost its encryption and its checksum."""
    site = make_site(kind)
    for key, shot in (("k/a.png", "7"), ("d/a.png", "8")):
        site.put(
            key,
            png(1),
            {"owner": key[0]},
            {f"shot{shot}": shot},
            ContentType="image/png",
            ServerSideEncryption="AES256",
            CacheControl="max-age=1",
            ContentLanguage="de",
            ContentDisposition="inline",
            Expires="Thu, 01 Jan 2037 00:00:00 GMT",
            ChecksumSHA256=base64.b64encode(hashlib.sha256(png(1)).digest()).decode(),
        )
    before = {key: described(site, key) for key in ("k/a.png", "d/a.png")}
    assert before["k/a.png"]["ServerSideEncryption"] == "AES256"
    assert before["k/a.png"]["ChecksumSHA256"]
    site.list()
    plan = site.plan(policy=POLICY)
    site.approve(plan)
    assert site.merge(plan).complete
    (copy,) = [key for key in site.keys(ours=True) if key.startswith(f"{OUR_PREFIX}quarantine/")]
    assert described(site, copy) == before["d/a.png"]
    keeper = described(site, "k/a.png")
    assert keeper["Metadata"] == {"shot7": "7", "shot8": "8"}
    changed = {"Metadata": None, "tags": None}
    assert keeper | changed == before["k/a.png"] | changed
    site.undo(plan.id)
    assert {key: described(site, key) for key in before} == before


@pytest.mark.long
def test_a_held_keeper_is_not_rewritten(make_site: Any) -> None:
    """Its new version was not held, and could be destroyed by anybody."""
    site = make_site("locked")
    for key, words in (("k/a.png", {"shot": "7"}), ("d/a.png", {"client": "acme"})):
        site.put(key, png(1), {}, words, ContentType="image/png")
    hold = {"Bucket": site.bucket, "Key": "k/a.png"}
    site.s3.client.put_object_legal_hold(**hold, LegalHold={"Status": "ON"})
    site.list()
    (group,) = site.plan(policy=POLICY).groups
    assert "k/a.png" in group.refused
    assert "legal hold" in group.refused
    assert group.operations == ()
    site.s3.client.put_object_legal_hold(**hold, LegalHold={"Status": "OFF"})
    plan = site.plan(policy=POLICY)
    site.approve(plan)
    assert site.merge(plan).complete
    site.s3.client.put_object_legal_hold(**hold, LegalHold={"Status": "ON"})
    version = site.s3.client.head_object(**hold)["VersionId"]
    left = {one.key: one for one in site.undo(plan.id) if one.state == "left"}
    assert "legal hold" in left["k/a.png"].why
    assert site.s3.client.head_object(**hold)["VersionId"] == version


def test_a_keeper_that_is_too_large_to_be_rewritten_is_refused(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is rewritten through our memory; above a limit nothing is done to its group."""
    monkeypatch.setattr(looks, "REWRITTEN", len(png(1)) - 1)
    site = make_site("plain")
    for key, words in (("k/a.png", {"shot": "7"}), ("d/a.png", {"client": "acme"})):
        site.put(key, png(1), {}, words, ContentType="image/png")
    before = site.snapshot()
    site.list()
    plan = site.plan(policy=POLICY)
    site.approve(plan)
    (group,) = site.merge(plan).groups
    assert group.state == "refused"
    assert "'k/a.png' holds" in group.why
    assert site.snapshot() == before
