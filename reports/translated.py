"""What stages and rules say in English (evidence, reasons, questions), in the language of a reader.

The catalog keeps these sentences as they were made: data files, the audit and the command line show
them so. For people who read another language each phrase is known here by its form, as
``reports/why_not.py`` knows the reasons against a merge. A phrase that is not known stays as it is.
"""

from __future__ import annotations

import re
from functools import cache

from reports.words import ENGLISH, marked, spoken, text

#: Where a phrase begins and ends inside a sentence.
_BEGIN, _END = r"(?:^|(?<=, )|(?<=; ))", r"(?=, |; |$)"
_PLACE = r"(?P<place>(?:upper|lower|middle)(?: left| right| middle)?)"
_SHARE = r"(?P<share>\d+%)"
#: Phrase to the text that tells it; of tasks/dedup/explain.py and origin.py, of
#: tasks/queries/asset_pairs.py and of tasks/merging/rules/.
PHRASES: tuple[tuple[str, str], ...] = (
    (rf"cropped to {_SHARE} of the picture", "seen.cropped"),
    (rf"placed in a larger frame \(fills {_SHARE} of it\)", "seen.framed"),
    (r"mirrored", "seen.mirrored"),
    (r"rotated (?P<angle>\d+) degrees clockwise", "seen.clockwise"),
    (r"rotated (?P<angle>\d+) degrees anticlockwise", "seen.anticlockwise"),
    (r"rotated (?P<angle>\d+) degrees", "seen.rotated"),
    (rf"stretched {_SHARE} wider", "seen.wider"),
    (rf"stretched {_SHARE} narrower", "seen.narrower"),
    (r"scaled (?P<factor>[\d.e+-]+)x", "seen.scaled"),
    (r"brighter by (?P<stops>[\d.]+) stops", "seen.brighter"),
    (r"darker by (?P<stops>[\d.]+) stops", "seen.darker"),
    (r"made grey", "seen.grey"),
    (r"toned in one colour", "seen.toned"),
    (r"desaturated", "seen.desaturated"),
    (r"more saturated", "seen.saturated"),
    (r"other colours: perhaps another variant", "seen.colours"),
    (r"another white balance", "seen.balance"),
    (r"softer", "seen.softer"),
    (r"sharpened or noisier", "seen.sharpened"),
    (rf"differs in lettering at the {_PLACE}", "seen.lettering"),
    (rf"differs in a filled area at the {_PLACE}", "seen.area"),
    (rf"something added or covered at the {_PLACE}: {_SHARE} of the area", "seen.covered"),
    (rf"something small differs at the {_PLACE}", "seen.small"),
    (rf"differs in lettering at full size at the {_PLACE}", "seen.reads"),
    (rf"differs at full size at the {_PLACE}", "seen.full"),
    (r"sharp in other parts of the picture", "seen.uneven"),
    (rf"a pattern, such as a watermark, over all of it: {_SHARE} of the area", "seen.veil"),
    (r"looks different on a dark or a light ground", "seen.ground"),
    (rf"otherwise transparent: {_SHARE} of the area", "seen.transparent"),
    (r"other pages, frames or hidden samples in the file", "seen.besides"),
    (r"(?P<two>\w+) instead of (?P<one>\w+)", "seen.format"),
    (r"JPEG quality about (?P<two>\d+) against (?P<one>\d+)", "seen.quality"),
    (r"no difference to be seen", "seen.none"),
    (r"same pixels", "seen.pixels"),
    (r"same bytes", "seen.bytes"),
    (r"no texture; the same colours everywhere", "seen.flat"),
    (r"without the watermark", "first.watermark"),
    (r"nothing is laid over it", "first.bare"),
    (r"the other has a frame or a page around it", "first.frame"),
    (r"shows more of the picture", "first.more"),
    (r"not stretched", "first.stretched"),
    (r"higher resolution \((?P<one>\d+ x \d+) against (?P<two>\d+ x \d+)\)", "first.larger"),
    (r"not enlarged \((?P<one>\d+ x \d+) against (?P<two>\d+ x \d+)\)", "first.enlarged"),
    (r"not turned", "first.turned"),
    (r"sharper", "first.sharper"),
    (r"in full colour", "first.colour"),
    (
        r"less compressed \(JPEG quality about (?P<one>\d+) against (?P<two>\d+)\)",
        "first.quality",
    ),
    (r"less compressed", "first.compressed"),
    (r"the other is named after it", "first.named"),
    (r"larger \((?P<one>\d+x\d+) against (?P<others>[^()]*)\)", "stays.larger"),
    (r"better quality \((?P<one>\w+) against (?P<others>[^()]*)\)", "stays.quality"),
    (r"more fields filled in \((?P<one>\d+) against (?P<others>[^()]*)\)", "stays.fields"),
    (r"older \((?P<one>[\d: UTC.-]+) against (?P<others>[^()]*)\)", "stays.older"),
    (r"newer \((?P<one>[\d: UTC.-]+) against (?P<others>[^()]*)\)", "stays.newer"),
    (r"more bytes \((?P<one>[\d,]+) against (?P<others>[^()]*)\)", "stays.bytes"),
    (r"preferred format \((?P<one>\w+) against (?P<others>[^()]*)\)", "stays.format"),
    (r"in the preferred prefix (?P<prefix>[^,;]+)", "stays.prefix"),
    (r"tagged (?P<tag>[^,;]+)", "stays.tagged"),
    (r"original by the pixels' evidence", "stays.original"),
    (r"has a sidecar \((?P<key>[^()]*)\)", "stays.sidecar"),
    (r"first by its key, all else being equal", "stays.first"),
    (r"not in an archive", "stays.archive"),
    (r"not named as a copy", "stays.named"),
    (r"chosen by a person", "stays.chosen"),
    (r"may not be touched \((?P<why>[^()]*)\)", "stays.held"),
    (
        r"valid licence(?P<until> until [\d-]+)? \(the others?: (?P<others>[^()]*)\)",
        "stays.licence",
    ),
)
#: Whole questions of a plan; what is between is strangers' keys and values.
QUESTIONS: tuple[tuple[str, str], ...] = (
    (r"owner differs: (?P<listed>.*): who keeps the rights\?", "ask.owner"),
    (r"licence differs: (?P<listed>.*): which one holds\?", "ask.licence"),
    (r"(?P<field>(?:tags|metadata|xmp)\.[^:]+): the policy asks: (?P<listed>.*)", "ask.policy"),
    (r"(?P<field>(?:tags|metadata|xmp)\.[^:]+): the values differ: (?P<listed>.*)", "ask.values"),
    (
        r"cannot tell which is the original: (?P<listed>.*): which one stays\?",
        "ask.original",
    ),
    (r"(?P<key>.*) is a camera raw file: is it really the same picture\?", "ask.raw"),
    (r"(?P<key>.*) is of one colour: is it really the same picture\?", "ask.flat"),
    (r"(?P<key>.*) is tiny: is it really the same picture\?", "ask.tiny"),
    (
        r"(?P<key>.*) has several frames, of which only the first was compared: "
        r"is it really the same picture\?",
        "ask.frames",
    ),
    (
        r"(?P<key>.*) holds (?P<what>.*), which a merge does not take over: may it go with it\?",
        "ask.held",
    ),
)
#: Whole messages of the gate's pages.
MESSAGES: tuple[tuple[str, str], ...] = (
    (r"The program failed, and has logged why\. .*", "message.unexpected"),
    (r"Another process is writing to the catalog just now\. .*", "message.busy"),
    (r"This takes longer than a page waits\. .*", "message.goes"),
    (r"This link is not valid: .*", "message.broken"),
    (r"This link ended on (?P<day>[\d-]+) at (?P<clock>[\d:]+) UTC\. .*", "message.ended"),
    (r"This link is for another plan; .*", "message.another"),
)
_NUMBERS = {"factor", "stops"}


