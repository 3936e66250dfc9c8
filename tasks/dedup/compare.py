"""The aligned pixels of a pair, compared: the same picture, or another shot of the same thing?

A copy agrees everywhere but where it was covered, whatever happened to its brightness and colours,
and nothing in it is displaced. A second shot never lies still: parallax, perspective and moving
things leave displacements of a pixel or more once the best affine fit is taken away.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tasks.dedup.align import Alignment, Matrix
from tasks.dedup.features import Features
from tasks.dedup.windows import Floats, Mask, Windows, measure_windows, other_tone

#: Long side of the frame in which pixels are compared.
_FRAME = 320
#: Of the texture of two pictures laid over one another by features alone, so much agrees at least
#: (above 0.5), or they have nothing in common. 2,258 copies had 0.51 and more, 525 other shots of
#: one scene 0.28; half of what chance lays over one another has less.
_LEAST_AGREEING = 0.25
#: Before the fit is refined so much agrees closely (above 0.8), or so much loosely (above 0.5): of
#: 96 copies hard to see the least were 0.36 and 0.66, of 27 other shots that are told as similar
#: 0.20 and 0.40. Of 37 pairs that are told as nothing half had 0.13 and 0.30, and cost four times
#: as much as what ends here.
_LEAST_CLOSELY, _SURELY_LOOSELY = 0.16, 0.4
#: Cells whose strongest channel lies between these tell an exposure, which has at least this gain.
_TELLS, _UNCLIPPED, _LEAST_GAIN = 24.0, 200.0, 1.08
#: Around a pixel so wide, pixels, edges vary in the weaker direction by this share of the stronger
#: one at least, for a displacement to be told; where that holds for so much of what agrees. More
#: would leave out shelves' edges, whose parallax tells two shots apart: it fell by a fifth at 0.04.
_AROUND, _BOTH_WAYS, _ENOUGH = 5.0, 0.005, 0.1
#: Chroma of cells that lies no further apart than this, levels, root mean square, is the same: by
#: JPEG 60 it is 0.6 to 0.8 on drawn pages and up to 1.18 on 40 photographs.
_SAME_COLOURS = 1.2
#: Fewer pixels in common tell nothing.
_LEAST_PIXELS = 600
#: Sides of a frame that the flow's two scales of 8 pixel patches fit into.
_LEAST_FLOW = 64


@dataclass(frozen=True, slots=True)
class Frame:
    """Both pictures over one another, in the pixels of the coarser one.

    Attributes:
        left: uint8 (h, w, 3), warped or as it is.
        right: uint8 (h, w, 3).
        mask: bool (h, w), where both are.
    """

    left: npt.NDArray[np.uint8]
    right: npt.NDArray[np.uint8]
    mask: Mask


@dataclass(frozen=True, slots=True)
class Likeness:
    """What the pixels say.

    Attributes:
        agree: share of the textured pixels whose surroundings correlate.
        agree_else: the same outside of rectangles that were laid over one of the pictures.
        fine: the same, for a correlation of 0.95: nothing but encoding differs.
        texture: share of the common pixels that are textured.
        parallax: median displacement left after the best affine fit, pixels of the frame.
        pixels: pixels in common.
        covered: share of the common area that differs (text, a logo, something else in place).
        covered_at: centre of what differs, 0..1 of the right picture's width and height.
        replaced: share of the common area where both have texture, and not the same: another
            thing in its place. What is laid over a picture is mostly flat.
        changed: share of the common area where texture or tone is another.
        own: share where a picture has texture that is not the other's; of that picture which has
            less. What is laid over or cut out leaves one side flat.
        gain: brightness of right against left, in stops.
        contrast: contrast of right against left.
        saturation: colourfulness of right against left; 0 is grey.
        hue_error: colours that no change of saturation or white balance explains, levels.
        tint: how far a neutral grey of left is from grey in right, levels.
        sharpness: fine detail of right against left.
        ink: how much both look like ink on paper, 0..1.
        matrix: float64 (2, 3), the refined fit, pixels of left to pixels of right.
    """

    agree: float
    agree_else: float
    fine: float
    texture: float
    parallax: float
    pixels: int
    covered: float
    covered_at: tuple[float, float]
    replaced: float
    changed: float
    own: float
    gain: float
    contrast: float
    saturation: float
    hue_error: float
    tint: float
    sharpness: float
    ink: float
    matrix: Matrix


def compare_pixels(left: Features, right: Features, found: Alignment) -> Likeness | None:
    """Measure a pair under an alignment; None where too little is in common.

    Args:
        left: as it was aligned: mirrored where the alignment says so.
        right: the other.
        found: left to right.
    """
    frame = make_frame(left, right, found.matrix)
    if frame is None:
        return None
    one, two = _grey(frame.left), _grey(frame.right)
    windows = measure_windows(one, two, frame.mask)
    agreeing = windows.textured & ~windows.unlike
    if agreeing.sum() < max(100, _LEAST_AGREEING * windows.textured.sum()):
        return None
    if _hardly_agrees(windows):
        return None
    flow = _flow(one, two, frame.mask)
    correction, parallax = _settle(flow, _telling(two, agreeing))
    matrix = found.matrix
    if np.abs(correction).max() > 0:
        matrix = _corrected(left, right, found.matrix, correction)
        frame = make_frame(left, right, matrix)
        if frame is None:
            return None
        one, two = _grey(frame.left), _grey(frame.right)
        windows = measure_windows(one, two, frame.mask)
    grain = _detail(two, frame.mask) / _detail(one, frame.mask)
    if not 0.8 < grain * float(one[frame.mask].std() / max(two[frame.mask].std(), 1.0)) < 1.25:
        # One was blurred, sharpened or is noisy: compare what both still have.
        soft = [cv2.GaussianBlur(grey, (0, 0), 1.8) for grey in (one, two)]
        windows = measure_windows(soft[0], soft[1], frame.mask)
    textured, agree = windows.textured, windows.agree
    if textured.sum() < 50:
        return None
    differs = textured & ~agree
    same = frame.mask & ~_grown(differs)
    if same.sum() < 100:
        same = frame.mask
    gain, contrast = _brightness(one[same], two[same])
    saturation, hue_error, tint = _colours(frame, same)
    area, spot = _covered(differs, frame.mask)
    laid_over = _rectangles(differs, frame.mask)
    elsewhere = textured & ~laid_over
    replaced, changed, own = _other(windows)
    return Likeness(
        agree=float(agree[textured].mean()),
        agree_else=float(agree[elsewhere].mean()) if elsewhere.sum() >= 50 else 0.0,
        fine=float((windows.correlation[textured] > 0.95).mean()),
        texture=float(textured.sum() / frame.mask.sum()),
        parallax=parallax,
        pixels=int(frame.mask.sum()),
        covered=area,
        covered_at=spot,
        replaced=replaced,
        changed=changed,
        own=own,
        gain=gain,
        contrast=contrast,
        saturation=saturation,
        hue_error=hue_error,
        tint=tint,
        sharpness=_detail(two, same) / max(_detail(one, same) * contrast, 1e-3),
        ink=min(_ink(one, frame.mask), _ink(two, frame.mask)),
        matrix=matrix,
    )


def _hardly_agrees(windows: Windows) -> bool:
    """Whether so little of the texture is the same that refining the fit would change nothing."""
    textured = float(windows.textured.sum())
    closely = float(windows.agree.sum())
    loosely = float((windows.textured & ~windows.unlike).sum())
    return closely < _LEAST_CLOSELY * textured and loosely < _SURELY_LOOSELY * textured


def make_frame(left: Features, right: Features, matrix: Matrix, most: int = _FRAME) -> Frame | None:
    """Lay the finer picture over the coarser one; None where they hardly meet.

    Args:
        left: as it was aligned.
        right: the other.
        matrix: float64 (2, 3), pixels of left to pixels of right.
        most: long side of the frame, pixels.
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if not 0.02 < scale < 50:
        return None
    full = np.vstack([matrix, [0, 0, 1]])
    if scale <= 1:
        laid, mask, under = _lay(left, right, full, most)
        return Frame(laid, under, mask) if mask.sum() >= _LEAST_PIXELS else None
    laid, mask, under = _lay(right, left, np.linalg.inv(full), most)
    return Frame(under, laid, mask) if mask.sum() >= _LEAST_PIXELS else None


