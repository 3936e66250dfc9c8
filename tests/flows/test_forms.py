"""The forms of the Prefect UI: what is first, what is below, and what older forms said."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from prefect.context import FlowRunContext
from prefect.utilities.callables import parameter_schema
from prefect.utilities.names import generate_slug

from deployments.wanted import form_of
from flows.check import check_asset
from flows.forms import LookFor, ScanForm
from flows.merge import merge_plan, undo_merge
from flows.scan import full_scan, incremental_scan
from flows.telling import is_random, run_name
from tasks.records import Kind


@pytest.mark.parametrize("flow", [incremental_scan, full_scan, check_asset])
def test_no_field_asks_whether_it_is_a_number_or_nothing(flow):
    told = parameter_schema(flow).model_dump_for_openapi()
    assert '"null"' not in json.dumps(told)
    assert "DAM_DEDUP" not in json.dumps(told)


@pytest.mark.parametrize("flow", [full_scan, check_asset, merge_plan, undo_merge])
def test_no_variable_name_stands_over_a_form(flow):
    """Prefect would write the parameter's name there: "request"."""
    for name, field in form_of(flow)["properties"].items():
        assert field["title"] != name
        assert field["title"][0].isupper()
        assert field["description"][0].isupper()


def test_the_first_fields_are_what_an_admin_decides():
    fields = ScanForm.model_json_schema()["properties"]
    ordered = sorted(fields, key=lambda name: fields[name]["position"])
    assert ordered == ["where", "look_for", "dry_run", "advanced"]
    assert all(field["title"] for field in fields.values())


@pytest.mark.parametrize(
    ("given", "threshold"),
    [
        ({}, None),
        ({"look_for": LookFor.SAME.value}, 0.95),
        ({"look_for": LookFor.RELATED.value, "advanced": {"threshold": 0.8}}, 0.8),
    ],
)
def test_the_choice_of_words_is_a_threshold(given, threshold):
    request = ScanForm.model_validate(given).request(Kind.FULL)
    assert (request.threshold, request.kind, request.mode) == (threshold, Kind.FULL, None)


def test_what_an_older_form_said_is_understood():
    old = {"kind": "full", "where": "size > 9", "fq": ["a:b"], "threshold": None, "mode": "exact"}
    request = ScanForm.model_validate(old).request(Kind.INCREMENTAL)
    assert (request.where, request.fq, request.mode) == ("size > 9", ["a:b"], "exact")
    assert request.kind is Kind.INCREMENTAL, "the flow says which scan it is"
    with pytest.raises(ValueError, match="wehre"):
        ScanForm.model_validate({"wehre": "x"})


def test_names_that_prefect_made_up_are_told_from_those_of_people():
    assert all(is_random(generate_slug(2)) for _ in range(50))
    forms = ("Incredible-Bowfin", "Small-Border Collie", "nu4-jenner-anomaly", "sigma3-chocola")
    assert all(map(is_random, forms))  # filled in by the forms of Prefect's two UIs
    assert not any(map(is_random, ("beta-test", "Incredible", "Spring-Cleaning", "pi-day", "mu4")))
    assert not any(map(is_random, ("test-run", "before the holidays", "Friday", "shoes-again")))


def test_a_run_says_whose_it_is_what_it_does_and_when(monkeypatch):
    monkeypatch.setenv("DAM_DEDUP_COLLECTION", "product-shots")
    monkeypatch.setattr(
        "flows.telling.runtime", SimpleNamespace(flow_run=SimpleNamespace(flow_name="full-scan"))
    )
    run = SimpleNamespace(name=generate_slug(2))
    context = SimpleNamespace(flow_run=run, parameters={"request": ScanForm()})
    monkeypatch.setattr(FlowRunContext, "get", lambda: context)
    collection, what, day = run_name().split(" · ")
    assert (collection, what) == ("Product shots", "full")
    assert day.split()[0].isdigit()
    run.name = "by hand"
    assert run_name() == "by hand"
