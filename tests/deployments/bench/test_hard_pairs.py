"""Hard negatives of the fit: one template on different pictures, documents for fitting."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from deployments.bench import hard_pairs
from deployments.bench.documents import features_of
from deployments.bench.hard_pairs import document_pairs, measure_hard_pairs, template_pairs
from deployments.bench.templates import TEMPLATES
from tests.conftest import blobs


def body(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_all_pairs_of_each_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_pairs, "TEMPLATES", TEMPLATES[:1])
    for seed in range(4):
        blobs(seed).save(tmp_path / f"{seed}.png")
    shares = TEMPLATES[0][2]
    assert len(list(template_pairs(tmp_path, pictures=3))) == 3 * len(shares)
    for number in (1, 2, 3):
        (tmp_path / f"{number}.png").unlink()
    assert list(template_pairs(tmp_path)) == []


@pytest.mark.long
def test_documents_are_of_the_families_for_fitting(monkeypatch: pytest.MonkeyPatch) -> None:
    fitting = [family for family in hard_pairs.FAMILIES if family.fitting][:1]
    other = [family for family in hard_pairs.FAMILIES if not family.fitting][:1]
    monkeypatch.setattr(hard_pairs, "FAMILIES", [*fitting, *other])
    assert len(list(document_pairs(things=3))) == 3


def test_a_pair_that_is_aligned_tells_the_logits_terms() -> None:
    one, blank = features_of(body(blobs(1))), features_of(body(Image.new("RGB", (200, 150))))
    (terms,) = measure_hard_pairs([(one, one), (one, blank)])
    assert terms["agree"] == pytest.approx(1)
