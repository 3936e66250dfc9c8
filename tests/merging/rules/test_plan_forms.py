"""Plans that an older release wrote are read, and named by what was approved then."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from tasks.merging.rules import plan_forms, plans
from tasks.merging.rules.plans import Plan

#: As release 0.1.0 wrote it: sorted keys, no spaces.
FIRST = (
    '{"assets":3,"caps":{"share":1.0},"form":1,"groups":[{"action":"quarantine","approvers":[],'
    '"automatic":false,"bytes":7,"duplicates":["b"],"fields":[{"conflict":true,"field":"tags.owner",'
    '"had":"n","kept":"n","others":{"b":"s"},"rule":"fill"}],"fingerprint":"f","group_id":"g1",'
    '"keeper":"a","operations":[{"before":{"etag":"\\"1\\"","headers":{},"held":"","key":"b",'
    '"metadata":{},"size":7,"tags":{"owner":"s"},"version_id":null},"body":null,"content_type":null,'
    '"had":null,"key":"b","kind":"delete","metadata":null,"reason":"copy","tags":null,"to":"q/b"}],'
    '"questions":["tags.owner"],"reasons":["larger"],"refused":"","rule":"all","score":0.875,'
    '"states":[],"tier":"exact"}],"policy":"p 1","quarantine_days":30,"round":0,"scan_id":"s",'
    '"scope":"c","source":"s3://b"}'
)


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def second_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release whose plans call the field ``round`` something else on paper."""

    def to_second(plan: dict[str, Any]) -> dict[str, Any]:
        found = dict(plan)
        return found | {"round": found.pop("attempt", 0) + 10}

    monkeypatch.setattr(plans, "PLAN_FORM", 2)
    monkeypatch.setitem(plan_forms.NEXT_FORM, 1, to_second)


def test_what_was_written_is_what_is_read_and_what_its_hash_names() -> None:
    plan = Plan.from_json(FIRST)
    assert plan.as_json() == FIRST
    assert plan.hash == hash_of(FIRST)
    assert replace(plan, assets=4).hash != plan.hash
    assert plan == replace(plan), "how it was written is no part of what it says"


def test_an_older_form_is_read_and_keeps_its_hash(second_form: None) -> None:
    plan = Plan.from_json(FIRST)
    assert (plan.form, plan.round) == (1, 10)
    assert plan.hash == hash_of(FIRST)
    assert plan.groups[0].operations[0].before.tags == {"owner": "s"}


def test_a_newer_form_is_refused_by_name() -> None:
    text = json.dumps(json.loads(FIRST) | {"form": 2})
    with pytest.raises(ValueError, match=r"form 2, .*knows forms 1 to 1: a newer release made it"):
        Plan.from_json(text)


@pytest.mark.parametrize("text", ["{}", "[]", '{"form":"1"}', '{"form":0}', '{"form":1}', "", "1"])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a merge plan|Expecting value|validation error"):
        Plan.from_json(text)
