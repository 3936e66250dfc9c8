"""A first look at many pairs at once: refuses strangers, and never a copy that can be seen.

Of the pairs that an embedding proposes 95 in 100 have nothing in common. Comparing all local
features of two pictures costs 1.5 ms; here each picture has 200 features of 64 bytes, made once and
kept, and one picture is compared with all its candidates in one matrix product. What at least four
features agree on, and whatever this look cannot judge, is verified in full.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tasks.dedup.features import reflected_cells, use_one_thread
from tasks.process.heap import keep_freed_memory
from tasks.records import THUMBNAIL_SIDE, digest

log = logging.getLogger(__name__)

#: Features of one picture: half of them the largest, half the strongest. Of 900 copies all were
#: kept with these; with the 200 strongest 99.4 %.
MOST = 200
#: Numbers that describe one feature.
NUMBERS = 64
#: Long side in pixels at which features are looked for.
SIDE = 224
#: Features that SIFT describes, among which the 200 are chosen.
_POOL = 250
#: Half of SIFT's usual contrast threshold, as for full features.
_CONTRAST = 0.02
#: Fewer agreeing features are chance. Of 1,189 copies that can be judged all have 4, all but one 7.
LEAST_VOTES = 4
#: Says that a pair cannot be judged.
UNJUDGED = -1
#: A picture with fewer features than this cannot be judged by them.
_LEAST_FEATURES = 40
#: Matches of a pair whose motions are compared, the most alike.
_MATCHES = 48
#: A proposal's tolerance in pixels, and beyond that per pixel of distance from its feature.
_NEAR_TOLERANCE, _FAR_TOLERANCE = 6.0, 0.12
#: Two features that match are this much alike, at least. It lets 4 votes be enough: of pairs drawn
#: at random 1.5 % have them, half of these copies; without it 2.4 %.
_ALIKE = 0.6
#: Matches that agree grow alike, as a logarithm, and turn alike, in radians.
_GROWS_ALIKE, _TURNS_ALIKE = 0.5, 0.35
#: A little less than what frame-on-frame comparison asks for (:mod:`tasks.dedup.verify`).
_LIKELY, _SHAPES = 0.79, 0.042
#: A picture so many times as long as the other shows it in other detail.
_ZOOM = 1.8
#: Pixels and radians to the integers they are kept as.
_PER_PIXEL, _PER_RADIAN = 64.0, 65536 / (2 * math.pi)
#: Products of one look: more do not fit the processor's cache.
_AT_ONCE = 8
#: Keeps a place without a feature from being anyone's match.
_NEVER = -4.0

#: One picture's compact features: 15,558 bytes. ``points``: x, y and scale in 1/64 pixel, angle in
#: 1/65536 of a turn. ``coarse``: grey levels at 24 x 24, their mean taken away.
RECORD = np.dtype(
    [
        ("width", "<u2"),
        ("height", "<u2"),
        ("count", "<u2"),
        ("coarse", "<f2", (24, 24)),
        ("points", "<u2", (MOST, 4)),
        ("descriptors", "i1", (MOST, NUMBERS)),
    ]
)

#: Packed features of a picture that has none.
NOTHING = bytes(RECORD.fields["points"][1])  # type: ignore[index]

Floats = npt.NDArray[np.float32]
#: One picture's features, of the form of :data:`RECORD`, and those of many.
Record = np.void
Records = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Basis:
    """What descriptors are projected by.

    Attributes:
        mean: float32 (128,).
        axes: float32 (128, 64); the first ``even`` of them do not change when a picture is
            mirrored, the others change their sign.
        even: how many do not change.
    """

    mean: Floats
    axes: Floats
    even: int


@cache
def features_rule() -> str:
    """Names how compact features are made: those of another rule are made anew."""
    shipped = _shipped().read_bytes().hex()
    return digest("compact-1", str(SIDE), str(_POOL), str(MOST), str(NUMBERS), shipped)[:12]


def look_rule() -> str:
    """Names how pairs are looked at; part of the rule under which their answers are kept."""
    least, near = (LEAST_VOTES, _LEAST_FEATURES, _MATCHES), (_NEAR_TOLERANCE, _FAR_TOLERANCE)
    parts = (least, near, _GROWS_ALIKE, _TURNS_ALIKE, _LIKELY, _SHAPES, _ZOOM, _ALIKE)
    return digest("look-1", features_rule(), repr(parts))[:12]


def _shipped() -> Path:
    return Path(__file__).with_name("first_look.npz")


@cache
def basis() -> Basis:
    """The basis this release ships; ``deployments/bench/basis.py`` made it."""
    with np.load(_shipped()) as data:
        axes = data["axes"].astype(np.float32)
        return Basis(data["mean"].astype(np.float32), axes, int(data["even"]))


def make_basis(descriptors: Floats) -> Basis:
    """Principal components of descriptors and of their mirror images.

    With the mirror images among them, each component is even or odd under mirroring. So the
    products of a pair's even and odd parts give, added, its likeness as it is and, subtracted, its
    likeness mirrored: both for the price of one.

    Args:
        descriptors: float32 (n, 128), RootSIFT.
    """
    turn = reflected_cells()
    both = np.concatenate([descriptors, descriptors[:, turn]]).astype(np.float64)
    mean = both.mean(axis=0)
    spread = np.cov(both - mean, rowvar=False)
    mirror = np.eye(128)[:, turn]
    found = []
    for sign in (1, -1):
        # Projecting on the even (odd) half first keeps equal components from mixing.
        half = (np.eye(128) + sign * mirror) / 2
        values, vectors = np.linalg.eigh(half @ spread @ half)
        found += [(value, sign, vectors[:, at]) for at, value in enumerate(values)]
    best = sorted(found, key=lambda one: -one[0])[:NUMBERS]
    ordered = sorted(best, key=lambda one: -one[1])
    axes = np.column_stack([vector for _, _, vector in ordered])
    return Basis(
        mean.astype(np.float32), axes.astype(np.float32), sum(sign > 0 for _, sign, _ in best)
    )


_own = threading.local()


def _sift() -> Any:
    """The thread's own: OpenCV's objects hold state, and crash when they are shared."""
    if not hasattr(_own, "sift"):
        _own.sift = cv2.SIFT_create(  # type: ignore[attr-defined]
            nfeatures=_POOL, contrastThreshold=_CONTRAST, enable_precise_upscale=True
        )
    return _own.sift


def compact_features(jpeg: bytes) -> bytes:
    """The compact features of a stored thumbnail, as they are kept: at most 15,558 bytes.

    Raises:
        ValueError: when the bytes are no picture.
    """
    use_one_thread()
    keep_freed_memory()
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError("not a JPEG")
    record = np.zeros(1, RECORD)
    # As the full features are: of a thumbnail that is too large, what it would be.
    shown = min(1.0, THUMBNAIL_SIDE / max(bgr.shape[:2]))
    record["height"], record["width"] = np.maximum(1, np.rint(np.multiply(bgr.shape[:2], shown)))
    small = cv2.resize(bgr, (24, 24), interpolation=cv2.INTER_AREA)
    coarse = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    record["coarse"] = coarse - coarse.mean()
    grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    scale = SIDE / max(grey.shape)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    found, raw = _sift().detectAndCompute(grey, None)
    if raw is not None:
        chosen = _chosen([point.size for point in found], [point.response for point in found])
        points = [found[at] for at in chosen]
        across, down = record["width"][0] / grey.shape[1], record["height"][0] / grey.shape[0]
        placed = [
            (p.pt[0] * across, p.pt[1] * down, p.size / 2 * across, np.deg2rad(p.angle))
            for p in points
        ]
        steps = (_PER_PIXEL, _PER_PIXEL, _PER_PIXEL, _PER_RADIAN)
        whole = np.rint(np.array(placed) * steps).astype(np.int64)
        whole[:, 3] %= 65536
        record["count"] = len(points)
        record["points"][0, : len(points)] = np.clip(whole, 0, 65535)
        record["descriptors"][0, : len(points)] = project(raw[chosen], basis())
    return pack(record)


def make_features(jpeg: bytes) -> bytes:
    """As :func:`compact_features`; without any feature where none can be made."""
    try:
        return compact_features(jpeg)
    except (cv2.error, ValueError, ArithmeticError, IndexError):
        log.exception("a thumbnail has no compact features; its pairs are verified in full")
        return NOTHING


def _chosen(sizes: list[float], strengths: list[float]) -> npt.NDArray[np.intp]:
    """Half of them the largest, half the strongest of the others."""
    if len(sizes) <= MOST:
        return np.arange(len(sizes))
    large = np.argsort(-np.asarray(sizes), kind="stable")
    rest = large[MOST // 2 :]
    strong = rest[np.argsort(-np.asarray(strengths)[rest], kind="stable")]
    return np.concatenate([large[: MOST // 2], strong[: MOST - MOST // 2]])


def project(raw: Floats, known: Basis) -> npt.NDArray[np.int8]:
    """SIFT descriptors (n, 128) as int8 (n, 64) of about unit length 254."""
    root = np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-6))
    short = (root - known.mean) @ known.axes
    short /= np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-6)
    return np.asarray(np.clip(np.rint(short * 254), -127, 127), np.int8)


def pack(record: Records) -> bytes:
    """One record without the places that no feature takes."""
    count = int(record["count"][0])
    head = record.tobytes()[: RECORD.fields["points"][1]]  # type: ignore[index]
    return head + record["points"][0, :count].tobytes() + record["descriptors"][0, :count].tobytes()


def unpack(blobs: Sequence[bytes]) -> Records:
    """Records (n,) of packed features; what is no packed record has no features."""
    records = np.zeros(len(blobs), RECORD)
    start = len(NOTHING)
    raw = records.view(np.uint8).reshape(len(blobs), RECORD.itemsize)
    for at, blob in enumerate(blobs):
        count = int.from_bytes(blob[4:6], "little")
        middle = start + count * 8
        if count > MOST or len(blob) != middle + count * NUMBERS:
            continue
        raw[at, :start] = np.frombuffer(blob, np.uint8, start)
        records["points"][at, :count] = np.frombuffer(blob, "<u2", count * 4, start).reshape(-1, 4)
        short = np.frombuffer(blob, np.int8, count * NUMBERS, middle)
        records["descriptors"][at, :count] = short.reshape(-1, NUMBERS)
    return records


def votes_for(
    one: Record, others: Records, swapped: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.int64]:
    """How many features of one picture and each of some others agree on one motion.

    Args:
        one: record of the picture, of shape ().
        others: records (m,).
        swapped: bool (m,), pairs in which ``one`` is the right picture; by default it is the left
            one in all, so that a pair has one answer.

    Returns:
        int64 (m,); :data:`UNJUDGED` where this look says nothing: a picture with few features,
        one that may be a detail of the other, or two frames so alike that full verification would
        lay them on one another.
    """
    votes = np.full(len(others), UNJUDGED, np.int64)
    if int(one["count"]) < _LEAST_FEATURES:
        return votes
    asked = np.flatnonzero(others["count"] >= _LEAST_FEATURES)
    asked = asked[~_frames_alike(one, others[asked]) & ~_zoomed(one, others[asked])]
    turned = np.zeros(len(others), bool) if swapped is None else swapped
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        votes[part] = _agreeing(one, others[part], turned[part])
    return votes


def are_strangers(votes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Of which pairs the first look says that they have nothing in common."""
    return np.asarray((votes != UNJUDGED) & (votes < LEAST_VOTES))


