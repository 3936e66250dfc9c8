"""Texture and tone, window by window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dedup.windows import Windows, measure_windows, other_tone


def scene() -> np.ndarray:
    """Dark above, bright below; texture on the left, none on the right; float32 (200, 300)."""
    grey = np.tile(np.linspace(50, 210, 200, dtype=np.float32)[:, None], (1, 300))
    grain = np.random.default_rng(3).normal(0, 20, (50, 50)).astype(np.float32)
    grey[:, :200] += np.kron(grain, np.ones((4, 4), np.float32))
    return grey.clip(10, 245)


def ask(left: np.ndarray, right: np.ndarray) -> Windows:
    return measure_windows(left, right, np.ones(left.shape, np.bool_))


@given(gamma=st.floats(0.5, 2), gain=st.floats(0.6, 1))
def test_what_is_done_to_all_tones_is_no_other_tone(gamma, gain):
    left = scene()
    right = (255 * gain * (left / 255) ** gamma).astype(np.float32)
    windows = ask(left, right)
    assert windows.agree[:, :180].mean() > 0.9
    assert other_tone(windows).mean() < 0.01


@pytest.mark.parametrize("other", [60.0, 240.0])
def test_a_flat_thing_of_another_grey_is_another_tone(other):
    left, right = scene(), scene()
    left[60:140, 215:285] = 150.0
    right[60:140, 215:285] = other
    found = other_tone(ask(left, right))
    assert found[70:130, 225:275].mean() > 0.95
    assert found[:, :190].mean() < 0.02


def test_sides_swapped_say_the_same():
    left, right = scene(), scene()[::-1].copy()
    one, two = ask(left, right), ask(right, left)
    assert np.allclose(one.correlation, two.correlation, atol=1e-4)
    assert (one.textured == two.textured).all()
    assert (one.left_textured == two.right_textured).all()
    assert (other_tone(one) == other_tone(two)).all()


def test_without_common_texture_no_tone_is_judged():
    flat = np.full((100, 100), 90, np.float32)
    assert not other_tone(ask(flat, flat + 80)).any()


def test_texture_of_one_side_is_its_own():
    left, right = scene(), scene()
    right[:, :200] = 120.0
    windows = ask(left, right)
    assert windows.left_textured[:, 10:180].mean() > 0.95
    assert not windows.right_textured[:, 10:180].any()
    assert windows.unlike[:, 10:180].all()
