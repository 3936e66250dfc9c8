"""Which of two copies was first: what each shows of having been made of the other.

A mark says that one picture was made of the other: a frame around it, a caption over it, a part cut
off, detail lost in resampling. Where only one of the two bears marks, the other is the original;
where both do or neither does, nothing can be told, and a coin would be as good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tasks.dedup.evidence import Evidence
from tasks.dedup.names import named_after
from tasks.dedup.verify import calibration
from tasks.records import THUMBNAIL_SIDE

#: Share of a picture from which it is whole; how much of the edges must go on where a part was cut
#: out, and how much must break in a frame: 110 framed copies had 0.5 and more.
_WHOLE, _GOES_ON, _FRAMED = 0.97, 0.2, 0.45
#: The lean of what is laid over a picture; of a small place where strong compression may look like
#: that; and where a clipped light may, which leaned up to 1.84 in 160 brighter or darker copies.
_OVERLAY, _SURE, _SURER = 0.3, 1.0, 2.5
#: Another size, shape or angle than this: two logarithms, and degrees.
_SCALE, _STRETCH, _TURN, _SMALL_TURN = 0.05, 0.02, 0.6, 30.0
#: Doublings of power lost: at the fine end by resampling, in the middle by a blur. There 60 copies
#: that were blurred had lost 0.95 and more, 120 compressed ones (quality 20 to 55) up to 0.8, and
#: never gained more than 0.46.
_LOST, _BLURRED, _GAINED = 0.25, 0.85, 0.6
#: Doublings at the fine end that only a slight blur takes, or the blocks of strong compression add.
_FINER = 1.0
#: Of another size: how much more it lost at the fine end than in the middle. Programs that reduce
#: sharpen a little, which lifts the middle too: 98 of 100 resized photographs are told by this, 1
#: wrong; by 0.25 at the fine end alone 89 and 3.
_BENT = 0.1
#: Letters laid over a picture add detail, so a blur must also show where the two are alike: less
#: where it shows at the fine end too.
_SOFT, _SOFTER = 0.88, 0.85
#: JPEG quality and bytes a pixel up to which compression is strong; and doublings of light and
#: levels of tint from which tones are others. Either leaves places that look laid over a picture,
#: lights that are clipped or blocks, of up to this share of the area.
_STRONG, _STRONG_BYTES, _TONED, _TINTED, _LEFT_OVER = 55, 0.1, 0.1, 4.0, 0.02
#: Bytes a pixel of one for those of the other, from which that is more loss; and where the other
#: has lost at the fine end too.
_DENSE, _DENSER = 1.3, 1.1
#: Grey against colours.
_GREY = 0.1


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What is known of one file of a pair.

    Attributes:
        quality: JPEG quality as the IJG library counts it, if it is a JPEG.
        key: its name with its folders, or nothing.
    """

    width: int
    height: int
    size: int
    format: str
    quality: int | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which of two was first.

    Attributes:
        side: ``left``, ``right`` or ``either``.
        reasons: why, said of that side.
    """

    side: str
    reasons: tuple[str, ...]


def find_origin(evidence: Evidence, left: PictureFacts, right: PictureFacts) -> Origin:
    """Which of two copies was first.

    Args:
        evidence: right against left.
        left: the file the evidence calls left.
        right: the other.
    """
    of_right = made_of_other(evidence, left, right)
    turned = turn_around(evidence)
    of_left = made_of_other(turned, right, left)
    if not of_right and not of_left and _same_but_for_encoding(evidence, left, right):
        of_right = _encoding(evidence, left, right)
        of_left = _encoding(turned, right, left)
    if not of_right and not of_left:
        of_right, of_left = _names(left, right), _names(right, left)
    if of_right and not of_left:
        return Origin("left", tuple(of_right))
    if of_left and not of_right:
        return Origin("right", tuple(of_left))
    return Origin("either", ())


def made_of_other(evidence: Evidence, one: PictureFacts, two: PictureFacts) -> list[str]:
    """What speaks for ``two`` having been made of ``one``, said of ``one``."""
    marks = [*_frame(evidence), *_resampling(evidence, one, two), *_tones(evidence)]
    if evidence.veiled == "right":
        marks.append("without the watermark")
    # Beside a blurred picture a sharp one looks inked wherever it has fine lines.
    elif _is_laid_over(evidence, one, two) and not _is_blurred(turn_around(evidence)):
        marks.append("nothing is laid over it")
    return marks


def _is_laid_over(evidence: Evidence, one: PictureFacts, two: PictureFacts) -> bool:
    """Whether something lies over ``two`` that ``one`` does not have."""
    lean, little = evidence.overlay, evidence.overlaid < _LEFT_OVER
    if little and evidence.tint > _TINTED:
        return False
    if little and abs(evidence.gain) > _TONED:
        return lean > _SURER
    # Where only one has ink, that is the later one; but a plain plate may cover print. Where ink
    # and lean contradict each other over a larger place, neither tells.
    if evidence.differs == "right":
        return little or lean > -_OVERLAY
    if evidence.differs == "left":
        return False
    return lean > (_SURE if little and _is_strong(one, two) else _OVERLAY)


def _frame(evidence: Evidence) -> list[str]:
    marks = []
    if evidence.around_right > _FRAMED:
        marks.append("the other has a frame or a page around it")
    if evidence.around_left < -_GOES_ON and evidence.share_left < _WHOLE:
        marks.append("shows more of the picture")
    return marks


def _resampling(evidence: Evidence, one: PictureFacts, two: PictureFacts) -> list[str]:
    zoom = math.log(max(true_scale(evidence, one, two), 1e-9))
    stretch = math.log(max(evidence.aspect, 1e-6))
    lost = evidence.lost
    if lost is None:
        return []
    sizes = f"{one.width} x {one.height} against {two.width} x {two.height}"
    if abs(stretch) > _STRETCH:
        # The side whose pixels became more or fewer; where both did, the one that lost or won more.
        across, down = abs(zoom + stretch / 2), abs(zoom - stretch / 2)
        weights = (across, down) if abs(across - down) > _STRETCH else (abs(lost[0]), abs(lost[1]))
        changed = 0 if weights[0] > weights[1] else 1
        return ["not stretched"] if lost[changed] - lost[1 - changed] > _LOST else []
    mean = _mean(lost)
    if round(abs(zoom), 6) > _SCALE:
        # Where nothing is so fine in either, the middle alone tells of no resampling.
        if mean - lost[2] <= _BENT or lost[:2] == (0.0, 0.0):
            return []
        return [f"higher resolution ({sizes})" if zoom < 0 else f"not enlarged ({sizes})"]
    if _TURN < abs(evidence.rotation) < _SMALL_TURN and mean > _LOST and not _framed(evidence):
        return ["not turned"]
    return ["sharper"] if _is_blurred(evidence) else []


def _is_blurred(evidence: Evidence) -> bool:
    """Whether right was blurred; of soft pictures an encoder's blocks alone reach the middle."""
    lost = evidence.lost
    if lost is None:
        return False
    return lost[2] > _BLURRED and evidence.sharpness < (_SOFT if _mean(lost) > _FINER else _SOFTER)


