"""Local features of a thumbnail: what a pair is aligned by.

SIFT (Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", 2004), its descriptors as
RootSIFT (Arandjelovic and Zisserman, "Three things everyone should know to improve object
retrieval", 2012), so that their product is a similarity.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tasks.records import THUMBNAIL_SIDE

#: Features kept of one picture, the strongest first.
_MOST = 500
#: Half of SIFT's usual contrast threshold: soft and dark pictures have corners too.
_CONTRAST = 0.02

#: A picture whose long side is shorter is an icon, and is looked at from this size on.
_ICON, _ENLARGED = 32, 64
#: How comments begin that tell of transparency, and how the lines of another do, which tells what
#: a file holds besides and how fine it is; the reader of images writes them.
_ALPHA, _BESIDES, _DETAIL = b"alpha ", "besides ", "detail "

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Features:
    """One picture, ready to be compared.

    Attributes:
        rgb: uint8 (height, width, 3).
        points: float32 (n, 4): x, y, scale in pixels, angle in radians.
        descriptors: float32 (n, 128), unit length.
        coarse: float32 (24, 24), grey levels of the picture squeezed into a square, their mean
            taken away.
        besides: digest of what the file holds and the picture does not show; empty: nothing.
        detail: how fine the full picture is, see :func:`~tasks.dedup.detail.read_detail`; empty: it
            was not measured.
        alpha: uint8 (h, w), how opaque a picture that is not opaque everywhere is; at most half as
            large as ``rgb``.
        ground: what a transparent picture lies on.
        enlarged: how many times larger than the thumbnail ``rgb`` is: icons are made larger, for a
            window of a few pixels sees nothing of them.
    """

    rgb: Pixels
    points: Floats
    descriptors: Floats
    coarse: Floats
    besides: str = ""
    detail: str = ""
    alpha: Pixels | None = None
    ground: tuple[int, int, int] = (255, 255, 255)
    enlarged: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.rgb.shape[1], self.rgb.shape[0]

    def mirrored(self) -> Features:
        """Of the picture mirrored left to right, without looking at its pixels again.

        In a keypoint's own frame a reflection reverses one spatial axis of the 4 x 4 x 8
        descriptor and the sense of its orientations.
        """
        points = self.points.copy()
        points[:, 0] = self.size[0] - 1 - points[:, 0]
        points[:, 3] = np.pi - points[:, 3]
        return Features(
            self.rgb[:, ::-1],  # a view: most pairs are refused before their pixels are read
            points,
            self.descriptors[:, reflected_cells()],
            self.coarse[:, ::-1],
            self.besides,
            self.detail,
            None if self.alpha is None else self.alpha[:, ::-1],
            self.ground,
            self.enlarged,
        )


@cache
def reflected_cells() -> npt.NDArray[np.intp]:
    """Which number of a descriptor stands where in the mirrored picture's; int (128,)."""
    cells = np.arange(128).reshape(4, 4, 8)
    turned = cells[::-1][:, :, (8 - np.arange(8)) % 8]
    return np.asarray(turned.ravel(), dtype=np.intp)


_own = threading.local()


def _sift() -> Any:
    """The thread's own: OpenCV's objects hold state, and crash when they are shared."""
    if not hasattr(_own, "sift"):
        _own.sift = cv2.SIFT_create(  # type: ignore[attr-defined]
            nfeatures=_MOST,
            contrastThreshold=_CONTRAST,
            enable_precise_upscale=True,  # without it every point is a quarter of a pixel off
        )
    return _own.sift


def use_one_thread() -> None:
    """Keep OpenCV from spreading each of its calls: pairs are spread over the cores already."""
    cv2.setNumThreads(1)


def extract_features(jpeg: bytes, packed: bytes = b"") -> Features:
    """Features of a stored thumbnail.

    Args:
        jpeg: the thumbnail.
        packed: what :func:`pack_local` made of this very thumbnail's features; nothing: they are
            looked for, which takes ten times as long.

    Raises:
        ValueError: when the bytes are no picture, or ``packed`` is no packed features.
    """
    bgr, enlarged = _shown(jpeg)
    points, descriptors = unpack_local(packed) if packed else _local(bgr)
    rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    small = cv2.resize(rgb, (24, 24), interpolation=cv2.INTER_AREA)
    coarse = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    notes = list(_comments(jpeg))
    said = [line for note in notes for line in _lines(note)]
    alpha, ground = _transparency(notes)
    return Features(
        rgb,
        points,
        root_sift(descriptors),
        coarse - coarse.mean(),
        besides=_said(said, _BESIDES),
        detail=_said(said, _DETAIL),
        alpha=alpha,
        ground=ground,
        enlarged=enlarged,
    )


