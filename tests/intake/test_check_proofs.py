"""Checks prove what claims to be the same picture, where its bytes are at hand."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from tasks.intake import update
from tasks.intake.analyze import Analyzer
from tasks.intake.check import Checker
from tasks.intake.update import remove_assets, update_asset
from tasks.records import CheckQuestion
from tasks.session import open_catalog
from tests.conftest import blobs


def jpeg(seed: int) -> bytes:
    body = io.BytesIO()
    blobs(seed).save(body, "JPEG", quality=80)
    return body.getvalue()


@pytest.fixture
def site(library):
    """Settings of a scanned folder with one picture, and an upload's analysis: its JPEG."""
    library.add("a.png", 0)
    library.add("b.png", 1)
    outcome = library.scan()
    source = {"uri": outcome.scan.source}
    settings = outcome.scan.settings
    settings = settings.model_copy(update={"source": settings.source.model_copy(update=source)})
    with Analyzer(settings) as analyzer:
        (analysis,) = analyzer.analyze([jpeg(0)])
        yield settings, analysis


def tier(settings, analysis, source: str = "") -> str:
    checker = Checker(settings)
    (found,) = checker.check(analysis, CheckQuestion(source=source)).found
    checker.close()
    return found.tier


def test_an_upload_is_proven_while_its_bytes_are_at_hand(site):
    settings, analysis = site
    assert tier(settings, analysis) == "exact"
    # What travelled as a document brings no bytes: nothing is proven, and nothing is exact.
    assert tier(settings, replace(analysis, original=None)) == "near"
    assert open_catalog(settings).count("proofs") == 0  # of what is not in the catalog, nothing


def test_a_collections_asset_is_proven_by_the_picture_that_was_kept_of_it(site, monkeypatch):
    settings, analysis = site
    with Analyzer(settings) as analyzer:
        (kept,) = analyzer.analyze([webp(0)])
        (large,) = analyzer.analyze([jpeg(1)])
        # What travelled as a document brings no file, and what has none of it is not proven.
        update_asset(settings, replace(kept, original=None), "id/1", source="gate://shop")
        assert tier(settings, analysis, "gate://shop") == "near"
        assert tier(settings, kept, "gate://shop") == "exact"  # equal bytes need no proof
        update_asset(settings, kept, "id/1", source="gate://shop")
        assert tier(settings, analysis, "gate://shop") == "exact"
        with monkeypatch.context() as patch:
            patch.setattr(update, "_KEPT_AS_IT_IS", 100)
            update_asset(settings, large, "id/2", source="gate://shop", analyzer=analyzer)
        (anew,) = analyzer.analyze([webp(1)])
    assert tier(settings, anew, "gate://shop") == "exact"
    catalog = open_catalog(settings)
    rows = catalog.read("renditions", ["content", "width", "height"])
    assert rows.filter(content=large.picture.content).row(0)[1:] == (
        large.picture.width,
        large.picture.height,
    )
    update_asset(settings, analysis, "id/1", source="gate://shop")  # shows something else now
    remove_assets(settings, "gate://shop", ["id/2"])
    assert catalog.read("renditions", ["content"])["content"].to_list() == [
        analysis.picture.content
    ]


def webp(seed: int) -> bytes:
    body = io.BytesIO()
    blobs(seed).save(body, "WEBP", quality=95)
    return body.getvalue()


@pytest.mark.long
def test_a_scans_proof_is_used_and_a_checks_is_kept(site, library):
    settings, _ = site
    library.write("a.jpg", jpeg(0))
    library.scan()
    assert open_catalog(settings).count("proofs") == 1
    catalog = open_catalog(settings)
    with catalog.writing():
        catalog.delete_where("proofs", "true")
    checker = Checker(settings)
    (found,) = checker.check_asset("a.jpg", CheckQuestion()).found
    assert (found.key, found.tier) == ("a.png", "exact")
    assert open_catalog(settings).count("proofs") == 1
