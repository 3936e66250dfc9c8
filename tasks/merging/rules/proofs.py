"""Whether the originals of a group were compared, so that it may be merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tasks.dedup.originals import DIFFERS, PERSON, READS, SAME, UNKNOWN, UNREADABLE
from tasks.merging.rules.plans import Action

#: Actions after which the keeper stands for its duplicates.
MERGING = {Action.METADATA, Action.QUARANTINE, Action.REPLACE, Action.DELETE}
#: Of two contents: what their originals said, and why where they could not be read.
Proofs = Mapping[frozenset[str], tuple[str, str]]
#: A person's word that two are duplicates counts as a comparison.
_COMPARED = (SAME, DIFFERS, READS, UNKNOWN, PERSON)


def why_unproven(members: Sequence[tuple[str, str]], proofs: Proofs) -> str:
    """Why a group may not be merged yet; empty where nothing speaks against it.

    All members have to hang together over pairs whose originals were compared, as they do over
    the group's keeper, whichever of them the policy lets stay. What the comparison said is another
    question: only a pair that is the same is ``exact``, and only exact groups are approved by rule.

    Args:
        members: content and key of each.
        proofs: of pairs of contents.
    """
    names = dict(reversed(members))
    contents = [content for content, _ in members]
    apart = _parts(dict.fromkeys(contents), proofs)
    if len(apart) <= 1:
        return ""
    one, other = (names[part[0]] for part in apart[:2])
    inside = set(contents)
    for pair, (said, why) in proofs.items():
        if said == UNREADABLE and pair <= inside:
            return f"{one!r} and {other!r} could not be compared at full size: {why}"
    return f"{one!r} and {other!r} were not compared at full size yet, scan again"


def _parts(contents: Iterable[str], proofs: Proofs) -> list[list[str]]:
    """The contents, by what hangs together over pairs that were compared."""
    left, parts = list(contents), []
    while left:
        part = [left.pop(0)]
        for content in part:  # grows while it is walked
            near = {
                other
                for other in left
                if proofs.get(frozenset((content, other)), ("", ""))[0] in _COMPARED
            }
            left = [other for other in left if other not in near]
            part += sorted(near)
        parts.append(part)
    return parts