def pack_local(jpeg: bytes) -> bytes:
    """A thumbnail's local features for another process: at most 72,002 bytes, nothing lost.

    OpenCV's descriptors are whole numbers of 0..255, though their type is float32.

    Raises:
        ValueError: when the bytes are no picture.
    """
    points, raw = _local(_shown(jpeg)[0])
    head = len(points).to_bytes(2, "little")
    return head + points.astype("<f4").tobytes() + raw.astype(np.uint8).tobytes()


def unpack_local(packed: bytes) -> tuple[Floats, Floats]:
    """Points, float32 (n, 4), and SIFT's descriptors, float32 (n, 128), of :func:`pack_local`.

    Raises:
        ValueError: when the bytes are not what it made.
    """
    count = int.from_bytes(packed[:2], "little")
    if count > _MOST or len(packed) != 2 + count * (16 + 128):
        raise ValueError("no packed features")
    points = np.frombuffer(packed, "<f4", count * 4, 2).reshape(-1, 4)
    raw = np.frombuffer(packed, np.uint8, count * 128, 2 + count * 16).reshape(-1, 128)
    return points.astype(np.float32), raw.astype(np.float32)


def root_sift(raw: Floats) -> Floats:
    """Descriptors of unit length whose product is a similarity."""
    return np.asarray(np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-6)), np.float32)


def _shown(jpeg: bytes) -> tuple[Pixels, int]:
    """A thumbnail as it is looked at, in OpenCV's order of channels, and how far it was enlarged.

    Raises:
        ValueError: when the bytes are no picture.
    """
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError("not a JPEG")
    scale = THUMBNAIL_SIDE / max(bgr.shape[:2])
    if scale < 1:
        bgr = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    enlarged = 1
    if max(bgr.shape[:2]) < _ICON:
        enlarged = -(-_ENLARGED // max(bgr.shape[:2]))
        bgr = cv2.resize(bgr, None, fx=enlarged, fy=enlarged, interpolation=cv2.INTER_CUBIC)
    return np.asarray(bgr, dtype=np.uint8), enlarged


def _local(bgr: Pixels) -> tuple[Floats, Floats]:
    """Points, float32 (n, 4), and SIFT's descriptors, float32 (n, 128), the strongest first."""
    found, raw = _sift().detectAndCompute(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), None)
    if raw is None:
        return np.zeros((0, 4), np.float32), np.zeros((0, 128), np.float32)
    points = np.array([(*p.pt, p.size / 2, np.deg2rad(p.angle)) for p in found], np.float32)
    return points[:_MOST], np.asarray(raw[:_MOST], np.float32)


def _said(lines: list[str], name: str) -> str:
    """The line of a comment that begins so, without its beginning."""
    return next((line[len(name) :] for line in lines if line.startswith(name)), "")


def _lines(note: bytes) -> list[str]:
    """The lines of a comment; none of one that is no text."""
    return [] if note.startswith(_ALPHA) else note.decode("ascii", "replace").splitlines()


def _comments(jpeg: bytes) -> Iterator[bytes]:
    """What a thumbnail's comments say (ITU-T T.81, B.2)."""
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:
        size = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == 0xFE:
            yield jpeg[at + 4 : at + 2 + size]
        at += 2 + size


def _transparency(notes: list[bytes]) -> tuple[Pixels | None, tuple[int, int, int]]:
    """How opaque the picture is, and its ground."""
    for note in notes:
        if note.startswith(_ALPHA):
            red, green, blue, *_ = note[len(_ALPHA) : len(_ALPHA) + 3]
            coded = np.frombuffer(note[len(_ALPHA) + 3 :], np.uint8)
            alpha = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
            if alpha is not None:
                return np.asarray(alpha, dtype=np.uint8), (red, green, blue)
    return None, (255, 255, 255)
