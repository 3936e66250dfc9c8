"""Merging files with names that shells, URLs, XML and SQL would trip over."""

from __future__ import annotations

import shutil
import unicodedata
from typing import Any

import pytest

from tasks.merging.quarantine import list_quarantine
from tasks.merging.recover import recover
from tests.merging.conftest import png, sidecar
from tests.sources.test_store import ODD

NAMES = [*ODD, unicodedata.normalize("NFC", "Zoë.jpg"), "-rf *.png", ".hidden.png"]
POLICY = """
version: 1
name: by prefix
minimum_age_hours: 0
caps: {share: 1.0}
quarantine: {prefix: "%s"}
rules:
  - {name: all, keeper: [{prefix: [k/]}], action: quarantine}
"""


@pytest.mark.long
@pytest.mark.parametrize("prefix", [".dam-dedup/quarantine/", "bin+50%/it's <old>/日本/"])
def test_odd_names_are_merged_recovered_and_undone(make_site: Any, prefix: str) -> None:
    site = make_site("plain")
    for seed, name in enumerate(NAMES):
        for folder in "kd":
            key = f"{folder}/{name}"
            site.put(key, png(seed), {"word": folder}, {"n": folder}, ContentType="image/png")
        site.put(f"d/{name}.xmp", sidecar(f"word {seed}"), ContentType="application/rdf+xml")
    before = site.snapshot()
    site.list()
    plan = site.plan(policy=POLICY % prefix)
    assert {group.keeper for group in plan.groups} == {f"k/{name}" for name in NAMES}
    site.approve(plan)
    assert site.merge(plan).complete
    left = site.keys()
    assert not [key for key in left if key.startswith("d/")]
    held = list_quarantine(site.settings)
    assert {entry.key for entry in held} == {key for key in before if key.startswith("d/")}
    site.list()  # what is in quarantine is no asset, whatever its place is called
    assert not site.plan(policy=POLICY % prefix).groups
    shutil.rmtree(site.settings.catalog.uri)
    assert set(recover(site.settings, f"s3://{site.bucket}").plans) == {plan.id}
    assert list_quarantine(site.settings) == held
    assert {one.state for one in site.undo(plan.id)} == {"undone"}
    assert site.snapshot() == before
