"""A policy whose filters ask for tags, over assets whose tags could not be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.catalog import schema
from tasks.session import open_catalog, pa_table
from tests.merging.conftest import png


@pytest.mark.parametrize(
    ("where", "told"),
    [("tags.embargo = 'yes'", True), ("label = 'x'", True), ("width > 9", False)],
)
def test_a_group_of_which_the_policy_cannot_say_is_refused(
    site: Any, where: str, told: bool
) -> None:
    """A rule that is to protect the embargoed would pass by them, and the next rule merge them."""
    for number in (1, 2):
        site.put(f"a/{number}.png", png(), ContentType="image/png")
        site.put(f"b/{number}.png", png(1), ContentType="image/png")
    site.list()
    catalog = open_catalog(site.settings)
    rows = catalog.read("assets", schema.LISTING.names, "key = 'a/2.png'").to_dicts()
    with catalog.writing():
        catalog.upsert("assets", pa_table([rows[0] | {"tags": None}], schema.LISTING))
    rule = f"- name: held\n    where: {json.dumps(where)}\n    action: report\n  - name"
    policy = site.template.replace("- name", rule, 1)
    groups = {one.keeper[0]: one for one in site.plan("quarantine", policy).groups}
    if told:
        assert "may not be read" in groups["a"].refused
    else:
        assert not groups["a"].refused
    assert not groups["b"].refused
