"""No group is merged, by rule or by person, before its originals were compared."""

from __future__ import annotations

from typing import Any

import pytest

from flows.order import run_scan
from tasks.embedding.decoder import DecoderPool
from tasks.errors import ImageError, MergeError
from tasks.merging.journal import read_decisions
from tasks.records import Kind, Tier
from tasks.requests import ScanRequest
from tasks.session import open_catalog
from tests.merging.conftest import encoded, picture

POLICY = """
version: 1
name: proofs
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, action: quarantine, automatic: {groups: 9}}
"""


@pytest.fixture
def versioned() -> bool:
    return False


@pytest.fixture
def pair(site: Any) -> Any:
    """A picture and its JPEG, which a thumbnail shows to be the same."""
    site.put("a.png", encoded(picture(1)), ContentType="image/png")
    site.put("a.jpg", encoded(picture(1), "JPEG", quality=90), ContentType="image/jpeg")
    return site


def approved(site: Any, plan: Any) -> set[str]:
    return set(read_decisions(open_catalog(site.settings), plan)["group_id"])


@pytest.mark.long
def test_unproven_is_merged_by_nobody_and_the_proof_lifts_that(pair, monkeypatch):
    def fails(*_: Any) -> None:
        raise ImageError("timeout", "not decoded in 20 s")

    with monkeypatch.context() as patch:
        patch.setattr(DecoderPool, "compare", fails)
        pair.scan()
    plan = pair.plan(policy=POLICY)
    (group,) = plan.groups
    assert group.tier is Tier.NEAR
    assert not group.automatic
    assert not group.operations
    assert "could not be compared at full size: not decoded in 20 s" in group.refused
    assert approved(pair, plan) == set()
    assert not any(said.decision == "approve" for said in pair.approve(plan))
    with pytest.raises(MergeError):
        pair.merge(plan)

    run_scan(ScanRequest(source=f"s3://{pair.bucket}", kind=Kind.FULL), pair.settings)
    plan = pair.plan(policy=POLICY)
    (group,) = plan.groups
    assert group.tier is Tier.EXACT
    assert not group.refused
    assert approved(pair, plan) == {group.group_id}
    assert pair.merge(plan).groups[0].state == "merged"


@pytest.mark.long
def test_a_plan_of_before_proofs_is_not_carried_out(pair):
    pair.scan()
    plan = pair.plan(policy=POLICY)
    catalog = open_catalog(pair.settings)
    with catalog.writing():
        catalog.delete_where("proofs", "true")
    before = pair.snapshot()
    (outcome,) = pair.merge(plan).groups
    assert outcome.state == "refused"
    assert "were not compared at full size yet" in outcome.why
    assert pair.snapshot() == before


@pytest.mark.long
def test_a_catalog_of_before_proofs_says_what_to_do(pair):
    pair.scan()
    catalog = open_catalog(pair.settings)
    with catalog.writing():
        catalog.delete_where("proofs", "true")
    plan = pair.plan(policy=POLICY)
    assert plan.groups[0].refused.endswith("were not compared at full size yet, scan again")
    pair.scan()
    assert not pair.plan(policy=POLICY, again=True).groups[0].refused
    assert not pair.plan("tag").groups[0].refused


def test_a_tag_takes_nothing_and_needs_no_proof(pair):
    pair.scan()
    catalog = open_catalog(pair.settings)
    with catalog.writing():
        catalog.delete_where("proofs", "true")
    (group,) = pair.plan("tag").groups
    assert group.operations
    assert not group.refused
