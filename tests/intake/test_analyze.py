"""Analyses as documents: what comes back is what was made, and nothing else is believed."""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import SecretStr

from tasks.errors import AnalysisError, ImageError
from tasks.intake.analyze import Analyzer, _seal, analysis_json, read_analysis
from tasks.intake.seal import sealing_key
from tasks.settings import load_settings
from tests.conftest import blobs

SECRET = "s" * 40


def png(seed: int, size: int = 160) -> bytes:
    body = io.BytesIO()
    blobs(seed).resize((size, size)).save(body, "PNG")
    return body.getvalue()


@pytest.fixture
def here(library, monkeypatch):
    """Settings with a model that costs nothing."""
    monkeypatch.setenv("DAM_DEDUP_EMBEDDING__DECODERS", "1")
    embedding = {"model": str(library.model), "pooling": "cls", "device": "cpu", "decoders": 1}
    return load_settings(
        embedding=embedding, catalog={"uri": str(library.folder.parent / "catalog")}
    )


@pytest.fixture
def analysis(here):
    with Analyzer(here) as analyzer:
        (made,) = analyzer.analyze([png(1)])
    return made


def sealed(here):
    gate = here.gate.model_copy(update={"secret": SecretStr(SECRET)})
    return here.model_copy(update={"gate": gate})


def equal(one, other) -> bool:
    bare = [replace(a, vector=None, picture=replace(a.picture, pixels=None)) for a in (one, other)]
    return bare[0] == bare[1] and np.array_equal(one.vector, other.vector)


def test_many_are_analysed_at_once_and_each_failure_is_its_own(here):
    files = [png(1), b"no image", png(2), png(1)[:80], png(3)]
    with Analyzer(here) as analyzer:
        found = analyzer.analyze(files)
        alone = [analyzer.analyze([data])[0] for data in files]
        assert analyzer.analyze([]) == []
    assert [isinstance(one, ImageError) for one in found] == [False, True, False, True, False]
    assert found[1].reason == "format_not_supported"
    for data, one, other in zip(files, found, alone, strict=True):
        if isinstance(one, ImageError):
            assert isinstance(other, ImageError)
            continue
        assert one.picture.sha256 == hashlib.sha256(data).hexdigest()
        assert (one.size, one.picture.pixels.size) == (len(data), 0)
        assert np.allclose(one.vector, other.vector, atol=1e-2)


def test_too_many_bytes_are_refused_before_they_are_decoded(here):
    small = here.model_copy(update={"limits": here.limits.model_copy(update={"bytes": 100})})
    with Analyzer(small) as analyzer:
        (found,) = analyzer.analyze([png(1)])
    assert isinstance(found, ImageError)
    assert found.reason == "too_many_bytes"


def test_a_document_gives_the_analysis_back_however_it_is_written(here, analysis):
    for settings in (here, sealed(here)):
        document = analysis_json(analysis, settings)
        assert equal(read_analysis(document, settings, analysis.space), analysis)
        written = json.dumps(dict(reversed(document.items())), indent=3, ensure_ascii=False)
        assert equal(read_analysis(json.loads(written), settings, analysis.space), analysis)


CHANGES = [
    ("size", 1),
    ("thumbnail", ""),
    ("vector", ""),
    ("reader", 99),
    ("picture.sha256", "0" * 64),
    ("picture.content", "f" * 32),
    ("picture.phash", "0" * 16),
    ("picture.width", 1),
    ("space.dim", 8),
    ("space.model", "other"),
]


@pytest.mark.parametrize(("path", "value"), CHANGES)
def test_every_change_breaks_the_seal(here, analysis, path, value):
    settings = sealed(here)
    document = analysis_json(analysis, settings)
    changed = copy.deepcopy(document)
    place = changed
    for name in path.split(".")[:-1]:
        place = place[name]
    place[path.split(".")[-1]] = value
    with pytest.raises(AnalysisError, match="changed after it was made"):
        read_analysis(changed, settings, analysis.space)
    other = changed | {"seal": _seal(changed, here)}
    with pytest.raises(AnalysisError, match="sealed with another"):
        read_analysis(other, settings, analysis.space)


