"""Features, and where one picture lies in another."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tasks.dedup.align import Alignment, _mutual_matches, align, align_either
from tasks.dedup.compare import compare_pixels
from tasks.dedup.features import extract_features


def warped(image: Image.Image, matrix: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """The picture with each of its pixel centres moved by a (2, 3) matrix."""
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    # Pillow counts from the corner of a pixel, a matrix here from its centre.
    back[:2, 2] += 0.5 - back[:2, :2] @ (0.5, 0.5)
    return image.transform(
        size, Image.Transform.AFFINE, tuple(back[:2].ravel()), Image.Resampling.BICUBIC
    )


def off(found: np.ndarray, wanted: np.ndarray, size: tuple[int, int]) -> float:
    """The largest error of a corner, in pixels."""
    width, height = size
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]])
    return float(np.linalg.norm(corners @ (found - wanted).T, axis=1).max())


def turn(degrees: float, scale: float, x: float, y: float) -> np.ndarray:
    a = math.radians(degrees)
    return np.array(
        [
            [scale * math.cos(a), -scale * math.sin(a), x],
            [scale * math.sin(a), scale * math.cos(a), y],
        ]
    )


@pytest.mark.parametrize("seed", range(3))
def test_pictures_have_many_features_of_unit_length(photo, known, seed):
    features = known(photo(seed))
    assert 100 < len(features.points) <= 500
    lengths = np.linalg.norm(features.descriptors.astype(np.float32), axis=1)
    assert np.allclose(lengths, 1, atol=1e-2)
    assert features.size == (320, 240)


def test_large_thumbnails_are_reduced(photo):
    buffer = io.BytesIO()
    photo(0).resize((800, 600)).save(buffer, "JPEG")
    assert extract_features(buffer.getvalue()).size == (384, 288)


def test_the_same_bytes_have_the_same_features(photo):
    buffer = io.BytesIO()
    photo(0).save(buffer, "JPEG")
    one, two = (extract_features(buffer.getvalue()) for _ in range(2))
    assert np.array_equal(one.points, two.points)
    assert np.array_equal(one.descriptors, two.descriptors)


def test_a_flat_picture_has_no_features_and_fits_nothing(photo, known):
    flat = known(Image.new("RGB", (300, 200), "#604020"))
    assert flat.points.shape == (0, 4)
    assert flat.descriptors.shape == (0, 128)
    assert flat.mirrored().points.shape == (0, 4)
    assert align_either(flat, known(photo(0))) is None


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match="not a JPEG"):
        extract_features(b"no picture")


@pytest.mark.parametrize("seed", range(3))
def test_mirrored_features_are_those_of_the_mirrored_picture(photo, known, seed):
    turned = known(photo(seed)).mirrored()
    real = known(ImageOps.mirror(photo(seed)))
    similar = turned.descriptors.astype(np.float32) @ real.descriptors.astype(np.float32).T
    best = similar.argmax(axis=1)
    good = similar.max(axis=1) > 0.95
    apart = np.linalg.norm(turned.points[:, :2] - real.points[best, :2], axis=1)
    angle = np.angle(np.exp(1j * (turned.points[:, 3] - real.points[best, 3])))
    assert np.mean(good & (apart < 1)) > 0.7
    assert np.median(np.abs(angle[good & (apart < 1)])) < 0.05
    found = align(turned, real, mirrored=True)
    assert off(found.matrix, np.eye(2, 3), turned.size) < 0.5


def test_mirrored_twice_is_as_before(photo, known):
    once = known(photo(0))
    twice = once.mirrored().mirrored()
    assert np.array_equal(twice.rgb, once.rgb)
    assert np.array_equal(twice.descriptors, once.descriptors)
    assert np.allclose(twice.points, once.points, atol=1e-3)


@pytest.mark.parametrize(
    "matrix",
    [
        turn(0, 1, 0, 0),
        turn(0, 1, 37.3, -20.6),
        turn(17, 0.9, 60, 10),
        turn(-140, 0.8, 300, 260),
        turn(0, 0.5, 11, 20),
        np.array([[1.1, 0, 3], [0, 0.85, 8.5]]),
    ],
    ids=["as it is", "shift", "turn", "far turn", "half", "stretch"],
)
def test_a_known_affine_is_recovered_within_a_pixel(photo, known, matrix):
    right = known(warped(photo(1), matrix, (360, 270)))
    left = known(photo(1))
    found = align(left, right, mirrored=False)
    assert found.inliers >= 40
    assert found.others <= 0.15 * found.inliers
    assert off(found.matrix, matrix, left.size) < 1
    likeness = compare_pixels(left, right, found)
    assert off(likeness.matrix, matrix, left.size) < 1, "the pixels make it no worse"
    assert likeness.agree > 0.95


def test_a_mirrored_affine_is_recovered_within_a_pixel(photo, known):
    matrix = turn(10, 0.9, 50, 5)
    left, right = known(photo(2)), known(warped(ImageOps.mirror(photo(2)), matrix, (360, 270)))
    aligned, found = align_either(left, right)
    assert found.mirrored
    assert np.array_equal(aligned.rgb, left.rgb[:, ::-1])
    assert off(found.matrix, matrix, left.size) < 1


def test_another_picture_does_not_fit(photo, known):
    found = align_either(known(photo(0)), known(photo(1)))
    assert found is None or found[1].inliers < 12


def test_the_same_pair_gives_the_same_fit(photo, known):
    left, right = known(photo(0)), known(photo(0).rotate(7))
    one, two = (align(left, right, mirrored=False) for _ in range(2))
    assert np.array_equal(one.matrix, two.matrix)
    assert (one.inliers, one.residual, one.others) == (two.inliers, two.residual, two.others)


def test_what_lies_over_another_picture_by_chance_is_not_compared(photo, known):
    left, right = known(photo(0)), known(photo(1))
    on_one_another = Alignment(turn(0, 1, 0, 0), False, 6, 6, 1.0, 0)
    assert compare_pixels(left, right, on_one_another) is None
    assert compare_pixels(left, left, on_one_another) is not None


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_matches_are_mutual_and_clearly_the_best(n, m, seed):
    rng = np.random.default_rng(seed)
    right = rng.normal(size=(m, 8)).astype(np.float32)
    left = right[rng.integers(0, m, n)] + rng.normal(scale=0.3, size=(n, 8)).astype(np.float32)
    left, right = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (left, right))
    cosines = left @ right.T
    wanted = {
        (i, j)
        for i, j in enumerate(cosines.argmax(1))
        if cosines[:, j].argmax() == i
        and 1 - cosines[i, j] < 0.85**2 * (1 - np.delete(cosines[i], j).max())
    }
    assert (
        set(zip(*(side.tolist() for side in _mutual_matches(left, right)), strict=True)) == wanted
    )