def _framed(evidence: Evidence) -> bool:
    return max(evidence.around_left, evidence.around_right) > _FRAMED


def _mean(lost: tuple[float, float, float] | None) -> float:
    return 0.0 if lost is None else (lost[0] + lost[1]) / 2


def _tones(evidence: Evidence) -> list[str]:
    grey = evidence.saturation < _GREY and evidence.hue_error <= calibration().hue_error
    return ["in full colour"] if grey else []


def _same_but_for_encoding(evidence: Evidence, one: PictureFacts, two: PictureFacts) -> bool:
    """Whether nothing but the encoder worked on one of the two.

    Strong compression moves the colours of nearly grey pictures by themselves, those of JPEG most,
    and leaves less to align by.
    """
    strong = _is_strong(one, two)
    quality = min(one.quality or 100, two.quality or 100)
    return (
        not evidence.mirrored
        and not evidence.differs
        and abs(evidence.rotation) < (0.5 if strong else 0.3)
        and min(evidence.share_left, evidence.share_right) > _WHOLE
        and abs(math.log(max(true_scale(evidence, one, two), 1e-9))) < 0.01
        and abs(math.log(max(evidence.aspect, 1e-6))) < 0.01
        and abs(evidence.gain) < 0.05
        and abs(math.log(max(evidence.contrast, 0.01))) < 0.04
        and abs(math.log(max(evidence.saturation, 0.01))) < (0.6 if quality <= _STRONG else 0.2)
        and evidence.tint < (4 if strong else 2)
        and evidence.overlaid < (_LEFT_OVER if strong else 0.01)
    )


