"""Catalogs that merge in one bucket see one another, and a newer release keeps older ones out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deployments import doctor
from tasks.errors import MergeError
from tasks.merging.bucket_register import CATALOGS_PREFIX, read_register
from tasks.session import open_store
from tests.merging.conftest import other_catalog, png
from tests.merging.test_late_hands import POLICY


def of_bucket(site: Any) -> Any:
    """The site's settings, with its bucket as their source."""
    source = site.settings.source.model_copy(update={"uri": f"s3://{site.bucket}"})
    return site.settings.model_copy(update={"source": source})


@pytest.mark.long
def test_every_catalog_that_merges_is_known(
    make_site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site("plain")
    other = other_catalog(site, tmp_path / "other")
    for key in ("a/1.png", "b/1.png"):
        site.put(key, png(1), ContentType="image/png")
    source = f"s3://{site.bucket}"
    assert list(doctor._merging(of_bucket(site))) == []
    for where in (site, other):
        where.list()
        plan = where.plan(policy=POLICY % ('"a/"', "quarantine"), again=True)
        where.approve(plan)
        assert where.merge(plan).complete
        where.undo(plan.id, settle=False)
    found = read_register(open_store(source, site.settings))
    folders = [str(Path(where.settings.catalog.uri).resolve()) for where in (other, site)]
    assert [one.place.partition(":")[2] for one in found] == folders, "the last one first"
    assert found[0].fence > found[1].fence > 0
    (finding,) = doctor._merging(of_bucket(site))
    assert finding.state == "good"
    assert all(folder in finding.detail for folder in folders)
    assert finding.detail.index("this one") > finding.detail.index(folders[1])


def test_an_older_release_does_not_merge_beside_a_newer_one(make_site: Any) -> None:
    site = make_site("plain")
    for key in ("a/1.png", "b/1.png"):
        site.put(key, png(1), ContentType="image/png")
    site.list()
    plan = site.plan(policy=POLICY % ('"a/"', "quarantine"))
    site.approve(plan)
    entry = {"place": "s3://far/catalog", "release": "9.0", "format": 2, "fence": 3, "region": ""}
    site.put(f"{CATALOGS_PREFIX}far.json", json.dumps(entry).encode())
    with pytest.raises(MergeError, match=r"release 9\.0 merges in .* s3://far/catalog.*upgrade"):
        site.merge(plan)
    assert site.keys() == ["a/1.png", "b/1.png"]
    (finding,) = doctor._merging(of_bucket(site))
    assert finding.state == "bad"
