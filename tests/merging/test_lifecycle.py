"""Lifecycle rules of a bucket: nothing leaves for a keeper that one of them removes, unseen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import tasks.sources.bucket
from tasks.merging.quarantine import empty_quarantine
from tasks.merging.rules.lifecycle import ask_about_expiry
from tasks.records import ObjectState
from tests.merging.conftest import later, png

POLICY = """
version: 1
name: lifecycle
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, keeper: [{prefix: [k/]}], action: quarantine%s}
"""
RULE = 'expiry-date="Fri, 01 Jan 2038 00:00:00 GMT", rule-id="old"'


@pytest.fixture
def site(make_bare_site: Any) -> Any:
    found = make_bare_site("plain")
    for prefix in "kd":
        found.put(f"{prefix}/1.png", png(1), {"temp": "1"} if prefix == "d" else {})
    found.list()
    return found


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[str], bool]]:
    """Lifecycle rules: those that say yes to a key remove it. The test server tells of none."""
    found: list[Callable[[str], bool]] = []
    real, here = tasks.sources.bucket.client_for, threading.local()

    def asked(params: dict[str, Any], **_: Any) -> None:
        here.key = params["Key"]

    def told(parsed: dict[str, Any], **_: Any) -> None:
        if any(rule(here.key) for rule in found):
            parsed["Expiration"] = RULE

    def client_for(settings: Any) -> Any:
        client = real(settings)
        client.meta.events.register("before-parameter-build.s3.HeadObject", asked)
        client.meta.events.register("after-call.s3.HeadObject", told)
        return client

    monkeypatch.setattr(tasks.sources.bucket, "client_for", client_for)
    return found


def test_a_keeper_that_a_rule_removes_is_asked_about(site: Any, rules: list[Any]) -> None:
    rules.append(lambda key: key == "k/1.png")
    (group,) = site.plan(policy=POLICY % ", automatic: {groups: 9}").groups
    asked = "removes the keeper k/1.png on 2038-01-01, and d/1.png later or never"
    assert asked in group.questions[-1]
    assert not group.automatic
    rules.append(lambda key: True)  # where all goes on one day, there is nothing to choose
    (group,) = site.plan(policy=POLICY % "").groups
    assert group.questions == ()


@pytest.mark.long
def test_a_rule_that_is_new_keeps_the_copies(site: Any, rules: list[Any]) -> None:
    plan = site.plan(policy=POLICY % "")
    site.approve(plan)
    rules.append(lambda key: key == "k/1.png")
    (group,) = site.merge(plan).groups
    assert group.state == "failed"
    assert "a lifecycle rule of the bucket removes it on 2038-01-01" in group.why
    assert site.keys() == ["d/1.png", "k/1.png"]
    rules.clear()
    assert site.merge(plan).complete
    assert site.keys() == ["k/1.png"]


@pytest.mark.long
def test_a_tag_that_comes_with_a_duplicate_takes_no_keeper(site: Any, rules: list[Any]) -> None:
    """A rule for a tag that the keeper took over: it would be gone, and then its copies."""
    plan = site.plan(policy=POLICY % "")
    site.approve(plan)
    rules.append(lambda key: not key.startswith(".dam-dedup/") and "temp" in site.tags(key))
    (group,) = site.merge(plan).groups
    assert group.state == "failed"
    assert site.keys() == ["d/1.png", "k/1.png"]
    assert {one.state for one in site.undo(plan.id)} == {"undone"}
    assert site.tags("k/1.png") == {}


@pytest.mark.long
def test_the_last_copies_of_such_a_keeper_stay(
    site: Any, rules: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = site.plan(policy=POLICY % "")
    site.approve(plan)
    assert site.merge(plan).complete
    rules.append(lambda key: key == "k/1.png")
    later(monkeypatch, timedelta(days=40))
    (entry,) = empty_quarantine(site.settings, by="anna")
    assert entry.state == "failed"
    assert "a lifecycle rule of the bucket removes it on 2038-01-01" in entry.why
    assert site.body(entry.at) == png(1)


def test_who_goes_later_is_compared_day_by_day() -> None:
    def state(key: str, expires: str) -> ObjectState:
        return ObjectState(key, "e", expires=expires)

    keeper = state("k", "2027-01-02")
    assert ask_about_expiry(keeper, [state("d", "2027-01-02"), state("e", "2026-01-01")]) == []
    assert ask_about_expiry(keeper, [state("d", "2027-01-03")])
    assert ask_about_expiry(state("k", ""), [state("d", "2026-01-01"), state("e", "")]) == []
    assert keeper == state("k", ""), "the rule is not the object's: a plan still knows it"
