"""What was measured of a pair, as data that is stored and shown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

import numpy as np

from tasks.dedup.align import Alignment, Matrix
from tasks.dedup.compare import Likeness
from tasks.dedup.features import Features

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a pair is, or is not, one picture; right is described against left.

    Attributes:
        method: ``features`` (local features), ``whole`` (frame on frame), ``flat`` (no texture).
        scale: right's pixels per pixel of left, on thumbnails of at most 384 pixels.
        rotation: of right against left (mirrored first, if so), degrees, -180..180.
        mirrored: left to right.
        aspect: how much wider right was made than left.
        shear: degrees; no copy has any.
        share_left: share of left that right shows.
        share_right: share of right that left shows.
        box_left: where they meet, in left: x0, y0, x1, y1 in 0..1.
        box_right: where they meet, in right.
        inliers: matching features that agree on the fit.
        matches: matching features in all.
        others: features that agree on another motion.
        residual: error of the inliers, pixels.
        agree, agree_else, fine, texture, parallax, covered, covered_at, gain, contrast,
        saturation, hue_error, tint, sharpness, ink, replaced, changed, own: see
            :class:`~tasks.dedup.compare.Likeness`.
        excess: the most that a place differs, in units of the pair's own noise.
        differs: ``ink``, ``left``, ``right`` or ``tone`` where a place stands out, see
            :class:`~tasks.dedup.differences.Difference`; empty: nowhere.
        differs_at: centre of that place, 0..1 of the right picture's width and height.
        differs_share: share of the common area that stands out.
        plain: whether both pictures have one tone around that place.
        page: whether both are ink on paper, see :func:`~tasks.dedup.differences.is_page`.
        recoloured: share of a thing whose tone changed on a ground that did not.
        uneven: share of the detailed area that is sharper or softer than the rest lets expect.
        besides: whether the two files hold different things that the pictures do not show.
        around_left: what left shows around right: -1 (more of the picture) to 1 (a frame), see
            :func:`~tasks.dedup.surroundings.look_around`.
        around_right: what right shows around left.
        overlaid: share of the common area in which the two differ beyond their tones.
        overlay: which of them has something laid over it there: positive right, negative left, see
            :class:`~tasks.dedup.overlay.Overlay`.
        lost: how much detail right has lost against left: fine along rows, fine along columns, and
            less fine, see :func:`~tasks.dedup.detail.compare_detail`; None: not comparable.
        proof: what the originals said: ``same``, ``differs``, ``reads``, ``unknown`` or
            ``unreadable``; empty: they were not compared.
        proof_box: around what differs most at full size, in right: x0, y0, x1, y1 in 0..1.
        see_through: share of the common area that is more transparent in one than in the other.
        veil: share of the area that lies under a pattern laid over all of one picture, such as a
            tiled watermark; what else is measured is measured without it.
        veiled: which picture that is: ``left``, ``right``, ``both``, or empty.
        both_transparent: whether neither is opaque everywhere.
    """

    method: str
    scale: float
    rotation: float
    mirrored: bool
    aspect: float
    shear: float
    share_left: float
    share_right: float
    box_left: Box
    box_right: Box
    inliers: int
    matches: int
    others: int
    residual: float
    agree: float
    agree_else: float
    fine: float
    texture: float
    parallax: float
    covered: float
    covered_at: tuple[float, float]
    gain: float
    contrast: float
    saturation: float
    hue_error: float
    tint: float
    sharpness: float
    ink: float
    replaced: float = 0.0  # evidence of before does not say
    changed: float = 0.0
    own: float = 0.0
    excess: float = 0.0
    differs: str = ""
    differs_at: tuple[float, float] = (0.5, 0.5)
    differs_share: float = 0.0
    plain: bool = False
    page: bool = False
    recoloured: float = 0.0
    uneven: float = 0.0
    besides: bool = False
    around_left: float = 0.0
    around_right: float = 0.0
    overlaid: float = 0.0
    overlay: float = 0.0
    lost: tuple[float, float, float] | None = None
    proof: str = ""
    proof_box: Box = (0.0, 0.0, 1.0, 1.0)
    see_through: float = 0.0
    both_transparent: bool = False
    veil: float = 0.0
    veiled: str = ""

    def as_json(self) -> str:
        """Compact JSON; numbers to four digits."""
        data = asdict(self)
        if not self.proof:
            del data["proof"], data["proof_box"]
        return json.dumps(_short(data), separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Evidence:
        """What :meth:`as_json` wrote."""
        data = json.loads(text)
        for name in ("box_left", "box_right", "covered_at", "differs_at", "proof_box", "lost"):
            if data.get(name) is not None:  # evidence of before does not say
                data[name] = tuple(data[name])
        known = {field.name for field in fields(Evidence)} & set(data)
        return Evidence(**{name: data[name] for name in known})


def _short(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_short(inner) for inner in value]
    return value


def gather(
    left: Features, right: Features, found: Alignment, pixels: Likeness, method: str
) -> Evidence:
    """Put an alignment and the likeness under it into words' raw form.

    Args:
        left: as it was aligned: mirrored where the alignment says so.
        right: the other.
        found: left to right.
        pixels: measured under it.
        method: how the alignment was found.
    """
    matrix = pixels.matrix
    across, down = matrix[:, 0], matrix[:, 1]
    wide, high = float(np.linalg.norm(across)), float(np.linalg.norm(down))
    lean = float(across @ down) / max(wide * high, 1e-9)
    share_left, share_right, box_left, box_right = _overlap(left, right, matrix)
    if found.mirrored:
        box_left = (1 - box_left[2], box_left[1], 1 - box_left[0], box_left[3])
    return Evidence(
        method=method,
        scale=float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))),
        rotation=float(np.degrees(np.arctan2(across[1], across[0]))),
        mirrored=found.mirrored,
        aspect=wide / max(high, 1e-9),
        shear=float(abs(np.degrees(np.arcsin(np.clip(lean, -1, 1))))),
        share_left=share_left,
        share_right=share_right,
        box_left=box_left,
        box_right=box_right,
        inliers=found.inliers,
        matches=found.matches,
        others=found.others,
        residual=found.residual,
        **{
            field.name: getattr(pixels, field.name)
            for field in fields(pixels)
            if field.name not in {"matrix", "pixels"}
        },
    )