def _lay(
    fine: Features, coarse: Features, matrix: Matrix, most: int
) -> tuple[npt.NDArray[np.uint8], Mask, npt.NDArray[np.uint8]]:
    """The fine picture in the coarse one's pixels, where it lies, and the coarse one."""
    under = _reduced(np.ascontiguousarray(coarse.rgb), _frame_size(coarse, most))
    matrix = to_frame(coarse, most) @ matrix
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    picture = np.ascontiguousarray(fine.rgb)
    if scale < 0.8:  # averaged, not sampled: else what is fine turns into noise
        picture = _reduced(picture, _times(fine.size, scale))
        back = _zoom(fine.size[0] / picture.shape[1], fine.size[1] / picture.shape[0])
        matrix = matrix @ back
    size = under.shape[1], under.shape[0]
    laid = cv2.warpAffine(picture, matrix[:2], size, flags=cv2.INTER_LINEAR)
    inside = np.full(picture.shape[:2], 255, np.uint8)
    mask = cv2.warpAffine(inside, matrix[:2], size, flags=cv2.INTER_NEAREST)
    mask = cv2.erode(mask, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return laid, mask > 0, under


def _frame_size(coarse: Features, most: int) -> tuple[int, int]:
    """Width and height of the frame in which pixels are compared."""
    return _times(coarse.size, min(1.0, most / max(coarse.size)))


def to_frame(coarse: Features, most: int = _FRAME) -> Matrix:
    """Pixels of the coarser picture to those of its frame, float64 (3, 3)."""
    size = _frame_size(coarse, most)
    return _zoom(size[0] / coarse.size[0], size[1] / coarse.size[1])


def _times(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return size if scale >= 1 else (max(2, round(size[0] * scale)), max(2, round(size[1] * scale)))


def _reduced(picture: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    if picture.shape[1::-1] == size:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _zoom(x: float, y: float) -> Matrix:
    """Scaling about the corner of the first pixel, whose centre is (0, 0)."""
    return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1.0]])


