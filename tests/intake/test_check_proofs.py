"""Checks prove what claims to be the same picture, where its bytes are at hand."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from tasks.intake.analyze import Analyzer
from tasks.intake.check import Checker
from tasks.intake.update import update_asset
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


def test_a_collection_has_no_bytes_to_prove_with(site):
    settings, analysis = site
    with Analyzer(settings) as analyzer:
        (kept,) = analyzer.analyze([webp(0)])
    update_asset(settings, kept, "id/1", source="gate://shop")
    assert tier(settings, analysis, "gate://shop") == "near"
    assert tier(settings, kept, "gate://shop") == "exact"  # equal bytes need no proof


def webp(seed: int) -> bytes:
    body = io.BytesIO()
    blobs(seed).save(body, "WEBP", quality=95)
    return body.getvalue()


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