@cache
def _compiled() -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(_BEGIN + form + _END), name) for form, name in PHRASES)


def translated(said: str) -> str:
    """Evidence, or reasons, phrase by phrase in the language that is spoken."""
    if spoken() == ENGLISH or not said:
        return said
    for pattern, name in _compiled():
        said = pattern.sub(lambda match, name=name: _told(match, name), said)  # type: ignore[misc]
    return said


def translated_question(question: str) -> str:
    """A plan's question in the language that is spoken."""
    return _whole(question, QUESTIONS)


def translated_message(message: str) -> str:
    """What a page of the gate says, in the language that is spoken."""
    return _whole(message, MESSAGES)


def _whole(said: str, forms: tuple[tuple[str, str], ...]) -> str:
    """A sentence that is one of these forms from end to end; any other stays as it is."""
    if spoken() == ENGLISH:
        return said
    for form, name in forms:
        match = re.fullmatch(form, said, re.DOTALL)
        if match:
            return _told(match, name)
    return said


def change_words(changes: str, reasons: str, *, keeper_is_original: bool) -> str:
    """What was done to the file that stays to get this one, or that it was the other way round."""
    changes, reasons = translated(changes), translated(reasons)
    if keeper_is_original:
        return changes
    return text("seen.original", reasons=reasons, changes=changes)


def _told(match: re.Match[str], name: str) -> str:
    values = {key: value or "" for key, value in match.groupdict().items()}
    if "place" in values:
        values["place"] = text(f"place.{values['place'].replace(' ', '.')}")
    for key in _NUMBERS & values.keys():
        values[key] = marked(values[key])
    return text(name, **values)