def _grey(rgb: npt.NDArray[np.uint8]) -> Floats:
    """Grey, with the finest grain smoothed: noise and blocks of JPEG are no content."""
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (0, 0), 0.8)
    return np.asarray(grey, dtype=np.float32)


_own = threading.local()


def _dis() -> Any:
    """Kroeger et al., "Fast Optical Flow using Dense Inverse Search", 2016; one a thread."""
    if not hasattr(_own, "dis"):
        _own.dis = cv2.DISOpticalFlow_create(  # type: ignore[attr-defined]
            cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST
        )
        _own.dis.setFinestScale(1)
    return _own.dis


def _flow(one: Floats, two: Floats, mask: Mask) -> Floats:
    """Displacements, (h, w, 2). Narrow frames are padded with grey.

    On a frame narrower than its coarsest patch the flow object fails, or chooses another scale and
    keeps it for all later pairs of its thread.
    """
    height, width = one.shape
    below, beside = max(0, _LEAST_FLOW - height), max(0, _LEAST_FLOW - width)

    def normal(grey: Floats) -> npt.NDArray[np.uint8]:
        values = grey[mask]
        scaled = (grey - values.mean()) * (50 / max(float(values.std()), 1.0)) + 128
        levels = np.where(mask, np.clip(scaled, 0, 255), 128).astype(np.uint8)
        return np.pad(levels, ((0, below), (0, beside)), constant_values=128)

    return np.asarray(_dis().calc(normal(one), normal(two), None))[:height, :width]


def _telling(grey: Floats, agreeing: Mask) -> Mask:
    """Where a displacement can be told in both directions; all, where that is too little.

    Along the bars of a bar code or a ruled line any displacement looks alike (the aperture
    problem), and flow finds one by chance. Told by the structure tensor: Bigun and Granlund,
    "Optimal orientation detection of linear symmetry", 1987.
    """
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3)
    xx, yy, xy = (
        cv2.GaussianBlur(product, (0, 0), _AROUND)
        for product in (across * across, down * down, across * down)
    )
    apart = np.hypot(xx - yy, 2 * xy)
    clear = agreeing & (xx + yy - apart > _BOTH_WAYS * (xx + yy + apart))
    return clear if clear.sum() >= max(100, _ENOUGH * agreeing.sum()) else agreeing


