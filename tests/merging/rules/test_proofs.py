"""A group is merged only when its originals were compared."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reports.why_not import why_not
from tasks.merging.rules.plans import Member
from tasks.merging.rules.proofs import why_unproven


def members(*contents: str) -> list[Member]:
    old = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        Member(f"id-{n}", f"{n}.jpg", content, 9, 4, 3, "jpeg", old)
        for n, content in enumerate(contents)
    ]


def proofs(**said: str) -> dict[frozenset[str], tuple[str, str]]:
    return {frozenset(pair): (verdict, "it timed out") for pair, verdict in said.items()}


@pytest.mark.parametrize("verdict", ["same", "differs", "unknown", "person"])
def test_what_was_compared_may_be_merged(verdict):
    assert why_unproven(members("a", "b"), proofs(ab=verdict)) == ""


def test_equal_pictures_need_no_proof():
    assert why_unproven(members("a", "a", "a"), {}) == ""


def test_all_hang_together_over_the_one_they_were_compared_with():
    """The policy may let another file stay than the one that everything was compared with."""
    assert why_unproven(members("b", "a", "c", "b"), proofs(ab="same", ac="same")) == ""
    said = why_unproven(members("b", "c"), proofs(ab="same", ac="same"))
    assert said == "'0.jpg' and '1.jpg' were not compared at full size yet, scan again"
    assert "'2.jpg'" in why_unproven(members("a", "b", "c"), proofs(ab="same"))


def test_people_read_what_lifts_it():
    told = why_not(why_unproven(members("a", "b"), {}), None, None)
    assert (told.why, told.lifts) == ("not compared at full size yet", "the next scan")
    told = why_not(why_unproven(members("a", "b"), proofs(ab="unreadable")), None, None)
    assert told.why.startswith("could not be compared at full size")
    assert told.lifts.startswith("a full scan")
