"""Evidence in words: what was done to one picture to get the other, and which came first."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tasks.dedup.evidence import Evidence
from tasks.dedup.verify import RECOLOURED, calibration, reads_differently
from tasks.records import THUMBNAIL_SIDE

#: Differences below these are not worth a word.
_TURN, _STRETCH, _CROP, _SCALE, _STOPS = 0.6, 0.02, 0.03, 0.05, 0.1

#: From so much of the area on, another sharpness is worth a word.
_UNEVEN = 0.01
#: What a person would read, by the kind of a difference.
_READ = {"ink": "lettering", "left": "lettering", "right": "lettering", "tone": "a filled area"}


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What is known of one file of a pair.

    Attributes:
        quality: JPEG quality as the IJG library counts it, if it is a JPEG.
    """

    width: int
    height: int
    size: int
    format: str
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A pair in words.

    Attributes:
        changes: what was done, the right file described against the left one, or the other way
            round where the right one looks like the original.
        original: ``left``, ``right`` or ``either``.
        reasons: why.
    """

    changes: str
    original: str
    reasons: tuple[str, ...]


def explain_pair(evidence: Evidence, left: PictureFacts, right: PictureFacts) -> Explanation:
    """Put a pair's evidence in words.

    Args:
        evidence: right against left.
        left: the file the evidence calls left.
        right: the other.
    """
    forward, reasons_left = _signs(evidence, left, right)
    backward, reasons_right = _signs(turn_around(evidence), right, left)
    if forward == backward:
        return Explanation(_changes(evidence, left, right), "either", ())
    if forward > backward:
        return Explanation(_changes(evidence, left, right), "left", tuple(reasons_left))
    return Explanation(_changes(turn_around(evidence), right, left), "right", tuple(reasons_right))


def turn_around(evidence: Evidence) -> Evidence:
    """The same pair, left described against right."""
    turned = {"left": "right", "right": "left"}
    return replace(
        evidence,
        differs=turned.get(evidence.differs, evidence.differs),
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
    )


def _signs(evidence: Evidence, one: PictureFacts, two: PictureFacts) -> tuple[int, list[str]]:
    """How much speaks for ``one`` being the original, and what."""
    points, reasons = 0, []
    scale = _true_scale(evidence, one, two)
    zoom = math.log(max(scale, 1e-9))
    if round(zoom, 6) < -_SCALE:
        points += 2
        reasons.append(
            f"higher resolution ({one.width} x {one.height} against {two.width} x {two.height})"
        )
    if evidence.share_left < 0.97 and evidence.share_right > 0.97:
        points += 2
        reasons.append("shows more of the picture")
    if evidence.saturation < 0.5 and evidence.hue_error <= calibration().hue_error:
        points += 2
        reasons.append("in full colour")
    if one.quality and two.quality and one.quality >= two.quality + 5:
        points += 1
        reasons.append(f"less compressed (JPEG quality about {one.quality} against {two.quality})")
    elif (
        _density(one) > 1.3 * _density(two) and abs(round(math.log(max(scale, 1e-9)), 6)) <= _SCALE
    ):
        points += 1
        reasons.append("less compressed")
    if evidence.sharpness < 0.75:
        points += 1
        reasons.append("sharper")
    return points, reasons


def _changes(evidence: Evidence, one: PictureFacts, two: PictureFacts) -> str:
    words = [*_geometry(evidence, one, two), *_tones(evidence), *_content(evidence)]
    words += _encoding(one, two)
    return ", ".join(words) or "no difference to be seen"


def _geometry(evidence: Evidence, one: PictureFacts, two: PictureFacts) -> list[str]:
    words = []
    if evidence.share_left < 1 - _CROP:
        words.append(f"cropped to {evidence.share_left:.0%} of the picture")
    if evidence.share_right < 1 - _CROP:
        words.append(f"placed in a larger frame (fills {evidence.share_right:.0%} of it)")
    if evidence.mirrored:
        words.append("mirrored")
    if abs(evidence.rotation) > _TURN:
        way = "clockwise" if evidence.rotation > 0 else "anticlockwise"
        angle = abs(evidence.rotation)
        words.append(f"rotated {angle:.0f} degrees" + (f" {way}" if angle < 179 else ""))
    if abs(evidence.aspect - 1) > _STRETCH:
        how = "wider" if evidence.aspect > 1 else "narrower"
        words.append(f"stretched {abs(evidence.aspect - 1):.0%} {how}")
    scale = _true_scale(evidence, one, two)
    if abs(scale - 1) > _SCALE:
        words.append(f"scaled {scale:.2g}x")
    return words


def _tones(evidence: Evidence) -> list[str]:
    words = []
    if abs(evidence.gain) > _STOPS:
        words.append(
            f"{'brighter' if evidence.gain > 0 else 'darker'} by {abs(evidence.gain):.1f} stops"
        )
    if evidence.saturation < 0.08:
        words.append("made grey" if evidence.tint < 6 else "toned in one colour")
    elif evidence.saturation < 0.78:
        words.append("desaturated")
    elif evidence.saturation > 1.25:
        words.append("more saturated")
    if evidence.hue_error > calibration().hue_error or evidence.recoloured > RECOLOURED:
        words.append("other colours: perhaps another variant")
    elif evidence.tint > 4 and evidence.saturation >= 0.08:
        words.append("another white balance")
    if evidence.sharpness < 0.6:
        words.append("softer")
    elif evidence.sharpness > 1.5:
        words.append("sharpened or noisier")
    return words


def _content(evidence: Evidence) -> list[str]:
    words = []
    if reads_differently(evidence):
        words.append(f"differs in {_READ[evidence.differs]} at the {_place(evidence.differs_at)}")
    elif evidence.covered >= 0.004:
        place = _place(evidence.covered_at)
        share = f"{evidence.covered:.0%} of the area"
        words.append(f"something added or covered at the {place}: {share}")
    elif evidence.differs:
        words.append(f"something small differs at the {_place(evidence.differs_at)}")
    elif evidence.proof == "differs":
        (x0, y0, x1, y1) = evidence.proof_box
        place = _place(((x0 + x1) / 2, (y0 + y1) / 2))
        words.append(f"differs at full size at the {place}")
    if evidence.uneven > _UNEVEN:
        words.append("sharp in other parts of the picture")
    if evidence.besides:
        words.append("other pages, frames or hidden samples in the file")
    return words


def _place(at: tuple[float, float]) -> str:
    """Where in a picture a point is: ``upper left``, ``middle`` ..."""
    x, y = at
    down = "upper" if y < 0.4 else "lower" if y > 0.6 else "middle"
    across = "left" if x < 0.4 else "right" if x > 0.6 else "middle"
    return "middle" if down == across == "middle" else f"{down} {across}"


def _encoding(one: PictureFacts, two: PictureFacts) -> list[str]:
    words = []
    if one.format != two.format:
        words.append(f"{two.format} instead of {one.format}")
    if one.quality and two.quality and abs(one.quality - two.quality) >= 5:
        words.append(f"JPEG quality about {two.quality} against {one.quality}")
    return words


def _true_scale(evidence: Evidence, one: PictureFacts, two: PictureFacts) -> float:
    """Pixels of the second file per pixel of the first; evidence knows thumbnails only."""

    def shrink(side: PictureFacts) -> float:
        return min(1.0, THUMBNAIL_SIDE / max(side.width, side.height, 1))

    return evidence.scale * shrink(one) / shrink(two)


def _density(side: PictureFacts) -> float:
    return side.size / max(side.width * side.height, 1)