def _settle(flow: Floats, agreeing: Mask) -> tuple[Matrix, float]:
    """The affine part of the displacements, (2, 3) in the frame, and the median of the rest."""
    rows, columns = np.nonzero(agreeing)
    step = max(1, len(rows) // 3000)
    rows, columns = rows[::step], columns[::step]
    moved = flow[rows, columns].astype(np.float64)
    ground = np.column_stack([columns, rows, np.ones(len(rows))]).astype(np.float64)
    left = np.linalg.norm(moved - np.median(moved, axis=0), axis=1)
    solution = np.zeros((3, 2))
    for _ in range(3):
        calm = left <= np.quantile(left, 0.7) + 1e-9
        solution = np.linalg.lstsq(ground[calm], moved[calm], rcond=None)[0]
        left = np.linalg.norm(moved - ground @ solution, axis=1)
    return solution.T, float(np.median(left))


def _corrected(left: Features, right: Features, matrix: Matrix, correction: Matrix) -> Matrix:
    """The alignment with the displacements found in the frame taken in."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    full = np.vstack([matrix, [0, 0, 1]])
    shift = np.eye(3)
    shift[:2] += correction  # a point of the laid (left) picture lies here in the right one
    there = to_frame(right if scale <= 1 else left)
    inside = np.linalg.inv(there) @ shift @ there
    moved = inside @ full if scale <= 1 else full @ inside
    return np.asarray(moved[:2])


def _brightness(one: Floats, two: Floats) -> tuple[float, float]:
    a, b = float(one.mean()), float(two.mean())
    return float(np.log2(max(b, 1.0) / max(a, 1.0))), float(
        max(two.std(), 0.5) / max(one.std(), 0.5)
    )


def _colours(frame: Frame, same: Mask) -> tuple[float, float, float]:
    """Saturation of right against left, what neither it nor white balance explains, and the tint.

    chroma of right = s x chroma of left + a shift that may follow the luminance: a white balance
    and a tint do. Another colour of one garment does not fit.
    """
    height, width = same.shape
    cells = max(2, width // 8), max(2, height // 8)

    inside = same.astype(np.uint8)

    def small(rgb: npt.NDArray[np.uint8]) -> Floats:
        levels = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)
        values = cv2.bitwise_and(levels, levels, mask=inside).astype(np.float32)
        return np.asarray(cv2.resize(values, cells, interpolation=cv2.INTER_AREA))

    weight = cv2.resize(same.astype(np.float32), cells, interpolation=cv2.INTER_AREA)
    keep = weight > 0.6
    if keep.sum() < 12:
        return 1.0, 0.0, 0.0
    a, b = (small(rgb)[keep] / weight[keep][:, None] for rgb in (frame.left, frame.right))
    apart = float(np.sqrt(np.mean((b - a)[:, 1:] ** 2)))
    if apart <= _SAME_COLOURS:
        # Of a page of one pale tone nothing tells a weaker colour from a tint against it: the two
        # would be told as 0.25 and 2 levels, for a JPEG that looks the same.
        return 1.0, apart, 0.0
    there, error, tint = _told_either_way(a, b)
    for one, two, rgb, forward in ((a, b, frame.left, True), (b, a, frame.right, False)):
        gain = _exposure(one, two)
        if gain > 1:
            exposed = small(cv2.convertScaleAbs(rgb, alpha=gain))[keep] / weight[keep][:, None]
            sides = (exposed, two) if forward else (two, exposed)
            told = _told_either_way(*sides)
            if told[1] < error:
                there, error, tint = told
    return there, error, tint


def _told_either_way(a: Floats, b: Floats) -> tuple[float, float, float]:
    """Saturation of b against a, what is left unexplained, and the tint.

    Of a grey left nothing can be told: then it is asked the other way round.
    """
    there, error, tint = _recoloured(a, b)
    back, error_back, _ = _recoloured(b, a)
    return (1 / max(back, 0.05), error_back, tint) if error_back < error else (there, error, tint)


def _exposure(a: Floats, b: Floats) -> float:
    """The gain of a stronger exposure from cells (n, 3) of Y, Cr, Cb to others; 1: there is none.

    A channel that clips stays behind the others, which is another hue that no white balance
    explains. So the gain is told by cells that are dark enough in both.
    """
    one, two = _rgb(a), _rgb(b)
    dark = (one.max(axis=1) > _TELLS) & (two.max(axis=1) < _UNCLIPPED)
    if dark.sum() < 12:
        return 1.0
    gain = float(np.median(two[dark].mean(axis=1) / one[dark].mean(axis=1)))
    return gain if gain > _LEAST_GAIN else 1.0


def _rgb(cells: Floats) -> Floats:
    """RGB of Y, Cr, Cb (ITU-T T.871)."""
    y, red, blue = cells[:, 0], cells[:, 1] - 128, cells[:, 2] - 128
    rgb = np.stack([y + 1.402 * red, y - 0.714 * red - 0.344 * blue, y + 1.772 * blue], axis=1)
    return np.asarray(np.clip(rgb, 0, 255), dtype=np.float32)


def _recoloured(a: Floats, b: Floats) -> tuple[float, float, float]:
    """Saturation, unexplained rest and tint of cells (n, 3) of Y, Cr, Cb."""
    count = len(a)
    design = np.zeros((2 * count, 3))
    design[:, 0] = np.concatenate([a[:, 1], a[:, 2]]) - 128
    # A gain of one channel shifts chroma with the light. A shift of its own for the dark would
    # explain any other colour of one garment on white.
    design[:count, 1] = a[:, 0] / 128
    design[count:, 2] = a[:, 0] / 128
    wanted = np.concatenate([b[:, 1], b[:, 2]]) - 128
    solution = np.linalg.lstsq(design, wanted, rcond=None)[0]
    if solution[0] < 0:  # no saturation is negative: grey explains best
        solution[0] = 0.0
        solution[1:] = np.linalg.lstsq(design[:, 1:], wanted, rcond=None)[0]
    rest = wanted - design @ solution
    tint = float(np.hypot(solution[1], solution[2])) * float(a[:, 0].mean()) / 128
    spread = float(np.abs(design[:, 0]).mean())
    saturation = float(solution[0]) if spread > 2 else 1.0
    return saturation, float(np.sqrt(np.mean(rest**2))), tint


def _grown(differs: Mask) -> Mask:
    return np.asarray(cv2.dilate(differs.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0)


def _other(windows: Windows) -> tuple[float, float, float]:
    """Shares of the area: ``replaced``, ``changed`` and ``own`` of :class:`Likeness`."""
    unlike, mask = windows.unlike, windows.mask
    left, right = windows.left_textured & unlike, windows.right_textured & unlike
    toned = other_tone(windows)
    return (
        _covered(left & right, mask)[0],
        _covered((windows.textured & unlike) | toned, mask)[0],
        min(_covered(left, mask)[0], _covered(right, mask)[0]),
    )


def _covered(differs: Mask, mask: Mask) -> tuple[float, tuple[float, float]]:
    """Share and centre of what differs in one piece; grains do not count."""
    solid = cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_OPEN, np.ones((7, 7), np.uint8))
    count = cv2.countNonZero(solid)
    if not count:
        return 0.0, (0.5, 0.5)
    height, width = mask.shape
    down, across = (cv2.reduce(solid, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S) for axis in (1, 0))
    row, column = down.ravel() @ np.arange(height), across.ravel() @ np.arange(width)
    area = count / cv2.countNonZero(mask.view(np.uint8))
    return float(area), (float(column / count / width), float(row / count / height))


def _rectangles(differs: Mask, mask: Mask) -> Mask:
    """Where one upright rectangle was laid over: a banner, a label, a bar; at most 0.35 of all.

    What moves in a scene leaves ragged shapes; what a designer adds has straight sides.
    """
    found = np.zeros_like(mask)
    side = max(5, max(mask.shape) // 40) | 1
    kernel = np.ones((side, side), np.uint8)
    closed = cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    solid = cv2.morphologyEx(closed, cv2.MORPH_OPEN, kernel)
    count, _, stats, _ = cv2.connectedComponentsWithStats(solid)
    total = float(mask.sum())
    for x, y, wide, high, area in stats[1:count]:
        if area >= 0.92 * wide * high and 0.005 * total <= area <= 0.35 * total:
            grow = side // 2 + 2
            found[max(0, y - grow) : y + high + grow, max(0, x - grow) : x + wide + grow] = True
    return found if found[mask].mean() <= 0.4 else np.zeros_like(mask)


def _detail(grey: Floats, same: Mask) -> float:
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)[same]).mean()) + 1e-3


def _ink(grey: Floats, mask: Mask) -> float:
    """1 where nearly all is one shade of paper or one of ink, as on a page; 0 for photographs."""
    values = np.bincount(grey[mask].astype(np.int64), minlength=256).astype(np.float64)
    share = values / values.sum()
    paper = int(share.argmax())
    near = share[max(0, paper - 14) : paper + 15].sum()
    shades = np.arange(256)
    far = share[np.abs(shades - paper) > 90].sum()
    return float(np.clip((near - 0.5) / 0.2, 0, 1) * np.clip((near + far - 0.8) / 0.1, 0, 1))