def _frames_alike(one: Record, others: Records) -> npt.NDArray[np.bool_]:
    """Whether two frames could be laid on one another: full verification tries that as well."""
    shape = np.maximum(others["width"], 1) / np.maximum(others["height"], 1)
    ratio = np.log(shape * max(int(one["height"]), 1) / max(int(one["width"]), 1))
    flat = others["coarse"].reshape(len(others), 576).astype(np.float32)
    own = one["coarse"].reshape(576).astype(np.float32)
    power = np.sqrt((flat**2).sum(axis=1) * (own**2).sum())
    likeness = (flat @ own) / np.maximum(power, 1e-6)
    return np.asarray((np.abs(ratio) <= _SHAPES) & (likeness >= _LIKELY))


def _zoomed(one: Record, others: Records) -> npt.NDArray[np.bool_]:
    """Whether one of two is so small that it may be a detail of the other.

    Features are looked for at 224 pixels: of a large picture the fine ones are not among them, and
    of a small part cut out of it there are no others.
    """
    long = np.maximum(others["width"], others["height"]).astype(np.float64)
    own = float(max(one["width"], one["height"]))
    return np.asarray(np.maximum(long, own) > _ZOOM * np.minimum(long, own))


def _agreeing(
    one: Record, others: Records, swapped: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """The most features of each pair that agree on one motion, plain or mirrored; int64 (m,)."""
    even, count = basis().even, int(one["count"])
    own = one["descriptors"][:count].astype(np.float32) / 254
    theirs = others["descriptors"].reshape(-1, NUMBERS).astype(np.float32) / 254
    empty = np.arange(MOST) >= others["count"][:, None]
    same = own[:, :even] @ theirs[:, :even].T
    other = own[:, even:] @ theirs[:, even:].T
    same.reshape(count, len(others), MOST)[:, empty] = _NEVER
    points = _points(np.array([one], RECORD))[0, :count]
    targets = _points(others)
    best = np.zeros(len(others), np.int64)
    for mirrored in (False, True):
        alike = (same - other if mirrored else same + other).reshape(count, len(others), MOST)
        if mirrored:
            points = points.copy()
            points[:, 0] = float(one["width"]) - 1 - points[:, 0]
            points[:, 3] = np.pi - points[:, 3]
        best = np.maximum(best, _most_votes(alike, points, targets, swapped))
    return best


def _points(records: Records) -> Floats:
    steps = np.array([_PER_PIXEL, _PER_PIXEL, _PER_PIXEL, _PER_RADIAN], np.float32)
    return np.asarray(records["points"].astype(np.float32) / steps)


def _most_votes(
    alike: Floats, points: Floats, targets: Floats, swapped: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """The most votes that a mutual match of each pair gets.

    Args:
        alike: float32 (n, m, 200), likeness of one picture's features and the others'.
        points: float32 (n, 4) of the one.
        targets: float32 (m, 200, 4) of the others.
        swapped: bool (m,), pairs of which the one is the right picture.
    """
    count = len(alike)
    nearest = alike.argmax(axis=2)
    value = np.take_along_axis(alike, nearest[:, :, None], axis=2)[:, :, 0]
    back = alike.max(axis=0)  # (m, 200)
    mutual = (value == np.take_along_axis(back, nearest.T, axis=1).T) & (value > _ALIKE)
    ranked = np.where(mutual, value, _NEVER).T  # (m, n)
    keep = min(_MATCHES, count)
    top = np.argpartition(-ranked, keep - 1, axis=1)[:, :keep]
    valid = np.take_along_axis(mutual.T, top, axis=1)
    source = points[top]  # (m, keep, 4)
    hit = np.take_along_axis(nearest.T, top, axis=1)
    target = np.take_along_axis(targets, hit[:, :, None], axis=1)
    turned = swapped[:, None, None]
    return _votes(np.where(turned, target, source), np.where(turned, source, target), valid)


def _votes(source: Floats, target: Floats, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The most matches of each pair that agree with the similarity which one of them proposes.

    Matches agree when the one's motion lays the other's place on its place, and when the two turn
    and grow alike: without the second, chance finds five in 36 of 100 strangers' pairs.

    Args:
        source: float32 (m, k, 4).
        target: float32 (m, k, 4), the features they match.
        valid: bool (m, k), which places hold a match.
    """
    scale = np.maximum(target[..., 2], 1e-3) / np.maximum(source[..., 2], 1e-3)
    turn = target[..., 3] - source[..., 3]
    cos, sin, grown = np.cos(turn), np.sin(turn), np.log(scale)
    across, down = (_differences(source[..., axis]) for axis in (0, 1))
    by_x, by_y = (scale * cos)[:, :, None], (scale * sin)[:, :, None]
    error_x = _differences(target[..., 0]) - (by_x * across - by_y * down)
    error_y = _differences(target[..., 1]) - (by_y * across + by_x * down)
    far = np.sqrt(across * across + down * down) * scale[:, :, None]
    tolerance = _NEAR_TOLERANCE + _FAR_TOLERANCE * far
    agree = error_x * error_x + error_y * error_y < tolerance * tolerance
    agree &= np.abs(_differences(grown)) < _GROWS_ALIKE
    alike = cos[:, None, :] * cos[:, :, None] + sin[:, None, :] * sin[:, :, None]
    agree &= alike > math.cos(_TURNS_ALIKE)
    agree &= valid[:, None, :] & valid[:, :, None]
    return np.asarray(agree.sum(axis=2).max(axis=1))


def _differences(values: Floats) -> Floats:
    """(m, k, k): of each value less each other one."""
    return np.asarray(values[:, None, :] - values[:, :, None])
