"""The forms of the Prefect UI, as its server keeps them."""

from __future__ import annotations

import inspect
import json

import pytest
from pydantic import BaseModel

from tasks import requests

FORMS = [
    one
    for _, one in inspect.getmembers(requests, inspect.isclass)
    if issubclass(one, BaseModel) and one.__module__ == requests.__name__ and one.model_fields
]


def test_there_are_forms() -> None:
    assert {form.__name__ for form in FORMS} >= {"ScanRequest", "MergeRequest", "UndoRequest"}


@pytest.mark.parametrize("form", FORMS)
def test_every_field_is_named_and_explained(form: type[BaseModel]) -> None:
    for name, field in form.model_fields.items():
        assert field.title, name
        assert field.description, name
        assert "DAM_DEDUP_" not in field.description, "an admin sees no variables"
        assert "DAM_DEDUP_" not in (form.__doc__ or "")


@pytest.mark.parametrize("form", FORMS)
def test_fields_keep_their_order_where_keys_are_sorted(form: type[BaseModel]) -> None:
    """PostgreSQL's JSONB keeps keys by length, then by name."""
    kept = json.loads(json.dumps(form.model_json_schema()))["properties"]
    stored = dict(sorted(kept.items(), key=lambda item: (len(item[0]), item[0])))
    shown = sorted(stored, key=lambda name: stored[name]["position"])
    assert shown == list(form.model_fields)