def _overlap(left: Features, right: Features, matrix: Matrix) -> tuple[float, float, Box, Box]:
    """Shares and bounding boxes of what both show."""
    (wide, high), (wide_r, high_r) = left.size, right.size
    corners = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float64)
    there = _clipped(corners @ matrix[:, :2].T + matrix[:, 2], wide_r, high_r)
    if len(there) < 3:
        nothing = (0.0, 0.0, 0.0, 0.0)
        return 0.0, 0.0, nothing, nothing
    area = _area(there)
    here = (there - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    turned = abs(float(np.linalg.det(matrix[:, :2])))
    return (
        float(min(1.0, area / turned / (wide * high))),
        float(min(1.0, area / (wide_r * high_r))),
        _box(here / (wide, high)),
        _box(there / (wide_r, high_r)),
    )


def _clipped(polygon: Matrix, wide: float, high: float) -> Matrix:
    """A convex polygon inside 0..wide x 0..high (Sutherland and Hodgman, 1974)."""
    for axis, limit, sign in ((0, 0.0, 1), (0, wide, -1), (1, 0.0, 1), (1, high, -1)):
        inside = sign * (polygon[:, axis] - limit)
        kept = []
        for now, after in zip(
            range(len(polygon)), np.roll(np.arange(len(polygon)), -1), strict=True
        ):
            if inside[now] >= 0:
                kept.append(polygon[now])
            if (inside[now] >= 0) != (inside[after] >= 0):
                part = inside[now] / (inside[now] - inside[after])
                kept.append(polygon[now] + part * (polygon[after] - polygon[now]))
        polygon = np.array(kept).reshape(-1, 2)
        if len(polygon) < 3:
            break
    return polygon


def _area(polygon: Matrix) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _box(points: Matrix) -> Box:
    low, high = np.clip(points.min(axis=0), 0, 1), np.clip(points.max(axis=0), 0, 1)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