def test_without_a_secret_a_seal_needs_the_key_that_is_kept_with_the_catalog(here, analysis):
    document = analysis_json(analysis, here)
    kept = Path(here.catalog.uri) / ".seal.key"
    assert (kept.stat().st_mode & 0o777, len(kept.read_bytes())) == (0o600, 32)
    assert equal(read_analysis(document, here, analysis.space), analysis)
    body = {name: value for name, value in document.items() if name != "seal"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(b"dam-dedup analysis 1\n" + text).hexdigest()
    for seal in (f"sha256:{digest}", "", None):  # what anybody can make
        with pytest.raises(AnalysisError):
            read_analysis(body | {"seal": seal}, here, analysis.space)
    other = here.catalog.model_copy(update={"uri": here.catalog.uri + "-other"})
    with pytest.raises(AnalysisError, match="sealed with another"):
        read_analysis(document, here.model_copy(update={"catalog": other}), analysis.space)


def test_every_gate_of_a_catalog_on_s3_finds_the_same_key(here, s3):
    bucket = s3.bucket()
    catalog = here.catalog.model_copy(update={"uri": f"s3://{bucket}/cat"})
    settings = here.model_copy(update={"catalog": catalog, "s3": s3.settings})
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: sealing_key(settings), range(8)))
    assert len(keys) == 1
    kept = s3.client.get_object(Bucket=bucket, Key="cat/.seal.key")["Body"].read()
    assert keys == {kept}
    assert len(kept) == 32


def test_another_space_is_named(here, analysis):
    document = analysis_json(analysis, here)
    other = replace(analysis.space, revision="0123456789abcdef")
    with pytest.raises(AnalysisError, match=r"another space.*0123456789ab"):
        read_analysis(document, here, other)
    old = document | {"reader": 0}
    with pytest.raises(AnalysisError, match="reader 0"):
        read_analysis(old | {"seal": _seal(old, here)}, here, analysis.space)
    with pytest.raises(AnalysisError, match="version 2"):
        read_analysis(document | {"version": 2}, here, analysis.space)


def _jpeg(side: int) -> str:
    body = io.BytesIO()
    Image.new("RGB", (side, 8)).save(body, "JPEG")
    return base64.b64encode(body.getvalue()).decode()


def _vector(values) -> str:
    return base64.b64encode(np.array(values, "<f2").tobytes()).decode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("picture", []),
        ("picture.sha256", "A" * 64),
        ("picture.sha256", 5),
        ("picture.content", "../" * 10),
        ("picture.phash", "1"),
        ("picture.phash", 2**70),
        ("picture.width", 0),
        ("picture.width", True),
        ("picture.height", 10**9),
        ("picture.format", "svg"),
        ("picture.format", []),
        ("picture.mode", None),
        ("picture.quality", 101),
        ("picture.flags", "flat"),
        ("picture.flags", ["x"] * 99),
        ("picture.exif", {"a": 1}),
        ("picture.xmp", {"a": "x" * 10**6}),
        ("picture.xmp", []),
        ("picture.mode", "\ud800"),
        ("size", 0),
        ("size", 1.5),
        ("size", 10**18),
        ("thumbnail", "%%%"),
        ("thumbnail", "A" * 10**7),
        ("thumbnail", None),
        ("thumbnail", base64.b64encode(b"\x89PNG").decode()),
        ("thumbnail", _jpeg(385)),
        ("vector", _vector([1] * 31)),
        ("vector", _vector([0] * 32)),
        ("vector", 7),
        ("vector", _vector([float("nan")] * 32)),
        ("vector", _vector([1] * 32)),
        ("space", None),
        ("space.dim", "32"),
        ("space.extra", 1),
    ],
)
def test_wrong_values_are_refused_even_with_a_right_seal(here, analysis, path, value):
    """A seal tells who wrote a document, not that its values make sense."""
    document = copy.deepcopy(analysis_json(analysis, here))
    place = document
    for name in path.split(".")[:-1]:
        place = place[name]
    place[path.split(".")[-1]] = value
    document["seal"] = _seal(document, here)
    with pytest.raises(AnalysisError):
        read_analysis(document, here, analysis.space)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_whatever_is_sent_is_an_analysis_or_an_analysis_error(here, analysis, data):
    document: object = data.draw(JSON)
    if data.draw(st.booleans()):
        whole = copy.deepcopy(analysis_json(analysis, here))
        part = whole if data.draw(st.booleans()) else whole["picture"]
        part[data.draw(st.sampled_from(sorted(part)))] = document
        document = whole
        with contextlib.suppress(TypeError, ValueError):
            whole["seal"] = _seal(whole, here)
    with contextlib.suppress(AnalysisError):
        assert read_analysis(document, here, analysis.space).space == analysis.space
