"""Evidence in words: what was done to one picture to get the other, and which came first."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.dedup.evidence import Evidence
from tasks.dedup.origin import PictureFacts, find_origin, true_scale, turn_around
from tasks.dedup.see_through import looks_otherwise
from tasks.dedup.verify import RECOLOURED, calibration, reads_differently

#: Differences below these are not worth a word.
_TURN, _STRETCH, _CROP, _SCALE, _STOPS = 0.6, 0.02, 0.03, 0.05, 0.1

#: From so much of the area on, something was added or covered.
_COVERED = 0.004
#: From so much of the area on, another sharpness is worth a word.
_UNEVEN = 0.01
#: And so much other transparency.
_SEE_THROUGH = 0.005
#: What a person would read, by the kind of a difference.
_READ = {"ink": "lettering", "left": "lettering", "right": "lettering", "tone": "a filled area"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A pair in words.

    Attributes:
        changes: what was done, the right file described against the left one, or the other way
            round where the right one looks like the original, or where neither does and it is the
            one that stays.
        original: ``left``, ``right`` or ``either``.
        reasons: why.
    """

    changes: str
    original: str
    reasons: tuple[str, ...]


def explain_pair(
    evidence: Evidence, left: PictureFacts, right: PictureFacts, *, right_stays: bool = False
) -> Explanation:
    """Put a pair's evidence in words.

    Args:
        evidence: right against left.
        left: the file the evidence calls left.
        right: the other.
        right_stays: whether the right file is the one that stays; readers expect the words to say
            how the other one differs from it.
    """
    origin = find_origin(evidence, left, right)
    if origin.side == "right" or (origin.side == "either" and right_stays):
        changes = _changes(turn_around(evidence), right, left)
    else:
        changes = _changes(evidence, left, right)
    return Explanation(changes, origin.side, origin.reasons)


def kinds_of(evidence: Evidence, one: PictureFacts, two: PictureFacts) -> frozenset[str]:
    """What was done to ``one`` to get ``two``, as words for sorting; of the same rules as the text.

    Args:
        evidence: two against one.
        one: the file the evidence calls left.
        two: the other.

    Returns:
        Some of ``resized``, ``format``, ``saved`` (another JPEG quality), ``cropped``, ``framed``,
        ``turned`` (mirrored, rotated or stretched), ``tones``, ``added`` (something lies on it) and
        ``detail`` (another small place differs, or the files hold further things).
    """
    covered = evidence.covered >= _COVERED
    signs = {
        "cropped": evidence.share_left < 1 - _CROP,
        "framed": evidence.share_right < 1 - _CROP,
        "turned": evidence.mirrored
        or abs(evidence.rotation) > _TURN
        or abs(evidence.aspect - 1) > _STRETCH,
        "resized": abs(true_scale(evidence, one, two) - 1) > _SCALE,
        "tones": bool(_tones(evidence)),
        "added": covered,
        "detail": reads_differently(evidence)
        or evidence.proof == "reads"
        or evidence.besides
        or (not covered and (bool(evidence.differs) or _unevenly_sharp(evidence))),
        "format": one.format != two.format,
        "saved": bool(one.quality and two.quality and abs(one.quality - two.quality) >= 5),
    }
    return frozenset(name for name, holds in signs.items() if holds)


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
    scale = true_scale(evidence, one, two)
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
    elif evidence.proof == "reads":
        words.append(f"differs in lettering at full size at the {_proof_place(evidence)}")
    elif evidence.covered >= _COVERED:
        place = _place(evidence.covered_at)
        share = f"{evidence.covered:.0%} of the area"
        words.append(f"something added or covered at the {place}: {share}")
    elif evidence.differs:
        words.append(f"something small differs at the {_place(evidence.differs_at)}")
    elif evidence.proof == "differs":
        words.append(f"differs at full size at the {_proof_place(evidence)}")
    if _unevenly_sharp(evidence):
        words.append("sharp in other parts of the picture")
    if evidence.veil > 0:
        words.append(
            f"a pattern, such as a watermark, over all of it: {evidence.veil:.0%} of the area"
        )
    if looks_otherwise(evidence):
        words.append("looks different on a dark or a light ground")
    elif evidence.see_through > _SEE_THROUGH:
        words.append(f"otherwise transparent: {evidence.see_through:.0%} of the area")
    if evidence.besides:
        words.append("other pages, frames or hidden samples in the file")
    return words


def _unevenly_sharp(evidence: Evidence) -> bool:
    """Whether the two are sharp in other parts.

    A logo that is laid over one is sharper than what it hides, and counts for no more than its
    area.
    """
    return evidence.uneven - evidence.covered > _UNEVEN


def _proof_place(evidence: Evidence) -> str:
    x0, y0, x1, y1 = evidence.proof_box
    return _place(((x0 + x1) / 2, (y0 + y1) / 2))


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
