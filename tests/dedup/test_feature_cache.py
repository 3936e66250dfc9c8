from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tasks.dedup.feature_cache import FeatureCache
from tasks.dedup.features import extract_features, pack_local, unpack_local


def thumbnail(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def test_what_nobody_asked_for_longest_is_forgotten() -> None:
    cache = FeatureCache(2)
    for name in "ab":
        cache.make(name, thumbnail(1))
    first = cache.get("a")
    cache.make("c", thumbnail(2))
    assert set(cache.held("abc")) == {"a", "c"}
    assert cache.make("a", thumbnail(3)) is first


def test_what_cannot_be_read_is_not_kept() -> None:
    cache = FeatureCache(2)
    with pytest.raises(ValueError, match="JPEG"):
        cache.make("a", b"no picture")
    assert cache.get("a") is None


def test_threads_share_a_cache_that_is_always_full() -> None:
    cache = FeatureCache(3)
    jpeg = thumbnail(1)

    def use(number: int) -> int:
        name = str(number % 7)
        cache.held([name, "0"])
        return cache.make(name, jpeg).size[0]

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(use, range(60))) == {64}
    assert len(cache.held("0123456")) == 3


def test_packed_features_are_the_picture_s_own(photo) -> None:
    for image in (photo(0), photo(1).resize((20, 16)), Image.new("RGB", (80, 60), "white")):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        jpeg = buffer.getvalue()
        looked, packed = extract_features(jpeg), pack_local(jpeg)
        handed = extract_features(jpeg, packed)
        assert len(packed) <= 72_002
        assert np.array_equal(looked.points, handed.points)
        assert np.array_equal(looked.descriptors, handed.descriptors)
        assert np.array_equal(looked.rgb, handed.rgb)
        assert looked.enlarged == handed.enlarged


@pytest.mark.parametrize("packed", [b"\x01", b"\xff\xff" + bytes(144), bytes(2) + b"x"])
def test_what_is_no_packed_features_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="packed"):
        unpack_local(packed)
