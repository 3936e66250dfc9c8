"""What a file's name says of where it came from: ``beach copy.jpg`` was made of ``beach.jpg``."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What programs and people put behind a name when they make something of a file.
_MADE = (
    r"(?:copy|kopie|copie|copia|web|small|medium|thumb|thumbnail|preview|resized|scaled|"
    r"cropped|crop|edit|edited|bearbeitet|export|lowres|low-res|low)"
)
_NUMBERED = rf"{_MADE}(?:[ _.-]*\d{{1,3}})?"
_BEHIND = re.compile(
    rf"(?:[ _.-]*\((?:\d{{1,3}}|{_NUMBERED})\)|[ _.-]+\d{{2,5}}x\d{{2,5}}|[ _.-]+{_NUMBERED})+",
    re.IGNORECASE,
)


def named_after(copy: str, original: str) -> bool:
    """Whether a key is another one's with a mark of a copy behind it; folders do not count.

    Args:
        copy: key of the file that may be a copy.
        original: key of the file that it may be a copy of.
    """
    one, two = _stem(original), _stem(copy)
    if not one or not two.lower().startswith(one.lower()) or len(two) == len(one):
        return False
    return _BEHIND.fullmatch(two[len(one) :]) is not None


def marked_copies(keys: Iterable[str]) -> set[str]:
    """The keys whose name is that of another of them with a mark of a copy behind it."""
    stems = {key: _stem(key).lower() for key in keys}
    known = set(stems.values()) - {""}
    return {
        key
        for key, stem in stems.items()
        if any(stem[:end] in known and _BEHIND.fullmatch(stem[end:]) for end in range(1, len(stem)))
    }


def _stem(key: str) -> str:
    name = key.rpartition("/")[2]
    return name.rpartition(".")[0] or name
