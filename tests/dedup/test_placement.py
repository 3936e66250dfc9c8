"""Where one picture lies in another, found again from what the evidence keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.dedup.evidence import Evidence, _overlap
from tasks.dedup.placement import IDENTITY, inverse, placement

LEFT, RIGHT = (384, 288), (300, 384)
#: Values that have no part in it.
_REST = {
    "method": "features",
    "shear": 0.0,
    "inliers": 90,
    "matches": 99,
    "others": 0,
    "residual": 0.3,
    "agree": 1.0,
    "agree_else": 1.0,
    "fine": 1.0,
    "texture": 1.0,
    "parallax": 0.0,
    "covered": 0.0,
    "covered_at": (0.5, 0.5),
    "gain": 0.0,
    "contrast": 1.0,
    "saturation": 1.0,
    "hue_error": 0.0,
    "tint": 0.0,
    "sharpness": 1.0,
    "ink": 0.0,
}


class _Size:
    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size


def evidence_of(matrix: np.ndarray, mirrored: bool) -> Evidence:
    """The evidence that is kept of a map from left's pixels (mirrored first) to right's."""
    across, down = matrix[:, 0], matrix[:, 1]
    wide, high = float(np.linalg.norm(across)), float(np.linalg.norm(down))
    share_left, share_right, box_left, box_right = _overlap(_Size(LEFT), _Size(RIGHT), matrix)
    if mirrored:
        box_left = (1 - box_left[2], box_left[1], 1 - box_left[0], box_left[3])
    return Evidence(
        scale=math.sqrt(wide * high),
        rotation=math.degrees(math.atan2(across[1], across[0])),
        mirrored=mirrored,
        aspect=wide / high,
        share_left=share_left,
        share_right=share_right,
        box_left=box_left,
        box_right=box_right,
        **_REST,
    )


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    ("turn", "scale", "shift"),
    [
        (0, 1.0, (0, 0)),
        (0, 0.6, (20, 90)),  # placed in a larger frame
        (0, 1.7, (-150, -60)),  # cropped
        (0, 1.0, (-120, 60)),  # shifted: neither holds the other
        (90, 0.9, (290, 10)),
        (180, 1.0, (350, 330)),
        (7, 0.8, (30, 40)),
        (-12, 1.5, (-100, 20)),
        (25, 0.5, (120, 60)),
    ],
)
def test_the_map_is_found_again(turn, scale, shift, mirrored):
    angle = math.radians(turn)
    matrix = np.array(
        [
            [scale * math.cos(angle), -scale * math.sin(angle), shift[0]],
            [scale * math.sin(angle), scale * math.cos(angle), shift[1]],
        ]
    )
    found = placement(evidence_of(matrix, mirrored), LEFT, RIGHT)
    a, b, c, d, e, f = found
    for x, y in ((0.2, 0.3), (0.5, 0.5), (0.9, 0.6)):
        across = (1 - x if mirrored else x) * LEFT[0]
        wanted = matrix[:, :2] @ (across, y * LEFT[1]) + matrix[:, 2]
        there = np.array([a * x + c * y + e, b * x + d * y + f]) * RIGHT
        assert np.abs(there - wanted).max() < 4, "pixels of the thumbnail"
    assert np.allclose(inverse(inverse(found)), found)


def test_large_pictures_are_as_their_thumbnails():
    matrix = np.array([[0.5, 0, 10], [0, 0.5, 20]])
    evidence = evidence_of(matrix, mirrored=False)
    small = placement(evidence, LEFT, RIGHT)
    assert placement(evidence, (LEFT[0] * 10, LEFT[1] * 10), RIGHT) == pytest.approx(small)


def test_no_map_has_no_way_back():
    assert inverse((0.0, 0.0, 0.0, 0.0, 0.5, 0.5)) == IDENTITY