def _is_strong(one: PictureFacts, two: PictureFacts) -> bool:
    """Whether one of the two was compressed strongly."""
    return (
        min(one.quality or 100, two.quality or 100) <= _STRONG
        or min(_density(one), _density(two)) <= _STRONG_BYTES
    )


def _encoding(evidence: Evidence, one: PictureFacts, two: PictureFacts) -> list[str]:
    """What speaks for ``two`` having been encoded after ``one``, and with a greater loss.

    What is blurred and then saved well is denser than its origin. Strong compression adds to the
    fine end, with the edges of its blocks, but not to the middle.
    """
    lost = evidence.lost
    if lost is not None and lost[2] < -_GAINED:
        return []
    if _mean(lost) < -_FINER and not _is_strong(two, two):
        return []
    if one.quality and two.quality:
        if one.quality >= two.quality + 5:
            return [f"less compressed (JPEG quality about {one.quality} against {two.quality})"]
        return []
    more = _density(one) / max(_density(two), 1e-9)
    finer = lost is not None and _mean(lost) > _LOST
    return ["less compressed"] if more > (_DENSER if finer else _DENSE) else []


def _names(one: PictureFacts, two: PictureFacts) -> list[str]:
    """What only counts where the pixels say nothing: anybody may call a file anything."""
    return ["the other is named after it"] if named_after(two.key, one.key) else []


def _density(side: PictureFacts) -> float:
    return side.size / max(side.width * side.height, 1)


def true_scale(evidence: Evidence, one: PictureFacts, two: PictureFacts) -> float:
    """Pixels of the second file per pixel of the first; evidence knows thumbnails only."""

    def shrink(side: PictureFacts) -> float:
        return min(1.0, THUMBNAIL_SIDE / max(side.width, side.height, 1))

    return evidence.scale * shrink(one) / shrink(two)


def turn_around(evidence: Evidence) -> Evidence:
    """The same pair, left described against right."""
    turned = {"left": "right", "right": "left"}
    lost = evidence.lost
    if lost is not None:
        lost = -lost[0], -lost[1], -lost[2]
    return replace(
        evidence,
        differs=turned.get(evidence.differs, evidence.differs),
        veiled=turned.get(evidence.veiled, evidence.veiled),
        scale=1 / max(evidence.scale, 1e-6),
        rotation=evidence.rotation if evidence.mirrored else -evidence.rotation,
        aspect=1 / max(evidence.aspect, 1e-6),
        share_left=evidence.share_right,
        share_right=evidence.share_left,
        box_left=evidence.box_right,
        box_right=evidence.box_left,
        gain=-evidence.gain,
        contrast=1 / max(evidence.contrast, 1e-6),
        saturation=1 / max(evidence.saturation, 0.05),
        sharpness=1 / max(evidence.sharpness, 1e-6),
        around_left=evidence.around_right,
        around_right=evidence.around_left,
        overlay=-evidence.overlay,
        lost=lost,
    )
